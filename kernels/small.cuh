// What a block of small.cu does before the first iteration: sums and maxima over its threads, codes, k-means++.
#pragma once
#include "seed.cuh"

constexpr int SMALL_THREADS = 128, SMALL_WARPS = SMALL_THREADS / 32, SMALL_CENTERS = 4;      // centers that a row meets at a time
enum { N, D, K, SINGLE, BITS, VALUES, WEIGHTS, RUNS, TRIALS, STARTS, LABELS, CENTERS, WORDS, SMALL_COLUMNS };

// ---- over the block; every thread gets the result
__device__ __forceinline__ u64 block_max(u64 v, u64* scratch) {
  v = warp_max(v);
  __syncthreads();                                  // what was in scratch has been read
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();                                  // the maxima of all warps are there
  for (int w = 0; w < SMALL_WARPS; w++) v = max(v, scratch[w]);
  return v;
}
__device__ __forceinline__ long long block_sum(long long v, u64* scratch) {
  v = warp_sum(v);
  __syncthreads();                                  // what was in scratch has been read
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = (u64)v;
  __syncthreads();                                  // the sums of all warps are there
  v = 0;
  for (int w = 0; w < SMALL_WARPS; w++) v += (long long)scratch[w];
  return v;
}
// The lowest of the rows that threads name; NO_ROW where none does.
constexpr int NO_ROW = 0x7fffffff;
__device__ __forceinline__ int block_lowest(int row, u64* scratch) { return NO_ROW - (int)block_max((u64)(NO_ROW - row), scratch); }

// ---- powers of two, as exact.FixedPoint: a code's exponent from the largest value. (Of 0 it is 0 there: all codes are 0 either way.)
__device__ __forceinline__ double power_of_two(int e) { return __longlong_as_double((long long)(e + 1023) << 52); }
__device__ __forceinline__ int exponent_for(double peak, int bits) {
  return min(bits - ((int)(bits_of(peak) >> 52) - 1022), 1000);      // a subnormal number's is beyond 1000 too
}
__device__ __forceinline__ u64 magnitude(double v) { return bits_of(v) & ~(1ull << 63); }
__device__ __forceinline__ double value_of(u64 bits) { return __longlong_as_double((long long)bits); }

// A problem of the table, and its part of the memory that works are done in.
template <class T> struct Small {
  int n, d, k, bits, width;                         // width: words of a cluster's sums: first limbs, second ones (float64), weight
  const T* x;                                       // (d, n)
  const double* weight;
  double wscale, inverse_wscale, two_bits, inverse_bits;
  T *closest, *tried, *best;                        // (n), of k-means++
  double *sq, *far;                                 // (n) D to the own center; the same while empty clusters are filled
  u64 *sums, *filled;                               // (k, width)
  T *before, *after;                                // (k, d)
  double *heavy, *moved_sq, *scale, *inverse_scale; // (k) weights; (k); (d)
  int *own, *renamed;                               // (n) labels; (k)
  u64* scratch;
};

// ---- before the first iteration
// Codes of the features and of the weights; returns tol times the mean variance (prepare.mean_variance).
template <class T> __device__ __forceinline__ double encode_small(Small<T>& s, double tol) {
  const int lane = threadIdx.x % 32;
  u64 top = 0;
  UNROLL_1 for (int i = threadIdx.x; s.weight && i < s.n; i += SMALL_THREADS) top = max(top, bits_of(s.weight[i]));
  const int e = s.weight ? exponent_for(value_of(block_max(top, s.scratch)), s.bits) : 0;
  s.wscale = power_of_two(e);
  s.inverse_wscale = power_of_two(-e);
  UNROLL_1 for (int j = threadIdx.x / 32; j < s.d; j += SMALL_WARPS) {
    u64 peak = 0, low = 0, high = 0;                // low: the key of the smallest value, all bits turned
    UNROLL_1 for (int i = lane; i < s.n; i += 32) {
      const double v = to_f64(s.x[(size_t)j * s.n + i]);
      const u64 u = bits_of(v), key = u >> 63 ? ~u : u | 1ull << 63;      // keys order like the values
      peak = max(peak, magnitude(weighted(s.weight, i, v)));
      high = max(high, key);
      low = max(low, ~key);
    }
    const int of_sums = exponent_for(value_of(warp_max(peak)), s.bits);
    high = warp_max(high);
    low = ~warp_max(low);
    const double smallest = value_of(low >> 63 ? low ^ 1ull << 63 : ~low), largest = value_of(high >> 63 ? high ^ 1ull << 63 : ~high);
    const double pivot = __dadd_rn(__dmul_rn(smallest, 0.5), __dmul_rn(largest, 0.5));
    const double reach = value_of(max(magnitude(__dsub_rn(smallest, pivot)), magnitude(__dsub_rn(largest, pivot))));
    const int e1 = exponent_for(reach, s.bits), e2 = exponent_for(__dmul_rn(reach, reach), s.bits);
    long long first = 0, second = 0;
    UNROLL_1 for (int i = lane; i < s.n; i += 32) {
      const double q = __dsub_rn(to_f64(s.x[(size_t)j * s.n + i]), pivot);
      first += fixed_high(q, power_of_two(e1));
      second += fixed_high(__dmul_rn(q, q), power_of_two(e2));
    }
    const double a = __dmul_rn(__ll2double_rn(warp_sum(first)), power_of_two(-e1));
    const double b = __dmul_rn(__ll2double_rn(warp_sum(second)), power_of_two(-e2));
    const double variance = __ddiv_rn(__dsub_rn(b, __ddiv_rn(__dmul_rn(a, a), (double)s.n)), (double)s.n);
    if (lane == 0) {
      s.scale[j] = power_of_two(of_sums);
      s.inverse_scale[j] = variance > 0.0 ? variance : 0.0;
    }
  }
  __syncthreads();                                  // the variance of every feature is there
  double mean = 0.0;
  UNROLL_1 for (int j = 0; j < s.d; j++) mean = __dadd_rn(mean, s.inverse_scale[j]);
  __syncthreads();                                  // all have added them up before they are overwritten
  UNROLL_1 for (int j = threadIdx.x; j < s.d; j += SMALL_THREADS) s.inverse_scale[j] = __ddiv_rn(1.0, s.scale[j]);
  return tol > 0.0 ? __dmul_rn(tol, __ddiv_rn(mean, (double)s.d)) : 0.0;
}

// ---- k-means++
template <class T> __device__ __forceinline__ long long total_of(const Small<T>& s, const T* values, double scale) {
  long long sum = 0;
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) sum += potential(values[i], s.weight, i, scale);
  return block_sum(sum, s.scratch);
}

// The first row whose prefix sum of potentials exceeds floor(u total), or total - 1.
template <class T> __device__ __forceinline__ int first_above(const Small<T>& s, const T* values, double scale, double u, long long total) {
  const double product = __dmul_rn(u, __ll2double_rn(total));
  long long target = __double2ll_rn(product);
  if (__ll2double_rn(target) > product) target--;
  target = min(target, total - 1);
  long long carry = 0;
  for (int i0 = 0; i0 < s.n; i0 += SMALL_THREADS) {
    const int i = i0 + threadIdx.x;
    long long v = warp_prefix(i < s.n ? potential(values[i], s.weight, i, scale) : 0);
    __syncthreads();                                // what was in scratch has been read
    if (threadIdx.x % 32 == 31) s.scratch[threadIdx.x / 32] = (u64)v;
    __syncthreads();                                // every warp's total is there
    v += carry;
    for (int w = 0; w < SMALL_WARPS; w++) {
      if (w < int(threadIdx.x / 32)) v += (long long)s.scratch[w];
      carry += (long long)s.scratch[w];
    }
    if (carry > target) return block_lowest(v > target ? i : NO_ROW, s.scratch);
  }
  return s.n - 1;
}

// Distances in the dtype of X to one of the rows, not above those in `most` (null: any).
template <class T> __device__ __forceinline__ void meet_row(const Small<T>& s, int row, const T* most, T* out) {
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) {
    T acc = T(0);
    UNROLL_4 for (int j = 0; j < s.d; j++) acc = add_square_in(acc, s.x[(size_t)j * s.n + i], s.x[(size_t)j * s.n + row]);
    out[i] = most ? smaller(most[i], acc) : acc;
  }
}

// Greedy k-means++ with these draws, as seeding.kmeans_plusplus: fills s.before. The first center is drawn by weight, one trial.
template <class T> __device__ __forceinline__ void plus_plus(Small<T>& s, const double* draws, int trials) {
  int counts = NO_ROW;                              // the first row that counts
  UNROLL_1 for (int i = threadIdx.x; i < s.n && counts == NO_ROW; i += SMALL_THREADS) if (!s.weight || s.weight[i] > 0.0) counts = i;
  counts = block_lowest(counts, s.scratch);
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) s.closest[i] = T(1);
  for (int c = 0; c < s.k; c++) {
    u64 peak = 0;
    UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) peak = max(peak, bits_of(weighted(s.weight, i, to_f64(s.closest[i]))));
    const int e = exponent_for(value_of(block_max(peak, s.scratch)), s.bits);
    const double scale = c ? power_of_two(e) : s.wscale;
    const long long total = total_of(s, s.closest, scale);
    long long least = -1;
    int chosen = 0;
    for (int t = 0; t < (c ? trials : 1); t++) {
      const double u = *draws++;
      const int row = total > 0 ? first_above(s, s.closest, scale, u, total) : counts;
      meet_row(s, row, c ? s.closest : nullptr, s.tried);
      const long long left = c ? total_of(s, s.tried, scale) : 0;
      if (least < 0 || left < least) {
        least = left;
        chosen = row;
        T* swapped = s.tried; s.tried = s.best; s.best = swapped;
      }
    }
    T* swapped = s.closest; s.closest = s.best; s.best = swapped;
    UNROLL_1 for (int j = threadIdx.x; j < s.d; j += SMALL_THREADS) s.before[(size_t)c * s.d + j] = s.x[(size_t)j * s.n + chosen];
  }
}
