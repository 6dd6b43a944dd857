"""benchmarks/on_gpu.sh without a card: the whole run on the stand-in for CuPy, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import support

from benchmarks import on_gpu, report, tensor_rates
from gpukmeans import verify
from gpukmeans.backends import _launch, _tensor_config
from gpukmeans.bench import Case, WrongAnswerError

TINY = [Case(300, 3, 5), Case(200, 20, 9, "float64")]
PROBLEMS = [verify.Problem(100, 3, 4)]


def test_every_type_and_shape_of_the_tensor_pass_is_measured() -> None:
    large, small = _launch.Card(80, 108, 163 << 10, 2048), _launch.Card(86, 84, 99 << 10, 1536)
    found = tensor_rates.configs(large, _tensor_config.KINDS)
    sizes = {*_tensor_config.ROW_BYTES, tensor_rates.WIDE}
    assert {(c.kind, c.row_bytes) for c in found} == {(kind, size) for kind in _tensor_config.KINDS for size in sizes}
    n_offset = len(_tensor_config.OFFSET[80])
    assert len(found) == len(set(found)) == 2 * 3 * (5 + n_offset) + 3  # many rows and few
    assert sum(c.is_offset for c in found) == 2 * 3 * n_offset + 3
    assert sum(c.is_grouped for c in found) == 3
    assert {c.row_bytes for c in tensor_rates.configs(small, ["bf16"])} <= sizes


def test_all_is_verified_then_timed_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [_tensor_config.Config("bf16", 128, _tensor_config.SHAPES.few_rows[128])]
    wide = _tensor_config.SHAPES.few_rows[_tensor_config.LONGER]
    chosen += [_tensor_config.Config("bf16", tensor_rates.WIDE, wide)]
    monkeypatch.setattr(tensor_rates, "configs", lambda card, kinds: chosen)
    with support.standin_cupy():
        found = on_gpu.run(TINY, PROBLEMS, repeat=1, sizes={"n_samples": 40, "n_clusters": 9, "repeat": 1})
    assert _launch.GRAPH_CLOCKS > 0
    assert found["verified"] == 1
    for case, tile in zip(TINY, ("assign_small<float", "assign_tiled<double"), strict=True):
        kernels = found["kernels"][case.name]
        verbs = {name.partition("<")[0] for name in kernels}
        assert verbs >= {"recheck", "move_rows", "recenter", "publish_centers", "own_distance"}
        shares = {name: row["share_of_floor"] for name, row in kernels.items() if row["share_of_floor"] is not None}
        assert all(name.startswith(tile) for name in shares)
        assert len(shares) == 1
    rates = found["tensor_rates"]
    assert [(row["kind"], row["row_bytes"]) for row in rates] == [("bf16", 128), ("bf16", tensor_rates.WIDE)]
    assert all(row["products_a_clock"] > 0 and row["float32_over_this"] > 0 for row in rates)
    (tmp_path / "card.json").write_text(json.dumps(found))
    assert report.main(["--card", str(tmp_path / "card.json")]) == 0
    shown = capsys.readouterr().out
    parts = ["| `recenter<float>` |", "cupy, on card", "1 problems have the bits", "| bf16 | 2048 | "]
    for part in (*(case.name for case in TINY), *parts):
        assert part in shown


def test_nothing_is_timed_where_a_bit_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "kernels", lambda *args: pytest.fail("timed"))
    wrong = [verify.Case("a problem", ("labels differ",), 0.0)]
    monkeypatch.setattr(verify, "verify", lambda backend, problems: wrong)
    with pytest.raises(WrongAnswerError, match="nothing was timed"):
        on_gpu.run(TINY)


def test_what_there_is_no_time_for_is_said() -> None:
    with support.standin_cupy():
        found = on_gpu.run(TINY, [], minutes=0)
    assert found["left_out"] == [case.name for case in TINY]
    assert found["tensor_rates"] == []


def test_it_refuses_where_there_is_no_card(tmp_path: Path) -> None:
    if support.has_card():
        pytest.skip("there is a card")
    script = Path(on_gpu.__file__).with_suffix(".sh")
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(script), "--output", str(tmp_path / "x.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Nothing to measure: ")
    assert not (tmp_path / "x.json").exists()
