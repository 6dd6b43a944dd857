// recheck: the labels that the fast pass could not certify.
//
// One warp a row. Candidates are the centers whose score is within 2 E of the best one; among them the canonical distance
// decides, the lowest index on ties. The order of the list does not matter, and its length stays on the device.
//
//   in    x (n, d) T; centers (k, d), shift (ldc) Computed<T>; cs (kp, ldc), half (kp) float32; list, count from assign.cu; halted (1)
//   inout tally: its `rechecked` grows by the length of the list
//   out   label (n) int32, of the rows in the list
//   launch  any number of blocks of RECHECK_THREADS; no shared memory
//   traffic per row in the list: the row, k d * 4 bytes of cs (L2), and d T for each candidate
//   flops   2 k d in float32 and 3 d in float64 for each candidate, per row in the list
//   instances  recheck<T>, T = float, double, Float16, Bfloat16
#include "nearest.cuh"

constexpr int RECHECK_THREADS = 128;

// 8 blocks: left alone the compiler spills on some architectures to hold more.
template <class T> __global__ void __launch_bounds__(RECHECK_THREADS, 8)
recheck(const T* __restrict__ x, const Computed<T>* __restrict__ centers, const Computed<T>* __restrict__ shift,
        const float* __restrict__ cs, const float* __restrict__ half, const Uncertain* __restrict__ list, const u64* __restrict__ count,
        int* __restrict__ label, Tally* tally, const int* __restrict__ halted, int d, int ldc, int k) {
  if (*halted) return;
  if (blockIdx.x == 0 && threadIdx.x == 0) tally->rechecked += *count;
  const long long total = (long long)*count, step = (long long)gridDim.x * (RECHECK_THREADS / 32);
  for (long long item = (long long)blockIdx.x * (RECHECK_THREADS / 32) + threadIdx.x / 32; item < total; item += step) {
    const Uncertain u = list[item];
    const int arg = nearest(x, centers, shift, cs, half, u, d, ldc, k);
    if (threadIdx.x % 32 == 0) label[u.row] = arg;
  }
}
