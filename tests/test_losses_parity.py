"""Every loss against Keras: values, weights, masks, gradients, training, both executors, files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, losses, ops

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras", reason="Keras is the oracle of these tests")
    jax = pytest.importorskip("jax", reason="Keras runs on JAX in these tests")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

RNG = np.random.default_rng(11)
N = 6


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def shares(*shape: int) -> Any:
    return RNG.uniform(0.01, 0.99, size=shape).astype("float32")


def bits(*shape: int) -> Any:
    return RNG.integers(0, 2, shape)


def signs(*shape: int) -> Any:
    return (2 * bits(*shape) - 1).astype("float32")


def one_hot(*shape: int) -> Any:
    return np.eye(4, dtype="float32")[RNG.integers(0, 4, shape)]


def units(*shape: int) -> Any:
    x = normal(*shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


ZERO_ROWS = normal(N, 4) * (np.arange(N) % 2)[:, None].astype("float32")
CASES: dict[str, tuple[str, dict[str, Any], Any, Any]] = {
    "mse": ("MeanSquaredError", {}, normal(N, 4), normal(N, 4)),
    "mae": ("MeanAbsoluteError", {}, normal(N, 4), normal(N, 4)),
    "mape": ("MeanAbsolutePercentageError", {}, normal(N, 4), normal(N, 4)),
    "msle": ("MeanSquaredLogarithmicError", {}, 3 * shares(N, 4), 3 * shares(N, 4) - 0.5),
    "cosine": ("CosineSimilarity", {}, normal(N, 4), normal(N, 4)),
    "cosine_axis": ("CosineSimilarity", {"axis": 1}, normal(N, 4, 3), normal(N, 4, 3)),
    "cosine_zero": ("CosineSimilarity", {}, ZERO_ROWS, normal(N, 4)),
    "log_cosh": ("LogCosh", {}, 9 * normal(N, 4), 9 * normal(N, 4)),
    "huber": ("Huber", {"delta": 0.6}, normal(N, 4), normal(N, 4)),
    "hinge": ("Hinge", {}, signs(N, 4), normal(N, 4)),
    "hinge_bits": ("Hinge", {}, bits(N, 4), normal(N, 4)),
    "squared_hinge": ("SquaredHinge", {}, signs(N, 4), normal(N, 4)),
    "squared_hinge_bits": ("SquaredHinge", {}, bits(N, 4), normal(N, 4)),
    "categorical_hinge": ("CategoricalHinge", {}, one_hot(N), normal(N, 4)),
    "kld": ("KLDivergence", {}, shares(N, 4), shares(N, 4)),
    "poisson": ("Poisson", {}, RNG.integers(0, 5, (N, 4)), 3 * shares(N, 4)),
    "binary_focal": ("BinaryFocalCrossentropy", {}, bits(N, 4), shares(N, 4)),
    "binary_focal_all": (
        "BinaryFocalCrossentropy",
        {
            "apply_class_balancing": True,
            "alpha": 0.7,
            "gamma": 1.5,
            "from_logits": True,
            "label_smoothing": 0.1,
        },
        bits(N, 4),
        normal(N, 4),
    ),
    "binary_focal_axis": ("BinaryFocalCrossentropy", {"axis": 1}, bits(N, 4, 3), shares(N, 4, 3)),
    "categorical_focal": ("CategoricalFocalCrossentropy", {}, one_hot(N), shares(N, 4)),
    "categorical_focal_all": (
        "CategoricalFocalCrossentropy",
        {
            "alpha": [0.1, 0.2, 0.3, 0.4],
            "gamma": 3.0,
            "from_logits": True,
            "label_smoothing": 0.1,
        },
        one_hot(N),
        normal(N, 4),
    ),
    "generalized": (
        "CategoricalGeneralizedCrossEntropy",
        {"q": 0.7},
        RNG.integers(0, 4, N),
        shares(N, 4),
    ),
    "dice": ("Dice", {}, bits(N, 4), shares(N, 4)),
    "dice_axes": ("Dice", {"axis": (1, 2)}, bits(N, 4, 3), shares(N, 4, 3)),
    "tversky": ("Tversky", {"alpha": 0.3, "beta": 0.7}, bits(N, 4), shares(N, 4)),
    "tversky_axis": ("Tversky", {"alpha": 0.3, "axis": 1}, bits(N, 4), shares(N, 4)),
    "circle": ("Circle", {}, RNG.integers(0, 3, N), units(N, 4)),
    "circle_all": (
        "Circle",
        {"gamma": 20.0, "margin": 0.2, "remove_diagonal": False},
        RNG.integers(0, 3, (N, 1)),
        units(N, 4),
    ),
    "circle_alone": ("Circle", {}, np.arange(N), units(N, 4)),
    "circle_one_class": ("Circle", {}, np.zeros(N, "int32"), units(N, 4)),
}
CASE = pytest.mark.parametrize("case", CASES)


def both(case: str, **more: Any) -> tuple[Any, Any, Any, Any]:
    """Keras's loss, ours, targets, predictions."""
    name, arguments, y, p = CASES[case]
    theirs, ours = (getattr(m.losses, name)(**arguments, **more) for m in (keras, handmill))
    return theirs, ours, y, p


@CASE
def test_values(case: str) -> None:
    for reduction in ("sum_over_batch_size", "sum", None, "mean_with_sample_weight"):
        theirs, ours, y, p = both(case, reduction=reduction)
        weights = None
        for _ in range(2):
            want = np.asarray(theirs(y, p, weights))
            for backend in ("native", "numpy"):
                with handmill.use_backend(backend):
                    got = ours(y, p, weights)
                np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-6)
                assert np.shape(got) == want.shape
            name, arguments, *_ = CASES[case]
            each = getattr(losses, name)(reduction=None, **arguments)(y, p)
            weights = shares(*np.shape(each))


@CASE
def test_gradients(case: str) -> None:
    theirs, ours, y, p = both(case)
    want = jax.grad(lambda q: theirs(y, q))(jax.numpy.asarray(p))
    for backend in ("native", "numpy"):
        with handmill.use_backend(backend):
            variable = handmill.Variable(p)
            with handmill.GradientTape() as tape:
                loss = ours(y, variable)
            got = tape.gradient(loss, variable)
        np.testing.assert_allclose(got, want, rtol=3e-5, atol=1e-6)


def test_gradients_stay_finite_where_nothing_is_to_be_learned() -> None:
    """A prediction of zeros has no direction, and a perfect one no focal factor."""
    zeros = handmill.Variable(np.zeros((2, 3), "float32"))
    sure = handmill.Variable(np.array([[1.0, 0.0]], "float32"))
    with handmill.GradientTape() as tape:
        first = losses.cosine_similarity(np.ones((2, 3), "float32"), zeros)
        second = losses.binary_focal_crossentropy([[1.0, 0.0]], sure, gamma=1.5)
    for gradient in tape.gradient([first, second], [zeros, sure]):
        assert np.isfinite(gradient).all()


@CASE
def test_configs_and_names(case: str) -> None:
    theirs, ours, y, p = both(case, name="mine")
    config = ours.get_config()
    again = losses.get(losses.serialize(ours))
    assert type(again) is type(ours)
    assert again.get_config() == config
    np.testing.assert_array_equal(again(y, p), ours(y, p))
    read = type(ours).from_config(theirs.get_config())
    if case not in ("cosine_axis", "huber"):  # of which Keras forgets `axis` and `delta`
        assert read.get_config() == config
    function = ours.fn
    assert losses.get(function.__name__) is function
    assert isinstance(losses.get(type(ours).__name__), type(ours))


@CASE
def test_functions(case: str) -> None:
    name, arguments, y, p = CASES[case]
    function = getattr(handmill.losses, name)().fn
    oracle = getattr(keras.losses, function.__name__)
    p = keras.ops.convert_to_tensor(p)
    got = function(y, np.asarray(p), **arguments)
    np.testing.assert_allclose(got, oracle(y, p, **arguments), rtol=3e-6, atol=1e-6)


def network(library: Any, shape: tuple[int, ...], masked: bool = False) -> Any:
    first = [library.layers.Masking()] if masked else []
    dense = library.layers.Dense(4, activation="sigmoid", name="dense")
    return library.Sequential([library.Input(shape), *first, dense])


def trained(library: Any, case: str, data: tuple[Any, ...], weights: Any, **fit: Any) -> Any:
    """The model, its losses in training, its loss after it."""
    name, arguments, *_ = CASES[case]
    model = network(library, data[0].shape[1:], masked=data[0].ndim == 3)
    model.set_weights(weights)
    loss = getattr(library.losses, name)(**arguments)
    model.compile(library.optimizers.SGD(0.05), loss)
    history = model.fit(*data, batch_size=5, epochs=3, shuffle=False, verbose=0, **fit)
    return model, history.history["loss"], model.evaluate(*data, batch_size=5, verbose=0)


# One of each function; those that the tests of Keras's parity train already are left out.
TRAINED = (
    "msle", "cosine", "log_cosh", "squared_hinge_bits", "categorical_hinge", "poisson",
    "binary_focal_all", "categorical_focal_all", "generalized", "dice", "tversky_axis", "circle",
)  # fmt: skip


@pytest.mark.parametrize("case", TRAINED)
def test_training(case: str, tmp_path: Path) -> None:
    x, start = normal(10, 3), [normal(3, 4), normal(4)]
    y = np.resize(CASES[case][2], (10, *CASES[case][2].shape[1:]))
    weight = shares(10) if case != "dice" else np.ones(10, "float32")
    _, *want = trained(keras, case, (x, y), start, sample_weight=weight)
    for backend in ("native", "numpy"):
        with handmill.use_backend(backend):
            model, *got = trained(handmill, case, (x, y), start, sample_weight=weight)
            np.testing.assert_allclose(got[0], want[0], rtol=3e-5, atol=1e-5)
            np.testing.assert_allclose(got[1], want[1], rtol=3e-5, atol=1e-5)
            model.save(tmp_path / "model.hmill")
            again = handmill.models.load_model(tmp_path / "model.hmill")
            assert again.evaluate(x, y, batch_size=5, verbose=0) == got[1]
    with handmill.use_backend("native"):
        assert model.profile(x, y, batch_size=5).host_nodes == 0


@pytest.mark.parametrize("case", ("cosine", "squared_hinge_bits", "binary_focal", "generalized"))
def test_masks(case: str) -> None:
    """Steps that a Masking layer hides are left out of the loss."""
    x, start = normal(10, 5, 3), [normal(3, 4), normal(4)]
    x[0, 3:] = x[2] = 0.0
    y = np.resize(CASES[case][2], (10, 5, *CASES[case][2].shape[1:]))
    _, *want = trained(keras, case, (x, y), start)
    _, *got = trained(handmill, case, (x, y), start)
    np.testing.assert_allclose(got[0], want[0], rtol=3e-5, atol=1e-5)
    np.testing.assert_allclose(got[1], want[1], rtol=3e-5, atol=1e-5)


def test_circle_with_references() -> None:
    y, p, labels, others = (
        RNG.integers(0, 3, N),
        units(N, 4),
        RNG.integers(0, 3, (9, 1)),
        units(9, 4),
    )
    for diagonal in (True, False):
        arguments = {"ref_labels": labels, "ref_embeddings": others, "remove_diagonal": diagonal}
        want = keras.losses.circle(y, p, **arguments)
        np.testing.assert_allclose(losses.circle(y, p, **arguments), want, rtol=1e-5)


def test_a_loss_by_the_name_of_a_function_in_compile() -> None:
    x, y, start = normal(13, 3), np.arange(13) % 3, [normal(3, 4), normal(4)]
    for name in ("circle", "poisson"):
        found = []
        for library in (keras, handmill):
            model = network(library, (3,))
            model.set_weights(start)
            model.compile("sgd", name)
            target = y if name == "circle" else np.abs(x[:, [0, 1, 2, 0]])
            found.append(model.evaluate(x, target, batch_size=5, verbose=0))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@CASE
def test_dtype_is_that_of_the_result(case: str) -> None:
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    theirs, ours, y, p = both(case, dtype="bfloat16")
    got, want = ours(y, p), theirs(y, p)
    assert str(got.dtype) == str(want.dtype) == ours.dtype == "bfloat16"
    scale = abs(float(both(case)[1](y, p)))
    np.testing.assert_allclose(float(got), float(want), atol=0.05 * scale + 0.02)
    assert losses.get(losses.serialize(ours)).dtype == "bfloat16"
    assert str(both(case, dtype="float64")[1](y, p).dtype) == "float64"


def test_arguments_are_attributes() -> None:
    loss = losses.BinaryFocalCrossentropy(gamma=3.0, alpha=0.5)
    assert (loss.gamma, loss.alpha, loss.axis, loss.from_logits) == (3.0, 0.5, -1, False)
    loss.gamma = 1.0
    y, p = CASES["binary_focal"][2:]
    assert loss(y, p) == losses.BinaryFocalCrossentropy(gamma=1.0, alpha=0.5)(y, p)
    assert loss.get_config()["gamma"] == 1.0
    with pytest.raises(AttributeError, match="no attribute 'delta'"):
        _ = loss.delta


def test_ignored_classes_are_left_out_beside_masked_steps() -> None:
    x, start = normal(10, 5, 3), [normal(3, 4), normal(4)]
    x[0, 3:] = x[2] = 0.0
    y, found = RNG.integers(0, 4, (10, 5)), []
    for library in (keras, handmill):
        model = network(library, (5, 3), masked=True)
        model.set_weights(start)
        loss = library.losses.SparseCategoricalCrossentropy(ignore_class=1, from_logits=True)
        model.compile("sgd", loss)
        found.append(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="a loss needs a floating dtype"):
        losses.Hinge(dtype="int32")
    with pytest.raises(ValueError, match=r"q must be in the interval \(0, 1\)"):
        losses.CategoricalGeneralizedCrossEntropy(q=1.0)
    with pytest.raises(ValueError, match="`axis` must be of type `int`"):
        losses.categorical_focal_crossentropy([[1.0, 0.0]], [[0.5, 0.5]], axis=True)
    with pytest.raises(ValueError, match=r"targets of shape \(2, 3\) do not fit"):
        losses.Hinge()(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.warns(SyntaxWarning, match="In loss categorical_focal_crossentropy"):
        losses.categorical_focal_crossentropy([[1.0]], [[0.5]])


def test_labels_of_a_column_mean_the_same() -> None:
    y, p = RNG.integers(0, 4, N), shares(N, 4)
    for loss in (losses.CategoricalGeneralizedCrossEntropy(), losses.Circle()):
        assert loss(y, p) == loss(y[:, None], p)


def test_a_loss_inside_add_loss() -> None:
    class Regularised(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(ops.mean(losses.log_cosh(ops.zeros_like(x), x)))
            return x

    x = normal(8, 3)
    model = handmill.Sequential([handmill.Input((3,)), Regularised()])
    model.compile("sgd", "mse")
    want = float(losses.LogCosh()(np.zeros_like(x), x))
    assert model.evaluate(x, x, verbose=0) == pytest.approx(want, rel=1e-6)
