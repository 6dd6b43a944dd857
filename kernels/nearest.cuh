// The label of a row that float32 scores leave open: a warp takes it, and canonical distances decide.
#pragma once
#include "warp.cuh"

// The score as in assign.cu: any order of adding is covered by the same bound, as long as the chains are no longer.
template <class T, class C> __device__ __forceinline__ float score(const T* x, const C* shift, const float* c, float half, int d) {
  const int part = d > 2 * CHAIN ? CHAIN : d;
  float total = half;
  for (int j0 = 0; j0 < d; j0 += part) {
    float s = part < d ? 0.f : total;
    const int end = min(d, j0 + part);
    UNROLL_4 for (int j = j0; j < end; j++) s = __fmaf_rn((float)(shift[j] - x[j]), c[j], s);
    total = part < d ? total + s : s;
  }
  return total;
}
__device__ __forceinline__ void nearer(double& best, int& arg, double D, int c) {
  if (D < best || (D == best && c < arg)) { best = D; arg = c; }
}
// Candidates are the centers whose score is within 2 E of the best one; among them the lowest index of the smallest D. x: all rows.
template <class T, class C>
__device__ __forceinline__ int nearest(const T* x, const C* centers, const C* shift, const float* cs, const float* half,
                                       const Uncertain& u, int d, int ldc, int k) {
  const T* row = x + u.row * d;
  double best = __longlong_as_double(0x7ff0000000000000ll);
  int arg = 0x7fffffff;
  for (int c = threadIdx.x % 32; c < k; c += 32)
    if (!above(score(row, shift, cs + (size_t)c * ldc, half[c], d), u.best, u.gap))
      nearer(best, arg, canonical(row, centers + (size_t)c * d, d), c);
  UNROLL for (int o = 16; o; o >>= 1) {
    const double D = __shfl_xor_sync(ALL_LANES, best, o);
    const int c = __shfl_xor_sync(ALL_LANES, arg, o);
    nearer(best, arg, D, c);
  }
  return arg;
}
