"""The stand-in for CuPy is strict: what CuPy or CUDA would get wrong in silence is an error or wrong numbers here."""

import io
import re

import numpy as np
import pytest
import support
from simt import build, standin
from simt.standin import torch as stand_in_torch

control = standin.control
SOURCE = """
extern "C" __global__ void twice(const float* in, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = 2.0f * in[i];
}
extern "C" __global__ void beyond(float* out, long long n) { out[n + threadIdx.x] = 1.0f; }
extern "C" __global__ void shared(int* out, bool on) {
  DYNAMIC_SHARED(int, s);
  s[threadIdx.x] = on;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x ^ 1] + BASE;
}
template <class T> __global__ void fill(T* out, T value) { out[threadIdx.x] = value; }
"""
NAMES = ("twice", "beyond", "shared", "fill<double>", "fill<unsigned long long>")


@pytest.fixture(autouse=True)
def cp():
    standin.install()
    control.reset()
    import cupy

    yield cupy
    control.reset()
    standin.uninstall()


@pytest.fixture
def kernel(cp):
    if build.compiler() is None:
        support.missing("simt", "it needs g++ on x86-64 Linux")
    module = cp.RawModule(code=SOURCE, options=("-std=c++17", "-DBASE=10"), name_expressions=NAMES)
    return module.get_function


def ones(cp, n=8):
    return cp.asarray(np.ones(n, np.float32))


def twice(kernel, x, out, n=8):
    kernel("twice")((1,), (32,), (x, out, np.int32(n)))


def pinned(cp, n=8):
    return np.frombuffer(cp.cuda.alloc_pinned_memory(4 * n), np.float32, n)


# ---- arrays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        np.asarray,
        lambda a: np.array([a, a]),
        lambda a: a + np.ones(8),
        lambda a: np.ones(8) + a,
        np.isfinite,
        lambda a: np.concatenate([a, a]),
        memoryview,
        lambda a: a.__setitem__(slice(2), np.ones(2, np.float32)),
    ],
)
def test_an_array_never_becomes_one_of_numpy_by_itself(cp, use):
    with pytest.raises(TypeError):
        use(ones(cp))


def test_arrays_compute_index_and_convert_as_numpy_does(cp):
    h = np.arange(12, dtype=np.float32).reshape(3, 4)
    a = cp.asarray(h)
    for f in (
        lambda v: v[1:, ::2],
        lambda v: v[:, 1],
        lambda v: v[v > 3],
        lambda v: v[np.array([2, 0])],
        lambda v: v.T.reshape(6, 2),
        lambda v: (2 - v) * v >= -3,
        lambda v: v.astype(np.int64).sum(axis=0),
        lambda v: v.ravel().view(np.int32),
    ):
        support.assert_same_array(f(a).get(), f(h))
    assert (int(a[1, 2]), float(a.max()), len(a), a[0].T.shape) == (6, 11.0, 3, (4,))
    assert (a.T.flags.c_contiguous, a.T.flags.f_contiguous, a[1:].data.ptr - a.data.ptr) == (False, True, 16)
    a[1:, 0] = 7
    b = a.copy()
    a += b
    assert a.get()[:, 0].tolist() == [0, 14, 14]
    assert isinstance(a, cp.ndarray)
    assert cp.bincount(cp.asarray([1, 3, 1])).get().tolist() == [0, 2, 0, 1]
    assert [v.get().tolist() for v in cp.unique(cp.asarray([3, 1, 3]), return_counts=True)] == [[1, 3], [1, 2]]
    assert bool(cp.array_equal(a, a))
    assert int(cp.count_nonzero(cp.zeros(3))) == 0
    support.assert_same_array(cp.full(3, 2, np.float32).get(), np.full(3, 2, np.float32))


def test_shape_or_dtype_that_differ_are_refused_in_copies(cp):
    a = ones(cp)
    with pytest.raises(TypeError, match="float64 array cannot be set to float32"):
        a.set(np.ones(8))
    with pytest.raises(ValueError, match="Shape mismatch"):
        a.set(np.ones(7, np.float32))
    with pytest.raises(TypeError, match="cannot be obtained"):
        a.get(out=np.ones(8))


def test_arrays_of_other_libraries_are_shared_and_stay_alive(cp):
    a = ones(cp)
    b = cp.asarray(type("Other", (), {"__cuda_array_interface__": a.__cuda_array_interface__})())
    c = cp.from_dlpack(a)
    pointer = a.data.ptr
    del a
    assert (b.data.ptr, c.data.ptr, b.get().sum(), c.get().sum()) == (pointer, pointer, 8, 8)
    with pytest.raises(TypeError, match="CPU arrays cannot be directly imported"):
        cp.from_dlpack(np.ones(3))


# ---- kernels ----------------------------------------------------------------------------------------------------


def test_a_kernel_runs(cp, kernel):
    x, out = ones(cp), cp.empty(8, np.float32)
    twice(kernel, x, out)
    kernel("fill<double>")((1,), (2,), (d := cp.empty(2), 0.5))
    assert (out.get().tolist(), d.get().tolist()) == ([2] * 8, [0.5] * 2)
    assert control.log.launches == {"twice": 1, "fill<double>": 1}


@pytest.mark.parametrize(
    ("n", "message"),
    [(8, "is i8, where the kernel wants i4"), (8.0, "f8"), (np.uint32(8), "u4"), (None, "p8"), (True, "u1")],
)
def test_an_argument_of_another_size_or_kind_is_refused(cp, kernel, n, message):
    with pytest.raises(TypeError, match=message):
        kernel("twice")((1,), (32,), (ones(cp), ones(cp), n))


def test_what_is_no_argument_is_refused(cp, kernel):
    x, n = ones(cp), np.int32(8)
    for args in ((x, x), (x, x, n, n), (np.ones(8), x, n), (x, [1], n), (cp.empty((4, 4), np.float32).T, x, n)):
        with pytest.raises(TypeError):
            kernel("twice")((1,), (32,), args)
    with pytest.raises(ValueError, match="CuPy would launch 1"):
        kernel("twice")((0,), (32,), (x, x, n))
    with pytest.raises(TypeError, match="expected tuple"):
        kernel("twice")(1, (32,), (x, x, n))
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel("twice")((1,), (1025,), (x, x, n))
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="CUDA_ERROR_NOT_FOUND"):
        kernel("thrice")


def test_more_than_48_kb_of_shared_memory_must_be_opted_into(cp, kernel):
    out, k = cp.empty(32, np.int32), kernel("shared")
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        k((1,), (32,), (out, True), shared_mem=(48 << 10) + 1)
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        k.max_dynamic_shared_size_bytes = (163 << 10) + 1
    k.max_dynamic_shared_size_bytes = 64 << 10
    kernel("shared")((1,), (32,), (out, True), shared_mem=64 << 10)
    assert out.get().tolist() == [11] * 32


def test_a_source_that_does_not_compile_says_why(cp, kernel):
    bad = cp.RawModule(code=SOURCE.replace("2.0f", "nonsense"), options=("-DBASE=1",))
    with pytest.raises(cp.cuda.compiler.CompileException, match="nonsense") as raised:
        bad.compile()
    raised.value.dump(text := io.StringIO())
    assert "NVRTC compilation error" in text.getvalue()
    with pytest.raises(cp.cuda.compiler.CompileException, match="unrecognized option --use_fast_math"):
        cp.RawModule(code=SOURCE, options=("--use_fast_math",)).compile()


@pytest.mark.parametrize("checked", [False, True])
def test_writing_past_an_array_is_reported(cp, kernel, checked):
    control.checked = checked
    kernel("beyond")((1,), (32,), (cp.empty(128, np.float32), np.int64(128)))
    with pytest.raises(RuntimeError, match="outside every allocation" if checked else "past the end"):
        cp.cuda.Device().synchronize()


def test_checked_a_kernel_may_touch_only_what_it_was_given(cp, kernel):
    control.checked = True
    work = cp.zeros(64, np.float32)
    twice(kernel, work[:8], work[8:16])
    cp.cuda.Device().synchronize()
    twice(kernel, work[:8], work[8:12])
    with pytest.raises(build.SimtError, match="runs past its global allocation|outside every allocation"):
        cp.cuda.Device().synchronize()


def test_edits_make_mutants(cp, kernel):
    control.edits = lambda source: source.replace("2.0f", "3.0f")
    twice(kernel, ones(cp), out := cp.empty(8, np.float32))
    assert out.get().tolist() == [3] * 8


def test_a_kernel_of_this_project_runs(cp, kernel):
    def text(name, seen):
        if name in seen:
            return ""
        seen.add(name)
        return re.sub(r'#include "(\w+\.cuh)"', lambda m: text(m[1], seen), (build.KERNELS / name).read_text())

    module = cp.RawModule(
        code=text("transform.cu", set()), options=("-std=c++17",), name_expressions=["transform<float>"]
    )
    x, centers = np.random.RandomState(0).rand(20, 5).astype("f4"), np.zeros((3, 5), np.float32)
    out = cp.empty((20, 3), np.float32)
    arrays = (cp.asarray(x), cp.asarray(centers), out)
    module.get_function("transform<float>")((2,), (256,), (*arrays, np.int64(20), np.int32(5), np.int32(3)))
    expected = np.sqrt((x.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(out.get(), np.repeat(expected[:, None], 3, axis=1), rtol=1e-6)


# ---- streams ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["lazy", "ahead"])
@pytest.mark.parametrize("waits", [True, False])
def test_a_forgotten_wait_gives_wrong_numbers(cp, kernel, waits, order):
    control.streams = order
    copy, work = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    x, out, free = cp.empty(8, np.float32), cp.empty(8, np.float32), cp.cuda.Event()
    results = []
    for i in range(3):
        if waits:
            copy.wait_event(free)
        x.set(np.full(8, i + 1, np.float32), stream=copy)
        ready = copy.record()
        with work:
            if waits:
                work.wait_event(ready)
            twice(kernel, x, out)
            results.append(out.get(blocking=False))
        free.record(work)
    work.synchronize()
    assert ([r[0] for r in results] == [2, 4, 6]) == waits


def test_ahead_a_buffer_that_is_still_read_is_overwritten(cp, kernel):
    def run():
        copy, work = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
        x, out = cp.empty(8, np.float32), cp.empty((2, 8), np.float32)
        for i in range(2):
            x.set(np.full(8, i + 1, np.float32), stream=copy)  # without waiting until `work` has read the last one
            with work:
                work.wait_event(copy.record())
                twice(kernel, x, out[i])
        work.synchronize()
        return out.get()[:, 0].tolist()

    assert run() == [2, 4]  # this order is good luck
    control.streams = "ahead"
    assert run() == [4, 4]


def test_the_default_stream_and_blocking_streams_wait_for_each_other(cp, kernel):
    x, out = cp.empty(8, np.float32), cp.empty(8, np.float32)
    x.set(np.ones(8, np.float32), stream=cp.cuda.Stream())
    twice(kernel, x, out)
    assert out.get()[0] == 2
    x.set(np.zeros(8, np.float32), stream=cp.cuda.Stream(non_blocking=True))
    twice(kernel, x, out)
    assert out.get()[0] == 2


def test_a_result_arrives_in_pinned_memory_when_something_waits(cp):
    host, event = pinned(cp), cp.cuda.Event(disable_timing=True)
    host[:] = 0
    ones(cp).get(out=host, blocking=False)
    event.record()
    assert host.tolist() == [0] * 8
    event.synchronize()
    assert host.tolist() == [1] * 8
    assert (event.done, control.log.syncs) == (True, {"event": 1})


def test_a_pinned_buffer_that_is_reused_too_early_gives_wrong_numbers(cp):
    def send(values):
        a = cp.empty(8, np.float32)
        a.set(values)
        values[:] = 5
        return a.get().tolist()

    assert send(np.ones(8, np.float32)) == [1] * 8  # pageable memory is staged at the call
    host = pinned(cp)
    host[:] = 1
    assert send(host) == [5] * 8


def test_a_pinned_buffer_that_dies_too_early_gives_wrong_numbers(cp):
    host = pinned(cp)
    host[:] = 1
    a = cp.asarray(host)
    del host
    assert np.isnan(a.get()).all()


def test_asking_whether_work_is_done_ends(cp):
    ones(cp)
    assert [cp.cuda.Stream.null.done, cp.cuda.Stream.null.done] == [False, True]


def test_streams_are_found_by_their_pointer(cp):
    s = cp.cuda.Stream(non_blocking=True)
    same = cp.cuda.Stream.from_external(s)
    with pytest.warns(DeprecationWarning, match="Use Stream.from_external"):
        assert cp.cuda.ExternalStream(s.ptr) == s
    a = cp.empty(8, np.float32)
    a.set(np.ones(8, np.float32), stream=same)
    s.synchronize()
    with s:
        assert cp.cuda.get_current_stream() is s
        assert a.__cuda_array_interface__["stream"] == s.ptr
    assert a.get()[0] == 1


def test_a_captured_stream_works_only_when_the_graph_is_launched(cp, kernel):
    x, out, stream = ones(cp), cp.zeros(8, np.float32), cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        twice(kernel, x, out)
        x.data.memset_async(0, x.nbytes)
        graph = stream.end_capture()
    assert (control.log.launches, out.get().tolist()) == ({}, [0] * 8)
    for expected in (2, 0):
        graph.launch()
        assert out.get().tolist() == [expected] * 8
    assert (control.log.graphs, control.log.launches) == (2, {"twice": 2})
    del x
    with pytest.raises(RuntimeError, match="has been freed"):
        graph.launch()


def test_what_a_capture_forbids_is_an_error(cp):
    with pytest.raises(RuntimeError, match="default stream"):
        cp.cuda.Stream.null.begin_capture()
    a, stream = ones(cp), cp.cuda.Stream(non_blocking=True)
    with stream:
        for forbidden in (stream.synchronize, lambda: cp.empty(3), a.get, lambda: a.set(np.ones(8, np.float32))):
            stream.begin_capture()
            with pytest.raises(RuntimeError, match="captured"):
                forbidden()
            stream.end_capture()
        with pytest.raises(RuntimeError, match="nothing was being captured"):
            stream.end_capture()


# ---- memory -----------------------------------------------------------------------------------------------------


def test_new_memory_is_poisoned(cp):
    assert np.isnan(cp.empty(3, np.float32).get()).all()
    assert cp.empty(3, np.int64).get().tolist() == [-1] * 3


def test_freed_memory_is_poisoned_in_the_order_of_its_stream(cp, kernel):
    x, out = ones(cp), cp.empty(8, np.float32)
    twice(kernel, x, out)
    del x
    assert out.get().tolist() == [2] * 8
    other, x = cp.cuda.Stream(non_blocking=True), ones(cp)
    cp.cuda.Stream.null.synchronize()
    with other:
        twice(kernel, x, out)
    del x  # its stream does not wait for the other one: it may be reused before the kernel runs
    other.synchronize()
    assert np.isnan(out.get()).all()
    x = ones(cp)
    cp.cuda.Stream.null.synchronize()
    with other:
        twice(kernel, x, out)
    cp.cuda.Stream.null.wait_event(other.record())
    del x
    other.synchronize()
    assert out.get().tolist() == [2] * 8


def test_the_chosen_allocation_has_no_memory_once(cp):
    control.fail_allocation = 2
    a = cp.empty(1)
    with pytest.raises(MemoryError, match=r"Out of memory allocating 512 bytes \(allocated so far: 512 bytes\)") as e:
        cp.empty(1)
    assert isinstance(e.value, cp.cuda.memory.OutOfMemoryError)
    b = cp.empty(1)
    assert (control.log.allocations, cp.get_default_memory_pool().used_bytes()) == (3, 1024)
    del a, b
    assert cp.get_default_memory_pool().used_bytes() == 0


def test_a_device_is_full_at_some_time(cp):
    control.device_memory = 1 << 20
    keep = cp.empty(1 << 19, np.uint8)
    with pytest.raises(MemoryError):
        cp.empty((1 << 19) + 1, np.uint8)
    cp.get_default_memory_pool().set_limit(size=1 << 19)
    with pytest.raises(MemoryError, match="limit set to"):
        cp.empty(1, np.uint8)
    assert cp.cuda.Device().mem_info == (1 << 19, 1 << 20)
    del keep


# ---- devices ----------------------------------------------------------------------------------------------------


def test_an_array_of_another_device_is_refused(cp, kernel):
    control.n_devices = 2
    a = ones(cp)
    with cp.cuda.Device(1):
        b, out = ones(cp), cp.empty(8, np.float32)
        with pytest.raises(ValueError, match="memory of device 0 on device 1"):
            twice(kernel, a, out)
        with pytest.raises(ValueError, match="array of device 0"):
            a + b
        with pytest.raises(RuntimeError, match="does not match with the current device"), stream_of(cp, 0):
            pass
        assert (cp.asarray(a).device.id, cp.asarray(a).get()[0], a.get()[0]) == (1, 1, 1)
    assert (a.device.id, b.device.id, b.__dlpack_device__()) == (0, 1, (2, 1))


@pytest.mark.parametrize("waits", [True, False])
def test_a_copy_from_another_device_waits_for_nothing_by_itself(cp, waits):
    control.n_devices = 2
    a, b = ones(cp), None
    done = cp.cuda.get_current_stream().record()
    with cp.cuda.Device(1):
        b = cp.empty(8, np.float32)
        if waits:
            cp.cuda.get_current_stream().wait_event(done)
        b.data.copy_from_device_async(a.data, a.nbytes)
        assert (b.get()[0] == 1) == waits
        assert (control.log.between_devices, control.log.within_device) == ([32], [])
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError):  # on a stream of this device, to memory of the other one
        b.data.copy_from_device_async(a.data, a.nbytes)


def stream_of(cp, device):
    with cp.cuda.Device(device):
        return cp.cuda.Stream()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_devices": 0}, "cudaErrorNoDevice: no CUDA-capable device is detected"),
        ({"driver_version": 0}, "cudaErrorInsufficientDriver: CUDA driver version is insufficient"),
    ],
)
def test_a_machine_without_a_device_says_so(cp, settings, message):
    control.reset(**settings)
    for use in (cp.cuda.runtime.getDeviceCount, cp.cuda.Device, cp.cuda.Event, lambda: cp.empty(1)):
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match=message):
            use()
    assert not cp.cuda.is_available()


def test_the_log_counts_copies_and_waits(cp, kernel):
    x, out = ones(cp), cp.empty(8, np.float32)
    control.log.clear()
    for _ in range(5):
        twice(kernel, x, out)
    out.get()
    assert (control.log.launches["twice"], control.log.to_device, control.log.to_host) == (5, [], [32])
    assert control.log.syncs == {"get": 1}


# ---- torch ------------------------------------------------------------------------------------------------------


def test_tensors_are_handed_over_as_pytorch_would(cp):
    stand_in_torch.install()
    try:
        import torch

        t = torch.as_tensor(np.ones(8, np.float32), device="cuda")
        assert (t.is_cuda, str(t.device), t.dtype, t.shape) == (True, "cuda:0", torch.float32, (8,))
        assert cp.asarray(t).data.ptr == cp.from_dlpack(t).data.ptr == t.data_ptr()
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            np.asarray(t)
        t.requires_grad = True
        with pytest.raises(RuntimeError, match="requires grad"):
            cp.asarray(t)
        with torch.cuda.stream(torch.cuda.Stream()):
            t.detach().fill_(3)
            shared = cp.asarray(t.detach())  # version 2 names no stream: nobody waits
            assert shared.get()[0] == 1
            assert cp.from_dlpack(t.detach()).get()[0] == 3
        assert torch.from_dlpack(shared).cpu().numpy()[0] == 3
    finally:
        stand_in_torch.uninstall()


def test_uninstalling_puts_back_what_was_there():
    import sys

    ours = sys.modules["cupy"]
    standin.uninstall()
    assert sys.modules.get("cupy") is not ours
    named = [m for name, m in sys.modules.items() if name.startswith("cupy.")]
    left = [m for m in named if getattr(m, "__spec__", None) is not None]
    assert not any(m.__spec__.loader is None for m in left)
