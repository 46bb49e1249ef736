"""Files: damaged, hostile and interrupted ones. Loading gives the model or a ValueError."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import handmill as hm
from handmill import layers, models
from handmill.errors import FileFormatError
from handmill.saving.atomic_file import write_bytes
from handmill.saving.tensors import from_tensors

pytestmark = pytest.mark.alone

needs_posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files and signals")


def make_model(seed=1):
    hm.utils.set_random_seed(seed)
    model = models.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dropout(0.25),
            layers.BatchNormalization(),
            layers.Dense(3, name="logits"),
        ]
    )
    loss = hm.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(hm.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 6)).astype("float32"), rng.integers(0, 3, 50)


def bits_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [v.numpy().tobytes() for v in variables]


@pytest.fixture(scope="module")
def trained():
    model = make_model()
    model.fit(*data(), verbose=0, epochs=2)
    return model


@pytest.fixture(scope="module")
def content(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.hmill"
    trained.save(path)
    return path.read_bytes()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "model.hmill"


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, members, compression=zipfile.ZIP_STORED):
    pairs = members.items() if isinstance(members, dict) else members
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile itself warns of duplicates
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, part in pairs:
                archive.writestr(name, part)


def refused(path, match=None):
    with pytest.raises(ValueError, match=match) as info:
        models.load_model(path)
    return str(info.value)


# Damage.


def test_whole_file_loads(content, target, trained):
    target.write_bytes(content)
    assert bits_of(models.load_model(target)) == bits_of(trained)


def test_truncated_at_every_64th_byte(content, target):
    for size in range(0, len(content), 64):
        target.write_bytes(content[:size])
        refused(target)
    target.write_bytes(content[:-1])
    refused(target)


def test_flipped_bits(content, target, trained):
    """Either the damage is found, or (in a time stamp, say) it does not matter."""
    rng = random.Random(7)
    found = 0
    for _ in range(250):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 4))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        target.write_bytes(damaged)
        try:
            loaded = models.load_model(target)
        except ValueError:
            found += 1
        else:
            assert bits_of(loaded) == bits_of(trained)
    assert found > 150


@pytest.mark.slow
def test_flipped_bytes_inside_members(content, target):
    """As above, below the zip's check sums: the members themselves must be checked."""
    rng = random.Random(8)
    members = members_of(content)
    for _ in range(250):
        name = rng.choice(list(members))
        damaged = bytearray(members[name])
        at = rng.randrange(min(len(damaged), 2000))
        damaged[at] = rng.randrange(256)
        write_members(target, {**members, name: bytes(damaged)})
        try:
            loaded = models.load_model(target)
        except ValueError:
            continue
        assert len(loaded.get_weights()) == 8


@pytest.mark.parametrize(
    "start", (b"", b"PK", b"\x89HDF\r\n\x1a\n", b"\x80\x04K\x01.", b"\0" * 200, b"{}" * 100)
)
def test_wrong_magic(start, target):
    target.write_bytes(start)
    refused(target, r"model\.hmill")


# Hostile containers.


@pytest.mark.parametrize("name", ("config.json", "model.safetensors"))
def test_duplicate_member(content, target, name):
    members = members_of(content)
    write_members(target, [*members.items(), (name, members[name])])
    refused(target, "twice")


@pytest.mark.parametrize(
    "name",
    ("../config.json", "/etc/passwd", "a/b", "config.json/..", "evil.py", "..\\x", "CONFIG.json"),
)
def test_names_of_members(content, target, tmp_path, name):
    write_members(target, {**members_of(content), name: b"x"})
    refused(target, "do not belong")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.hmill"]


@pytest.mark.slow
@pytest.mark.parametrize("compression", (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
def test_compressed_members(content, target, compression):
    bomb = {**members_of(content), "config.json": b" " * (64 << 20)}
    write_members(target, bomb, compression)
    start = time.process_time()
    refused(target, "compressed")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("field", (20, 24))
def test_sizes_in_the_directory(content, target, field):
    damaged = bytearray(content)
    entry = content.rindex(b"PK\x01\x02")
    damaged[entry + field : entry + field + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    target.write_bytes(damaged)
    refused(target)


@pytest.mark.parametrize("missing", ("config.json", "model.safetensors", "state.json"))
def test_missing_member(content, target, missing):
    members = members_of(content)
    del members[missing]
    write_members(target, members)
    refused(target, missing)


def tensors(header, body=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    "tensor_file",
    (
        b"",
        b"\0" * 7,
        (1 << 63).to_bytes(8, "little") + b"{}",
        (0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") + b"{}",
        tensors({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        tensors({"w": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 0]}}),
        tensors({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"\0" * 4),
        tensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"\0" * 4),
        tensors({"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        tensors(
            {
                "v": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            },
            b"\0" * 4,
        ),
        tensors({"../w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        tensors(b"[" * 100_000),
        tensors(b"\xff\xfe{}"),
    ),
)
def test_tensor_headers(content, target, tensor_file, tmp_path, trained):
    write_members(target, {**members_of(content), "model.safetensors": tensor_file})
    refused(target)
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(tensor_file)
    before = bits_of(trained)
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        trained.load_weights(weights)
    assert bits_of(trained) == before


# Hostile descriptions.


def with_config(content, path, change):
    members = members_of(content)
    config = json.loads(members["config.json"])
    change(config)
    write_members(path, {**members, "config.json": json.dumps(config)})


def layer_of(config, name):
    return next(i for i in config["config"]["layers"] if i["config"]["name"] == name)


def test_huge_layer_is_refused_before_it_is_allocated(content, target):
    def grow(config):
        layer_of(config, "hidden")["config"]["units"] = 1 << 28

    with_config(content, target, grow)
    start = time.process_time()
    refused(target, "more than are stored")
    assert time.process_time() - start < 1


@pytest.mark.parametrize("size", (1 << 40, 1 << 62, 1 << 70, -1, 0, 2.5, "8", None, [8], True))
def test_sizes_of_layers(content, target, size):
    def change(config):
        layer_of(config, "hidden")["config"]["units"] = size

    with_config(content, target, change)
    refused(target)


@pytest.mark.parametrize(
    ("module", "name"),
    (
        ("builtins", "eval"),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("handmill.saving", "load_model"),
        ("keras.utils", "get_file"),
        ("keras.layers", "Lambda"),
        ("keras.layers", "TFSMLayer"),
        ("keras.layers", "_UNTRACKED"),
        ("keras.layers", "__builtins__"),
        ("keras.layers.core", "Dense"),
        ("handmill.layers", "NoSuchLayer"),
        ("../layers", "Dense"),
        (None, "Thing"),
    ),
)
@pytest.mark.parametrize("place", ("model", "layer", "initializer", "optimizer", "activation"))
def test_unknown_classes(content, target, module, name, place):
    entry = {"module": module, "class_name": name, "config": {}, "registered_name": name}

    def change(config):
        if place == "model":
            config.update(entry)
        elif place == "layer":
            config["config"]["layers"][1] = entry
        elif place == "initializer":
            layer_of(config, "hidden")["config"]["kernel_initializer"] = entry
        elif place == "optimizer":
            config["compile_config"]["optimizer"] = entry
        else:
            layer_of(config, "hidden")["config"]["activation"] = entry

    with_config(content, target, change)
    refused(target)


@pytest.mark.parametrize(
    "text",
    (
        b"",
        b"null",
        b"[]",
        b"3",
        b'"x"',
        b"{}",
        b'{"class_name": "Sequential"}',
        b'{"class_name": "Sequential", "config": 3, "module": "keras"}',
        b'{"class_name": ["Sequential"], "config": {}, "module": "keras"}',
        b'{"class_name": "__numpy__", "config": {"value": [1], "dtype": "O"}}',
        b'{"class_name": "__numpy__", "config": {"value": [[1], 2], "dtype": "no"}}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"[" * 200 + b"]" * 200,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"{" + b" " * (17 << 20) + b"}",
        b"1" * 10_000,
    ),
)
@pytest.mark.parametrize("member", ("config.json", "state.json"))
def test_json_that_describes_no_model(content, target, text, member):
    write_members(target, {**members_of(content), member: text})
    refused(target)


@pytest.mark.parametrize("text", ("NaN", "Infinity", "-Infinity", "1e999"))
@pytest.mark.parametrize("place", ("units", "rate", "momentum"))
def test_numbers_that_are_none(content, target, text, place):
    members = members_of(content)
    config = json.loads(members["config.json"])
    for item in config["config"]["layers"]:
        if place in item["config"]:
            item["config"][place] = "@"
    damaged = json.dumps(config).replace('"@"', text)
    write_members(target, {**members, "config.json": damaged})
    refused(target)


def test_infinite_numbers_are_not_written(target):
    model = models.Sequential([layers.Input((2,)), layers.Rescaling(float("inf")), layers.Dense(1)])
    with pytest.raises(ValueError, match="JSON"):
        model.save(target)
    assert not target.exists()


@pytest.mark.parametrize("version", (2, 99, 1 << 70, None, "1", -1, 0, True, 1.0))
def test_versions(content, target, version):
    members = members_of(content)
    state = {**json.loads(members["state.json"]), "version": version}
    write_members(target, {**members, "state.json": json.dumps(state)})
    refused(target, "version")


@pytest.mark.parametrize("shuffle", ([1], [1, 2, 3], [1, "2"], [-1, 0], [1 << 64, 0], {}, "x"))
def test_damaged_shuffle(content, target, shuffle):
    members = members_of(content)
    state = {**json.loads(members["state.json"]), "shuffle": shuffle}
    write_members(target, {**members, "state.json": json.dumps(state)})
    refused(target, "shuffle")


@pytest.mark.parametrize("part", ("optimizer", "loss", "metrics"))
@pytest.mark.parametrize("value", (None, 3, "nothing", [], {}, {"class_name": 3, "config": {}}))
def test_damaged_compile_config(content, target, part, value):
    with_config(content, target, lambda config: config["compile_config"].update({part: value}))
    try:
        models.load_model(target)
    except ValueError:
        return
    # No loss and no metrics are possible, too; what else a loss may be is looked at later.
    assert part == "loss" or (part == "metrics" and not value)


@pytest.mark.parametrize("dtype", ("S300000000", "U80000000", "(75000000,)f4", "O", "M8[s]", 4, []))
def test_dtypes_of_arrays(content, target, dtype):
    """A name of a few characters must not make the loader allocate gigabytes."""
    value = ["a"] * 9 if str(dtype)[0] in "SU" else [0] * 9
    array = {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}

    def change(config):
        layer_of(config, "hidden")["config"]["activation"] = array

    with_config(content, target, change)
    tracemalloc.start()
    refused(target, "dtype")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


# Paths.


@pytest.mark.parametrize(
    ("name", "right"),
    (
        ("m.weights.h5", ".hmill"),
        ("m.pkl", ".hmill"),
        ("m", ".hmill"),
        ("m.weights.hmill", ".hmill"),
    ),
)
def test_other_suffixes_name_the_right_one(trained, tmp_path, name, right):
    with pytest.raises(ValueError, match=rf"must end in `\{right}`"):
        trained.save(tmp_path / name)
    with pytest.raises(ValueError, match=rf"must end in `\{right}`"):
        models.load_model(tmp_path / name)
    with pytest.raises(ValueError, match=r"\.weights\.hmill"):
        trained.save_weights(tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == []


def test_paths_that_are_no_files(trained, target, tmp_path):
    with pytest.raises(FileNotFoundError):
        models.load_model(target)
    with pytest.raises(FileNotFoundError):
        trained.save(tmp_path / "no" / "model.hmill")
    with pytest.raises(ValueError, match="NUL"):
        trained.save(str(tmp_path / "a\0b.hmill"))
    target.mkdir()
    refused(target, "regular file")
    with pytest.raises(OSError, match=r"model\.hmill"):
        trained.save(target)
    assert list(tmp_path.iterdir()) == [target]


@needs_posix
def test_pipe_does_not_hang(trained, target, tmp_path):
    os.mkfifo(target)
    refused(target, "regular file")
    weights = tmp_path / "w.safetensors"
    os.mkfifo(weights)
    with pytest.raises(ValueError, match="regular file"):
        trained.load_weights(weights)


@needs_posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_folder(trained, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o500)
    with pytest.raises(PermissionError):
        trained.save(folder / "model.hmill")
    folder.chmod(0o700)
    assert list(folder.iterdir()) == []


@needs_posix
def test_link_is_followed_not_replaced(trained, content, tmp_path):
    real, link = tmp_path / "real.hmill", tmp_path / "link.hmill"
    real.write_bytes(b"old")
    link.symlink_to(real)
    trained.save(link)
    assert link.is_symlink()
    assert bits_of(models.load_model(real)) == bits_of(trained)


@needs_posix
@pytest.mark.parametrize("mode", (0o600, 0o640, 0o664))
def test_rights_of_what_is_replaced_are_kept(trained, target, monkeypatch, mode):
    target.write_bytes(b"old")
    target.chmod(mode)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the process's umask was changed"))
    trained.save(target)
    assert target.stat().st_mode & 0o777 == mode


@needs_posix
def test_what_killed_writers_left_is_removed(trained, target):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = target.with_name(f".{target.name}.tmp.{ended.pid}.0123abcd")
    stale.write_bytes(b"half")
    aged = target.with_name(f".{target.name}.tmp.{os.getpid()}.0123abcd")  # of an earlier process
    aged.write_bytes(b"half")
    os.utime(aged, (1, 1))
    others = [
        target.with_name(f".{target.name}.tmp.{os.getpid()}.89abcdef"),  # of another thread, new
        target.with_name(f".{target.name}.tmp.mine"),
        target.with_name(f".other.hmill.tmp.{ended.pid}.0123abcd"),
    ]
    for path in others:
        path.write_bytes(b"kept")
    trained.save(target)
    assert sorted(target.parent.iterdir()) == sorted([target, *others])


@needs_posix
def test_files_that_are_being_written_are_left_alone(trained, target):
    import fcntl

    path = target.with_name(f".{target.name}.tmp.1.0123abcd")
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.utime(path, (1, 1))
        trained.save(target)
        assert path.exists()
    trained.save(target)
    assert not path.exists()


def test_overwrite_is_asked_for(trained, target):
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="overwrite"):
        trained.save(target, overwrite=False)
    assert target.read_bytes() == b"old"


# Failing disks.

CALLS = ("open", "posix_fallocate", "write", "fchmod", "fsync", "close", "replace", "rename")


@pytest.mark.slow
@needs_posix
@pytest.mark.parametrize("code", (errno.ENOSPC, errno.EIO))
def test_failing_nth_call_leaves_the_old_file(trained, content, target, monkeypatch, code):
    """Each call that saving makes fails once: the old file stays and nothing else is left."""
    kinds, codes = set(), set()
    for nth in range(100):
        for path in target.parent.iterdir():
            path.unlink()
        target.write_bytes(content)
        count = 0
        with monkeypatch.context() as patch:

            def failing(name, real, nth=nth):
                def call(*args, **kwargs):
                    nonlocal count
                    count += 1
                    if count == nth + 1:
                        kinds.add(name)
                        if name == "close":
                            real(*args)  # the descriptor is gone all the same
                        raise OSError(code, os.strerror(code))
                    return real(*args, **kwargs)

                return call

            for name in CALLS:
                patch.setattr(os, name, failing(name, getattr(os, name)))
            try:
                trained.save(target)
                break
            except OSError as error:
                codes.add(error.errno)
        replaced = target.read_bytes() != content
        # Once the new file is in place it stays; then only its folder was not synced.
        assert not replaced or "replace" in kinds or "rename" in kinds
        assert list(target.parent.iterdir()) == [target]
        models.load_model(target)
    assert nth >= 5
    assert codes == {code}
    assert {"open", "write", "fsync"} <= kinds
    assert kinds & {"replace", "rename"}


@needs_posix
def test_short_writes(trained, content, target, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, part: real(fd, bytes(part[:777])))
    trained.save(target)
    monkeypatch.undo()
    assert bits_of(models.load_model(target)) == bits_of(trained)


SAVE_LOOP = """
import sys
import numpy as np
from handmill import layers, models
model = models.Sequential([layers.Input((40,)), layers.Dense(400, name="a")])
number = 0.0
while True:
    number += 1
    model.set_weights([np.full(w.shape, number) for w in model.get_weights()])
    model.save(sys.argv[1])
    if number == 1:
        print("ready", flush=True)
"""


@needs_posix
@pytest.mark.slow
def test_killed_while_saving(target):
    """kill -9 at any time leaves a file that is complete: all of its numbers are of one save."""
    rng = random.Random(3)
    highest = 0.0
    for _ in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_LOOP, str(target)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(hm.__file__).parent.parent,
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.random() * 0.06)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        weights = models.load_model(target).get_weights()
        values = {float(v) for w in weights for v in np.unique(w)}
        assert len(values) == 1
        highest = max(highest, *values)
    assert highest > 1


# Resuming.

RESUME = """
import sys
import numpy as np
from handmill import models
path, out = sys.argv[1:]
rng = np.random.default_rng(0)
x, y = rng.normal(size=(50, 6)).astype("float32"), rng.integers(0, 3, 50)
model = models.load_model(path)
history = model.fit(x, y, batch_size=8, epochs=4, initial_epoch=2, verbose=0).history
arrays = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
np.savez(out, np.array(history["loss"]), *arrays)
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", (1, 3))
def test_resumed_training_has_the_same_bits(tmp_path, threads):
    x, y = data()
    whole = make_model(5)
    losses = whole.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"]
    losses += whole.fit(x, y, batch_size=8, epochs=4, initial_epoch=2, verbose=0).history["loss"]
    half = make_model(5)
    half.fit(x, y, batch_size=8, epochs=2, verbose=0)
    path, out = tmp_path / "half.hmill", tmp_path / "out.npz"
    half.save(path)
    environment = {**os.environ, "HANDMILL_NUM_THREADS": str(threads)}
    arguments = [sys.executable, "-c", RESUME, str(path), str(out)]
    folder = Path(hm.__file__).parent.parent
    subprocess.run(arguments, check=True, cwd=folder, env=environment)
    with np.load(out) as found:
        arrays = [found[f"arr_{i}"] for i in range(len(found.files))]
    assert arrays[0].tolist() == losses[2:]
    assert [a.tobytes() for a in arrays[1:]] == bits_of(whole)


def test_uninterrupted_equals_resumed_in_one_fit(tmp_path):
    x, y = data()
    whole = make_model(6)
    whole.fit(x, y, batch_size=8, epochs=4, verbose=0)
    half = make_model(6)
    half.fit(x, y, batch_size=8, epochs=2, verbose=0)
    half.save(tmp_path / "half.hmill")
    loaded = models.load_model(tmp_path / "half.hmill")
    loaded.fit(x, y, batch_size=8, epochs=4, initial_epoch=2, verbose=0)
    assert bits_of(loaded) == bits_of(whole)


def test_a_folder_that_is_missing_is_named(tmp_path):
    path = tmp_path / "none" / "m.hmill"
    with pytest.raises(FileNotFoundError) as caught:
        write_bytes(path, [b"1"])
    assert caught.value.filename == str(path.parent)


def test_a_dtype_that_is_not_read_is_named():
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    content = struct.pack("<Q", len(header)) + header + b"1"
    with pytest.raises(FileFormatError, match=r"m: tensor 'a' has the dtype 'F8_E4M3'.*BF16"):
        from_tensors(content, "m")
