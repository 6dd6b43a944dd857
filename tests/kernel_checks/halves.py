"""Checks of rows of 16 bits: kernels that read them give what the same values in float32 have to give.

Both types are one text of the kernels, so most of these are built for one of them; tests/test_halves.py has whole fits.
"""

import numpy as np
import support

from gpukmeans.backends import get_backend
from gpukmeans.halves import Halves

from .labels import assert_fast_pass, assert_resolved, between, is_clear
from .machine import as_stored, halved, problem
from .pruning import assert_pruned, some_bounds
from .tensor import LARGE, Pass, assert_packed, assert_pass


def check_halves() -> None:
    """Numbers one by one; kernels that read rows in a way of their own, tensor cores by the number of the type."""
    check_values()
    X, C, _ = problem(70, 20, 35, "f4", "noise")
    X = np.concatenate([X, between(C, 21, "f4")])
    assert_fast_pass(get_backend("cupy"), halved(X, "bf16"), C)
    assert_fast_pass(get_backend("cupy"), halved(X[:, :3].copy(), "bf16"), C[:, :3].copy(), skip=1)
    for kind, of_pass in (("fp16", "bf16"), ("bf16", "tf32")):
        for d in (61, 261) if kind == "fp16" else (29, 133):
            X, C, _ = problem(40, d, 37, "f4", "noise")
            p = Pass(halved(np.concatenate([X, between(C, 15, "f4")]), kind), C, of_pass, LARGE)
            p.pack()
            assert_packed(p.stage, p.centers)
            assert_pass(p, 1)
    check_open_rows()


def check_values() -> None:
    """All numbers of 16 bits, times powers, as NumPy, which rounds once."""
    backend = get_backend("cupy")
    for kind in ("fp16", "bf16"):
        words = np.arange(1 << 16, dtype=np.uint16)[:, None]
        X = Halves(words[~np.isnan(Halves(words, kind, None).toarray())][1:, None], kind, None)
        for exponent in (1, -1, 40, -120, 130):
            with np.errstate(over="ignore", under="ignore"):
                expected = np.ldexp(X.toarray(), exponent)
            got = backend.scaled(as_stored(X), exponent).get()
            support.assert_same_array(got, expected, f"{kind} times 2^{exponent}")


def check_open_rows() -> None:
    """What tensor cores and bounds leave open."""
    X, C, _ = problem(170, 37, 130, "f4", "noise")
    rows = halved(np.concatenate([between(C, 90, "f4"), X]), "bf16")
    chosen = np.random.default_rng(0).permutation(len(rows))[:200]
    assert_resolved(rows, C, chosen)
    centers = get_backend("cupy").load(C.astype(np.float64), [get_backend("cupy").rows(as_stored(rows))])
    rows = Halves(rows.words[is_clear(rows.toarray(), C, centers)], "bf16", None)
    rng = np.random.default_rng(1)
    bounds, labels = some_bounds(rng, len(rows), 0.5), rng.integers(0, len(C), len(rows))
    assert assert_pruned(rows, C, labels, bounds, rng.uniform(0, 2, len(C))) > 20
