"""Everything that takes data or files, under other settings of Python and of the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import handmill as hm

FOLDER = Path(hm.__file__).parent.parent

WALK = """
import hashlib, locale, os, sys, tempfile
wanted = os.environ.get("TEST_LOCALE")
if wanted:
    locale.setlocale(locale.LC_ALL, wanted)
    assert locale.localeconv()["decimal_point"] == ","
import numpy as np
import handmill as hm
from handmill import callbacks, layers, metrics, models, ops
from handmill.data import Dataset

seen = hashlib.sha256()

def put(*arrays):
    for x in arrays:
        seen.update(np.ascontiguousarray(np.asarray(x)).tobytes())

hm.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
model = models.Sequential([layers.Input((4,)), layers.Dense(8, activation="relu"),
                           layers.BatchNormalization(), layers.Dropout(0.2),
                           layers.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
data = Dataset.from_tensor_slices((x, y)).shuffle(16, seed=1).map(lambda a, b: (a * 2, b))
put(model.fit(data.batch(8).prefetch(1), epochs=2, verbose=0).history["loss"])

class Batches(hm.utils.PyDataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return x[16 * i : 16 * i + 16], y[16 * i : 16 * i + 16]

with tempfile.TemporaryDirectory() as folder:
    watchers = [
        callbacks.ModelCheckpoint(folder + "/{epoch:02d}-{loss:.2f}.hmill"),
        callbacks.CSVLogger(folder + "/log.csv"),
        callbacks.BackupAndRestore(folder + "/backup"),
        callbacks.TensorBoard(folder + "/tb", histogram_freq=1),
    ]
    put(model.fit(Batches(workers=2), verbose=0, callbacks=watchers).history["loss"])
    put(model.fit(x, y, verbose=0, resume=folder + "/run.hmill", epochs=2).history["loss"])
    with open(folder + "/log.csv", encoding="utf-8") as file:
        put(np.array([float(v) for v in file.readlines()[1].split(",")]))
    assert any(n.startswith("01-") and n[4] == "." for n in os.listdir(folder))
    files = ["a.hmill", "a.weights.hmill", "a.safetensors"]
    if HDF5:
        files += ["a.keras", "a.h5", "a.weights.h5", "s.weights.json"]
    for name in files:
        path = folder + "/" + name
        if name == "s.weights.json":
            model.save_weights(path, max_shard_size=3e-7)
        elif "weights" in name or "safetensors" in name:
            model.save_weights(path)
        else:
            model.save(path)
            put(models.load_model(path).predict(x, verbose=0))
            continue
        model.load_weights(path)
    if HDF5:
        model.save(folder + "/folder", zipped=False)
        put(models.load_model(folder + "/folder").predict(x, verbose=0))
        hm.saving.KerasFileEditor(folder + "/a.weights.h5").save(folder + "/e.weights.h5")

texts = layers.TextVectorization()
texts.adapt(np.array(["a b", "b c"]))
put(texts(np.array(["a b d"])))
for layer in (layers.StringLookup(vocabulary=["a"]), layers.Hashing(3)):
    put(layer(np.array(["a", "b"])))
for layer in (layers.Normalization(), layers.Discretization(num_bins=3)):
    layer.adapt(x)
    put(layer(x))
put(layers.CategoryEncoding(3)(np.array([0, 1])), layers.IntegerLookup(vocabulary=[1])(y))
space = hm.utils.FeatureSpace({"a": "float", "b": "string_categorical"}, output_mode="concat")
space.adapt({"a": x[:, 0], "b": np.array(["x", "y"] * 32)})
put(space({"a": x[:2, 0], "b": np.array(["x", "z"])}))
ids = models.Sequential([layers.Input((2,)), layers.Embedding(10, 4, sparse_rows=True),
                         layers.Flatten(), layers.Dense(1, activation="sigmoid")])
ids.compile("sgd", "mse", metrics=[metrics.AUC()])
put(ids.fit(rng.integers(0, 10, (64, 2)), y > 1, verbose=0).history["loss"])

class Own(hm.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
    def call(self, x):
        return self.dense(x)
    def train_step(self, data):
        x, y = data
        with hm.GradientTape() as tape:
            loss = ops.mean(ops.square(self(x)[:, 0] - ops.cast(y, "float32")))
        found = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(found, self.trainable_variables)
        return {"loss": loss}

own = Own()
for eager in (False, True):
    own.compile("sgd", run_eagerly=eager)
    put(own.fit(x, y, verbose=0).history["loss"])
put(ops.scan(lambda c, row: (c + row, c), np.float32(0), x[:, 0])[1])
put(ops.while_loop(lambda i: i < 5, lambda i: (i + 1,), (0,)))
put(ops.image.resize(x[:3].reshape(1, 3, 4, 1), (2, 2)), ops.image.gaussian_blur(x[:, :, None]))
lines = []
model.summary(print_fn=lambda line, **_: lines.append(line))
put(np.frombuffer("".join(lines).encode(), np.uint8))
print("walked", seen.hexdigest())
"""


def walked(*options, **environment):
    """What a walk in a process of its own has seen."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        walk = f"HDF5 = False\n{WALK}"
    else:
        walk = f"HDF5 = True\n{WALK}"
    done = subprocess.run(
        [sys.executable, *options, "-c", walk], check=False, capture_output=True, text=True,
        cwd=FOLDER, env={**os.environ, **environment}, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def plain():
    return walked()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    (("-W", "error"), ("-OO",), ("-X", "dev", "-W", "error::ResourceWarning"), ("-B",)),
    ids=" ".join,
)
def test_options_of_python(plain, options):
    assert walked(*options) == plain


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"HANDMILL_DEBUG": "1"},
     {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "7"}, {"HANDMILL_NUM_THREADS": "1"}),
    ids=str,
)  # fmt: skip
def test_variables_of_the_environment(plain, environment):
    assert walked(**environment) == plain


@pytest.mark.slow
def test_decimals_with_a_comma(plain, tmp_path):
    """In a locale whose numbers have commas, files and names have points."""
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")]
    try:
        made = subprocess.run(command, check=False, capture_output=True, timeout=60)
    except OSError:
        pytest.skip("no localedef")
    if not (tmp_path / "de_DE.UTF-8").is_dir():
        pytest.skip(f"no locale could be made: {made.stderr[-100:]!r}")
    found = walked(LOCPATH=str(tmp_path), LC_ALL="de_DE.UTF-8", TEST_LOCALE="de_DE.UTF-8")
    assert found == plain


# SIGINT where Python code of users runs, and processes that split.

INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
import handmill as hm
from handmill import layers, models
from handmill.data import Dataset

def make():
    hm.utils.set_random_seed(1)
    model = models.Sequential([layers.Input((8,)), layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model

rng = np.random.default_rng(0)
x, y = rng.normal(size=(640, 8)).astype("float32"), rng.integers(0, 3, 640)
rows = [(x[i : i + 64], y[i : i + 64]) for i in range(0, 640, 64)]

def stop(batch, at=4):
    if batch == at:
        os.kill(os.getpid(), signal.SIGINT)

class Stops(hm.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        stop(batch)

class Batches(hm.utils.PyDataset):
    def __len__(self):
        return 10
    def __getitem__(self, i):
        stop(i)
        return rows[i]

def generator():
    for i in range(10):
        stop(i)
        yield rows[i]

def mapped(i):
    stop(int(i))
    return rows[int(i)]

ways = {
    "callback": lambda m: m.fit(x, y, batch_size=64, shuffle=False, verbose=0,
                                callbacks=[Stops()]),
    "generator": lambda m: m.fit(generator(), verbose=0),
    "PyDataset": lambda m: m.fit(Batches(), shuffle=False, verbose=0),
    "workers": lambda m: m.fit(Batches(workers=2), shuffle=False, verbose=0),
    "map": lambda m: m.fit(Dataset.range(10).map(mapped), verbose=0),
    "prefetch": lambda m: m.fit(Dataset.range(10).map(mapped).prefetch(2), verbose=0),
    "eager": lambda m: (m.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True),
                        m.fit(generator(), verbose=0)),
}
for name, way in ways.items():
    model = make()
    try:
        way(model)
        print(name, "went on")
    except KeyboardInterrupt:
        pass
    steps = int(np.asarray(model.optimizer.iterations))
    twin = make()
    if name == "eager":
        twin.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    for row in rows[:steps]:
        twin.train_on_batch(*row)
    same = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), twin.get_weights()))
    print(name, steps < 10, same, np.isfinite(model.fit(x, y, verbose=0).history["loss"][0]))
import gc, threading, time
gc.collect()
end = time.monotonic() + 10
while threading.active_count() > 1 and time.monotonic() < end:
    time.sleep(0.01)
print("threads", threading.active_count())
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_interrupts_in_code_of_users():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], check=False, capture_output=True, text=True,
        cwd=FOLDER, timeout=60,
    )  # fmt: skip
    ways = ("callback", "generator", "PyDataset", "workers", "map", "prefetch", "eager")
    assert done.stdout.splitlines() == [f"{way} True True True" for way in ways] + ["threads 1"]


def in_a_child(work):
    """The exit code of a forked process that does some work; 0 if it could."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, where another test has it
def test_forks_before_within_and_after_fit():
    """A child computes what its parent does, whatever threads of the parent were at."""
    x = np.random.default_rng(0).normal(size=(256, 64)).astype("float32")
    y = np.zeros(256, int)

    def make():
        hm.utils.set_random_seed(1)
        model = hm.Sequential(
            [hm.Input((64,)), hm.layers.Dense(64), hm.layers.Dense(3, activation="softmax")]
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    want = make().fit(x, y, verbose=0).history["loss"]

    def fits():
        assert make().fit(x, y, verbose=0).history["loss"] == want

    codes = [in_a_child(fits)]

    class Forks(hm.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                codes.append(in_a_child(fits))
                codes.append(in_a_child(lambda: self.model.predict(x, verbose=0)))

    def generator():
        yield x, y
        codes.append(in_a_child(fits))
        yield x, y

    model = make()
    assert model.fit(x, y, verbose=0, callbacks=[Forks()]).history["loss"] == want
    model.fit(generator(), verbose=0)
    codes.append(in_a_child(lambda: model.fit(x, y, verbose=0)))
    assert codes == [0] * 5
    assert make().fit(x, y, verbose=0).history["loss"] == want
