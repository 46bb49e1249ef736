"""Two hundred training steps of whole models, the same as Keras's (JAX backend) at every step.

From the same weights on the same batches. The models cover the surface: ways to build, layers,
losses, metrics, optimizers, schedules, regularizers, constraints, weights of samples and outputs.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import handmill

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras", reason="Keras is the oracle of these tests")
    jax = pytest.importorskip("jax", reason="Keras runs on JAX in these tests")

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

STEPS = 200
BATCHES = 8  # they come round, as in epochs
ROWS = 16

# Rounding alone: sums in another order and other roundings of exp and log differ by some 1e-7 of
# their values in a step, and gradient descent carries that on. So no model here amplifies rounding:
# with normalization over pairs of channels Keras itself, its first weights moved by 1e-7, was 0.02
# away from its own loss after 30 steps.
LOSS_RTOL = 2e-5
WEIGHT_TOLERANCE = 2e-4

RNG = np.random.default_rng(11)
FEATURES = RNG.normal(size=(BATCHES, ROWS, 6)).astype("float32")
ROWS_OF_8 = RNG.normal(size=(BATCHES, ROWS, 5, 8)).astype("float32")
MEANS_OF_8 = np.tanh(ROWS_OF_8.mean(2)[..., :2]).astype("float32")
IDS = RNG.integers(0, 20, (BATCHES, ROWS, 7)).astype("int32")
CLASSES = (FEATURES[..., :3] + 0.3 * RNG.normal(size=(BATCHES, ROWS, 3))).argmax(-1)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
BITS = (FEATURES[..., :1] + FEATURES[..., 1:2] > 0).astype("float32")
SIGNS = 2 * BITS - 1
NUMBERS = np.tanh(FEATURES @ RNG.normal(size=(6, 2))).astype("float32")
COUNTS = RNG.poisson(np.exp(0.3 * FEATURES[..., :1])).astype("float32")
SHARES = RNG.dirichlet(np.ones(3), (BATCHES, ROWS)).astype("float32")
WEIGHTS = RNG.uniform(0.2, 2.0, (BATCHES, ROWS)).astype("float32")


class Case(NamedTuple):
    """A model, what it is compiled with, and its batches."""

    make: Callable[[Any], Any]
    compile: Callable[[Any], dict[str, Any]]
    x: Any
    y: Any
    weight: Any = None


def stack(*layers: Callable[[Any], Any], shape: tuple[int, ...] = (6,), dtype: str = "float32"):
    """A Sequential model: each layer is made from ``library.layers``."""

    def make(library: Any) -> Any:
        made = [library.Input(shape, dtype=dtype), *(layer(library.layers) for layer in layers)]
        return library.Sequential(made)

    return make


def dense(units: int, activation: Any = None, **arguments: Any) -> Callable[[Any], Any]:
    return lambda L: L.Dense(units, activation, **arguments)


def compiled(optimizer: Any, loss: Any, *metrics: Any, **arguments: Any):
    """What ``compile`` is given; functions are called with the library."""

    def make(library: Any) -> dict[str, Any]:
        def of(given: Any) -> Any:
            return given(library) if callable(given) else given

        found = {name: of(value) for name, value in arguments.items()}
        found |= {"optimizer": of(optimizer), "loss": of(loss)}
        if metrics:
            found["metrics"] = [of(m) for m in metrics]
        return found

    return make


def residual(library: Any) -> Any:
    layers = library.layers
    x = inputs = library.Input((6,))
    for _ in range(2):
        y = layers.Dense(6, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(6)(y)])
    return library.Model(inputs, layers.Dense(3)(x))


def wide_and_deep(library: Any) -> Any:
    layers = library.layers
    wide, deep = library.Input((6,), name="wide"), library.Input((7,), dtype="int32", name="deep")
    x = layers.Flatten()(layers.Embedding(20, 4)(deep))
    x = layers.Dense(8, "relu")(x)
    return library.Model(
        {"wide": wide, "deep": deep}, layers.Dense(1)(layers.concatenate([wide, x]))
    )


def siamese(library: Any) -> Any:
    layers = library.layers
    tower = library.Sequential([library.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(4)])
    left, right = library.Input((6,)), library.Input((6,))
    return library.Model(
        [left, right],
        layers.Dense(1)(layers.Dot(axes=1, normalize=True)([tower(left), tower(right)])),
    )


def two_outputs(library: Any) -> Any:
    layers = library.layers
    inputs = library.Input((6,))
    x = layers.Dense(8, "elu")(inputs)
    heads = {
        "kind": layers.Dense(3, "softmax", name="kind")(x),
        "size": layers.Dense(2, name="size")(x),
    }
    return library.Model(inputs, heads)


def merges(library: Any) -> Any:
    layers = library.layers
    inputs = library.Input((6,))
    a, b = layers.Dense(5, "sigmoid")(inputs), layers.Dense(5, "softsign")(inputs)
    merged = [
        layers.Multiply()([a, b]), layers.Average()([a, b]), layers.Maximum()([a, b]),
        layers.Minimum()([a, b]), layers.Subtract()([a, b]), layers.Dot(axes=1)([a, b]),
    ]  # fmt: skip
    return library.Model(inputs, layers.Dense(2)(layers.Concatenate()(merged)))


def experts(library: Any) -> Any:
    layers, ops = library.layers, library.ops
    inputs = library.Input((6,))
    gate = layers.Dense(3, "softmax")(inputs)
    each = ops.stack([layers.Dense(4, "gelu")(inputs) for _ in range(3)], axis=1)
    return library.Model(inputs, layers.Dense(2)(ops.sum(gate[:, :, None] * each, axis=1)))


def attention(library: Any) -> Any:
    layers, ops = library.layers, library.ops
    inputs = library.Input((5, 8))
    q, k, v = (layers.Dense(4, use_bias=False)(inputs) for _ in range(3))
    scores = ops.softmax(ops.einsum("bqd,bkd->bqk", q, k) / 2.0)
    mixed = layers.LayerNormalization()(inputs + layers.Dense(8)(ops.matmul(scores, v)))
    return library.Model(inputs, layers.Dense(2)(ops.mean(mixed, axis=1)))


def euler_steps(library: Any) -> Any:
    layers = library.layers
    field = library.Sequential([library.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(6)])
    state = inputs = library.Input((6,))
    for _ in range(4):
        state = state + 0.25 * field(state)
    return library.Model(inputs, layers.Dense(2)(state))


def cross_network(library: Any) -> Any:
    layers, ops = library.layers, library.ops
    x = inputs = library.Input((6,))
    for _ in range(2):
        x = inputs * layers.Dense(6)(x) + x
    last = ops.concatenate([x, ops.square(inputs), ops.abs(inputs[:, ::-1])], axis=-1)
    return library.Model(inputs, layers.Dense(2)(last))


def ensemble(library: Any) -> Any:
    def member() -> Any:
        inputs = library.Input((6,))
        x = library.layers.Dense(5, "relu")(inputs)
        return library.Model(inputs, [library.layers.Dense(2)(x), library.ops.max(x, axis=-1)])

    inputs = library.Input((6,))
    found = [member()(inputs) for _ in range(3)]
    mean = library.layers.average([numbers for numbers, _ in found])
    return library.Model(inputs, mean + library.ops.expand_dims(found[0][1] - found[1][1], -1))


def frozen_inside(library: Any) -> Any:
    layers = library.layers
    base = library.Sequential(
        [library.Input((6,)), layers.Dense(8, "relu"), layers.BatchNormalization()]
    )
    base.trainable = False
    inputs = library.Input((6,))
    return library.Model(inputs, layers.Dense(3)(base(inputs, training=False)))


def subclassed(library: Any) -> Any:
    layers, ops = library.layers, library.ops

    class Gate(layers.Layer):
        def build(self, shape: Any) -> None:
            self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

        def call(self, x: Any) -> Any:
            self.add_loss(1e-2 * ops.sum(ops.square(self.gain)))
            return x * ops.sigmoid(self.gain * x)

    class Net(library.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gate, self.last = layers.Dense(8), Gate(), layers.Dense(2)

        def call(self, x: Any, training: Any = None) -> Any:
            return self.last(self.gate(self.first(x)))

    model = Net()
    model(np.zeros((1, 6), "float32"))
    return model


def own_loss(library: Any) -> Any:
    ops = library.ops

    def quantile(y_true: Any, y_pred: Any) -> Any:
        error = y_true - y_pred
        return ops.mean(ops.maximum(0.8 * error, -0.2 * error), axis=-1)

    return quantile


def rates(optimizer: Any) -> Any:
    return lambda lib: optimizer(lib.optimizers)


def embedded(layer: Callable[[Any], Any], mask_zero: bool = True) -> Callable[[Any], Any]:
    return stack(
        lambda L: L.Embedding(20, 8, mask_zero=mask_zero), layer, lambda L: L.Flatten(), dense(3),
        shape=(7,), dtype="int32",
    )  # fmt: skip


def from_logits(library: Any) -> Any:
    return library.losses.SparseCategoricalCrossentropy(from_logits=True)


def metric(name: str, **arguments: Any) -> Callable[[Any], Any]:
    return lambda lib: getattr(lib.metrics, name)(**arguments)


def loss(name: str, **arguments: Any) -> Callable[[Any], Any]:
    return lambda lib: getattr(lib.losses, name)(**arguments)


def decayed(o: Any) -> Any:
    return o.Adam(o.schedules.CosineDecay(0.0, 150, warmup_target=0.01, warmup_steps=20))


CASES = {
    "classifier": Case(
        stack(dense(16, "relu"), dense(16, "relu"), dense(3, "softmax")),
        compiled("adam", "sparse_categorical_crossentropy", "accuracy"),
        FEATURES, CLASSES,
    ),
    "logits": Case(
        stack(dense(16, "tanh"), dense(3)),
        compiled("rmsprop", from_logits, metric("SparseTopKCategoricalAccuracy", k=2)),
        FEATURES, CLASSES,
    ),
    "smoothed": Case(
        stack(dense(12, "swish"), dense(3, "softmax")),
        compiled(
            "nadam", loss("CategoricalCrossentropy", label_smoothing=0.1), "accuracy",
            metric("F1Score", average="macro"),
        ),
        FEATURES, ONE_HOT,
    ),
    "weighted": Case(
        stack(dense(12, "elu"), dense(1, "sigmoid")),
        compiled(
            rates(lambda o: o.SGD(0.05, momentum=0.9, nesterov=True)), "binary_crossentropy",
            "accuracy",
            weighted_metrics=lambda lib: [lib.metrics.AUC(), lib.metrics.Precision()],
        ),
        FEATURES, BITS, WEIGHTS,
    ),
    "focal": Case(
        stack(dense(12, "leaky_relu"), dense(1)),
        compiled(
            "adamax", loss("BinaryFocalCrossentropy", from_logits=True, apply_class_balancing=True),
            metric("AUC", from_logits=True),
        ),
        FEATURES, BITS,
    ),
    "categorical_focal": Case(
        stack(dense(12, "mish"), dense(3, "softmax")),
        compiled("adagrad", loss("CategoricalFocalCrossentropy"), metric("Recall", class_id=1)),
        FEATURES, ONE_HOT,
    ),
    "regression": Case(
        stack(dense(16, "gelu"), dense(2)),
        compiled("adamw", "mse", "mae", metric("R2Score"), metric("RootMeanSquaredError")),
        FEATURES, NUMBERS,
    ),
    "huber": Case(
        stack(dense(16, "softplus"), dense(2)),
        compiled(rates(lambda o: o.Adam(0.01, amsgrad=True)), loss("Huber", delta=0.3), "mae"),
        FEATURES, NUMBERS,
    ),
    "log_cosh": Case(
        stack(dense(16, "selu", kernel_initializer="lecun_normal"), dense(2)),
        compiled("lion", "log_cosh", metric("CosineSimilarity")), FEATURES, NUMBERS,
    ),
    "quantile": Case(
        stack(dense(8, "tanh"), dense(2)), compiled("adam", own_loss), FEATURES, NUMBERS,
    ),
    "poisson": Case(
        stack(dense(8, "tanh"), dense(1, "exponential")), compiled("adam", "poisson"), FEATURES,
        COUNTS,
    ),
    "shares": Case(
        stack(dense(8, "relu6"), dense(3, "softmax")), compiled("adadelta", "kl_divergence"),
        FEATURES, SHARES,
    ),
    "hinge": Case(
        stack(dense(8, "hard_silu"), dense(1, "tanh")), compiled("ftrl", "squared_hinge", "hinge"),
        FEATURES, SIGNS,
    ),
    "dice": Case(
        stack(dense(8, "relu"), dense(1, "sigmoid")),
        compiled("adam", loss("Dice"), metric("BinaryIoU")), FEATURES, BITS,
    ),
    "tversky": Case(
        stack(dense(8, "relu"), dense(1, "sigmoid")), compiled("adam", loss("Tversky")), FEATURES,
        BITS,
    ),
    "penalties": Case(
        stack(
            dense(12, "relu", kernel_regularizer="l2", activity_regularizer="l1"),
            dense(3, "softmax", kernel_regularizer="l1", bias_regularizer="l2"),
        ),
        compiled("sgd", "sparse_categorical_crossentropy", "accuracy"), FEATURES, CLASSES,
    ),
    "constraints": Case(
        stack(
            dense(12, "relu", kernel_constraint="max_norm", bias_constraint="non_neg"),
            dense(2, kernel_constraint="unit_norm"),
        ),
        compiled(rates(lambda o: o.SGD(0.02)), "mse"), FEATURES, NUMBERS,
    ),
    "clipped": Case(
        stack(dense(12, "tanh"), dense(2)),
        compiled(rates(lambda o: o.Adam(0.01, global_clipnorm=0.1)), "mse"), FEATURES, NUMBERS,
    ),
    "averaged": Case(
        stack(dense(12, "tanh"), dense(2)),
        compiled(
            rates(lambda o: o.SGD(0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7)),
            "mse",
        ),
        FEATURES, NUMBERS,
    ),
    "accumulated": Case(
        stack(dense(12, "tanh"), dense(2)),
        compiled(rates(lambda o: o.AdamW(0.01, gradient_accumulation_steps=4)), "mse"),
        FEATURES, NUMBERS,
    ),
    "scheduled": Case(
        stack(dense(12, "tanh"), dense(2)), compiled(rates(decayed), "mse"), FEATURES, NUMBERS,
    ),
    "adafactor": Case(
        stack(dense(12, "tanh"), dense(2)), compiled("adafactor", "mse"), FEATURES, NUMBERS,
    ),
    "lamb": Case(
        stack(dense(12, "tanh"), dense(2)), compiled(rates(lambda o: o.Lamb(0.01)), "mse"),
        FEATURES, NUMBERS,
    ),
    "muon": Case(
        stack(dense(12, "tanh"), dense(2)), compiled(rates(lambda o: o.Muon(0.01)), "mse"),
        FEATURES, NUMBERS,
    ),
    "batch_normalization": Case(
        stack(  # a bias there would have no gradient but rounding, which Adam scales to steps
            dense(12, use_bias=False), lambda L: L.BatchNormalization(), lambda L: L.ReLU(),
            dense(3, "softmax"),
        ),
        compiled("adam", "sparse_categorical_crossentropy", "accuracy"), FEATURES, CLASSES,
    ),
    "normalizations": Case(
        stack(
            dense(8), lambda L: L.RMSNormalization(), dense(16, "tanh"),
            lambda L: L.GroupNormalization(2), lambda L: L.UnitNormalization(), dense(2),
        ),
        compiled(rates(lambda o: o.SGD(0.01)), "mse"), FEATURES, NUMBERS,
    ),
    "activations": Case(
        stack(
            dense(8), lambda L: L.PReLU(), dense(8), lambda L: L.LeakyReLU(), dense(8),
            lambda L: L.ELU(), dense(3), lambda L: L.Softmax(),
        ),
        compiled("adam", "categorical_crossentropy"), FEATURES, ONE_HOT,
    ),
    "shapes": Case(
        stack(
            lambda L: L.Reshape((3, 2)), lambda L: L.Permute((2, 1)), dense(4, "tanh"),
            lambda L: L.Flatten(), lambda L: L.RepeatVector(2), lambda L: L.Flatten(), dense(2),
        ),
        compiled("adam", "mse"), FEATURES, NUMBERS,
    ),
    "einsum": Case(
        stack(
            lambda L: L.EinsumDense("abc,cd->abd", (5, 4), bias_axes="d", activation="tanh"),
            lambda L: L.Flatten(), dense(2), shape=(5, 8),
        ),
        compiled("adam", "mse"), ROWS_OF_8, NUMBERS,
    ),
    "lambda": Case(
        stack(
            dense(8, "tanh"), lambda L: L.Lambda(lambda x: x * x), lambda L: L.Rescaling(0.5, 0.1),
            lambda L: L.ActivityRegularization(l2=0.01), dense(2),
        ),
        compiled("adam", "mse"), FEATURES, NUMBERS,
    ),
    "embedding": Case(
        embedded(lambda L: L.Dense(4, "relu")), compiled("adam", from_logits, "accuracy"), IDS,
        CLASSES,
    ),
    "masked_embedding": Case(
        embedded(lambda L: L.BatchNormalization()), compiled("sgd", from_logits, "accuracy"), IDS,
        CLASSES,
    ),
    "residual": Case(residual, compiled("adam", from_logits, "accuracy"), FEATURES, CLASSES),
    "merges": Case(merges, compiled("adam", "mse"), FEATURES, NUMBERS),
    "wide_and_deep": Case(
        wide_and_deep, compiled("adam", loss("BinaryCrossentropy", from_logits=True)),
        {"wide": FEATURES, "deep": IDS}, BITS,
    ),
    "siamese": Case(siamese, compiled("adam", "mse"), [FEATURES, FEATURES[:, ::-1].copy()], BITS),
    "two_outputs": Case(
        two_outputs,
        compiled(
            "adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"},
            loss_weights={"kind": 1.0, "size": 0.3},
        ),
        FEATURES, {"kind": CLASSES, "size": NUMBERS},
    ),
    "experts": Case(experts, compiled("adam", "mse"), FEATURES, NUMBERS),
    "attention": Case(attention, compiled("adam", "mse"), ROWS_OF_8, MEANS_OF_8),
    "euler_steps": Case(euler_steps, compiled("nadam", "mse"), FEATURES, NUMBERS),
    "cross_network": Case(cross_network, compiled("adam", "mae"), FEATURES, NUMBERS),
    "ensemble": Case(ensemble, compiled("rmsprop", "mse"), FEATURES, NUMBERS),
    "frozen_inside": Case(frozen_inside, compiled("adam", from_logits), FEATURES, CLASSES),
    "subclassed": Case(subclassed, compiled("adam", "mse"), FEATURES, NUMBERS),
    "positive_class_of_rows": Case(
        stack(dense(8, "tanh"), dense(1, "sigmoid")),
        compiled(
            rates(lambda o: o.RMSprop(0.005, momentum=0.5, centered=True)), "binary_crossentropy",
            metric("PrecisionAtRecall", recall=0.8), metric("SensitivityAtSpecificity",
            specificity=0.5),
        ),
        FEATURES, BITS,
    ),
}  # fmt: skip


def batch(data: Any, number: int) -> Any:
    if isinstance(data, dict):
        return {name: batch(value, number) for name, value in data.items()}
    if isinstance(data, list):
        return [batch(value, number) for value in data]
    return None if data is None else data[number % BATCHES]


def by_plain_names(logs: dict[str, Any]) -> dict[str, Any]:
    """Without the numbers that both libraries put behind names that they have given before."""
    found = {re.sub(r"_\d+$", "", name): value for name, value in logs.items()}
    assert len(found) == len(logs)
    return found


@pytest.mark.parametrize("name", CASES)
def test_two_hundred_steps(name: str) -> None:
    case = CASES[name]
    keras.utils.set_random_seed(5)
    theirs, ours = case.make(keras), case.make(handmill)
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    ours.set_weights([np.asarray(w) for w in theirs.get_weights()])
    theirs.compile(**case.compile(keras))
    ours.compile(**case.compile(handmill))
    first = last = None
    for step in range(STEPS):
        given = (batch(case.x, step), batch(case.y, step), batch(case.weight, step))
        want = by_plain_names(theirs.train_on_batch(*given, return_dict=True))
        got = by_plain_names(ours.train_on_batch(*given, return_dict=True))
        assert set(got) == set(want)
        last = float(want["loss"])
        first = last if first is None else first
        for key in want:
            np.testing.assert_allclose(
                got[key], float(want[key]), rtol=LOSS_RTOL, atol=LOSS_RTOL,
                err_msg=f"{key}, step {step}",
            )  # fmt: skip
    assert last < first, "the model should have learnt something"
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, np.asarray(b), rtol=0, atol=WEIGHT_TOLERANCE * scale)


CLASSES_OF_SCRIPTS = ("lambda", "subclassed")
"""Models with code that only the script knows."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in CLASSES_OF_SCRIPTS])
def test_from_handmill_to_keras_and_back(tmp_path: Path, name: str) -> None:
    pytest.importorskip("h5py", reason="Keras's files are HDF5")
    case, path = CASES[name], str(tmp_path / "m.keras")
    x = batch(case.x, 0)
    ours = case.make(handmill)
    ours.compile(**case.compile(handmill))
    ours.train_on_batch(x, batch(case.y, 0))
    want = numbers_of(ours.predict(x, verbose=0))
    ours.save(path)
    theirs = keras.models.load_model(path, {"quantile": own_loss(keras)})
    for a, b in zip(numbers_of(theirs.predict(x, verbose=0)), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert [layer.name for layer in theirs.layers] == [layer.name for layer in ours.layers]
    theirs.save(path)
    back = handmill.models.load_model(path, {"quantile": own_loss(handmill)})
    for a, b in zip(numbers_of(back.predict(x, verbose=0)), want, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(back.optimizer.variables, ours.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=a.path)


def numbers_of(outputs: Any) -> list[Any]:
    return [np.asarray(leaf) for leaf in handmill.tree.flatten(outputs)]
