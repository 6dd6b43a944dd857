"""Numba's simulator, mended: its shared arrays, and how it waits."""

import sys
import threading

import numpy as np
from numba.cuda.simulator import kernelapi

_allocating = threading.Lock()


def shared_array(self, shape, dtype):
    """In place of the simulator's, in which two threads at once may get two arrays for one; filled with NaN and -1."""
    frame = sys._getframe(1)
    place = frame.f_code, frame.f_lineno
    with _allocating:
        if place not in self._allocations:
            array = np.empty(shape, dtype)
            array.view(np.uint8)[...] = 0xFF
            self._allocations[place] = array
        return self._allocations[place]


def mend():
    """Before the first kernel."""
    kernelapi.FakeCUDAShared.array = shared_array
    sys.setswitchinterval(1e-5)  # it waits for its threads in a loop that holds the interpreter
