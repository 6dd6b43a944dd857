// What is known of a row from the iteration before: the distance to its own center is at most `upper`, that to every other one at
// least `lower`. Nothing may be known: then both are NaN, and every comparison says so. In float64, rounded outward, never flushed.
#pragma once
#include "exact.cuh"

struct Bounds { float upper, lower; };

// From two scores: D = |x'|^2 + 2 score. Twice a score is within 2 E = gap; the float32 sum of d squares within (d + 16) 2^-23 of
// itself and 2^-125 for each square that may have been flushed. What gap has to spare covers the roundings here.
__device__ __forceinline__ Bounds bounds_of(float best, float second, float x2, float gap, int d) {
  const double norm_sq = to_f64(x2), slack = to_f64(gap) + norm_sq * ((d + 16) * 1.1920928955078125e-07) + d * 2.350988701644575e-38;
  const double own = norm_sq + 2.0 * to_f64(best) + slack, other = norm_sq + 2.0 * to_f64(second) - slack;
  return {up_to_f32(__dsqrt_rn(own)), down_to_f32(__dsqrt_rn(other))};      // NaN where nothing is left of the other one
}
// Once the own center has moved by `own` and no center by more than `most`.
__device__ __forceinline__ Bounds moved_by(const Bounds& b, float own, float most) {
  return {up_to_f32(__dadd_ru(to_f64(b.upper), to_f64(own))), down_to_f32(__dadd_rd(to_f64(b.lower), -to_f64(most)))};
}
// Then the label stays, by canonical distances too: two float32 numbers that differ do so by 2^-24 of themselves, and the rounding of
// D is less (d 2^-52 of it, for d < 2^27).
__device__ __forceinline__ bool proves(const Bounds& b) { return b.upper < b.lower; }
// How far a center has moved at most, from the canonical square. 1.000001: for all roundings. 2^-149: a square may vanish, its root not.
__device__ __forceinline__ float drift_of(double sq) { return to_f32(__dsqrt_rn(sq) * 1.000001 + 1.401298464324817e-45); }
