"""Data that is read block by block gives the bits of the same data in memory, from any source and in any blocks."""

import os
import pickle
import threading
from contextlib import contextmanager

import numpy as np
import problems
import pytest
import support
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_same_array, assert_same_fit, quiet_fit, result_of

import naive
from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, open_source, streaming
from gpukmeans.backends import _cuda_rows
from gpukmeans.errors import DataFileError

N, D = 600, 5
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
WHOLE = np.random.default_rng(1).integers(0, 200, (N, D)).astype(np.uint8)


class Own:
    """What a user may write, with nothing but the three that are asked for."""

    def __init__(self, rows, size=7):
        self.rows, self.size = rows, size
        self.shape, self.dtype = rows.shape, rows.dtype

    def blocks(self):
        for low in range(0, len(self.rows), self.size):
            yield self.rows[low : low + self.size]


class OwnWithRead(Own):
    def read(self, start, stop):
        return self.rows[start:stop]


@contextmanager
def blocks_of_rows(size, *, may_reside=True):
    """Streamed data in blocks of so many rows."""
    with pytest.MonkeyPatch.context() as patch:
        begin = streaming.Streamed.__init__

        def init(self, source):
            begin(self, source)
            self.block_rows, self.may_reside = size, may_reside

        patch.setattr(streaming.Streamed, "__init__", init)
        yield


def vector_file(path, rows):
    d = np.full((len(rows), 1), rows.shape[1], "<i4")
    path.write_bytes(np.hstack([d.view(np.uint8), np.ascontiguousarray(rows).view(np.uint8)]).tobytes())
    return open_source(path)


def parquet_file(path, rows, **options):
    pyarrow, parquet = support.optional("pyarrow"), support.optional("pyarrow.parquet")
    columns = {f"x{j}": column for j, column in enumerate(rows.T)}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=100, **options)
    return path


def hdf5_file(path, rows):
    with support.optional("h5py").File(path, "w") as file:
        file.create_dataset("group/rows", data=rows, chunks=(50, 2))
        file.create_dataset("others", data=np.arange(3))
    return path


def zarr_store(path, rows):
    zarr = support.optional("zarr")
    zarr.create_array(store=path, data=rows, chunks=(50, 2))
    return path


def saved(path, rows):
    np.save(path, rows)
    return path


def folder(path, rows):
    path.mkdir()
    for i, low in enumerate((0, 1, 100, 333)):
        np.save(path / f"{i}.npy", rows[low : (1, 100, 333, len(rows))[i]])
    (path / ".hidden.npy").touch()
    (path / "notes.txt").touch()
    return path


PLAIN = {
    "npy": lambda p, rows: open_source(saved(p / "x.npy", rows)),
    "npy in Fortran order": lambda p, rows: open_source(saved(p / "x.npy", np.asfortranarray(rows))),
    "npy of the other byte order": lambda p, rows: open_source(saved(p / "x.npy", rows.astype(">f4"))),
    "a folder": lambda p, rows: open_source(folder(p / "x", rows)),
    "a list": lambda p, rows: open_source([saved(p / "a.npy", rows[:7]), saved(p / "b.npy", rows[7:])]),
    "a memory map": lambda p, rows: open_source(mapped(saved(p / "x.npy", np.vstack([rows, rows])), "r")[N:]),
    "a raw memory map": lambda p, rows: open_source(raw_map(p / "x.bin", rows)),
    "a private memory map": lambda p, rows: open_source(mapped(saved(p / "x.npy", rows), "c")),
    "an array": lambda p, rows: open_source(rows[:, ::-1].copy()[:, ::-1]),
    "a class": lambda p, rows: Own(rows),
    "a class with read": lambda p, rows: OwnWithRead(rows, size=1000),
    "fvecs": lambda p, rows: vector_file(p / "x.fvecs", rows),
}
EXTRA = {
    "parquet": lambda p, rows: open_source(parquet_file(p / "x.parquet", rows)),
    "hdf5": lambda p, rows: open_source(hdf5_file(p / "x.h5", rows)),
    "hdf5 by name": lambda p, rows: open_source(f"{hdf5_file(p / 'x.h5', rows)}:group/rows"),
    "an hdf5 array": lambda p, rows: support.optional("h5py").File(hdf5_file(p / "x.h5", rows))["group/rows"],
    "zarr": lambda p, rows: open_source(zarr_store(p / "x.zarr", rows)),
    "a dask array": lambda p, rows: support.optional("dask.array").from_array(rows, chunks=(130, 2)),
    "two parquet files": lambda p, rows: open_source(two_files(p, rows)),
}


def mapped(path, mode):
    return np.load(path, mmap_mode=mode)


def raw_map(path, rows):
    path.write_bytes(b"head" + rows.tobytes())
    return np.memmap(path, np.float32, "r", 4, rows.shape)


def two_files(p, rows):
    return [parquet_file(p / "a.parquet", rows[:250]), parquet_file(p / "b.parquet", rows[250:])]


def every_source():
    extra = [pytest.param(EXTRA[name], marks=pytest.mark.extra, id=name) for name in EXTRA]
    return pytest.mark.parametrize("source_of", [*(pytest.param(PLAIN[name], id=name) for name in PLAIN), *extra])


def fitted(source, backend="numpy", k=6, **options):
    weight = options.pop("sample_weight", None)
    return quiet_fit(KMeans(k, random_state=0, backend=backend, **options), source, sample_weight=weight)


# ---------------------------------------------------------------------------------------------- the same bits


@every_source()
def test_every_source_gives_the_bits_of_the_rows_in_memory(tmp_path, source_of):
    expected = fitted(X, max_iter=5)
    with blocks_of_rows(97):
        source = source_of(tmp_path, X)
        model = fitted(source, max_iter=5)
        assert_same_fit(result_of(model), result_of(expected))
        assert_same_array(model.predict(source), expected.labels_)
        assert model.score(source) == expected.score(X)


@pytest.mark.parametrize("dtype", ["f2", "f8", "i4", "u1", "?"])
def test_every_dtype_becomes_what_it_becomes_in_memory(tmp_path, dtype):
    rows = WHOLE.astype(dtype)
    with blocks_of_rows(64):
        for kind in ("npy", "a class"):
            model = fitted(PLAIN[kind](tmp_path, rows))
            assert_same_fit(result_of(model), result_of(fitted(rows)))


@pytest.mark.parametrize(("kind", "dtype"), [("bvecs", "u1"), ("ivecs", "i4")])
def test_vector_files_of_integers_are_read(tmp_path, kind, dtype):
    source = vector_file(tmp_path / f"x.{kind}", WHOLE.astype(dtype))
    assert source.shape == WHOLE.shape
    assert source.dtype == dtype
    assert_same_fit(result_of(fitted(source)), result_of(fitted(WHOLE.astype(dtype))))


@settings(max_examples=10)
@given(
    recipe=problems.recipes(max_n=200),
    size=st.sampled_from([1, 7, 64, 150, 1000]),
    init=st.sampled_from(["array", "k-means++", "random"]),
    alone=st.booleans(),
)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_blocks_of_any_size_give_the_bits_of_the_oracle(backend, recipe, size, init, alone):
    p = recipe.build()
    size = max(size, len(p.X) // support.MOST_BLOCKS + 1)
    if init == "random" and p.sample_weight is not None and np.count_nonzero(p.sample_weight) < recipe.k:
        init = "array"
    start = p.centers if init == "array" else init
    options = {"tol": p.tol, "max_iter": min(p.max_iter, 5), "n_init": 1 if init == "array" else 2}
    expected = naive.fit_seeded(
        p.X, recipe.k, np.random.RandomState(0), init=start, sample_weight=p.sample_weight, **options
    )
    source = Own(p.X, size=13) if alone else open_source(p.X)
    with blocks_of_rows(size):
        model = fitted(source, backend, recipe.k, init=start, sample_weight=p.sample_weight, **options)
        predicted = model.predict(source)
    assert_same_fit(result_of(model), expected)
    assert_same_array(predicted, expected.labels, "predict")


@pytest.mark.parametrize("may_reside", [True, False])
def test_a_card_is_given_the_rows_of_a_source(monkeypatch, may_reside):
    weights = np.arange(N) % 3.0
    expected = fitted(X, sample_weight=weights, max_iter=4)
    sizes, begin = [], _cuda_rows.CudaRows._read

    def read(self, low, high, out):
        sizes.append(high - low)
        begin(self, low, high, out)

    monkeypatch.setattr(_cuda_rows.CudaRows, "_read", read)
    with support.standin_cupy(), blocks_of_rows(100, may_reside=may_reside):
        model = fitted(Own(X), "cupy", sample_weight=weights, max_iter=4)
        n_read = len(sizes)
        assert_same_array(model.predict(Own(X)), expected.labels_)
    assert_same_fit(result_of(model), result_of(expected))
    assert model.history_.column("n_moved") == expected.history_.column("n_moved")
    assert (n_read, max(sizes)) == (1, N) if may_reside else (n_read > 50, max(sizes)) == (True, 100)


@pytest.mark.parametrize("keeps", [True, False])
def test_sums_of_a_block_may_be_kept_or_not(numba_backend, monkeypatch, keeps):
    monkeypatch.setattr(streaming.Block, "keeps_sums", keeps)
    with blocks_of_rows(100):
        model = fitted(Own(X), numba_backend)
    assert_same_fit(result_of(model), result_of(fitted(X)))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_kmeans_parallel_is_streamed(backend):
    options = {"init": "k-means||", "n_init": 1, "max_iter": 3, "sample_weight": np.arange(N) % 3.0}
    with blocks_of_rows(100):
        model = fitted(Own(X), backend, **options)
    assert_same_fit(result_of(model), result_of(fitted(X, **options)))


def test_the_history_is_that_of_the_fit_in_memory(tmp_path):
    with blocks_of_rows(100):
        model = fitted(PLAIN["npy"](tmp_path, X))
    assert model.history_.column("n_moved") == fitted(X).history_.column("n_moved")


def test_a_callable_start_is_given_the_source():
    def init(source, n_clusters, random_state):
        return source.rows[:n_clusters]

    model = fitted(Own(X), init=init, n_init=1)
    assert_same_fit(result_of(model), result_of(fitted(X, init=X[:6])))


def test_other_estimators_predict_from_a_source_and_refuse_to_be_fitted_to_one():
    for model in (MiniBatchKMeans(3, random_state=0), BisectingKMeans(3, random_state=0)):
        with blocks_of_rows(100):
            assert_same_array(model.fit(X).predict(Own(X)), model.labels_)
        with pytest.raises(TypeError, match="X is a source.*elsewhere pass arrays"):
            model.fit(Own(X))


# ---------------------------------------------------------------------------------------------- labels to a file


@pytest.mark.parametrize("name", ["labels.npy", "labels.csv", "labels.txt"])
def test_labels_go_to_a_file_as_they_come(tmp_path, name):
    model = fitted(X)
    path = tmp_path / name
    with blocks_of_rows(100):
        labels = model.predict(Own(X), out=path)
    if name.endswith(".npy"):
        assert_same_array(labels, model.labels_)
        labels._mmap.close()
        found = np.load(path)
    else:
        assert labels is None
        found = np.loadtxt(path, dtype=np.int32, skiprows=int(name.endswith(".csv")))
    assert_same_array(found, model.labels_)


def test_a_file_of_labels_appears_whole_or_not_at_all(tmp_path):
    rows = X.copy()
    rows[500, 2] = np.nan
    (tmp_path / "labels.npy").write_text("old")
    with blocks_of_rows(100), pytest.raises(ValueError, match="row 500, column 2 is nan"):
        fitted(X).predict(Own(rows), out=tmp_path / "labels.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.npy"]
    assert (tmp_path / "labels.npy").read_text() == "old"
    with pytest.raises(TypeError, match="out= is for a source"):
        fitted(X).predict(X, out=tmp_path / "labels.npy")


# ---------------------------------------------------------------------------------------------- what goes wrong


def test_nan_is_named_by_row_column_and_file(tmp_path):
    rows = X.copy()
    rows[333, 2] = np.nan
    with blocks_of_rows(100):
        source = PLAIN["a folder"](tmp_path, rows)
        for work in (fitted, fitted(X).predict, fitted(X).score):
            with pytest.raises(ValueError, match=r"row 333, column 2 is nan \(in .*3\.npy, rows 0 to 0\)"):
                work(source)


@pytest.mark.parametrize("how", ["changed", "truncated", "removed"])
def test_a_file_that_changes_between_two_passes_is_noticed(tmp_path, monkeypatch, how):
    source = PLAIN["npy"](tmp_path, X)
    path = source.path
    read, calls = type(source).read_into, []

    def read_into(self, start, out):
        calls.append(start)
        if len(calls) == 9:  # in the second pass
            if how == "removed":
                path.unlink()
            elif how == "truncated":
                os.truncate(path, 9000)
            else:
                content = bytearray(path.read_bytes())
                content[-3] ^= 1
                path.write_bytes(content)
        read(self, start, out)

    monkeypatch.setattr(type(source), "read_into", read_into)
    wanted = {"changed": "other ones than in the first pass", "truncated": "is truncated", "removed": "No such file"}
    with blocks_of_rows(100), pytest.raises(DataFileError, match=wanted[how]) as caught:
        fitted(source)
    assert str(path) in str(caught.value)
    assert no_reader_is_left()


def test_a_file_that_is_only_touched_is_read_on(tmp_path, monkeypatch):
    source = PLAIN["npy"](tmp_path, X)
    read = type(source).read_into

    def read_into(self, start, out):
        os.utime(source.path, ns=(1, len(os.listdir(tmp_path)) + start)) if touched else None
        read(self, start, out)

    touched = []
    monkeypatch.setattr(type(source), "read_into", read_into)
    with blocks_of_rows(100):
        rows = streaming.Streamed(source)
        first = [rows.load(low, low + 100).copy() for low in range(0, N, 100)]
        touched.append(True)
        again = [rows.load(low, low + 100).copy() for low in range(0, N, 100)]
        rows.close()
    assert_same_array(np.vstack(again), np.vstack(first))


def test_a_file_that_has_changed_since_it_was_opened_is_refused(tmp_path):
    source = PLAIN["npy"](tmp_path, X)
    np.save(source.path, X[::-1])
    os.utime(source.path, ns=(1, 1))
    with pytest.raises(DataFileError, match=r"x\.npy has changed since it was opened"):
        fitted(source)


class Wrong(Own):
    """A source that gives what it should not, from some pass on."""

    def __init__(self, change, at_pass=1):
        super().__init__(X, 100)
        self.change, self.at_pass, self.passes = change, at_pass, 0

    def blocks(self):
        self.passes += 1
        yield from self.change(super().blocks()) if self.passes >= self.at_pass else super().blocks()


def failing(blocks):
    yield next(blocks)
    raise OSError(5, "the cable is loose")


def without_the_last(blocks):
    *most, _ = blocks
    yield from most


def with_one_more(blocks):
    yield from blocks
    yield X[:1]


def narrower(blocks):
    yield from (block[:, 1:] for block in blocks)


def other_rows(blocks):
    yield from (block + 1 for block in blocks)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (failing, r"rows \d+ to \d+ of Wrong: OSError: \[Errno 5\] the cable is loose"),
        (without_the_last, "Wrong gives 500 rows, and its shape says that it has 600"),
        (with_one_more, "Wrong gives more rows than the 600 of its shape"),
        (narrower, r"Wrong gives a block of shape \(100, 4\)"),
        (other_rows, "the rows are other ones than in the first pass"),
    ],
)
@pytest.mark.parametrize("at_pass", [1, 3])
def test_a_source_that_fails_is_named_with_its_rows_and_leaves_no_thread(change, complaint, at_pass):
    if change is other_rows and at_pass == 1:
        at_pass = 2
    with blocks_of_rows(100), pytest.raises(DataFileError, match=complaint):
        fitted(Wrong(change, at_pass))
    assert no_reader_is_left()


def no_reader_is_left():
    return not any(thread.name.startswith("gpukmeans-reader") for thread in threading.enumerate())


def test_no_thread_is_left_after_a_fit(tmp_path):
    model = fitted(PLAIN["npy"](tmp_path, X))
    model.predict(Own(X))
    model.score(Own(X))
    assert no_reader_is_left()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.fvecs", b"", "is empty"),
        ("x.fvecs", b"\xff\xff\xff\xff0000", "says that it has -1 values"),
        ("x.fvecs", b"\x02\0\0\0" + b"0" * 9, "13 bytes are no whole number of rows of 2 values"),
        ("x.npy", b"not NumPy's", "is not a .npy file, or it is corrupt"),
        ("x.csv", b"1,2", "cannot be streamed"),
    ],
)
def test_files_that_are_not_what_their_names_say_are_refused(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFileError, match=complaint) as caught:
        open_source(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_row_of_another_length_in_a_vector_file_is_named(tmp_path):
    source = vector_file(tmp_path / "x.fvecs", X)
    content = bytearray(source.path.read_bytes())
    content[24 * 250] = 4
    source.path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"x\.fvecs is corrupt: row 250 says that it has 4 values"):
        fitted(open_source(source.path))


def test_what_cannot_be_opened_says_why(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:, 1:])
    np.save(tmp_path / "one.npy", X[:, 0])
    np.save(tmp_path / "none.npy", X[:0])
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    (tmp_path / "empty").mkdir()
    for what, complaint in {
        tmp_path / "text.npy": "text.npy holds the dtype",
        tmp_path / "empty": "has no file that can be streamed",
        tmp_path / "one.npy": r"an array of shape \(600,\)",
        tmp_path / "none.npy": "is empty",
        (tmp_path / "a.npy", tmp_path / "b.npy"): r"b\.npy has 4 columns, and .*a\.npy has 5",
    }.items():
        with pytest.raises(DataFileError, match=complaint):
            open_source(what)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_source(tmp_path / "nowhere.npy")
    with pytest.raises(ValueError, match="columns= chooses columns of Parquet files"):
        open_source(tmp_path / "a.npy", columns=["x"])


@settings(max_examples=15)
@given(share=st.floats(0, 1), data=st.data())
@pytest.mark.parametrize("kind", ["npy", "fvecs"])
def test_a_file_cut_anywhere_is_refused_in_one_line_that_names_it(tmp_path_factory, kind, share, data):
    folder = tmp_path_factory.mktemp("cut")
    path = PLAIN[kind](folder, X[:20]).path
    os.truncate(path, int(share * (path.stat().st_size - 1)))
    with pytest.raises(DataFileError, match=path.name) if kind == "npy" or path.stat().st_size % 24 else nullcut(path):
        fitted(open_source(path), k=2)


@contextmanager
def nullcut(path):
    """Cut between two rows, a vector file is a shorter one, or empty: nothing in it says how many rows there were."""
    if path.stat().st_size >= 48:
        yield
    else:
        with pytest.raises(ValueError, match="empty|n_samples=1 should be >= n_clusters=2"):
            yield


# ---------------------------------------------------------------------------------------------- stores, samples


@pytest.mark.extra
def test_columns_of_parquet_are_chosen_by_name_and_are_the_features_of_the_model(tmp_path):
    path = parquet_file(tmp_path / "x.parquet", X)
    source = open_source(path, columns=["x3", "x1"])
    model = fitted(source)
    assert_same_fit(result_of(model), result_of(fitted(X[:, [3, 1]])))
    assert model.feature_names_in_.tolist() == ["x3", "x1"]
    assert_same_array(model.predict(source), model.labels_)
    with pytest.raises(ValueError, match=r"\['x1', 'x3'\], and the model was fitted to \['x3', 'x1'\]"):
        model.predict(open_source(path, columns=["x1", "x3"]))
    with pytest.raises(ValueError, match="X has 5 features, but KMeans is expecting 2"):
        model.predict(open_source(path))
    with pytest.raises(DataFileError, match=r"has no column 'x9'; it has 'x0'"):
        open_source(path, columns=["x9"])


@pytest.mark.extra
def test_a_corrupt_page_of_parquet_is_named_by_file_and_row_group(tmp_path):
    path = parquet_file(tmp_path / "x.parquet", X, compression="none", use_dictionary=False, write_page_checksum=False)
    meta = support.optional("pyarrow.parquet").read_metadata(path)
    at = meta.row_group(3).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)
    with blocks_of_rows(100), pytest.raises(DataFileError, match=r"x\.parquet, row group 3, is truncated or corrupt"):
        fitted(open_source(path))
    assert no_reader_is_left()


@pytest.mark.extra
def test_an_empty_cell_in_a_parquet_source_is_named(tmp_path):
    pyarrow, parquet = support.optional("pyarrow"), support.optional("pyarrow.parquet")
    table = pyarrow.table({"a": [0.5, None, 2.5], "b": [1.5, 2.5, 3.5]})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=1)
    with pytest.raises(DataFileError, match=r"x\.parquet, row 1, column 'a': the cell is empty"):
        fitted(open_source(tmp_path / "x.parquet"), k=1)


@pytest.mark.extra
def test_arrays_in_stores_are_found_or_named(tmp_path):
    h5py, zarr = support.optional("h5py"), support.optional("zarr")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"], file["b"] = X, X
    with pytest.raises(DataFileError, match="more than one 2-D array; choose one with PATH:NAME .names: a, b"):
        open_source(tmp_path / "x.h5")
    with pytest.raises(DataFileError, match="holds no array 'c'"):
        open_source(f"{tmp_path / 'x.h5'}:c")
    (tmp_path / "y.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataFileError, match="y.h5 is not an HDF5 file"):
        open_source(tmp_path / "y.h5")
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("a/b", data=X)
    assert open_source(tmp_path / "g.zarr").shape == X.shape
    (tmp_path / "h.zarr").mkdir()
    with pytest.raises(DataFileError, match="h.zarr is not a Zarr store"):
        open_source(tmp_path / "h.zarr")


def test_a_sample_says_which_rows_it_took(tmp_path, caplog):
    path = PLAIN["npy"](tmp_path, X).path
    with caplog.at_level("INFO", "gpukmeans"):
        source = open_source(path, sample=50)
    assert "a sample of 50 of the 600 rows of" in caplog.text
    assert len(set(source.sampled)) == 50
    assert_same_array(fitted(source).cluster_centers_, fitted(X[source.sampled]).cluster_centers_)
    assert open_source(path, sample=50).sampled.tolist() == source.sampled.tolist()
    assert open_source(path, sample=50, random_state=1).sampled.tolist() != source.sampled.tolist()
    with pytest.raises(ValueError, match="sample=601 rows cannot be drawn from the 600"):
        open_source(path, sample=601)


PICKLED = ["npy", "a folder", "fvecs", "a raw memory map", "parquet", "hdf5", "zarr"]


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.extra] * (k in EXTRA)) for k in PICKLED])
def test_what_travels_of_a_source_of_files_is_the_recipe(tmp_path, kind):
    source = (PLAIN | EXTRA)[kind](tmp_path, X)
    pickled = pickle.dumps(source)
    assert len(pickled) < 2000
    assert_same_array(np.vstack(list(pickle.loads(pickled).blocks())), X)
