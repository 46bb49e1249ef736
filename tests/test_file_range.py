"""Parts of files read straight into variables, and the checksum of the same pass."""

import os
import zlib

import numpy as np
import pytest

import handmill
from handmill import config, layers
from handmill.errors import FileFormatError
from handmill.saving.file_range import FileRange, StoredArray, assign_stored
from handmill.saving.pieces import crc32, read_parts

needs_kernels = pytest.mark.skipif(not config.has_kernels(), reason="no kernels")


@pytest.fixture(scope="module")
def content():
    return np.random.default_rng(0).bytes((5 << 20) + 77)


@pytest.fixture
def descriptor(content, tmp_path):
    path = tmp_path / "content"
    path.write_bytes(content)
    found = os.open(path, os.O_RDONLY)
    yield found
    os.close(found)


@pytest.fixture(params=(1, 2, 3))
def threads(request):
    before = config.num_threads()
    config.set_num_threads(request.param)
    yield request.param
    config.set_num_threads(before)


def test_parts_are_read_where_they_belong(content, descriptor, threads):
    first, second = np.zeros(1_300_001, np.uint8), np.zeros((512, 1024), np.float32)
    parts = [
        (5, 1_300_001, first.data),
        (1_300_006, 999_983, None),
        (2_300_000, second.nbytes, second),
        (0, 0, None),
    ]
    crc = read_parts(descriptor, parts, checked=True)
    assert first.tobytes() == content[5:1_300_006]
    assert second.tobytes() == content[2_300_000:][: second.nbytes]
    assert crc == zlib.crc32(content[5:2_299_989] + content[2_300_000:][: second.nbytes])
    assert read_parts(descriptor, parts) == 0


def test_the_checksum_of_many_bytes_is_that_of_zlib(content, threads):
    for size in (4 << 20, (4 << 20) + 1, len(content)):
        assert crc32(content[:size], 12345) == zlib.crc32(content[:size], 12345)


def test_a_file_that_ends_early_is_an_error(content, descriptor, threads):
    with pytest.raises(EOFError, match="ends before"):
        read_parts(descriptor, [(0, len(content) + 1, None)])
    target = np.zeros(10, np.uint8)
    with pytest.raises(EOFError, match="ends before"):
        read_parts(descriptor, [(len(content) - 9, 10, target)])


@needs_kernels
def test_what_cannot_be_read_is_refused(descriptor, tmp_path):
    with pytest.raises(ValueError, match="room for 4 of 5 bytes"):
        read_parts(descriptor, [(0, 5, np.zeros(4, np.uint8))])
    with pytest.raises(ValueError, match="C order"):
        read_parts(descriptor, [(0, 16, np.zeros((8, 4), np.uint8)[:, :2])])
    with pytest.raises(ValueError, match="lies at -1"):
        read_parts(descriptor, [(-1, 5, None)])
    with pytest.raises(BufferError):
        read_parts(descriptor, [(0, 3, b"abc")])
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            read_parts(folder, [(0, 5, None)])
    finally:
        os.close(folder)


@needs_kernels
def test_a_state_that_is_read_has_a_new_version(content, descriptor):
    variable = handmill.Variable(np.zeros((64, 64), np.float32))
    before = variable.state.version
    read_parts(descriptor, [(100, 64 * 64 * 4, variable.state)])
    assert variable.state.version == before + 1
    assert variable.numpy().tobytes() == content[100 : 100 + 64 * 64 * 4]


@pytest.mark.parametrize("offsets", ((40, 2000), (40, 40), (2000, 41)), ids=str)
def test_variables_get_what_lies_in_a_file(content, descriptor, offsets):
    """Beside each other, the same array twice, and in another order than in the file."""
    stored = FileRange(descriptor, 3, 9000, "file", zlib.crc32(content[3:9003]))
    variables = [handmill.Variable(np.zeros((10, 17), np.uint8)) for _ in offsets]
    counter = handmill.Variable(np.zeros(2, np.int32))
    arrays = [StoredArray(stored, at, np.dtype(np.uint8), (10, 17)) for at in offsets]
    wide = StoredArray(stored, 5000, np.dtype(np.uint16), (2,))
    assign_stored([*zip(variables, arrays, strict=True), (counter, wide)])
    for variable, at in zip(variables, offsets, strict=True):
        assert variable.numpy().tobytes() == content[3 + at : 3 + at + 170]
    np.testing.assert_array_equal(counter, np.frombuffer(content[5003:5007], np.uint16))


def test_damage_is_seen_before_an_array_is_given_out(content, descriptor):
    stored = FileRange(descriptor, 0, 9000, "file: member", zlib.crc32(content[:9000]) ^ 1)
    array = StoredArray(stored, 100, np.dtype(np.uint8), (10,))
    with pytest.raises(FileFormatError, match=r"file: member is damaged: its CRC-32 is wrong"):
        np.asarray(array)
    with pytest.raises(FileFormatError, match="CRC-32"):
        assign_stored([(handmill.Variable(np.zeros(10, np.uint8)), array)])
    with pytest.raises(FileFormatError, match="CRC-32"):
        stored.check()


@needs_kernels
def test_large_writes_are_whole(content, threads):
    array = np.frombuffer(content[: 4 << 20], np.uint8)
    variable = handmill.Variable(np.zeros_like(array))
    variable.assign(array)
    assert variable.numpy().tobytes() == array.tobytes()
    variable.state.write(variable.state.view())  # over itself
    assert variable.numpy().tobytes() == array.tobytes()


def model_with_slots():
    model = handmill.Sequential([handmill.Input((96,)), layers.Dense(700), layers.Dense(3)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 96), np.float32), np.ones((4, 3), np.float32), verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("suffix", (".hmill", ".keras", ".h5"))
def test_models_come_back_with_all_that_was_learned(tmp_path, suffix):
    if suffix != ".hmill":
        pytest.importorskip("h5py")
    model = model_with_slots()
    path = tmp_path / f"model{suffix}"
    model.save(path)
    loaded = handmill.models.load_model(path)
    for mine, other in (
        (model.weights, loaded.weights),
        (model.optimizer.variables, loaded.optimizer.variables),
    ):
        assert [v.numpy().tobytes() for v in mine] == [v.numpy().tobytes() for v in other]


@pytest.mark.parametrize("suffix", (".hmill", ".keras"))
def test_a_flipped_bit_of_weights_is_refused(tmp_path, suffix):
    """Also of those that are not asked for, as the optimizer's without ``compile``."""
    if suffix != ".hmill":
        pytest.importorskip("h5py")
    path = tmp_path / f"model{suffix}"
    model = model_with_slots()
    model.save(path)
    content = bytearray(path.read_bytes())
    slot = model.optimizer.variables[2].numpy().tobytes()
    for wanted in (model.weights[0].numpy().tobytes(), slot):
        at = content.index(wanted) + 5
        content[at] ^= 4
        path.write_bytes(content)
        for compiled in (True, False):
            with pytest.raises(FileFormatError, match="CRC-32"):
                handmill.models.load_model(path, compile=compiled)
        content[at] ^= 4
    path.write_bytes(content)
    handmill.models.load_model(path)
