// Best and second best of a row as keys, scores whose low bits hold a place: what the passes on tensor cores share.
#pragma once
#include "tensor.cuh"

// `keep` masks the low bits away. It must be no constant to the compiler: LOP3 has one immediate, and that is for the index.
__device__ __forceinline__ void take_key(float& best, float& second, float score, unsigned keep, int index) {
  const float key = __uint_as_float(and_or(__float_as_uint(score), keep, index));
  second = key_min(second, key_max(best, key));
  best = key_min(best, key);
}
__device__ __forceinline__ void merge_keys(float& best, float& second, int& arg, float b, float s, int other) {
  second = key_min(key_max(best, b), key_min(second, s));
  arg = if_less(b, best, other, arg);                // equal: either, the row is in the list
  best = key_min(best, b);
}
// The four lanes of a quad have different columns of the same row.
__device__ __forceinline__ void merge_quad(float& best, float& second, int& arg) {
  UNROLL for (int o = 1; o < 4; o *= 2) {
    const float b = __shfl_xor_sync(0xffffffffu, best, o), s = __shfl_xor_sync(0xffffffffu, second, o);
    const int other = __shfl_xor_sync(0xffffffffu, arg, o);
    merge_keys(best, second, arg, b, s, other);
  }
}
// |x'|^2 as the bound takes it. fp16: from 2^16 on a feature would be infinite; such a norm makes 2 E infinite.
template <int KIND> __device__ __forceinline__ float norm_sq(float x2) {
  return KIND == FP16 && !(x2 <= 1073741824.f) ? INFINITY_F : x2;
}
