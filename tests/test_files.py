"""Data files: what is read, what is refused and in which words; writing, and a full disk."""

import errno
import io
import os
import pickle
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import support
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpukmeans import DataFileError, KMeans, model_file
from gpukmeans.data_files import atomic_write, read_data, read_weights, write_labels

FUZZ = settings(max_examples=150)
X = np.random.default_rng(0).standard_normal((60, 3)).round(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for examples that hypothesis draws; each overwrites the one before."""
    return tmp_path_factory.mktemp("files")


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def npy_bytes(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def assert_one_line_that_names(path, error):
    assert "\n" not in str(error)
    assert str(path) in str(error)


def refusal(path, read=read_data):
    """The message with which a file is refused, without its name."""
    with pytest.raises(DataFileError) as info:
        read(path)
    assert_one_line_that_names(path, info.value)
    return str(info.value).removeprefix(str(path))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint64", "bool", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_and_npz_come_back_as_they_were(tmp_path, dtype, order):
    array = np.asarray(X > 0 if dtype == "bool" else np.abs(X), dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", array)
    np.savez_compressed(tmp_path / "y.npz", array)
    (tmp_path / "y.npz").rename(tmp_path / "y.NPZ")
    for name in ("x.npy", "x.npz", "y.NPZ", "x.npz:arr_0"):
        got = read_data(tmp_path / name)
        assert np.array_equal(got, array)
        assert got.dtype == np.dtype(dtype).newbyteorder("=")


def test_npy_is_mapped_and_not_read(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert isinstance(read_data(tmp_path / "x.npy"), np.memmap)


def test_a_table_without_rows_is_read(tmp_path):
    np.save(tmp_path / "x.npy", np.empty((0, 3)))
    assert read_data(tmp_path / "x.npy").shape == (0, 3)


def test_an_npz_with_several_arrays_asks_which(tmp_path):
    np.savez(tmp_path / "one.npz", X=X, y=np.arange(60))
    assert np.array_equal(read_data(tmp_path / "one.npz"), X)
    assert np.array_equal(read_weights(tmp_path / "one.npz"), np.arange(60))
    np.savez(tmp_path / "two.npz", X=X, Z=X)
    assert "choose one with FILE.npz:NAME (names: X, Z)" in refusal(tmp_path / "two.npz")
    assert np.array_equal(read_data(tmp_path / "two.npz:Z"), X)
    with pytest.raises(DataFileError, match=r"holds no array 'W' \(names: X, Z\)"):
        read_data(tmp_path / "two.npz:W")


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (X[:, 0], "save X.reshape(-1, 1) if it is one feature, X.reshape(1, -1) if it is one sample"),
        (X[None], "of shape (1, 60, 3); shape (n_samples, n_features) is needed"),
        (np.array(1.0), "of shape ()"),
        (X + 1j, "complex numbers"),
        (X.astype(str), "text"),
        (X.astype("S"), "bytes"),
        (X.astype("M8[s]"), "dates"),
        (np.zeros((3, 2), dtype=[("a", "f4")]), "records"),
    ],
)
def test_arrays_that_are_no_table_of_numbers_are_refused(tmp_path, array, complaint):
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", array)
    assert complaint in refusal(tmp_path / "x.npy")
    assert complaint in refusal(tmp_path / "x.npz")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def test_pickles_are_never_loaded(tmp_path):
    array = np.array([[Bomb()]], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    np.savez(tmp_path / "x.npz", array)  # with pickles by default
    assert "Python objects" in refusal(tmp_path / "x.npy")
    assert "Python objects" in refusal(tmp_path / "x.npz")
    assert "not a .npy file" in refusal(written(tmp_path / "y.npy", pickle.dumps(Bomb())))
    assert "not a .npz file" in refusal(written(tmp_path / "y.npz", pickle.dumps(Bomb())))


@pytest.mark.parametrize("name", ["x.txt", "x.pkl", "x", "x.npy.gz"])
def test_an_unknown_extension_lists_the_known_ones(tmp_path, name):
    assert ".npy, .npz, .csv, .parquet" in refusal(written(tmp_path / name, "1,2"))


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_data(tmp_path / "nothing.npy")
    (tmp_path / "folder.csv").mkdir()
    assert "not a regular file" in refusal(tmp_path / "folder.csv")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        assert "not a regular file" in refusal(tmp_path / "pipe.csv")


def test_an_npz_that_lies_about_its_size_is_refused_before_memory_is_taken(tmp_path):
    header = npy_bytes(np.zeros((10, 3))).replace(b"(10, 3), }" + b" " * 10, b"(10000000000000, 3), }")
    assert len(header) > 300
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header)
    assert "has not the size that its shape" in refusal(tmp_path / "x.npz")


CSV = "a,b,c\n1,2.5,-3e-2\n4,5,6\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("header", [True, False])
def test_csv_is_read_with_any_delimiter_line_end_and_header(tmp_path, delimiter, newline, header):
    text = (CSV if header else CSV.partition("\n")[2]).replace(",", delimiter).replace("\n", newline)
    for content in (
        text,
        "\ufeff" + text,
        text.rstrip(),
        newline + text + newline,
        text.replace("1", '"1"'),
    ):
        got = read_data(written(tmp_path / "x.csv", content))
        assert got.tolist() == [[1, 2.5, -0.03], [4, 5, 6]]
        assert got.dtype == np.float64


def test_csv_keeps_every_bit_of_a_float(tmp_path):
    array = np.random.default_rng(0).standard_normal((50, 4)) * 10.0 ** np.arange(-100, 100, 50)
    np.savetxt(tmp_path / "x.csv", array, delimiter=",", fmt="%.17g")
    support.assert_same_array(read_data(tmp_path / "x.csv"), array)


def test_one_column_of_csv_is_one_feature(tmp_path):
    assert read_data(written(tmp_path / "x.csv", "height\n1\n2\n")).tolist() == [[1], [2]]
    assert read_data(written(tmp_path / "x.csv", "7")).tolist() == [[7]]
    assert read_weights(written(tmp_path / "x.csv", "w\n1\n2\n")).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n3,x\n", ", line 3, column 2 ('b'): 'x' is not a number."),
        ("a,b\n\n1,2\n\n3,x\n", ", line 5, column 2 ('b'): 'x' is not a number."),
        ("1,2\n3,\n", ", line 2, column 2: the cell is empty; fill in a number or leave the row out."),
        ("1,2\n , 3\n", ", line 2, column 1: the cell is empty; fill in a number or leave the row out."),
        ("1,2\n3\n", ", line 2: 1 cells, where the lines before have 2."),
        ("a,b\n1,2,3\n", ", line 1: 2 names for 3 columns of numbers."),
        ("a,b\n1,2,x\n", ", line 2: 3 cells, where the lines before have 2."),
        (
            "a;b\n1;2,5\n",
            ", line 2, column 2 ('b'): '2,5' is not a number; decimals are written with a point.",
        ),
        ("id,2019,2020\n1,2,3\n", ", line 1, column 1: 'id' is not a number."),
        (",a,b\n0,1,2\n", ", line 1: the first column has no name, so it is likely the index"),
        ("1 2\n3 4\n", ", line 2, column 1 ('1 2'): '3 4' is not a number."),
        ("1,1_000\n", ", line 1, column 2: '1_000' is not a number."),
        ("a\n" + "z" * 100, f", line 2, column 1 ('a'): '{'z' * 40}...' is not a number."),
        ("a,b\n", " has a header line and no rows."),
        ("", " is empty."),
        ("\n  \n", " is empty."),
        ("1,2\n3,NA\n", "column 2: 'NA' is not a number."),
        ("1,2\n3,\x1b[2J\n", r"column 2: '\x1b[2J' is not a number."),
    ],
)
def test_what_is_wrong_in_csv_is_named_by_line_and_column(tmp_path, text, complaint):
    assert complaint in refusal(written(tmp_path / "x.csv", text))


def test_csv_that_is_no_text_is_refused(tmp_path):
    assert refusal(written(tmp_path / "x.csv", b"\xff\xfe1,2")) == " is not a text file in UTF-8."
    assert "is not a text file in UTF-8" in refusal(written(tmp_path / "x.csv", "1,2\n3,4\nä".encode("latin-1")))
    assert "is no table of numbers" in refusal(written(tmp_path / "x.csv", "a" * 200_000))


@pytest.mark.extra
def test_parquet_is_read_in_the_common_dtype_of_its_columns(tmp_path):
    support.optional("pyarrow")
    pandas = support.optional("pandas")
    path = tmp_path / "x.parquet"
    pandas.DataFrame(X.astype(np.float32), columns=list("abc")).to_parquet(path)
    support.assert_same_array(read_data(path), X.astype(np.float32))
    pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]}).to_parquet(path, row_group_size=1)
    support.assert_same_array(read_data(path), np.array([[1, 0.5, 1], [2, 1.5, 0]]))


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"a": [1.0, 2.0], "b": ["x", "y"]}, ", column 'b': holds"),
        ({"a": [1.0, 2.0], "b": [1, None]}, ", row 1, column 'b': the cell is empty"),
        ({"a": [1.0], "__index_level_0__": [3]}, "the index of a table and no data"),
        ({}, " has no columns."),
    ],
)
@pytest.mark.extra
def test_what_is_wrong_in_parquet_is_named_by_row_and_column(tmp_path, columns, complaint):
    pyarrow, parquet = support.optional("pyarrow"), support.optional("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    assert complaint in refusal(tmp_path / "x.parquet")


@pytest.mark.extra
def test_parquet_without_pyarrow_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'gpukmeans[parquet]'" in refusal(written(tmp_path / "x.parquet", "PAR1"))


def valid_data(folder):
    """A valid file of each kind that can be written here, as name and bytes."""
    np.savez_compressed(folder / "c.npz", X)
    files = {
        "x.npy": npy_bytes(X),
        "x.npz": (folder / "c.npz").read_bytes(),
        "x.csv": CSV.encode(),
    }
    np.savez(folder / "c.npz", a=X, b=X[:, 0])
    files["y.npz"] = (folder / "c.npz").read_bytes()
    return files


def assert_read_or_refused(path):
    try:
        got = read_data(path)
    except DataFileError as error:
        assert_one_line_that_names(path, error)
        return
    assert got.ndim == 2
    assert got.dtype.kind in "fiub"


@pytest.mark.parametrize("extension", ["npy", "npz", "csv"])
@FUZZ
@given(content=st.binary(max_size=200) | st.text(max_size=50).map(str.encode) | st.from_regex(rb"[0-9,;.\"\n -]{1,40}"))
def test_random_bytes_are_read_or_refused_in_one_line(folder, extension, content):
    assert_read_or_refused(written(folder / f"r.{extension}", content))
    magic = {"npy": b"\x93NUMPY\x01\x00", "npz": b"PK\x03\x04", "csv": b"a,b\n1,2\n"}[extension]
    assert_read_or_refused(written(folder / f"r.{extension}", magic + content))


@FUZZ
@given(data=st.data())
def test_truncated_and_flipped_files_are_read_or_refused_in_one_line(folder, data):
    name, content = data.draw(st.sampled_from(sorted(valid_data(folder).items())))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    changed = changed[: data.draw(st.integers(0, len(changed)) | st.just(len(changed)))]
    assert_read_or_refused(written(folder / name, bytes(changed)))


NPY_HEADERS = st.builds(
    lambda descr, order, shape, end: f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}{end}".encode(),
    st.sampled_from(
        ["'<f8'", "'|O'", "'>i2'", "'|V7'", "'<U3'", "[('a', '<f4')]", "('<f4', (2,))", "3", "'?'", "('x',)"]
    ),
    st.sampled_from(["True", "False", "None"]),
    st.lists(st.sampled_from(["0", "1", "3", "-1", "10**3", "9223372036854775807", "1e3", "'a'"]), max_size=3).map(
        lambda lengths: "(" + "".join(f"{n}," for n in lengths) + ")"
    ),
    st.sampled_from(["}", ", }\n", "", ", 'more': 1}", ")" * 50, "[" * 150]),
)


@FUZZ
@given(header=NPY_HEADERS, content=st.binary(max_size=64), version=st.sampled_from([1, 2, 3, 9]))
@example(b"{'descr': '<f8', 'fortran_order': True, 'shape': (0,9223372036854775807,)}", b"", 1)
def test_any_npy_header_is_read_or_refused_in_one_line(folder, header, content, version):
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    npy = b"\x93NUMPY" + bytes([version, 0]) + size + header + content
    assert_read_or_refused(written(folder / "h.npy", npy))
    with zipfile.ZipFile(folder / "h.npz", "w") as archive:
        archive.writestr("h.npy", npy)
    assert_read_or_refused(folder / "h.npz")


@pytest.mark.extra
def test_damaged_parquet_files_are_read_or_refused_in_one_line(folder):
    pyarrow, parquet = support.optional("pyarrow"), support.optional("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": X[:, 0], "b": X[:, 1]}), folder / "valid.parquet")
    valid = (folder / "valid.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for n in range(0, len(valid), max(1, len(valid) // 100)):
        assert_read_or_refused(written(folder / "x.parquet", valid[:n]))
        changed = bytearray(valid)
        changed[int(rng.integers(len(valid)))] ^= int(rng.integers(1, 256))
        assert_read_or_refused(written(folder / "x.parquet", bytes(changed)))


# ---------------------------------------------------------------------------------------------- writing
LABELS = np.array([2, 0, 1, 1], dtype=np.int32)


def test_labels_are_written_by_extension(tmp_path):
    for name in ("y.npy", "y.csv", "y.txt"):
        write_labels(tmp_path / name, LABELS)
    support.assert_same_array(np.load(tmp_path / "y.npy", allow_pickle=False), LABELS)
    assert (tmp_path / "y.csv").read_bytes() == b"label\n2\n0\n1\n1\n"
    assert (tmp_path / "y.txt").read_bytes() == b"2\n0\n1\n1\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["y.csv", "y.npy", "y.txt"]


def test_many_labels_are_written_in_blocks_without_a_seam(tmp_path):
    labels = np.random.default_rng(0).integers(0, 9, 150_000, dtype=np.int32)
    write_labels(tmp_path / "y.txt", labels)
    assert np.array_equal(np.loadtxt(tmp_path / "y.txt", dtype=np.int32), labels)


def test_labels_of_an_unknown_extension_are_refused(tmp_path):
    assert ".npy, .csv, .txt" in refusal(tmp_path / "y.json", lambda path: write_labels(path, LABELS))


def save_model(path):
    model_file.save(KMeans(4, random_state=0, backend="numpy").fit(X), path)


@pytest.mark.parametrize(
    "save", [save_model, lambda path: write_labels(path.with_suffix(".npy"), LABELS)], ids=["model", "labels"]
)
@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=str)
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, save, broken, failure):
    old = written(tmp_path / "out.npy", "the old file")

    def fail(*_, **__):
        raise failure

    if broken == "write":
        real_open = open

        def opened(file, mode="r", **options):
            stream = real_open(file, mode, **options)
            return FullDisk(stream, fail) if "x" in mode else stream

        monkeypatch.setattr("builtins.open", opened)
    else:
        monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(failure)) as info:
        save(tmp_path / "out.npy")
    if isinstance(failure, OSError):
        assert info.value.filename == str(tmp_path / "out.npy")
    assert old.read_text() == "the old file"
    assert [p.name for p in tmp_path.iterdir()] == ["out.npy"]


class FullDisk:
    """A stream that cannot write."""

    def __init__(self, stream, fail):
        self.stream, self.write = stream, fail

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_is_written_to_directly_and_a_full_one_says_so(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"), atomic_write("/dev/full") as file:
        file.write(b"x" * 100_000)
    with atomic_write("/dev/null") as file:
        file.write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(os.name == "nt", reason="links and modes as on POSIX")
def test_an_overwritten_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    target, link = written(tmp_path / "target.txt", "old"), tmp_path / "link.txt"
    target.chmod(0o640)
    link.symlink_to(target)
    write_labels(link, LABELS)
    assert link.is_symlink()
    assert target.read_text() == "2\n0\n1\n1\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_missing_folder_is_named_by_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        write_labels(tmp_path / "no" / "y.npy", LABELS)
    assert info.value.filename == str(tmp_path / "no" / "y.npy")
