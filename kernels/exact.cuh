// The definitions that every backend shares, as device functions: canonical distance, fixed point, the certificate.
//
// gpukmeans/exact.py says the same in Python, and why. Whatever decides a bit of the result goes through these functions,
// never through a plain expression: the compiler contracts a*b + c to one fused operation (-fmad=true is its default).
#pragma once
#include "device.cuh"

typedef unsigned long long u64;

constexpr int CHAIN = 128;        // exact.CHAIN: features in one chain of multiply-adds once d passes 2 * CHAIN

// ---- distance. One feature of D: acc + (x - c)^2, three separate roundings.
template <class T, class C> __device__ __forceinline__ double add_square(double acc, T x, C c) {
  const double t = __dsub_rn(to_f64(x), to_f64(c));
  return __dadd_rn(acc, __dmul_rn(t, t));
}
// D of a row and a center: features in order.
template <class T, class C> __device__ __forceinline__ double canonical(const T* x, const C* c, int d) {
  double acc = 0.0;
  UNROLL_4 for (int j = 0; j < d; j++) acc = add_square(acc, x[j], c[j]);
  return acc;
}
// w * v; without weights v; 0 for weight 0, also where v is infinite.
__device__ __forceinline__ double weighted(const double* weight, long long i, double v) {
  if (!weight) return v;
  const double w = weight[i];
  return w > 0.0 ? __dmul_rn(w, v) : 0.0;
}

// ---- fixed point. First limb of y: rint(y 2^e); scale = 2^e, so the product is exact and one conversion rounds to even.
__device__ __forceinline__ long long fixed_high(double y, double scale) { return __double2ll_rn(__dmul_rn(y, scale)); }
// Second limb: what the first one left, times 2^bits.
__device__ __forceinline__ long long fixed_low(double y, double scale, long long high, double two_bits) {
  return __double2ll_rn(__dmul_rn(__dsub_rn(__dmul_rn(y, scale), __ll2double_rn(high)), two_bits));
}
// hi + lo 2^-bits: the sum that two limbs stand for, still times 2^e.
__device__ __forceinline__ double mantissa(long long high, long long low, double inverse_bits) {
  return __dadd_rn(__ll2double_rn(high), __dmul_rn(__ll2double_rn(low), inverse_bits));
}

// ---- certificate. 2 E(x) = constant + |x'| (linear + quadratic |x'|), from exact.score_bound;
// bound[3] holds the three, rounded up to float32 (finish_centers in recenter.cu).
__device__ __forceinline__ float two_errors(const float* bound, float x2, int d) {
  // 2^-125 a feature: squares below 2^-126 may have been flushed on their way into x2
  const float norm = sqrtf(x2 + (float)d * 2.350988701644575e-38f);
  return bound[0] + norm * (bound[1] + bound[2] * norm);
}
// A DIFFERENCE of scores against 2 E, never score against best + 2 E: the rounding of that sum is up to u |score|, which
// 2 E does not cover when d is small. Written so that NaN and infinity are "not above".
__device__ __forceinline__ bool above(float score, float best, float gap) { return score - best > gap; }

// A row whose label the fast pass could not prove: its best score and 2 E.
struct Uncertain { long long row; float best, gap; };

// What one iteration counts: rows whose label changed, rows rechecked, clusters without weight, centers that moved, rows that bounds
// left open.
struct Tally { u64 moved, rechecked, empty, changed, open; };

// ---- best and second best of a row. Equal scores need no rule: they leave second == best, and the recheck decides.
__device__ __forceinline__ void take(float& best, float& second, int& arg, float score, int c) {
  second = lower(second, higher(best, score));
  arg = score < best ? c : arg;
  best = lower(best, score);
}
__device__ __forceinline__ void merge(float& best, float& second, int& arg, float b, float s, int a) {
  second = lower(lower(second, s), higher(best, b));
  arg = b < best ? a : arg;
  best = lower(best, b);
}
