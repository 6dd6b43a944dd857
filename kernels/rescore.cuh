// Grouped keys: one key for the least of four scores, and what that costs: four centers of each row are scored again.
//
// A lane sees the columns 2 t and 2 t + 1 of every 8 centers. Those of two blocks of 8 are a group, so best and second best are
// taken once for 4 scores, in FORM 1, where the least one has the least bits. In the end the centers of the best group are scored in
// float32, from the row and the centers as they are. What certifies the label then (exact.tensor_bound, Groups) is the best of the
// four, off by what float32 is, against the second of the four and the second group, off by what tensor cores are.
#pragma once
#include "keys.cuh"
#include "label.cuh"

struct Group { int first; float second; };           // its first center, the least score outside of it

// Two scores of block j of 8 centers: those of an even block wait in `least` for the next one.
__device__ __forceinline__ void take_group(unsigned& best, unsigned& second, unsigned& least, float s0, float s1, unsigned keys, int j) {
  const unsigned pair = key_min(__float_as_uint(s0), __float_as_uint(s1));
  if (j % 2 == 0) least = pair;
  else take_next(best, second, key_min(least, pair) * keys + j / 2);
}

// Labels of R rows of each quad: row `first` of the block and every 8th from there. bound: 2 E of a score in float32 and one of
// tensor cores. Of the features a lane takes 4 in 16, in order: so no product goes through more additions than in one chain.
template <int FEATURES, int R, class T, class C>
__device__ __forceinline__ void finish_groups(const T* __restrict__ rows, const C* __restrict__ shift, const float* __restrict__ cs,
                                              const float* __restrict__ half, const Group* groups, const float* norms,
                                              const float (&bound)[3], int first, long long block_row, int* label, Uncertain* list,
                                              u64* count, long long n, int d, int k, int ldc) {
  const int t = threadIdx.x % 4;
  auto feature = [&](int i) { return i / 4 * 16 + t * 4 + i % 4; };
  C origin[FEATURES / 4];
  UNROLL for (int i = 0; i < FEATURES / 4; i++) origin[i] = feature(i) < d ? shift[feature(i)] : C(0);
  UNROLL_1 for (int r = 0; r < R; r++) {
    const int in_block = first + 8 * r;
    const long long at = block_row + in_block;
    const T* row = rows + min(at, n - 1) * d;        // behind the last row it is taken again, for nobody
    const Group group = groups[in_block];
    float v[FEATURES / 4], best = INFINITY_F, second = group.second;
    UNROLL for (int i = 0; i < FEATURES / 4; i++) v[i] = feature(i) < d ? (float)(origin[i] - row[feature(i)]) : 0.f;
    int arg = min(group.first, k - 1);               // a row that overflows may end with a group of padding
    UNROLL for (int m = 0; m < 4; m++) {
      const int c = group.first + m / 2 * 8 + m % 2;
      const float* center = cs + (size_t)min(c, k - 1) * ldc;
      float s = 0.f;
      UNROLL for (int i = 0; i < FEATURES / 4; i += 4) {
        const float4 w = *reinterpret_cast<const float4*>(center + min(feature(i), ldc - 4));      // behind d any: v is 0
        s = __fmaf_rn(v[i], w.x, s);
        s = __fmaf_rn(v[i + 1], w.y, s);
        s = __fmaf_rn(v[i + 2], w.z, s);
        s = __fmaf_rn(v[i + 3], w.w, s);
      }
      s += __shfl_xor_sync(0xffffffffu, s, 1);
      s += __shfl_xor_sync(0xffffffffu, s, 2);
      take(best, second, arg, c < k ? half[c] + s : INFINITY_F, c);      // what pads the last tile has no score
    }
    if (t == 0 && at < n) finish(at, best, second, arg, norms[in_block], bound, d, label, list, count);
  }
}
