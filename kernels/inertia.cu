// inertia: the distance of each row to its own center, and their weighted sum in two limbs.
//
//   own_distance   in  x (n, d) T; centers (k, d) Computed<T>; label (n); weight (n) float64 or null
//                  out own (n) float64: D, not weighted; top (1): bits of the largest w D
//   inertia_sum    in  own, weight; scale = 2^e of the largest w D; two_bits = 2^bits     inout limbs (2): sums of w D
//   launch  any number of blocks of INERTIA_THREADS; no shared memory
//   traffic X and the centers' rows (L2), 8 n bytes of own written, then read
//   flops   3 n d in float64
//   instances  own_distance<T>, T = float, double, Float16, Bfloat16; inertia_sum
#include "warp.cuh"

constexpr int INERTIA_THREADS = 128;

template <class T> __global__ void __launch_bounds__(INERTIA_THREADS)
own_distance(const T* __restrict__ x, const Computed<T>* __restrict__ centers, const int* __restrict__ label,
             const double* __restrict__ weight, double* __restrict__ own, u64* top, long long n, int d) {
  u64 largest = 0;
  for (long long i = (long long)blockIdx.x * INERTIA_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * INERTIA_THREADS) {
    const double D = canonical(x + i * d, centers + (size_t)label[i] * d, d);
    own[i] = D;
    largest = max(largest, bits_of(weighted(weight, i, D)));
  }
  largest = warp_max(largest);
  if (threadIdx.x % 32 == 0) atomicMax(top, largest);       // the atomic: every warp of the grid has a maximum
}

extern "C" __global__ void __launch_bounds__(INERTIA_THREADS)
inertia_sum(const double* __restrict__ own, const double* __restrict__ weight, double scale, double two_bits, u64* limbs, long long n) {
  long long high = 0, low = 0;
  for (long long i = (long long)blockIdx.x * INERTIA_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * INERTIA_THREADS) {
    const double y = weighted(weight, i, own[i]);
    const long long h = fixed_high(y, scale);
    high += h;
    low += fixed_low(y, scale, h, two_bits);
  }
  high = warp_sum(high);
  low = warp_sum(low);
  if (threadIdx.x % 32 == 0) { add_global(&limbs[0], high); add_global(&limbs[1], low); }
}
