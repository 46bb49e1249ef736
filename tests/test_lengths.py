"""Models and functions whose inputs have lengths that differ from call to call."""

from __future__ import annotations

import time

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.config import use_backend
from handmill.errors import ShapeError
from handmill.ir.dims import BATCH, symbol
from handmill.ir.op import REGISTRY
from handmill.ir.shapes import Spec, name_of_dtype
from handmill.ir.trace import apply
from handmill.runtime.function import TracedFunction, gradients
from handmill.runtime.variable import Variable

pytestmark = pytest.mark.alone

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def traces(monkeypatch):
    """The specs of every trace that is made."""
    made = []
    trace = TracedFunction._trace

    def counted(self, specs):
        made.append((self.name, specs))
        return trace(self, specs)

    monkeypatch.setattr(TracedFunction, "_trace", counted)
    return made


def tagger(length):
    """Two dense layers at each place of a sequence."""
    inputs = handmill.Input((length, 8))
    hidden = layers.Dense(16, activation="relu", kernel_initializer=handmill.initializers.Ones())(
        inputs
    )
    outputs = layers.Dense(4, activation="tanh")(hidden)
    model = handmill.Model(inputs, outputs)
    model.compile(handmill.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def test_shapes_are_shown_with_none():
    model = tagger(None)
    assert model.input_shape == (None, None, 8)
    assert model.output_shape == (None, None, 4)
    assert layers.Flatten()(handmill.Input((None, 3))).shape == (None, None)
    image = handmill.Input((None, None, 3))
    assert ops.mean(image, axis=-1).shape == (None, None, None)


def test_every_length_trains_with_one_trace(traces):
    model, weights = tagger(None), None
    for length in (5, 7, 5, 12, 1):
        x, y = normal(32, length, 8), normal(32, length, 4)
        weights = model.get_weights()
        slots = [v.numpy() for v in model.optimizer.variables]
        found = model.fit(x, y, batch_size=8, verbose=0, shuffle=False).history
        fixed = tagger(length)
        fixed.set_weights(weights)
        fixed.optimizer.build(fixed.trainable_variables)
        for variable, content in zip(fixed.optimizer.variables, slots, strict=False):
            variable.assign(content)
        assert fixed.fit(x, y, batch_size=8, verbose=0, shuffle=False).history == found
        for a, b in zip(model.get_weights(), fixed.get_weights(), strict=True):
            assert a.tobytes() == b.tobytes()
        assert model.predict(x, verbose=0).tobytes() == fixed.predict(x, verbose=0).tobytes()
        assert model.evaluate(x, y, verbose=0) == fixed.evaluate(x, y, verbose=0)
    mine = [specs for name, specs in traces if "input_0[1]" in str(specs)]
    assert len(mine) == 3, "one trace each of training, evaluation and prediction"


def test_a_new_length_or_batch_costs_no_trace_and_little_time(traces):
    model = tagger(None)
    function = TracedFunction(lambda x: model(x, training=False), lengths=lambda shapes: [(0, 1)])
    function(normal(4, 5, 8))
    traces.clear()
    seconds = []
    for size in range(6, 30):
        x = normal(size % 5 + 1, size, 8)
        begin = time.perf_counter()
        function(x)
        seconds.append(time.perf_counter() - begin)
    assert traces == []
    assert min(seconds) < 1e-3


def test_both_executors_agree():
    model = tagger(None)
    x = normal(6, 9, 8)
    native = model.predict(x, verbose=0)
    with use_backend("numpy"):
        np.testing.assert_allclose(model.predict(x, verbose=0), native, rtol=1e-5, atol=1e-6)


class Steps(handmill.Model):
    """A subclassed model, which declares no lengths."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return ops.mean(self.dense(x), axis=1)


def test_lengths_of_a_subclassed_model_become_symbols(traces):
    model = Steps()
    for length in range(3, 13):
        x = normal(4, length, 5)
        want = (x @ model.dense.kernel.numpy()).mean(1) if length > 3 else None
        got = model(x)
        if want is not None:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert traces[0][1][0].shape[1] == 3
    assert len(traces) == 2


def test_an_axis_that_refuses_symbols_stays_fixed(traces):
    def unrolled(x):
        return sum(x[:, t] * (t + 1) for t in range(x.shape[1]))

    function = TracedFunction(unrolled)
    for length in (2, 3, 4, 3):
        x = normal(5, length)
        want = sum(x[:, t] * np.float32(t + 1) for t in range(length))
        np.testing.assert_allclose(function(x), want, rtol=1e-6)
    assert len({str(specs) for _, specs in traces}) == 4  # 2, the symbol that was refused, 3, 4


def lengths(*places):
    return lambda shapes: places


def test_lengths_that_a_trace_equates_are_checked():
    add = TracedFunction(lambda x, y: x + y, "add", lengths=lengths((0, 1), (1, 1)))
    x, y = normal(3, 5), normal(3, 5)
    np.testing.assert_array_equal(add(x, y), x + y)
    with pytest.raises(
        ValueError, match="axis 1 of input 'input_1' must be 5, as axis 1 of input 'input_0'"
    ):
        add(normal(3, 5), normal(3, 7))
    np.testing.assert_array_equal(add(x, y[:, :4].copy()[:, :1]), x + y[:, :1])  # it broadcasts


def test_a_length_beside_a_fixed_size():
    function = TracedFunction(lambda x: x + np.arange(5, dtype=np.float32), lengths=lengths((0, 1)))
    x = normal(3, 5)
    np.testing.assert_array_equal(function(x), x + np.arange(5, dtype=np.float32))
    one = normal(3, 1)
    np.testing.assert_array_equal(function(one), one + np.arange(5, dtype=np.float32))
    with pytest.raises(ValueError, match="broadcast"):
        function(normal(3, 4))


def test_batches_of_different_sizes_are_refused():
    join = TracedFunction(lambda x, y: ops.concatenate([x, y], axis=1))
    with pytest.raises(ValueError, match="axis 0 of input 'input_1' must be 6"):
        join(normal(6, 2), normal(5, 2))


@pytest.mark.parametrize("rows", (8, 7, 3, 1))
def test_gradients_of_batch_by_batch_matrices(rows):
    """Similarities of all pairs of a batch: (B, B), against differences in float64."""
    w = Variable(normal(4, 3), name="w")
    seen = Variable(np.zeros((4, 3), np.float32), trainable=False)

    def step(x):
        z = ops.matmul(x, w.value)
        similar = ops.matmul(z, ops.transpose(z))
        loss = ops.mean(ops.square(similar - ops.eye(x.shape[0]))) + ops.mean(ops.tanh(similar))
        seen.assign(gradients(loss, [w])[0])
        return loss

    function = TracedFunction(step)
    function(normal(5, 4))
    x = normal(rows, 4)
    found = function(x)

    def loss(weights):
        z = x.astype(np.float64) @ weights
        similar = z @ z.T
        return np.mean((similar - np.eye(rows)) ** 2) + np.mean(np.tanh(similar))

    at = w.numpy().astype(np.float64)
    assert abs(found - loss(at)) < 1e-4 * max(1, abs(found))
    for i, j in np.ndindex(4, 3):
        step_ = np.zeros((4, 3))
        step_[i, j] = 1e-5
        want = (loss(at + step_) - loss(at - step_)) / 2e-5
        assert abs(seen.numpy()[i, j] - want) < 2e-4 * max(1, abs(want))


SLICES = {
    "x[1:]": lambda x: x[1:],
    "x[:-1]": lambda x: x[:-1],
    "x[::2]": lambda x: x[::2],
    "x[1::3]": lambda x: x[1::3],
    "x[-3:-1]": lambda x: x[-3:-1],
    "x[1:4:2]": lambda x: x[1:4:2],
    "x[0]": lambda x: x[0],
    "x[-1]": lambda x: x[-1],
    "x[::-1]": lambda x: x[::-1],
    "x[1:] - x[:-1]": lambda x: x[1:] - x[:-1],
    "flip": lambda x: ops.flip(x, 0),
    "roll": lambda x: ops.roll(x, 2, 0),
    "split": lambda x: ops.split(x, 2, axis=0)[1],
    "pad": lambda x: ops.pad(x, [[1, 2], [0, 0]]),
    "concatenate": lambda x: ops.concatenate([x, x[:2]], axis=0),
    "rows": lambda x: ops.reshape(x, (x.shape[0] * x.shape[1],)),
    "repeat": lambda x: ops.repeat(x, 3, axis=0),
    "half": lambda x: x[: x.shape[0] // 2],
    "tril": lambda x: ops.tril(ops.matmul(x, ops.transpose(x))),
    "einsum": lambda x: ops.einsum("bi,ci->bc", x, x),
    "tensordot": lambda x: ops.tensordot(x, x, axes=[[0], [0]]),
    "softmax": lambda x: ops.softmax(x, axis=0),
}


@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize("turned", (False, True))
@pytest.mark.parametrize("name", SLICES)
def test_what_works_on_fixed_axes_works_on_symbols(name, turned, backend, traces):
    """Values and gradients are those of a trace with fixed sizes, bit for bit."""
    call = SLICES[name]
    shift = Variable(np.float32(0.5))
    grad = Variable(np.float32(0))

    def step(x):
        y = call(ops.transpose(x) + shift.value if turned else x + shift.value)
        grad.assign(gradients(ops.sum(ops.square(y)), [shift])[0])
        return y

    open_ = TracedFunction(step, lengths=lengths((0, 1)))
    fixed = TracedFunction(step, batched=False)
    with use_backend(backend):
        open_(normal(8, 8))
        traces.clear()
        for size in (6, 8, 10):
            x = normal(5, size) if turned else normal(size, 5)
            got, slope = open_(x), grad.numpy()
            assert traces == []
            want = fixed(x)
            assert got.tobytes() == want.tobytes()
            assert slope.tobytes() == grad.numpy().tobytes()
            traces.clear()


def test_sizes_that_a_slice_does_not_fit_get_a_trace_of_their_own():
    function = TracedFunction(lambda x: ops.sum(x[1:4]) + 0 * ops.sum(x))
    for rows in (6, 2, 1, 3, 9, 0):
        x = normal(rows, 2)
        np.testing.assert_allclose(function(x), x[1:4].sum(), rtol=1e-5)


SIZES_AS_VALUES = {
    "sum / size": (lambda x: ops.sum(x) / x.shape[0], lambda x: x.sum() / np.float32(len(x))),
    "size * x": (lambda x: x.shape[0] * x, lambda x: len(x) * x),
    "cast": (
        lambda x: ops.cast(ops.shape(x)[0], "float32"),
        lambda x: np.float32(len(x)),
    ),
    "half": (lambda x: x * (x.shape[0] / 2), lambda x: x * np.float32(len(x) / 2)),
    "arange": (lambda x: ops.arange(x.shape[0]), lambda x: np.arange(len(x), dtype=np.int32)),
    "arange with a step": (
        lambda x: ops.arange(x.shape[0], 0, -2),
        lambda x: np.arange(len(x), 0, -2, dtype=np.int32),
    ),
    "zeros": (lambda x: ops.zeros((x.shape[0], 4)), lambda x: np.zeros((len(x), 4), "f")),
    "eye": (lambda x: ops.eye(x.shape[0], 3, 1), lambda x: np.eye(len(x), 3, 1, "f")),
    "tensor of sizes": (
        lambda x: ops.convert_to_tensor([x.shape[0], 7]),
        lambda x: np.array([len(x), 7], np.int32),
    ),
    "remainder": (lambda x: x * (x.shape[0] % 3), lambda x: x * (len(x) % 3)),
}


@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize("name", SIZES_AS_VALUES)
def test_sizes_are_values(name, backend):
    call, reference = SIZES_AS_VALUES[name]
    function = TracedFunction(call)
    with use_backend(backend):
        for rows in (4, 7, 1):
            x = normal(rows, 2)
            got, want = function(x), reference(x)
            np.testing.assert_allclose(got, want, rtol=1e-6)
            assert got.dtype == np.asarray(want).dtype


def open_places(op, sample):
    """The axes beside the batch that can all be symbols at once; None if that is refused."""
    inputs = sample.make(np.random.default_rng(3))
    if len({len(x) for x in inputs if x.ndim}) > 1:
        return None
    specs = [
        Spec(
            tuple(symbol(f"{i}[{a}]") if a else BATCH for a in range(x.ndim)),
            name_of_dtype(x.dtype),
        )
        for i, x in enumerate(inputs)
    ]
    try:
        op.infer(*specs, **sample.attrs)
    except ShapeError:
        return None
    return [(i, a) for i, x in enumerate(inputs) for a in range(1, x.ndim)]


def open_samples(op):
    """The first four samples, those of them that have an axis for a symbol."""
    usable = [s for s in op.samples() if not s.bench][:4]
    return [s for s in usable if open_places(op, s) is not None]


OPEN = [
    op
    for op in sorted(REGISTRY.values(), key=lambda op: op.name)
    if not op.name.endswith("_update") and open_samples(op)
]


@pytest.mark.parametrize("op", OPEN, ids=lambda op: op.name)
def test_kernels_give_the_same_bits_for_symbols(op):
    for sample in open_samples(op):
        inputs = sample.make(np.random.default_rng(3))

        def call(*values, sample=sample):
            return apply(op, *values, **sample.attrs)

        want = TracedFunction(call, batched=False)(*inputs)
        got = TracedFunction(call, lengths=lengths(*open_places(op, sample)))(*inputs)
        for a, b in zip(as_tuple(got), as_tuple(want), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), sample.name


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def test_operators_in_a_functional_model_follow_lengths(tmp_path):
    x = handmill.Input((None, 4), name="tokens")
    shifted = ops.pad(x, [[0, 0], [1, 0], [0, 0]])[:, :-1]
    pairs = ops.reshape(ops.concatenate([x, shifted], axis=1), (-1, 2, ops.shape(x)[1], 4))
    scaled = ops.expand_dims(ops.sum(pairs, axis=1), -1) / ops.shape(x)[1]
    model = handmill.Model(x, ops.squeeze(scaled, -1))
    model.save(tmp_path / "model.hmill")
    for found in (model, handmill.models.load_model(tmp_path / "model.hmill")):
        for length in (3, 6, 4):
            data = normal(5, length, 4)
            want = (data + np.pad(data, [[0, 0], [1, 0], [0, 0]])[:, :-1]) / np.float32(length)
            np.testing.assert_allclose(found.predict(data, verbose=0), want, rtol=1e-5)


def test_models_in_models_have_lengths_of_their_own():
    inner_in = handmill.Input((None, 4))
    inner = handmill.Model(inner_in, ops.reshape(inner_in, (-1, ops.shape(inner_in)[1] * 4)))
    x = handmill.Input((None, 2, 4))
    flat = ops.reshape(x, (-1, ops.shape(x)[1] * 2, 4))
    model = handmill.Model(x, inner(flat))
    for length in (3, 5):
        data = normal(2, length, 2, 4)
        np.testing.assert_array_equal(model.predict(data, verbose=0), data.reshape(2, -1))


OPERATORS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "&": lambda a, b: (a > 0) & (b > 0),
    "|": lambda a, b: (a > 0) | (b > 0),
    "^": lambda a, b: (a > 0) ^ (b > 0),
    "~": lambda a, b: ~(a > 0),
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "divmod": lambda a, b: divmod(a, b)[1],
    "+x": lambda a, b: +a,
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in OPERATORS
        for kind in ("value", "variable", "keras tensor")
        if kind == "value" or name not in ("divmod", "+x")
    ],
)
def test_operators(name, kind):
    call = OPERATORS[name]
    a = np.array([[1.5, -2.25, 3.0, 0.5], [2.0, 5.5, -1.0, 4.0]], np.float32)
    b = np.array([[1.5, 2.0, -2.0, 1.0], [2.0, 2.5, 3.0, 4.0]], np.float32)
    want = call(a, b)
    if kind == "value":
        got = TracedFunction(call)(a, b)
    elif kind == "variable":
        got = call(Variable(a), Variable(b))
    else:
        inputs = [handmill.Input((4,)), handmill.Input((4,))]
        got = handmill.Model(inputs, call(*inputs)).predict([a, b], verbose=0)
    np.testing.assert_array_equal(np.asarray(got), want)


def test_round():
    x = normal(3, 4)
    np.testing.assert_array_equal(TracedFunction(lambda v: round(v, 1))(x), ops.round(x, 1))
    np.testing.assert_array_equal(round(Variable(x)), np.round(x))
    tensor = handmill.Input((4,))
    model = handmill.Model(tensor, round(tensor))
    np.testing.assert_array_equal(model.predict(x, verbose=0), np.round(x))


def test_operators_on_the_bits_of_integers():
    def call(x):
        return (x & 6) | (x ^ 3), ~x, 13 % x, 13 // x

    x = np.array([1, 2, 5, -7], np.int32)
    for got, want in zip(TracedFunction(call)(x), call(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "call",
    (
        lambda x: np.sqrt(2.0) * x,
        lambda x: np.float32(2) - x,
        lambda x: np.ones(3, np.float32) * x,
        lambda x: np.arange(3) + x,
        lambda x: np.float32(1) == x,
        lambda x: np.zeros(3, np.float32) < x,
        lambda x: 2.0 // x,
    ),
)
def test_numbers_and_arrays_of_numpy_on_the_left(call):
    x = normal(2, 3)
    got = TracedFunction(call)(x)
    np.testing.assert_allclose(got, call(x), rtol=1e-6)
    tensor = handmill.Input((3,))
    model = handmill.Model(tensor, call(tensor))
    np.testing.assert_allclose(model.predict(x, verbose=0), call(x), rtol=1e-6)
    scale = Variable(np.float32(3))
    function = TracedFunction(lambda v: np.ones(3, np.float32) * scale + v)
    first = function(x)
    scale.assign(np.float32(4))
    np.testing.assert_allclose(function(x), first + 1, rtol=1e-6)  # it is read, not its content


def test_values_are_themselves_beside_other_things():
    def call(x):
        assert x != "mean"
        assert x != None  # noqa: E711
        assert x in [1.0, x][1:]
        assert {x: 1}[x] == 1
        return x

    TracedFunction(call)(normal(2, 2))


def test_masked_loss():
    """Padded targets are left out by `==` in a loss."""
    x, y = normal(8, 3), np.round(normal(8, 1) * 2)
    y[:3] = -1

    def masked(y_true, y_pred):
        return ops.mean(ops.where(y_true == -1, 0.0, ops.square(y_true - y_pred)), axis=-1)

    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(handmill.optimizers.SGD(0.0), masked)
    want = np.mean(np.where(y == -1, 0, (y - x.sum(1, keepdims=True)) ** 2))
    assert abs(model.fit(x, y, verbose=0).history["loss"][0] - want) < 1e-5


@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize(
    "make",
    (
        lambda n: ops.zeros((n, 2)),
        lambda n: ops.full((2, n), 3),
        lambda n: ops.broadcast_to(np.ones((1, 2), "float32"), (n, 2)),
        ops.arange,
        lambda n: ops.tile(np.ones((1, 3), "float32"), (n, 1)),
    ),
)
def test_a_size_of_the_functional_api_needs_a_tensor(make, backend):
    size = ops.shape(handmill.Input((4,)))[0]
    with use_backend(backend), pytest.raises(TypeError, match="while a model is put togeth"):
        make(size)


def test_a_sequential_model_without_an_input_takes_other_sizes_than_the_first() -> None:
    """As in Keras: nobody asked for the sizes of the first data."""

    def batches():
        yield (np.ones((3, 5, 7), "float32"),)
        yield (np.ones((2, 7, 5), "float32"),)

    model = handmill.Sequential([layers.Flatten()])
    assert model.predict(batches(), verbose=0).shape == (5, 35)

    def pairs():
        for length in (12, 20, 12, 20):
            yield np.ones((2, length, 2), "float32"), np.zeros((2, length // 4, 8), "float32")

    model = handmill.Sequential([layers.Reshape((-1, 8)), layers.Dense(8)])
    model.compile("sgd", "mse")
    model.fit(pairs(), steps_per_epoch=4, verbose=0)
    kernel, bias = model.get_weights()
    for length in (12, 20, 24):
        x = np.random.default_rng(length).normal(size=(1, length, 2)).astype("float32")
        want = x.reshape(1, -1, 8) @ kernel + bias
        np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"expected shape=\(None, 12, 2\)"):
        model(np.ones((2, 12, 2, 1, 1), "float32"))
    fixed = handmill.Sequential([layers.Input((5, 7)), layers.Flatten()])
    with pytest.raises(ValueError, match=r"expected shape=\(None, 5, 7\)"):
        fixed(np.ones((2, 7, 5), "float32"))
    dense = handmill.Sequential([layers.Dense(2)])
    dense(np.ones((3, 4), "float32"))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 4"):
        dense(np.ones((3, 5), "float32"))


class WithLength(layers.Layer):
    def call(self, x):
        return x, ops.shape(x)[1]


def test_sizes_that_are_returned():
    """`ops.size` of a symbolic tensor, and sizes among the outputs of layers and models."""
    inputs = handmill.Input((None, 3))
    mean = ops.sum(inputs) / ops.cast(ops.size(inputs), "float32")
    model = handmill.Model(inputs, [mean, ops.size(inputs), WithLength()(inputs)[1]])
    for rows, length in ((2, 4), (5, 7)):
        x = np.full((rows, length, 3), 2.0, "float32")
        assert [np.asarray(y).item() for y in model(x)] == [2.0, rows * length * 3, length]
        assert WithLength()(x)[1] == length
