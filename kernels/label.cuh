// The label of one row, and its place in the list for recheck.cu if the fast pass could not prove it.
#pragma once
#include "exact.cuh"

__device__ __forceinline__ void finish(long long row, float best, float second, int arg, float x2, const float* bound, int d,
                                       int* label, Uncertain* list, u64* count) {
  label[row] = arg;
  const float gap = two_errors(bound, x2, d);
  if (!above(second, best, gap)) {
    const Uncertain u = {row, best, gap};
    list[atomicAdd(count, 1ull)] = u;      // the atomic: rows of all blocks take places in one list
  }
}
