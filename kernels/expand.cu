// expand: values of 16 bits as float32, which has all of them, times a power of two.
//
//   in    x (size) bf16 or fp16; factor: the power
//   out   y (size) float32: exact for a factor of 1, rounded once for others; subnormals are kept
//   launch  any number of blocks of EXPAND_THREADS; no shared memory
//   traffic 2 bytes read and 4 written, a value
//   instances  expand<KIND>, KIND = 0 bf16, 1 fp16
#include "exact.cuh"

constexpr int EXPAND_THREADS = 256;

#ifndef SIMT_HOST        // a test harness brings its own
__device__ __forceinline__ float half_to_f32(unsigned short v) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v)); return r; }
#endif

template <int KIND> __global__ void __launch_bounds__(EXPAND_THREADS)
expand(const unsigned short* __restrict__ x, float* __restrict__ y, double factor, long long size) {
  const long long step = (long long)gridDim.x * EXPAND_THREADS;
  for (long long i = (long long)blockIdx.x * EXPAND_THREADS + threadIdx.x; i < size; i += step) {
    const float v = KIND == 0 ? __uint_as_float((unsigned)x[i] << 16) : half_to_f32(x[i]);
    y[i] = factor == 1.0 ? v : to_f32(__dmul_rn(to_f64(v), factor));
  }
}
