// assign: the label of every row, and whether it is certain.
//
//   score(x, c) = |c'|^2/2 - x'.c'    x' = x - shift, c' = c - shift, both rounded to float32
//
// The chain of d fused multiply-adds starts at |c'|^2/2 and multiplies shift - x by c', so no arithmetic is left for the
// end. Each row keeps its best and second best score; a row with second - best <= 2 E goes to `list` for recheck.cu.
//
//   in    x (n, d) T; shift (ldc) Computed<T>, zero padded; cs (kp, ldc) float32: c', zero padded; half (kp) float32: |c'|^2/2, +inf for
//         padding and for duplicates; bound[3]; all prepared by recenter.cu, so that no test of k is left here;
//         halted (1): not 0 if the loop has stopped, then nothing is done
//   out   label (n) int32; list (n) and count (1): the rows that are not certified, in any order
//   launch  assign_tiled: ceil(n / ROWS) blocks of THREADS, TILED_SHARED bytes of dynamic shared memory;
//                         ldc = d rounded up to 8, kp = k rounded up to ROWS; CUT where d > 2 CHAIN; ALIGNED where d % 4 == 0
//                         and x is 16-byte aligned, as shift and cs always are
//           assign_small: ceil(n / (SMALL_THREADS R)) blocks of SMALL_THREADS, 4 (SMALL_FLOATS + SMALL_FLOATS / DP) bytes;
//                         d <= DP = ldc, kp = k rounded up to 4
//   traffic X once (twice from cache), 4 n bytes of labels; per block the centers once: n / ROWS * k d * 4 bytes from L2
//   flops   2 n k d
//   instances  assign_tiled<T, ALIGNED, CUT>, assign_small<T, DP = 4, 8, 16, R = 4>, T = float, double, Float16, Bfloat16; 16 bits are
//              not ALIGNED: loads are few beside 64 multiply-adds each
#include "label.cuh"

#ifndef ASSIGN_SIDE
#define ASSIGN_SIDE 16           // threads along a side of the tiled block
#endif
#ifndef ASSIGN_SMALL_FLOATS
#define ASSIGN_SMALL_FLOATS 4096 // floats of centers in shared memory at a time (16 KB)
#endif

// Four consecutive values of a row, zeros from `left` on. ALIGNED: d % 4 == 0, loads of 16 bytes.
template <class T> struct Four { T x, y, z, w; };
__device__ __forceinline__ Four<float> load_aligned(const float* p) {
  const float4 v = *reinterpret_cast<const float4*>(p);
  return {v.x, v.y, v.z, v.w};
}
__device__ __forceinline__ Four<double> load_aligned(const double* p) {
  const double2 a = reinterpret_cast<const double2*>(p)[0], b = reinterpret_cast<const double2*>(p)[1];
  return {a.x, a.y, b.x, b.y};
}
template <bool ALIGNED, class T> __device__ __forceinline__ Four<T> load4(const T* p, int left) {
  Four<T> v = {T{}, T{}, T{}, T{}};
  if constexpr (ALIGNED) { if (left > 0) v = load_aligned(p); }
  else { if (left > 0) v.x = p[0]; if (left > 1) v.y = p[1]; if (left > 2) v.z = p[2]; if (left > 3) v.w = p[3]; }
  return v;
}
// shift - x, rounded to float32 (float64 data: subtracted in float64). shift: 16-byte aligned
template <class C, class T> __device__ __forceinline__ float4 shifted(const C* shift, const Four<T>& x) {
  const Four<C> s = load_aligned(shift);
  return make_float4((float)(s.x - x.x), (float)(s.y - x.y), (float)(s.z - x.z), (float)(s.w - x.w));
}

// ---- tiled: any d. ROWS rows x ROWS centers x DEPTH features at a time, 8 x 8 scores a thread, two stages in shared memory.
constexpr int SIDE = ASSIGN_SIDE, THREADS = SIDE * SIDE, ROWS = 8 * SIDE, DEPTH = 8, LD = ROWS + 4;
constexpr int LOADS = 2 * ROWS / THREADS;           // groups of four values that a thread copies for each stage
constexpr int STAGE = DEPTH * LD;
constexpr int TILED_SHARED = 4 * (4 * STAGE + 24 * THREADS + ROWS);

// Two blocks on a multiprocessor hide each other's barriers. Cut chains and float64 rows need the registers of one, and the
// 64 KB of shared memory of compute capability 7.5 hold one.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define TILED_BLOCKS(T, CUT) 1
#else
#define TILED_BLOCKS(T, CUT) (CUT || sizeof(T) == 8 ? 1 : 2)
#endif

template <class T, bool ALIGNED, bool CUT> __global__ void __launch_bounds__(THREADS, TILED_BLOCKS(T, CUT))
assign_tiled(const T* __restrict__ x, const Computed<T>* __restrict__ shift, const float* __restrict__ cs, const float* __restrict__ half,
             const float* __restrict__ bound, int* __restrict__ label, Uncertain* __restrict__ list, u64* count,
             const int* __restrict__ halted, long long n, int d, int ldc, int kp) {
  if (*halted) return;
  DYNAMIC_SHARED(float, smem);                      // two stages of shift - x, two of c', 24 words a thread, |x'|^2 of ROWS rows
  float* xs = smem;
  float* bs = smem + 2 * STAGE;
  float* norms = smem + 4 * STAGE + 24 * THREADS;
  const int tid = threadIdx.x, tx = tid % SIDE, ty = tid / SIDE;
  const int lr = tid / 2, lc = tid % 2 * 4;         // row and column of the first four values that this thread copies
  const long long block_row = (long long)blockIdx.x * ROWS;

  // Best, second and arg rest in shared memory while a tile is multiplied: 12 accesses of 16 bytes for 64 scores, and no
  // spills (the accumulators and the loads in flight need the registers). Each thread has its own words: no barrier.
  float best[8], second[8];
  int arg[8];
  float4* kept = reinterpret_cast<float4*>(smem + 4 * STAGE) + tid;
  auto keep = [&]() {
    UNROLL for (int h = 0; h < 2; h++) {
      kept[h * THREADS] = make_float4(best[4 * h], best[4 * h + 1], best[4 * h + 2], best[4 * h + 3]);
      kept[(2 + h) * THREADS] = make_float4(second[4 * h], second[4 * h + 1], second[4 * h + 2], second[4 * h + 3]);
      kept[(4 + h) * THREADS] = make_float4(__int_as_float(arg[4 * h]), __int_as_float(arg[4 * h + 1]), __int_as_float(arg[4 * h + 2]), __int_as_float(arg[4 * h + 3]));
    }
  };
  auto recall = [&]() {
    UNROLL for (int h = 0; h < 2; h++) {
      const float4 b = kept[h * THREADS], s = kept[(2 + h) * THREADS], a = kept[(4 + h) * THREADS];
      best[4 * h] = b.x; best[4 * h + 1] = b.y; best[4 * h + 2] = b.z; best[4 * h + 3] = b.w;
      second[4 * h] = s.x; second[4 * h + 1] = s.y; second[4 * h + 2] = s.z; second[4 * h + 3] = s.w;
      arg[4 * h] = __float_as_int(a.x); arg[4 * h + 1] = __float_as_int(a.y); arg[4 * h + 2] = __float_as_int(a.z); arg[4 * h + 3] = __float_as_int(a.w);
    }
  };
  UNROLL for (int i = 0; i < 8; i++) { best[i] = second[i] = INFINITY_F; arg[i] = 0; }
  keep();

  // |x'|^2 in a pass of its own: these reads come from memory, the first tile then finds them in a cache. Inside the loop
  // it would cost registers that are not to be had.
  auto row_of = [&](int l) { return x + min(block_row + lr + l * (THREADS / 2), n - 1) * d; };
  UNROLL for (int l = 0; l < LOADS; l++) {
    float x2 = 0.f;
    const T* row = row_of(l);
    UNROLL_4 for (int col = lc; col < d; col += DEPTH) {
      const float4 v = shifted(shift + col, load4<ALIGNED>(row + col, d - col));
      x2 += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    x2 += __shfl_xor_sync(THREADS < 32 ? (1u << THREADS % 32) - 1 : 0xffffffffu, x2, 1);   // the other half of the columns
    if (lc == 0) norms[lr + l * (THREADS / 2)] = x2;
  }

  // The stage to load next: its column and the rows of its tile in cs. No other loop state: registers are short.
  int col = 0;
  const float* rows = cs + (size_t)lr * ldc + lc;
  Four<T> xr[LOADS];
  float4 cr[LOADS];
  auto load = [&]() {
    UNROLL for (int l = 0; l < LOADS; l++) {
      xr[l] = load4<ALIGNED>(row_of(l) + lc + col, d - lc - col);
      cr[l] = *reinterpret_cast<const float4*>(rows + (size_t)l * (THREADS / 2) * ldc + col);
    }
  };
  auto store = [&](int to) {
    UNROLL for (int l = 0; l < LOADS; l++) {
      const float4 v = shifted(shift + lc + col, xr[l]);
      float* xo = xs + (to + lc * LD + lr) + l * (THREADS / 2);
      float* co = bs + (to + lc * LD + lr) + l * (THREADS / 2);
      xo[0] = v.x; xo[LD] = v.y; xo[2 * LD] = v.z; xo[3 * LD] = v.w;
      co[0] = cr[l].x; co[LD] = cr[l].y; co[2 * LD] = cr[l].z; co[3 * LD] = cr[l].w;
    }
    col += DEPTH;
    if (col >= ldc) col = 0;
  };
  load();
  store(0);
  __syncthreads();                                  // the stage is written by all threads before any reads it
  int at = 0;                                       // where the stage is that is read: 0 or STAGE
  for (int k0 = 0; k0 < kp; k0 += ROWS) {
    float acc[8][8], total[8][8];
    {
      const float4 a = *reinterpret_cast<const float4*>(half + k0 + tx * 4), b = *reinterpret_cast<const float4*>(half + k0 + ROWS / 2 + tx * 4);
      const float h[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
      UNROLL for (int i = 0; i < 8; i++) UNROLL for (int j = 0; j < 8; j++) { if (CUT) total[i][j] = h[j]; acc[i][j] = CUT ? 0.f : h[j]; }
    }
    bool last;
    do {
      last = col == 0;                              // the next stage belongs to the next tile
      const bool end_of_part = last || col % CHAIN == 0;
      if (last && k0 + ROWS < kp) rows += (long long)ldc * ROWS;      // behind the last tile its first stage again, for nobody:
      load();                                       // cheaper than a branch
      const float* xb = xs + (at + ty * 4);
      const float* cb = bs + (at + tx * 4);
      UNROLL for (int p = 0; p < DEPTH; p++) {
        const float4 a0 = *reinterpret_cast<const float4*>(xb + p * LD), a1 = *reinterpret_cast<const float4*>(xb + p * LD + ROWS / 2);
        const float4 b0 = *reinterpret_cast<const float4*>(cb + p * LD), b1 = *reinterpret_cast<const float4*>(cb + p * LD + ROWS / 2);
        const float a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w}, b[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
        UNROLL for (int i = 0; i < 8; i++) UNROLL for (int j = 0; j < 8; j++) acc[i][j] = __fmaf_rn(a[i], b[j], acc[i][j]);
      }
      if (CUT && end_of_part)
        UNROLL for (int i = 0; i < 8; i++) UNROLL for (int j = 0; j < 8; j++) { total[i][j] += acc[i][j]; acc[i][j] = 0.f; }
      at ^= STAGE;
      store(at);
      __syncthreads();                              // the other stage is full before it is read; this one is read before it is overwritten
    } while (!last);
    recall();
    UNROLL for (int j = 0; j < 8; j++)
      UNROLL for (int i = 0; i < 8; i++) take(best[i], second[i], arg[i], CUT ? total[i][j] : acc[i][j], k0 + (j < 4 ? j : ROWS / 2 - 4 + j));   // + 4 tx below
    if (k0 + ROWS < kp) keep();
  }
  UNROLL for (int i = 0; i < 8; i++) {
    arg[i] += 4 * tx;
    const unsigned lanes = THREADS < 32 ? (1u << THREADS % 32) - 1 : 0xffffffffu;
    UNROLL for (int o = SIDE / 2; o; o >>= 1) {     // the SIDE threads of a row are neighbours in a warp
      const float b = __shfl_xor_sync(lanes, best[i], o, SIDE), s = __shfl_xor_sync(lanes, second[i], o, SIDE);
      const int a = __shfl_xor_sync(lanes, arg[i], o, SIDE);
      merge(best[i], second[i], arg[i], b, s, a);
    }
    const int r = (i < 4 ? i : ROWS / 2 - 4 + i) + ty * 4;
    if (tx == i % SIDE && block_row + r < n)
      finish(block_row + r, best[i], second[i], arg[i], norms[r], bound, d, label, list, count);
  }
}

// ---- small d: a thread keeps R whole rows in registers, centers are broadcast from shared memory.
constexpr int SMALL_THREADS = 128, SMALL_FLOATS = ASSIGN_SMALL_FLOATS;

template <class T, int DP, int R> __global__ void __launch_bounds__(SMALL_THREADS)
assign_small(const T* __restrict__ x, const Computed<T>* __restrict__ shift, const float* __restrict__ cs, const float* __restrict__ half,
             const float* __restrict__ bound, int* __restrict__ label, Uncertain* __restrict__ list, u64* count,
             const int* __restrict__ halted, long long n, int d, int ldc, int kp) {
  if (*halted) return;
  DYNAMIC_SHARED(float, smem);                      // CHUNK centers of DP features, then their half norms
  constexpr int CHUNK = SMALL_FLOATS / DP;
  float* hs = smem + SMALL_FLOATS;
  const int tid = threadIdx.x;
  const long long r0 = (long long)blockIdx.x * (SMALL_THREADS * R) + tid;
  float v[R][DP], best[R], second[R];
  int arg[R];
  UNROLL for (int i = 0; i < R; i++) {
    const T* p = x + min(r0 + i * SMALL_THREADS, n - 1) * d;
    best[i] = second[i] = INFINITY_F;
    arg[i] = 0;
    UNROLL for (int q = 0; q < DP; q++) {
      v[i][q] = q < d ? (float)(shift[q] - p[q]) : 0.f;
    }
  }
  for (int k0 = 0; k0 < kp; k0 += CHUNK) {
    const int m = min(CHUNK, kp - k0);
    __syncthreads();                                // all threads are done with the chunk before it is overwritten
    for (int q = tid * 4; q < m * DP; q += SMALL_THREADS * 4)
      *reinterpret_cast<float4*>(smem + q) = *reinterpret_cast<const float4*>(cs + (size_t)k0 * DP + q);
    for (int q = tid; q < m; q += SMALL_THREADS) hs[q] = half[k0 + q];
    __syncthreads();                                // the chunk is whole before any thread reads it
    for (int c0 = 0; c0 < m; c0 += 4) {             // kp and CHUNK are multiples of 4
      const float4 h4 = *reinterpret_cast<const float4*>(hs + c0);
      const float h[4] = {h4.x, h4.y, h4.z, h4.w};
      UNROLL for (int e = 0; e < 4; e++) {
        float b[DP];
        UNROLL for (int q = 0; q < DP; q += 4) {
          const float4 b4 = *reinterpret_cast<const float4*>(smem + (c0 + e) * DP + q);
          b[q] = b4.x; b[q + 1] = b4.y; b[q + 2] = b4.z; b[q + 3] = b4.w;
        }
        UNROLL for (int i = 0; i < R; i++) {
          float s = h[e];
          UNROLL for (int q = 0; q < DP; q++) s = __fmaf_rn(v[i][q], b[q], s);
          take(best[i], second[i], arg[i], s, k0 + c0 + e);
        }
      }
    }
  }
  UNROLL for (int i = 0; i < R; i++) {
    const long long row = r0 + i * SMALL_THREADS;
    float x2 = 0.f;                                 // here, not above: the loop has no register for it
    UNROLL for (int q = 0; q < DP; q++) x2 += v[i][q] * v[i][q];
    if (row < n) finish(row, best[i], second[i], arg[i], x2, bound, d, label, list, count);
  }
}
