"""Losses, layers, metrics and steps of a user's own: as cheap as built-in ones, in any mixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill as keras
from handmill import config, layers, ops

RNG = np.random.default_rng(5)
X = RNG.normal(size=(64, 8)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")


class OwnDense(layers.Layer):
    """A Dense layer by hand."""

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 16), initializer="glorot_uniform")
        self.bias = self.add_weight((16,), initializer="zeros")

    def call(self, inputs):
        return ops.relu(ops.matmul(inputs, self.kernel) + self.bias)


def huber(y_true, y_pred):
    size = ops.abs(y_true - y_pred)
    return ops.mean(ops.where(size <= 1.0, 0.5 * size * size, size - 0.5), axis=-1)


def from_logits(y_true, y_pred):
    rest = ops.log1p(ops.exp(-ops.abs(y_pred)))
    return ops.mean(ops.relu(y_pred) - y_pred * y_true + rest, axis=-1)


PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mean_squared_error": (
        {"loss": "mse"},
        {"loss": lambda t, p: ops.mean(ops.square(t - p), axis=-1)},
    ),
    "mean_absolute_error": (
        {"loss": "mae"},
        {"loss": lambda t, p: ops.mean(ops.abs(t - p), axis=-1)},
    ),
    "huber": ({"loss": "huber"}, {"loss": huber}),
    "crossentropy": (
        {"loss": keras.losses.BinaryCrossentropy(from_logits=True)},
        {"loss": from_logits},
    ),
    "dense": ({}, {"layer": OwnDense}),
    "activation": ({"activation": "swish"}, {"activation": lambda x: x * ops.sigmoid(x)}),
    "metric": (
        {"metrics": ["mae"]},
        {"metrics": [lambda t, p: ops.mean(ops.abs(t - p), axis=-1)]},
    ),
}


def launches(
    loss: Any = "mse", layer: Any = None, activation: Any = None, metrics: Any = None
) -> tuple[list[str], list[float]]:
    """The kernels of the training plan, and what a step gives."""
    keras.utils.set_random_seed(0)
    first = layers.Dense(16, activation="relu") if layer is None else layer()
    model = keras.Sequential([keras.Input((8,)), first, layers.Dense(1, activation=activation)])
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.weights])
    model.compile("adam", loss, metrics=metrics)
    found = model.train_on_batch(X, Y)
    function, arrays = model.step_to_compare(X, Y)
    kernels = [launch["kernel"] for launch in function.plan(*arrays).summary()]
    return kernels, [*np.ravel(found), *np.ravel(model.evaluate(X, Y, verbose=0))]


@pytest.mark.skipif(not config.has_kernels(), reason="counts kernels")
@pytest.mark.parametrize("name", PAIRS)
def test_code_of_ones_own_has_the_plan_of_what_is_built_in(name: str) -> None:
    built_in, own = PAIRS[name]
    kernels, numbers = launches(**built_in)
    found, results = launches(**own)
    assert len(kernels) > 10
    assert sorted(found) == sorted(kernels)
    np.testing.assert_allclose(results, numbers, rtol=1e-5)


def likelihood(y_true, y_pred):
    classes = ops.cast(ops.reshape(y_true, (-1, 1)), "int32")
    return -ops.log(ops.take_along_axis(y_pred, classes, axis=-1))[:, 0]


@pytest.mark.skipif(not config.has_kernels(), reason="looks at kernels")
def test_a_loss_that_picks_a_class_of_each_row_is_all_kernels() -> None:
    built_in = "sparse_categorical_crossentropy"
    weights: list[Any] = []
    for loss in (built_in, likelihood):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((8,)), layers.Dense(3, activation="softmax")])
        model.compile("sgd", loss, metrics=[likelihood])
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0, shuffle=False)
        function, arrays = model.step_to_compare(X, Y)
        steps = function.plan(*arrays).summary()
        assert "take_along" in [step["kernel"] for step in steps]
        assert not any(step["host"] for step in steps)
        weights.append(model.get_weights())
    for ours, own in zip(*weights, strict=True):
        np.testing.assert_allclose(own, ours, rtol=1e-4, atol=1e-6)


# Several optimizers.


class ActorCritic(keras.Model):
    """A policy and a value, each with its optimizer, in one step."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(3)])
        self.critic = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(1)])

    def compile(self, actor_optimizer: Any, critic_optimizer: Any) -> None:
        super().compile()
        self.actor_optimizer, self.critic_optimizer = actor_optimizer, critic_optimizer

    def call(self, inputs: Any) -> Any:
        return self.actor(inputs), self.critic(inputs)

    def train_step(self, data: Any) -> Any:
        states, actions, returns = data
        with keras.GradientTape() as tape:
            values = self.critic(states)[:, 0]
            critic_loss = ops.mean(ops.square(returns - values))
        weights = self.critic.trainable_variables
        self.critic_optimizer.apply(tape.gradient(critic_loss, weights), weights)
        advantage = ops.stop_gradient(returns - values)
        with keras.GradientTape() as tape:
            chosen = ops.one_hot(actions, 3) * ops.log_softmax(self.actor(states))
            actor_loss = -ops.mean(ops.sum(chosen, axis=-1) * advantage)
        weights = self.actor.trainable_variables
        self.actor_optimizer.apply(tape.gradient(actor_loss, weights), weights)
        return {"actor": actor_loss, "critic": critic_loss}


def test_an_actor_and_its_critic() -> None:
    states = RNG.normal(size=(96, 4)).astype("float32")
    actions = RNG.integers(0, 3, 96).astype("int32")
    returns = (states[:, 0] * (actions == 1)).astype("float32")
    histories = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(0)
        model = ActorCritic()
        model(states[:1])
        model.compile(keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.02))
        model.run_eagerly = eagerly
        actor, critic = model.actor.get_weights(), model.critic.get_weights()
        histories.append(
            model.fit(
                states, actions, sample_weight=returns, batch_size=32, epochs=3, verbose=0,
                shuffle=False,
            ).history
        )  # fmt: skip
        assert int(model.actor_optimizer.iterations) == int(model.critic_optimizer.iterations) == 9
        for part, before in ((model.actor, actor), (model.critic, critic)):
            assert all((a != b).any() for a, b in zip(part.get_weights(), before, strict=True))
    assert histories[0]["critic"][-1] < histories[0]["critic"][0]
    for name in ("actor", "critic"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-3)


# Nested, shared, several outputs, switched.


def shared_model() -> tuple[keras.Model, keras.Model]:
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh")])
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    first, second = encoder(a), encoder(b)
    outputs = {
        "difference": layers.Dense(1, name="difference")(first - second),
        "sum": layers.Dense(1, name="sum")(first + second),
    }
    return keras.Model({"a": a, "b": b}, outputs), encoder


def test_loss_weights_of_a_shared_encoder() -> None:
    """A loss with a weight of 0 moves nothing; gradients of both calls add up."""
    x = {"a": X[:, :4], "b": X[:, 4:]}
    y = {"difference": Y, "sum": -Y}
    moved = {}
    for name, weights in (("both", (1.0, 2.0)), ("first", (1.0, 0.0)), ("second", (0.0, 2.0))):
        model, _ = shared_model()
        before = model.get_weights()
        model.compile(
            keras.optimizers.SGD(0.1),
            {"difference": "mse", "sum": "mse"},
            loss_weights={"difference": weights[0], "sum": weights[1]},
        )
        model.train_on_batch(x, y)
        moved[name] = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
    for both, first, second in zip(*moved.values(), strict=True):
        np.testing.assert_allclose(both, first + second, atol=1e-6)
    assert sum(np.abs(m).sum() > 0 for m in moved["first"]) == 4  # encoder, its own head


@pytest.mark.parametrize("switch", ("encoder", "head", "variable"))
def test_trainable_may_be_switched_at_any_time(switch: str) -> None:
    x = {"a": X[:, :4], "b": X[:, 4:]}
    y = {"difference": Y, "sum": -Y}
    model, encoder = shared_model()
    part: dict[str, Any] = {
        "encoder": encoder,
        "head": model.get_layer("sum"),
        "variable": encoder.layers[0].bias,
    }
    target = part[switch]

    def content() -> list[np.ndarray]:
        return [target.numpy()] if switch == "variable" else target.get_weights()

    def train() -> bool:
        """Whether training moved it, and all the rest."""
        before, others = content(), model.get_weights()
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(x, y, batch_size=32, verbose=0)
        moved = sum((a != b).any() for a, b in zip(model.get_weights(), others, strict=True))
        found = any((a != b).any() for a, b in zip(content(), before, strict=True))
        assert moved == len(others) - (0 if found else len(before))
        return found

    assert train()
    target.trainable = False
    assert not train()
    target.trainable = True
    assert train()


LIKE: dict[str, Callable[..., Any]] = {
    "initializer": lambda shape, dtype=None: ops.full(shape, 0.25, dtype),
    "regularizer": lambda w: 0.5 * ops.sum(ops.abs(w)),
    "constraint": lambda w: ops.clip(w, 0.0, 0.2),
}


def test_functions_where_objects_are_meant() -> None:
    layer = layers.Dense(
        1,
        kernel_initializer=LIKE["initializer"],
        kernel_regularizer=LIKE["regularizer"],
        kernel_constraint=LIKE["constraint"],
        use_bias=False,
    )
    model = keras.Sequential([keras.Input((8,)), layer])
    np.testing.assert_array_equal(layer.kernel.numpy(), np.full((8, 1), 0.25))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    error = np.mean((X.sum(1, keepdims=True) * 0.25 - Y) ** 2)
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), error + 1.0, rtol=1e-5)
    model.train_on_batch(X, Y)
    np.testing.assert_array_equal(layer.kernel.numpy(), np.full((8, 1), np.float32(0.2)))


def test_operations_know_the_arguments_that_they_were_made_with():
    class Scale(keras.Operation):
        def __init__(self, factor, shift=1.0):
            super().__init__()
            self.factor, self.shift = factor, shift

        def call(self, x, y=None):
            return x * self.factor + self.shift + (0.0 if y is None else y)

    assert Scale(2.0).get_config() == {"factor": 2.0, "shift": 1.0}
    again = Scale.from_config(Scale(3.0, shift=0.0).get_config())
    np.testing.assert_array_equal(again(np.ones(2, "float32")), [3.0, 3.0])
    assert isinstance(layers.Dense(1), keras.Operation)
    assert not isinstance(keras.losses.MeanSquaredError(), keras.Operation)

    x, y = keras.Input((2,)), keras.Input((2,))
    op = Scale(2.0)
    made = op(x, y=y)
    assert op.input == [x, y]
    assert op.output is made

    class Collects(layers.Layer):
        def __init__(self, first, *rest):
            super().__init__()

    assert Collects(1).get_config()["first"] == 1
    with pytest.raises(NotImplementedError, match=r"collected by `\*args`"):
        Collects(1, 2).get_config()


def test_functions_of_tensors_made_by_hand_and_from_the_middle_of_a_graph():
    x = keras.KerasTensor((None, 3))
    double = keras.Function(x, x * 2.0)
    np.testing.assert_array_equal(double(np.ones((1, 3), "float32")), [[2.0, 2.0, 2.0]])
    middle = keras.Input((3,)) + 1.0
    tail = keras.Function(middle, middle * 3.0)
    np.testing.assert_array_equal(tail(np.ones((1, 3), "float32")), [[3.0, 3.0, 3.0]])
    with pytest.raises(ValueError, match="incompatible inputs"):
        double(np.ones((1, 4), "float32"))
    with pytest.raises(ValueError, match="`outputs` argument cannot be empty"):
        keras.Function(x, [])
    with pytest.raises(ValueError, match="is not connected to `inputs`"):
        keras.Function(keras.KerasTensor((None, 3)), double(keras.KerasTensor((None, 3))))


def test_losses_of_an_inner_layer_count_once():
    class Adds(layers.Layer):
        def call(self, x):
            self.add_loss(ops.sum(x))
            return x

    inner = Adds()
    inner(np.ones(1, "float32"))
    model = keras.Sequential([inner])
    for _ in range(2):
        model(np.full((1, 1), 5.0, "float32"))
        assert [float(x) for x in model.losses] == [5.0]


def test_build_takes_shapes_by_the_names_of_what_call_takes():
    class Matches(layers.Layer):
        def build(self, second_shape, first_shape):
            self.widths = first_shape[-1], second_shape[-1]

        def call(self, first, second, third=None):
            return first[:, :1] + second[:, :1]

    one, two = np.ones((4, 1), "float32"), np.ones((4, 2), "float32")
    for args, kwargs in (((one, two), {}), ((one,), {"second": two})):
        layer = Matches()
        layer(*args, **kwargs)
        assert layer.widths == (1, 2)

    class NoSuffix(Matches):
        def build(self, first_shape, second):
            pass

    class Unknown(Matches):
        def build(self, first_shape, fourth_shape):
            pass

    with pytest.raises(ValueError, match="`second`, which does not end in `_shape`"):
        NoSuffix()(one, two)
    with pytest.raises(ValueError, match="`call\\(\\)` does not have argument `fourth`"):
        Unknown()(one, two)


def test_calls_of_layers_take_settings_by_name_and_may_return_nothing():
    class Switch(layers.Layer):
        def call(self, x, negative=False):
            return (-x if negative else x), None

    x = np.ones(1, "float32")
    made, nothing = Switch()(x, negative=True)
    assert made.tolist() == [-1.0]
    assert nothing is None
    for tensor in (x, keras.Input((1,))):
        with pytest.raises(ValueError, match="should be passed as a keyword argument: True"):
            Switch()(tensor, True)
    with pytest.raises(ValueError, match="keyword argument: add_weight"):
        layers.Layer().add_weight("kernel")
    with pytest.raises(ValueError, match="`trainable` to be a boolean"):
        layers.Dense(1, trainable=1)


def test_a_shape_that_a_layer_computes_itself_is_its_spec():
    class Shaped(layers.Layer):
        def call(self, x):
            raise RuntimeError("not needed")

        def compute_output_shape(self, input_shape):
            return {"wide": (*input_shape, 2), "same": input_shape}

    spec = Shaped().compute_output_spec(keras.KerasTensor((2, 3)))
    assert {k: t.shape for k, t in spec.items()} == {"wide": (2, 3, 2), "same": (2, 3)}


def test_an_empty_batch_has_no_penalty_and_a_policy_may_be_set_by_name():
    layer = layers.Identity(activity_regularizer="l2")
    layer(np.ones((0, 5), "float32"))
    assert float(layer.losses[0]) == 0.0
    dense = layers.Dense(2)
    dense.dtype_policy = "mixed_bfloat16"
    assert (dense.compute_dtype, dense.variable_dtype) == ("bfloat16", "float32")


def test_a_layer_that_is_built_again_gets_no_more_weights():
    class Two(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = self.add_weight((), name="scale")

    for make, count in ((layers.Dense, 2), (Two, 3), (lambda n: layers.BatchNormalization(), 4)):
        layer = make(2)
        layer.build((None, 3))
        kept = [id(w) for w in layer.weights]
        assert len(kept) == count
        with pytest.raises(ValueError, match=r"already built: .* look at its `built` first"):
            layer.build((None, 3))
        assert [id(w) for w in layer.weights] == kept
        assert layer(np.ones((2, 3), "float32")).shape[0] == 2
