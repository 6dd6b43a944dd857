// assign_sm80: the label of every row, and whether it is certain, by tensor cores (compute capability 8.0 and later).
//
//   score(x, c) = |c'|^2/2 - x'.c'    x' = x - shift, c' = c - shift, both rounded to the type of the pass
//
// Rows (shift - x) stay in registers for the whole kernel, the A operand; centers stream through shared memory, the B operand.
// The half norm is the C operand, so an accumulator IS a score. A warp owns 16 MI rows and walks the centers 8 at a time: besides
// the rows only 4 MI scores are live, whatever the tile. A score and the center's place in the tile make one key (keys.cuh), so
// best and second best need no index beside them; what that costs is in the bound (exact.tensor_bound). In FORM 1 a block has a B
// of its own, that of the largest of its rows: so a row far away makes no scores coarse but those of its block.
//
// With GROUP = 4 a key is that of four centers, and those of the best one are scored again in float32 (rescore.cuh).
//
//   in    x (n, d), shift (>= d) of `type` (of_type in device.cuh); packed (tiles TN, BYTES), quads (tiles TN / 2, 4) float32,
//         bound (6): from pack.cuh; halted (1): not 0 if the loop has stopped, then nothing is done;
//         for groups cs (>= k, ldc), half (>= k) float32, fine (3), the bound in float32: from recenter.cu
//   out   label (n) int32; list (n) and count (1): the rows that are not certified, in any order, for resolve.cu
//   launch  ceil(n / ROWS) blocks of THREADS, SHARED bytes of dynamic shared memory; d features fit in BYTES; tiles = ceil(k / TN)
//   traffic X once, 4 n bytes of labels; per block the centers once: n / ROWS * k BYTES from L2; with groups X again, 16 n d from L2
//   flops   2 n k d in the type of the pass (BYTES in place of d, of zeros)
//   instances  assign_sm80<KIND, BYTES, MI, WARPS, NJ, FORM, GROUP>: KIND = 0 bf16, 1 fp16, 2 TF32; BYTES = 64, 128, 256, 512 of a row; MI
//              blocks of 16 rows a warp; NJ blocks of 8 centers a tile; FORM of a key: those of _tensor_config.py
#include "rescore.cuh"
#ifndef SIMT_HOST        // as in device.cuh
#define UNROLL_FILLS _Pragma("unroll P::FILLS")
#else
#define UNROLL_FILLS
#endif

template <int BYTES, int MI, int WARPS, int NJ, int GROUP> struct Tile {
  static constexpr int STEPS = BYTES / 32;                     // mma steps of 16 features, TF32: of 8
  static constexpr int PIECES = BYTES / 16;                    // of 16 bytes: the unit of cp.async and ldmatrix
  static constexpr int TN = NJ * 8, THREADS = WARPS * 32, ROWS = WARPS * MI * 16;
  static constexpr int LOADS = TN * PIECES / THREADS;          // pieces that a thread copies for each tile
  static constexpr int FILLS = BYTES * MI > 768 ? 2 * MI : 1;  // of the loop that fills registers, in the code: one would spill there
  static constexpr int KEYS = 2 * NJ / GROUP;                  // places in a tile that one lane sees
  static constexpr int HALVES = 2 * TN;                        // half norms of a tile, each of them twice: its quads
  static constexpr int STAGE = TN * BYTES + HALVES * 4, STAGES = 3;            // bytes: the centers, then their quads
  static constexpr int SHARED = STAGES * STAGE + ROWS * 4;     // and |x'|^2 of the rows
  static_assert(TN * PIECES % THREADS == 0 && HALVES <= THREADS, "tile and block do not fit");
  static_assert(PIECES >= 4, "ldmatrix takes 4 pieces of a row");
  static_assert(THREADS / PIECES % 8 == 0, "the swizzle repeats from one load to the next");
  static_assert(WARPS <= NJ, "8 rows a warp fit in a stage");
  static_assert((KEYS & (KEYS - 1)) == 0, "an index is some low bits");

  // Piece p of row r lies at this place: the 8 rows of one ldmatrix fall into 8 different groups of banks.
  static __device__ __forceinline__ int place(int r, int p) {
    return r * BYTES + (p ^ (PIECES >= 8 ? r & 7 : r / 2 & 3)) * 16;
  }
};

// FORM 1 with few bytes of rows: two blocks, as FORM 0 mostly has of itself. There minimum and maximum bind, and one block waits for its barriers.
template <int KIND, int BYTES, int MI, int WARPS, int NJ, int FORM, int GROUP = 1>
__global__ void __launch_bounds__(WARPS * 32, FORM == 1 && BYTES * MI <= 256 && GROUP == 1 ? 2 : 1)
assign_sm80(const void* __restrict__ x, const void* __restrict__ shift, int type, const char* __restrict__ packed,
            const char* __restrict__ quads, const float* __restrict__ bound, int* __restrict__ label, Uncertain* __restrict__ list,
            u64* count, const int* __restrict__ halted, const float* __restrict__ cs, const float* __restrict__ half_norms,
            const float* __restrict__ fine, long long n, int d, int k, int ldc) {
  if (*halted) return;
  static_assert(GROUP == 1 || (GROUP == 4 && FORM == 1), "of offset scores the least has the least bits");
  using P = Tile<BYTES, MI, WARPS, NJ, GROUP>;
  DYNAMIC_SHARED(char, smem);
  constexpr int R = 2 * MI;                          // rows of this thread: g and g + 8 of each 16
  const int tid = threadIdx.x, lane = tid % 32, g = lane / 4, t = lane % 4, tiles = (k + P::TN - 1) / P::TN;
  const long long warp_row = (long long)blockIdx.x * P::ROWS + tid / 32 * (MI * 16);

  // A thread copies the pieces tid, tid + THREADS, ...: source and destination advance by constants.
  // A half norm comes through a register, a tile ahead: the thread adds 1.5 B to it before it shows it to the others.
  Shared piece_to = shared_address(smem + P::place(tid / P::PIECES, tid % P::PIECES));
  pin(piece_to);
  const float* half_from = reinterpret_cast<const float*>(quads) + tid;
  char* half_to = smem + P::TN * BYTES + tid * 4;
  const bool has_half = P::HALVES == P::THREADS || tid < P::HALVES;
  float next_half = 0.f;
  auto load = [&](int stage, int tile) {
    if (tile < tiles) {
      Shared to = piece_to + stage;
      const char* from = packed + (size_t)tile * (P::TN * BYTES) + tid * 16;
      pin(to); pin(from);
      UNROLL for (int i = 0; i < P::LOADS; i++) cp_async16(to + i * P::THREADS * 16, from + i * P::THREADS * 16);
      if (has_half) next_half = half_from[(size_t)tile * P::HALVES];
    }
    cp_async_commit();                               // also an empty group: the wait counts them
  };
  load(0, 0);
  load(P::STAGE, 1);

  // Rows -> registers, a warp 8 at a time through the stage that is not yet in use: so they are read in order, and few registers
  // are taken on the way. Behind the last row it is taken again, for nobody. |x'|^2 of each row -> shared memory.
  constexpr int IN_WORD = KIND == TF32 ? 1 : 2;                // features
  constexpr int WORDS = BYTES / 4, ACROSS = WORDS < 32 ? WORDS : 32;   // of a row; lanes along it
  float* of_block = reinterpret_cast<float*>(smem + P::STAGES * P::STAGE);
  float* norms = of_block + tid / 32 * (MI * 16);
  char* slab = smem + 2 * P::STAGE + tid / 32 * (8 * BYTES);
  unsigned a[P::STEPS][MI][4] = {};
  UNROLL_FILLS for (int h = 0; h < R; h++) {
    of_type(type, x, shift, [&](const auto* rows, const auto* origin) {
      UNROLL_4 for (int r = lane / ACROSS; r < 8; r += 32 / ACROSS) {
        const auto* row = rows + min(warp_row + h * 8 + r, n - 1) * d;
        float x2 = 0.f;
        UNROLL for (int word = lane % ACROSS; word < WORDS; word += ACROSS) {
          const int j = word * IN_WORD;
          const float v = j < d ? (float)(origin[j] - row[j]) : 0.f;
          const float w = IN_WORD == 2 && j + 1 < d ? (float)(origin[j + 1] - row[j + 1]) : 0.f;
          *reinterpret_cast<unsigned*>(slab + P::place(r, word / 4) + word % 4 * 4) = word_of<KIND>(v, w);
          x2 += v * v + w * w;
        }
        UNROLL for (int o = 1; o < ACROSS; o *= 2) x2 += __shfl_xor_sync(0xffffffffu, x2, o);
        if (lane % ACROSS == 0) norms[h * 8 + r] = norm_sq<KIND>(x2);
      }
    });
    __syncwarp();                                    // the 8 rows are written before they are read
    UNROLL for (int s = 0; s < P::STEPS; s += 2) {
      UNROLL for (int r = 0; r < R - 1; r++) {       // those before move on by a place: registers are known, and this is a loop
        UNROLL for (int e = 0; e < 4; e++) a[s + e / 2][r / 2][r % 2 + e % 2 * 2] = a[s + e / 2][(r + 1) / 2][(r + 1) % 2 + e % 2 * 2];
      }
      unsigned q[4];
      ldmatrix_x4(q, shared_address(slab + P::place(lane % 8, s * 2 + lane / 8)));
      UNROLL for (int e = 0; e < 4; e++) a[s + e / 2][MI - 1][1 + e % 2 * 2] = q[e];
    }
    __syncwarp();                                    // they are read before the next 8 are written
  }
  // Into registers for good, by an operation that changes nothing: what was moved would be moved again for every tile.
  UNROLL for (int s = 0; s < P::STEPS; s++) UNROLL for (int i = 0; i < MI; i++) UNROLL for (int e = 0; e < 4; e++) a[s][i][e] ^= unsigned(tiles < 0);

  float offset = 0.f;                                // 1.5 B
  if (FORM == 1) {
    __syncthreads();                                 // the norms of all rows are written before any thread reads them
    float most = 0.f;
    UNROLL_4 for (int r = lane; r < P::ROWS; r += 32) {    // a row that overflows is left open in any case
      const float x2 = of_block[r];
      most = x2 < INFINITY_F ? higher(most, x2) : most;
    }
    UNROLL for (int o = 1; o < 32; o *= 2) most = higher(most, __shfl_xor_sync(0xffffffffu, most, o));
    const float size[3] = {bound[4], bound[5], 0.f};           // of |x'|, as a bound is
    offset = 1.5f * binade<P::KEYS>(two_errors(size, most, d));
  }
  auto show_half = [&](int stage, float half) {
    if (has_half) *reinterpret_cast<float*>(half_to + stage) = FORM == 1 ? half + offset : half;
  };
  show_half(0, has_half ? *half_from : 0.f);

  typedef typename KeyOf<FORM>::Key Key;
  Key best[R], second[R];
  int tile_of[R];
  UNROLL for (int r = 0; r < R; r++) { clear_keys(best[r], second[r]); tile_of[r] = 0; }
  const unsigned with = FORM == 1 ? P::KEYS + unsigned(tiles < 0) : ~unsigned(P::KEYS - 1) | unsigned(tiles < 0);

  // One ldmatrix: 8 centers x 4 pieces = 2 mma steps. The swizzle differs between even and odd pairs of steps only.
  Shared even = shared_address(smem + P::place(lane % 8, lane / 8));
  Shared odd = shared_address(smem + P::place(lane % 8, lane / 8 + (P::PIECES >= 8 ? 4 : 0)));
  Shared quad = shared_address(smem + P::TN * BYTES + t * 16);
  int stage = 0, next = P::STAGE, spare = 2 * P::STAGE;        // of the tile at work; of the one behind it; has been read
  for (int tile = 0; tile < tiles; tile++) {
    cp_async_wait<1>();
    __syncthreads();                                 // the tile is there for all; what the one before it took has been read by all
    show_half(next, next_half);
    load(spare, tile + 2);
    Shared e0 = even + stage, o0 = odd + stage, q0 = quad + stage;
    pin(e0); pin(o0); pin(q0);
    Key before[R], least[R];                         // of a group, as far as it is seen
    UNROLL for (int r = 0; r < R; r++) before[r] = best[r];
    UNROLL for (int j = 0; j < NJ; j++) {
      float acc[MI][4], half[4];
      load_x4(half, q0 + j * 64);
      UNROLL for (int q = 0; q < P::STEPS / 2; q++) {
        unsigned b[4];
        ldmatrix_x4(b, (q % 2 ? o0 : e0) + j * 8 * BYTES + q / 2 * 128);
        UNROLL for (int i = 0; i < MI; i++) {
          if (q == 0) mma<KIND>(acc[i], a[0][i], b[0], b[1], half);
          else mma<KIND>(acc[i], a[2 * q][i], b[0], b[1], acc[i]);
        }
        UNROLL for (int i = 0; i < MI; i++) mma<KIND>(acc[i], a[2 * q + 1][i], b[2], b[3], acc[i]);
      }
      // Row r = 2 i (row g of block i) or 2 i + 1 (row g + 8); columns 8 j + 2 t + (0, 1).
      UNROLL for (int r = 0; r < R; r++) {
        if constexpr (GROUP == 4) {
          take_group(best[r], second[r], least[r], acc[r / 2][r % 2 * 2], acc[r / 2][r % 2 * 2 + 1], with, j);
          continue;
        }
        take_key(best[r], second[r], acc[r / 2][r % 2 * 2], with, 2 * j);
        take_key(best[r], second[r], acc[r / 2][r % 2 * 2 + 1], with, 2 * j + 1);
      }
    }
    UNROLL for (int r = 0; r < R; r++) tile_of[r] = if_less(best[r], before[r], tile, tile_of[r]);
    const int read = stage;
    stage = next; next = spare; spare = read;
  }

  // Which rows and columns these are is made of the thread's number again: so no register holds it through the loop.
  const int thread = thread_again(), column = 2 * (thread % 4), first = thread / 32 * (MI * 16) + thread % 32 / 4;
  const long long block_row = (long long)blockIdx.x * P::ROWS;
  const float b = __uint_as_float(__float_as_uint(offset) & 0x7f800000u);
  const float with_b[3] = {FORM == 1 ? bound[0] + bound[3] * b : bound[0], bound[1], bound[2]};
  Group* groups = reinterpret_cast<Group*>(smem);
  if (GROUP == 4) __syncthreads();                   // the last tile has been read by all: groups take its place
  UNROLL for (int r = 0; r < R; r++) {
    const int index = place_of(best[r], P::KEYS), in_block = first + r * 8;
    int arg = tile_of[r] * P::TN + (GROUP == 4 ? index * 16 : index / 2 * 8 + index % 2) + column;
    merge_quad(best[r], second[r], arg);
    if (GROUP == 4) {
      if (column == 0) groups[in_block] = {arg, score_of(second[r], P::KEYS, b)};
      continue;
    }
    // min: a row that overflows may end with a padding center; it is in the list, and its label an index all the same
    if (column == 0 && block_row + in_block < n)
      finish(block_row + in_block, score_of(best[r], P::KEYS, b), score_of(second[r], P::KEYS, b), min(arg, k - 1), of_block[in_block],
             with_b, d, label, list, count);
  }
  if constexpr (GROUP == 4) {
    __syncwarp();                                    // they are there for the lanes that have the same rows
    float mixed[3];                                  // what a score of either pass may be off by, together
    UNROLL for (int i = 0; i < 3; i++) mixed[i] = 0.5f * (with_b[i] + fine[i]);
    of_type(type, x, shift, [&](const auto* rows, const auto* origin) {
      finish_groups<BYTES / 4 * IN_WORD, R>(rows, origin, cs, half_norms, groups, of_block, mixed, first, block_row, label, list, count, n,
                                            d, k, ldc);
    });
  }
}
