// rescore: the rows that the pass on tensor cores could not certify, once more in float32.
//
// Scores and certificate are those of assign.cu, for the rows of a list; most of them are certified now. A block takes 64 rows at a
// time, so a center is read once for 64 rows: recheck.cu, which takes them one by one, is for the few that are still open.
//
//   in    x (n, d), shift (>= d) T; cs (>= k, ldc), half (>= k) float32, bound (3): from recenter.cu; open (n_open): the rows;
//         halted (1): not 0 if the loop has stopped, then nothing is done
//   out   label (n) int32, of the rows in `open`; list (n_open at most) and count (1): those that are not certified, in any order
//   launch  any number of blocks of RESCORE_THREADS; d <= 2 CHAIN, as the rows of that pass have, so a score is one chain
//   traffic per row in `open`: d T (from cache again for every 64 centers); per 64 of them the centers from L2
//   flops   2 k d, per row in `open`
//   instances  rescore<T>, T = float, double
#include "label.cuh"

constexpr int RESCORE_SIDE = 16, RESCORE_THREADS = RESCORE_SIDE * RESCORE_SIDE, TILE = 4 * RESCORE_SIDE, STAGE_DEPTH = 16;

template <class T> __global__ void __launch_bounds__(RESCORE_THREADS, 2)
rescore(const T* __restrict__ x, const T* __restrict__ shift, const float* __restrict__ cs, const float* __restrict__ half,
        const float* __restrict__ bound, const Uncertain* __restrict__ open, const u64* __restrict__ n_open, int* __restrict__ label,
        Uncertain* __restrict__ list, u64* count, const int* __restrict__ halted, int d, int ldc, int k) {
  if (*halted) return;
  __shared__ float4 xs[STAGE_DEPTH][TILE / 4 + 1], bs[STAGE_DEPTH][TILE / 4 + 1];      // by feature: four rows, four centers
  __shared__ float norms[TILE];
  const int tid = threadIdx.x, tx = tid % RESCORE_SIDE, ty = tid / RESCORE_SIDE;
  const int lr = tid / 4, lc = tid % 4 * 4;         // row (or center) and first of the four features that this thread copies
  const long long total = (long long)*n_open;
  for (long long first = (long long)blockIdx.x * TILE; first < total; first += (long long)gridDim.x * TILE) {
    const T* row = x + open[min(first + lr, total - 1)].row * d;
    float best[4], second[4], x2 = 0.f;
    int arg[4];
    UNROLL for (int i = 0; i < 4; i++) { best[i] = second[i] = INFINITY_F; arg[i] = 0; }
    for (int k0 = 0; k0 < k; k0 += TILE) {
      const bool is_center = k0 + lr < k;
      const float* center = cs + (size_t)(is_center ? k0 + lr : 0) * ldc;
      float acc[4][4];
      UNROLL for (int j = 0; j < 4; j++) {
        const int c = k0 + 4 * tx + j;
        const float h = c < k ? half[c] : INFINITY_F;
        UNROLL for (int i = 0; i < 4; i++) acc[i][j] = h;
      }
      for (int j0 = 0; j0 < d; j0 += STAGE_DEPTH) {
        __syncthreads();                            // the stage has been read by all before it is overwritten
        UNROLL for (int q = 0; q < 4; q++) {
          const int j = j0 + lc + q;
          const float v = j < d ? (float)(shift[j] - row[j]) : 0.f;
          if (k0 == 0) x2 += v * v;
          reinterpret_cast<float*>(xs[lc + q])[lr] = v;
          reinterpret_cast<float*>(bs[lc + q])[lr] = is_center && j < d ? center[j] : 0.f;
        }
        __syncthreads();                            // it is written by all before any reads it
        UNROLL for (int p = 0; p < STAGE_DEPTH; p++) {
          const float4 a4 = xs[p][ty], b4 = bs[p][tx];
          const float a[4] = {a4.x, a4.y, a4.z, a4.w}, b[4] = {b4.x, b4.y, b4.z, b4.w};
          UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) acc[i][j] = __fmaf_rn(a[i], b[j], acc[i][j]);
        }
      }
      UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) take(best[i], second[i], arg[i], acc[i][j], k0 + 4 * tx + j);
    }
    x2 += __shfl_xor_sync(0xffffffffu, x2, 1);      // the other features of the row
    x2 += __shfl_xor_sync(0xffffffffu, x2, 2);
    if (lc == 0) norms[lr] = x2;
    __syncwarp();                                   // a warp reads the norms that it wrote
    UNROLL for (int i = 0; i < 4; i++) {
      UNROLL for (int o = RESCORE_SIDE / 2; o; o >>= 1) {      // the threads of a row are neighbours in a warp
        const float b = __shfl_xor_sync(0xffffffffu, best[i], o), s = __shfl_xor_sync(0xffffffffu, second[i], o);
        const int a = __shfl_xor_sync(0xffffffffu, arg[i], o);
        merge(best[i], second[i], arg[i], b, s, a);
      }
      const int r = 4 * ty + i;
      if (tx == 0 && first + r < total) finish(open[first + r].row, best[i], second[i], arg[i], norms[r], bound, d, label, list, count);
    }
  }
}
