"""Payload codec: our kernels against other implementations, regions, and hostile bytes."""

from __future__ import annotations

import struct

import lz4.block
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.detectors import compression, frame_kernel, kernels
from streamptycho.detectors.compression import CompressionError, TruncatedPayloadError, decompress
from tests.data import shared_data

DTYPES = ["uint8", "uint16", "uint32"]
ENCODERS = {
    "bslz4": compression.compress_bslz4,
    "lz4": compression.compress_lz4,
    "lz4_block": compression.compress_lz4_block,
    "raw": lambda array: array.tobytes(),
}
SHAPES = [(1, 1), (1, 7), (3, 5), (16, 64), (67, 129), (128, 256)]


def frame(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.choice([0.05, 2.0, 200.0], size=shape)).astype(dtype)
    counts[rng.random(shape) < 0.01] = np.iinfo(dtype).max
    return counts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_whole_and_by_rows(encoding, dtype, shape):
    counts = frame(shape, dtype)
    payload = ENCODERS[encoding](counts)
    np.testing.assert_array_equal(decompress(payload, encoding, counts.dtype, shape), counts)
    height = shape[0]
    for rows in (slice(0, 1), slice(height // 3, height // 2 + 1), slice(height - 1, height), slice(2, 2)):
        np.testing.assert_array_equal(decompress(payload, encoding, counts.dtype, shape, rows), counts[rows])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.integers(1, 40),
    st.integers(1, 300),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
    st.sampled_from(sorted(ENCODERS)),
    st.integers(0, 2**32 - 1),
)
def test_any_rows_of_any_shape(dtype, height, width, rows, encoding, seed):
    counts = frame((height, width), dtype, seed)
    payload = ENCODERS[encoding](counts)
    wanted = slice(min(rows), max(rows))
    got = decompress(payload, encoding, counts.dtype, counts.shape, wanted)
    np.testing.assert_array_equal(got, counts[wanted])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_dectris_library_reads_what_we_write(dtype, shape):
    dectris = pytest.importorskip("dectris.compression")
    counts = frame(shape, dtype)
    size = counts.itemsize
    assert dectris.decompress(compression.compress_bslz4(counts), "bslz4", elem_size=size) == counts.tobytes()
    assert dectris.decompress(compression.compress_lz4(counts), "lz4") == counts.tobytes()
    plain = lz4.block.decompress(compression.compress_lz4_block(counts), uncompressed_size=counts.nbytes)
    assert plain == counts.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_bytes", [512, 8192])
def test_we_read_what_bitshuffle_writes(dtype, block_bytes):
    bitshuffle = pytest.importorskip("bitshuffle")
    counts = frame((67, 129), dtype)
    body = bytes(bitshuffle.compress_lz4(counts.ravel(), block_bytes // counts.itemsize))
    payload = struct.pack(">QI", counts.nbytes, block_bytes) + body
    np.testing.assert_array_equal(decompress(payload, "bslz4", counts.dtype, counts.shape), counts)


@pytest.mark.parametrize("encoding", ["bslz4", "lz4", "lz4_block"])
def test_block_of_the_whole_image(encoding):
    counts = frame((128, 256), "uint16")
    if encoding == "bslz4":
        bitshuffle = pytest.importorskip("bitshuffle")
        body = bytes(bitshuffle.compress_lz4(counts.ravel(), counts.size))
        payload = struct.pack(">QI", counts.nbytes, counts.nbytes) + body
    else:
        block = lz4.block.compress(counts, store_size=False)
        header = struct.pack(">QII", counts.nbytes, counts.nbytes, len(block))
        payload = block if encoding == "lz4_block" else header + block
    np.testing.assert_array_equal(decompress(payload, encoding, counts.dtype, counts.shape), counts)
    rows = decompress(payload, encoding, counts.dtype, counts.shape, slice(3, 9))
    np.testing.assert_array_equal(rows, counts[3:9])


def test_big_endian_elements_come_back_native():
    counts = frame((16, 64), "uint16")
    foreign = counts.astype(">u2")
    for encoding in ("bslz4", "raw", "lz4", "lz4_block"):
        got = decompress(ENCODERS[encoding](foreign), encoding, foreign.dtype, counts.shape)
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, counts)


def test_empty_frame_header_is_completed_from_the_message():
    counts = frame((16, 64), "uint16")
    payload = bytes(12) + compression.compress_bslz4(counts)[12:]
    np.testing.assert_array_equal(decompress(payload, "bslz4", counts.dtype, counts.shape), counts)


def test_real_stream1_blob():
    blob = shared_data("eiger-stream/stream1_eiger2_16m_image.blob").read_bytes()
    shape = (4362, 4148)
    counts = decompress(blob, "bslz4", np.dtype("uint16"), shape)
    assert counts.shape == shape
    dectris = pytest.importorskip("dectris.compression")
    assert counts.tobytes() == dectris.decompress(blob, "bslz4", elem_size=2)
    rows = decompress(blob, "bslz4", np.dtype("uint16"), shape, slice(2000, 2100))
    np.testing.assert_array_equal(rows, counts[2000:2100])


@pytest.mark.parametrize("encoding", ENCODERS)
def test_every_cut_is_refused(encoding):
    counts = frame((24, 32), "uint16")
    payload = ENCODERS[encoding](counts)
    for length in range(0, len(payload), 7):
        with pytest.raises(CompressionError):
            decompress(payload[:length], encoding, counts.dtype, counts.shape)


@pytest.mark.parametrize("encoding", ["bslz4", "lz4", "raw"])
def test_a_cut_is_told_from_corruption(encoding):
    counts = frame((24, 32), "uint16")
    with pytest.raises(TruncatedPayloadError):
        decompress(ENCODERS[encoding](counts)[:-1], encoding, counts.dtype, counts.shape)


@pytest.mark.parametrize(
    ("declared", "block_bytes"),
    [(2**63, 8192), (2**64 - 1, 2**32 - 1), (1024, 8192), (1536, 0), (1536, 7), (1536, 24), (0, 8192), (1536, 1)],
)
def test_declared_sizes_that_do_not_fit_are_refused(declared, block_bytes):
    counts = frame((24, 32), "uint16")
    payload = struct.pack(">QI", declared, block_bytes) + compression.compress_bslz4(counts)[12:]
    with pytest.raises(CompressionError):
        decompress(payload, "bslz4", counts.dtype, counts.shape)


def test_bombs_stop_at_the_declared_size():
    shape = (24, 32)
    bomb = lz4.block.compress(bytes(1 << 24), store_size=False)
    framed = struct.pack(">QII", 1536, 8192, len(bomb)) + bomb
    for encoding, payload in (("bslz4", framed), ("lz4", framed), ("lz4_block", bomb)):
        with pytest.raises(CompressionError):
            decompress(payload, encoding, np.dtype("uint16"), shape)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_never_escape(data):
    encoding = data.draw(st.sampled_from(["bslz4", "lz4", "lz4_block"]))
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    counts = frame((9, 70), dtype)
    payload = bytearray(ENCODERS[encoding](counts))
    changes = data.draw(st.lists(st.tuples(st.integers(0, len(payload) - 1), st.integers(0, 255)), max_size=6))
    for position, value in changes:
        payload[position] = value
    cut = data.draw(st.integers(0, len(payload)))
    rows = data.draw(st.sampled_from([None, slice(0, 2), slice(4, 9)]))
    try:
        got = decompress(bytes(payload[:cut]), encoding, dtype, counts.shape, rows)
    except CompressionError:
        return
    assert got.dtype == dtype
    assert got.shape == counts[rows or slice(None)].shape


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["bslz4", "lz4", "lz4_block", "raw"]), st.booleans())
def test_random_bytes_never_escape(noise, encoding, framed):
    shape, dtype = (5, 16), np.dtype("uint16")
    payload = struct.pack(">QI", 160, 64) + noise if framed else noise
    try:
        got = decompress(payload, encoding, dtype, shape)
    except CompressionError:
        return
    assert got.shape == shape


def test_lz4_decoder_agrees_with_the_library_about_what_is_valid():
    """Every block that ours accepts, the library decodes to the same bytes."""
    rng = np.random.default_rng(1)
    plain = rng.integers(0, 3, 600, dtype=np.uint8)
    block = bytearray(lz4.block.compress(plain, store_size=False))
    accepted = 0
    for _ in range(3000):
        changed = bytearray(block)
        changed[rng.integers(len(changed))] = rng.integers(256)
        try:
            got = decompress(bytes(changed), "lz4_block", np.dtype("uint8"), (20, 30))
        except CompressionError:
            continue
        accepted += 1
        try:
            expected = lz4.block.decompress(bytes(changed), uncompressed_size=600)
        except lz4.block.LZ4BlockError:
            continue
        assert got.tobytes() == expected
    assert accepted > 100


def test_unknown_encoding_names_the_known_ones():
    with pytest.raises(CompressionError, match="bslz4"):
        decompress(b"", "zstd", np.dtype("uint8"), (1, 1))


def bit_shuffled(counts, block_bytes):
    """Return a payload with blocks of any size, which `compress_bslz4` does not write."""
    data = counts.reshape(-1).view(np.uint8)
    whole = data.size - data.size % (8 * counts.itemsize)
    shuffled = np.empty(whole, np.uint8)
    kernels.shuffle_blocks(data, shuffled, counts.itemsize, block_bytes)
    pieces = [compression.FRAME_HEADER.pack(data.size, block_bytes)]
    for begin in range(0, whole, block_bytes):
        packed = lz4.block.compress(shuffled[begin : begin + block_bytes], store_size=False)
        pieces += [compression.BLOCK_LENGTH.pack(len(packed)), packed]
    return b"".join([*pieces, data[whole:].tobytes()])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_bytes", [64, 2048, 8192, 1 << 20])
def test_blocks_of_any_size_are_decoded_whatever_bytes_of_the_counts_are_in_use(dtype, block_bytes):
    rng = np.random.default_rng(7)
    counts = rng.poisson(0.2, (611, 1037)).astype(dtype)
    counts[100:110] = rng.integers(0, np.iinfo(dtype).max, (10, 1037), endpoint=True)
    counts[400, 3] = np.iinfo(dtype).max // 300
    payload = bit_shuffled(counts, block_bytes)
    for rows in (slice(0, 611), slice(90, 120), slice(399, 402), slice(610, 611)):
        np.testing.assert_array_equal(decompress(payload, "bslz4", counts.dtype, counts.shape, rows), counts[rows])


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(1, 40), st.integers(1, 700)),
    st.tuples(st.integers(0, 39), st.integers(0, 39)),
    st.tuples(st.integers(0, 699), st.integers(0, 699)),
    st.sampled_from([64, 512, 8192]),
    st.integers(0, 2**32 - 1),
)
def test_any_columns_of_any_rows(dtype, shape, row_pair, column_pair, block_bytes, seed):
    counts = frame(shape, dtype, seed)
    payload = np.frombuffer(bit_shuffled(counts, block_bytes), np.uint8)
    first, last = sorted(min(row, shape[0] - 1) for row in row_pair)
    left, right = sorted(min(column, shape[1] - 1) for column in column_pair)
    # Guards around the rows show what is written outside of them.
    room = np.full((last - first + 3, shape[1]), 7, dtype)
    rows = room[1:-1]
    block = block_bytes // counts.itemsize
    columns = (left, right + 1)
    done = kernels.decode_bslz4(payload, 12, payload.size, 0, counts.size, block, first, columns, rows)
    assert done == kernels.FRAME_OK
    np.testing.assert_array_equal(rows[:, left : right + 1], counts[first : last + 1, left : right + 1])
    assert (room[0] == 7).all()
    assert (room[-1] == 7).all()


def cut_rows(data, spans, encoding, shape, rows, dtype):
    """Frames of rows as the compiled loop over many frames gives them, None for those that it cannot decode."""
    height, width = rows.stop - rows.start, shape[1]
    room, masked = np.empty((height, width), dtype), np.zeros((height, width), bool)
    code = {"lz4": frame_kernel.LZ4, "bslz4": frame_kernel.BSLZ4}[encoding]
    top = int(np.iinfo(dtype).max)
    found, first = [], 0
    while first < len(spans):
        counts = np.zeros((len(spans) - first, height, width), dtype)
        saturated = np.zeros(len(counts), np.int64)
        done = frame_kernel.cut_frames(
            data, spans[first:], code, shape[0], rows.start, room, (0, 0), masked, False, top, 1, (top, top), 0,
            counts, saturated,
        )  # fmt: skip
        found += [*counts[:done], None][: len(counts)]
        first += done + 1
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.sampled_from(["lz4", "bslz4"]),
    st.tuples(st.integers(0, 119), st.integers(0, 119)),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
)
def test_frames_together_are_decoded_and_refused_as_each_by_itself(dtype, encoding, row_pair, frames, seed):
    """Blocks of 8 kB: rows in the middle are found by stepping over those before them, in some of which is damage."""
    rng = np.random.default_rng(seed)
    shape, first, last = (120, 640), min(row_pair), max(row_pair)
    rows = slice(first, last + 1)
    payloads = []
    for number in range(frames):
        payload = bytearray(ENCODERS[encoding](frame(shape, dtype, seed + number)))
        fate = rng.integers(0, 4)
        if fate == 0:
            payload[int(rng.integers(0, len(payload)))] ^= int(rng.integers(1, 256))
        elif fate == 1:
            del payload[int(rng.integers(0, len(payload))) :]
        elif fate == 2:
            payload[8:12] = struct.pack(">I", int(rng.choice([0, 8, 64, 8192, 1 << 31])))
        payloads.append(bytes(payload))
    ends = np.cumsum([0, *map(len, payloads)])
    spans = np.stack([ends[:-1], ends[1:]], axis=1)
    found = cut_rows(np.frombuffer(b"".join(payloads), np.uint8), spans, encoding, shape, rows, dtype)
    for payload, counts in zip(payloads, found, strict=True):
        try:
            expected = decompress(payload, encoding, np.dtype(dtype), shape, rows)
        except CompressionError:
            expected = None
        assert (counts is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(counts, expected)
