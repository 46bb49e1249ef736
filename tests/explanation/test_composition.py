"""Programs compose the rows of coalitions themselves: same numbers, little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, explanation, layers
from handmill.explanation import composition
from handmill.explanation.black_box import BlackBox
from handmill.explanation.players import players_for

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7)).astype("float32")
BACKGROUND = RNG.normal(size=(5, 7)).astype("float32")


def net(*inner: Any, shape: tuple[int, ...] = (7,), dtype: str = "float32") -> Any:
    model = handmill.Sequential([handmill.Input(shape, dtype=dtype), *inner])
    draw = np.random.default_rng(3)
    model.set_weights([draw.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def table() -> Any:
    return net(layers.Dense(8, "tanh"), layers.Dense(3, "softmax"))


def images() -> tuple[Any, Any]:
    model = net(
        layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(2, "softmax"),
        shape=(9, 9, 2),
    )  # fmt: skip
    return model, RNG.random((2, 9, 9, 2)).astype("float32")


def asked_of_words() -> Any:
    inner = layers.Embedding(9, 2), layers.Flatten(), layers.Dense(2)
    words = net(*inner, shape=(4,), dtype="int32")
    rows = RNG.integers(0, 9, (2, 4))
    return lambda f: explanation.shap(f(words), rows, np.zeros((1, 4), int), target=1)


def cases() -> dict[str, Callable[[Callable[[Any], Any]], Any]]:
    model, (conv, x) = table(), images()
    groups = [[0, 3], [1, 2], [4, 5, 6]]
    same = np.concatenate([X[:, :3], np.broadcast_to(BACKGROUND[:1, 3:], (2, 4))], 1)
    return {
        "exact": lambda f: explanation.shap(f(model), X, BACKGROUND, 1, "exact"),
        "kernel": lambda f: explanation.shap(f(model), X, BACKGROUND, (1, 0), "kernel"),
        "permutation": lambda f: explanation.shap(f(model), X, BACKGROUND, 2, "permutation"),
        "few vary": lambda f: explanation.shap(f(model), same, BACKGROUND[:1], 1, "exact"),
        "groups": lambda f: explanation.shap(f(model), X, BACKGROUND, 1, groups=groups),
        "ablation": lambda f: explanation.feature_ablation(f(model), X, BACKGROUND, 0),
        "words": asked_of_words(),
        "occlusion": lambda f: explanation.occlusion(f(conv), x, 1, window=3, strides=2),
        "segments": lambda f: explanation.shap(f(conv), x, 0.0, 1, segments=3),
        "lime": lambda f: explanation.lime(f(conv), x, target=1, num_samples=300, segments=3),
    }


@pytest.mark.parametrize("name", cases())
def test_programs_compose_as_numpy_does(name: str) -> None:
    """A function of rows gets them composed in NumPy; a model composes them in its feed."""
    case = cases()[name]
    found = case(lambda model: model)
    by_function = case(lambda model: lambda rows: model.predict(rows, verbose=0))
    with handmill.use_backend("numpy"):
        by_numpy = case(lambda model: model)
    for other in (by_function, by_numpy):
        np.testing.assert_allclose(found.values, other.values, rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(found.scores, other.scores, rtol=1e-5)
        assert found.details["evaluations"] == other.details["evaluations"]


def test_models_that_are_more_than_a_program_are_asked_by_predict() -> None:
    calls = []

    class Own(handmill.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.inner(x)

        def predict(self, x: Any, *args: Any, **options: Any) -> Any:
            calls.append(len(x))
            return super().predict(x, *args, **options) + 1

    own = Own()
    own(X)
    found = explanation.shap(own, X, BACKGROUND, 1)
    assert sum(calls) == found.details["evaluations"] > 100
    np.testing.assert_allclose(found.gap, 0, atol=1e-5)
    eager = table()
    eager.compile(run_eagerly=True)
    kept = explanation.shap(table(), X, BACKGROUND, 1)
    np.testing.assert_allclose(
        explanation.shap(eager, X, BACKGROUND, 1).values, kept.values, atol=1e-6
    )


def test_same_bytes_for_any_threads_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, threads = table(), config.num_threads()
    want = [explanation.shap(model, X, BACKGROUND, 1, m).values for m in ("exact", "kernel")]
    try:
        for count in (1, 2, 3, 7):
            config.set_num_threads(count)
            for method, values in zip(("exact", "kernel"), want, strict=True):
                found = explanation.shap(model, X, BACKGROUND, 1, method)
                assert found.values.tobytes() == values.tobytes()
    finally:
        config.set_num_threads(threads)
    monkeypatch.setattr(composition, "_COLLECTED_ROWS", 64)
    for method, values in zip(("exact", "kernel"), want, strict=True):
        found = explanation.shap(model, X, BACKGROUND, 1, method).values
        np.testing.assert_allclose(found, values, atol=1e-7)


def held(players: int, rows: int) -> tuple[int, int]:
    """How many rows a program composed, and the most bytes that arrays and plans held meanwhile."""
    _core = pytest.importorskip("handmill._core", reason="a build without kernels")
    model = net(layers.Dense(1), shape=(players,))
    x, background = np.ones(players, "float32"), np.zeros((rows, players), "float32")
    box = BlackBox(model, x[None])
    composer = box.composer(players_for([x[None]]), [background])
    targets, _, _ = box.explain([x[None]], None, None)
    asked = box.evaluations
    before = _core.plan_bytes()
    tracemalloc.start()
    try:
        total = 0.0
        everybody = np.arange(players)
        for _, values in composer.blocks([x], everybody, None, box.scoring(targets, 0)):
            total += values.sum()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    weights, bias = (w.astype(float).sum() for w in model.get_weights())
    assert total == pytest.approx((weights / 2 + bias) * rows * 2**players, rel=1e-3)
    return box.evaluations - asked, most + _core.plan_bytes() - before


def test_memory_does_not_grow_with_coalitions() -> None:
    few, small = held(12, 20)
    many, large = held(16, 20)
    assert (few, many) == (81_920, 1_310_720)
    assert large < small + 500_000 < 6_000_000


@pytest.mark.slow
def test_memory_of_ten_million_rows() -> None:
    rows, most = held(18, 40)
    assert rows == 10_485_760  # x 18 features x 4 bytes: 755 MB
    assert most < 6_000_000
