// prune: the labels of all rows, of which bounds prove most unchanged: only the others are read.
//
// In place of assign, recheck or their like, once few rows move. A block looks at 256 rows at a time, a thread a row: a row that is
// proved keeps its label and has its bounds moved; others take places in a queue of the block. As soon as it holds 64 they are scored
// against all centers (tile.cuh), rechecked where they are open, and get new bounds. So a block scores one tile at most that is not
// full, whatever rows are open, and no list goes through memory.
//
//   in    x (n, d) T; centers (k, d), shift (>= d) Computed<T>; cs (>= k, ldc), half (>= k), bound (3): from recenter.cu, as
//         drift (k) float32 and motion (3): the second is the bits of the largest drift, the third is not 0 if a center is hidden, as
//         equal ones are;
//         before (n) int32: the labels of the iteration before; halted (1)
//   inout bounds (n), all NaN the first time; tally: `rechecked` grows by the rows that float32 leaves open, `open` by those scored
//   out   label (n) int32
//   launch  any number of blocks of TILE_THREADS, as few as fill the card; no dynamic shared memory
//   traffic 24 n bytes of labels and bounds; per open row: d T (from cache again for every 64 centers); per 64 of them the centers
//   flops   2 k d in float32, per open row
//   instances  prune<T>, T = float, double, Float16, Bfloat16
#include "bounds.cuh"
#include "tile.cuh"

template <class T> __global__ void __launch_bounds__(TILE_THREADS, 2)
prune(const T* __restrict__ x, const Computed<T>* __restrict__ centers, const Computed<T>* __restrict__ shift,
      const float* __restrict__ cs, const float* __restrict__ half, const float* __restrict__ bound,
      const float* __restrict__ drift, const unsigned* __restrict__ motion, const int* __restrict__ before, Bounds* bounds,
      int* __restrict__ label, Tally* tally, const int* __restrict__ halted, long long n, int d, int ldc, int k) {
  if (*halted) return;
  __shared__ TileMemory memory;
  __shared__ Uncertain open[TILE];
  __shared__ long long queue[TILE + TILE_THREADS];
  __shared__ int found[TILE_THREADS / 32];
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const Bounds nothing = {__int_as_float(0x7fffffff), __int_as_float(0x7fffffff)};
  const float most = __uint_as_float(motion[1]);
  const bool is_hidden = motion[2] != 0;            // it may part from an own center, to which it is as near: nothing is known of it
  int waiting = 0, rechecked = 0;                   // rows in the queue; rows that this warp has rechecked
  long long scored = 0, i0 = (long long)blockIdx.x * TILE_THREADS;
  while (true) {
    for (; waiting < TILE && i0 < n; i0 += (long long)gridDim.x * TILE_THREADS) {
      const long long i = i0 + tid;
      bool is_open = i < n;
      if (is_open && proves(bounds[i])) {
        const int own = before[i];
        const Bounds b = moved_by(bounds[i], drift[own], most);
        if (proves(b)) { bounds[i] = b; label[i] = own; is_open = false; }
      }
      const unsigned mask = __ballot_sync(ALL_LANES, is_open);
      if (lane == 0) found[warp] = __popc(mask);
      __syncthreads();                              // all warps have counted
      int at = waiting + __popc(mask & ((1u << lane) - 1));
      for (int w = 0; w < TILE_THREADS / 32; w++) { if (w < warp) at += found[w]; waiting += found[w]; }
      if (is_open) queue[at] = i;
      __syncthreads();                              // the queue is whole before it is used, and counts are read before the next ones
    }
    if (waiting == 0) break;
    const int m = min(waiting, TILE);
    waiting -= m;                                   // the last m of the queue; behind the last of them it is taken again, for nobody
    score_tile(x + queue[waiting + min(tid / 4, m - 1)] * d, shift, cs, half, memory, d, ldc, k,
               [&](int r, float best, float second, int arg, float x2) {
      Uncertain u = {-1, best, two_errors(bound, x2, d)};
      if (r < m) {
        const long long i = queue[waiting + r];
        const bool is_certain = above(second, best, u.gap);
        label[i] = arg;
        bounds[i] = is_certain && !is_hidden ? bounds_of(best, second, x2, u.gap, d) : nothing;
        if (!is_certain) u.row = i;
      }
      open[r] = u;
    });
    rechecked += recheck_tile(x, centers, shift, cs, half, open, label, d, ldc, k);
    scored += m;
  }
  if (lane == 0) add_global(&tally->rechecked, rechecked);
  if (tid == 0) add_global(&tally->open, scored);
}
