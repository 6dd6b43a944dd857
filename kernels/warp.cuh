// Warp-wide sums and maxima of integers (exact in any order), and 64-bit adds in global and shared memory.
#pragma once
#include "exact.cuh"

constexpr unsigned ALL_LANES = 0xffffffffu;

__device__ __forceinline__ long long warp_sum(long long v) {
  UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
  return v;
}
__device__ __forceinline__ u64 warp_max(u64 v) {
  UNROLL for (int o = 16; o; o >>= 1) v = max(v, __shfl_xor_sync(ALL_LANES, v, o));
  return v;
}
// Inclusive prefix sum over the lanes.
__device__ __forceinline__ long long warp_prefix(long long v) {
  UNROLL for (int o = 1; o < 32; o <<= 1) {
    const long long before = __shfl_up_sync(ALL_LANES, v, o);
    if (int(threadIdx.x % 32) >= o) v += before;
  }
  return v;
}
// Doubles that are not negative order like their bits, so a maximum of them is one of integers.
__device__ __forceinline__ u64 bits_of(double v) { return (u64)__double_as_longlong(v); }

// Native in global memory; the atomic stops the race of all threads of the grid that add to one cell.
__device__ __forceinline__ void add_global(u64* p, long long v) { if (v) atomicAdd(p, (u64)v); }

// Shared memory has no 64-bit integer add (it would be a compare-and-swap loop): two 32-bit adds, the carry known from the
// value that the first one returns. Exact in any order, modulo 2^64. The atomics stop the race of the block's threads.
__device__ __forceinline__ void add_shared(unsigned* low, unsigned* high, long long v) {
  const unsigned l = (unsigned)v, before = atomicAdd(low, l), h = (unsigned)((u64)v >> 32) + (before + l < l ? 1u : 0u);
  if (h) atomicAdd(high, h);
}
