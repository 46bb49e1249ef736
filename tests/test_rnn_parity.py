"""Recurrent layers in models of handmill and of Keras: the same numbers, gradients, configs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill.layers.context import eager_calls
from handmill.layers.rnn.cell import RecurrentCell
from layer_parity import check_config, check_layer, check_policy, errors_of, normal, same_weights

# Keras on JAX calls np.array on our arrays and on its own without `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = normal(4, 6, 3)
X[1, 3:] = X[2, :2] = X[3] = 0.0  # a prefix, a hole at the beginning, nothing
Y = normal(4, 6, 3, seed=5)

KINDS = ("SimpleRNN", "GRU", "LSTM")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sequences": {"return_sequences": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "backwards_last": {"go_backwards": True},
    "no_bias": {"use_bias": False},
    "relu": {"activation": "relu", "bias_initializer": "ones"},
    "linear": {"activation": None},
    "zeros": {"zero_output_for_mask": True, "return_sequences": True},
    "zeros_last": {"zero_output_for_mask": True, "go_backwards": True},
    "penalties": {
        "kernel_regularizer": "l2",
        "recurrent_regularizer": "l2",  # JAX takes 1 for the slope of |x| at 0, where others take 0
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "kernel_constraint": "max_norm",
        "recurrent_constraint": "non_neg",
        "bias_constraint": "non_neg",
    },
    "unroll": {"unroll": True},
}
OF_KIND: dict[str, dict[str, dict[str, Any]]] = {
    "SimpleRNN": {},
    "GRU": {
        "before": {"reset_after": False},
        "before_no_bias": {"reset_after": False, "use_bias": False},
        "hard": {"recurrent_activation": "hard_sigmoid"},
    },
    "LSTM": {
        "forget": {"unit_forget_bias": False},
        "hard": {"recurrent_activation": "hard_sigmoid"},
    },
}


@pytest.fixture(autouse=True)
def no_compiling(request: Any) -> Any:
    """JAX operator by operator: each option is a model of its own, compiled for two steps."""
    if "keras" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("keras")
    with pytest.importorskip("jax").disable_jit():
        yield


def trained(model: Any, library: Any, x: Any, y: Any) -> list[np.ndarray]:
    """What two steps of descent make of the weights: the gradients, and the loss."""
    model.compile(library.optimizers.SGD(0.1), "mse")
    losses = [np.ravel(model.train_on_batch(x, y))[0] for _ in range(2)]  # of all outputs together
    return [np.asarray(losses, "float32"), *(np.asarray(w.value) for w in model.weights)]


def check_pair(keras: Any, make: Any, x: Any, y: Any, atol: float = 2e-6) -> None:
    """Numbers and gradients of both models, from equal weights."""
    theirs, ours = make(keras), make(handmill)
    same_weights(theirs, ours)
    weights = [0.6 * (w - 0.7) for w in ours.get_weights()]  # gates that are not all open
    theirs.set_weights(weights)
    ours.set_weights(weights)
    want, found = theirs.predict(x, verbose=0), ours.predict(x, verbose=0)
    handmill.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol), found, want
    )
    with handmill.use_backend("numpy"):
        again = ours.predict(x, verbose=0)
    handmill.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol), again, found
    )
    for a, b in zip(trained(ours, handmill, x, y), trained(theirs, keras, x, y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=10 * atol)


def model_of(make: Any, masked: bool, steps: int | None = 6) -> Any:
    def build(library: Any) -> Any:
        inputs = library.Input((steps, 3))
        x = library.layers.Masking()(inputs) if masked else inputs
        hidden = make(library)(library.layers.Dense(4)(x))
        return library.Model(inputs, library.layers.Dense(3)(hidden))

    return build


def cases(kind: str) -> dict[str, dict[str, Any]]:
    return {**OPTIONS, **OF_KIND[kind]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", (False, True), ids=["whole", "masked"])
def test_each_option_is_that_of_keras(keras: Any, kind: str, masked: bool) -> None:
    for name, given in cases(kind).items():
        if masked and name == "unroll":
            continue  # Keras's unrolled loop has another output before the first step that counts
        if kind == "SimpleRNN" and name == "penalties":  # Keras forgets this one there
            given = {k: v for k, v in given.items() if k != "activity_regularizer"}
        y = Y if given.get("return_sequences") else Y[:, 0]
        make = model_of(lambda k, g=given: getattr(k.layers, kind)(5, **g), masked)
        check_pair(keras, make, X, y)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_as_keras(keras: Any, kind: str, tmp_path: Any) -> None:
    given = {"return_sequences": True, "dropout": 0.2, "recurrent_dropout": 0.3, "seed": 4}
    if kind != "SimpleRNN":  # whose config lacks the seed there
        check_config(keras, *(getattr(k.layers, kind)(5, **given) for k in (keras, handmill)))
    make = model_of(lambda k: getattr(k.layers, kind)(5, return_sequences=True), True, None)
    check_pair(keras, make, X, Y)
    model = make(handmill)
    want = model.predict(X, verbose=0)
    for suffix in ("hmill", "keras"):
        model.save(tmp_path / f"m.{suffix}")
        again = handmill.models.load_model(tmp_path / f"m.{suffix}")
        np.testing.assert_array_equal(again.predict(X, verbose=0), want)
    theirs = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(theirs.predict(X, verbose=0), want, rtol=1e-5, atol=1e-6)
    model.save_weights(tmp_path / "m.weights.h5")
    other = make(keras)
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(other.predict(X, verbose=0), want, rtol=1e-5, atol=1e-6)
    other.save_weights(tmp_path / "n.weights.h5")
    fresh = make(handmill)
    fresh.load_weights(tmp_path / "n.weights.h5")
    np.testing.assert_array_equal(fresh.predict(X, verbose=0), want)


WRAPPED: dict[str, Any] = {
    "concat": lambda k: k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True)),
    "sum": lambda k: k.layers.Bidirectional(k.layers.GRU(4), merge_mode="sum"),
    "ave": lambda k: k.layers.Bidirectional(
        k.layers.SimpleRNN(4, return_sequences=True), merge_mode="ave"
    ),
    "mul": lambda k: k.layers.Bidirectional(k.layers.LSTM(4), merge_mode="mul"),
    "other": lambda k: k.layers.Bidirectional(
        k.layers.LSTM(4, return_sequences=True),
        backward_layer=k.layers.GRU(4, go_backwards=True, return_sequences=True),
    ),
    "cell": lambda k: k.layers.RNN(k.layers.LSTMCell(4), return_sequences=True),
    "stacked": lambda k: k.layers.RNN(
        [k.layers.GRUCell(4), k.layers.LSTMCell(3)], return_sequences=True
    ),
    "stacked_backwards": lambda k: k.layers.RNN(
        k.layers.StackedRNNCells([k.layers.SimpleRNNCell(4), k.layers.GRUCell(3)]),
        go_backwards=True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("masked", (False, True), ids=["whole", "masked"])
def test_wrappers_and_cells_are_those_of_keras(keras: Any, masked: bool) -> None:
    for make in WRAPPED.values():
        model = model_of(make, masked)
        y = Y if len(model(handmill).output_shape) == 3 else Y[:, 0]
        check_pair(keras, model, X, y)
        ours, theirs = (model(k).layers[-2] for k in (handmill, keras))
        again = type(ours).from_config(theirs.get_config())
        assert type(again) is type(ours)
        again(np.zeros((2, 6, 4), "float32"))
        assert [w.shape for w in again.weights] == [tuple(w.shape) for w in theirs.weights]


CONVOLUTIONS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "1d": ("ConvLSTM1D", (2, 3, 6, 2), {"kernel_size": 3, "return_sequences": True}),
    "1d_first": ("ConvLSTM1D", (2, 3, 6, 2), {"kernel_size": 3, "padding": "same"}),
    "2d": ("ConvLSTM2D", (2, 3, 6, 5, 2), {"kernel_size": (3, 2), "go_backwards": True}),
    "2d_strides": ("ConvLSTM2D", (2, 3, 6, 5, 2), {"kernel_size": 3, "strides": 2}),
    "2d_apart": (
        "ConvLSTM2D",
        (2, 3, 6, 5, 2),
        {"kernel_size": 2, "dilation_rate": 2, "use_bias": False, "return_sequences": True},
    ),
    "3d": ("ConvLSTM3D", (2, 2, 3, 4, 3, 2), {"kernel_size": 2, "padding": "same"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutional_layers_are_those_of_keras(keras: Any, name: str) -> None:
    kind, shape, given = CONVOLUTIONS[name]
    check_layer(
        keras,
        lambda k: getattr(k.layers, kind)(3, **given),
        normal(*shape),
        before=False,
        host=kind == "ConvLSTM3D",
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_states_go_in_and_out_as_in_keras(keras: Any, kind: str) -> None:
    def make(library: Any) -> Any:
        inputs = library.Input((None, 3))
        count = 2 if kind == "LSTM" else 1
        states = [library.Input((4,)) for _ in range(count)]
        layer = getattr(library.layers, kind)(4, return_sequences=True, return_state=True)
        found = layer(inputs, initial_state=states)
        return library.Model([inputs, *states], list(found))

    x = [X, *(normal(4, 4, seed=i) for i in range(2 if kind == "LSTM" else 1))]
    theirs, ours = make(keras), make(handmill)
    same_weights(theirs, ours)
    for a, b in zip(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    y = [np.zeros_like(a) for a in ours.predict(x, verbose=0)]
    for a, b in zip(trained(ours, handmill, x, y), trained(theirs, keras, x, y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


def test_masks_of_dropout_act_where_those_of_keras_do(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in KINDS:
        ours, theirs = (
            getattr(k.layers, kind)(
                4, dropout=0.4, recurrent_dropout=0.3, return_sequences=True, seed=3
            )
            for k in (handmill, keras)
        )
        for layer in (ours, theirs):
            layer.build(X.shape)
        theirs.set_weights(ours.get_weights())
        drawn: list[Any] = []
        draw = RecurrentCell.draw_masks

        def noted(cell: Any, *args: Any, d: Any = draw, to: Any = drawn) -> Any:
            to.append(d(cell, *args))
            return to[-1]

        with monkeypatch.context() as patch, eager_calls():
            patch.setattr(RecurrentCell, "draw_masks", noted)
            found = ours(X, training=True)
        masks = [[np.asarray(m) for m in part] for part in drawn[0]]
        assert len(drawn) == 1
        assert len(masks[0]) == len(masks[1]) == {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}[kind]
        given = [part[0] if kind == "SimpleRNN" else part for part in masks]
        theirs.cell.get_dropout_mask = lambda x, m=given[0]: m
        theirs.cell.get_recurrent_dropout_mask = lambda x, m=given[1]: m
        want = np.asarray(theirs(X, training=True))
        np.testing.assert_allclose(np.asarray(found), want, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "call",
    (
        lambda k: k.layers.LSTM(0),
        lambda k: k.layers.RNN(3),
        lambda k: k.layers.RNN(k.layers.Dense(3)),
        lambda k: k.layers.StackedRNNCells([k.layers.Dense(3)]),
        lambda k: k.layers.Bidirectional(3),
        lambda k: k.layers.Bidirectional(k.layers.GRU(3), merge_mode="both"),
        lambda k: k.layers.Bidirectional(k.layers.GRU(3), backward_layer=k.layers.GRU(3)),
        lambda k: k.layers.Bidirectional(
            k.layers.GRU(3), backward_layer=k.layers.GRU(3, go_backwards=True, return_state=True)
        ),
        lambda k: k.layers.LSTM(3)(np.ones((2, 3), "float32")),
        lambda k: k.layers.GRU(3, stateful=True)(k.Input((5, 2))),
        lambda k: k.layers.LSTM(3, use_cudnn=True)(np.ones((2, 3, 2), "float32")),
        lambda k: k.layers.ConvLSTM2D(3, 3, strides=2, dilation_rate=2),
    ),
)
def test_what_keras_refuses_is_refused(keras: Any, call: Any) -> None:
    errors_of(keras, call)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(keras: Any, kind: str) -> None:
    check_policy(
        keras, lambda k, dtype: getattr(k.layers, kind)(4, dtype=dtype), 0.1 * X, rtol=0.05
    )
