// recenter: integer sums -> new centers, and everything that the next assignment needs of them. No host in the loop.
//
//   center = ((hi + lo 2^-bits) / W) 2^-e_j rounded to T      W = (hi + lo 2^-bits) 2^-e_w, each operation rounded
//
//   recenter         one block of CENTER_THREADS a center
//                    in  sums, sums_low (k, d), weights, weights_low (k) as accumulate.cu leaves them; inverse_scale (d) = 2^-e_j;
//                        inverse_wscale = 2^-e_w; inverse_bits = 2^-bits; before (k, d) T
//                    out after (k, d) T; moved_sq (k) float64: |after - before|^2 in feature order; and what publish gives
//                    inout tally: `empty` grows by the clusters without weight, `changed` by the centers that are not those before
//   mean_center      one block of MEAN_SIDE^2 threads for each MEAN_SIDE features: shift (ldc) T, the mean of the centers before: near
//                    the data, so that scores stay small. It decides no bits, only how many rows are rechecked
//   publish_centers  one block of CENTER_THREADS a center: cs, half, hash of given centers; cmax grows to the largest |c'|
//   hide_duplicates  any number of blocks of CENTER_THREADS: half = +inf for all but the lowest of equal centers, which alone can win
//   bound_terms      one thread: bound[3] of assign.cu from cmax and exact.score_bound's constants; cmax back to 0. certify = 0: a
//                    bound that certifies everything (precision="float32")
//   finish_iteration one block of TREE_THREADS: record (1), and state (1): 0 go on, 1 no label changed, 2 shift_sq <= threshold,
//                    3 a cluster is empty (not if `relocated`): its outputs mean nothing and the host fills it. tally back to 0
//   halted (1): not 0 if the loop has stopped (it is `state`), then nothing is done: the host sees the state late
//   traffic (8 or 16) k d bytes of sums, 3 k d T, 4 k ldc; hide_duplicates: 4 k^2 bytes of hashes from L2
//   instances  mean_center, recenter, publish_centers, hide_duplicates<T>, T = float, double; bound_terms, finish_iteration
#include "warp.cuh"

constexpr int CENTER_THREADS = 128;
#ifndef RECENTER_TREE
#define RECENTER_TREE 1024
#endif
constexpr int TREE_THREADS = RECENTER_TREE, MEAN_SIDE = 32;

template <class T> __global__ void __launch_bounds__(MEAN_SIDE * MEAN_SIDE)
mean_center(const T* __restrict__ c, T* __restrict__ shift, const int* __restrict__ halted, int d, int k) {
  if (*halted) return;
  __shared__ double parts[MEAN_SIDE][MEAN_SIDE + 1];
  const int x = threadIdx.x % MEAN_SIDE, y = threadIdx.x / MEAN_SIDE, j = blockIdx.x * MEAN_SIDE + x;
  double sum = 0.0;
  if (j < d) for (int i = y; i < k; i += MEAN_SIDE) sum += to_f64(c[(size_t)i * d + j]);
  parts[y][x] = sum;
  __syncthreads();                                  // all parts are there
  if (y == 0 && j < d) {
    for (int i = 1; i < MEAN_SIDE; i++) sum += parts[i][x];
    shift[j] = round_to<T>(sum / k);
  }
}

// Sum over the block, in any order: only for values that decide no bits. scratch: CENTER_THREADS values in shared memory.
template <class V> __device__ __forceinline__ V block_sum(V v, V* scratch) {
  __syncthreads();                                  // what was in scratch has been read
  scratch[threadIdx.x] = v;
  __syncthreads();                                  // all values are there
  for (int s = CENTER_THREADS / 2; s; s >>= 1) {
    if (int(threadIdx.x) < s) scratch[threadIdx.x] += scratch[threadIdx.x + s];
    __syncthreads();                                // this level is summed before the next reads it
  }
  return scratch[0];
}

// c', half norm and hash of this block's center. No __restrict__ on c: recenter has just written it.
template <class T>
__device__ __forceinline__ void publish(const T* c, const T* __restrict__ shift, float* __restrict__ cs, float* __restrict__ half,
                                        u64* __restrict__ hash, unsigned* cmax, double* scratch, int d, int ldc) {
  double part = 0.0;
  u64 mixed = 0;
  for (int j = threadIdx.x; j < d; j += CENTER_THREADS) {
    const float v = (float)(c[j] - shift[j]);
    cs[(size_t)blockIdx.x * ldc + j] = v;
    part += (double)v * v;
    u64 bits = bits_of(to_f64(c[j])) + (u64)j * 0x9e3779b97f4a7c15ull;      // a sum of mixed words: any order
    bits = (bits ^ bits >> 31) * 0xbf58476d1ce4e5b9ull;
    mixed += bits ^ bits >> 29;
  }
  const double norm_sq = block_sum(part, scratch);
  const u64 word = block_sum(mixed, reinterpret_cast<u64*>(scratch));
  if (threadIdx.x == 0) {
    half[blockIdx.x] = (float)(0.5 * norm_sq);
    hash[blockIdx.x] = word;
    // Bits of floats order like the floats, and a NaN is above infinity, so it is never lost. 1.0000002: c' is rounded.
    // The atomic: one value for all blocks.
    atomicMax(cmax, __float_as_uint(__double2float_ru(sqrt(norm_sq) * 1.0000002)) & 0x7fffffffu);
  }
}

template <class T> __global__ void __launch_bounds__(CENTER_THREADS)
publish_centers(const T* __restrict__ c, const T* __restrict__ shift, float* __restrict__ cs, float* __restrict__ half,
                u64* __restrict__ hash, unsigned* cmax, int d, int ldc) {
  __shared__ double scratch[CENTER_THREADS];
  publish(c + (size_t)blockIdx.x * d, shift, cs, half, hash, cmax, scratch, d, ldc);
}

__device__ __forceinline__ double cluster_weight(const long long* weights, const long long* weights_low, int c, double inverse_bits, double inverse_wscale) {
  return __dmul_rn(mantissa(weights[c], weights_low ? weights_low[c] : 0, inverse_bits), inverse_wscale);
}

template <class T> __global__ void __launch_bounds__(CENTER_THREADS)
recenter(const long long* __restrict__ sums, const long long* __restrict__ sums_low, const long long* __restrict__ weights,
         const long long* __restrict__ weights_low, const double* __restrict__ inverse_scale, double inverse_bits, double inverse_wscale,
         const T* __restrict__ before, T* after, const T* __restrict__ shift, float* __restrict__ cs, float* __restrict__ half,
         u64* __restrict__ hash, unsigned* cmax, double* __restrict__ moved_sq, Tally* tally, const int* __restrict__ halted, int d, int ldc, int k) {
  if (*halted) return;
  __shared__ double scratch[CENTER_THREADS];
  const size_t at = (size_t)blockIdx.x * d;
  int from = blockIdx.x;
  double w = cluster_weight(weights, weights_low, from, inverse_bits, inverse_wscale);
  if (w == 0.0) {                                   // still empty: to the heaviest cluster's center (rare, so every thread looks)
    if (threadIdx.x == 0) add_global(&tally->empty, 1);
    for (int i = 0; i < k; i++) {
      const double v = cluster_weight(weights, weights_low, i, inverse_bits, inverse_wscale);
      if (v > w) { w = v; from = i; }
    }
  }
  double sq = 0.0;
  bool changed = false;
  for (int j0 = 0; j0 < d; j0 += CENTER_THREADS) {
    const int j = j0 + threadIdx.x;
    if (j < d) {
      const size_t cell = (size_t)from * d + j;
      const double m = mantissa(sums[cell], sums_low ? sums_low[cell] : 0, inverse_bits);
      const T v = round_to<T>(__dmul_rn(__ddiv_rn(m, w), inverse_scale[j]));
      after[at + j] = v;
      const double t = __dsub_rn(to_f64(v), to_f64(before[at + j]));
      changed |= t != 0.0;
      scratch[threadIdx.x] = __dmul_rn(t, t);
    }
    __syncthreads();                                // all squares are there before thread 0 adds them in order
    if (threadIdx.x == 0) for (int i = 0; i < min(CENTER_THREADS, d - j0); i++) sq = __dadd_rn(sq, scratch[i]);
    __syncthreads();                                // they are added before the next ones are written
  }
  if (threadIdx.x == 0) moved_sq[blockIdx.x] = sq;
  if (__syncthreads_or(changed) && threadIdx.x == 0) add_global(&tally->changed, 1);      // not sq: squares may vanish
  publish(after + at, shift, cs, half, hash, cmax, scratch, d, ldc);      // each thread reads what it wrote
}

template <class T> __global__ void __launch_bounds__(CENTER_THREADS)
hide_duplicates(const T* __restrict__ c, const u64* __restrict__ hash, float* __restrict__ half, const int* __restrict__ halted, int d, int k) {
  if (*halted) return;
  const int warps = gridDim.x * (CENTER_THREADS / 32);
  for (int mine = blockIdx.x * (CENTER_THREADS / 32) + threadIdx.x / 32; mine < k; mine += warps) {
    bool seen = false;
    for (int i0 = 0; i0 < mine && !seen; i0 += 32) {
      const int i = i0 + threadIdx.x % 32;
      bool same = i < mine && hash[i] == hash[mine];
      // compared in float64, where no subnormal is taken for zero
      for (int j = 0; same && j < d; j++) same = to_f64(c[(size_t)i * d + j]) == to_f64(c[(size_t)mine * d + j]);
      seen = __any_sync(ALL_LANES, same);
    }
    if (seen && threadIdx.x % 32 == 0) half[mine] = INFINITY_F;
  }
}

// chain, canonical, tiny: what exact.score_bound multiplies with the largest norm; see there, also for 2^55.
extern "C" __global__ void bound_terms(unsigned* cmax, double chain, double canonical_share, double tiny, int certify, float* bound,
                                       const int* __restrict__ halted) {
  if (*halted) return;
  const double c = to_f64(__uint_as_float(*cmax));
  const bool usable = c <= 36028797018963968.0;
  bound[0] = !certify ? -INFINITY_F : usable ? __double2float_ru(chain * (c * c / 2.0) + canonical_share * c * c + tiny * (1.0 + c)) : INFINITY_F;
  bound[1] = certify && usable ? __double2float_ru(chain * c + tiny) : 0.f;
  bound[2] = certify && usable ? __double2float_ru(canonical_share) : 0.f;
  *cmax = 0;
}

// A binary tree over neighbours, in place: v[j] = v[2j] + v[2j + 1] until one is left, an odd one out plus 0. Padding with
// zeros to a power of two gives the same sums. moved_sq is overwritten.
struct Record { double shift_sq; u64 moved, rechecked, empty, changed; long long state; };

extern "C" __global__ void __launch_bounds__(TREE_THREADS)
finish_iteration(double* moved_sq, Tally* tally, double threshold, int relocated, Record* record, int* state, int k) {
  const bool halted = *state != 0;
  __syncthreads();                                  // all have read the state before thread 0 changes it
  if (halted) return;
  for (int m = k; m > 1; m = m / 2 + m % 2) {
    for (int j0 = 0; 2ll * j0 < m; j0 += TREE_THREADS) {
      const long long j = j0 + (long long)threadIdx.x;
      double v = 0.0;
      if (2 * j < m) v = 2 * j + 1 < m ? __dadd_rn(moved_sq[2 * j], moved_sq[2 * j + 1]) : moved_sq[2 * j];
      __syncthreads();                              // all have read their pair before one of them is overwritten
      if (2 * j < m) moved_sq[j] = v;
      __syncthreads();                              // the level is written before the next one reads it
    }
  }
  if (threadIdx.x == 0) {
    const Tally t = *tally;
    const int next = t.empty && !relocated ? 3 : t.moved == 0 ? 1 : moved_sq[0] <= threshold ? 2 : 0;
    const Record r = {moved_sq[0], t.moved, t.rechecked, t.empty, t.changed, next};
    *record = r;
    const bool again = next == 3;                   // the same iteration goes on after the relocation
    tally->moved = again ? t.moved : 0;
    tally->rechecked = again ? t.rechecked : 0;
    tally->empty = tally->changed = 0;
    *state = next;
  }
}
