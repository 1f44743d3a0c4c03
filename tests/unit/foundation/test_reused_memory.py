"""Memory of arrays is used again when nobody looks at them any more, and never before."""

import numpy as np
import pytest

from streamptycho.memory import REUSED_FROM_BYTES, ReusedMemory, ReusedSlabs, in_one

SHAPE = (REUSED_FROM_BYTES // 1000 + 1, 1000)
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


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_arrays_of_one_slab_are_one_without_a_copy(dtype):
    slabs = ReusedSlabs(ReusedMemory(), 64 * REUSED_FROM_BYTES)
    pieces = [slabs.empty((count, 16, 16), np.dtype(dtype)) for count in (3, 0, 5, 1)]
    for k, piece in enumerate(pieces):
        piece[:] = k
    joined = in_one(pieces)
    assert np.shares_memory(joined, pieces[0])
    assert np.array_equal(joined, np.concatenate(pieces))
    assert np.array_equal(in_one(pieces[2:]), np.concatenate(pieces[2:]))


def test_arrays_that_do_not_follow_each_other_are_copied():
    slabs = ReusedSlabs(ReusedMemory(), 8 * REUSED_FROM_BYTES)
    one, two, three = (slabs.empty((2, 512, 512), U8) for _ in range(3))
    for k, piece in enumerate((one, two, three)):
        piece[:] = k
    alone = np.full((2, 512, 512), 9, np.uint8)
    for pieces in ([two, one], [one, three], [one, alone], [alone, one], [alone, alone], [one[:, ::2], two[:, ::2]]):
        joined = in_one(pieces)
        assert np.array_equal(joined, np.concatenate(pieces))
        assert not any(np.shares_memory(joined, piece) for piece in pieces)


def test_a_slab_gives_every_array_its_own_memory_and_is_used_again():
    slabs = ReusedSlabs(ReusedMemory(), 4 * REUSED_FROM_BYTES)
    held = [slabs.empty((3, 256, 100), U8) for _ in range(40)]
    for k, array in enumerate(held):
        array[:] = k
    assert [set(array.ravel().tolist()) for array in held] == [{k} for k in range(40)]
    addresses = {array.ctypes.data for array in held}
    assert slabs.empty((1, 8, 8), np.dtype("u4")).shape == (1, 8, 8)
    assert slabs.empty((1000, 256, 100), U8).shape == (1000, 256, 100)
    del held, array
    assert addresses & {slabs.empty((3, 256, 100), U8).ctypes.data for _ in range(40)}
