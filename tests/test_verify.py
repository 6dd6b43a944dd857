"""`doctor --verify`: backends give the bits of the numpy backend, and one wrong bit is seen and reported."""

import dataclasses
import logging
import sys

import numpy as np
import pytest
import support
from scipy import sparse

from gpukmeans import verify
from gpukmeans.arrays import to_host
from gpukmeans.backends import _launch, _tensor_config
from gpukmeans.backends._numba import NumbaBackend
from gpukmeans.cli import main
from gpukmeans.verify import Case, Problem, check, problems

TINY = Problem(200, 3, 4)


@pytest.fixture
def run(capsys, monkeypatch):
    """Run `gpukmeans doctor --verify` on a tiny problem; gives the exit code, stdout and stderr."""
    monkeypatch.setattr(verify, "problems", lambda name, full: [TINY, dataclasses.replace(TINY, dtype="float64")])

    def run(*args):
        code = main(["doctor", "--verify", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def different(cases):
    return [case for case in cases if not case.ok]


# ---- the table
def test_the_table_has_every_shape_type_and_kind_that_has_code_of_its_own():
    table = problems("numba")
    for dtype in ("float32", "float64"):
        some = [p for p in table if p.dtype == dtype]
        assert {1, 2, 3, 5, 16, 17, 20, 64, 257, 300} <= {p.n_features for p in some}
        assert {p.kind for p in some} >= {"ties", "duplicates", "offset", "spread", "subnormal", "tiny", "huge"}
        assert {p.layout for p in some} == {"array", "odd", "csr"}
        assert {p.weighted for p in some} == {True, False}
        assert any(p.n_clusters == p.n_samples for p in some)
        assert any(p.n_clusters > 128 for p in some)
    assert max(p.n_samples for p in table) >= 100_000
    assert not any(p.streamed for p in table)
    assert {p.dtype for p in problems("cupy") if p.streamed} == {"float16", "float32", "float64"}
    stages = {(p.first_stage, p.dtype) for p in problems("cupy")}
    both = {(stage, dtype) for stage in ("", "bf16", "fp16", "tf32") for dtype in ("float32", "float64")}
    assert stages == both | {("", "float16"), ("fp16", "float16")}
    card, grouped = _launch.Card(90, 132, 227 << 10, 2048), set()
    for p in problems("cupy"):
        if p.first_stage:
            sizes = _launch.Problem(p.n_samples, p.n_features, p.n_clusters, "f4")
            grouped |= {c.kind for c in (_tensor_config.config(sizes, card, p.first_stage),) if c.is_grouped}
    assert grouped == {"bf16", "fp16", "tf32"}
    assert max(p.n_samples for p in problems("cupy", full=True)) == 1_000_000
    for backend in ("numba", "cupy"):
        names = [p.name for p in problems(backend, full=True)]
        assert len(set(names)) == len(names)


def test_problems_are_what_their_names_say():
    X, start, weights = Problem(200, 6, 12, kind="duplicates", weighted=True).make()
    assert len(np.unique(X, axis=0)) == 6
    assert len(np.unique(start, axis=0)) < 12
    assert 0 < np.count_nonzero(weights == 0) < 100
    odd, *_ = Problem(50, 3, 4, layout="odd").make()
    assert odd.flags.c_contiguous
    assert odd.ctypes.data % 16 == 4
    assert sparse.issparse(Problem(50, 3, 4, layout="csr").make()[0])
    for dtype in ("float32", "float64"):
        limits = np.finfo(dtype)
        X = {kind: abs(Problem(50, 3, 4, dtype, kind).make()[0]) for kind in ("subnormal", "tiny", "huge", "spread")}
        assert X["subnormal"].max() < limits.smallest_normal
        assert X["tiny"].max() ** 2 == 0
        assert limits.max > X["huge"].max() > limits.max**0.75
        assert X["spread"].max() / np.median(X["spread"]) > 1000
        assert {str(values.dtype) for values in X.values()} == {dtype}


def test_a_problem_is_the_same_every_time():
    for a, b in zip(TINY.make(), TINY.make(), strict=True):
        assert np.array_equal(a, b)


# ---- backends that are right
def test_numba_gives_the_bits_of_numpy(numba_backend):
    small = [p for p in problems(numba_backend) if p.n_samples < 10_000]
    assert different(verify.verify(numba_backend, small)) == []


def test_the_cuda_backend_gives_the_bits_of_numpy():
    # on the stand-in, whose threads run one after another: all kinds, but not the large ones in both types
    most = {("float32", ""): 600_000, ("float64", ""): 150_000, ("float32", "bf16"): 300_000, ("float16", ""): 20_000}
    small = [p for p in problems("cupy") if p.size < most.get((p.dtype, p.first_stage), 0)]
    assert any(p.first_stage for p in small)  # the next test has the others
    with support.standin_cupy():
        assert different(check("cupy", p) for p in small) == []


def test_a_streamed_problem_is_streamed_and_the_card_is_left_as_it_was(caplog):
    caplog.set_level(logging.DEBUG, "gpukmeans")
    with support.standin_cupy() as control:
        import cupy

        cupy.get_default_memory_pool().set_limit(size=1 << 29)
        case = check("cupy", next(p for p in problems("cupy") if p.streamed))
        assert cupy.get_default_memory_pool().get_limit() == 1 << 29
        copied = sum(control.log.to_device)
    assert case.ok
    assert "out of memory on the card: blocks of 1000 rows" in caplog.text
    assert copied > 20 * 4000 * 64 * 4  # the rows, in every pass


@pytest.mark.parametrize("stage", ["bf16", "fp16", "tf32"])
def test_tensor_cores_come_first_where_a_problem_says_so(stage):
    with support.standin_cupy() as control:
        assert check("cupy", Problem(90, 18, 20, max_iter=3, first_stage=stage)).ok
        names = [name for name in control.log.launches if name.startswith("assign_sm80")]
        assert names
        assert all(f"assign_sm80<{_tensor_config.KINDS[stage]}, " in name for name in names)
    assert _tensor_config.FORCED is None


def test_the_chosen_card_is_verified(caplog, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_DEVICE", "1")
    caplog.set_level(logging.DEBUG, "gpukmeans")
    with support.standin_cupy(n_devices=2):
        assert check("cupy", TINY).ok
        assert check("cupy", next(p for p in problems("cupy") if p.streamed)).ok
    assert "out of memory on the card: blocks of 1000 rows" in caplog.text


# ---- backends that are wrong
def flip_a_label(monkeypatch):
    labels = NumbaBackend.labels

    def wrong(self, blocks):
        found = labels(self, blocks).copy()
        found[7] ^= 1
        return found

    monkeypatch.setattr(NumbaBackend, "labels", wrong)


def test_a_label_that_is_wrong_is_seen(numba_backend, monkeypatch):
    flip_a_label(monkeypatch)
    case = check(numba_backend, TINY)
    assert not case.ok
    assert [d.split(":")[0] for d in case.differences] == ["labels_", "predict"]
    assert "1 of 200 differ, the first at (7,): np.int32(" in case.differences[0]


def test_a_distance_that_is_wrong_by_its_last_bit_is_seen(numba_backend, monkeypatch):
    transform = NumbaBackend.transform

    def wrong(self, rows, centers):
        found = transform(self, rows, centers)
        found[3, 1] = np.nextafter(found[3, 1], np.float32(np.inf))
        return found

    monkeypatch.setattr(NumbaBackend, "transform", wrong)
    (difference,) = check(numba_backend, TINY).differences
    assert difference.startswith("transform: 1 of 800 differ, the first at (3, 1): ")


def test_an_inertia_that_is_wrong_by_its_last_bits_is_seen(numba_backend, monkeypatch):
    total_inertia = NumbaBackend.total_inertia

    def wrong(self, blocks, centers):
        return np.nextafter(total_inertia(self, blocks, centers), np.inf)

    monkeypatch.setattr(NumbaBackend, "total_inertia", wrong)
    differences = check(numba_backend, TINY).differences
    assert [d.split(":")[0] for d in differences] == ["inertia_", "score"]
    assert ", numpy has " in differences[0]


def test_a_result_of_another_type_or_shape_is_seen(numba_backend, monkeypatch):
    monkeypatch.setattr(NumbaBackend, "transform", lambda *_: np.zeros((5, 4), np.float32))
    assert "transform: float32 (5, 4), numpy has float32 (200, 4)" in check(numba_backend, TINY).differences


def test_a_result_that_is_not_where_the_rows_are_is_seen(monkeypatch):
    from gpukmeans import kmeans

    monkeypatch.setattr(kmeans, "like", lambda result, x: to_host(result))
    with support.standin_cupy():
        differences = check("cupy", TINY).differences
    assert "CuPy array: labels_: numpy array for CuPy rows" in differences
    assert all(difference.startswith("CuPy array: ") for difference in differences)


def test_an_error_of_the_backend_is_a_difference_and_the_others_are_still_compared(numba_backend, monkeypatch):
    def fail(*_):
        raise RuntimeError("the card has fallen off the bus")

    monkeypatch.setattr(NumbaBackend, "own_sqdist", fail)
    monkeypatch.setattr(NumbaBackend, "seed_total", fail)
    cases = verify.verify(numba_backend, [TINY, TINY])
    assert [case.differences for case in cases] == [("RuntimeError: the card has fallen off the bus",)] * 2


def test_numpy_is_not_compared_with_itself():
    with pytest.raises(ValueError, match="the one that the others are compared with"):
        check("numpy", TINY)


# ---- the command
def test_the_report_can_be_pasted_into_an_issue(run, numba_backend):
    code, out, err = run("--backend", numba_backend)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "### gpukmeans doctor --verify: numba against numpy"
    assert f"- numpy: {np.__version__}" in lines
    assert "| case | result | seconds |" in lines
    assert [line.split(" | ")[:2] for line in lines if line.startswith("| 200")] == [
        ["| 200 x 3, k=4, float32, blobs", "ok"],
        ["| 200 x 3, k=4, float64, blobs", "ok"],
    ]
    assert lines[-1].startswith("2 of 2 cases equal, bit for bit; ")


def test_a_wrong_bit_is_reported_and_the_exit_code_is_1(run, numba_backend, monkeypatch):
    flip_a_label(monkeypatch)
    code, out, err = run("--backend", numba_backend)
    assert code == 1
    assert "| 200 x 3, k=4, float64, blobs | DIFFERENT: labels_: 1 of 200 differ, the first at (7,): " in out
    assert "0 of 2 cases equal" in out
    assert err == (
        "gpukmeans: error: numba gives other bits than numpy in 2 of 2 cases: please report it with the text above\n"
    )


def test_the_best_backend_that_works_is_verified(run, numba_backend, monkeypatch):
    with support.standin_cupy():
        code, out, _ = run()
    assert code == 0
    assert out.startswith("### gpukmeans doctor --verify: cupy against numpy")
    assert "- card 0: Stand-in for NVIDIA A100" in out
    monkeypatch.setattr("gpukmeans.backends.available_backends", lambda: {"cupy": "no", "numba": None, "numpy": None})
    assert run()[1].startswith("### gpukmeans doctor --verify: numba against numpy")
    monkeypatch.setattr("gpukmeans.backends.available_backends", lambda: {"cupy": "no", "numba": "nor", "numpy": None})
    code, out, err = run()
    assert (code, out) == (1, "")
    assert "only numpy works here, which the others are compared with (cupy: no; numba: nor)" in err


def test_a_backend_that_does_not_work_says_why(run):
    with support.standin_cupy(n_devices=0):
        code, out, err = run("--backend", "cupy")
    assert (code, out) == (1, "")
    assert "The backend 'cupy' does not work here: there is a driver but no card" in err


def test_progress_shows_on_a_terminal_only(run, numba_backend, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = run("--backend", numba_backend)
    assert "2 of 2: 200 x 3, k=4, float64, blobs" in err
    assert "2 of 2: " not in out


def test_errors_do_not_break_the_table():
    text = verify.report([Case("a", ("one | two\nthree",), 1.0)], "numba", {})
    assert "| a | DIFFERENT: one \\| two three | 1.00 |" in text
