"""Model files: what they keep, and that a stranger's file is a model or is refused in one line."""

import io
import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import support
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

import gpukmeans
from gpukmeans import KMeans, ModelFileError, model_file

FUZZ = settings(max_examples=150)
X = np.random.default_rng(0).standard_normal((60, 3)).round(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for examples that hypothesis draws; each overwrites the one before."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def model():
    return KMeans(4, random_state=0, backend="numpy").fit(X)


@pytest.fixture(scope="module")
def model_bytes(folder):
    model_file.save(KMeans(4, random_state=0, backend="numpy").fit(X), folder / "valid.npz")
    return (folder / "valid.npz").read_bytes()


OTHERS = {
    "MiniBatchKMeans": {"n_init": 1, "batch_size": 20, "max_iter": 3},
    "BisectingKMeans": {},
}


def other_model(name, backend="numpy", n_clusters=4, data=X, **parameters):
    return getattr(gpukmeans, name)(n_clusters, random_state=0, backend=backend, **OTHERS[name], **parameters).fit(data)


@pytest.fixture(scope="module")
def other_bytes(folder):
    for name in OTHERS:
        model_file.save(other_model(name), folder / f"{name}.npz")
    return {name: (folder / f"{name}.npz").read_bytes() for name in OTHERS}


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_a_loaded_model_predicts_the_same_bits_and_has_the_same_attributes(tmp_path, dtype, scale, backend):
    data = (X * scale).astype(dtype)
    saved = KMeans(np.int64(4), random_state=0, tol=np.float32(0), backend=backend).fit(data)
    model_file.save(saved, tmp_path / "m.npz")
    loaded = model_file.load(tmp_path / "m.npz")
    assert loaded.get_params() == saved.get_params()
    assert vars(loaded).keys() == vars(saved).keys()
    for name in ("cluster_centers_", "labels_"):
        support.assert_same_array(getattr(loaded, name), getattr(saved, name), name)
        assert getattr(loaded, name).flags.writeable
    for name in (
        "inertia_",
        "n_iter_",
        "n_features_in_",
        "backend_",
        "n_rechecked_",
        "_scale_exponent",
        "history_",
    ):
        assert getattr(loaded, name) == getattr(saved, name)
        assert type(getattr(loaded, name)) is type(getattr(saved, name))
    new = np.random.default_rng(1).standard_normal((500, 3)) * scale
    for batch in (new, new.astype(np.float32), data):
        support.assert_same_array(loaded.predict(batch), saved.predict(batch), "labels")


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("n_clusters", [1, 4])
@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e-30), (np.float64, 1.0), (np.float64, 1e30)])
def test_other_estimators_come_back_with_the_same_bits(tmp_path, name, n_clusters, dtype, scale, backend):
    data = (X * scale).astype(dtype)
    saved = other_model(name, backend, n_clusters, data)
    model_file.save(saved, tmp_path / "m.npz")
    loaded = model_file.load(tmp_path / "m.npz")
    assert type(loaded) is type(saved)
    assert loaded.get_params() == saved.get_params()
    assert vars(loaded).keys() == vars(saved).keys()
    assert (loaded.inertia_, loaded.backend_) == (saved.inertia_, saved.backend_)
    for array in ("cluster_centers_", "labels_"):
        support.assert_same_array(getattr(loaded, array), getattr(saved, array), array)
    new = (np.random.default_rng(1).standard_normal((200, 3)) * scale).astype(dtype)
    support.assert_same_array(loaded.predict(new), saved.predict(new), "labels")
    support.assert_same_array(loaded.transform(new), saved.transform(new), "distances")
    model_file.save(loaded, tmp_path / "again.npz")
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


@pytest.mark.parametrize("is_fitted", [True, False])
def test_a_loaded_mini_batch_model_goes_on_as_the_saved_one(tmp_path, backend, is_fitted):
    saved = other_model("MiniBatchKMeans", backend)
    if not is_fitted:
        parameters = {"random_state": 0, "reassignment_ratio": 0, "backend": backend}
        saved = gpukmeans.MiniBatchKMeans(4, **parameters).partial_fit(X[:30]).partial_fit(X[30:] * 1e20)
    model_file.save(saved, tmp_path / "m.npz", labels=False)
    loaded = model_file.load(tmp_path / "m.npz")
    for batch in (X, X * 1e15, X[:20] * 1e25):
        for model in (saved, loaded):
            model.partial_fit(batch, sample_weight=np.arange(len(batch)) * 1e15)
        support.assert_same_array(loaded.cluster_centers_, saved.cluster_centers_, "centers")
        assert (loaded.inertia_, loaded.n_steps_) == (saved.inertia_, saved.n_steps_)


def test_a_loaded_tree_predicts_on_the_backend_that_is_set(tmp_path, backend):
    model_file.save(other_model("BisectingKMeans", backend), tmp_path / "m.npz")
    loaded = model_file.load(tmp_path / "m.npz").set_params(backend="numpy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpukmeans.backends, "_why_unavailable", lambda name: None if name == "numpy" else "gone")
        support.assert_same_array(loaded.predict(X), loaded.labels_)


def test_a_loaded_model_can_be_saved_again_and_fitted_again(tmp_path, model):
    model_file.save(model, tmp_path / "a.npz")
    model_file.save(model_file.load(tmp_path / "a.npz"), tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = model_file.load(tmp_path / "b.npz").fit(X)
    support.assert_same_fit(support.result_of(again), support.result_of(model))


def test_labels_may_be_left_out(tmp_path, model):
    model_file.save(model, tmp_path / "m.npz", labels=False)
    loaded = model_file.load(tmp_path / "m.npz")
    assert not hasattr(loaded, "labels_")
    model_file.save(loaded, tmp_path / "again.npz")
    assert np.array_equal(loaded.predict(X), model.labels_)


@pytest.mark.extra
def test_feature_names_are_kept(tmp_path):
    pandas = support.optional("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "größe"])
    saved = KMeans(2, random_state=0).fit(frame)
    model_file.save(saved, tmp_path / "m.npz")
    loaded = model_file.load(tmp_path / "m.npz")
    assert loaded.feature_names_in_.tolist() == ["a", "b", "größe"]
    assert loaded.feature_names_in_.dtype == object
    assert np.array_equal(loaded.predict(frame), saved.labels_)


@pytest.mark.parametrize("init", [X[:4], X[:4].tolist(), X[:4].astype(np.float32), (10 * X[:4]).astype(int)])
def test_an_array_of_start_centers_is_kept(tmp_path, init):
    saved = KMeans(4, init=init).fit(X)
    model_file.save(saved, tmp_path / "m.npz")
    loaded = model_file.load(tmp_path / "m.npz")
    assert np.array_equal(loaded.init, init)
    support.assert_same_fit(support.result_of(loaded.fit(X)), support.result_of(saved))


def first_rows(X, n_clusters, random_state):
    return X[:n_clusters]


def test_what_a_file_cannot_hold_is_recorded_by_name_and_reported(tmp_path):
    saved = KMeans(4, init=first_rows, n_init=1, random_state=np.random.default_rng(0)).fit(X)
    model_file.save(saved, tmp_path / "m.npz")
    with pytest.warns(UserWarning, match="which a model file cannot hold") as caught:
        loaded = model_file.load(tmp_path / "m.npz")
    told = " ".join(str(w.message) for w in caught)
    assert "init=first_rows" in told
    assert "random_state=Generator" in told
    assert (loaded.init, loaded.random_state) == ("k-means++", None)
    assert np.array_equal(loaded.predict(X), saved.labels_)


def test_only_a_fitted_kmeans_can_be_saved(tmp_path):
    with pytest.raises(NotFittedError):
        model_file.save(KMeans(2), tmp_path / "m.npz")
    for other in ({"centers": X}, gpukmeans.KernelKMeans(2, n_components=5).fit(X)):
        with pytest.raises(TypeError, match="Only a KMeans, a MiniBatchKMeans, a BisectingKMeans can be saved"):
            model_file.save(other, tmp_path / "m.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_model_file_is_a_plain_npz_that_numpy_reads_without_pickles(tmp_path, model):
    model_file.save(model, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["cluster_centers"], model.cluster_centers_)
        assert np.array_equal(archive["labels"], model.labels_)
        header = json.loads(archive["model.json"])
    assert header == model_file.inspect(tmp_path / "m.npz")
    assert header["gpukmeans"] == gpukmeans.__version__


def test_an_infinite_inertia_is_kept(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        saved = KMeans(2, random_state=0).fit(X * 1e300)
    assert saved.inertia_ == np.inf
    model_file.save(saved, tmp_path / "m.npz")
    assert model_file.load(tmp_path / "m.npz").inertia_ == np.inf


def model_refusal(path):
    with pytest.raises(ModelFileError) as info:
        model_file.load(path)
    assert_one_line_that_names(path, info.value)
    return str(info.value).removeprefix(f"{path} ")


def test_a_foreign_file_is_refused(tmp_path):
    assert model_refusal(written(tmp_path / "a.npz", "")) == "is empty."
    assert model_refusal(written(tmp_path / "b.npz", "hello")) == "is not a gpukmeans model file."
    assert model_refusal(written(tmp_path / "c.npz", pickle.dumps(X))) == "is not a gpukmeans model file."
    np.savez(tmp_path / "d.npz", cluster_centers=X)
    assert model_refusal(tmp_path / "d.npz") == "is not a gpukmeans model file."
    with pytest.raises(FileNotFoundError):
        model_file.load(tmp_path / "nothing.npz")


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_model_file_is_refused(folder, model_bytes, share):
    model_refusal(written(folder / "m.npz", model_bytes[: int(share * len(model_bytes))]))


@FUZZ
@given(data=st.data())
def test_a_model_file_with_flipped_bytes_is_refused_or_is_the_same_model(folder, model_bytes, data):
    flipped = bytearray(model_bytes)
    for _ in range(data.draw(st.integers(1, 4))):
        flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= data.draw(st.integers(1, 255))
    path = written(folder / "m.npz", bytes(flipped))
    try:
        loaded = model_file.load(path)  # a date in the zip's directory, say, changes nothing
    except ModelFileError as error:
        assert_one_line_that_names(path, error)
        return
    expected = model_file.load(folder / "valid.npz")
    assert loaded.get_params() == expected.get_params()
    support.assert_same_array(loaded.cluster_centers_, expected.cluster_centers_)


@FUZZ
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused_as_a_model_file(folder, content):
    model_refusal(written(folder / "m.npz", content))
    model_refusal(written(folder / "m.npz", b"PK\x03\x04" + content))


def forged(path, model_bytes, *, change=None, arrays=None, compression=zipfile.ZIP_STORED):
    """A well-formed zip with right checksums and other contents."""
    with zipfile.ZipFile(io.BytesIO(model_bytes)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["model.json"])
    if change is not None:
        changed = change(header)
        header = header if changed is None else changed
    members["model.json"] = json.dumps(header).encode()
    members |= arrays or {}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_a_file_of_a_newer_version_says_so(folder, model_bytes):
    path = forged(folder / "m.npz", model_bytes, change=lambda h: h.update(version=2, gpukmeans="9.1"))
    assert "gpukmeans '9.1'" in model_refusal(path)
    assert "pip install --upgrade gpukmeans" in model_refusal(path)


def set_shape(name, shape):
    return lambda header: header["arrays"][name].update(shape=shape)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (set_shape("cluster_centers", [10**12, 3]), "not as the header states"),
        (set_shape("cluster_centers", [4, 10**30]), "n_features_in_"),
        (set_shape("cluster_centers", [-4, 3]), "shape of cluster_centers"),
        (set_shape("cluster_centers", [4.0, 3]), "shape of cluster_centers"),
        (set_shape("cluster_centers", [12]), "shape of cluster_centers"),
        (set_shape("labels", [61]), "not as the header states"),
        (lambda h: h["arrays"]["labels"].update(dtype="|O"), "dtype of labels"),
        (lambda h: h["arrays"].__delitem__("labels"), "members are not those"),
        (lambda h: h["arrays"].__delitem__("cluster_centers"), "arrays"),
        (lambda h: h["arrays"].update(evil={"dtype": "<f8", "shape": [1, 1]}), "corrupt"),
        (lambda h: h.update({"class": "Pipeline"}), "class"),
        (lambda h: h.update(version=0), "version"),
        (lambda h: h.update(version="1"), "version"),
        (lambda h: h["params"].update(init={"__reduce__": 1}), "params"),
        (lambda h: h["params"].update(n_cluster=3), "parameter 'n_cluster' that KMeans does not know"),
        (lambda h: h["left_out"].update(shell="rm"), "parameter 'shell' that KMeans does not know"),
        (lambda h: h["fitted"].update(_scale_exponent=10**9), "_scale_exponent"),
        (lambda h: h["fitted"].update(n_features_in_=2), "n_features_in_"),
        (lambda h: h["fitted"].update(__class__="x"), "fitted"),
        (lambda h: h["fitted"].update(n_iter_=True), "n_iter_"),
        (lambda h: h.update(fitted=[]), "corrupt"),
        (lambda h: h.update(feature_names_in_=["a"]), "feature_names_in_"),
        (lambda h: h.update(feature_names_in_="abc"), "feature_names_in_"),
        (lambda h: h.update(history_=[[1, 2]]), "history_"),
        (lambda h: [h], "not a gpukmeans model file"),
        (lambda h: {"format": "another"}, "not a gpukmeans model file"),
        (lambda h: {"format": "gpukmeans-model"}, "corrupt"),
    ],
)
def test_a_header_that_lies_is_refused(folder, model_bytes, change, complaint):
    assert complaint in model_refusal(forged(folder / "m.npz", model_bytes, change=change))


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("MiniBatchKMeans", lambda h: h.update({"class": "KMeans"}), "corrupt"),
        ("MiniBatchKMeans", lambda h: h.update({"class": ["KMeans"]}), "class"),
        ("MiniBatchKMeans", lambda h: h["fitted"].update({"_running.peak": -1.0}), "_running.peak"),
        ("MiniBatchKMeans", lambda h: h["fitted"].update({"_running.peak": np.inf}), "_running.peak"),
        ("MiniBatchKMeans", lambda h: h["fitted"].update({"_running.batch_size": 0}), "_running.batch_size"),
        ("MiniBatchKMeans", lambda h: h["fitted"].update({"_running.scale": 10**6}), "_running.scale"),
        ("MiniBatchKMeans", lambda h: h["fitted"].pop("_running.weight_scale"), "fitted"),
        ("MiniBatchKMeans", set_shape("running.means", [3, 3]), "shape of running.means"),
        ("MiniBatchKMeans", lambda h: h["arrays"].pop("running.weights"), "corrupt"),
        ("BisectingKMeans", lambda h: h["arrays"].pop("tree.children"), "corrupt"),
        ("BisectingKMeans", set_shape("tree.pairs", [3, 2, 2]), "shape of tree.pairs"),
        ("BisectingKMeans", lambda h: h["fitted"].update(n_iter_=3), "fitted"),
        ("BisectingKMeans", lambda h: h["params"].update(batch_size=3), "'batch_size' that BisectingKMeans does not"),
    ],
)
def test_a_header_of_another_class_that_lies_is_refused(folder, other_bytes, name, change, complaint):
    def changed(header):
        change(header)

    assert complaint in model_refusal(forged(folder / "m.npz", other_bytes[name], change=changed))


@pytest.mark.parametrize(
    ("name", "array", "values", "complaint"),
    [
        ("MiniBatchKMeans", "running.weights", np.array([1.0, 2, -1, 0]), "running.weights"),
        ("MiniBatchKMeans", "running.means", np.full((4, 3), np.nan), "NaN or infinity"),
        ("BisectingKMeans", "tree.scales", np.array([0, 0, -(2**31)], np.int32), "tree.scales"),
        *(
            ("BisectingKMeans", "tree.children", np.array(children, np.int32), "tree.children")
            for children in (
                [[0, 0], [0, 0], [0, 0]],  # a circle
                [[1, 2], [2, -1], [-2, -3]],  # a node that is met twice
                [[-1, -2], [2, -3], [-4, -1]],  # one that is met from nowhere
                [[1, -4], [-1, 2], [-2, -2]],  # a label twice
                [[1, -4], [-1, 3], [-2, -3]],  # no such node
                [[-1, 1], [2, -2], [-4, -3]],  # labels not from left to right
            )
        ),
    ],
)
def test_arrays_of_another_class_that_lie_are_refused(folder, other_bytes, name, array, values, complaint):
    path = forged(folder / "m.npz", other_bytes[name], arrays={f"{array}.npy": npy_bytes(values)})
    assert complaint in model_refusal(path)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@FUZZ
@given(data=st.data())
def test_any_value_in_the_header_is_taken_or_refused_in_one_line(folder, model_bytes, other_bytes, data):
    content = data.draw(st.sampled_from([model_bytes, *other_bytes.values()]))

    def change(header):
        place = header
        while True:
            key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(ANY_JSON)

    path = forged(folder / "m.npz", content, change=change)
    try:
        assert model_file.load(path).n_clusters is not None
    except ModelFileError as error:
        assert_one_line_that_names(path, error)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"cluster_centers.npy": npy_bytes(np.full((4, 3), np.nan))}, "NaN or infinity"),
        ({"cluster_centers.npy": npy_bytes(np.zeros((4, 3)))[:-8]}, "has not the size"),
        ({"cluster_centers.npy": npy_bytes(np.zeros((4, 3))) + b"more"}, "has not the size"),
        ({"cluster_centers.npy": npy_bytes(np.zeros((4, 3), np.float32))}, "not as the header states"),
        ({"cluster_centers.npy": npy_bytes(np.asfortranarray(np.zeros((4, 3))))}, "not as the header states"),
        (
            {"cluster_centers.npy": npy_bytes(np.array([{}] * 4), allow_pickle=True)},
            "not as the header states",
        ),
        ({"cluster_centers.npy": b""}, "not as the header states"),
        ({"labels.npy": npy_bytes(np.full(60, 4, np.int32))}, "labels outside 0 to 3"),
        ({"labels.npy": npy_bytes(np.full(60, -1, np.int32))}, "labels outside 0 to 3"),
        ({"labels.npy": None}, "members are not those"),
        ({"more.npy": npy_bytes(X)}, "members are not those"),
        ({"model.json": b"\xff{"}, "corrupt"),
        ({"model.json": b"[" * 100_000}, "corrupt"),
        ({"model.json": None}, "not a gpukmeans model file"),
    ],
)
def test_arrays_that_do_not_fit_the_header_are_refused(folder, model_bytes, arrays, complaint):
    assert complaint in model_refusal(forged(folder / "m.npz", model_bytes, arrays=arrays))


def test_a_zip_bomb_is_refused_before_it_is_read(folder, model_bytes, monkeypatch):
    bomb = {"cluster_centers.npy": npy_bytes(np.zeros((1000, 1000)))}
    path = forged(folder / "m.npz", model_bytes, arrays=bomb, compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was read"))
    assert "compressed" in model_refusal(path)
