// resolve: the rows that the pass on tensor cores could not certify: float32 scores, most of which certify, then canonical distances.
//
//   in    x (n, d) T; centers (k, d), shift (>= d) Computed<T>; cs (>= k, ldc), half (>= k) float32, bound (3): from recenter.cu;
//         list, count from assign_sm80.cu; halted (1): not 0 if the loop has stopped, then nothing is done
//   inout tally: its `rechecked` grows by the rows that float32 leaves open
//   out   label (n) int32, of the rows in the list
//   launch  any number of blocks of TILE_THREADS; no dynamic shared memory
//   traffic per row in the list: d T (from cache again for every 64 centers); per 64 of them the centers from L2
//   flops   2 k d in float32, per row in the list; for rows that are still open as recheck.cu
//   instances  resolve<T>, T = float, double, Float16, Bfloat16
#include "tile.cuh"

template <class T> __global__ void __launch_bounds__(TILE_THREADS, 2)
resolve(const T* __restrict__ x, const Computed<T>* __restrict__ centers, const Computed<T>* __restrict__ shift,
        const float* __restrict__ cs, const float* __restrict__ half, const float* __restrict__ bound, const Uncertain* __restrict__ list,
        const u64* __restrict__ count, int* __restrict__ label, Tally* tally, const int* __restrict__ halted, int d, int ldc, int k) {
  if (*halted) return;
  __shared__ TileMemory memory;
  __shared__ Uncertain open[TILE];
  const long long total = (long long)*count;
  int rechecked = 0;
  for (long long first = (long long)blockIdx.x * TILE; first < total; first += (long long)gridDim.x * TILE) {
    const T* row = x + list[min(first + threadIdx.x / 4, total - 1)].row * d;
    score_tile(row, shift, cs, half, memory, d, ldc, k, [&](int r, float best, float second, int arg, float x2) {
      Uncertain u = {-1, best, two_errors(bound, x2, d)};
      if (first + r < total) {                      // behind the last row it is taken again, for nobody
        const long long i = list[first + r].row;
        label[i] = arg;
        if (!above(second, best, u.gap)) u.row = i;
      }
      open[r] = u;
    });
    rechecked += recheck_tile(x, centers, shift, cs, half, open, label, d, ldc, k);
  }
  if (threadIdx.x % 32 == 0) add_global(&tally->rechecked, rechecked);
}
