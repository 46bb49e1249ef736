"""What the first step of a model leaves out when a model of equal structure has made one."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import layers, metrics, optimizers
from handmill.runtime.plans import TRACES
from handmill.runtime.variable import limited_bytes

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = (X.sum(1) > 0).astype("int64") + 1

OPTIMIZERS = {
    **{name: lambda name=name: optimizers.get(name) for name in ("sgd", "adam", "adagrad", "ftrl")},
    "rmsprop": lambda: optimizers.RMSprop(momentum=0.9, centered=True),
    "nadam": optimizers.Nadam,
    "lamb": optimizers.Lamb,
    "adafactor": optimizers.Adafactor,
    "muon": optimizers.Muon,
    "mean of weights": lambda: optimizers.SGD(0.1, momentum=0.9, use_ema=True),
    "accumulation": lambda: optimizers.Adam(gradient_accumulation_steps=2),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.Adam()),
    "schedule": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)),
}


def network(optimizer="adam", measured=("accuracy",), activation="relu", weighted=None):
    handmill.utils.set_random_seed(1)
    model = handmill.Sequential(
        [
            handmill.Input((3,)),
            layers.Dense(4, activation=activation),
            layers.BatchNormalization(),
            layers.Dropout(0.25),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        OPTIMIZERS.get(optimizer, lambda: optimizer)(),
        "sparse_categorical_crossentropy",
        metrics=[m if isinstance(m, str) else m() for m in measured],
        weighted_metrics=weighted,
    )
    return model


def step_of(model):
    return model.step_to_compare(X, Y)[0]


def state_of(model):
    found = [*model.weights, *model.optimizer.variables]
    found += [v for metric in model.metrics for v in metric.variables]
    return [v.numpy() for v in found]


def assert_is_as_described(model):
    """That what nobody described again is what a description gives."""
    function = step_of(model)
    (bound,) = function._bound.values()
    assert bound.trace.way is not None
    found = function._describe()
    assert function._structure.key == found.key
    assert list(map(id, function._structure.variables)) == list(map(id, found.variables))
    assert function._structure.names == found.names


@pytest.mark.parametrize(
    "optimizer",
    [o if o in ("sgd", "adam") else pytest.param(o, marks=pytest.mark.slow) for o in OPTIMIZERS],
)
def test_slots_are_those_that_a_trace_makes(optimizer):
    models = [network(optimizer) for _ in range(3)]
    logs = [model.train_on_batch(X, Y) for model in models]
    assert logs[0] == logs[1] == logs[2]
    for model in models:
        assert_is_as_described(model)
    names = [[v.name for v in model.optimizer.variables] for model in models]
    assert len(names[0]) == len(names[2])
    for first, other in zip(state_of(models[0]), state_of(models[2]), strict=True):
        np.testing.assert_array_equal(first, other)
    for model in models:  # where each goes on by itself
        model.train_on_batch(X, Y)
    for first, other in zip(state_of(models[0]), state_of(models[2]), strict=True):
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    "measured",
    (
        (),
        ("accuracy", metrics.SparseCategoricalCrossentropy),
        (metrics.SparseCategoricalAccuracy, metrics.SparseTopKCategoricalAccuracy),
        (lambda: metrics.MeanIoU(3, sparse_y_pred=False),),
    ),
)
def test_metrics_are_those_that_a_trace_makes(measured):
    models = [network(measured=measured, weighted=["accuracy"]) for _ in range(3)]
    first, *others = [[m.train_on_batch(X, Y), m.test_on_batch(X, Y)] for m in models]
    assert others == [first, first]
    for model in models:
        assert_is_as_described(model)
        assert model.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


class Twice(layers.Dense):
    def call(self, inputs):
        return 2.0 * super().call(inputs)


def put_twice(model):
    inner = Twice(4, activation="relu")
    inner.build((None, 3))
    inner.set_weights(model.layers[0].get_weights())
    model._layers[1] = inner
    model._maybe_rebuild()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])


CHANGES = {
    "activation": lambda m: setattr(m.layers[0], "activation", handmill.activations.tanh),
    "rate": lambda m: setattr(m.layers[2], "rate", 0.5),
    "regularizer": lambda m: setattr(
        m.layers[0].kernel, "regularizer", handmill.regularizers.L2(1.0)
    ),
    "constraint": lambda m: setattr(
        m.layers[0].kernel, "constraint", handmill.constraints.NonNeg()
    ),
    "dtype policy": lambda m: setattr(m.layers[0], "dtype_policy", "mixed_bfloat16"),
    "beta": lambda m: setattr(m.optimizer, "beta_1", 0.5),
    "clipping": lambda m: setattr(m.optimizer, "clipvalue", 1e-3),
    "a class of the user's": put_twice,
    "trainable, compiled": lambda m: (
        setattr(m.layers[0], "trainable", False),
        m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"]),
    ),
    "another loss": lambda m: m.compile(
        "adam", handmill.losses.SparseCategoricalCrossentropy(ignore_class=1), metrics=["accuracy"]
    ),
    "an epsilon of the process": lambda _: handmill.config.set_epsilon(0.1),
}


@pytest.mark.parametrize("is_late", (False, True))
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_another(change, is_late):
    """The numbers are those that a model gives that finds no trace."""
    epsilon = handmill.config.epsilon()

    def trained(model):
        if is_late:
            model.train_on_batch(X, Y)
        CHANGES[change](model)
        try:
            logs = model.train_on_batch(X, Y)
        finally:
            handmill.config.set_epsilon(epsilon)
        return [logs, *state_of(model)]

    for _ in range(2):
        network().train_on_batch(X, Y)
    plain = state_of(network())
    got = trained(network())
    TRACES.clear()
    want = trained(network())
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(got) != len(plain) + 1 or any(
        not np.array_equal(a, b) for a, b in zip(got[1:], plain, strict=True)
    )


def test_metrics_among_attributes_are_seen_whenever_they_come():
    model = network()
    model.train_on_batch(X, Y)
    names = [m.name for m in model.metrics]
    model.layers[0].extra = metrics.Mean("extra")
    assert [m.name for m in model.metrics] == [*names, "extra"]
    model.layers[2].more = [{"inner": metrics.Mean("inner")}]
    assert [m.name for m in model.metrics] == [*names, "extra", "inner"]
    model.layers[0].extra.update_state(3.0)
    model.reset_metrics()
    assert float(model.layers[0].extra.result()) == 0.0
    del model.layers[0].extra
    model.layers[2].more.clear()
    assert [m.name for m in model.metrics] == names


def test_slots_made_at_once_keep_the_limits_of_loaders():
    optimizer = optimizers.Adam()
    kernel = handmill.Variable(np.zeros((8, 8), "float32"), name="kernel")
    with limited_bytes(3 * 256 // 2), pytest.raises(ValueError, match="more than are stored"):
        optimizer.build([kernel])
    optimizer.build([kernel])
    momentum, velocity = optimizer.variables[2:]
    assert momentum.path == f"{optimizer.name}/kernel_momentum"
    assert (velocity.shape, velocity.dtype, velocity.trainable) == ((8, 8), "float32", False)
