"""Losses on arrays: values, reductions, weights, names."""

import numpy as np
import pytest

import handmill
from handmill import layers, losses, ops

RNG = np.random.default_rng(0)
Y = np.array([[0.0, 1.0], [0.0, 0.0]], "float32")
P = np.array([[0.6, 0.4], [0.4, 0.6]], "float32")


@pytest.mark.parametrize(
    ("reduction", "want"),
    (
        ("sum_over_batch_size", 0.31),
        ("mean", 0.31),
        ("sum", 0.62),
        (None, [0.36, 0.26]),
        ("none", [0.36, 0.26]),
        ("mean_with_sample_weight", 0.31),
    ),
)
def test_reductions(reduction, want):
    loss = losses.MeanSquaredError(reduction=reduction)
    np.testing.assert_allclose(loss(Y, P), want, rtol=1e-5)


@pytest.mark.parametrize(
    ("reduction", "want"),
    (("sum_over_batch_size", 0.49), ("sum", 0.98), ("mean_with_sample_weight", 0.98 / 3)),
)
def test_sample_weights(reduction, want):
    loss = losses.MeanSquaredError(reduction=reduction)
    np.testing.assert_allclose(loss(Y, P, sample_weight=[2.0, 1.0]), want, rtol=1e-5)


def test_unknown_reduction():
    with pytest.raises(ValueError, match="Invalid value for argument `reduction`"):
        losses.MeanSquaredError(reduction="average")


def test_clipping_as_keras_does():
    got = losses.binary_crossentropy([[1.0]], [[0.0]])
    np.testing.assert_allclose(got, -np.log(1e-7), rtol=1e-5)
    got = losses.categorical_crossentropy([[1.0, 0.0]], [[0.0, 1.0]])
    np.testing.assert_allclose(got, -np.log(1e-7), rtol=1e-5)


def test_categorical_renormalises():
    got = losses.categorical_crossentropy([[1.0, 0.0]], [[0.2, 0.2]])
    np.testing.assert_allclose(got, np.log(2), rtol=1e-6)


@pytest.mark.parametrize("size", (1e3, 1e30))
def test_huge_logits_stay_finite(size):
    logits = np.array([[size, -size, 0.0]], "float32")
    got = losses.sparse_categorical_crossentropy([0], logits, from_logits=True)
    np.testing.assert_array_equal(got, [0.0])
    assert np.isfinite(losses.binary_crossentropy([[1.0]], [[-1e3]], from_logits=True)).all()


def test_column_of_labels_is_squeezed():
    p = np.array([[0.1, 0.9], [0.5, 0.5]], "float32")
    want = losses.sparse_categorical_crossentropy([1, 0], p)
    np.testing.assert_array_equal(losses.sparse_categorical_crossentropy([[1], [0]], p), want)


def test_labels_out_of_range_are_refused():
    p = np.full((3, 2), 0.5, "float32")
    with pytest.raises(ValueError, match=r"label 5 .*row 2"):
        losses.SparseCategoricalCrossentropy()([0, 1, 5], p)


def test_one_hot_labels_are_refused_by_the_loss_alone():
    p = np.full((2, 3), 1 / 3, "float32")
    with pytest.raises(ValueError, match="same shape up until the last dimension"):
        losses.SparseCategoricalCrossentropy()(np.eye(3)[:2], p)


@pytest.mark.parametrize(
    "weights", ([1, 0, 1, 0], [[1], [0], [1], [0]], [True, False, True, False])
)
def test_labels_of_100_below_0_may_stand_where_nothing_weighs(weights):
    labels, scores = np.array([2, -100, 0, -100]), RNG.normal(size=(4, 3)).astype("float32")
    clean = np.where(labels < 0, 0, labels)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = handmill.metrics.SparseCategoricalCrossentropy(from_logits=True)
    weights = np.array(weights)
    for given in (labels, labels.astype("float32"), labels.astype("int8"), labels[:, None]):
        assert loss(given, scores, weights) == loss(clean, scores, weights)
        metric.reset_state()
        metric.update_state(given, scores, weights)
        wanted = np.mean([loss(clean[[i]], scores[[i]]) for i in (0, 2)])
        np.testing.assert_allclose(metric.result(), wanted, rtol=1e-6)
    for wrong in (np.where(labels < 0, -1, labels), np.array([-100, 0, 0, 0])):
        with pytest.raises(ValueError, match=f"label {wrong.min()} is not"):
            loss(wrong, scores, weights)


def test_fit_takes_labels_of_100_below_0_without_weight():
    x = RNG.integers(0, 5, (8, 6)).astype("int32")
    y, weights = np.roll(x, 1, 1), np.ones((8, 6), "float32")
    y[:, 3:], weights[:, 3:] = -100, 0
    found = []
    for labels in (y, np.maximum(y, 0)):
        handmill.utils.set_random_seed(1)
        model = handmill.Sequential([layers.Embedding(5, 4), layers.Dense(5)])
        model.compile(
            "sgd",
            losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=["accuracy"],
        )
        model.fit(x, labels, batch_size=4, sample_weight=weights, verbose=0)
        found.append(model.get_weights())
        found[-1].append(model.evaluate(x, labels, sample_weight=weights, verbose=0))
    for mine, other in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, other)
    before = model.get_weights()
    weights[6, 4] = 0.5
    with pytest.raises(ValueError, match="label -100"):
        model.fit(x, y, batch_size=4, sample_weight=weights, shuffle=False, verbose=0)
    for mine, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_ignore_class():
    p = np.array([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]], "float32")
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    want = losses.SparseCategoricalCrossentropy()([1, 0], p[:2])
    np.testing.assert_allclose(loss([1, 0, -1], p), want, rtol=1e-6)


@pytest.mark.parametrize("name", ("mse", "MAE", "huber", "kld", "binary_crossentropy"))
def test_names(name):
    assert callable(losses.get(name))


def test_get_forms():
    assert losses.get(None) is None
    assert isinstance(losses.get(losses.Huber), losses.Huber)
    loss = losses.Huber(delta=2.0)
    again = losses.get(losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    with pytest.raises(ValueError, match="Did you mean 'mse'"):
        losses.get("msee")
    with pytest.raises(ValueError, match="depends on the shapes"):
        losses.get("crossentropy")
    with pytest.raises(ValueError, match="Could not interpret"):
        losses.get(3)


def test_own_loss_class_and_function():
    class Cubic(losses.Loss):
        def call(self, y_true, y_pred):
            return handmill.ops.mean(handmill.ops.absolute(y_true - y_pred) ** 3, axis=-1)

    np.testing.assert_allclose(Cubic()(Y, P), (np.abs(Y - P) ** 3).mean(), rtol=1e-5)
    wrapped = losses.LossFunctionWrapper(lambda t, p: handmill.ops.sum(t - p, axis=-1), name="d")
    np.testing.assert_allclose(wrapped(Y, P), (Y - P).sum(1).mean(), rtol=1e-5)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"targets of shape \(2, 3\) do not fit"):
        losses.mean_squared_error(np.zeros((2, 3)), np.zeros((2, 4)))


def test_integer_targets_and_predictions():
    np.testing.assert_allclose(losses.mean_squared_error([[1, 2]], [[3, 2]]), [2.0])


def test_functions_and_losses_of_users_see_targets_of_the_rank_of_predictions():
    """y of shape (n,) beside predictions (n, 1) must not become (n, n)."""
    y, predictions = np.array([1.0, 2.0, 4.0], "float32"), np.zeros((3, 1), "float32")

    class Mine(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.square(y_true - y_pred)

    def mine(y_true, y_pred):
        return ops.square(y_true - y_pred)

    for loss in (Mine(), losses.LossFunctionWrapper(mine)):
        assert float(loss(y, predictions)) == 7.0
        assert float(loss(y[:, None], predictions[:, 0])) == 7.0
    metric = handmill.metrics.MeanMetricWrapper(mine)
    metric.update_state(y, predictions)
    assert float(metric.result()) == 7.0
