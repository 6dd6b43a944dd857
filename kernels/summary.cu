// summary: what a fit must know of the data before it starts. Each is one pass over X, once a fit.
//
//   summary         low, high (d): smallest and largest value of each feature, as keys that order like the values
//                   (start: all ones, all zeros); not_finite (1): 1 if any value is NaN or infinite
//   weighted_peaks  peaks (d): bits of the largest |w x| of each feature
//   moments         first, second (d): integer sums of q = x - pivot and of q q, with scales 2^e1_j and 2^e2_j
//   launch  any number of blocks of SUMMARY_THREADS. lanes: threads a row, a power of two up to 32
//   traffic X once; an atomic for each thread and feature at the end
//   flops   n d, n d, 3 n d
//   instances  summary, weighted_peaks, moments<T>, T = float, double, Float16, Bfloat16
#include "warp.cuh"

constexpr int SUMMARY_THREADS = 256;

// Larger value, larger key; -0.0 below 0.0.
__device__ __forceinline__ u64 key_of(double v) {
  const u64 u = bits_of(v);
  return u >> 63 ? ~u : u | 1ull << 63;
}

template <class T> __global__ void __launch_bounds__(SUMMARY_THREADS)
summary(const T* __restrict__ x, u64* low, u64* high, unsigned* not_finite, long long n, int d, int lanes) {
  const int part = threadIdx.x % lanes, rows = SUMMARY_THREADS / lanes;
  bool bad = false;
  for (int j = part; j < d; j += lanes) {
    u64 smallest = ~0ull, largest = 0;
    for (long long i = (long long)blockIdx.x * rows + threadIdx.x / lanes; i < n; i += (long long)gridDim.x * rows) {
      const double v = to_f64(x[i * d + j]);
      bad |= !(v - v == 0.0);
      smallest = min(smallest, key_of(v));
      largest = max(largest, key_of(v));
    }
    atomicMin(&low[j], smallest);                   // the atomics: threads of all blocks share a feature
    atomicMax(&high[j], largest);
  }
  if (bad) atomicOr(not_finite, 1u);
}

template <class T> __global__ void __launch_bounds__(SUMMARY_THREADS)
weighted_peaks(const T* __restrict__ x, const double* __restrict__ weight, u64* peaks, long long n, int d, int lanes) {
  const int part = threadIdx.x % lanes, rows = SUMMARY_THREADS / lanes;
  for (int j = part; j < d; j += lanes) {
    u64 largest = 0;
    for (long long i = (long long)blockIdx.x * rows + threadIdx.x / lanes; i < n; i += (long long)gridDim.x * rows)
      largest = max(largest, bits_of(weighted(weight, i, to_f64(x[i * d + j]))) & ~(1ull << 63));
    atomicMax(&peaks[j], largest);                  // the atomic: threads of all blocks share a feature
  }
}

template <class T> __global__ void __launch_bounds__(SUMMARY_THREADS)
moments(const T* __restrict__ x, const double* __restrict__ pivot, const double* __restrict__ scale1, const double* __restrict__ scale2,
        u64* first, u64* second, long long n, int d, int lanes) {
  const int part = threadIdx.x % lanes, rows = SUMMARY_THREADS / lanes;
  for (int j = part; j < d; j += lanes) {
    long long a = 0, b = 0;
    for (long long i = (long long)blockIdx.x * rows + threadIdx.x / lanes; i < n; i += (long long)gridDim.x * rows) {
      const double q = __dsub_rn(to_f64(x[i * d + j]), pivot[j]);
      a += fixed_high(q, scale1[j]);
      b += fixed_high(__dmul_rn(q, q), scale2[j]);
    }
    add_global(&first[j], a);
    add_global(&second[j], b);
  }
}
