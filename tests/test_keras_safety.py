"""Damaged, hostile and interrupted files of Keras: the model, or a ValueError that says why."""

import errno
import io
import json
import os
import pathlib
import random
import threading
import time
import tracemalloc
import warnings
import zipfile
from itertools import count, takewhile

import numpy as np
import pytest

import handmill
from handmill import layers, models

h5py = pytest.importorskip("h5py", reason="Keras's files are HDF5")

NAMES = ("m.keras", "w.weights.h5", "m.h5")


def network(seed=1):
    handmill.utils.set_random_seed(seed)
    model = models.Sequential([layers.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2)])
    model.compile(handmill.optimizers.SGD(0.1, momentum=0.5), "mse")
    return model


def bits_of(model):
    state = model.optimizer.variables if model.optimizer is not None else ()
    return [v.numpy().tobytes() for v in (*model.variables, *state)]


@pytest.fixture(scope="module")
def trained():
    model = network()
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model.fit(x, x[:, :2], verbose=0)
    return model


def write(model, path):
    (model.save_weights if path.name == "w.weights.h5" else model.save)(path)


@pytest.fixture(scope="module")
def contents(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for name in NAMES:
        write(trained, folder / name)
    return {name: (folder / name).read_bytes() for name in NAMES}


TARGET = network(seed=2)
TARGET.optimizer.build(TARGET.trainable_variables)


def read(path):
    """A model with what the file holds."""
    if path.name != "w.weights.h5":
        return models.load_model(path)
    TARGET.load_weights(path)
    return TARGET


def tried(path, content):
    """Writes and reads; None if it was refused in words of this package."""
    path.write_bytes(content)
    before = bits_of(TARGET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what an optimizer does not take
            return bits_of(read(path))
    except ValueError:
        assert bits_of(TARGET) == before
        return None


def refused(path, match):
    with pytest.raises(ValueError, match=match):
        read(path)


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_load(contents, tmp_path, trained, name):
    assert tried(tmp_path / name, contents[name]) == bits_of(trained)


def check_truncated(contents, path, step):
    content = contents[path.name]
    whole = tried(path, content)
    for size in range(0, len(content), step):
        found = tried(path, content[:size])
        assert found in (None, whole), size  # HDF5 may end in bytes that nothing uses


def check_flipped(contents, path, step, bits=(0, 7)):
    content = bytearray(contents[path.name])
    refusals = 0
    for place in range(0, len(content), step):
        for bit in bits:
            content[place] ^= 1 << bit
            refusals += tried(path, bytes(content)) is None
            content[place] ^= 1 << bit
    assert refusals > 0


@pytest.mark.parametrize("name", NAMES)
def test_truncated(contents, tmp_path, name):
    check_truncated(contents, tmp_path / name, 997)


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits(contents, tmp_path, name):
    check_flipped(contents, tmp_path / name, 499, (3,))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_truncated_at_every_byte(contents, tmp_path, name):
    check_truncated(contents, tmp_path / name, 1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_every_byte_flipped(contents, tmp_path, name):
    check_flipped(contents, tmp_path / name, 1, (5,))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_random_changes(contents, tmp_path, name):
    check_changed(contents, tmp_path / name, 11, range(1500))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_random_changes_for_a_minute(contents, tmp_path, name):
    end = time.monotonic() + 60
    rounds = takewhile(lambda _: time.monotonic() < end, count())
    check_changed(contents, tmp_path / name, int(time.time()), rounds)


def check_changed(contents, path, seed, rounds):
    """Several changes at once: bytes set, pieces moved, cut out and doubled."""
    rng = random.Random(seed)
    name = path.name
    for _ in rounds:
        content = bytearray(contents[name])
        for _ in range(rng.randint(1, 6)):
            start, size = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 64))
            kind = rng.randrange(5)
            if kind == 0:
                content[start : start + size] = rng.randbytes(size)
            elif kind == 1:
                content[start : start + size] = rng.choice((b"\0", b"\xff", b"\x7f")) * size
            elif kind == 2:
                del content[start : start + size]
            elif kind == 3:
                other = rng.randrange(len(content))
                content[other : other + size] = content[start : start + size]
            else:
                content[start:start] = content[start : start + size]
        try:
            tried(path, bytes(content))
        except BaseException as error:
            kept = path.parent / f"found-{seed}"
            kept.write_bytes(content)
            raise AssertionError(f"{kept} of seed {seed}: {error!r}") from error


# HDF5 that asks for more than it holds, or for other files.


def changed(contents, path, change, name="layers/dense/vars/0"):
    """Writes the weights with one array replaced by what ``change(group, key)`` makes."""
    path.write_bytes(contents["w.weights.h5"])
    with h5py.File(path, "r+") as file:
        group, _, key = name.rpartition("/")
        del file[name]
        change(file[group], key)


def chunked(group, key):
    group.create_dataset(key, (3, 4), "f4", np.zeros((3, 4), "f4"), chunks=(3, 4))


def bomb(group, key):
    group.create_dataset(key, (1 << 20, 1 << 12), "f4", chunks=(1 << 10, 1 << 10), compression=9)


def never_written(group, key):
    group.create_dataset(key, (1 << 20, 1 << 22), "f4")


def small_never_written(group, key):
    group.create_dataset(key, (3, 4), "f4")


def external(group, key):
    group.create_dataset(key, (12,), "u1", external=[("/etc/passwd", 0, 12)])


def virtual(group, key):
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 4))
    group.create_virtual_dataset(key, layout)


def soft_link(group, key):
    group[key] = h5py.SoftLink("/layers/dense/vars/1")


def external_link(group, key):
    group[key] = h5py.ExternalLink("/etc/passwd", "x")


def compound(group, key):
    group.create_dataset(key, data=np.zeros((3, 4), [("a", "f4"), ("b", "f4")]))


def texts(group, key):
    group.create_dataset(key, data=["a", "b"], dtype=h5py.string_dtype())


def references(group, key):
    group.create_dataset(key, data=[group.ref], dtype=h5py.ref_dtype)


def a_group(group, key):
    group.create_group(key)


def no_elements(group, key):
    group.create_dataset(key, data=h5py.Empty("f4"))


HOSTILE = {
    chunked: "chunked, compressed or virtual",
    bomb: "chunked, compressed or virtual",
    never_written: "bytes that the file does not have",
    small_never_written: "bytes that the file does not have",
    external: "another file|bytes that the file does not have",
    virtual: "chunked, compressed or virtual",
    soft_link: "is a SoftLink, which is not followed",
    external_link: "is a ExternalLink, which is not followed",
    compound: "holds elements of type",
    texts: "holds elements of type",
    references: "holds elements of type",
    a_group: "is not an array",
    no_elements: "has no elements|bytes",
}


@pytest.mark.parametrize("change", HOSTILE)
def test_arrays_that_ask_for_more(contents, tmp_path, change):
    path = tmp_path / "w.weights.h5"
    changed(contents, path, change)
    before = bits_of(TARGET)
    tracemalloc.start()
    try:
        refused(path, HOSTILE[change])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert bits_of(TARGET) == before


@pytest.mark.parametrize("link", (h5py.SoftLink("/layers"), h5py.ExternalLink("/etc/x", "/y")))
def test_groups_that_are_links(contents, tmp_path, link):
    path = tmp_path / "w.weights.h5"
    path.write_bytes(contents[path.name])
    with h5py.File(path, "r+") as file:
        file.move("layers/dense", "elsewhere")
        file["layers/dense"] = link
    refused(path, "which is not followed")


def test_groups_inside_themselves_end(contents, tmp_path):
    path = tmp_path / "w.weights.h5"
    path.write_bytes(contents[path.name])
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars"]
        file["layers/dense/vars"] = file["layers"]  # a hard link upwards
    refused(path, "is not an array|could not be loaded")


def test_descriptions_that_are_too_long(contents, tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(contents[path.name])
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = " " * (17 << 20)
    refused(path, "model_config.*longer than 16 MB")
    path.write_bytes(contents[path.name])
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["layer_names"] = h5py.Empty("f4")
    refused(path, "damaged|names no layers")


def test_texts_that_claim_more_than_there_is(contents, tmp_path):
    """The library would make room for all of it first."""
    content = bytearray(contents["m.h5"])
    with h5py.File(io.BytesIO(contents["m.h5"])) as file:
        size = len(file.attrs["model_config"])
    at = content.find(b"model_config\0")
    at = content.find(size.to_bytes(4, "little"), at)  # the length in the reference
    for length in (0xFFFFFFF0, size + 1, size - 1):
        content[at : at + 4] = length.to_bytes(4, "little")
        (tmp_path / "m.h5").write_bytes(content)
        refused(tmp_path / "m.h5", f"claims {length} bytes")
    content[at : at + 4] = size.to_bytes(4, "little")
    heap = content.find(b"GCOL")
    content[heap + 8 : heap + 16] = (1 << 40).to_bytes(8, "little")
    (tmp_path / "m.h5").write_bytes(content)
    refused(tmp_path / "m.h5", "heap at byte")


def test_other_content(tmp_path):
    for name in NAMES:
        for content in (b"", b"PK", b"\x89HDF\r\n\x1a\n", b"x" * 5000):
            assert tried(tmp_path / name, content) is None
    padded = io.BytesIO()
    with h5py.File(tmp_path / "plain.h5", "w", userblock_size=512) as file:
        file.attrs["model_config"] = "{}"
    padded = (tmp_path / "plain.h5").read_bytes()
    assert tried(tmp_path / "m.h5", padded) is None  # two kinds of file in one


@pytest.mark.skipif(os.name != "posix", reason="POSIX files")
@pytest.mark.parametrize("name", NAMES)
def test_pipes_and_folders(tmp_path, name):
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name, "not a regular file")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    refused(tmp_path / name, "not a regular file")


# The zip.


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path, members, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile itself warns of duplicates
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in members:
                archive.writestr(name, data)


@pytest.mark.parametrize("kind", (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
def test_compressed_members_are_refused(contents, tmp_path, kind):
    members = members_of(contents["m.keras"])
    members["model.weights.h5"] = bytes(64 << 20)
    tracemalloc.start()
    try:
        zipped(tmp_path / "m.keras", members.items(), kind)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        refused(tmp_path / "m.keras", "compressed or encrypted")
        assert tracemalloc.get_traced_memory()[1] - before < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name",
    ("evil.py", "../config.json", "/etc/x", "assets/../../x", "assets//x", "assets/a\\b",
     "assets/./x", "assets/c:x"),
)  # fmt: skip
def test_names_of_members(contents, tmp_path, name):
    members = [*members_of(contents["m.keras"]).items(), (name, b"x")]
    path = tmp_path / "a" / "m.keras"
    path.parent.mkdir()
    zipped(path, members)
    refused(path, "do not belong there|an asset with the path")
    assert [p for p in tmp_path.rglob("*") if p not in (path, path.parent)] == []


def test_assets_that_no_layer_takes(contents, tmp_path):
    members = [*members_of(contents["m.keras"]).items(), ("assets/layers/a/words.txt", b"x")]
    zipped(tmp_path / "m.keras", members)
    refused(tmp_path / "m.keras", "no layer of model .* takes")


def test_members_twice_and_missing(contents, tmp_path):
    members = members_of(contents["m.keras"])
    zipped(tmp_path / "m.keras", [*members.items(), ("config.json", b"{}")])
    refused(tmp_path / "m.keras", "a member twice")
    for name in ("config.json", "model.weights.h5"):
        zipped(tmp_path / "m.keras", [(k, v) for k, v in members.items() if k != name])
        refused(tmp_path / "m.keras", f"lacks its member {name}")


# Descriptions that name what must not run.


def described(contents, path, change):
    members = members_of(contents["m.keras"])
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    zipped(path, members.items())


RAN = []


def runs(*args, **kwargs):
    """What a hostile file would like to call."""
    RAN.append(args)


GADGETS = (
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"},
    {"module": __name__, "class_name": "runs", "config": {}, "registered_name": None},
    {"module": __name__, "class_name": "function", "config": "runs", "registered_name": "runs"},
    {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}},
    {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "file:///etc/passwd"}},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp"}},
    {"module": "keras.models", "class_name": "load_model", "config": {"filepath": "x.keras"}},
    {"module": "builtins", "class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA"}},
    {"module": "keras.layers", "class_name": "Lambda",
     "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": "4wE="}}}},
)  # fmt: skip


@pytest.mark.parametrize("gadget", GADGETS)
@pytest.mark.parametrize("place", ("layer", "initializer", "activation", "loss", "optimizer"))
def test_nothing_is_run_by_name(contents, tmp_path, gadget, place):
    def change(config):
        dense = config["config"]["layers"][1]
        if place == "layer":
            config["config"]["layers"][1] = gadget
        elif place == "initializer":
            dense["config"]["kernel_initializer"] = gadget
        elif place == "activation":
            dense["config"]["activation"] = gadget
        else:
            config["compile_config"][place] = gadget

    described(contents, tmp_path / "m.keras", change)
    refused(tmp_path / "m.keras", ".")
    assert RAN == []


def test_layers_larger_than_the_file(contents, tmp_path):
    def change(config):
        config["config"]["layers"][1]["config"]["units"] = 1 << 28

    described(contents, tmp_path / "m.keras", change)
    tracemalloc.start()
    try:
        refused(tmp_path / "m.keras", "bytes")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES[::2])
def test_unsafe_loading_does_not_exist(contents, tmp_path, name):
    (tmp_path / name).write_bytes(contents[name])
    with pytest.raises(ValueError, match="safe_mode=False"):
        models.load_model(tmp_path / name, safe_mode=False)


# Failing disks and two writers.


@pytest.mark.skipif(os.name != "posix", reason="POSIX files")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call", ("open", "posix_fallocate", "write", "fsync", "replace"))
def test_full_disks_leave_the_old_file(trained, contents, tmp_path, monkeypatch, name, call):
    path = tmp_path / name
    path.write_bytes(contents[name])

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner = pathlib.Path if call == "replace" else os
    monkeypatch.setattr(owner, call, full)
    with pytest.raises(OSError, match="No space left"):
        write(trained, path)
    monkeypatch.undo()
    assert path.read_bytes() == contents[name]
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_two_writers(tmp_path, name):
    """Whoever reads finds a whole file of one of them."""
    path = tmp_path / name
    found, wanted = network(), []
    stop = threading.Event()

    def keep_writing(model):
        while not stop.is_set():
            write(model, path)

    writers = []
    for number in (2, 3):
        model = network(number)
        model.optimizer.build(model.trainable_variables)
        wanted.append(bits_of(model)[:4])
        writers.append(threading.Thread(target=keep_writing, args=(model,)))
    write(model, path)
    found.optimizer.build(found.trainable_variables)
    for writer in writers:
        writer.start()
    try:
        for _ in range(20):
            found.load_weights(path)
            assert bits_of(found)[:4] in wanted
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [p.name for p in tmp_path.iterdir()] == [name]
