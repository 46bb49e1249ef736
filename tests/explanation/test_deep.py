"""DeepLIFT and Deep SHAP: formulas, sums through whole networks, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, explanation, layers, ops
from handmill.errors import NotDifferentiableError
from handmill.explanation import asked, deep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype(np.float32)
BACKGROUND = RNG.normal(size=(9, 6)).astype(np.float32)


def network(*inner: Any, shape: tuple[int, ...] = (6,)) -> Any:
    model = handmill.Sequential([handmill.Input(shape), *inner])
    draw = np.random.default_rng(3)
    weights = [draw.normal(0, 0.5, w.shape) for w in model.get_weights()]
    are_variances = ["variance" in v.name for v in model.weights]
    model.set_weights([abs(w) if v else w for w, v in zip(weights, are_variances, strict=True)])
    return model


def attention() -> Any:
    class Attention(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = layers.Dense(5), layers.Dense(5), layers.Dense(5)

        def call(self, x: Any) -> Any:
            weights = ops.softmax(ops.matmul(self.q(x), ops.swapaxes(self.k(x), 1, 2)) / 2.0)
            return ops.matmul(weights, self.v(x))

    x = handmill.Input((4, 6))
    h = layers.LayerNormalization()(layers.Dense(6)(Attention()(x)) + x)
    gate = layers.Dense(6, "sigmoid")(h)
    h = layers.Multiply()([h, gate])
    return handmill.Model(x, layers.Dense(3, "softmax")(layers.GlobalMaxPooling1D()(h)))


def attentive() -> Any:
    x = handmill.Input((4, 6))
    h = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(x, x) + x)
    return handmill.Model(x, layers.Dense(3, "softmax")(layers.GlobalAveragePooling1D()(h)))


class Recurrent(layers.Layer):
    """An LSTM as a scan."""

    def __init__(self, units: int, reverse: bool = False) -> None:
        super().__init__()
        self.units, self.reverse, self.gates = units, reverse, layers.Dense(4 * units)

    def call(self, x: Any) -> Any:
        def step(states: Any, row: Any) -> Any:
            h, c = states
            i, f, g, o = ops.split(self.gates(ops.concatenate([row, h], 1)), 4, axis=1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            return (h, c), h

        zeros = ops.zeros((ops.shape(x)[0], self.units))
        _, found = ops.scan(step, (zeros, zeros), ops.swapaxes(x, 0, 1), reverse=self.reverse)
        return ops.swapaxes(found, 0, 1)


def recurrent() -> Any:
    x = handmill.Input((2, 6))
    h = layers.Concatenate()([Recurrent(4)(x), Recurrent(3, reverse=True)(x)])
    return handmill.Model(x, layers.Dense(3, "softmax")(layers.GlobalAveragePooling1D()(h)))


NETWORKS = {
    "relu": lambda: network(layers.Dense(16, "relu"), layers.Dense(8, "relu"), layers.Dense(3)),
    "smooth": lambda: network(
        layers.Dense(16, "gelu"), layers.Dense(8, "tanh"), layers.Dense(8, "silu"),
        layers.Dense(8, "elu"), layers.Dense(8, "softplus"), layers.Dense(3, "softmax"),
    ),
    "normalized": lambda: network(
        layers.LayerNormalization(), layers.Dense(16, "relu"), layers.BatchNormalization(),
        layers.Dropout(0.5), layers.UnitNormalization(), layers.Dense(3, "softmax"),
    ),
    "convolutions": lambda: network(
        layers.Reshape((6, 6, 1)), layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2), layers.Conv2D(3, 2, padding="same"), layers.ReLU(),
        layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3, "softmax"), shape=(36,),
    ),
    "attention": attention,
    "layers of attention": attentive,
    "recurrent": recurrent,
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("score", ("logit", "output"))
def test_values_sum_to_the_difference(name: str, score: str) -> None:
    model = NETWORKS[name]()
    shape = model.input_shape[1:]
    x, background = RNG.normal(size=(4, *shape)), RNG.normal(size=(9, *shape))
    found = explanation.deep_shap(model, x, [0, 1, 2, 1], background=background, score=score)
    size = np.abs(found.scores) + np.abs(found.base_values)
    assert (np.abs(found.gap) <= 1e-5 * np.maximum(size, 0.1)).all()
    assert found.notes == ()
    assert found.check()[0].passed


def test_one_hidden_layer_by_formula() -> None:
    model = network(layers.Dense(7, "relu"), layers.Dense(3))
    a, b, c, _ = (w.astype(np.float64) for w in model.get_weights())
    found = explanation.deep_shap(model, X, 2, background=BACKGROUND)
    want = np.zeros((4, 6))
    spread = []
    for z in BACKGROUND.astype(np.float64):
        h, g = X @ a + b, z @ a + b
        slope = (np.maximum(h, 0) - np.maximum(g, 0)) / (h - g)
        spread.append((X - z) * ((slope * c[:, 2]) @ a.T))
        want += spread[-1] / len(BACKGROUND)
    np.testing.assert_allclose(found.values, want, rtol=1e-4, atol=1e-5)
    error = np.std(spread, axis=0, ddof=1) / 3
    np.testing.assert_allclose(found.error, error, rtol=1e-3, atol=1e-5)


def test_linear_model_and_single_baseline() -> None:
    model = network(layers.Dense(3, "softmax"))
    w = model.get_weights()[0]
    found = explanation.deep_lift(model, X, 1, baseline=BACKGROUND[0])
    np.testing.assert_allclose(found.values, (X - BACKGROUND[0]) * w[:, 1], rtol=1e-4, atol=1e-6)
    assert found.error is None
    shap = explanation.deep_shap(model, X, 1, background=BACKGROUND)
    np.testing.assert_allclose(
        shap.values, (X - BACKGROUND.mean(0)) * w[:, 1], rtol=1e-4, atol=1e-5
    )


def test_differs_where_rows_are_equal() -> None:
    model = network(layers.Dense(16, "tanh"), layers.Dense(3, "softmax"))
    rows = BACKGROUND.copy()
    rows[:, 2] = X[0, 2]
    found = explanation.deep_shap(model, X[:1], 0, background=rows)
    assert found.values[0, 2] == 0  # a feature that is equal everywhere
    same = explanation.deep_lift(model, X[:1], 0, baseline=X[0])
    assert not same.values.any()
    assert same.gap == 0


def test_why_a_and_not_b() -> None:
    model = NETWORKS["smooth"]()
    both, a, b = (
        explanation.deep_shap(model, X, t, background=BACKGROUND).values for t in ((2, 0), 2, 0)
    )
    np.testing.assert_allclose(both, a - b, atol=1e-5)


def test_blocks_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model = NETWORKS["relu"]()
    whole = explanation.deep_shap(model, X, 1, background=BACKGROUND)
    before, found = config.num_threads(), set()
    try:
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            values = explanation.deep_shap(model, X, 1, background=BACKGROUND).values
            found.add(values.tobytes())
    finally:
        config.set_num_threads(before)
    assert len(found) == 1
    monkeypatch.setattr(asked, "MOST_NUMBERS", 60)
    monkeypatch.setattr(deep, "_BLOCK", 4)
    parts = explanation.deep_shap(model, X, 1, background=BACKGROUND)
    np.testing.assert_allclose(whole.values, parts.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole.error, parts.error, rtol=1e-3, atol=1e-5)


def test_numpy_computes_the_same() -> None:
    model = NETWORKS["smooth"]()
    native = explanation.deep_shap(model, X, 1, background=BACKGROUND)
    with handmill.use_backend("numpy"):
        other = explanation.deep_shap(model, X, 1, background=BACKGROUND)
    np.testing.assert_allclose(native.values, other.values, rtol=1e-3, atol=1e-5)


def test_words_and_several_inputs() -> None:
    a, b = handmill.Input((6,), name="a"), handmill.Input((3,), dtype="int32", name="b")
    words = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(b))
    hidden = layers.Dense(8, "tanh")(layers.Concatenate()([a, words]))
    model = handmill.Model({"a": a, "b": b}, layers.Dense(3, "softmax")(hidden))
    draw = np.random.default_rng(1)
    x = {"a": X, "b": draw.integers(0, 9, (4, 3))}
    background = {"a": BACKGROUND, "b": draw.integers(0, 9, (9, 3))}
    found = explanation.deep_shap(model, x, 1, background=background)
    assert found.values["b"].shape == (4, 3)
    np.testing.assert_allclose(found.gap, 0, atol=1e-5)
    assert "input 'b' is explained at what layer" in found.notes[0]


def test_large_backgrounds_are_drawn_from_by_seed() -> None:
    model = network(layers.Dense(3))
    many = RNG.normal(size=(1000, 6)).astype(np.float32)
    found = explanation.deep_shap(model, X, 1, background=many)
    again = explanation.deep_shap(model, X, 1, background=many)
    other = explanation.deep_shap(model, X, 1, background=many, seed=1)
    assert found.notes == ("100 of the 1000 rows of the background were drawn (seed 0)",)
    assert found.values.tobytes() == again.values.tobytes() != other.values.tobytes()


@pytest.mark.slow
def test_operator_without_a_rule_is_named() -> None:
    x = handmill.Input((6,))
    h = layers.Lambda(lambda v: ops.arctan2(v[:, :3], v[:, 3:] + 9.0))(x)
    model = handmill.Model(x, layers.Dense(2)(h))
    found = explanation.deep_shap(model, X, 1, background=BACKGROUND)
    assert found.notes == ("arctan2 has no rule: shared along a path through it",)
    np.testing.assert_allclose(found.gap, 0, atol=1e-4)

    def scanned(v: Any) -> Any:
        start = ops.zeros_like(v[:, 0])
        return ops.scan(lambda c, row: (ops.tanh(c + row),) * 2, start, ops.swapaxes(v, 0, 1))[0]

    chosen = network(layers.Lambda(lambda v: ops.where(v > 0, v, 0.1 * v), name="own"),
                     layers.Dense(2))  # fmt: skip
    found = explanation.deep_shap(chosen, X, 1, background=BACKGROUND)
    assert found.notes == (
        "where in layer 'own' chooses by the input: what that adds is not shared",
    )
    assert not found.check()[0].passed
    recurrent = network(layers.Lambda(scanned), layers.Dense(2), shape=(None, 3))
    for steps in (2, 4):
        found = explanation.deep_shap(
            recurrent, np.ones((2, steps, 3)), 0, background=np.zeros((2, steps, 3))
        )
        np.testing.assert_allclose(found.gap, 0, atol=1e-6)
    with pytest.raises(
        NotDifferentiableError, match=r"scan has no rule .* 128 known steps .* integrated_gradients"
    ):
        explanation.deep_shap(recurrent, np.ones((2, 129, 3)), background=np.zeros((2, 129, 3)))

    def grown(v: Any) -> Any:
        return ops.while_loop(lambda a: ops.any(a < 1), lambda a: (a + 1,), (v,))[0]

    growing = network(layers.Lambda(grown), layers.Dense(2))
    with pytest.raises(NotDifferentiableError, match=r"while_loop has no rule .* shap or lime"):
        explanation.deep_shap(growing, X, background=BACKGROUND)


def test_bad_input() -> None:
    model = network(layers.Dense(3))
    with pytest.raises(ValueError, match=r"Deep SHAP compares with a background"):
        explanation.deep_shap(model, X)
    with pytest.raises(ValueError, match=r"a table needs a `baseline`"):
        explanation.deep_lift(model, X)
    with pytest.raises(ValueError, match=r"has 4 rows: pass one, or the rows as the `background`"):
        explanation.deep_lift(model, X, baseline=X)
    mixing = handmill.Sequential(
        [handmill.Input((6,)), layers.Lambda(lambda v: ops.transpose(ops.transpose(v) * 2.0))]
    )
    assert explanation.deep_lift(mixing, X, 1, baseline=0).gap is not None
    empty = explanation.deep_shap(model, X[:0], background=BACKGROUND)
    assert len(empty) == 0
    assert handmill.explain(model, X, method="deep_lift", baseline=0).method == "DeepLIFT"
