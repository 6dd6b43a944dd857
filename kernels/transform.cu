// transform: the distance (not squared) of every row to every center.
//
//   in    x (n, d) T, centers (k, d) Computed<T>
//   out   distance (n, k) Computed<T>: sqrt of the canonical D, rounded once
//   launch  ceil(n / SQUARE) x ceil(k / SQUARE) blocks of SQUARE x SQUARE, as a list of blocks; no dynamic shared memory
//   traffic k / SQUARE times X (from L2 where it fits), n k distances written
//   flops   3 n k d in float64
//   instances  transform<T>, T = float, double, Float16, Bfloat16
#include "warp.cuh"

constexpr int SQUARE = 16;

template <class T> __global__ void __launch_bounds__(SQUARE * SQUARE)
transform(const T* __restrict__ x, const Computed<T>* __restrict__ centers, Computed<T>* __restrict__ distance, long long n, int d, int k) {
  __shared__ double xs[SQUARE][SQUARE + 1], cs[SQUARE][SQUARE + 1];
  const int across = (k + SQUARE - 1) / SQUARE, tx = threadIdx.x % SQUARE, ty = threadIdx.x / SQUARE;
  const long long row = blockIdx.x / across * (long long)SQUARE + ty;
  const int c0 = blockIdx.x % across * SQUARE, c = c0 + tx;
  double acc = 0.0;
  for (int j0 = 0; j0 < d; j0 += SQUARE) {
    const int j = j0 + tx;
    xs[ty][tx] = row < n && j < d ? to_f64(x[row * d + j]) : 0.0;
    cs[ty][tx] = c0 + ty < k && j < d ? to_f64(centers[(size_t)(c0 + ty) * d + j]) : 0.0;
    __syncthreads();                                // both squares are there before any thread reads them
    const int m = min(SQUARE, d - j0);
    for (int q = 0; q < m; q++) acc = add_square(acc, xs[ty][q], cs[tx][q]);
    __syncthreads();                                // they are read before they are overwritten
  }
  if (row < n && c < k) distance[(size_t)row * k + c] = round_to<Computed<T>>(__dsqrt_rn(acc));
}
