"""Masks: made, carried from layer to layer, handed to layers, losses and metrics. As in Keras."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.ir.trace import array_masks, mask_of
from handmill.layers.eager import _PLAIN

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5, 3)).astype("float32")
X[0, 3:] = X[1, 1] = X[2] = 0.0
Y = RNG.normal(size=(4, 5, 2)).astype("float32")
MASK = (X != 0).any(-1)


class Seen(layers.Layer):
    """Notes the mask that it is handed, as a number for each step."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        return ops.cast(ops.full(inputs.shape[:2], -1.0) if mask is None else mask, "float32")


def test_masking_hides_steps_from_those_behind_it() -> None:
    model = handmill.Sequential(
        [
            handmill.Input((5, 3)),
            layers.Masking(),
            layers.Dense(4, activation="relu"),
            layers.Dropout(0.5),
            Seen(),
        ]
    )
    np.testing.assert_array_equal(model(X), MASK)


def test_mask_goes_through_models_and_can_be_passed() -> None:
    inner = handmill.Sequential([handmill.Input((5, 3)), layers.Activation("tanh"), Seen()])
    inputs = handmill.Input((5, 3))
    outer = handmill.Model(inputs, inner(layers.Masking()(inputs)))
    np.testing.assert_array_equal(outer(X), MASK)
    np.testing.assert_array_equal(inner(X, mask=~MASK), ~MASK)
    np.testing.assert_array_equal(Seen()(X, mask=~MASK), ~MASK)
    assert (Seen()(X) == -1).all()


def test_masks_of_several_arguments_are_told_apart() -> None:
    class Two(layers.Layer):
        def call(
            self, query: Any, value: Any, query_mask: Any = None, value_mask: Any = None
        ) -> Any:
            assert query_mask is None
            return ops.cast(value_mask, "float32")

    q, v = handmill.Input((5, 3)), handmill.Input((5, 3))
    model = handmill.Model([q, v], Two()(q, layers.Masking()(v)))
    np.testing.assert_array_equal(model([X, X]), MASK)


def test_a_layer_that_knows_no_masks_says_so() -> None:
    class Plain(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2.0

    inputs = handmill.Input((5, 3))
    with pytest.warns(UserWarning, match="does not support masking and will therefore destroy"):
        masked = Plain()(layers.Masking()(inputs))
    assert masked.mask is None


def test_a_layer_changes_the_mask_by_compute_mask() -> None:
    class Half(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs[:, ::2]

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            return mask[:, ::2]

    inputs = handmill.Input((5, 3))
    model = handmill.Model(inputs, Seen()(Half()(layers.Masking()(inputs))))
    np.testing.assert_array_equal(model(X), MASK[:, ::2])


@pytest.mark.parametrize("reduction", ("sum_over_batch_size", "sum", "mean_with_sample_weight"))
@pytest.mark.parametrize("weights", (None, "steps"))
def test_losses_leave_masked_steps_out(reduction: str, weights: str | None) -> None:
    model = handmill.Sequential([handmill.Input((5, 3)), layers.Masking(), layers.Dense(2)])
    loss = handmill.losses.MeanSquaredError(reduction=reduction)
    model.compile("sgd", loss)
    factor = np.arange(20.0).reshape(4, 5) if weights else np.ones((4, 5))
    sample_weight = factor if weights else None
    found = model.evaluate(X, Y, sample_weight=sample_weight, verbose=0)
    errors = np.square(model.predict(X, verbose=0) - Y).mean(-1) * MASK
    total = (errors * factor).sum()
    want = {
        "sum_over_batch_size": total / MASK.sum(),
        "sum": total,
        "mean_with_sample_weight": total / (factor * MASK).sum(),
    }[reduction]
    assert found == pytest.approx(want, rel=1e-5)


def test_metrics_leave_masked_steps_out() -> None:
    model = handmill.Sequential([handmill.Input((5, 3)), layers.Masking(), layers.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
    found = model.evaluate(X, Y, verbose=0, return_dict=True)
    errors = model.predict(X, verbose=0) - Y
    assert found["mae"] == pytest.approx(np.abs(errors).mean(-1)[MASK].mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(np.square(errors).mean(-1)[MASK].mean(), rel=1e-5)


def test_a_batch_without_anything_to_learn_from_changes_nothing() -> None:
    model = handmill.Sequential([handmill.Input((5, 3)), layers.Masking(), layers.Dense(2)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    assert model.train_on_batch(np.zeros_like(X), Y) == 0.0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def build(library: Any, merge: str) -> Any:
    """Two masked inputs, merged, normalised and projected."""
    k = library.layers
    a, b = library.Input((5, 3)), library.Input((5, 3))
    masked = [k.Masking()(a), k.Masking(mask_value=1.0)(b)]
    merged = getattr(k, merge)()(masked)
    normal = k.BatchNormalization()(merged)
    return library.Model([a, b], k.Dense(2)(normal))


@pytest.mark.peers
@pytest.mark.parametrize(
    "merge", ("Add", "Average", "Multiply", "Maximum", "Minimum", "Concatenate", "Subtract")
)
def test_training_with_masks_is_that_of_keras(keras: Any, merge: str) -> None:
    second = RNG.normal(size=X.shape).astype("float32")
    second[3, :2] = 1.0
    ours, theirs = build(handmill, merge), build(keras, merge)
    weights = [RNG.uniform(0.2, 1.0, w.shape) for w in ours.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    results = []
    for library, model in ((handmill, ours), (keras, theirs)):
        model.compile(library.optimizers.SGD(0.1), "mse", metrics=["mae"])
        history = model.fit([X, second], Y, batch_size=2, epochs=2, shuffle=False, verbose=0)
        results.append((history.history, [np.array(w.value) for w in model.weights]))
    for name in ("loss", "mae"):
        np.testing.assert_allclose(results[0][0][name], results[1][0][name], rtol=2e-5)
    for mine, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("merge", ("Add", "Multiply", "Maximum", "Concatenate"))
def test_masks_travel_in_steps_that_python_runs(merge: str) -> None:
    second = RNG.normal(size=X.shape).astype("float32")
    second[3, :2] = 1.0
    found = []
    for eagerly in (False, True):
        handmill.utils.set_random_seed(3)
        model = build(handmill, merge)
        model.compile("sgd", "mse", metrics=["mae"], run_eagerly=eagerly)
        history = model.fit([X, second], Y, epochs=2, shuffle=False, verbose=0).history
        scores = model.evaluate([X, second], Y, verbose=0)
        found.append([*history["loss"], *history["mae"], *scores, *model.get_weights()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_masks_of_a_step_that_python_runs_end_with_its_arrays() -> None:
    seen: list[Any] = []

    class Noting(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.supports_masking = True

        def call(self, inputs: Any, mask: Any = None) -> Any:
            seen.append((inputs, mask))
            return inputs

    inputs = handmill.Input((5, 3))
    model = handmill.Model(inputs, Noting()(layers.Masking()(inputs)))
    seen.clear()
    model.compile("sgd", "mse", run_eagerly=True)
    model.evaluate(X, X, verbose=0)
    array, mask = seen.pop()
    np.testing.assert_array_equal(mask, MASK)
    assert mask_of(X) is None
    assert id(array) in array_masks
    before = len(array_masks)
    del array
    assert len(array_masks) == before - 1


def test_arrays_carry_masks_from_call_to_call() -> None:
    masked = layers.Masking()(X)
    np.testing.assert_array_equal(mask_of(masked), MASK)
    dense = layers.Dense(2)
    projected = dense(masked)
    np.testing.assert_array_equal(Seen()(projected), MASK)
    assert (Seen()(dense(X)) == -1).all()  # the same layer, handed no mask
    np.testing.assert_array_equal(Seen()(projected, mask=~MASK), ~MASK)
    assert mask_of(layers.Add()([masked, X])) is None
    np.testing.assert_array_equal(
        mask_of(layers.Add()([masked, layers.Masking()(X[::-1])])), MASK | MASK[::-1]
    )
    model = handmill.Sequential([handmill.Input((5, 3)), Seen()])
    np.testing.assert_array_equal(model(masked), MASK)
    with pytest.warns(UserWarning, match="does not support masking and will therefore destroy"):
        assert mask_of(layers.Reshape((15,))(masked)) is None
    value = handmill.losses.MeanSquaredError()(Y, projected)
    np.testing.assert_allclose(value, ((projected - Y) ** 2).mean(-1)[MASK].mean(), rtol=1e-5)
    metric = handmill.metrics.MeanSquaredError()
    metric.update_state(Y, projected)
    np.testing.assert_allclose(metric.result(), value, rtol=1e-5)


def test_masks_of_arrays_travel_under_a_tape_too() -> None:
    layer = layers.Dense(2)
    layer.build((None, 5, 3))
    with handmill.GradientTape() as tape:
        projected = layer(layers.Masking()(X))
        loss = handmill.losses.MeanSquaredError()(Y, projected)
    np.testing.assert_array_equal(mask_of(projected), MASK)
    grads = tape.gradient(loss, layer.trainable_weights)
    wanted = 2 * (np.asarray(projected) - Y)[MASK].sum(0) / (MASK.sum() * Y.shape[-1])
    np.testing.assert_allclose(grads[1], wanted, rtol=1e-4)


def test_masks_of_arrays_are_forgotten_with_them() -> None:
    layer = layers.Masking()
    layer(X)
    before = len(array_masks)
    masked = layer(X)
    assert len(array_masks) == before + 1
    owned = X.copy()
    assert Seen()(owned, mask=MASK) is not owned
    assert mask_of(owned) is None
    assert mask_of(masked.copy()) is None
    mask = weakref.ref(mask_of(masked))
    del masked
    assert len(array_masks) == before
    assert mask() is None


def test_calls_of_layers_that_make_no_masks_compute_none() -> None:
    layer = layers.Dense(2)
    before = dict(array_masks)
    layer(X)
    assert list(layer._programs) == [_PLAIN, None]
    masked = layers.Masking()(X)
    layer(X)
    assert list(layer._programs) == [_PLAIN, None]  # though masks of other arrays are there
    del masked
    assert array_masks == before
