"""Bad input: a clear error or the right result, and a model that is usable afterwards."""

from __future__ import annotations

import contextlib
import gc
import inspect
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import tracemalloc
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

import handmill as hm
from handmill import layers, models
from handmill.errors import RowError, ShapeError, TrainingWarning
from handmill.runtime.memory import available_bytes

pytestmark = pytest.mark.alone

BACKENDS = ("native", "numpy")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = RNG.integers(0, 3, 64)


def make_model(seed=3):
    hm.utils.set_random_seed(seed)
    model = models.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, activation="tanh", name="hidden"),
            layers.Dense(3, activation="softmax", name="out"),
        ],
        name="net",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def bits_of(model):
    return [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]


def weights_of(model):
    return [v.numpy().tobytes() for v in model.variables]


def usable(model):
    history = model.fit(X, Y, batch_size=16, verbose=0).history
    assert math.isfinite(history["loss"][0])
    assert math.isfinite(model.evaluate(X, Y, verbose=0)[0])
    assert np.isfinite(model.predict(X, verbose=0)).all()


@pytest.fixture
def model():
    return make_model()


def line():
    """The line of the caller."""
    return inspect.currentframe().f_back.f_lineno


# Shapes.


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_shape_names_layer_expected_received_and_call_site(model, backend):
    before = bits_of(model)
    with hm.use_backend(backend):
        calls = {
            "fit": lambda: model.fit(X[:, :5], Y, verbose=0),
            "evaluate": lambda: model.evaluate(X[:, :5], Y, verbose=0),
            "predict": lambda: model.predict(X[:, :5], verbose=0),
            "train_on_batch": lambda: model.train_on_batch(X[:, :5], Y),
            "call": lambda: model(X[:, :5]),
        }
        for name, call in calls.items():
            with pytest.raises(ShapeError) as info:
                call()
            text = str(info.value)
            rows = len(X) if name == "call" else None  # the others make batches
            assert '"net"' in text
            assert f"expected shape=(None, 6), found shape=({rows}, 5)" in text
            at = call.__code__.co_firstlineno
            assert f"test_bad_input.py:{at}" in text
    assert bits_of(model) == before
    usable(model)


def test_wrong_shape_inside_a_model_names_the_layer():
    inputs = layers.Input((4, 5))
    with pytest.raises(ValueError, match=f"(?s)join.*test_bad_input.py:{line() + 1}"):
        layers.Concatenate(name="join")([inputs, layers.Input((7, 6))])
    dense = layers.Dense(2, name="logits")
    dense.build((None, 8))
    with pytest.raises(ShapeError) as info:
        dense(np.zeros((3, 9), "float32"))
    at = line() - 1
    text = str(info.value)
    assert "logits" in text
    assert "8" in text
    assert "(3, 9)" in text or "(None, 9)" in text
    assert f"test_bad_input.py:{at}" in text


def test_one_sample_gets_a_hint(model):
    with pytest.raises(ShapeError, match=r"x\[None\]"):
        model.predict(X[0], verbose=0)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    (
        (X, Y[:3], "64.*3"),
        (X, np.zeros((64, 2), "float32"), "same shape"),
        (X, None, "needs targets"),
        (None, Y, "`x` is missing"),
        (np.float32(3), Y, "rank 0"),
        (X[:, :0], Y, "found shape=\\(None, 0\\)"),
        (X[:0], Y[:0], "non-empty"),
        ([], [], "non-empty"),
        (object(), None, "Unrecognized data type"),
    ),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_data_that_do_not_fit(model, backend, x, y, match):
    before = bits_of(model)
    with hm.use_backend(backend):
        for method in (model.fit, model.evaluate):
            with pytest.raises(ValueError, match=match):
                method(x, y, verbose=0)
    assert bits_of(model) == before
    usable(model)


@pytest.mark.parametrize("method", ("predict", "predict_on_batch", "train_on_batch"))
def test_empty_data(model, method):
    arguments = (X[:0], Y[:0]) if method == "train_on_batch" else (X[:0],)
    with pytest.raises(ValueError, match="non-empty"):
        getattr(model, method)(*arguments)


# Values and dtypes.


@pytest.mark.parametrize(
    ("x", "match"),
    (
        (X.astype(str), "dtype <U"),
        (X.astype("S"), "dtype \\|S"),
        (X.astype(object), "objects"),
        (np.array([{}] * 64), "dict"),
        (np.array([list(range(1 + i % 3)) for i in range(64)], object), "list"),
        (X.astype("M8[s]"), "datetime64"),
        (X.astype("m8[s]"), "timedelta64"),
        (X.astype(complex), "complex128"),
        (np.zeros(64, [("a", "f4"), ("b", "f4")]), "must hold numbers"),
        ([[1.0, 2.0], [1.0]] * 32, "row 0 has 2 entries, row 1 has 1"),
        (np.ma.array(X, mask=X > 1), "mask"),
    ),
)
def test_arrays_that_hold_no_numbers(model, x, match):
    before = bits_of(model)
    for call in (
        lambda: model.fit(x, Y, verbose=0),
        lambda: model.evaluate(x, Y, verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model.train_on_batch(x, Y),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(ValueError, match="`y` must hold numbers"):
        model.fit(X, Y.astype(str), verbose=0)
    assert bits_of(model) == before
    usable(model)


def test_array_that_raises(model):
    class Refusing:
        def __array__(self, *args, **kwargs):
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        model.fit(Refusing(), Y, verbose=0)
    usable(model)


def misaligned(array):
    raw = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:]
    return raw.view(array.dtype).reshape(array.shape)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def spread(array):
    wide = np.zeros([2 * n for n in array.shape], array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


LAYOUTS = {
    "read-only": read_only,
    "fortran": np.asfortranarray,
    "negative": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "strided": spread,
    "misaligned": misaligned,
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "unmasked": np.ma.array,
    "list": lambda a: a.tolist(),
    "wide": lambda a: a.astype(np.longdouble if a.dtype.kind == "f" else np.uint64),
    "narrow": lambda a: a.astype(np.float64 if a.dtype.kind == "f" else np.int8),
    "short": lambda a: a.astype(">f8" if a.dtype.kind == "f" else ">i2"),
    "floats": lambda a: a.astype(np.float32),
}


def everything(x, y):
    model = make_model()
    losses = model.fit(x, y, verbose=0, epochs=2, batch_size=10).history["loss"]
    on_batch = model.train_on_batch(x, y)
    return (
        bits_of(model), losses, on_batch, model.evaluate(x, y, verbose=0),
        model.predict(x, verbose=0).tobytes(), model.predict_on_batch(x).tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_arrays_change_nothing(layout):
    plain = everything(X, Y)
    assert everything(LAYOUTS[layout](X), Y) == plain
    assert everything(X, LAYOUTS[layout](Y)) == plain


@pytest.mark.parametrize("layout", ("negative", "strided", "misaligned", "swapped", "fortran"))
def test_layouts_of_operands_of_ops(layout):
    made = LAYOUTS[layout](X)
    for op in (hm.ops.exp, hm.ops.softmax, hm.ops.transpose, hm.ops.sum):
        np.testing.assert_array_equal(np.asarray(op(made)), np.asarray(op(X)))
    got = np.asarray(hm.ops.matmul(made, LAYOUTS[layout](X[:6])))
    np.testing.assert_array_equal(got, np.asarray(hm.ops.matmul(X, X[:6])))


def test_float64_and_broadcast_views_are_not_changed():
    x, y = X.astype("float64"), np.broadcast_to(np.int64(1), (64,))
    kept = x.copy()
    make_model().fit(x, y, verbose=0)
    assert (x == kept).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_in_data_warns_with_the_step(backend):
    x = X.copy()
    x[21, 3] = np.nan
    with hm.use_backend(backend), pytest.warns(TrainingWarning, match="NaN at step 6 ") as caught:
        make_model().fit(x, Y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    found = [w for w in caught if "NaN" in str(w.message)]
    assert len(found) == 1
    assert found[0].filename == __file__


# Labels.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", (3, -1, 1 << 40, -(1 << 40), 0.5, np.nan, np.inf, 1e30))
@pytest.mark.parametrize("shuffle", (False, True))
def test_labels_out_of_range(model, backend, bad, shuffle):
    y = Y.astype(np.float64 if isinstance(bad, float) else np.int64)
    y[[17, 41]] = bad
    before = weights_of(model)
    with hm.use_backend(backend):
        for call in (
            lambda: model.fit(X, y, batch_size=64, shuffle=shuffle, verbose=0),
            lambda: model.train_on_batch(X, y),
            lambda: model.evaluate(X, y, batch_size=64, verbose=0),
            lambda: model.test_on_batch(X, y),
            lambda: model.fit(iter([(X, y)]), verbose=0),
        ):
            with pytest.raises(RowError, match=r"not an integer from 0 to 2 \(first at row 17\)"):
                call()
    assert weights_of(model) == before
    assert int(np.asarray(model.optimizer.iterations)) == 0
    usable(model)


def test_batches_before_the_bad_label_count(model):
    """Where the rows come one batch after the other; rows of arrays are looked at before."""
    y = Y.copy()
    y[50] = 7
    made = ((X[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8))
    with pytest.raises(RowError, match=r"in batch 6 \(from 0\): label 7 .*row 2\)"):
        model.fit(made, verbose=0)
    twin = make_model()
    for start in range(0, 48, 8):
        twin.train_on_batch(X[start : start + 8], Y[start : start + 8])
    assert int(np.asarray(model.optimizer.iterations)) == 6
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# Sizes.

HUGE = (1 << 40, 1 << 62, 1 << 70)


@pytest.mark.slow
@pytest.mark.parametrize("units", HUGE)
def test_layers_too_large(units):
    start = time.process_time()
    gc.collect()  # as is done before memory is said to be too small
    collecting = time.process_time() - start
    start = time.process_time()
    with pytest.raises((ValueError, MemoryError), match="kernel"):
        models.Sequential([layers.Input((4,)), layers.Dense(units, name="wide")])
    assert time.process_time() - start < 2 + 2 * collecting


def test_forgotten_models_make_room(monkeypatch):
    """Layers know each other, so that their memory is free only when the collector has come."""

    class Part:
        pass

    part = Part()
    part.itself = part
    known = weakref.ref(part)
    del part
    free = {True: 0, False: 20_000_000_000}
    monkeypatch.setattr(
        "handmill.runtime.memory.available_bytes", lambda: free[known() is not None]
    )
    monkeypatch.setattr("handmill.runtime.variable.FEW_BYTES", 0)
    layers.Dense(8).build((None, 4))
    assert known() is None


@pytest.mark.slow
def test_weights_that_memory_does_not_hold(monkeypatch):
    """Refused before anything is allocated, with what they need and what there is."""
    monkeypatch.setattr("handmill.runtime.memory.available_bytes", lambda: 20_000_000_000)
    tracemalloc.start()
    try:
        net = models.Sequential([layers.Input((4,)), layers.Dense(1 << 16, name="wide")])
        before = tracemalloc.get_traced_memory()[0]
        for units, initializer in ((1 << 17, "zeros"), (1 << 16, "glorot_uniform")):
            with pytest.raises(MemoryError) as found:
                net.add(layers.Dense(units, name="wider", kernel_initializer=initializer))
            text = str(found.value)
            assert re.match(r'layer "wider" .*kernel.* needs [\d.]+ GB', text)
            assert "can have 20 GB more" in text
            assert ("first values" in text) == (initializer != "zeros")
            assert len(net.layers) == 1  # as it was
        assert tracemalloc.get_traced_memory()[1] - before < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("files", "most"),
    (
        ({}, 1 << 47),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  5 kB\nSwapFree: 2 kB\n"}, 7 * 1024),
        ({"sys/fs/cgroup/memory.max": "900\n", "sys/fs/cgroup/memory.current": "500"}, 400),
        (
            {
                "sys/fs/cgroup/memory.max": "900",
                "sys/fs/cgroup/memory.current": "500",
                "sys/fs/cgroup/memory.stat": "anon 1\nfile 300\n",
            },
            700,
        ),
        ({"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "500"}, 1 << 47),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "100",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "300",
            },
            0,
        ),
    ),
)
def test_memory_that_a_process_can_have(files, most, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 1 << 30)  # pages, and their size
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_bytes(str(tmp_path)) == most


def test_shapes_too_large():
    side = 1 << 31
    fits = models.Sequential([layers.Input((side, side)), layers.Flatten()])
    assert fits.output_shape == (None, side * side)
    with pytest.raises((ValueError, MemoryError)):
        models.Sequential([layers.Input((side, side)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="more elements"):
        models.Sequential([layers.Input((side, side, 4)), layers.Flatten()])
    with pytest.raises(ValueError, match="more elements"):
        models.Sequential([layers.Input((1 << 70,)), layers.Dense(2)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "call",
    (
        lambda x: hm.ops.reshape(x, (1 << 40, 1 << 40)),
        lambda x: hm.ops.reshape(x[:0], (1 << 40, 1 << 40, 0)),
        lambda x: hm.ops.broadcast_to(x[:1, :1], (1 << 33, 1 << 33)),
        lambda x: hm.ops.zeros((1 << 33, 1 << 33)),
        lambda x: hm.ops.pad(x, ((1 << 62, 1 << 62), (0, 0))),
        lambda x: hm.ops.repeat(x, 1 << 62, axis=0),
        lambda x: hm.ops.tile(x, (1 << 32, 1 << 32)),
        lambda x: hm.ops.one_hot(x[:, 0] * 0, 1 << 62),
    ),
)
def test_results_too_large(backend, call):
    with hm.use_backend(backend), pytest.raises((ValueError, MemoryError, OverflowError)):
        call(X)


@pytest.mark.parametrize("units", (0, -3, 2.5, "3", None, True))
def test_units_that_are_none(units):
    with pytest.raises(ValueError, match="`units`"):
        layers.Dense(units)


@pytest.mark.parametrize("batch_size", (0, -1, 2.5, "8", True))
def test_batch_sizes(model, batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        model.fit(X, Y, batch_size=batch_size, verbose=0)


# Names.


@pytest.mark.parametrize(
    ("call", "kind", "known"),
    (
        (lambda m: m.compile("adamm", "mse"), "optimizer: 'adamm'", ("sgd", "'adam'?")),
        (lambda m: m.compile("adam", "mxe"), "loss: 'mxe'", ("binary_crossentropy", "mse")),
        (lambda m: m.compile("adam", "mse", ["acc2"]), "metric: 'acc2'", ("accuracy",)),
        (lambda m: layers.Dense(1, activation="rellu"), "'rellu'", ("relu", "softmax")),
        (lambda m: layers.Activation("rellu"), "'rellu'", ("relu", "softmax")),
        (lambda m: layers.Dense(1, kernel_initializer="he"), "'he'", ("he_normal", "zeros")),
        (lambda m: layers.Dense(1, kernel_regularizer="l3"), "'l3'", ("l1", "l2")),
        (lambda m: layers.Dense(1, bias_constraint="max"), "'max'", ("max_norm", "non_neg")),
    ),
)
def test_unknown_names_list_the_known_ones(model, call, kind, known):
    before = model.optimizer, model.objective
    with pytest.raises(ValueError, match=r"Unknown .*Known: ") as info:
        call(model)
    assert kind in str(info.value)
    assert all(name in str(info.value) for name in known)
    assert (model.optimizer, model.objective) == before
    usable(model)


# Generators and callbacks.


def batches(count):
    for i in range(count):
        yield X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


def test_generator_that_ends_early(model):
    with pytest.warns(UserWarning, match="ran out of data") as caught:
        history = model.fit(batches(3), steps_per_epoch=5, verbose=0).history
    assert caught[0].filename == __file__
    assert len(history["loss"]) == 1
    assert int(np.asarray(model.optimizer.iterations)) == 3
    usable(model)


@pytest.mark.parametrize("method", ("fit", "evaluate", "predict"))
def test_generator_without_batches(model, method):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        with pytest.raises(ValueError, match="received no batch"):
            getattr(model, method)(batches(0), verbose=0)
    usable(model)


@pytest.mark.parametrize(
    ("batch", "match"),
    (
        ((X[:8, :3], Y[:8]), "expected shape"),
        ((X[:8], Y[:7]), "8.*7"),
        ((X[:0], Y[:0]), "non-empty"),
        ((X[:8], Y[:8], None, None), "4 entries"),
        ((X[:8].astype(str), Y[:8]), "must hold numbers"),
        ((X[:8], Y[:8] + 2), "not an integer"),
        (None, "missing|non-empty|must hold numbers"),
    ),
)
def test_bad_batch_of_a_generator(model, batch, match):
    def generator():
        yield X[:8], Y[:8]
        yield batch

    with pytest.raises(ValueError, match=match):
        model.fit(generator(), verbose=0)
    twin = make_model()
    twin.train_on_batch(X[:8], Y[:8])
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    usable(model)


class Boom(Exception):
    pass


def test_generator_that_raises(model):
    def generator():
        yield from batches(2)
        raise Boom

    with pytest.raises(Boom):
        model.fit(generator(), verbose=0)
    assert int(np.asarray(model.optimizer.iterations)) == 2
    usable(model)


HOOKS = (
    "set_model", "set_params", "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end",
    "on_train_batch_begin", "on_train_batch_end", "on_test_begin", "on_test_end",
    "on_test_batch_begin", "on_test_batch_end",
)  # fmt: skip


@pytest.mark.parametrize("error", (Boom, KeyboardInterrupt, SystemExit))
@pytest.mark.parametrize("hook", HOOKS)
def test_callback_that_raises(model, hook, error):
    def raising(self, *args):
        raise error

    callback = type("Raising", (hm.callbacks.Callback,), {hook: raising})()
    with pytest.raises(error):
        model.fit(
            X,
            Y,
            batch_size=16,
            verbose=0,
            callbacks=[callback],
            validation_data=(X, Y),
            shuffle=False,
        )
    steps = int(np.asarray(model.optimizer.iterations))
    twin = make_model()
    for start in range(0, 16 * steps, 16):
        twin.train_on_batch(X[start : start + 16], Y[start : start + 16])
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    usable(model)


def test_fit_within_a_callback(model):
    class Inner(hm.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.fit(X, Y, verbose=0)

    with pytest.raises(RuntimeError, match="while fit\\(\\) of the same model is running"):
        model.fit(X, Y, verbose=0, callbacks=[Inner()])
    usable(model)


def test_evaluate_and_predict_within_a_callback(model):
    class Inner(hm.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(X, Y, verbose=0)
            self.model.predict(X, verbose=0)

    twin = make_model()
    twin.fit(X, Y, verbose=0, epochs=2, shuffle=False)
    model.fit(X, Y, verbose=0, epochs=2, shuffle=False, callbacks=[Inner()])
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# Signals and busy machines.

FOLDER = Path(hm.__file__).parent.parent
needs_posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
import numpy as np
import handmill as hm
from handmill import layers, models

def make():
    hm.utils.set_random_seed(1)
    model = models.Sequential([layers.Input((64,)), layers.Dense(128, activation="relu"),
                               layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model

rng = np.random.default_rng(0)
x, y = rng.normal(size=(4096, 64)).astype("float32"), rng.integers(0, 3, 4096)
model = make()
model.fit(x[:64], y[:64], batch_size=64, shuffle=False, verbose=0)
print("ready", flush=True)
try:
    model.fit(x, y, batch_size=64, epochs=10**9, shuffle=False, verbose=0)
except KeyboardInterrupt:
    print("interrupted")
steps = int(np.asarray(model.optimizer.iterations)) - 1
twin = make()
twin.fit(x[:64], y[:64], batch_size=64, shuffle=False, verbose=0)
twin.fit(x, y, batch_size=64, epochs=steps // 64, shuffle=False, verbose=0)
if steps % 64:
    twin.fit(x, y, batch_size=64, steps_per_epoch=steps % 64, shuffle=False, verbose=0)
same = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), twin.get_weights()))
loss = model.fit(x, y, verbose=0).history["loss"][0]
print("steps", steps > 0, "same", same, "usable", np.isfinite(loss))
"""


def start(script, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=FOLDER,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
@needs_posix
def test_interrupt_leaves_the_model_at_a_step():
    seconds = []
    while len(seconds) < 3 and min(seconds, default=math.inf) >= 2:  # other processes only add
        with start(INTERRUPTED) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            sent = time.perf_counter()
            assert process.stdout.readline() == "interrupted\n"
            seconds.append(time.perf_counter() - sent)
            assert process.stdout.readline() == "steps True same True usable True\n"
        assert process.returncode == 0
    assert min(seconds) < 2, seconds


TRAINING = """
import hashlib
import numpy as np
import handmill as hm
from handmill import layers, models
hm.utils.set_random_seed(1)
model = models.Sequential([layers.Input((256,)), layers.Dense(512, activation="relu"),
                           layers.Dropout(0.2), layers.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(1024, 256)).astype("float32"), rng.integers(0, 3, 1024)
print("ready", flush=True)
model.fit(x, y, epochs=4, verbose=0)
print(hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest())
"""


@pytest.mark.slow
@needs_posix
def test_half_a_core():
    """A process that is stopped half of the time, as a quota does it, computes the same."""
    with start(TRAINING) as process:
        want = process.communicate()[0]
    with start(TRAINING, HANDMILL_NUM_THREADS="2") as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(400):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.01)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
            if process.poll() is not None:
                break
        assert "ready\n" + process.stdout.read() == want


def test_quota_of_half_a_core_means_one_thread(tmp_path):
    _core = pytest.importorskip("handmill._core", reason="a build without kernels")
    group = tmp_path / "sys/fs/cgroup/box"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("50000 100000\n")
    listing = tmp_path / "proc/self/cgroup"
    listing.parent.mkdir(parents=True)
    listing.write_text("0::/box\n")
    assert _core.cgroup_quota(str(tmp_path)) == 0.5


TIMED = """
import sys, time
import numpy as np
from handmill import layers, models
model = models.Sequential([layers.Input((256,)), layers.Dense(256, activation="relu"),
                           layers.Dense(256, activation="relu"), layers.Dense(10)])
model.compile("sgd", "mse")
x, y = np.zeros((128, 256), "float32"), np.zeros((128, 10), "float32")
for _ in range(20):
    model.train_on_batch(x, y)
for line in sys.stdin:
    times = []
    end = time.perf_counter() + 1.5
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(10):
            model.train_on_batch(x, y)
        times.append(time.perf_counter() - start)
    print(sum(times) / len(times), flush=True)
"""


def idle_part(seconds=0.4):
    """The part of all cores' time that nobody used, None where that is not known."""

    def read():
        with Path("/proc/stat").open(encoding="ascii") as file:
            numbers = [int(n) for n in file.readline().split()[1:9]]
        return numbers[3] + numbers[4], sum(numbers)

    try:
        idle, total = read()
        time.sleep(seconds)
        idle_after, total_after = read()
    except (OSError, ValueError, IndexError):
        return None
    return (idle_after - idle) / max(total_after - total, 1)


@pytest.mark.slow
def test_one_busy_process_on_each_core():
    """A step takes at most three times its quiet time: threads must not wait by spinning.

    Another tenant of the host makes a step slower too, so the least of three tries counts: threads
    that spin are slow in each.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if not cores or (idle_part() or 0) < 0.75:
        pytest.skip("this machine is not quiet")
    ratios = []
    with subprocess.Popen(
        [sys.executable, "-c", TIMED],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=FOLDER,
    ) as process:  # fmt: skip

        def measured():
            process.stdin.write("go\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        try:
            while len(ratios) < 3 and min(ratios, default=math.inf) > 3:
                quiet = statistics.median(measured() for _ in range(3))
                if (idle_part() or 0) < 0.75:
                    pytest.skip("this machine is not quiet")
                with busy_processes(cores):
                    ratios.append(statistics.median(measured() for _ in range(3)) / quiet)
        finally:
            process.stdin.close()
    assert min(ratios) <= 3, ratios


@contextlib.contextmanager
def busy_processes(count):
    """That many processes which compute without an end."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
