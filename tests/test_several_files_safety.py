"""Weights in several files, models as folders: damaged, hostile, full disks, killed writers."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import stat
import time
import warnings
from itertools import count, takewhile
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import layers, models

pytest.importorskip("h5py", reason="Keras's files are HDF5")

X = np.random.default_rng(3).normal(size=(16, 6)).astype("float32")
SIZE = 3e-7  # gigabytes, so that the weights below need several files
KINDS = ("shards", "folder")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files and signals")


def network(seed):
    handmill.utils.set_random_seed(seed)
    model = models.Sequential([layers.Input((6,)), layers.Dense(9, name="a"), layers.Dense(4)])
    model.compile(handmill.optimizers.SGD(0.1, momentum=0.5), "mse")
    model.fit(X, X[:, :4], verbose=0)
    return model


OLD, NEW = network(1), network(2)
TARGET = network(3)


def bits_of(model):
    return [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]


def save(model, kind, folder):
    if kind == "shards":
        model.save_weights(folder / "w.weights.json", max_shard_size=SIZE)
    else:
        model.save(folder / "m", zipped=False)


def load(kind, folder):
    """What the files hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what an optimizer does not take
        if kind == "shards":
            TARGET.load_weights(folder / "w.weights.json")
            return bits_of(TARGET)
        return bits_of(models.load_model(folder / "m"))


def tried(kind, folder):
    """What the files hold; None if they were refused in words of this package."""
    before = bits_of(TARGET)
    try:
        return load(kind, folder)
    except (ValueError, FileNotFoundError):
        assert bits_of(TARGET) == before
        return None


def files_in(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_what_was_written_is_read(kind, tmp_path):
    save(NEW, kind, tmp_path)
    assert load(kind, tmp_path) == bits_of(NEW)
    assert len(files_in(tmp_path)) >= 3


# Damage.


def changed(draw, content):
    """Bits and bytes set, pieces cut out, put in and moved."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 64))
        how = draw.randrange(5)
        if how == 0:
            data[at : at + size] = draw.randbytes(size)
        elif how == 1:
            data[at : at + size] = draw.choice((b"\0", b"\xff", b"\x7f")) * size
        elif how == 2:
            del data[at : at + size]
        elif how == 3:
            data[at:at] = data[draw.randrange(len(data) + 1) :][:size]
        else:
            del data[max(at, 1) :]
    return bytes(data)


def check_changed(kind, folder, seed, rounds):
    save(OLD, kind, folder)
    contents, draw, refused = files_in(folder), random.Random(seed), 0
    for _ in rounds:
        name = draw.choice(sorted(contents))
        (folder / name).write_bytes(changed(draw, contents[name]))
        refused += tried(kind, folder) is None
        (folder / name).write_bytes(contents[name])
    assert refused
    assert tried(kind, folder) == bits_of(OLD)


def test_random_changes(kind, tmp_path):
    check_changed(kind, tmp_path, 5, range(40))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_random_changes_for_a_minute(kind, tmp_path):
    end = time.monotonic() + 60
    rounds = takewhile(lambda _: time.monotonic() < end, count())
    check_changed(kind, tmp_path, int(time.time()), rounds)


def test_truncated(kind, tmp_path):
    save(OLD, kind, tmp_path)
    for name, content in files_in(tmp_path).items():
        for size in range(0, len(content), max(len(content) // 5, 1)):
            (tmp_path / name).write_bytes(content[:size])
            assert tried(kind, tmp_path) in (None, bits_of(OLD)), (name, size)
        (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize(
    "value",
    (None, 3, True, {}, [], [[]], [3], "x", "", "..", ".weights.h5", "../w_00000.weights.h5",
     "sub/w.weights.h5", ["w_00000.weights.h5"] * 2, "gone.weights.h5"),
    ids=repr,
)  # fmt: skip
def test_indices_that_say_something_else(tmp_path, value):
    save(OLD, "shards", tmp_path)
    index = tmp_path / "w.weights.json"
    whole = json.loads(index.read_text())
    for key in whole["weight_map"]:
        places = {**whole["weight_map"], key: value}
        index.write_text(json.dumps({**whole, "weight_map": places}))
        tried("shards", tmp_path)  # fails for what is no ValueError, and for a changed model
    index.write_text(json.dumps({**whole, "weight_map": value}))
    assert tried("shards", tmp_path) is None
    index.write_text(json.dumps({**whole, "metadata": value}))
    tried("shards", tmp_path)


@pytest.mark.parametrize("text", ("", "3", "null", "[]", "{}", '{"weight_map": {}}', "[" * 5000))
def test_indices_that_are_none(tmp_path, text):
    save(OLD, "shards", tmp_path)
    (tmp_path / "w.weights.json").write_text(text)
    assert tried("shards", tmp_path) is None


# What is no file.

ODD = {
    "pipe": os.mkfifo if hasattr(os, "mkfifo") else None,
    "folder": Path.mkdir,
    "link to itself": lambda path: path.symlink_to(path),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
}


@posix
@pytest.mark.timeout(60)
@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_file_is_not_read(kind, tmp_path, odd):
    save(OLD, kind, tmp_path)
    for name, content in files_in(tmp_path).items():
        path = tmp_path / name
        path.unlink()
        ODD[odd](path)
        before = bits_of(TARGET)
        # A folder has no say in what it does not hold: `metadata.json` is not needed.
        harmless = path.name == "metadata.json" and odd == "folder"
        with contextlib.nullcontext() if harmless else pytest.raises((ValueError, OSError)):
            load(kind, tmp_path)
        assert bits_of(TARGET) == before
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
        path.write_bytes(content)


def save_as(path):
    if path.name.startswith("w_"):
        OLD.save_weights(path.with_name("w.weights.json"), max_shard_size=SIZE)
    elif "weights" in path.name:
        OLD.save_weights(path)
    else:
        OLD.save(path)


@posix
@pytest.mark.parametrize(
    "name", ("m.hmill", "m.keras", "m.h5", "m.weights.h5", "m.weights.hmill", "w_00000.weights.h5")
)
def test_pipes_are_not_replaced_by_files(tmp_path, name):
    """Nor devices: root could replace /dev/null by a model."""
    path = tmp_path / name
    link = tmp_path / "link" / name
    link.parent.mkdir()
    link.symlink_to(path)
    os.mkfifo(path)
    for target in (path,) if name.startswith("w_") else (path, link):
        with pytest.raises(FileExistsError, match="not replaced: a pipe, device or socket"):
            save_as(target)
    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["link", name])


# Full disks and killed writers.


CALLS = ("open", "posix_fallocate", "write", "fsync", "replace", "rename", "mkdir", "chmod")


@posix
@pytest.mark.parametrize("call", CALLS)
def test_the_nth_call_fails(kind, tmp_path, monkeypatch, call):
    """What was there is whole again, and so is what is there after the next try."""
    if not hasattr(os, call):
        pytest.skip(f"no os.{call}")
    save(OLD, kind, tmp_path)
    old = files_in(tmp_path)
    real = getattr(os, call)
    for number in range(1, 60):
        left = [number]

        def fails(*args, left=left, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, call, fails)
        with contextlib.suppress(OSError):
            save(NEW, kind, tmp_path)
        monkeypatch.undo()
        held = load(kind, tmp_path)
        assert held in (bits_of(OLD), bits_of(NEW))
        if held == bits_of(OLD):
            assert files_in(tmp_path) == old
        if left[0] > 0:
            assert held == bits_of(NEW)
            break
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        for name, content in old.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
    else:
        pytest.fail(f"os.{call} was called more often than expected")


def killed_while_saving(kind, folder, number):
    """Saves in another process that ends before its ``number``-th renaming; whether it did."""
    pid = os.fork()
    if pid == 0:
        try:
            left = [number]

            def ends(real):
                def call(*args, **kwargs):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **kwargs)

                return call

            os.replace, os.rename = ends(os.replace), ends(os.rename)
            save(NEW, kind, folder)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def words_of_refusal(kind, folder):
    """What the error says; None if the files hold the old state or the new."""
    try:
        assert load(kind, folder) in (bits_of(OLD), bits_of(NEW))
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, where another test has it
def test_killed_between_two_renames(kind, tmp_path):
    """The old state or the new, or an error that says so and, of a folder, names the old one."""
    found = set()
    for number in range(1, 30):
        folder = tmp_path / str(number)
        folder.mkdir()
        save(OLD, kind, folder)
        if not killed_while_saving(kind, folder, number):
            break
        text = words_of_refusal(kind, folder)
        found.add(text is None)
        if text is not None:
            assert "interrupted" in text
            if kind == "folder":
                before = text.split("rename ")[1].split(" to ")[0]
                assert bits_of(models.load_model(before)) == bits_of(OLD)
        save(NEW, kind, folder)
        assert load(kind, folder) == bits_of(NEW)
        assert [p for p in folder.iterdir() if p.name.startswith(".")] == []
    assert load(kind, folder) == bits_of(NEW)
    assert found == {True, False}
