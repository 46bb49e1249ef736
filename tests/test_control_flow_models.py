"""Loops and branches in layers: training, lengths, variables, masks, dtypes, files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, layers, ops
from handmill.errors import RowError
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The specs of every trace that is made."""
    made: list[Any] = []
    trace = TracedFunction._trace

    def counted(self: Any, specs: Any) -> Any:
        made.append((self.name, specs))
        return trace(self, specs)

    monkeypatch.setattr(TracedFunction, "_trace", counted)
    return made


@handmill.saving.register_keras_serializable("control_flow")
class Recurrent(layers.Layer):
    """A recurrent layer by hand: a scan over axis 1."""

    def __init__(self, units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.rate = dropout
        self.dropout = layers.Dropout(dropout, seed=5, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight((self.units, self.units), name="recurrent")
        self.bias = self.add_weight((self.units,), initializer="zeros", name="bias")

    def call(self, inputs: Any, training: bool = False) -> Any:
        def step(now: Any, row: Any) -> Any:
            row = self.dropout(row, training=training)
            after = ops.tanh(
                ops.matmul(row, self.kernel) + ops.matmul(now, self.recurrent) + self.bias
            )
            return after, after

        rows = ops.transpose(inputs, (1, 0, 2))
        first = ops.zeros((inputs.shape[0], self.units), dtype=inputs.dtype)
        return ops.transpose(ops.scan(step, first, rows)[1], (1, 0, 2))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "dropout": self.rate}


def tagger(length: int | None = None, dtype: Any = None, **kwargs: Any) -> Any:
    handmill.utils.set_random_seed(1)
    inputs = handmill.Input((length, 4))
    hidden = Recurrent(6, name="recurrent", dtype=dtype, **kwargs)(inputs)
    model = handmill.Model(inputs, layers.Dense(2, dtype=dtype)(hidden))
    model.compile(handmill.optimizers.Adam(0.02), "mse")
    return model


def by_hand(model: Any, x: np.ndarray) -> np.ndarray:
    """The tagger with NumPy in float64."""
    kernel, recurrent, bias, w, b = (v.astype("float64") for v in model.get_weights()[:5])
    now, rows = np.zeros((len(x), len(recurrent))), []
    for t in range(x.shape[1]):
        now = np.tanh(x[:, t] @ kernel + now @ recurrent + bias)
        rows.append(now @ w + b)
    return np.stack(rows, 1)


X, Y = normal(24, 5, 4), normal(24, 5, 2)


def weights_of(model: Any) -> list[np.ndarray]:
    return [w for w in model.get_weights() if w.dtype == np.float32]


# Training


def test_a_layer_with_a_loop_trains_as_with_numpy() -> None:
    found = []
    for backend in ("native", "numpy"):
        with handmill.use_backend(backend):
            model = tagger(5)
            history = model.fit(X, Y, batch_size=8, epochs=4, shuffle=False, verbose=0).history
            found.append((history["loss"], weights_of(model)))
            np.testing.assert_allclose(
                model.predict(X, verbose=0), by_hand(model, X), rtol=1e-4, atol=1e-5
            )
    assert found[0][0][-1] < found[0][0][0]
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_it_trains_as_the_loop_that_is_written_out() -> None:
    class Unrolled(Recurrent):
        def call(self, inputs: Any, training: bool = False) -> Any:
            now, rows = ops.zeros((inputs.shape[0], self.units)), []
            for t in range(5):
                now = ops.tanh(
                    ops.matmul(inputs[:, t], self.kernel)
                    + ops.matmul(now, self.recurrent)
                    + self.bias
                )
                rows.append(now)
            return ops.stack(rows, 1)

    found = []
    for kind in (Recurrent, Unrolled):
        handmill.utils.set_random_seed(1)
        model = handmill.Sequential([handmill.Input((5, 4)), kind(6), layers.Dense(2)])
        model.compile("adam", "mse")
        losses = model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]
        found.append((losses, weights_of(model)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_new_length_traces_nothing(traces: list[Any]) -> None:
    model, counts = tagger(None), []
    for length in (5, 7, 1, 12, 3):
        x, y = normal(10, length, 4), normal(10, length, 2)
        traces.clear()
        model.fit(x, y, batch_size=5, verbose=0)
        np.testing.assert_allclose(
            model.predict(x, verbose=0), by_hand(model, x), rtol=1e-4, atol=1e-5
        )
        counts.append(len(traces))
    assert counts == [counts[0], 0, 0, 0, 0]
    fixed = tagger(7)
    fixed.set_weights(model.get_weights())
    x = normal(6, 7, 4)
    np.testing.assert_array_equal(fixed.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_same_bits_for_any_number_of_threads() -> None:
    found = []
    before = config.num_threads()
    for threads in (1, 2, 3):
        config.set_num_threads(threads)
        try:
            handmill.utils.set_random_seed(1)
            inputs = handmill.Input((None, 32))
            model = handmill.Model(inputs, layers.Dense(3)(Recurrent(96, dropout=0.1)(inputs)))
            model.compile("adam", "mse")
            rng = np.random.default_rng(0)
            x = rng.normal(size=(96, 9, 32)).astype("float32")
            y = rng.normal(size=(96, 9, 3)).astype("float32")
            losses = model.fit(x, y, batch_size=48, epochs=2, shuffle=False, verbose=0).history
            found.append((losses, model.get_weights()))
        finally:
            config.set_num_threads(before)
    for losses, weights in found[1:]:
        assert losses == found[0][0]
        for a, b in zip(weights, found[0][1], strict=True):
            np.testing.assert_array_equal(a, b)


LENGTHS = {
    "length": lambda x: ops.scan(
        lambda c, i: ((c[0] + 1, c[1] + x[:, 0] * ops.cast(c[0], "float32")), c[1]),
        (ops.cast(0, "int32"), ops.zeros_like(x[:, 0])),
        length=x.shape[1],
    )[0][1],
    "fori": lambda x: ops.fori_loop(
        0,
        x.shape[1],
        lambda i, y: ops.tanh(y + ops.take(x, i, axis=1)),
        ops.zeros_like(x[:, 0]),
    ),
    "batch": lambda x: ops.map(lambda row: ops.tanh(row) * ops.mean(row, axis=0), x),
    "both": lambda x: ops.map(
        lambda row: ops.scan(lambda c, item: (c + item, c * item), row[0], row)[1], x
    ),
    "while": lambda x: ops.while_loop(
        lambda i, y: i < x.shape[1], lambda i, y: (i + 1, y + x[:, 0]), (0, x[:, 0])
    )[1],
    "cond": lambda x: ops.cond(
        ops.sum(x) > 0, lambda: ops.mean(x, axis=1), lambda: ops.max(x, axis=1)
    ),
}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_sizes_that_a_call_decides(name: str, backend: str, traces: list[Any]) -> None:
    function = LENGTHS[name]

    def gradient(x: Any) -> Any:
        with handmill.GradientTape() as tape:
            x = tape.watch(x)
            y = function(x)
            loss = ops.sum(y * y)
        return tape.gradient(loss, x)

    functions = [function] if name == "while" else [function, gradient]
    with handmill.use_backend(backend):
        for fn in functions:
            run = TracedFunction(fn, lengths=lambda shapes: [(0, 1)])
            traces.clear()
            for shape in ((4, 5, 3), (2, 7, 3), (6, 1, 3), (3, 5, 3), (1, 2, 3)):
                x = normal(*shape)
                np.testing.assert_allclose(run(x), np.asarray(fn(x)), rtol=1e-4, atol=1e-5)
            assert sum("[B" in str(specs) for _, specs in traces) == 1


def test_no_row_at_all() -> None:
    assert tagger(None).predict(normal(3, 0, 4), verbose=0).shape == (3, 0, 2)


def test_functions_of_users_are_part_of_what_was_traced() -> None:
    class Mapped(layers.Layer):
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def call(self, inputs: Any) -> Any:
            return ops.map(self.function, inputs)

    layer = Mapped(lambda row: row * 2.0)
    np.testing.assert_allclose(layer(X), X * 2)
    layer.function = lambda row: row + 1.0
    np.testing.assert_allclose(layer(X), X + 1)
    np.testing.assert_allclose(Mapped(lambda row: -row)(X), -X)


def test_the_same_with_run_eagerly() -> None:
    found = []
    for eager in (False, True):
        model = tagger(5)
        model.compile("sgd", "mse", run_eagerly=eager)
        found.append(model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_saved_loaded_cloned_and_shown(tmp_path: Any) -> None:
    model = tagger(None)
    want = model.predict(X, verbose=0)
    model.save(tmp_path / "model.hmill")
    loaded = handmill.saving.load_model(tmp_path / "model.hmill")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), want)
    copy = handmill.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy.predict(X, verbose=0), want)
    lines: list[str] = []
    model.summary(print_fn=lambda line: lines.append(str(line)))
    assert "recurrent (Recurrent)" in "\n".join(lines)


# Variables


class Counter(layers.Layer):
    """Counts its steps in loops of every kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    def call(self, inputs: Any) -> Any:
        def step(now: Any, row: Any) -> Any:
            self.count.assign(self.count + 1)
            return now + ops.cast(self.count, "float32"), row * ops.cast(self.count, "float32")

        if self.kind == "scan":
            return ops.scan(step, ops.zeros_like(inputs[0]), inputs)[1]
        if self.kind == "while":
            return ops.while_loop(
                lambda i, x: self.count < 4, lambda i, x: (i + 1, step(x, x)[0]), (0, inputs)
            )[1]
        if self.kind == "cond":
            return ops.cond(
                ops.equal(self.count % 2, 0), lambda: step(inputs, inputs)[1], lambda: inputs
            )
        inner = lambda rows: ops.scan(step, rows[0], rows)[1]  # noqa: E731
        return ops.map(inner, ops.stack([inputs, inputs]))[1]


@pytest.mark.parametrize(
    ("kind", "counts"),
    (("scan", (3, 6)), ("while", (4, 4)), ("cond", (1, 1)), ("nested", (6, 12))),
)
def test_variables_are_assigned_in_bodies(kind: str, counts: tuple[int, int]) -> None:
    x = np.ones((3, 2), "float32")
    results = []
    for backend in ("native", "numpy"):
        with handmill.use_backend(backend):
            layer = Counter(kind)
            found = []
            for count in counts:
                found.append(np.asarray(layer(x)))
                assert layer.count.numpy() == count
            results.append(found)
    np.testing.assert_array_equal(results[0], results[1])
    first = results[0][0]
    if kind == "scan":
        np.testing.assert_array_equal(first[:, 0], [1, 2, 3])
    elif kind == "nested":
        np.testing.assert_array_equal(first[:, 0], [4, 5, 6])
    elif kind == "while":
        assert (first == 1 + 1 + 2 + 3 + 4).all()


def test_a_random_mask_of_every_step_is_another() -> None:
    class Noisy(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.seeds = handmill.random.SeedGenerator(3)

        def call(self, inputs: Any) -> Any:
            return ops.map(lambda row: handmill.random.uniform(row.shape, seed=self.seeds), inputs)

    x = np.zeros((4, 16), "float32")
    found = []
    for backend in ("native", "native", "numpy"):
        with handmill.use_backend(backend):
            layer = Noisy()
            found.append(np.stack([layer(x), layer(x)]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6)
    rows = found[0].reshape(8, 16)
    assert len(np.unique(rows, axis=0)) == 8
    assert len(np.unique(rows)) > 100


def test_dropout_in_a_loop_is_reproducible_and_has_the_right_gradient() -> None:
    found = []
    for backend in ("native", "native", "numpy"):
        with handmill.use_backend(backend):
            model = tagger(5, dropout=0.5)
            history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
            found.append((history["loss"], weights_of(model)))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][0], found[2][0], rtol=1e-4)
    for a, b, c in zip(*[weights for _, weights in found], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-3, atol=1e-4)

    def gradient(x: Any) -> Any:
        """Of a sum of what dropout left: 0 or 2, as the result itself was."""
        drop = layers.Dropout(0.5, seed=1)
        with handmill.GradientTape() as tape:
            x = tape.watch(x)
            _, ys = ops.scan(lambda now, row: (now, drop(row, training=True)), ops.zeros(()), x)
        return ys, tape.gradient(ys, x)

    ys, dx = TracedFunction(gradient, batched=False)(np.ones((6, 9), "float32"))
    np.testing.assert_array_equal(ys, dx)
    assert set(np.unique(ys)) == {0.0, 2.0}
    assert len(np.unique(ys, axis=0)) == 6


# Numbers other than float32


def test_bfloat16_policies() -> None:
    pytest.importorskip("ml_dtypes")
    want = tagger(5).predict(X, verbose=0)
    for policy in ("mixed_bfloat16", "bfloat16"):
        found = []
        for backend in ("native", "numpy"):
            with handmill.use_backend(backend):
                model = tagger(5, dtype=policy)
                predicted = model.predict(X, verbose=0)
                assert predicted.dtype.name == "bfloat16"
                np.testing.assert_allclose(predicted.astype("float32"), want, atol=0.05)
                found.append(
                    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"]
                )
        np.testing.assert_allclose(found[0], found[1], rtol=0.02)


@pytest.mark.parametrize("dtype", ("float64", "int64", "uint8", "int8", "bool", "bfloat16"))
def test_carries_of_each_dtype(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = np.asarray(ops.cast(np.arange(10).reshape(5, 2) % 7, dtype))

    def run(x: Any) -> Any:
        def step(now: Any, row: Any) -> Any:
            combined = ops.logical_xor(now, row) if dtype == "bool" else now + row
            return combined, (now, ops.cast(combined, "float32"))

        last, (before, after) = ops.scan(step, x[0], x)
        return last, before, after

    found = [TracedFunction(run, batched=False)(x), run(x)]
    with handmill.use_backend("numpy"):
        found.append(TracedFunction(run, batched=False)(x))
    for results in found:
        assert [np.asarray(r).dtype.name for r in results] == [dtype, dtype, "float32"]
        for a, b in zip(results, found[0], strict=True):
            np.testing.assert_array_equal(a, b)
    sums = np.logical_xor.accumulate(x) if dtype == "bool" else np.cumsum(x, 0)
    want = np.concatenate([sums[:1] ^ x[:1], sums[1:] ^ x[:1]]) if dtype == "bool" else sums + x[0]
    np.testing.assert_array_equal(found[0][2], want.astype("float32"))


# Masks and guards


def test_masks_of_captured_values_are_there_in_the_body() -> None:
    class Masked(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.supports_masking = True
            self.inner = Seen()

        def call(self, inputs: Any) -> Any:
            return ops.map(lambda i: self.inner(inputs) + i, np.zeros(2, "float32"))

    class Seen(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.supports_masking = True

        def call(self, inputs: Any, mask: Any = None) -> Any:
            assert mask is not None
            return ops.cast(mask, "float32")

    x = X.copy()
    x[0, 2:] = x[3] = 0
    model = handmill.Sequential([handmill.Input((5, 4)), layers.Masking(), Masked()])
    np.testing.assert_array_equal(model(x)[1], (x != 0).any(-1))


@pytest.mark.parametrize("over", ("time", "batch"))
@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_a_wrong_label_in_a_loop_refuses_the_batch(over: str, backend: str) -> None:
    """Nothing is written, and the row of the data is named."""

    class Loss(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)
            self.seen = self.add_weight((), "zeros", dtype="int32", trainable=False)

        def call(self, inputs: Any) -> Any:
            x, labels = inputs
            loss = handmill.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)

            def step(pair: Any) -> Any:
                self.seen.assign(self.seen + 1)
                logits = self.dense(pair[0])
                return loss(pair[1], logits)

            if over == "batch":
                return ops.map(step, (x, labels))
            rows = ops.transpose(x, (1, 0, 2)), ops.transpose(labels)
            return ops.transpose(ops.map(step, rows))

    with handmill.use_backend(backend):
        inputs = handmill.Input((5, 4)), handmill.Input((5,), dtype="int32")
        layer = Loss()
        model = handmill.Model(inputs, layer(inputs))
        model.compile("sgd", lambda y, p: ops.mean(p) + 0 * ops.sum(y))
        labels = np.zeros((24, 5), "int32")
        zero = np.zeros((24, 5), "float32")
        model.fit((X, labels), zero, batch_size=8, verbose=0, shuffle=False)
        labels[5, 2] = 3
        before, seen = model.get_weights(), layer.seen.numpy()
        with pytest.raises(RowError, match=r"label 3 is not an integer .*row 5"):
            model.fit((X, labels), zero, batch_size=8, verbose=0, shuffle=False)
        assert layer.seen.numpy() == seen
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


KERAS_TENSORS: dict[str, Callable[[Any], Any]] = {
    "scan": lambda k: ops.scan(lambda c, r: (c + r, {"both": (c, r)}), k[0] * 0.0, k)[1]["both"][0],
    "scan without init": lambda k: ops.scan(lambda c, r: ((), r * 2.0), (), k, reverse=True)[1],
    "map": lambda k: ops.map(lambda r: r + 1.0, k),
    "vectorized_map": lambda k: ops.vectorized_map(ops.sum, k),
    "while_loop": lambda k: ops.while_loop(
        lambda i, x: ops.sum(x) < 100.0, lambda i, x: (i + 1, x * 2.0), (0, k)
    )[1],
    "fori_loop": lambda k: ops.fori_loop(0, 3, lambda i, x: x * 2.0, k),
    "switch": lambda k: ops.switch(
        ops.cast(ops.sum(k) > 0, "int32"), [lambda x, y: x, lambda x, y: -x * y], k, 2.0
    ),
}


@pytest.mark.parametrize("name", KERAS_TENSORS)
def test_loops_and_choices_of_the_functional_api(name: str) -> None:
    """On KerasTensors they are recorded as layers, which compute what they compute on arrays."""
    inputs = handmill.Input((3, 2))
    model = handmill.Model(inputs, KERAS_TENSORS[name](inputs))
    x = np.abs(normal(4, 3, 2)) + 0.1
    want = np.asarray(KERAS_TENSORS[name](x))
    np.testing.assert_allclose(np.asarray(model(x)), want, rtol=1e-5)
    with pytest.raises(TypeError, match=r"holds the functions of a loop or branch"):
        model.get_config()
