"""Layers called on symbolic tensors: what equal layers give is known after the first."""

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.layers import output_spec


@pytest.fixture
def traced(monkeypatch):
    """The names of the classes whose calls were traced to know their outputs."""
    found = []
    trace = output_spec.traced

    def note(layer, args, kwargs):
        found.append(type(layer).__name__)
        return trace(layer, args, kwargs)

    monkeypatch.setattr(output_spec, "traced", note)
    monkeypatch.setattr(output_spec, "_KNOWN", {})
    return found


def test_a_second_equal_layer_is_not_traced(traced):
    def make(units):
        return handmill.Sequential(
            [handmill.Input((6,)), layers.Dense(units, "relu"), layers.Dropout(0.5)]
        )

    first = make(4)
    assert traced == ["Dense", "Dropout"]
    second = make(4)
    assert traced == ["Dense", "Dropout"]
    assert second.output_shape == first.output_shape == (None, 4)
    assert [v.shape for v in second.weights] == [(6, 4), (4,)]
    assert make(5).output_shape == (None, 5)
    assert traced == ["Dense", "Dropout"] * 2
    x = np.ones((3, 6), "float32")
    np.testing.assert_allclose(
        second(x), np.maximum(x @ second.layers[0].kernel.numpy(), 0), rtol=1e-5
    )


def test_inputs_attributes_and_settings_count():
    flat = handmill.Input((6,))
    for target in ((2, 3), (3, 2), (6, 1)):
        assert layers.Reshape(target)(flat).shape == (None, *target)
    changed = layers.Reshape((2, 3))
    changed(flat)
    changed.target_shape = (1, 6)
    assert changed(flat).shape == (None, 1, 6)
    assert layers.ReLU()(handmill.Input((6,), dtype="float64")).dtype == "float32"
    assert layers.ReLU(dtype="float64")(flat).dtype == "float64"
    assert layers.ReLU()(handmill.Input((2, 6))).shape == (None, 2, 6)
    assert layers.ReLU()(handmill.Input(batch_shape=(4, 6))).shape == (4, 6)


def test_lengths_keep_their_own_symbols():
    for _ in range(2):
        a, b = handmill.Input((None, 3)), handmill.Input((None, 3))
        model = handmill.Model([a, b], [layers.ReLU()(a), layers.ReLU()(b)])
        one, other = model([np.ones((2, 4, 3), "float32"), np.ones((2, 5, 3), "float32")])
        assert (one.shape, other.shape) == ((2, 4, 3), (2, 5, 3))


def test_layers_of_users_are_traced_each_time(traced):
    sizes = [2]

    class Repeated(layers.Layer):
        def call(self, x):
            return ops.concatenate([x] * sizes[0], axis=-1)

    class Wide(layers.Dense):
        def call(self, x):
            return ops.concatenate([super().call(x)] * sizes[0], axis=-1)

    x = handmill.Input((6,))
    assert (Repeated()(x).shape, Wide(2)(x).shape) == ((None, 12), (None, 4))
    sizes[0] = 3
    assert (Repeated()(x).shape, Wide(2)(x).shape) == ((None, 18), (None, 6))
    assert traced == ["Repeated", "Wide"] * 2


def test_a_function_of_a_user_inside_is_traced_each_time(traced):
    x = handmill.Input((6,))
    for times in (2, 3):
        layer = layers.Activation(lambda y, n=times: ops.concatenate([y] * n, axis=-1))
        assert layer(x).shape == (None, 6 * times)
    assert traced == ["Activation"] * 2


def test_masks_are_not_lost():
    for _ in range(3):
        tensor = layers.Dense(2)(layers.Masking()(handmill.Input((5, 3))))
        assert tensor.mask is not None
        assert layers.Dense(2)(handmill.Input((5, 3))).mask is None


def test_inner_models_are_built_each_time():
    for _ in range(3):
        inner = handmill.Sequential([layers.Dense(4), layers.Dense(2)])
        outer = handmill.Sequential([handmill.Input((3,)), inner, layers.Dense(1)])
        assert len(outer.weights) == 6
        assert inner(np.ones((1, 3), "float32")).shape == (1, 2)
        assert outer(np.ones((1, 3), "float32")).shape == (1, 1)


def test_what_does_not_fit_is_refused_each_time():
    for _ in range(2):
        layer = layers.Dense(2, name="head")
        layer(handmill.Input((3,)))
        with pytest.raises(ValueError, match=r'"head".*incompatible'):
            layer(handmill.Input((4,)))
        with pytest.raises(ValueError, match=r'"head".*\n.*in layer "head"'):
            layers.Dense(2, name="head")(handmill.Input(()))


def test_losses_of_symbolic_calls_are_no_losses_of_the_layer():
    for _ in range(2):
        layer = layers.Dense(2, activity_regularizer="l2")
        layer(handmill.Input((3,)))
        assert layer.losses == []


def test_a_warning_is_given_each_time():
    for _ in range(3):
        with pytest.warns(UserWarning, match="size 1|one"):
            handmill.Sequential([handmill.Input((3,)), layers.Dense(1, activation="softmax")])
