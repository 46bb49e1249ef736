"""A process that gets less than it asks for: descriptors, memory, files, interpreters, clocks."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import handmill as hm
from handmill import callbacks, config, layers, models, ops

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits and files of POSIX")

FOLDER = Path(hm.__file__).parent.parent
X = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
Y = np.zeros((512, 2), "float32")


def made(**settings):
    hm.utils.set_random_seed(1)
    model = models.Sequential([layers.Input((8,)), layers.Dense(2)])
    model.compile("sgd", "mse", **settings)
    return model


INTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import sys
code = '''
try:
    import handmill._core
except ImportError as error:
    print(type(error).__name__, "subinterpreter" in str(error), flush=True)
'''
new = interpreters.create()
if "before" in sys.argv:
    import handmill._core
(interpreters.exec if hasattr(interpreters, "exec") else interpreters.run_string)(new, code)
interpreters.destroy(new)
import handmill._core
print(handmill._core.__name__)
"""


@pytest.mark.skipif(not config.has_kernels(), reason="a build without kernels")
@pytest.mark.parametrize("when", ("before", "after"))
def test_subinterpreters_are_refused(when):
    """Where CPython asks for a lock that its thread holds, it would wait for ever."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETER, when], check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(FOLDER)}, timeout=30,
    )  # fmt: skip
    assert done.stdout.split() == ["ImportError", "True", "handmill._core"], done.stderr[-500:]


@contextlib.contextmanager
def no_descriptors():
    """All that the process may have are taken, as by a leak elsewhere."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(found.name) for found in Path("/dev/fd").iterdir())
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest + 8, hard), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Batches(hm.utils.PyDataset):
    """Batches of a process or thread that gets little memory before it makes the second one."""

    def __init__(self, ask=None, **settings):
        super().__init__(**settings)
        self.ask = ask

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1 and self.ask is not None:
            import resource

            pages = int(Path("/proc/self/statm").read_text().split()[0])
            room = pages * resource.getpagesize() + (48 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
            found = self.ask()
            if found is not None:
                return found
        return X[:4], Y[:4]


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no list of descriptors")
def test_no_descriptors_left(tmp_path):
    """What needs none goes on; what needs one says so, and leaves everything as it was."""
    files = [tmp_path / "a.hmill", tmp_path / "a.safetensors"]
    model = made()
    model.save(files[0])
    model.save_weights(files[1])
    content = [file.read_bytes() for file in files]
    twin, watch = made(), callbacks.ModelCheckpoint(tmp_path / "b.hmill")
    other = callbacks.ModelCheckpoint(tmp_path / "c.hmill")
    twin.fit(X, Y, shuffle=False, verbose=0, callbacks=[other])
    (tmp_path / "c.hmill").unlink()
    models.load_model(files[0])
    model.fit(Batches(workers=2, use_multiprocessing=True), verbose=0)  # imports what it needs
    model.set_weights(models.load_model(files[0]).get_weights())
    before = sorted(tmp_path.iterdir())
    calls = (
        lambda: model.save(files[0]),
        lambda: model.save_weights(files[1]),
        lambda: models.load_model(files[0]),
        lambda: model.load_weights(files[1]),
        lambda: model.fit(X, Y, shuffle=False, verbose=0, callbacks=[watch]),
        lambda: model.fit(Batches(workers=2, use_multiprocessing=True), verbose=0),
    )
    with no_descriptors():
        predicted = model.predict(X, verbose=0)
        for call in calls:
            with pytest.raises(OSError, match="Too many open files"):
                call()
    assert sorted(tmp_path.iterdir()) == before
    assert [file.read_bytes() for file in files] == content
    np.testing.assert_array_equal(predicted, models.load_model(files[0]).predict(X, verbose=0))
    np.testing.assert_array_equal(model.get_weights()[0], twin.get_weights()[0])  # it had learned
    model.save(files[0])


ASKS = {
    "an array": lambda: np.ones(1 << 27),
    "an operator": lambda: ops.add(np.broadcast_to(np.float32(1), (1 << 26,)), 1),
    "a model": lambda: made().predict(np.broadcast_to(X[:1], (1 << 23, 8)), verbose=0),
    "sending": lambda: (np.broadcast_to(X[:1], (1 << 23, 8)), Y[:1]),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no sizes of processes")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.parametrize("ask", ASKS)
def test_little_memory_in_a_process_of_a_data_set(ask):
    model = made()
    with pytest.raises(MemoryError):
        model.fit(Batches(ASKS[ask], workers=1, use_multiprocessing=True), verbose=0, shuffle=False)
    twin = made()
    twin.train_on_batch(X[:4], Y[:4])
    np.testing.assert_array_equal(model.get_weights()[0], twin.get_weights()[0])
    model.fit(X, Y, verbose=0)


class Cuts(callbacks.Callback):
    """Makes a file shorter while an array of it is learned from."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3:
            os.truncate(self.path, 5000)


def mapped(path):
    np.save(path, np.repeat(X, 8, axis=0))
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("eagerly", (False, True))
@pytest.mark.parametrize("shuffle", (False, True))
@pytest.mark.parametrize("plain", (False, True))
def test_files_that_are_cut_while_they_are_learned_from(tmp_path, eagerly, shuffle, plain):
    """Who reads behind the end of a file through memory is ended by the system."""
    x = mapped(tmp_path / "x.npy")
    model = made(run_eagerly=eagerly)
    with pytest.raises(ValueError, match=r"x\.npy, which has been cut: .* the file has 5,000"):
        model.fit(
            np.asarray(x) if plain else x, np.zeros((4096, 2)), shuffle=shuffle, verbose=0,
            callbacks=[Cuts(tmp_path / "x.npy")],
        )  # fmt: skip
    assert int(np.asarray(model.optimizer.iterations)) == 3
    assert np.isfinite(model.get_weights()[0]).all()


def test_files_that_have_been_cut(tmp_path):
    x, model = mapped(tmp_path / "x.npy"), made()
    want = model.predict(np.array(x), verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), want)
    np.testing.assert_array_equal(model.predict(x[4090:], verbose=0), want[4090:])
    os.truncate(tmp_path / "x.npy", 5000)
    calls = (
        lambda: model.fit(x, np.zeros((4096, 2)), verbose=0),
        lambda: model.fit(np.asarray(x), np.zeros((4096, 2)), verbose=0),
        lambda: model.evaluate(x, np.zeros((4096, 2)), verbose=0),
        lambda: model.predict(x[:9], verbose=0),
        lambda: model.train_on_batch(x[:9], np.zeros((9, 2))),
        lambda: model(x),
        lambda: ops.add(x[2:], 1),
        lambda: layers.Normalization().adapt(x),
        lambda: next(iter(hm.data.Dataset.from_tensor_slices(x).batch(4))),
    )
    for call in calls:
        with pytest.raises(ValueError, match="has been cut"):
            call()
    private = np.memmap(tmp_path / "y", "float32", "w+", shape=(9, 8))
    np.testing.assert_array_equal(model(private), np.zeros((9, 2)))


def test_a_clock_that_jumps(tmp_path, monkeypatch, capsys):
    want = made().fit(X, Y, epochs=2, verbose=0).history
    now, jumps = time.time, itertools.cycle((0.0, -4e8, 3e9, -86400.0, 1e5))
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    watchers = [
        callbacks.TensorBoard(tmp_path / "tb", histogram_freq=1),
        callbacks.BackupAndRestore(tmp_path / "backup"),
        callbacks.ModelCheckpoint(tmp_path / "a.hmill"),
        callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    found = made().fit(X, Y, epochs=2, callbacks=watchers)
    assert found.history == want
    shown = capsys.readouterr().out
    assert "16/16" in shown
    assert " -" not in shown.replace(" - ", " ")  # a time below zero
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hmill", "log.csv", "tb"]
    models.load_model(tmp_path / "a.hmill")


@pytest.mark.parametrize("suffix", (".hmill", ".safetensors", ".keras"))
def test_names_of_files_that_are_no_text_or_too_long(suffix, tmp_path):
    if suffix == ".keras":
        pytest.importorskip("h5py")
    model = made()
    write = model.save_weights if suffix == ".safetensors" else model.save
    read = model.load_weights if suffix == ".safetensors" else models.load_model
    odd = os.fsencode(tmp_path) + b"/\xff\xfe" + suffix.encode()
    try:
        os.close(os.open(odd, os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("a file system of UTF-8 alone")
    for name in (odd, os.fsdecode(odd)):
        write(name)
        read(name)
    before = sorted(tmp_path.iterdir())
    for name in ("a" * 300, "b/" * 3000 + "c"):
        for call in (write, read):
            with pytest.raises((OSError, ValueError), match=r"too long|not found"):
                call(f"{tmp_path}/{name}{suffix}")
    assert sorted(tmp_path.iterdir()) == before


def in_threads(*works):
    """Runs functions at once, each on a thread; returns what they gave or raised."""
    found = [None] * len(works)

    def run(place, work):
        try:
            found[place] = work()
        except BaseException as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_what_other_threads_do_with_a_model_that_learns(tmp_path):
    """Nothing fails, and the model learns what it would alone."""
    before = config.num_threads()
    x, y = np.tile(X, (20, 1)), np.tile(Y, (20, 1))
    want = made().fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history
    model, over = made(), threading.Event()

    def learn():
        try:
            return model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history
        finally:
            over.set()

    def others():
        count = 0
        while not over.is_set() or not count:
            for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                assert other.predict(X[:4], verbose=0).shape == (4, 2)
            model.save(tmp_path / "a.hmill")
            assert np.isfinite(models.load_model(tmp_path / "a.hmill").get_weights()[0]).all()
            assert np.isfinite(model(X[:4])).all()
            if config.has_kernels():
                config.set_num_threads(1 + count % 2)
            count += 1
        return count

    try:
        found, count = in_threads(learn, others)
    finally:
        if config.has_kernels():
            config.set_num_threads(before)
    assert found == want
    assert count >= 1


def test_threads_with_little_stack():
    """Of 128 KB, as musl gives; kernels keep their tiles elsewhere."""
    size = threading.stack_size(128 << 10)
    try:
        found, wide = in_threads(
            lambda: made().fit(X, Y, shuffle=False, verbose=0).history,
            lambda: ops.conv(np.ones((1, 8, 8, 16), "float32"), np.ones((3, 3, 16, 32), "float32")),
        )
    finally:
        threading.stack_size(size)
    assert found == made().fit(X, Y, shuffle=False, verbose=0).history
    np.testing.assert_array_equal(wide, np.full((1, 6, 6, 32), 144.0, "float32"))


def test_interrupts_while_another_thread_learns():
    """Signals belong to the first thread: the other one learns on."""
    x, y = np.tile(X, (40, 1)), np.tile(Y, (40, 1))
    found, begun = [], threading.Event()

    class Tells(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            begun.set()

    thread = threading.Thread(
        target=lambda: found.append(made().fit(x, y, epochs=3, verbose=0, callbacks=[Tells()]))
    )

    def interrupted():
        begun.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, handler)
        thread.join(60)
    assert len(found[0].history["loss"]) == 3
