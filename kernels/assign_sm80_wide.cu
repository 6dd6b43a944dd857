// assign_sm80_wide: what assign_sm80.cu does, for rows that registers do not hold: any number of features.
//
// A block takes TM rows at a time. It shifts and converts them once, into memory of its own, where they are read again for
// every TN centers: from L2, where what the blocks at work have written fits. Both operands come from there through three
// stages of shared memory, CHUNK bytes of features at a time. An accumulator starts at the half norm and lives through all
// chunks; then its score becomes a key as in assign_sm80.cu.
//
//   in    x (n, d), shift (>= d) of `type` (of_type in device.cuh); packed (tiles TN, chunks CHUNK), quads (tiles TN / 2, 4) float32,
//         bound (3): from pack.cuh; halted (1): not 0 if the loop has stopped, then nothing is done
//   out   label (n) int32; list (n) and count (1): the rows that are not certified, in any order
//   work  converted (blocks, TM, chunks CHUNK)
//   launch  up to ceil(n / TM) blocks of THREADS, SHARED bytes of dynamic shared memory; d features fit in `chunks`, 3 or more
//   traffic X once, 4 n bytes of labels; n CHUNK chunks written once and read for every TN centers; the centers for every TM rows
//   flops   2 n k d in the type of the pass (CHUNK chunks in place of d, of zeros)
//   instances  assign_sm80_wide<KIND, MI, DOWN, NJ>: KIND = 0 bf16, 1 fp16, 2 TF32; DOWN x 2 warps, each with MI blocks of 16 rows
//              and NJ blocks of 8 centers: those of _tensor_config.py
#include "keys.cuh"
#include "label.cuh"

template <int MI, int DOWN, int NJ> struct WideTile {
  static constexpr int ACROSS = 2, WARPS = DOWN * ACROSS, THREADS = WARPS * 32;
  static constexpr int TM = DOWN * MI * 16, TN = ACROSS * NJ * 8;
  static constexpr int CHUNK = 128, PIECES = CHUNK / 16, STEPS = CHUNK / 32;   // pieces of 16 bytes, mma steps of 32
  static constexpr int APART = THREADS / PIECES;               // rows from one piece that a thread copies to its next
  static constexpr int STAGE = (TM + TN) * CHUNK, STAGES = 3;
  static constexpr int SHARED = STAGES * STAGE + TN * 8 + TM * 4;              // and quads, and |x'|^2 of the rows
  static constexpr int KEYS = 2 * NJ;                          // places in a tile that one lane sees
  static_assert(TM % APART == 0 && TN % APART == 0 && TN / 2 <= THREADS, "tile and block do not fit");
  static_assert(APART % 8 == 0, "the swizzle repeats from one piece to the next");
  static_assert((KEYS & (KEYS - 1)) == 0, "an index is some low bits");

  // Piece p of row r lies at this place: the 8 rows of one ldmatrix fall into 8 different groups of banks. Two pieces
  // further is an exclusive or of 32.
  static __device__ __forceinline__ int place(int r, int p) { return r * CHUNK + (p ^ (r & 7)) * 16; }
};

// The rows from `first` on in the type of the pass, chunk by chunk, and their norms. A warp takes 8 of them at a time, so that
// enough loads are on their way. Behind the last row it is taken again, for nobody.
template <int KIND, class P, class T, class C>
__device__ __forceinline__ void convert(const T* x, const C* shift, unsigned* mine, float* norms, long long first, long long n, int d, int chunks) {
  constexpr int IN_WORD = KIND == TF32 ? 1 : 2, AT_ONCE = 8;   // features; rows
  const int lane = threadIdx.x % 32;
  for (int r = threadIdx.x / 32 * AT_ONCE; r < P::TM; r += P::WARPS * AT_ONCE) {
    const T* row[AT_ONCE];
    float x2[AT_ONCE];
    UNROLL for (int q = 0; q < AT_ONCE; q++) { row[q] = x + min(first + r + q, n - 1) * d; x2[q] = 0.f; }
    UNROLL_1 for (int c = 0; c < chunks; c++) {
      const int j = (c * 32 + lane) * IN_WORD;
      const bool has = j < d, has_next = IN_WORD == 2 && j + 1 < d;
      const C s = has ? shift[j] : C(0), s_next = has_next ? shift[j + 1] : C(0);
      UNROLL for (int q = 0; q < AT_ONCE; q++) {
        const float v = has ? (float)(s - row[q][j]) : 0.f, w = has_next ? (float)(s_next - row[q][j + 1]) : 0.f;
        mine[((size_t)c * P::TM + r + q) * 32 + lane] = word_of<KIND>(v, w);
        x2[q] += v * v + w * w;
      }
    }
    UNROLL for (int q = 0; q < AT_ONCE; q++) {
      UNROLL for (int o = 1; o < 32; o *= 2) x2[q] += __shfl_xor_sync(0xffffffffu, x2[q], o);
      if (lane == 0) norms[r + q] = norm_sq<KIND>(x2[q]);
    }
  }
}

template <int KIND, int MI, int DOWN, int NJ> __global__ void __launch_bounds__(DOWN * 64, 1)
assign_sm80_wide(const void* __restrict__ x, const void* __restrict__ shift, int type, char* converted, const char* __restrict__ packed,
                 const char* __restrict__ quads, const float* __restrict__ bound, int* __restrict__ label, Uncertain* __restrict__ list,
                 u64* count, const int* __restrict__ halted, long long n, int d, int k, int chunks) {
  if (*halted) return;
  using P = WideTile<MI, DOWN, NJ>;
  DYNAMIC_SHARED(char, smem);
  constexpr int R = 2 * MI;                          // rows of this thread: g and g + 8 of each 16
  const int tid = threadIdx.x, lane = tid % 32, g = lane / 4, t = lane % 4, tiles = (k + P::TN - 1) / P::TN;
  const int down = tid / 32 / P::ACROSS, across = tid / 32 % P::ACROSS;
  const size_t row_bytes = (size_t)chunks * P::CHUNK;
  char* mine = converted + blockIdx.x * (P::TM * row_bytes);
  char* halves = smem + P::STAGES * P::STAGE;
  float* norms = reinterpret_cast<float*>(halves + P::TN * 8);
  // A thread copies the pieces tid, tid + THREADS, ... of rows and of centers.
  Shared piece_to = shared_address(smem + P::place(tid / P::PIECES, tid % P::PIECES)), half_to = shared_address(halves + tid * 16);
  // One ldmatrix: 16 rows, or 16 centers, x 2 pieces = one mma step.
  const int row_at = P::place(down * (MI * 16) + lane % 16, lane / 16);
  const int center_at = P::TM * P::CHUNK + P::place(across * (NJ * 8) + lane / 16 * 8 + lane % 8, lane / 8 % 2);
  Shared half_at = shared_address(halves + across * (NJ * 64) + t * 16);
  const unsigned keep = ~unsigned(P::KEYS - 1) | unsigned(tiles < 0);

  for (long long first = (long long)blockIdx.x * P::TM; first < n; first += (long long)gridDim.x * P::TM) {
    __syncthreads();                                 // all are done with the rows before: their norms, and what they left in a stage
    of_type(type, x, shift, [&](const auto* rows, const auto* origin) {
      convert<KIND, P>(rows, origin, (unsigned*)mine, norms, first, n, d, chunks);
    });
    __syncthreads();                                 // the rows are written before any thread copies them

    const char* row_from = mine + tid * 16;
    const char* center_from = packed + tid / P::PIECES * row_bytes + tid % P::PIECES * 16;
    int next_chunk = 0, next_tile = 0;               // to be loaded
    auto load = [&](int stage) {
      if (next_tile < tiles) {
        const Shared to = piece_to + stage * P::STAGE;
        UNROLL for (int r = 0; r < P::TM; r += P::APART) cp_async16(to + r * P::CHUNK, row_from + r * P::CHUNK);
        UNROLL for (int c = 0; c < P::TN; c += P::APART) cp_async16(to + (P::TM + c) * P::CHUNK, center_from + c * row_bytes);
        // those of the tile before are long read: it has 3 chunks, and this is at most 2 ahead
        if (next_chunk == 0 && tid < P::TN / 2) cp_async16(half_to, quads + (size_t)next_tile * (P::TN * 8) + tid * 16);
        row_from += P::TM * P::CHUNK;
        center_from += P::CHUNK;
        if (++next_chunk == chunks) {
          next_chunk = 0;
          next_tile++;
          row_from = mine + tid * 16;
          center_from += (P::TN - 1) * row_bytes;
        }
      }
      cp_async_commit();                             // also an empty group: the wait counts them
    };
    load(0);
    load(1);

    float best[R], second[R];
    int tile_of[R];
    UNROLL for (int r = 0; r < R; r++) { clear_keys(best[r], second[r]); tile_of[r] = 0; }
    int stage = 0;
    for (int tile = 0; tile < tiles; tile++) {
      float acc[MI][NJ][4];
      for (int chunk = 0; chunk < chunks; chunk++) {
        cp_async_wait<1>();
        __syncthreads();                             // the chunk is there for all; the one before it has been read by all
        load(stage == 0 ? 2 : stage - 1);
        if (chunk == 0) {
          UNROLL for (int j = 0; j < NJ; j++) {
            float half[4];
            load_x4(half, half_at + j * 64);
            UNROLL for (int i = 0; i < MI; i++) UNROLL for (int e = 0; e < 4; e++) acc[i][j][e] = half[e];
          }
        }
        const Shared at = shared_address(smem) + stage * P::STAGE;
        UNROLL for (int s = 0; s < P::STEPS; s++) {
          unsigned a[MI][4];
          UNROLL for (int i = 0; i < MI; i++) ldmatrix_x4(a[i], at + (row_at ^ s * 32) + i * 16 * P::CHUNK);
          UNROLL for (int j = 0; j < NJ; j += 2) {
            unsigned b[4];
            ldmatrix_x4(b, at + (center_at ^ s * 32) + j * 8 * P::CHUNK);
            UNROLL for (int i = 0; i < MI; i++) mma<KIND>(acc[i][j], a[i], b[0], b[1], acc[i][j]);
            UNROLL for (int i = 0; i < MI; i++) mma<KIND>(acc[i][j + 1], a[i], b[2], b[3], acc[i][j + 1]);
          }
        }
        stage = stage == 2 ? 0 : stage + 1;
      }
      // Row r = 2 i (row g of block i) or 2 i + 1 (row g + 8); columns 8 j + 2 t + (0, 1).
      UNROLL for (int r = 0; r < R; r++) {
        const float before = best[r];
        UNROLL for (int j = 0; j < NJ; j++) {
          take_key(best[r], second[r], acc[r / 2][j][r % 2 * 2], keep, 2 * j);
          take_key(best[r], second[r], acc[r / 2][j][r % 2 * 2 + 1], keep, 2 * j + 1);
        }
        tile_of[r] = if_less(best[r], before, tile, tile_of[r]);
      }
    }

    // The two warps of a row have different columns: the right one leaves what it found in the first stage.
    float* best_of = reinterpret_cast<float*>(smem);
    float* second_of = best_of + P::TM;
    int* arg_of = reinterpret_cast<int*>(second_of + P::TM);
    int arg[R];
    __syncthreads();                                 // the last chunks have been read by all before the stage is written
    UNROLL for (int r = 0; r < R; r++) {
      const int index = place_of(best[r], P::KEYS), row = down * (MI * 16) + r * 8 + g;
      arg[r] = tile_of[r] * P::TN + across * (NJ * 8) + index / 2 * 8 + 2 * t + index % 2;
      merge_quad(best[r], second[r], arg[r]);
      if (across == 1 && t == 0) { best_of[row] = best[r]; second_of[row] = second[r]; arg_of[row] = arg[r]; }
    }
    __syncthreads();                                 // it is written before the left one reads it
    UNROLL for (int r = 0; r < R; r++) {
      const int row = down * (MI * 16) + r * 8 + g;
      if (across == 0 && t == 0 && first + row < n) {
        merge_keys(best[r], second[r], arg[r], best_of[row], second_of[row], arg_of[row]);
        // min: a row that overflows may end with a padding center; it is in the list, and its label an index all the same
        finish(first + row, best[r], second[r], min(arg[r], k - 1), norms[row], bound, d, label, list, count);
      }
    }
  }
}
