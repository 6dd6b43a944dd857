// Best and second best of a row as keys, a score and a place in one number: what the passes on tensor cores share.
//
//   FORM 0  the place replaces the low bits of the score; keys are float
//   FORM 1  scores are offset by 1.5 B, so that all of them lie in one binade [B, 2 B), where their bits are whole numbers in the
//           order of the scores: key = bits * KEYS + place. The bits that leave at the upper end are those of the binade. It takes
//           the pipe of multiplications, where FORM 0 takes that of minimum and maximum, and on some cards whole numbers have a
//           minimum of three.
#pragma once
#include "tensor.cuh"

template <int FORM> struct KeyOf { typedef float Key; };
template <> struct KeyOf<1> { typedef unsigned Key; };

// Above every key.
__device__ __forceinline__ void clear_keys(float& best, float& second) { best = second = INFINITY_F; }
__device__ __forceinline__ void clear_keys(unsigned& best, unsigned& second) { best = second = ~0u; }

template <class Key> __device__ __forceinline__ void take_next(Key& best, Key& second, Key key) {
  second = key_min(second, key_max(best, key));
  best = key_min(best, key);
}
// `keep` masks the low bits away. It must be no constant to the compiler: LOP3 has one immediate, and that is for the index.
__device__ __forceinline__ void take_key(float& best, float& second, float score, unsigned keep, int index) {
  take_next(best, second, __uint_as_float(and_or(__float_as_uint(score), keep, index)));
}
// `keys`, KEYS, must be none either: a shift with an addition is for the pipe that is to be spared.
__device__ __forceinline__ void take_key(unsigned& best, unsigned& second, float score, unsigned keys, int index) {
  take_next(best, second, __float_as_uint(score) * keys + index);
}
template <class Key> __device__ __forceinline__ void merge_keys(Key& best, Key& second, int& arg, Key b, Key s, int other) {
  second = key_min(key_max(best, b), key_min(second, s));
  arg = if_less(b, best, other, arg);                // equal: either, the row is in the list
  best = key_min(best, b);
}
// The four lanes of a quad have different columns of the same row.
template <class Key> __device__ __forceinline__ void merge_quad(Key& best, Key& second, int& arg) {
  UNROLL for (int o = 1; o < 4; o *= 2) {
    const Key b = __shfl_xor_sync(0xffffffffu, best, o), s = __shfl_xor_sync(0xffffffffu, second, o);
    const int other = __shfl_xor_sync(0xffffffffu, arg, o);
    merge_keys(best, second, arg, b, s, other);
  }
}
__device__ __forceinline__ int place_of(float key, int keys) { return __float_as_int(key) & (keys - 1); }
__device__ __forceinline__ int place_of(unsigned key, int keys) { return key & (keys - 1); }

// |x'|^2 as the bound takes it. fp16: from 2^16 on a feature would be infinite; such a norm makes 2 E infinite.
template <int KIND> __device__ __forceinline__ float norm_sq(float x2) {
  return KIND == FP16 && !(x2 <= 1073741824.f) ? INFINITY_F : x2;
}

// ---- FORM 1: B where no partial sum of a score is above `size`: a power of two above 2 size, up to 8 size (exact.binade).
//
// One binade in 512 / KEYS is passed over: its keys would be where that of an infinity is, the half norm of a center that cannot
// win. So that is above the key of any score.
template <int KEYS> __device__ __forceinline__ float binade(float size) {
  unsigned exponent = (__float_as_uint(size) >> 23) + 2;
  if ((exponent + 1) * KEYS % 512 == 0) exponent++;
  return __uint_as_float(exponent << 23);
}
__device__ __forceinline__ float score_of(float key, int, float) { return key; }
__device__ __forceinline__ float score_of(unsigned key, int keys, float b) {
  const float offset_score = __uint_as_float(__float_as_uint(b) | key / keys);          // what is left of a binade, B has, too
  return key < 0u - keys * 8388608u ? offset_score - 1.5f * b : INFINITY_F;      // 2^23: the key of an infinity
}
