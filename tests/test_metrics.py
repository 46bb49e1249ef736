"""Metrics on arrays: streaming, weights, names."""

import numpy as np
import pytest

import handmill
from handmill import metrics


def test_mean_streams_and_resets():
    m = metrics.Mean()
    assert m.result() == 0
    m.update_state([1.0, 3.0])
    m.update_state(5.0)
    assert m.result() == 3
    m.reset_state()
    assert m.result() == 0
    m.update_state([1.0, 3.0], sample_weight=[1.0, 0.0])
    assert m.result() == 1


def test_mean_does_not_lose_small_terms():
    m = metrics.Mean()
    m.update_state(np.full(3, 1e8, "float32"))
    m.update_state(np.ones(1, "float32"))
    np.testing.assert_allclose(m.result(), (3e8 + 1) / 4, rtol=1e-7)


def test_sum():
    m = metrics.Sum()
    m.update_state([1.0, 3.0, 5.0], sample_weight=[1.0, 1.0, 0.0])
    assert m.result() == 4
    m.update_state(np.ones((2, 2)))
    assert m.result() == 8


@pytest.mark.parametrize(
    ("metric", "y", "p", "want"),
    (
        (metrics.Accuracy, [1, 2, 3, 4], [0, 2, 3, 4], 0.75),
        (metrics.BinaryAccuracy, [[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]], 0.75),
        (metrics.CategoricalAccuracy, [[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0, 0.9, 0]], 0.5),
        (metrics.SparseCategoricalAccuracy, [[2], [1]], [[0.1, 0.6, 0.3], [0, 0.9, 0]], 0.5),
        # One label for the three steps of a sample.
        (metrics.SparseCategoricalAccuracy, [[1]], [[[0, 1], [1, 0], [0.2, 0.8]]], 2 / 3),
        (metrics.MeanSquaredError, [[0, 1], [0, 0]], [[1, 1], [0, 0]], 0.25),
        (metrics.RootMeanSquaredError, [[0, 1], [0, 0]], [[1, 1], [0, 0]], 0.5),
        (metrics.MeanAbsoluteError, [[0, 1], [0, 0]], [[1, 1], [0, 0]], 0.25),
    ),
)
def test_values(metric, y, p, want):
    m = metric()
    m.update_state(y, np.asarray(p, "float32"))
    np.testing.assert_allclose(float(m.result()), want, rtol=1e-6)
    np.testing.assert_allclose(float(m(y, np.asarray(p, "float32"))), want, rtol=1e-6)


def test_weighted_accuracy():
    m = metrics.SparseCategoricalAccuracy()
    p = [[0.1, 0.6, 0.3], [0.0, 0.9, 0.1]]
    m.update_state([2, 1], p, sample_weight=[0.7, 0.3])
    np.testing.assert_allclose(m.result(), 0.3, rtol=1e-6)


def test_top_k():
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], "float32")
    for k, want in ((1, 0.0), (2, 0.5), (3, 1.0)):
        m = metrics.SparseTopKCategoricalAccuracy(k=k)
        m.update_state([1, 2], p)
        assert m.result() == want
        m = metrics.TopKCategoricalAccuracy(k=k)
        m.update_state(np.eye(3)[[1, 2]], p)
        assert m.result() == want


def test_names_and_configs():
    assert isinstance(metrics.get("mse"), metrics.MeanSquaredError)
    assert isinstance(metrics.get("CategoricalAccuracy"), metrics.CategoricalAccuracy)
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        metrics.get("accuraccy")
    m = metrics.BinaryAccuracy(threshold=0.3, name="b")
    assert metrics.get(metrics.serialize(m)).get_config() == m.get_config()


def test_own_metric_class():
    class Positives(metrics.Metric):
        def __init__(self, name="positives"):
            super().__init__(name=name)
            self.count = self.add_weight(name="count")

        def update_state(self, y_true, y_pred, sample_weight=None):
            positive = handmill.ops.cast(handmill.ops.greater(y_pred, 0.0), "float32")
            self.count.assign_add(handmill.ops.sum(positive))

        def result(self):
            return self.count.value

    m = Positives()
    m.update_state(None, np.array([1.0, -1.0, 2.0], "float32"))
    assert m.result() == 2

    x = np.linspace(-1, 1, 16, dtype="float32")[:, None]
    model = handmill.Sequential(
        [handmill.Input((1,)), handmill.layers.Dense(1, kernel_initializer="ones")]
    )
    model.compile(handmill.optimizers.SGD(0.0), "mse", metrics=[Positives()])
    history = model.fit(x, x, epochs=2, batch_size=4, verbose=0).history
    assert history["positives"] == [8.0, 8.0]


def test_wrapper_of_a_function():
    m = metrics.MeanMetricWrapper(lambda t, p: handmill.ops.absolute(t - p), name="gap")
    m.update_state(np.zeros(2, "float32"), np.array([1.0, 3.0], "float32"))
    assert m.result() == 2
    assert m.name == "gap"


def test_rmse_of_vectors_counts_every_element_once():
    metric = metrics.RootMeanSquaredError()
    metric.update_state([1.0, 2.0], [2.0, 4.0])
    metric.update_state([5.0], [1.0])
    assert float(metric.result()) == pytest.approx(np.sqrt(21 / 3))
    metric.reset_state()
    metric.update_state([1.0, 2.0], [2.0, 4.0], sample_weight=[1.0, 0.0])
    assert float(metric.result()) == 1.0


def test_metric_objects_start_again_in_each_model():
    x, y = np.ones((8, 1), "float32"), np.full((8, 1), 3.0, "float32")
    shared = [metrics.MeanAbsoluteError(name="mae")]

    def model(slope):
        start = handmill.initializers.Constant(slope)
        made = handmill.Sequential(
            [handmill.Input((1,)), handmill.layers.Dense(1, kernel_initializer=start)]
        )
        made.compile(handmill.optimizers.SGD(0.0), "mse", metrics=shared)
        return made

    first, second = model(1.0), model(2.0)
    assert first.evaluate(x, y, verbose=0)[1] == 2.0
    assert second.evaluate(x, y, verbose=0)[1] == 1.0
    assert model(0.0).fit(x, y, verbose=0).history["mae"] == [3.0]


def measured(given):
    """A model without weights to learn, its numbers by name after one batch, and its metrics."""
    x, y = np.ones((8, 1), "float32"), np.full((8, 1), 3.0, "float32")
    start = handmill.initializers.Constant(1.0)
    model = handmill.Sequential(
        [handmill.Input((1,)), handmill.layers.Dense(1, kernel_initializer=start)]
    )
    model.compile(handmill.optimizers.SGD(0.0), "mse", metrics=given)

    def numbers():
        logs = model.train_on_batch(x, y, return_dict=True)
        # A list begins with the loss; names are sorted in what goes by names.
        assert list(logs) == sorted(logs)
        assert model.train_on_batch(x, y) == [logs["loss"], *(logs[n] for n in logs if n != "loss")]
        assert model.evaluate(x, y, verbose=0, return_dict=True) == logs
        assert model.fit(x, y, verbose=0).history == {k: [v] for k, v in logs.items()}
        return logs

    numbers()
    return numbers


def test_results_follow_what_is_done_to_a_metric():
    """Numbers are read from the states of means directly, but no override is passed over."""
    mae = metrics.MeanAbsoluteError(name="mae")
    numbers = measured([mae])
    assert numbers() == {"loss": 4.0, "mae": 2.0}
    mae.name = "renamed"
    assert numbers() == {"loss": 4.0, "renamed": 2.0}
    mae.result = lambda: 7.0
    assert numbers() == {"loss": 4.0, "renamed": 7.0}


def test_results_of_metrics_with_a_result_of_their_own():
    class Halved(metrics.MeanAbsoluteError):
        def result(self):
            return handmill.ops.multiply(super().result(), 0.5)

    assert measured([Halved(name="half"), "mae"])() == {"loss": 4.0, "half": 1.0, "mae": 2.0}
    rmse = metrics.RootMeanSquaredError(name="rmse")
    assert measured([rmse])() == {"loss": 4.0, "rmse": 2.0}


def test_metrics_of_one_name_all_show():
    pair = [metrics.MeanAbsoluteError(name="m"), metrics.MeanSquaredError(name="m")]
    assert measured(pair)() == {"loss": 4.0, "m": 2.0, "m_1": 4.0}


def test_a_metric_given_another_inside_resets_it_too():
    outer, inner = metrics.Mean(), metrics.Mean()
    outer.reset_state()
    outer.inner = inner
    inner.update_state([4.0])
    assert outer.variables[-2:] == inner.variables
    outer.reset_state()
    assert float(inner.result()) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("policy", ("float32", "mixed_bfloat16"))
def test_a_metric_updated_inside_a_layer_is_reported(policy):
    if policy == "mixed_bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")

    class Watched(handmill.layers.Layer):
        def __init__(self):
            super().__init__(dtype=policy)
            self.size = metrics.Mean(name="size")

        def call(self, x):
            self.size.update_state(handmill.ops.mean(x))
            return x

    x = np.ones((8, 3), "float32")
    inputs = handmill.Input((3,))
    model = handmill.Model(inputs, handmill.layers.Dense(1)(Watched()(inputs)))
    model.compile("sgd", "mse")
    assert model.fit(x, x[:, :1], verbose=0).history["size"] == [1.0]
    assert model.evaluate(x, x[:, :1], verbose=0, return_dict=True)["size"] == 1.0


def test_a_metric_of_a_user_may_keep_another_under_any_name():
    class Wrapper(handmill.metrics.Metric):
        def __init__(self):
            super().__init__(name="wrapper")
            self._inner = handmill.metrics.Mean()

        def update_state(self, y_true, y_pred, sample_weight=None):
            self._inner.update_state(y_pred)

        def result(self):
            return self._inner.result()

    metric = Wrapper()
    metric.update_state([0.0], [3.0])
    assert len(metric.variables) == 2
    assert float(metric.result()) == 3.0
    metric.reset_state()
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("kind", (list, tuple, dict))
def test_metrics_in_the_containers_of_a_metric_belong_to_it(kind):
    class Parts(metrics.Metric):
        def __init__(self):
            super().__init__(name="parts")
            inner = [metrics.Mean(), metrics.Sum()]
            self.parts = dict(enumerate(inner)) if kind is dict else kind(inner)

        def update_state(self, y_true, y_pred, sample_weight=None):
            for part in handmill.tree.flatten(self.parts):
                part.update_state(y_pred)

        def result(self):
            return self.parts[1].result()

    metric = Parts()
    assert len(metric.variables) == 3
    if kind is not tuple:
        metric.parts[1] = metrics.Mean()
        assert len(metric.variables) == 4
        metric.parts[1] = metrics.Sum()
    x = np.ones((8, 2), "float32")
    model = handmill.Sequential([handmill.Input((2,)), handmill.layers.Identity()])
    model.compile("sgd", "mse", metrics=[metric])
    for _ in range(2):
        assert model.evaluate(x, x, verbose=0, return_dict=True)["parts"] == 16.0
    metric.reset_state()
    assert all(v.numpy() == 0 for v in metric.variables)


def test_variables_in_lists_and_dicts_are_part_of_the_state():
    class Counts(metrics.Metric):
        def __init__(self, seen):
            super().__init__(name="counts")
            self.seen = seen
            self.again = handmill.tree.flatten(seen)[0]
            self.total = self.add_variable((), name="total")

        def update_state(self, y_true, y_pred, sample_weight=None):
            for variable in handmill.tree.flatten(self.seen):
                variable.assign_add(1.0)

        def result(self):
            return self.total + self.again

    for nested in (lambda a, b: [a, b], lambda a, b: {"x": a, "y": [b]}):
        seen = [handmill.Variable(0.0, name="a"), handmill.Variable(0.0, name="b")]
        metric = Counts(nested(*seen))
        assert sorted(v.name for v in metric.variables) == ["a", "b", "total"]
        model = handmill.Sequential([handmill.layers.Input((2,)), handmill.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=[metric])
        x = np.ones((6, 2), "float32")
        history = model.fit(x, x[:, :1], batch_size=2, epochs=2, verbose=0).history
        assert history["counts"] == [3.0, 3.0]  # reset between the epochs
        metric.reset_state()
        assert [float(v) for v in seen] == [0.0, 0.0]


def test_a_variable_of_a_metric_may_start_at_an_array():
    metric = metrics.MeanIoU(num_classes=2)
    start = metric.add_variable((2, 2), np.array([[1, 2], [3, 4]]), dtype="int", name="start")
    np.testing.assert_array_equal(start.numpy(), [[1, 2], [3, 4]])
    assert start.dtype == "int32"
    with pytest.raises(ValueError, match=r"expected initial values of shape \(3,\)"):
        metric.add_variable((3,), np.zeros(2))
