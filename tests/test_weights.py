"""What makes, penalises and bounds weights: initializers, regularizers, constraints."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import constraints, initializers, layers, random, regularizers

RNG = np.random.default_rng(2)


# Initializers.

WINDOWS = ("hann", "hamming", "blackman", "bartlett", None, tuple(RNG.uniform(size=12)))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("periodic", (False, True))
@pytest.mark.parametrize("window", WINDOWS, ids=lambda w: w if isinstance(w, str) else type(w))
def test_stft(keras, window, periodic):
    pytest.importorskip("scipy", reason="makes the window")
    for side, scaling in (("real", "density"), ("imag", "spectrum"), ("imag", None)):
        arguments = (side, np.asarray(window) if isinstance(window, tuple) else window, scaling)
        ours = initializers.STFT(*arguments, periodic)
        theirs = keras.initializers.STFT(*arguments, periodic)
        got, want = ours((12, 1, 9)), np.asarray(theirs((12, 1, 9)))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=3e-6)
        if not isinstance(window, tuple):
            assert initializers.serialize(ours) == keras.initializers.serialize(theirs)
        again = initializers.deserialize(initializers.serialize(ours))
        np.testing.assert_array_equal(again((12, 1, 9)), got)


@pytest.mark.parametrize(
    ("make", "message"),
    (
        (lambda: initializers.STFT("left"), "'real' or 'imag'"),
        (lambda: initializers.STFT(scaling="loud"), "Scaling is invalid"),
        (lambda: initializers.STFT()((8, 5)), "length of the window"),
        (lambda: initializers.STFT()((8, 2, 5)), "length of the window"),
        (lambda: initializers.STFT(window=np.ones(3))((8, 1, 5)), "frame_length"),
        (lambda: initializers.get(np.ones((5, 5)))((10, 10)), "Expected `shape` to be"),
        (lambda: initializers.get(np.ones((5,)))((2, 5)), "Expected `shape` to be"),
        (lambda: initializers.RandomNormal(seed="one"), "SeedGenerator"),
        (lambda: initializers.Identity()((3,)), "2D"),
        (lambda: initializers.Orthogonal()((3,)), "two-dimensional"),
        (lambda: regularizers.OrthogonalRegularizer(mode="diagonal"), "mode"),
        (lambda: regularizers.OrthogonalRegularizer(-1.0), "factor"),
        (lambda: regularizers.OrthogonalRegularizer()(np.ones(3, "float32")), "rank 2"),
    ),
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_windows_of_scipy_are_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.signal", None)
    with pytest.raises(ImportError, match="needs scipy; without it there are hann"):
        initializers.STFT(window="bartlett")
    initializers.STFT(window="hamming")((4, 1, 3))


def test_what_initializers_hold_survives_the_config():
    """Keras forgets the gain of Identity."""
    for made, shape in (
        (initializers.Identity(3.0), (2, 3)),
        (initializers.Orthogonal(2.0, seed=1), (3, 2)),
        (initializers.get(np.arange(6.0).reshape(2, 3)), (2, 3)),
    ):
        again = initializers.get(initializers.serialize(made))
        np.testing.assert_array_equal(again(shape), made(shape))


def test_names_of_initializers(keras):
    for name in sorted(n for n in dir(keras.initializers) if not n.startswith("_")):
        theirs = getattr(keras.initializers, name)
        ours = getattr(initializers, name)
        assert isinstance(ours, type) == isinstance(theirs, type), name
        if isinstance(theirs, type):
            assert ours.__name__ == theirs.__name__
            if name != "Initializer":
                assert type(initializers.get(name)) is ours


@pytest.mark.parametrize(
    "name",
    (
        "RandomNormal",
        "RandomUniform",
        "TruncatedNormal",
        "VarianceScaling",
        "HeNormal",
        "Orthogonal",
    ),
)  # fmt: skip
def test_a_seed_generator_gives_new_values_each_time(name):
    make = getattr(initializers, name)
    made = make(seed=random.SeedGenerator(7))
    first, second = made((4, 3)), made((4, 3))
    assert (first != second).any()
    again = initializers.deserialize(initializers.serialize(made))
    np.testing.assert_array_equal(again((4, 3)), first)  # how often it drew is no part of it
    fixed = make(seed=7)
    np.testing.assert_array_equal(fixed((4, 3)), fixed((4, 3)))
    handmill.utils.set_random_seed(1)
    model = handmill.Sequential(
        [
            layers.Input((4,)),
            *(layers.Dense(4, kernel_initializer=make(seed=made.seed)) for _ in range(2)),
        ]
    )
    one, other = (layer.kernel.numpy() for layer in model.layers)
    assert (one != other).any()


# Regularizers.


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize("mode", ("rows", "columns"))
def test_orthogonal_regularizer(keras, mode, backend):
    x = RNG.normal(size=(8, 5)).astype("float32")
    y = RNG.normal(size=(8, 4)).astype("float32")
    w = RNG.normal(size=(3, 4)).astype("float32")
    with handmill.use_backend(backend):
        models, penalties = [], []
        for library in (keras, handmill):
            penalty = library.regularizers.OrthogonalRegularizer(0.5, mode)
            penalties.append(float(penalty(library.ops.convert_to_tensor(w))))
            model = library.Sequential(
                [library.Input((5,)), library.layers.Dense(4, kernel_regularizer=penalty)]
            )
            model.compile(library.optimizers.SGD(0.1), "mse")
            models.append(model)
        np.testing.assert_allclose(penalties[1], penalties[0], rtol=1e-5)
        models[1].set_weights([np.asarray(w) for w in models[0].get_weights()])
        for _ in range(6):
            want, got = (m.train_on_batch(x, y) for m in models)
            np.testing.assert_allclose(got, float(want), rtol=1e-5)
    for got, want in zip(models[1].get_weights(), models[0].get_weights(), strict=True):
        np.testing.assert_allclose(got, np.asarray(want), rtol=1e-4, atol=1e-5)


def test_orthogonal_rows_cost_nothing():
    penalty = regularizers.get("orthogonal_regularizer")
    np.testing.assert_allclose(penalty(np.eye(3, 5, dtype="float32")), 0.0, atol=1e-8)
    assert regularizers.orthogonal_regularizer is regularizers.OrthogonalRegularizer


# Constraints.


def test_the_base_constraint_changes_nothing():
    w = RNG.normal(size=(3, 2)).astype("float32")
    np.testing.assert_array_equal(constraints.Constraint()(w), w)
    assert constraints.Constraint().get_config() == {}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "arguments"),
    (
        ("MaxNorm", (0.7, 1)),
        ("MaxNorm", (0.5, [0, 1])),
        ("NonNeg", ()),
        ("UnitNorm", (1,)),
        ("MinMaxNorm", (0.5, 0.9, 0.3, 0)),
        ("MinMaxNorm", (0.5, 0.9, 1.0, [0, 1])),
    ),
)
def test_constraints_and_their_names(keras, name, arguments):
    w = RNG.normal(size=(4, 3)).astype("float32")
    ours, theirs = (getattr(m, name)(*arguments) for m in (constraints, keras.constraints))
    np.testing.assert_allclose(ours(w), np.asarray(theirs(w)), rtol=1e-5, atol=1e-7)
    assert constraints.serialize(ours) == keras.constraints.serialize(theirs)
    again = constraints.deserialize(keras.constraints.serialize(theirs))
    np.testing.assert_array_equal(again(w), ours(w))
    snake = {"MaxNorm": "max_norm", "NonNeg": "non_neg", "UnitNorm": "unit_norm"}
    for key in (name, snake.get(name, "min_max_norm")):
        assert type(constraints.get(key)) is type(ours)
