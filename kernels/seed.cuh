// What k-means++ measures and draws by: distances in the dtype of X, and the potential of a row.
#pragma once
#include "warp.cuh"

template <class T> __device__ __forceinline__ T add_square_in(T acc, T x, T c) {
  const T t = sub_rn(x, c);
  return add_rn(acc, mul_rn(t, t));
}
// Compared in float64: under -ftz=true a comparison of floats takes subnormals for zero.
template <class T> __device__ __forceinline__ T smaller(T a, T b) { return to_f64(b) < to_f64(a) ? b : a; }
template <class T> __device__ __forceinline__ long long potential(T closest, const double* weight, long long i, double scale) {
  return fixed_high(weighted(weight, i, to_f64(closest)), scale);
}
