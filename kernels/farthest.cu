// farthest: the rows that are farthest from their own center, for the clusters that are empty.
//
// One row a call, in the order of relocation: larger distance first, then lower index. Call number `at` takes the first row
// after found[at - 1], so a list of m rows is 2 m launches and no visit to the host in between.
//
//   in    own (n) float64 of inertia.cu; weight (n) float64 or null: rows of weight 0 do not count
//   inout found (m): those of the calls before; found[at] is written; row -1: there is no such row
//   out   best (blocks): scratch, the first row of each block of farthest_of_block
//   launch  farthest_of_block: `blocks` blocks of FAR_THREADS; farthest_of_all: one block of FAR_THREADS
//   traffic 8 n bytes (16 n with weights) a call
//   instances  farthest_of_block, farthest_of_all
#include "warp.cuh"

constexpr int FAR_THREADS = 256;

struct Far { double own; long long row; };

// Whether a comes before b in the order of relocation; row -1 is behind all others.
__device__ __forceinline__ bool before(const Far& a, const Far& b) {
  if (a.row < 0 || b.row < 0) return b.row < 0 && a.row >= 0;
  return a.own > b.own || (a.own == b.own && a.row < b.row);
}
// The first of the block's candidates, known to thread 0.
__device__ __forceinline__ Far first_of_block(Far mine) {
  __shared__ Far first[FAR_THREADS];
  first[threadIdx.x] = mine;
  __syncthreads();                                  // all candidates are there
  for (int s = FAR_THREADS / 2; s; s >>= 1) {
    if (int(threadIdx.x) < s && before(first[threadIdx.x + s], first[threadIdx.x])) first[threadIdx.x] = first[threadIdx.x + s];
    __syncthreads();                                // this level is done before the next reads it
  }
  return first[0];
}

extern "C" __global__ void __launch_bounds__(FAR_THREADS)
farthest_of_block(const double* __restrict__ own, const double* __restrict__ weight, const Far* __restrict__ found, int at,
                  Far* __restrict__ best, long long n) {
  const Far nobody = {0.0, -1};
  Far mine = nobody;
  if (at == 0 || found[at - 1].row >= 0)
    for (long long i = (long long)blockIdx.x * FAR_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * FAR_THREADS) {
      const Far f = {own[i], i};
      if ((!weight || weight[i] > 0.0) && (at == 0 || before(found[at - 1], f)) && before(f, mine)) mine = f;
    }
  mine = first_of_block(mine);
  if (threadIdx.x == 0) best[blockIdx.x] = mine;
}

extern "C" __global__ void __launch_bounds__(FAR_THREADS)
farthest_of_all(const Far* __restrict__ best, int blocks, Far* __restrict__ found, int at) {
  Far mine = {0.0, -1};
  for (int b = threadIdx.x; b < blocks; b += FAR_THREADS)
    if (before(best[b], mine)) mine = best[b];
  mine = first_of_block(mine);
  if (threadIdx.x == 0) found[at] = mine;
}
