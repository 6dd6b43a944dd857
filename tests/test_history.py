"""What a fit tells of its iterations: the history as a table, and a bar on a terminal."""

import logging
import pickle
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gpukmeans import KMeans, _terminal, model_file
from gpukmeans.history import History
from gpukmeans.lloyd import Iteration

X = np.random.default_rng(0).normal(size=(300, 2))
RECORDS = [Iteration(12.5, 300, 7, 0.001, None), Iteration(0.0, 0, 0, 0.002, None)]


def make_stderr_a_terminal(monkeypatch):
    """Stderr, as pytest captures it, says that it is one (to be called by the test itself: a fixture has another)."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_a_history_prints_as_a_table_and_leaves_out_what_was_not_computed():
    lines = str(History(RECORDS)).splitlines()
    assert [line.split() for line in lines] == [
        ["iteration", "shift_sq", "n_moved", "n_rechecked", "seconds"],
        ["0", "12.5", "300", "7", "0.001"],
        ["1", "0", "0", "0", "0.002"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert str(History([RECORDS[0]._replace(inertia=0.0)])).splitlines()[0].split()[-1] == "inertia"


def test_a_history_is_still_a_list_of_records():
    model = KMeans(4, random_state=0, verbose=0).fit(X)
    history = model.history_
    assert isinstance(history, list)
    assert len(history) == model.n_iter_
    assert history[-1].n_moved == 0
    assert history == list(history)
    assert pickle.loads(pickle.dumps(history)) == history
    assert history.column("n_moved") == [record.n_moved for record in history]


def test_a_history_becomes_a_data_frame():
    frame = History(RECORDS).to_pandas()
    assert frame.index.name == "iteration"
    assert list(frame.columns) == list(Iteration._fields)
    assert frame["n_moved"].tolist() == [300, 0]
    assert frame["inertia"].isna().all()


def test_a_loaded_model_has_its_history_as_a_table(tmp_path):
    model = KMeans(4, random_state=0).fit(X)
    model_file.save(model, tmp_path / "m.npz")
    assert str(model_file.load(tmp_path / "m.npz").history_) == str(model.history_)


def test_verbose_2_shows_how_far_a_fit_is_on_a_terminal(capsys, monkeypatch):
    make_stderr_a_terminal(monkeypatch)
    silent = KMeans(4, random_state=0, n_init=2).fit(X)
    assert capsys.readouterr() == ("", "")
    shown = KMeans(4, random_state=0, n_init=2, verbose=2).fit(X)
    out, err = capsys.readouterr()
    assert out == ""
    assert "fitting" in err
    assert "start 2 of 2, iteration" in err
    assert "rows moved" in err
    assert shown.history_.column("shift_sq") == silent.history_.column("shift_sq")
    assert shown.history_.column("inertia") == silent.history_.column("inertia")


def test_what_is_printed_beside_the_bar_stays_on_stdout(capsys, monkeypatch):
    make_stderr_a_terminal(monkeypatch)

    def init(X, n_clusters, random_state):
        print("drawing the start")
        return X[:n_clusters]

    KMeans(4, init=init, n_init=1, verbose=2).fit(X)
    out, err = capsys.readouterr()
    assert out == "drawing the start\n"
    assert "drawing" not in err


def test_verbose_2_shows_nothing_on_a_pipe(capfd):
    KMeans(4, random_state=0, verbose=2).fit(X)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("has_widgets", [True, False])
def test_in_a_notebook_the_bar_needs_what_redraws_a_cell(has_widgets, monkeypatch):
    monkeypatch.setattr(_terminal, "find_spec", lambda name: (name == "ipywidgets" and has_widgets) or None)
    assert _terminal._can_redraw(SimpleNamespace(is_jupyter=True)) is has_widgets


class Interrupter(logging.Handler):
    """Sends this process Ctrl-C when a fit logs an iteration."""

    def emit(self, record):
        if record.getMessage().startswith("iteration"):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_takes_the_bar_away_and_gives_the_cursor_back(capsys, caplog, monkeypatch):
    make_stderr_a_terminal(monkeypatch)
    caplog.set_level(logging.DEBUG, logger="gpukmeans")
    monkeypatch.setattr(logging.getLogger("gpukmeans"), "handlers", [Interrupter()])
    with pytest.raises(KeyboardInterrupt):
        KMeans(4, random_state=0, verbose=2).fit(X)
    err = capsys.readouterr().err
    hide, show, erase = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"
    assert err.count(hide) == err.count(show) == 1
    assert err.rindex(erase) > err.rindex("fitting")
