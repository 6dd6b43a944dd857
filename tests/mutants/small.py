"""Defects of small.cu.

Not here, as nothing comes of it: scaling back before the division by the weight (a power of two); for the first center
the exponent of the weights in place of that of the code; no limit of a target by the total (a draw would have to be
within 2^-53 of 1); `>=` in the search for the heaviest cluster where none is as heavy.
"""

_PIVOT = "max(magnitude(__dsub_rn(smallest, pivot)), magnitude(__dsub_rn(largest, pivot)))"
_TREE = "for (int j0 = 0; {}; j0 += SMALL_THREADS) {{\n      const int j"
_KEPT = "run == 0 || (of_run < inertia && differs(s, kept))"
_STOP = "is_last = !moved || shift_sq <= threshold || iteration == max_iter"
_NONE_LEFT = "if (farthest == 0 || (farthest == 1 && !any)) return;"

# file, check that sees them, kernels that are built with them: what stands there, the defect
TABLE = {
    ("small.cu", "small", "fit_small"): [
        # over the block
        ("(u64)v;\n  __syncthreads();                                  // the sums", "(u64)v;\n  // the sums"),
        ("= v;\n  __syncthreads();                                  // the maxima", "= v;\n  // the maxima"),
        ("w < SMALL_WARPS; w++) v += (long long)scratch[w];", "w < SMALL_WARPS - 1; w++) v += (long long)scratch[w];"),
        ("w < SMALL_WARPS; w++) v = max(v, scratch[w]);", "w < 1; w++) v = max(v, scratch[w]);"),
        ("block_max((u64)(NO_ROW - row), scratch)", "block_max((u64)row, scratch)"),
        # codes and the threshold
        ("- 1022), 1000);", "- 1022), 900);"),
        ("- 1022), 1000);", "- 1023), 1000);"),
        ("magnitude(weighted(s.weight, i, v))", "magnitude(v)"),
        ("magnitude(weighted(s.weight, i, v))", "bits_of(weighted(s.weight, i, v))"),
        ("key = u >> 63 ? ~u : u | 1ull << 63;", "key = u | 1ull << 63;"),
        ("__dmul_rn(largest, 0.5));", "0.0);"),
        (_PIVOT, "magnitude(pivot)"),
        ("__dmul_rn(q, q), power_of_two(e2));", "__dmul_rn(q, q), power_of_two(e1));"),
        ("__dsub_rn(b, __ddiv_rn(__dmul_rn(a, a), (double)s.n))", "b"),
        ("variance > 0.0 ? variance : 0.0;", "0.0;"),
        ("__ddiv_rn(mean, (double)s.d)", "mean"),
        ("s.wscale = power_of_two(e);", "s.wscale = 1.0;"),
        # k-means++
        ("if (__ll2double_rn(target) > product) target--;", ""),
        ("if (w < int(threadIdx.x / 32)) v +=", "if (w <= int(threadIdx.x / 32)) v +="),
        ("v += carry;", ""),
        ("v > target ? i : NO_ROW", "v >= target ? i : NO_ROW"),
        ("most ? smaller(most[i], acc) : acc;", "acc;"),
        ("if (!s.weight || s.weight[i] > 0.0) counts = i;", "counts = i;"),
        ("total > 0 ? first_above(s, s.closest, scale, u, total) : counts;", "total > 0 ? counts : 0;"),
        ("first_above(s, s.closest, scale, u, total) : counts;", "first_above(s, s.closest, scale, u, total) : 0;"),
        ("least < 0 || left < least", "least < 0 || left <= least"),
        ("least < 0 || left < least", "least < 0"),
        ("t < (c ? trials : 1)", "t < trials"),
        ("T* swapped = s.closest; s.closest = s.best; s.best = swapped;", ""),
        # the loop
        ("if (acc[q] < closest)", "if (acc[q] <= closest)"),
        ("(size_t)min(c0 + q, s.k - 1) * s.d", "(size_t)(c0 + q) * s.d"),
        ("(size_t)min(c0 + q, s.k - 1) * s.d", "(size_t)min(c0 + q, s.k - 2) * s.d"),
        ("old < 0 ? nullptr : s.sums", "true ? nullptr : s.sums"),
        ("moved = true;", ""),
        ("moved = true;\n      s.own[i] = nearest;", "moved = true;"),
        ("add_global(&to[j], high);", "to[j] += high;"),
        ("if (from) add_global(&from[j], -high);", ""),
        ("add_global(&to[s.d + j], low);", ""),
        ("if (from) add_global(&from[s.d + j], -low);", "if (from) add_global(&from[s.d + j], low);"),
        ("add_global(&to[s.width - 1], low);", ""),
        ("add_global(&from[s.width - 1], -low); }", "}"),
        ("(size_t)(c + 1) * s.width - 2], low", "(size_t)(c + 1) * s.width - 1], low"),
        ("empty += s.heavy[c] == 0.0;", ""),
        ("!s.weight || s.weight[i] > 0.0 ? s.sq[i] : -1.0;", "s.sq[i];"),
        (_NONE_LEFT, "if (farthest == 0) return;"),
        (_NONE_LEFT, "if (farthest <= 1) return;"),
        ("s.far[row] = -1.0;", ""),
        ("s.filled + (size_t)s.own[row] * s.width", "nullptr"),
        ("row = block_lowest(row, s.scratch);", "row = (int)block_max(row == NO_ROW ? 0ull : (u64)row, s.scratch);"),
        ("s.filled[i] = s.sums[i];", "s.filled[i] = 0;"),
        ("moves |= to_f64(v) != to_f64(s.before[cell]);", ""),
        ("if (2 * j < m) v = 2 * j + 1 < m ?", "if (2 * j < m) v = 2 * j < m ?"),
        (_TREE.format("2 * j0 < m"), _TREE.format("j0 < 1")),
        ("s.sums[i] = 0;\n  __syncthreads();", "s.sums[i] = 0;"),
        (_STOP, "is_last = !moved || shift_sq < threshold || iteration == max_iter"),
        (_STOP, "is_last = !moved || iteration == max_iter"),
        ("if (is_last && !changed) return iteration;", "if (is_last) return iteration;"),
        ("while (weigh(s, sums) > 0 && sums == s.sums) {", "weigh(s, sums);\n    while (false) {"),
        # after the loop
        ("low += fixed_low(y, scale, h, s.two_bits);", ""),
        (_KEPT, "run == 0 || of_run < inertia"),
        (_KEPT, "run == 0"),
        ("return __syncthreads_or(other);", "return __syncthreads_or(!other);"),
        ("(size_t)p * SMALL_COLUMNS", "(size_t)blockIdx.x * SMALL_COLUMNS"),
        ("(size_t)run * (1 + (size_t)(s.k - 1) * trials)", "(size_t)run * (size_t)(s.k - 1) * trials"),
    ],
}
