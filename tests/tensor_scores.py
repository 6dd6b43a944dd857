"""The tensor pass in NumPy: the types it multiplies in, three models of how its cores add.

The models are those of tests/simt/tensor_cores.h. No vendor documents how cores add; what was measured on cards (Fasi
et al. 2021, "Numerical behavior of NVIDIA tensor cores") is blocks of 4 products and more, aligned with as many bits.
"""

import numpy as np

HIDDEN = np.float32(1e38)
"""The half norm of padding and of centers that cannot win: finite, as its low bits are given away, too."""
KINDS = ("bf16", "fp16", "tf32")
"""By their number in kernels/tensor.cuh."""
MODELS = (0, 1, 2)
"""The sum of an instruction rounded once; truncated after each product; in blocks of 4, aligned and truncated."""


def bits_in_type(v, kind):
    """Values rounded to the nearest of the type, as its bits."""
    v = np.ascontiguousarray(v, np.float32)
    u = v.view(np.uint32)
    if kind == "fp16":
        with np.errstate(over="ignore"):
            return v.astype(np.float16).view(np.uint16).astype(np.uint32)
    if kind == "bf16":
        return (u + np.uint32(0x7FFF) + (u >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isfinite(v), (u + np.uint32(0x1000)) & np.uint32(0xFFFFE000), u)  # ties away from zero


def in_type(v, kind):
    """Values rounded to the nearest of the type, as float32."""
    bits = bits_in_type(v, kind)
    if kind == "fp16":
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)
    return (bits << np.uint32(16) if kind == "bf16" else bits).view(np.float32)


def truncated(v):
    """Float64 values rounded to float32 towards zero."""
    f = v.astype(np.float32)
    return np.where(np.abs(f.astype(np.float64)) > np.abs(v), np.nextafter(f, np.float32(0)), f)


def accumulate(c, a, b, kind, model):
    """``c + a @ b`` as the cores add it: c (n, k) float32, a (n, d) and b (d, k) values of the type. float32."""
    d, together = a.shape[1], {0: 8 if kind == "tf32" else 16, 1: 1, 2: 4}[model]
    a, b, acc = a.astype(np.float64), b.astype(np.float64), c.astype(np.float32)
    for j0 in range(0, d, together):
        terms = [acc.astype(np.float64), *(a[:, j, None] * b[None, j] for j in range(j0, min(d, j0 + together)))]
        if model == 2:
            unit = np.ldexp(1.0, np.frexp(np.max(np.abs(terms), axis=0))[1] - 24)
            terms = [np.trunc(t / unit) * unit for t in terms]
        total = sum(terms[1:], terms[0])
        acc = total.astype(np.float32) if model == 0 else truncated(total)
    return acc


def keys(scores, index_bits, *, is_offset=False):
    """Scores (n, k) float32 with a part of the center's index, as in keys.cuh: in their low bits, or behind them.

    A tile has 4 * 2**index_bits centers; one of the four lanes that share a row sees two of every eight.
    """
    place = np.arange(scores.shape[1]) % (4 << index_bits)
    index = (place // 8 * 2 + place % 2).astype(np.uint32)
    if is_offset:
        return scores.view(np.uint32) * np.uint32(1 << index_bits) + index
    kept = scores.view(np.uint32) & ~np.uint32((1 << index_bits) - 1)
    return (kept | index).view(np.float32)


def group_of(centers):
    """The group that centers of these numbers share a key with: a lane's two in each of two blocks of 8."""
    return centers // 16 * 4 + centers % 8 // 2


def group_keys(scores, index_bits):
    """Keys of groups (n, groups), those of rescore.cuh: of the least score; a tile has 16 * 2**index_bits centers."""
    n, k = scores.shape
    whole = np.concatenate([scores, np.full((n, -k % 16), np.inf, np.float32)], axis=1)
    least = whole.reshape(n, -1, 2, 4, 2).min(axis=(2, 4))
    place = np.arange(least.shape[1], dtype=np.uint32)[:, None] % np.uint32(1 << index_bits)
    return (least.view(np.uint32) * np.uint32(1 << index_bits) + place).reshape(n, -1)


def all_scores(X, centers, half, kind, model, offsets=None):
    """Scores (n, k) of rows and centers that are shifted, from these half norms; `offsets`: B of each row."""
    half = np.minimum(half, HIDDEN if offsets is None else np.inf).astype(np.float32)
    start = np.broadcast_to(half, (len(X), len(centers)))
    if offsets is not None:
        start = start + np.float32(1.5) * offsets[:, None]
    return accumulate(start, -in_type(X, kind), in_type(centers, kind).T, kind, model)


def scores_of(found, index_bits, offsets):
    """What keys (n,) stand for."""
    if offsets is None:
        return found
    bits = found >> np.uint32(index_bits) & np.uint32(0x7FFFFF) | offsets.view(np.uint32)
    of_infinity = np.uint32((0x7F800000 << index_bits) % 2**32)
    return np.where(found < of_infinity, bits.view(np.float32) - np.float32(1.5) * offsets, np.float32(np.inf))


def fast_pass(X, centers, kind, model, index_bits, offsets=None):
    """Best score, second best and label of each row of shifted data; of equal centers all but the first are hidden."""
    X, centers = np.asarray(X, np.float32), np.asarray(centers, np.float32)
    scores = all_scores(X, centers, half_norms(centers), kind, model, offsets)
    found = keys(scores, index_bits, is_offset=offsets is not None)
    best, second = two_smallest(found, index_bits, offsets)
    return best, second, found.argmin(axis=1)


def half_norms(centers):
    """Of centers, infinite for all but the first of equal ones."""
    half = np.full(len(centers), np.inf)
    first = np.unique(centers, axis=0, return_index=True)[1]
    half[first] = (centers[first].astype(np.float64) ** 2).sum(axis=1) / 2
    return half


def grouped_pass(X, centers, kind, model, index_bits, offsets):
    """The same where groups share a key: float32 scores of the best two of the best group, and the second group's."""
    X, centers = np.asarray(X, np.float32), np.asarray(centers, np.float32)
    half = half_norms(centers)
    found = group_keys(all_scores(X, centers, half, kind, model, offsets), index_bits)
    scores = np.zeros((len(X), len(centers)), np.float32)
    for j in range(X.shape[1]):
        scores -= X[:, j, None] * centers[None, :, j]
    scores += half.astype(np.float32)
    scores[group_of(np.arange(len(centers))) != found.argmin(axis=1)[:, None]] = np.inf
    of_group = np.sort(np.concatenate([scores, np.full((len(X), 1), np.inf, np.float32)], axis=1), axis=1)
    return of_group[:, 0], of_group[:, 1], two_smallest(found, index_bits, offsets)[1], scores.argmin(axis=1)


def two_smallest(found, index_bits, offsets=None):
    """Best and second best score of keys (n, k), beside those of what pads the last tile."""
    last = HIDDEN if offsets is None else np.uint32(2**32 - 1)
    found = np.concatenate([found, np.full((len(found), 1), last)], axis=1)
    best, second = np.partition(found, 1, axis=1)[:, :2].T
    return scores_of(best, index_bits, offsets), scores_of(second, index_bits, offsets)
