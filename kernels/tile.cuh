// Rows from anywhere, 64 at a time, against all centers: float32 scores, and canonical distances for what these leave open.
//
// For the rows of a list, where assign.cu takes all rows in order. A block takes 64 of them, so a center is read once for 64
// rows; then its warps take up those that are still open, one by one.
#pragma once
#include "nearest.cuh"

constexpr int TILE_SIDE = 16, TILE_THREADS = TILE_SIDE * TILE_SIDE, TILE = 4 * TILE_SIDE, STAGE_DEPTH = 16;

struct TileMemory {                                 // in shared memory
  float4 xs[STAGE_DEPTH][TILE / 4 + 1], bs[STAGE_DEPTH][TILE / 4 + 1];      // by feature: four rows, four centers
  float norms[TILE];
};

// Scores and certificate are those of assign.cu. `row` is the one that this thread copies, number threadIdx.x / 4 of the tile;
// done(r, best, second, arg, |x'|^2) is called once for each of the 64. All threads of the block take part.
template <class T, class C, class Done>
__device__ __forceinline__ void score_tile(const T* __restrict__ row, const C* __restrict__ shift, const float* __restrict__ cs,
                                           const float* __restrict__ half, TileMemory& memory, int d, int ldc, int k, Done done) {
  const int tid = threadIdx.x, tx = tid % TILE_SIDE, ty = tid / TILE_SIDE;
  const int lr = tid / 4, lc = tid % 4 * 4;         // row (or center) and first of the four features that this thread copies
  float best[4], second[4], x2 = 0.f;
  int arg[4];
  UNROLL for (int i = 0; i < 4; i++) { best[i] = second[i] = INFINITY_F; arg[i] = 0; }
  for (int k0 = 0; k0 < k; k0 += TILE) {
    const bool is_center = k0 + lr < k;
    const float* center = cs + (size_t)(is_center ? k0 + lr : 0) * ldc;
    float acc[4][4], total[4][4];
    UNROLL for (int j = 0; j < 4; j++) {
      const int c = k0 + 4 * tx + j;
      const float h = c < k ? half[c] : INFINITY_F;
      UNROLL for (int i = 0; i < 4; i++) { total[i][j] = h; acc[i][j] = 0.f; }
    }
    for (int j0 = 0; j0 < d; j0 += STAGE_DEPTH) {
      __syncthreads();                              // the stage has been read by all before it is overwritten
      UNROLL for (int q = 0; q < 4; q++) {
        const int j = j0 + lc + q;
        const float v = j < d ? (float)(shift[j] - row[j]) : 0.f;
        if (k0 == 0) x2 += v * v;
        reinterpret_cast<float*>(memory.xs[lc + q])[lr] = v;
        reinterpret_cast<float*>(memory.bs[lc + q])[lr] = is_center && j < d ? center[j] : 0.f;
      }
      __syncthreads();                              // it is written by all before any reads it
      UNROLL for (int p = 0; p < STAGE_DEPTH; p++) {
        const float4 a4 = memory.xs[p][ty], b4 = memory.bs[p][tx];
        const float a[4] = {a4.x, a4.y, a4.z, a4.w}, b[4] = {b4.x, b4.y, b4.z, b4.w};
        UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) acc[i][j] = __fmaf_rn(a[i], b[j], acc[i][j]);
      }
      const int next = j0 + STAGE_DEPTH;            // a chain ends: at the last feature, and of long rows every CHAIN features
      if (next >= d || (d > 2 * CHAIN && next % CHAIN == 0))
        UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) { total[i][j] += acc[i][j]; acc[i][j] = 0.f; }
    }
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) take(best[i], second[i], arg[i], total[i][j], k0 + 4 * tx + j);
  }
  x2 += __shfl_xor_sync(ALL_LANES, x2, 1);          // the other features of the row
  x2 += __shfl_xor_sync(ALL_LANES, x2, 2);
  if (lc == 0) memory.norms[lr] = x2;
  __syncwarp();                                     // a warp reads the norms that it wrote
  UNROLL for (int i = 0; i < 4; i++) {
    UNROLL for (int o = TILE_SIDE / 2; o; o >>= 1) {           // the threads of a row are neighbours in a warp
      const float b = __shfl_xor_sync(ALL_LANES, best[i], o), s = __shfl_xor_sync(ALL_LANES, second[i], o);
      const int a = __shfl_xor_sync(ALL_LANES, arg[i], o);
      merge(best[i], second[i], arg[i], b, s, a);
    }
    const int r = 4 * ty + i;
    if (tx == 0) done(r, best[i], second[i], arg[i], memory.norms[r]);
  }
}

// Canonical distances for the rows of `open` (TILE, in shared memory; row -1: none), by the warps of the block, behind a barrier.
// Returns how many this warp took. The next tile's barriers keep `open` from being overwritten too early.
template <class T, class C>
__device__ __forceinline__ int recheck_tile(const T* __restrict__ x, const C* __restrict__ centers, const C* __restrict__ shift,
                                            const float* __restrict__ cs, const float* __restrict__ half, const Uncertain* open,
                                            int* __restrict__ label, int d, int ldc, int k) {
  int taken = 0;
  __syncthreads();                                  // all rows of the tile are scored
  for (int r = threadIdx.x / 32; r < TILE; r += TILE_THREADS / 32) {
    const Uncertain u = open[r];
    if (u.row < 0) continue;
    const int arg = nearest(x, centers, shift, cs, half, u, d, ldc, k);
    if (threadIdx.x % 32 == 0) label[u.row] = arg;
    taken++;
  }
  return taken;
}
