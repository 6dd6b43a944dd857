// seed: k-means++. Distances in C = Computed<T>, potentials and their prefix sums as integers.
//
//   distance = sum over features in order of (x - c)^2, each operation rounded in C and no subnormal flushed
//   potential of a row = rint(w closest 2^e), e from the largest w closest (exact.FixedPoint)
//
//   seed_update      closest (n) C: the smaller of itself and the distance to center (d) C; `first`: the distance.
//                    top (1): bits of the largest w closest
//   seed_potentials  ends (ceil(n / SEED_ROWS)): sum of the potentials of each SEED_ROWS rows; one block each
//   seed_scan        one block of SEED_THREADS: ends become inclusive prefix sums; the last one is the total
//   seed_find        one warp (a block of 32) a value: rows (t) int64, the first row whose prefix sum exceeds value
//   seed_trials      potentials (t): the total potential if candidate t, of candidates (t, d) C, were chosen; one pass over X
//                    for TRIALS candidates
//   launch  blocks of SEED_THREADS where nothing else is said, any number of them for seed_update, seed_trials
//   traffic seed_update, seed_trials: X once, closest read and written; seed_potentials: closest (and 8 n of weights)
//   flops   3 n d a center or candidate
//   instances  seed_update, seed_trials<T>, T = float, double, Float16, Bfloat16; seed_potentials, seed_find<C>, C = float, double; seed_scan
#include "seed.cuh"

constexpr int SEED_THREADS = 256, TRIALS = 8;
#ifndef SEED_BLOCK_ROWS
#define SEED_BLOCK_ROWS 2048
#endif
constexpr int SEED_ROWS = SEED_BLOCK_ROWS;

template <class T> __global__ void __launch_bounds__(SEED_THREADS)
seed_update(const T* __restrict__ x, const Computed<T>* __restrict__ center, const double* __restrict__ weight,
            Computed<T>* __restrict__ closest, u64* top, int first, long long n, int d) {
  using C = Computed<T>;
  u64 largest = 0;
  for (long long i = (long long)blockIdx.x * SEED_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * SEED_THREADS) {
    C acc = C(0);
    UNROLL_4 for (int j = 0; j < d; j++) acc = add_square_in<C>(acc, x[i * d + j], center[j]);
    if (!first) acc = smaller(closest[i], acc);
    closest[i] = acc;
    largest = max(largest, bits_of(weighted(weight, i, to_f64(acc))));
  }
  largest = warp_max(largest);
  if (threadIdx.x % 32 == 0) atomicMax(top, largest);       // the atomic: every warp of the grid has a maximum
}

template <class C> __global__ void __launch_bounds__(SEED_THREADS)
seed_potentials(const C* __restrict__ closest, const double* __restrict__ weight, double scale, long long* __restrict__ ends, long long n) {
  __shared__ long long of_warp[SEED_THREADS / 32];
  const long long begin = (long long)blockIdx.x * SEED_ROWS, end = min(begin + SEED_ROWS, n);
  long long sum = 0;
  for (long long i = begin + threadIdx.x; i < end; i += SEED_THREADS) sum += potential(closest[i], weight, i, scale);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();                                  // every warp's sum is there before thread 0 adds them
  if (threadIdx.x == 0) {
    for (int w = 1; w < SEED_THREADS / 32; w++) sum += of_warp[w];
    ends[blockIdx.x] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(SEED_THREADS)
seed_scan(long long* ends, long long m) {
  __shared__ long long of_warp[SEED_THREADS / 32];
  long long carry = 0;
  for (long long i0 = 0; i0 < m; i0 += SEED_THREADS) {
    const long long i = i0 + threadIdx.x;
    long long v = warp_prefix(i < m ? ends[i] : 0);
    if (threadIdx.x % 32 == 31) of_warp[threadIdx.x / 32] = v;
    __syncthreads();                                // every warp's total is there before others add it
    long long before = carry;
    for (int w = 0; w < SEED_THREADS / 32; w++) {
      if (w < int(threadIdx.x / 32)) before += of_warp[w];
      carry += of_warp[w];
    }
    if (i < m) ends[i] = v + before;
    __syncthreads();                                // the totals are read before the next ones are written
  }
}

template <class C> __global__ void __launch_bounds__(32)
seed_find(const C* __restrict__ closest, const double* __restrict__ weight, double scale, const long long* __restrict__ ends,
          const long long* __restrict__ values, long long* __restrict__ rows, long long n) {
  const long long value = values[blockIdx.x];
  long long low = 0, high = (n + SEED_ROWS - 1) / SEED_ROWS - 1;      // the first group of rows whose end exceeds value
  while (low < high) {
    const long long middle = (low + high) / 2;
    if (ends[middle] > value) high = middle; else low = middle + 1;
  }
  long long prefix = low ? ends[low - 1] : 0;
  for (long long i0 = low * SEED_ROWS; i0 < n; i0 += 32) {
    const long long i = i0 + threadIdx.x;
    const long long v = prefix + warp_prefix(i < n ? potential(closest[i], weight, i, scale) : 0);
    const unsigned above_value = __ballot_sync(ALL_LANES, v > value);
    if (above_value) {
      if (threadIdx.x == 0) rows[blockIdx.x] = i0 + __popc((above_value & (~above_value + 1)) - 1);     // the lowest lane
      return;
    }
    prefix = __shfl_sync(ALL_LANES, v, 31);
  }
}

template <class T> __global__ void __launch_bounds__(SEED_THREADS)
seed_trials(const T* __restrict__ x, const Computed<T>* __restrict__ candidates, const Computed<T>* __restrict__ closest,
            const double* __restrict__ weight, double scale, u64* potentials, long long n, int d, int trials) {
  using C = Computed<T>;
  for (int t0 = 0; t0 < trials; t0 += TRIALS) {
    const int m = min(TRIALS, trials - t0);
    const C* c[TRIALS];
    long long sum[TRIALS];
    UNROLL for (int t = 0; t < TRIALS; t++) { c[t] = candidates + (size_t)(t0 + min(t, m - 1)) * d; sum[t] = 0; }
    for (long long i = (long long)blockIdx.x * SEED_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * SEED_THREADS) {
      C acc[TRIALS];
      UNROLL for (int t = 0; t < TRIALS; t++) acc[t] = C(0);
      for (int j = 0; j < d; j++) {
        const C v = x[i * d + j];
        UNROLL for (int t = 0; t < TRIALS; t++) acc[t] = add_square_in(acc[t], v, c[t][j]);
      }
      UNROLL for (int t = 0; t < TRIALS; t++) sum[t] += potential(smaller(closest[i], acc[t]), weight, i, scale);
    }
    UNROLL for (int t = 0; t < TRIALS; t++) {
      const long long all = warp_sum(sum[t]);
      if (threadIdx.x % 32 == 0 && t < m) add_global(&potentials[t0 + t], all);
    }
  }
}
