"""Zip files written and read without zipfile's passes over the bytes, beside zipfile itself."""

import io
import random
import zipfile
import zlib

import numpy as np
import pytest

from handmill import config
from handmill.saving.pieces import Content, ContentFile, crc32, read_content
from handmill.saving.stored_zip import read_members, to_archive

CASES = [
    {},
    {"a.json": b"{}"},
    {
        "leer": b"",
        "gr\xf6\xdfe.txt": b"1",
        "x/y": [b"ab", b"", np.arange(300)],
    },
]


def by_zipfile(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, b"".join(data) if isinstance(data, list) else data)
    return file.getvalue()


@pytest.mark.parametrize("members", CASES, ids=("none", "one", "three"))
def test_the_bytes_are_those_of_zipfile(members):
    assert b"".join(to_archive(members)) == by_zipfile(members)


def test_members_are_read_back_in_the_order_of_the_directory():
    content = by_zipfile({"b": b"later", "a": b"sooner"})
    file = io.BytesIO(content)
    entries = zipfile.ZipFile(file).infolist()[::-1]
    found = read_members(file, entries)
    assert list(found) == ["a", "b"]
    assert found["b"] == b"later"
    assert found["a"].readonly


def test_a_checksum_is_that_of_zlib_for_every_length_and_offset():
    data = random.Random(0).randbytes(5000)
    for size in (*range(300), 4096, 4999):
        for start in (0, 1):
            part = data[start : start + size]
            value = (size * 2654435761) & 0xFFFFFFFF
            assert crc32(part, value) == zlib.crc32(part, value), (size, start)
            assert crc32(part) == zlib.crc32(part)


@pytest.mark.skipif(not config.has_kernels(), reason="no kernels")
def test_a_checksum_is_that_of_bytes_in_one_piece():
    from handmill import _core

    with pytest.raises(ValueError, match="in one piece"):
        _core.crc32(np.zeros((8, 8), np.float32)[:, ::2])


def test_a_file_that_ends_early_gives_what_it_has():
    content, crc = read_content(io.BytesIO(b"abc"), 10, checked=True)
    assert content == b"abc"
    assert crc == zlib.crc32(b"abc")


def test_what_was_read_of_a_file_is_known():
    file = ContentFile(bytes(range(100)))
    for start, size in ((50, 10), (0, 4), (4, 4), (55, 20), (96, 9)):
        file.seek(start)
        assert file.read(size) == bytes(range(start, min(start + size, 100)))
    assert file.were_read() == [(0, 8), (50, 75), (96, 100)]
    content: Content = file.read(1)
    assert content == b""
    assert file.seek(-1, 2) == 99


@pytest.mark.slow
def test_members_beyond_4_gigabytes(tmp_path):
    size = (1 << 32) + 5
    zeros = np.zeros(size, np.uint8).data  # which are never written: one page of them
    with (tmp_path / "large.zip").open("wb") as file:  # with a hole where the zeros are
        for piece in to_archive({"zeros": [zeros], "small": b"found"}):
            file.seek(size, 1) if piece is zeros else file.write(piece)
    with (tmp_path / "large.zip").open("rb") as file, zipfile.ZipFile(file) as archive:
        large, small = archive.infolist()
        assert large.file_size == large.compress_size == size
        assert small.header_offset > size
        assert read_members(file, [small]) == {"small": b"found"}
        assert archive.read("small") == b"found"
