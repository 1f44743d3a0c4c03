"""A file written past the page cache holds the same bytes, whatever the sizes and whatever the file system refuses."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.recording import log_file
from streamptycho.recording.log_file import ALIGNMENT_BYTES, DIRECT_FROM_BYTES, LogFile
from streamptycho.recording.log_tail import aligned_room

PIECES = st.lists(
    st.tuples(
        st.one_of(
            st.integers(1, 200),
            st.integers(DIRECT_FROM_BYTES - 2, DIRECT_FROM_BYTES + 3 * ALIGNMENT_BYTES),
            st.sampled_from([DIRECT_FROM_BYTES, 3 * DIRECT_FROM_BYTES, ALIGNMENT_BYTES]),
        ),
        st.booleans(),
    ),
    max_size=10,
)


def room_with(content, offset, aligned):
    room = (aligned_room(len(content), offset) if aligned else np.empty(len(content), np.uint8))[: len(content)]
    room[:] = np.frombuffer(content, np.uint8)
    return room


def write_all(file, content, aligned):
    view = room_with(content, file.tell(), aligned).data
    while view:
        view = view[file.write(view) :]


@settings(deadline=None, max_examples=40)
@given(pieces=PIECES)
def test_the_file_holds_what_was_written(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("log") / "file"
    random = np.random.default_rng(1)
    content, file = b"", LogFile(path)
    for size, aligned in pieces:
        piece = random.integers(0, 256, size, np.uint8).tobytes()
        write_all(file, piece, aligned)
        content += piece
        assert path.read_bytes() == content
        assert file.tell() == len(content)
    file.close()
    file.close()
    assert path.read_bytes() == content


def test_large_aligned_pieces_go_past_the_page_cache(tmp_path, monkeypatch):
    file = LogFile(tmp_path / "file")
    if not file.is_direct:
        pytest.skip("this file system has no direct writes")
    written, pwrite = [], os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: written.append((fd, at)) or pwrite(fd, data, at))
    write_all(file, b"x" * 100, aligned=True)
    write_all(file, b"y" * 2 * DIRECT_FROM_BYTES, aligned=True)
    direct = [at for fd, at in written if fd != file.fileno()]
    assert direct == [ALIGNMENT_BYTES]
    file.close()


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP])
def test_where_the_file_system_refuses_the_page_cache_takes_all(tmp_path, monkeypatch, error):
    file, pwrite = LogFile(tmp_path / "file"), os.pwrite

    def refuse(fd, data, at):
        if fd != file.fileno():
            raise OSError(error, "refused")
        return pwrite(fd, data, at)

    monkeypatch.setattr(os, "pwrite", refuse)
    content = os.urandom(3 * DIRECT_FROM_BYTES)
    write_all(file, content, aligned=True)
    assert (tmp_path / "file").read_bytes() == content
    assert not file.is_direct
    file.close()


def test_a_slow_disk_is_written_through_the_page_cache_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(log_file, "SLOW_S", -1e9)
    monkeypatch.setattr(log_file, "BUFFERED_AFTER_SLOW_BYTES", 2 * DIRECT_FROM_BYTES)
    file = LogFile(tmp_path / "file")
    if not file.is_direct:
        pytest.skip("this file system has no direct writes")
    modes, content = [], os.urandom(DIRECT_FROM_BYTES)
    for _ in range(7):
        modes.append(file.is_direct)
        write_all(file, content, aligned=True)
    assert modes == [True, False, False, True, False, False, True]
    assert (tmp_path / "file").read_bytes() == 7 * content
    file.close()


def test_what_was_cut_back_is_written_again(tmp_path):
    file = LogFile(tmp_path / "file")
    write_all(file, b"a" * (2 * DIRECT_FROM_BYTES + 77), aligned=True)
    file.truncate(1001)
    file.seek(1001)
    write_all(file, b"b" * 2 * DIRECT_FROM_BYTES, aligned=True)
    assert (tmp_path / "file").read_bytes() == b"a" * 1001 + b"b" * 2 * DIRECT_FROM_BYTES
    file.close()
