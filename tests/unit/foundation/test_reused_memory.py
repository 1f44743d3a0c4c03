"""Memory of arrays is used again when nobody looks at them any more, and never before."""

import numpy as np
import pytest

from streamptycho.memory import REUSED_FROM_BYTES, ReusedMemory

SHAPE = (REUSED_FROM_BYTES // 1000, 1000)
U8 = np.dtype(np.uint8)


def test_memory_is_used_again_only_when_no_view_is_left():
    memory = ReusedMemory()
    first = memory.empty(SHAPE, U8)
    view = first[3:5, ::2]
    address = first.ctypes.data
    first[:] = 7
    del first
    second = memory.empty(SHAPE, U8)
    second[:] = 1
    assert (view == 7).all()
    assert second.ctypes.data != address
    del view
    assert memory.empty(SHAPE, U8).ctypes.data == address


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_arrays_have_the_shape_and_the_dtype(dtype):
    memory = ReusedMemory()
    for count in (1, 7, 300, 299, 5000):
        array = memory.empty((count, 16, 16), np.dtype(dtype))
        assert (array.shape, array.dtype, array.flags.c_contiguous) == ((count, 16, 16), np.dtype(dtype), True)
        array[:] = count % 200
        assert (array == count % 200).all()


def test_no_more_is_kept_than_allowed():
    memory = ReusedMemory(kept_bytes=4 * REUSED_FROM_BYTES)
    held = [memory.empty((2 * REUSED_FROM_BYTES,), U8) for _ in range(5)]
    for k, array in enumerate(held):
        array[:] = k
    assert [int(array[0]) for array in held] == list(range(5))
    addresses = {array.ctypes.data for array in held}
    del held, array
    again = [memory.empty((2 * REUSED_FROM_BYTES,), U8) for _ in range(3)]
    assert len(addresses & {array.ctypes.data for array in again}) >= 1
