// recenter: integer sums -> new centers, and everything that the next assignment needs of them, in one launch. No host in the loop.
//
//   center = ((hi + lo 2^-bits) / W) 2^-e_j rounded to T      W = (hi + lo 2^-bits) 2^-e_w, each operation rounded
//
//   recenter         one block of CENTER_THREADS a center; the block that arrives last finishes the iteration
//                    in  sums, sums_low (k, d), weights, weights_low (k) as accumulate.cu leaves them; inverse_scale (d) = 2^-e_j;
//                        inverse_wscale = 2^-e_w; inverse_bits = 2^-bits; before (k, d) T; threshold, relocated
//                    out after (k, d) T; next_shift (ldc) T: the mean of the centers before, for the centers after these: near the
//                        data, so that scores stay small. It decides no bits, only how many rows are rechecked;
//                        moved_sq (k) float64: |after - before|^2 in feature order (then overwritten); drift (k) float32: its root,
//                        rounded up; and what publish_centers gives
//                        record (1), and state (1): 0 go on, 1 no label changed, 2 shift_sq <= threshold, 3 a cluster is empty
//                        (not if `relocated`): its outputs mean nothing and the host fills it
//                    inout tally: `empty` grows by the clusters without weight, `changed` by the centers that are not those
//                        before; back to 0 in the end
//   publish_centers  one block of CENTER_THREADS a center: cs, half, hash of given centers, with shift (ldc) T taken off
//   the last block   half = +inf for all but the lowest of equal centers, which alone can win; bound (3) of assign.cu from the
//   of both          largest |c'| and exact.score_bound's constants. certify = 0: a bound that certifies everything
//                    (precision="float32"); packed, how: where not null, all of pack.cuh
//   between launches cmax (2) has 0, then the bits of the largest |c'|; motion (3) 0, the bits of the largest drift, and whether a
//   center is hidden because a lower one is equal; ticket (1) is 0, heads (k) is -1;
//   links (k), hash (k) are scratch
//   state is not 0 if the loop has stopped: then nothing is done, the host sees it late
//   traffic (8 or 16) k d bytes of sums, 4 k d T, 4 k ldc; up to 4 k d packed
//   instances  recenter, publish_centers<T>, T = float, double
#include "bounds.cuh"
#include "pack.cuh"
#include "warp.cuh"

#ifndef RECENTER_THREADS
#define RECENTER_THREADS 128
#endif
constexpr int CENTER_THREADS = RECENTER_THREADS, MEAN_WIDTH = 8;      // features that a block takes the mean of at a time: 32 bytes of float32

struct Record { double shift_sq; u64 moved, rechecked, empty, changed; long long state; u64 open; };

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

// The mean of all centers; each block takes MEAN_WIDTH features at a time.
template <class T> __device__ __forceinline__ void mean_of(const T* __restrict__ c, T* __restrict__ mean, double* scratch, int d, int k) {
  for (int j0 = blockIdx.x * MEAN_WIDTH; j0 < d; j0 += gridDim.x * MEAN_WIDTH) {
    const int j = j0 + threadIdx.x % MEAN_WIDTH;
    double sum = 0.0;
    if (j < d) for (int i = threadIdx.x / MEAN_WIDTH; i < k; i += CENTER_THREADS / MEAN_WIDTH) sum += to_f64(c[(size_t)i * d + j]);
    __syncthreads();                                // what was in scratch has been read
    scratch[threadIdx.x] = sum;
    __syncthreads();                                // all parts are there
    if (threadIdx.x < MEAN_WIDTH && j < d) {
      for (int i = threadIdx.x + MEAN_WIDTH; i < CENTER_THREADS; i += MEAN_WIDTH) sum += scratch[i];
      mean[j] = round_to<T>(sum / k);
    }
  }
  __syncthreads();                                  // they are read before scratch is used again
}

// c', packed or not, half norm and hash of this block's center. No __restrict__ on what the last block reads, or on c: recenter wrote it.
template <class T>
__device__ __forceinline__ void publish(const T* c, const T* __restrict__ shift, float* __restrict__ cs, float* half, u64* hash, int* heads,
                                        int* links, unsigned* cmax, char* packed, const Packing* how, double* scratch, int d, int ldc, int k) {
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
  const u64 word = block_sum(mixed, reinterpret_cast<u64*>(scratch));      // its barriers: the center is whole before it is packed
  if (packed) pack(packed, how, blockIdx.x, cs + (size_t)blockIdx.x * ldc, d);
  if (threadIdx.x == 0) {
    half[blockIdx.x] = (float)(0.5 * norm_sq);
    hash[blockIdx.x] = word;
    links[blockIdx.x] = atomicExch(&heads[word % k], (int)blockIdx.x);      // the atomic: centers of one chain arrive at once
    // Bits of floats order like the floats, and a NaN is above infinity, so it is never lost. 1.0000002: c' is rounded.
    // The atomic: one value for all blocks.
    atomicMax(cmax, __float_as_uint(__double2float_ru(sqrt(norm_sq) * 1.0000002)) & 0x7fffffffu);
  }
}

// Whether this block is the last of the grid to come here: then it sees what the others have written before their last
// barrier, and what their threads 0 have written at all.
__device__ __forceinline__ bool arrives_last(unsigned* ticket) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    __threadfence();                                // what was written comes before the ticket
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;  // the atomic: blocks arrive at once
    __threadfence();                                // what they wrote before their tickets is read after this one
    if (last) *ticket = 0;
  }
  __syncthreads();                                  // all threads know it
  return last;
}

// By the last block: whether a center is hidden. Centers of equal hash % k are linked in a chain, in no order.
// chain, canonical_share, tiny: what exact.score_bound multiplies with the largest norm; see there, also for 2^55.
template <class T>
__device__ __forceinline__ bool finish_centers(const T* c, const u64* hash, float* half, int* heads, const int* links, unsigned* cmax,
                                               double chain, double canonical_share, double tiny, int certify, float* bound, int d, int k) {
  bool is_hidden = false;
  for (int mine = threadIdx.x; mine < k; mine += CENTER_THREADS) {
    bool seen = false;
    for (int i = heads[hash[mine] % k]; i >= 0 && !seen; i = links[i]) {
      seen = i < mine && hash[i] == hash[mine];
      // compared in float64, where no subnormal is taken for zero
      for (int j = 0; seen && j < d; j++) seen = to_f64(c[(size_t)i * d + j]) == to_f64(c[(size_t)mine * d + j]);
    }
    if (seen) { half[mine] = INFINITY_F; is_hidden = true; }
  }
  is_hidden = __syncthreads_or(is_hidden);          // the chains are walked before they are cut
  for (int i = threadIdx.x; i < k; i += CENTER_THREADS) heads[i] = -1;
  if (threadIdx.x) return is_hidden;
  const double norm = to_f64(__uint_as_float(*cmax));
  const bool usable = norm <= 36028797018963968.0;
  bound[0] = !certify ? -INFINITY_F : usable ? __double2float_ru(chain * (norm * norm / 2.0) + canonical_share * norm * norm + tiny * (1.0 + norm)) : INFINITY_F;
  bound[1] = certify && usable ? __double2float_ru(chain * norm + tiny) : 0.f;
  bound[2] = certify && usable ? __double2float_ru(canonical_share) : 0.f;
  cmax[1] = *cmax;
  *cmax = 0;
  return is_hidden;
}

template <class T> __global__ void __launch_bounds__(CENTER_THREADS)
publish_centers(const T* __restrict__ c, const T* __restrict__ shift, float* __restrict__ cs, float* half, u64* hash, int* heads, int* links,
                unsigned* cmax, double chain, double canonical_share, double tiny, int certify, float* bound, unsigned* ticket,
                char* packed, const Packing* __restrict__ how, int d, int ldc, int k) {
  __shared__ double scratch[CENTER_THREADS];
  publish(c + (size_t)blockIdx.x * d, shift, cs, half, hash, heads, links, cmax, packed, how, scratch, d, ldc, k);
  if (!arrives_last(ticket)) return;
  finish_centers(c, hash, half, heads, links, cmax, chain, canonical_share, tiny, certify, bound, d, k);
  if (packed) finish_packing(packed, how, half, cmax + 1, k);
}

// By the last block. moved_sq is summed by a binary tree over neighbours, in place: v[j] = v[2j] + v[2j + 1] until one is left, an
// odd one out plus 0. Padding with zeros to a power of two gives the same sums.
__device__ __forceinline__ void finish_iteration(double* moved_sq, Tally* tally, double threshold, int relocated, Record* record, int* state, int k) {
  for (int m = k; m > 1; m = m / 2 + m % 2) {
    for (int j0 = 0; 2ll * j0 < m; j0 += CENTER_THREADS) {
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
    const Record r = {moved_sq[0], t.moved, t.rechecked, t.empty, t.changed, next, t.open};
    *record = r;
    const bool again = next == 3;                   // the same iteration goes on after the relocation
    tally->moved = again ? t.moved : 0;
    tally->rechecked = again ? t.rechecked : 0;
    tally->open = again ? t.open : 0;
    tally->empty = tally->changed = 0;
    *state = next;
  }
}

__device__ __forceinline__ double cluster_weight(const long long* weights, const long long* weights_low, int c, double inverse_bits, double inverse_wscale) {
  return __dmul_rn(mantissa(weights[c], weights_low ? weights_low[c] : 0, inverse_bits), inverse_wscale);
}

// 8 blocks: left alone the compiler spills on some architectures to hold more.
template <class T> __global__ void __launch_bounds__(CENTER_THREADS, 8)
recenter(const long long* __restrict__ sums, const long long* __restrict__ sums_low, const long long* __restrict__ weights,
         const long long* __restrict__ weights_low, const double* __restrict__ inverse_scale, double inverse_bits, double inverse_wscale,
         const T* __restrict__ before, T* after, T* __restrict__ next_shift, const T* __restrict__ shift, float* __restrict__ cs, float* half,
         u64* hash, int* heads, int* links, unsigned* cmax, double chain, double canonical_share, double tiny, int certify, float* bound,
         unsigned* ticket, char* packed, const Packing* __restrict__ how, float* drift, unsigned* motion, double* moved_sq, Tally* tally, double threshold,
         int relocated, Record* record, int* state, int d, int ldc, int k) {
  if (*state) return;
  __shared__ double scratch[CENTER_THREADS];
  mean_of(before, next_shift, scratch, d, k);
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
  changed = __syncthreads_or(changed);              // not sq: squares may vanish
  if (threadIdx.x == 0) {
    const float by = changed ? drift_of(sq) : 0.f;
    moved_sq[blockIdx.x] = sq;
    drift[blockIdx.x] = by;
    atomicMax(motion, __float_as_uint(by));         // the atomic: one value for all blocks
    if (changed) add_global(&tally->changed, 1);
  }
  publish(after + at, shift, cs, half, hash, heads, links, cmax, packed, how, scratch, d, ldc, k);      // each thread reads what it wrote
  if (!arrives_last(ticket)) return;
  const bool is_hidden = finish_centers(after, hash, half, heads, links, cmax, chain, canonical_share, tiny, certify, bound, d, k);
  if (threadIdx.x == 0) { motion[1] = *motion; motion[2] = is_hidden; *motion = 0; }
  if (packed) finish_packing(packed, how, half, cmax + 1, k);
  finish_iteration(moved_sq, tally, threshold, relocated, record, state, k);
}
