// small: many small problems at once, each of them a whole fit by one block, start, iterations, inertia and all.
//
// What gpukmeans/backends/_numba_ragged.py does with a thread, step by step. Labels are those of the canonical distance itself: for a
// few thousand values that is less work than a fast pass with its certificate and its recheck. Nothing leaves the block, so
// barriers are enough, and each problem ends when it has converged.
//
//   in   x T: the rows of all problems by columns, problem after problem; weights float64, of those that have some (null if none has);
//        starts float64: draws of k-means++ or centers; table (problems, SMALL_COLUMNS): see _problem_table.py; tol; max_iter
//   out  labels int32; centers T (k, d) each; found (problems, 3) float64: inertia, iterations, clusters that have a row
//   work words float64, small_words of each problem: its column WORDS says where
//   launch  any number of blocks of SMALL_THREADS; no dynamic shared memory
//   traffic the rows once from memory, then from L2: n d s for the range of the features, the codes, each trial of k-means++ and each
//           iteration; 4 (d limbs + 2) 64-bit adds in L2 for each row that moves
//   flops   3 n k d in float64 an iteration
//   instances  fit_small<T>, T = float, double
#include "small.cuh"

// ---- the loop
// A row joins a cluster's sums and leaves another one's (null: it was in none).
template <class T> __device__ __forceinline__ void move_row(const Small<T>& s, int i, u64* to, u64* from) {
  UNROLL_1 for (int j = 0; j < s.d; j++) {
    const double y = weighted(s.weight, i, to_f64(s.x[(size_t)j * s.n + i]));
    const long long high = fixed_high(y, s.scale[j]);
    add_global(&to[j], high);
    if (from) add_global(&from[j], -high);
    if (sizeof(T) == 8) {
      const long long low = fixed_low(y, s.scale[j], high, s.two_bits);
      add_global(&to[s.d + j], low);
      if (from) add_global(&from[s.d + j], -low);
    }
  }
  const long long high = s.weight ? fixed_high(s.weight[i], s.wscale) : 1;
  const long long low = s.weight ? fixed_low(s.weight[i], s.wscale, high, s.two_bits) : 0;
  add_global(&to[s.width - 2], high);
  add_global(&to[s.width - 1], low);
  if (from) { add_global(&from[s.width - 2], -high); add_global(&from[s.width - 1], -low); }
}

// Renew labels and distances, move the rows that change cluster among the sums; returns whether any does.
template <class T> __device__ __forceinline__ bool assign_rows(const Small<T>& s, const T* centers) {
  bool moved = false;
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) {
    double closest = power_of_two(1024);            // infinity
    int nearest = 0;
    for (int c0 = 0; c0 < s.k; c0 += SMALL_CENTERS) {
      const T* c[SMALL_CENTERS];
      double acc[SMALL_CENTERS];
      UNROLL for (int q = 0; q < SMALL_CENTERS; q++) { c[q] = centers + (size_t)min(c0 + q, s.k - 1) * s.d; acc[q] = 0.0; }
      UNROLL_4 for (int j = 0; j < s.d; j++) {
        const T v = s.x[(size_t)j * s.n + i];
        UNROLL for (int q = 0; q < SMALL_CENTERS; q++) acc[q] = add_square(acc[q], v, c[q][j]);
      }
      // in order, and only if it is less: the lowest of equal ones stays, and so does the last center where it is met again
      UNROLL for (int q = 0; q < SMALL_CENTERS; q++) if (acc[q] < closest) { closest = acc[q]; nearest = c0 + q; }
    }
    s.sq[i] = closest;
    const int old = s.own[i];
    if (old != nearest) {
      moved = true;
      s.own[i] = nearest;
      move_row(s, i, s.sums + (size_t)nearest * s.width, old < 0 ? nullptr : s.sums + (size_t)old * s.width);
    }
  }
  return __syncthreads_or(moved);                   // also: the sums are whole
}

// Decoded weights of the clusters; returns how many have none.
template <class T> __device__ __forceinline__ long long weigh(const Small<T>& s, const u64* sums) {
  long long empty = 0;
  UNROLL_1 for (int c = threadIdx.x; c < s.k; c += SMALL_THREADS) {
    const long long high = (long long)sums[(size_t)(c + 1) * s.width - 2], low = (long long)sums[(size_t)(c + 1) * s.width - 1];
    s.heavy[c] = __dmul_rn(mantissa(high, low, s.inverse_bits), s.inverse_wscale);
    empty += s.heavy[c] == 0.0;
  }
  return block_sum(empty, s.scratch);
}

// In `filled`, a copy of the sums, each empty cluster gets the row of positive weight farthest from its own center, as lloyd.py.
template <class T> __device__ __forceinline__ void fill_empty(const Small<T>& s) {
  UNROLL_1 for (int i = threadIdx.x; i < s.k * s.width; i += SMALL_THREADS) s.filled[i] = s.sums[i];
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) s.far[i] = !s.weight || s.weight[i] > 0.0 ? s.sq[i] : -1.0;
  bool any = false;
  for (int c = 0; c < s.k; c++) {
    if (s.heavy[c] != 0.0) continue;
    u64 farthest = 0;                               // 0: no row; else the bits of its distance, and 1
    UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) if (s.far[i] >= 0.0) farthest = max(farthest, bits_of(s.far[i]) + 1);
    farthest = block_max(farthest, s.scratch);
    if (farthest == 0 || (farthest == 1 && !any)) return;
    int row = NO_ROW;
    UNROLL_1 for (int i = threadIdx.x; i < s.n && row == NO_ROW; i += SMALL_THREADS) if (s.far[i] >= 0.0 && bits_of(s.far[i]) + 1 == farthest) row = i;
    row = block_lowest(row, s.scratch);             // ties to the lowest; its barriers also part the reads above from this write
    any = true;
    if (threadIdx.x == 0) {
      s.far[row] = -1.0;
      move_row(s, row, s.filled + (size_t)c * s.width, s.filled + (size_t)s.own[row] * s.width);
    }
    __syncthreads();                                // the row is gone before the next one is looked for
  }
}

// New centers in s.after of sums whose weights are in s.heavy; returns the squared shift, as exact.shift_sq.
template <class T> __device__ __forceinline__ double recenter_small(const Small<T>& s, const u64* sums, bool& changed) {
  bool moves = false;
  UNROLL_1 for (int cell = threadIdx.x; cell < s.k * s.d; cell += SMALL_THREADS) {
    const int c = cell / s.d, j = cell % s.d;
    int from = c;
    double w = s.heavy[c];
    if (w == 0.0) UNROLL_1 for (int i = 0; i < s.k; i++) if (s.heavy[i] > w) { w = s.heavy[i]; from = i; }      // still empty: the heaviest one's
    const u64* of = sums + (size_t)from * s.width;
    const double m = mantissa((long long)of[j], sizeof(T) == 8 ? (long long)of[s.d + j] : 0, s.inverse_bits);
    const T v = round_to<T>(__dmul_rn(__ddiv_rn(m, w), s.inverse_scale[j]));
    s.after[cell] = v;
    moves |= to_f64(v) != to_f64(s.before[cell]);
  }
  changed = __syncthreads_or(moves);              // also: all centers are there
  UNROLL_1 for (int c = threadIdx.x; c < s.k; c += SMALL_THREADS) s.moved_sq[c] = canonical(s.after + (size_t)c * s.d, s.before + (size_t)c * s.d, s.d);
  __syncthreads();                                  // every center's way is there
  for (int m = s.k; m > 1; m = m / 2 + m % 2) {     // a binary tree over neighbours, in place, as in recenter.cu
    for (int j0 = 0; 2 * j0 < m; j0 += SMALL_THREADS) {
      const int j = j0 + threadIdx.x;
      double v = 0.0;
      if (2 * j < m) v = 2 * j + 1 < m ? __dadd_rn(s.moved_sq[2 * j], s.moved_sq[2 * j + 1]) : s.moved_sq[2 * j];
      __syncthreads();                              // all have read their pair before one of them is overwritten
      if (2 * j < m) s.moved_sq[j] = v;
      __syncthreads();                              // the level is written before the next one reads it
    }
  }
  return s.moved_sq[0];
}

// Lloyd's loop from s.before, as lloyd.fit_lloyd; the centers are in s.before in the end. Returns the iterations.
template <class T> __device__ __forceinline__ int lloyd_small(Small<T>& s, double threshold, int max_iter) {
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) s.own[i] = -1;
  UNROLL_1 for (int i = threadIdx.x; i < s.k * s.width; i += SMALL_THREADS) s.sums[i] = 0;
  __syncthreads();                                  // sums are 0, and the start is there, before a thread uses them
  for (int iteration = 1, is_last = 0;; iteration++) {
    const bool moved = assign_rows(s, s.before);
    if (is_last) return iteration - 1;              // these labels are those of the last centers
    u64* sums = s.sums;
    while (weigh(s, sums) > 0 && sums == s.sums) {
      fill_empty(s);
      sums = s.filled;
      __syncthreads();                              // weights are read, and rows moved, before they are weighed again
    }
    bool changed;
    const double shift_sq = recenter_small(s, sums, changed);
    T* swapped = s.before; s.before = s.after; s.after = swapped;
    is_last = !moved || shift_sq <= threshold || iteration == max_iter;
    if (is_last && !changed) return iteration;
  }
}

// ---- after the loop
// Centers are means of rows by now, so every distance is finite.
template <class T> __device__ __forceinline__ double inertia_small(const Small<T>& s) {
  u64 top = 0;
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) top = max(top, bits_of(weighted(s.weight, i, s.sq[i])));
  const double peak = value_of(block_max(top, s.scratch));
  const int e = exponent_for(peak, s.bits);
  const double scale = power_of_two(e);
  long long high = 0, low = 0;
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) {
    const double y = weighted(s.weight, i, s.sq[i]);
    const long long h = fixed_high(y, scale);
    high += h;
    low += fixed_low(y, scale, h, s.two_bits);
  }
  high = block_sum(high, s.scratch);
  low = block_sum(low, s.scratch);
  return __dmul_rn(mantissa(high, low, s.inverse_bits), power_of_two(-e));
}

// Whether these labels are other clusters than those, and not only others' names. Which of a cluster's rows names it does not matter.
template <class T> __device__ __forceinline__ bool differs(const Small<T>& s, const int* kept) {
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) atomicExch(&s.renamed[s.own[i]], kept[i]);      // the atomic: rows of a cluster meet
  __syncthreads();                                  // all clusters have a name
  bool other = false;
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) other |= s.renamed[s.own[i]] != kept[i];
  return __syncthreads_or(other);
}

template <class T> __device__ __forceinline__ int used(const Small<T>& s, const int* labels) {
  UNROLL_1 for (int c = threadIdx.x; c < s.k; c += SMALL_THREADS) s.renamed[c] = 0;
  __syncthreads();                                  // no cluster is marked, and all labels are there
  UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) atomicExch(&s.renamed[labels[i]], 1);      // the atomic: rows of a cluster meet
  __syncthreads();                                  // all are marked
  int found = 0;
  UNROLL_1 for (int c = threadIdx.x; c < s.k; c += SMALL_THREADS) found += s.renamed[c];
  return (int)block_sum(found, s.scratch);
}

// 3 blocks: left alone the compiler spills to hold more.
template <class T> __global__ void __launch_bounds__(SMALL_THREADS, 3)
fit_small(const T* __restrict__ x, const double* __restrict__ weights, const double* __restrict__ starts, const long long* __restrict__ table,
          double tol, int max_iter, int* labels, T* centers, double* found, double* words, int problems) {
  __shared__ u64 scratch[SMALL_WARPS];
  for (int p = blockIdx.x; p < problems; p += gridDim.x) {
    const long long* line = table + (size_t)p * SMALL_COLUMNS;
    Small<T> s;
    s.n = (int)line[N]; s.d = (int)line[D]; s.k = (int)line[K]; s.bits = (int)line[BITS];
    const int trials = (int)line[TRIALS], cells = s.k * s.d;
    s.width = s.d * (sizeof(T) == 8 ? 2 : 1) + 2;
    s.x = x + line[VALUES];
    s.weight = line[WEIGHTS] < 0 ? nullptr : weights + line[WEIGHTS];
    s.two_bits = power_of_two(s.bits);
    s.inverse_bits = power_of_two(-s.bits);
    s.scratch = scratch;
    double* at = words + line[WORDS];
    s.closest = reinterpret_cast<T*>(at); at += s.n;
    s.tried = reinterpret_cast<T*>(at); s.far = at; at += s.n;
    s.best = reinterpret_cast<T*>(at); at += s.n;
    s.sq = at; at += s.n;
    s.sums = reinterpret_cast<u64*>(at); at += s.k * s.width;
    s.filled = reinterpret_cast<u64*>(at); at += s.k * s.width;
    s.before = reinterpret_cast<T*>(at); at += cells;
    s.after = reinterpret_cast<T*>(at); at += cells;
    s.heavy = at; at += s.k;
    s.moved_sq = at; at += s.k;
    s.scale = at; at += s.d;
    s.inverse_scale = at; at += s.d;
    s.own = reinterpret_cast<int*>(at); at += s.n;
    s.renamed = reinterpret_cast<int*>(at);
    int* kept = labels + line[LABELS];
    T* best = centers + line[CENTERS];
    const double threshold = encode_small(s, tol);
    double inertia = 0.0, iterations = 0.0;
    for (int run = 0; run < (int)line[RUNS]; run++) {
      if (trials) plus_plus(s, starts + line[STARTS] + (size_t)run * (1 + (size_t)(s.k - 1) * trials), trials);
      else UNROLL_1 for (int i = threadIdx.x; i < cells; i += SMALL_THREADS) s.before[i] = round_to<T>(starts[line[STARTS] + (size_t)run * cells + i]);
      const int n_iter = lloyd_small(s, threshold, max_iter);
      const double of_run = inertia_small(s);
      if (run == 0 || (of_run < inertia && differs(s, kept))) {
        inertia = of_run;
        iterations = n_iter;
        UNROLL_1 for (int i = threadIdx.x; i < s.n; i += SMALL_THREADS) kept[i] = s.own[i];
        UNROLL_1 for (int i = threadIdx.x; i < cells; i += SMALL_THREADS) best[i] = s.before[i];
      }
      __syncthreads();                              // labels and centers are kept before the next run changes them
    }
    const int n_used = used(s, kept);
    if (threadIdx.x == 0) { found[(size_t)p * 3] = inertia; found[(size_t)p * 3 + 1] = iterations; found[(size_t)p * 3 + 2] = n_used; }
  }
}
