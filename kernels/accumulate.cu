// accumulate: the sums and weights of the clusters, as fixed-point integers.
//
// Integers add exactly in any order, so atomics are harmless and moving only the rows whose label changed gives the very
// bits of a full pass, with no drift. y = w x has the exponent of its feature; a weight has one exponent.
//
//   in    x (n, d) T; weight (n) float64 or null; fresh (n) int32: the labels of this iteration;
//         scale (d) = 2^e_j; wscale = 2^e_w; two_bits = 2^bits; halted (1)
//   inout label (n) int32: those of the iteration before (< 0: the row is in no cluster yet), fresh afterwards;
//         sums, sums_low (k, d); weights, weights_low (k): 64-bit integers. sums_low is null unless T is double;
//         without weights `weights` counts rows and weights_low is null
//         tally: its `moved` grows by the rows whose label changed
//   launch  any number of blocks of SUM_THREADS. lanes: threads a row, a power of two up to 32
//           move_rows: SUM_THREADS * 8 bytes of dynamic shared memory
//           add_all_rows: 8 bytes for each integer of the sums, where that fits; for rows that are in no cluster yet
//   traffic  8 n bytes of labels; X of the rows that are added, (2 d + 2) 8-byte atomics for each (in L2; for
//           add_all_rows in shared memory)
//   instances  add_all_rows<T>, move_rows<T>, T = float, double, Float16, Bfloat16
#include "warp.cuh"

constexpr int SUM_THREADS = 256;

// Rows whose label changed leave their old cluster and join the new one. A warp looks at 32 rows, then works through those
// that changed.
// 4 blocks: left alone the compiler spills on some architectures to hold more.
template <class T> __global__ void __launch_bounds__(SUM_THREADS, 4)
move_rows(const T* __restrict__ x, const double* __restrict__ weight, const int* __restrict__ fresh, int* __restrict__ label,
          const double* __restrict__ scale, double wscale, double two_bits, u64* sums, u64* sums_low, u64* weights, u64* weights_low,
          Tally* tally, const int* __restrict__ halted, long long n, int d, int lanes) {
  if (*halted) return;
  DYNAMIC_SHARED(long long, smem);
  long long* queue = smem + threadIdx.x / 32 * 32;
  const int lane = threadIdx.x % 32, part = lane % lanes;
  const long long step = (long long)gridDim.x * SUM_THREADS;
  for (long long r0 = (long long)blockIdx.x * SUM_THREADS + threadIdx.x / 32 * 32; r0 < n; r0 += step) {
    const long long r = r0 + lane;
    const bool changed = r < n && fresh[r] != label[r];
    const unsigned mask = __ballot_sync(ALL_LANES, changed);
    if (changed) queue[__popc(mask & ((1u << lane) - 1))] = r;
    __syncwarp();                                   // the queue is whole before another lane reads it
    const int m = __popc(mask);
    if (lane == 0) add_global(&tally->moved, m);
    for (int q = lane / lanes; q < m; q += 32 / lanes) {
      const long long i = queue[q];
      const size_t to = fresh[i];
      const int from = label[i];
      for (int j = part; j < d; j += lanes) {
        const double y = weighted(weight, i, to_f64(x[i * d + j]));
        const long long high = fixed_high(y, scale[j]);
        add_global(&sums[to * d + j], high);
        if (from >= 0) add_global(&sums[(size_t)from * d + j], -high);
        if (sums_low) {
          const long long low = fixed_low(y, scale[j], high, two_bits);
          add_global(&sums_low[to * d + j], low);
          if (from >= 0) add_global(&sums_low[(size_t)from * d + j], -low);
        }
      }
      if (part == 0) {
        const long long high = weight ? fixed_high(weight[i], wscale) : 1;
        add_global(&weights[to], high);
        if (from >= 0) add_global(&weights[from], -high);
        if (weight) {
          const long long low = fixed_low(weight[i], wscale, high, two_bits);
          add_global(&weights_low[to], low);
          if (from >= 0) add_global(&weights_low[from], -low);
        }
      }
    }
    __syncwarp();                                   // all lanes are done with the queue and the old labels before either is overwritten
    if (changed) label[r] = fresh[r];
  }
}

// All rows, in shared memory first. Low words of all integers, then their high words.
template <class T> __global__ void __launch_bounds__(SUM_THREADS)
add_all_rows(const T* __restrict__ x, const double* __restrict__ weight, const int* __restrict__ fresh, int* __restrict__ label,
             const double* __restrict__ scale, double wscale, double two_bits, u64* sums, u64* sums_low, u64* weights, u64* weights_low,
             Tally* tally, const int* __restrict__ halted, long long n, int d, int k, int lanes) {
  if (*halted) return;
  if (blockIdx.x == 0 && threadIdx.x == 0) tally->moved += n;
  DYNAMIC_SHARED(unsigned, low);
  const int cells = k * d, lows = cells, wts = sums_low ? 2 * cells : cells, wts_low = wts + k, all = weight ? wts_low + k : wts_low;
  unsigned* high = low + all;
  for (int i = threadIdx.x; i < 2 * all; i += SUM_THREADS) low[i] = 0;
  __syncthreads();                                  // every cell is 0 before any thread adds to it
  const int part = threadIdx.x % lanes, rows = SUM_THREADS / lanes;
  for (long long i = (long long)blockIdx.x * rows + threadIdx.x / lanes; i < n; i += (long long)gridDim.x * rows) {
    const int to = fresh[i];
    for (int j = part; j < d; j += lanes) {
      const double y = weighted(weight, i, to_f64(x[i * d + j]));
      const long long h = fixed_high(y, scale[j]);
      const int cell = to * d + j;
      add_shared(&low[cell], &high[cell], h);
      if (sums_low) add_shared(&low[lows + cell], &high[lows + cell], fixed_low(y, scale[j], h, two_bits));
    }
    if (part == 0) {
      label[i] = to;
      const long long h = weight ? fixed_high(weight[i], wscale) : 1;
      add_shared(&low[wts + to], &high[wts + to], h);
      if (weight) add_shared(&low[wts_low + to], &high[wts_low + to], fixed_low(weight[i], wscale, h, two_bits));
    }
  }
  __syncthreads();                                  // all rows are added before the cells are read
  for (int i = threadIdx.x; i < all; i += SUM_THREADS) {
    u64* out = i < cells ? sums + i : i < wts ? sums_low + (i - lows) : i < wts_low ? weights + (i - wts) : weights_low + (i - wts_low);
    add_global(out, (long long)((u64)high[i] << 32 | low[i]));
  }
}
