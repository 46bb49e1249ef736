"""Layers, metrics and models as functions of their variables."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import layers, metrics, ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3)).astype("float32")


def test_stateless_call():
    layer = layers.BatchNormalization(momentum=0.5)
    layer.build((None, 3))
    before = layer.get_weights()
    gamma, beta = np.full(3, 2.0, "float32"), np.full(3, 1.0, "float32")
    moving = [np.zeros(3, "float32"), np.ones(3, "float32")]
    y, others = layer.stateless_call([gamma, beta], moving, X, training=True)
    np.testing.assert_allclose(np.mean(y, 0), 1.0, atol=1e-6)
    np.testing.assert_allclose(others[0], 0.5 * X.mean(0), rtol=1e-5)
    for kept, now in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)
    dense = layers.Dense(2, kernel_regularizer=handmill.regularizers.L2(1.0))
    with pytest.raises(ValueError, match="must be built"):
        dense.stateless_call([], [], X)
    dense.build((None, 3))
    kernel = np.full((3, 2), 2.0, "float32")
    y, none, losses = dense.stateless_call([kernel, np.zeros(2)], [], X, return_losses=True)
    np.testing.assert_allclose(y, X @ kernel, rtol=1e-5)
    assert none == []
    assert [float(loss) for loss in losses] == [24.0]
    for wrong in (([kernel], []), ([kernel, np.zeros(2)], [kernel])):
        with pytest.raises(ValueError, match="1:1"):
            dense.stateless_call(*wrong, X)


def test_values_come_back_after_an_error():
    layer = layers.Dense(2)
    layer.build((None, 3))
    before = layer.get_weights()
    with pytest.raises(ValueError, match="incompatible"):
        layer.stateless_call([np.ones((3, 2)), np.ones(2)], [], X[:, :2])
    for kept, now in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_stateless_metrics():
    metric = metrics.MeanSquaredError()
    start = metric.stateless_reset_state()
    one = metric.stateless_update_state(start, X, X + 1.0)
    two = metric.stateless_update_state(one, X, X + 3.0)
    assert float(metric.stateless_result(two)) == pytest.approx(5.0, rel=1e-5)
    assert float(metric.stateless_result(one)) == pytest.approx(1.0, rel=1e-5)
    assert float(metric.result()) == 0.0
    with pytest.raises(ValueError, match="1:1"):
        metric.stateless_result(two[:1])


def small():
    handmill.utils.clear_session()
    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(2, name="d")], name="m")
    model.compile("adam", "mse", metrics=["mae"])
    return model


def test_state_tree():
    model = small()
    model.fit(X, X[:, :2], verbose=0)
    found = model.get_state_tree("numpy_array")
    assert set(found) == {
        "trainable_variables", "non_trainable_variables", "optimizer_variables",
        "metrics_variables",
    }  # fmt: skip
    np.testing.assert_array_equal(
        found["trainable_variables"]["m"]["d"]["kernel"], model.get_weights()[0]
    )
    assert "m_d_kernel_momentum" in found["optimizer_variables"]["adam"]
    other = small()
    other.optimizer.build(other.trainable_variables)
    other.set_state_tree({k: v for k, v in found.items() if k != "metrics_variables"})
    a = model.fit(X, X[:, :2], epochs=2, verbose=0, shuffle=False).history
    b = other.fit(X, X[:, :2], epochs=2, verbose=0, shuffle=False).history
    assert a == b


def test_state_trees_that_do_not_fit():
    model = small()
    before = model.get_weights()
    kernel = np.ones((3, 2), "float32")
    wrong = (
        ({"weights": {}}, "Unknown variable name: weights"),
        ({"trainable_variables": {"m": {"e": {"kernel": kernel}}}}, "'m/e/kernel'"),
        (
            {"trainable_variables": {"m": {"d": {"kernel": kernel, "bias": kernel}}}},
            r"shape \(3, 2\), the variable \(2,\)",
        ),
    )
    for values, problem in wrong:
        with pytest.raises(ValueError, match=problem):
            model.set_state_tree(values)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    with pytest.raises(ValueError, match="value_format"):
        model.get_state_tree("torch")
    twice = handmill.Sequential([handmill.Input((3,)), layers.Dense(2)])
    twice.layers[0].bias.path = twice.layers[0].kernel.path
    with pytest.raises(ValueError, match="found twice"):
        twice.get_state_tree()


def test_functions():
    x, y = handmill.Input((2,), name="x"), handmill.Input((2,), name="y")
    dense = layers.Dense(3)
    function = handmill.Function({"x": x, "y": y}, [dense(x) + 1.0, ops.exp(y)])
    given = {"x": X[:, :2], "y": X[:, 1:]}
    first, second = function(given)
    np.testing.assert_allclose(first, np.asarray(dense(X[:, :2])) + 1.0, rtol=1e-5)
    np.testing.assert_allclose(second, np.exp(X[:, 1:]), rtol=1e-5)
    assert [w.name for w in function.trainable_weights] == ["kernel", "bias"]
    assert [t.shape for t in function(dict(x=x, y=y))] == [(None, 3), (None, 2)]
    with pytest.raises(ValueError, match="expects 2 inputs"):
        function([X])
    with pytest.raises(ValueError, match="KerasTensors"):
        handmill.Function(X, y)
    with pytest.raises(ValueError, match="disconnected"):
        handmill.Function(x, ops.exp(y))
    for tensor, names in ((dense(x) + y[:, :1], {"x", "y"}), (dense(x) * x[:, :1], {"x"})):
        assert {t.name for t in handmill.utils.get_source_inputs(tensor)} == names


def test_small_utilities():
    from handmill import utils

    assert utils.is_keras_tensor(handmill.Input((1,)))
    assert not utils.is_keras_tensor(X)
    assert utils.standardize_dtype(X.dtype) == utils.standardize_dtype("float32") == "float32"
    assert utils.standardize_dtype(np.int64) == "int64"
    torch = pytest.importorskip("torch")
    for name in ("float32", "float64", "bfloat16", "int8", "uint8", "int32", "int64", "bool"):
        assert utils.standardize_dtype(getattr(torch, name)) == name
    made = handmill.layers.Dense(2, dtype=torch.bfloat16)
    assert made.compute_dtype == "bfloat16"
    with pytest.raises(ValueError, match="Invalid dtype: 'float31'"):
        utils.standardize_dtype("float31")
    found = utils.Config(a=1)
    found.b = 2
    found["c"] = 3
    assert (found.a, found["b"], list(found), len(found)) == (1, 2, ["a", "b", "c"], 3)
    assert found.as_dict() == {"a": 1, "b": 2, "c": 3}
    assert found.pop("c") == 3
    with pytest.raises(AttributeError, match="Did you mean 'alpha'"):
        _ = utils.Config(alpha=1).alpho
    with pytest.raises(AttributeError, match="method or property"):
        found.items = 3
    found.freeze()
    for change in (
        lambda: setattr(found, "a", 2),
        lambda: found.update(a=2),
        lambda: found.pop("a"),
        lambda: found.__delitem__("a"),
    ):
        with pytest.raises(ValueError, match="frozen"):
            change()
    found.unfreeze()
    found.a = 5
    assert found.get("a") == 5
    assert found.get("z", 7) == 7
