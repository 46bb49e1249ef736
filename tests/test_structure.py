"""Programs follow what they were traced from, and models of equal structure share them."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.runtime import watch
from handmill.runtime.structure import Structure

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(1, keepdims=True)

BACKENDS = (
    pytest.param("native", marks=pytest.mark.skipif(not handmill.config.has_kernels(), reason="")),
    "numpy",
)


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with handmill.use_backend(request.param):
        yield request.param


class Scale(layers.Layer):
    """Reads attributes of every kind."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.factor = 2.0
        self.steps = [1.0, [0.0, {"x": 0.0}]]
        self.table = {"offset": 0.0, "inner": [0.0]}
        self.flags = {"a"}
        self.pair = (1.0, [0.0])
        self.array = np.zeros(3, np.float32)
        self.inner = layers.Activation("linear")
        self.settings = Settings()
        self.function = None

    def call(self, inputs):
        y = inputs * (self.factor * self.steps[0] * self.pair[0])
        y = y + self.table["offset"] + self.table["inner"][0] + self.pair[1][0]
        y = y + self.steps[1][0] + self.steps[1][1]["x"] + self.settings.offset
        if "b" in self.flags:
            y = y + 100.0
        if self.function is not None:
            y = self.function(y)
        return self.inner(y + self.array)


class Settings:
    offset = 0.0

    def __init__(self):
        self.offset = 0.0


def set_array(layer):
    layer.array[...] = 5.0


def set_method(layer):
    layer.function = layer.inner.call


CHANGES = {
    "a number": lambda s: setattr(s, "factor", 3.0),
    "an entry of a list": lambda s: s.steps.__setitem__(0, 4.0),
    "a list in a list": lambda s: s.steps[1].__setitem__(0, 4.0),
    "a dict in lists": lambda s: s.steps[1][1].update(x=4.0),
    "an entry of a dict": lambda s: s.table.update(offset=4.0),
    "a list in a dict": lambda s: s.table["inner"].__setitem__(0, 4.0),
    "a set": lambda s: s.flags.add("b"),
    "a list in a tuple": lambda s: s.pair[1].__setitem__(0, 4.0),
    "an array in place": set_array,
    "another array": lambda s: setattr(s, "array", np.ones(3, np.float32)),
    "a function": lambda s: setattr(s, "function", lambda x: x * x),
    "an activation": lambda s: setattr(s.inner, "activation", handmill.activations.relu),
    "another layer": lambda s: setattr(s, "inner", layers.Rescaling(3.0)),
    "an attribute of an object": lambda s: setattr(s.settings, "offset", 7.0),
    "another object": lambda s: setattr(s, "settings", type("Other", (), {"offset": 8.0})()),
}


def expected(s, x):
    y = x * (s.factor * s.steps[0] * s.pair[0])
    y = y + s.table["offset"] + s.table["inner"][0] + s.pair[1][0]
    y = y + s.steps[1][0] + s.steps[1][1]["x"] + s.settings.offset + 100.0 * ("b" in s.flags)
    if s.function is not None:
        y = y * y
    y = y + s.array
    if isinstance(s.inner, layers.Rescaling):
        return y * 3.0
    return np.maximum(y, 0) if s.inner.activation is handmill.activations.relu else y


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("way", ("layer", "model", "predict", "on_batch", "iter", "evaluate"))
def test_changed_attributes_count(change, way):
    scale = Scale()
    model = handmill.Sequential([handmill.Input((3,)), scale])
    model.compile("sgd", "mse")
    compute = {
        "layer": lambda: scale(X),
        "model": lambda: model(X),
        "predict": lambda: model.predict(X, batch_size=5, verbose=0),
        "on_batch": lambda: model.predict_on_batch(X),
        "iter": lambda: np.concatenate(list(model.predict_iter(X, batch_size=5))),
        "evaluate": lambda: model.evaluate(X, X, verbose=0),
    }[way]

    def right():
        y = expected(scale, X)
        return np.mean((y - X) ** 2) if way == "evaluate" else y

    np.testing.assert_allclose(compute(), right(), rtol=1e-5)
    change(scale)
    np.testing.assert_allclose(compute(), right(), rtol=1e-5)
    np.testing.assert_allclose(compute(), right(), rtol=1e-5)


@pytest.mark.parametrize("way", ("fit", "train_on_batch"))
def test_training_follows_a_changed_layer(way):
    model = handmill.Sequential(
        [
            handmill.Input((3,)),
            layers.Dense(2, kernel_initializer="ones"),
            layers.Rescaling(1.0),
        ]
    )
    model.compile(handmill.optimizers.SGD(0.0), "mse")

    def loss():
        if way == "train_on_batch":
            return model.train_on_batch(X, np.zeros((12, 2), "float32"))
        found = model.fit(X, np.zeros((12, 2), "float32"), batch_size=12, verbose=0)
        return found.history["loss"][0]

    want = np.mean(X.sum(1) ** 2)
    assert loss() == pytest.approx(want, rel=1e-5)
    model.layers[1].scale = 2.0
    assert loss() == pytest.approx(4 * want, rel=1e-5)
    model.layers[0].kernel_regularizer = "unused: the weight has its own"
    model.layers[0].kernel.regularizer = handmill.regularizers.L2(0.5)
    assert loss() == pytest.approx(4 * want + 3.0, rel=1e-5)
    model.layers[0].kernel.regularizer.l2 = 0.0
    assert loss() == pytest.approx(4 * want, rel=1e-5)


def test_training_follows_its_optimizer_and_loss():
    def trained(change):
        handmill.utils.set_random_seed(3)
        model = handmill.Sequential([handmill.Input((3,)), layers.Dense(1)])
        model.compile(handmill.optimizers.SGD(0.1, momentum=0.5), handmill.losses.Huber())
        for turn in range(4):
            if turn == 2:
                change(model)
            model.train_on_batch(X, 9 * Y)
        return model.get_weights()[0]

    plain = trained(lambda model: None)
    for change in (
        lambda model: setattr(model.optimizer, "momentum", 0.0),
        lambda model: setattr(model.optimizer, "clipvalue", 1e-3),
        lambda model: setattr(model.objective.losses[0], "reduction", "sum"),
        lambda model: model.objective.losses[0]._fn_kwargs.update(delta=3.0),
    ):
        assert np.abs(trained(change) - plain).max() > 1e-4


def test_an_optimizer_applied_to_arrays_follows_its_settings():
    def moved(change):
        weight = handmill.Variable(np.zeros(2, "float32"))
        optimizer = handmill.optimizers.SGD(1.0, momentum=0.5)
        for turn in range(3):
            if turn == 2:
                change(optimizer)
            optimizer.apply_gradients([(np.ones(2, "float32"), weight)])
        return weight.numpy()[0]

    assert moved(lambda optimizer: None) == pytest.approx(-4.25)
    assert moved(lambda optimizer: setattr(optimizer, "momentum", 0.0)) == pytest.approx(-3.5)
    assert moved(lambda optimizer: setattr(optimizer, "clipvalue", 0.5)) == pytest.approx(-3.75)
    assert moved(lambda optimizer: setattr(optimizer, "learning_rate", 2.0)) < -4.25


def test_what_call_itself_writes_is_no_reason_for_another_trace():
    class Counts(layers.Layer):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.factor = 1.0

        def call(self, inputs):
            self.calls += 1
            self.seen = inputs
            return inputs * self.factor

    model = handmill.Sequential([handmill.Input((3,)), Counts()])
    model.compile("sgd", "mse")
    for _ in range(3):
        model.fit(X, X, verbose=0)
        model.evaluate(X, X, verbose=0)
        model.predict(X, verbose=0)
        model(X)
    counts = model.layers[0]
    assert counts.calls == 5  # with that of the Sequential itself
    counts.factor = 2.0
    np.testing.assert_array_equal(model(X), 2 * X)
    np.testing.assert_array_equal(model.predict(X, verbose=0), 2 * X)
    assert counts.calls == 7
    counts.calls = 0  # now somebody else has written it
    model(X)
    assert counts.calls == 1


def test_layers_are_added_and_removed():
    model = handmill.Sequential(
        [handmill.Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    model.pop()
    kernel, bias = model.get_weights()
    hidden = np.tanh(X @ kernel + bias)
    for got in (model(X), model.predict(X, verbose=0), model.predict_on_batch(X)):
        np.testing.assert_allclose(got, hidden, rtol=1e-5, atol=1e-6)
    model.add(layers.Dense(2, kernel_initializer="ones"))
    want = hidden.sum(1, keepdims=True) * np.ones((1, 2))
    np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-4, atol=1e-5)
    target = np.ones((12, 2), "float32")
    assert model.evaluate(X, target, verbose=0) == pytest.approx(np.mean((want - 1) ** 2), rel=1e-4)
    with pytest.raises(ValueError, match="optimizer"):
        model.fit(X, target, verbose=0)
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, target, verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_change_of_an_inner_model_counts():
    inner = handmill.Sequential([handmill.Input((3,)), layers.Rescaling(2.0)])
    x = handmill.Input((3,))
    outer = handmill.Model(x, layers.Activation("linear")(inner(x)))
    np.testing.assert_allclose(outer.predict(X, verbose=0), 2 * X)
    inner.layers[0].scale = 3.0
    np.testing.assert_allclose(outer.predict(X, verbose=0), 3 * X)


def test_the_epsilon_of_the_process_counts():
    model = handmill.Sequential([handmill.Input((3,)), layers.Activation("linear")])
    model.compile("sgd", "mean_absolute_percentage_error")
    before = handmill.config.epsilon()
    first = model.evaluate(X, X + 1, verbose=0)
    try:
        handmill.config.set_epsilon(1e6)
        assert model.evaluate(X, X + 1, verbose=0) < 1e-3 * first
    finally:
        handmill.config.set_epsilon(before)
    assert model.evaluate(X, X + 1, verbose=0) == first


def test_what_is_trainable_counts_in_direct_calls_at_once_in_training_when_compiled():
    model = handmill.Sequential([handmill.Input((3,)), layers.BatchNormalization()])
    model.compile("sgd", "mse")
    model.train_on_batch(X, X)
    assert np.abs(model(X, training=True).mean(0)).max() < 1e-3
    model.layers[0].trainable = False
    assert np.abs(model(X, training=True).mean(0)).max() > 1e-3
    gamma = model.layers[0].gamma.numpy()
    model.train_on_batch(X, X)
    assert (model.layers[0].gamma.numpy() != gamma).any()
    gamma = model.layers[0].gamma.numpy()
    model.compile("sgd", "mse")
    model.train_on_batch(X, X)
    np.testing.assert_array_equal(model.layers[0].gamma.numpy(), gamma)


# How outputs are nested.


class Nested(handmill.Model):
    """Returns a dict for rows of numbers, a tuple for images, an array for single numbers."""

    def call(self, inputs):
        if len(inputs.shape) == 1:
            return inputs * 2.0
        if len(inputs.shape) == 2:
            return {"b": inputs, "a": inputs * 2.0}
        return inputs, inputs * 2.0


def test_outputs_are_nested_as_they_were_for_that_rank():
    numbers, rows, images = X[:, 0].copy(), X, X[:, :, None].copy()
    model, layer = Nested(), Nested()
    for turn in range(2):
        ways = [
            model,
            layer.__call__,
            lambda x: model.predict(x, verbose=0),
            lambda x: model.predict(x, batch_size=5, verbose=0),
            model.predict_on_batch,
            lambda x: next(iter(model.predict_iter(x))),
            lambda x: model.predict(x, verbose=0, callbacks=[handmill.callbacks.Callback()]),
        ]
        for way in ways if turn else ways[::-1]:
            for data in (rows, numbers, images, rows, numbers):
                found = way(data)
                if data.ndim == 1:
                    np.testing.assert_array_equal(found, 2 * data)
                elif data.ndim == 2:
                    assert sorted(found) == ["a", "b"]
                    np.testing.assert_array_equal(found["a"], 2 * data)
                else:
                    assert isinstance(found, tuple)
                    np.testing.assert_array_equal(found[1], 2 * data)


def test_outputs_are_nested_rightly_in_threads():
    model = Nested()
    wrong = []

    def work(data, check):
        with handmill.use_backend(name):
            for _ in range(50):
                if not check(model(data)) or not check(model.predict(data, verbose=0)):
                    wrong.append(data.ndim)

    name = handmill.config.backend()
    jobs = [
        (X[:, 0].copy(), lambda y: isinstance(y, np.ndarray)),
        (X, lambda y: isinstance(y, dict)),
        (X[:, :, None].copy(), lambda y: isinstance(y, tuple)),
    ]
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_losses_of_a_call_are_those_of_that_rank():
    class Penalized(layers.Layer):
        def call(self, inputs):
            if len(inputs.shape) == 2:
                self.add_loss(ops.sum(inputs))
            return inputs

    layer = Penalized()
    layer(X)
    assert len(layer.losses) == 1
    layer(X[:, :, None].copy())
    assert layer.losses == []
    layer(X)
    assert len(layer.losses) == 1


# Sharing.


def network(units=4, activation="relu", rate=0.25, optimizer="adam", metrics=("mae",), **how):
    model = handmill.Sequential(
        [
            handmill.Input((3,)),
            layers.Dense(units, activation=activation, **how),
            layers.Dropout(rate),
            layers.BatchNormalization(),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse", metrics=list(metrics))
    return model


def traces_of(model):
    """The traces of a training step and of a prediction."""
    step, arrays = model.step_to_compare(X, Y)
    predict, (x,) = model.step_to_compare(X)
    found = step.signature(step.specs_of(arrays)), predict.signature(predict.specs_of([x]))
    return [bound.trace for bound in found]


def run(model):
    """Some training, and everything that comes out of it."""
    history = model.fit(X, Y, batch_size=5, epochs=3, verbose=0).history
    results = model.evaluate(X, Y, batch_size=5, verbose=0)
    return [
        *history.values(),
        results,
        model.predict(X, verbose=0),
        *model.get_weights(),
        *(v.numpy() for v in model.optimizer.variables),
    ]


def test_equal_models_share_programs_and_nothing_else():
    handmill.utils.set_random_seed(1)
    first = network()
    want = run(first)
    handmill.utils.set_random_seed(1)
    second = network()
    got = run(second)
    assert traces_of(first) == traces_of(second)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    kept = second.get_weights()
    run(first)
    for a, b in zip(second.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_equal_models_without_an_input_are_built_each():
    for _ in range(2):
        model = handmill.Sequential([layers.Dense(3), layers.BatchNormalization(), layers.Dense(1)])
        model.compile("adam", "mse")
        model.fit(X, X[:, :1], verbose=0)
        assert len(model.weights) == 8


@pytest.mark.parametrize(
    "other",
    (
        {"units": 5},
        {"activation": "tanh"},
        {"activation": lambda x: ops.relu(x) + 0.0},
        {"rate": 0.5},
        {"optimizer": "sgd"},
        {"metrics": ()},
        {"kernel_regularizer": "l2"},
        {"kernel_constraint": "non_neg"},
        {"use_bias": False},
        {"dtype": "mixed_bfloat16"},
    ),
)
def test_other_models_do_not(other):
    first, second = network(), network(**other)
    assert traces_of(first)[0] is not traces_of(second)[0]
    again = network(**other)
    is_known = not callable(other.get("activation"))
    assert (traces_of(second)[0] is traces_of(again)[0]) or not is_known


def test_settings_of_the_optimizer_are_part_of_the_structure():
    kinds = [
        lambda: handmill.optimizers.Adam(0.1),
        lambda: handmill.optimizers.Adam(0.1, beta_1=0.5),
        lambda: handmill.optimizers.Adam(0.1, amsgrad=True),
        lambda: handmill.optimizers.Adam(0.1, weight_decay=0.1),
        lambda: handmill.optimizers.Adam(handmill.optimizers.schedules.CosineDecay(0.1, 5)),
        lambda: handmill.optimizers.Adam(handmill.optimizers.schedules.CosineDecay(0.1, 6)),
    ]
    traces = [traces_of(network(optimizer=make()))[0] for make in kinds]
    assert len(set(map(id, traces))) == len(kinds)
    # A rate is a variable.
    assert traces_of(network(optimizer=handmill.optimizers.Adam(0.2)))[0] is traces[0]


def test_what_is_trainable_is_part_of_the_structure():
    def frozen():
        model = network()
        model.layers[0].trainable = False
        model.compile("adam", "mse", metrics=["mae"])
        return model

    one, other = frozen(), network()
    assert traces_of(one)[0] is not traces_of(other)[0]
    kernel = one.layers[0].get_weights()[0]
    run(one)
    np.testing.assert_array_equal(one.layers[0].get_weights()[0], kernel)


def test_the_wiring_is_part_of_the_structure():
    def two_branches(swapped):
        x = handmill.Input((3,))
        first, second = layers.Dense(2), layers.Dense(2)
        a, b = first(x), second(x)
        y = layers.Subtract()([b, a] if swapped else [a, b])
        return handmill.Model(x, y), first, second

    for swapped in (False, True, False):
        model, first, second = two_branches(swapped)
        a = X @ first.get_weights()[0]
        b = X @ second.get_weights()[0]
        want = b - a if swapped else a - b
        np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-4, atol=1e-5)


def test_a_shared_layer_is_not_two_layers():
    def stack(shared):
        one = layers.Dense(3, use_bias=False)
        other = one if shared else layers.Dense(3, use_bias=False)
        x = handmill.Input((3,))
        return handmill.Model(x, other(one(x)))

    for shared in (True, False, True):
        model = stack(shared)
        kernels = model.get_weights()
        want = X @ kernels[0] @ kernels[-1]
        np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-4, atol=1e-5)


def test_data_matched_by_name():
    def model(names):
        inputs = [handmill.Input((3,), name=name) for name in names]
        return handmill.Model(inputs, layers.Subtract()(inputs))

    data = {"a": X, "b": 2 * X}
    np.testing.assert_array_equal(model(("a", "b")).predict(data, verbose=0), -X)
    np.testing.assert_array_equal(model(("b", "a")).predict(data, verbose=0), X)


def test_outputs_keep_their_names():
    def two_outputs():
        x = handmill.Input((3,))
        model = handmill.Model(x, [layers.Dense(1)(x), layers.Dense(1)(x)])
        model.compile("sgd", "mse", metrics=[["mae"], ["mae"]])
        return model

    for _ in range(3):
        model = two_outputs()
        history = model.fit(X, [Y, Y], verbose=0).history
        assert len(history) == 5
        for name in model.output_names:
            assert any(key.startswith(f"{name}_") for key in history), history
        found = model.evaluate(X, [Y, Y], verbose=0, return_dict=True)
        assert set(found) == set(history)


def test_code_of_users_is_not_shared():
    """What else it reads, say a global that has another value by now, nobody knows."""
    factor = 2.0

    class Twice(layers.Layer):
        def call(self, inputs):
            return inputs * factor

    def penalty(y_true, y_pred):
        return ops.mean(ops.abs(y_pred)) * factor

    found = []
    for factor in (2.0, 5.0):  # noqa: B007  (what call reads)
        model = handmill.Sequential([handmill.Input((3,)), Twice()])
        model.compile("sgd", penalty)
        found.append((model.predict(X, verbose=0), model.evaluate(X, X, verbose=0)))
    np.testing.assert_allclose(found[1][0], 2.5 * found[0][0], rtol=1e-6)
    assert found[1][1] == pytest.approx(2.5 * 2.5 * found[0][1], rel=1e-5)


@pytest.mark.slow
def test_names_of_another_model_do_not_show():
    if not handmill.config.is_native():
        pytest.skip("profiles kernels")
    for _ in range(2):
        model = network()
        model.fit(X, Y, verbose=0)
        known = {layer.name for layer in model.layers} | {""}
        assert {launch.scope for launch in model.profile(X, batch_size=8).launches} <= known
        assert {row.scope for row in handmill.compare(model, X, Y).rows} <= known


@pytest.mark.slow
def test_models_of_one_structure_train_in_threads():
    def train(seed):
        handmill.utils.set_random_seed(seed)
        return network()

    models = [train(seed) for seed in range(6)]
    copies = [train(seed) for seed in range(6)]
    for number, model in enumerate(models):
        model._shuffle = [number, 0]
    want = [run(model) for model in models]
    for number, model in enumerate(copies):
        model._shuffle = [number, 0]
    got = [None] * 6
    context = handmill.config.backend()

    def work(i):
        with handmill.use_backend(context):
            got[i] = run(copies[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(got, want, strict=True):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_programs_hold_no_model():
    model = network()
    run(model)
    alive = [weakref.ref(model), *(weakref.ref(v) for v in model.variables)]
    alive += [weakref.ref(layer) for layer in model.layers]
    del model
    gc.collect()
    assert [r() for r in alive] == [None] * len(alive)
    run(network())  # which finds the programs


# What notices changes.


def test_unrelated_changes_drop_nothing():
    model = network()
    run(model)
    programs = traces_of(model)
    other = network(units=7)
    other.layers[0].units = 8
    run(other)
    assert traces_of(model) == programs


CALLS = {
    "steps": (
        ("append", 1), ("clear",), ("extend", [1]), ("insert", 0, 2), ("pop",),
        ("__iadd__", [2, 1]), ("sort",), ("reverse",), ("__imul__", 2),
        ("__setitem__", 0, 5), ("__delitem__", 0),
        ("remove", 2), ("__setitem__", slice(0, 1), [7, 8]),
    ),
    "table": (
        ("update", {"a": 1}), ("pop", "a"), ("setdefault", "b", []), ("popitem",),
        ("__setitem__", "c", 1), ("__delitem__", "c"), ("__ior__", {"d": 1}), ("clear",),
    ),
    "flags": (
        ("add", "x"), ("discard", "x"), ("update", {"y"}), ("__ior__", {"z"}), ("__isub__", {"z"}),
        ("remove", "y"), ("__ixor__", {"y"}), ("__iand__", {"y"}), ("pop",), ("clear",),
        ("difference_update", {1}), ("intersection_update", {1}),
        ("symmetric_difference_update", {1}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CALLS))
def test_containers_notice_their_changes(name):
    layer = Scale()
    thing = getattr(layer, name)
    for method, *args in CALLS[name]:
        before = Structure([layer])
        assert before.holds()
        getattr(thing, method)(*args)
        assert not before.holds(), method
    changing = {m for m in dir(type(thing).__mro__[1]) if m in vars(type(thing))}
    assert changing - {method for method, *_ in CALLS[name]} <= {
        "__dict__", "__doc__", "__init__", "__module__", "copy",
    }  # fmt: skip


def test_tracked_containers_are_what_they_were():
    layer = Scale()
    assert layer.steps == [1.0, [0.0, {"x": 0.0}]]
    assert isinstance(layer.steps, list)
    assert isinstance(layer.table, dict)
    assert isinstance(layer.flags, set)
    for made in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert made.steps == layer.steps
        assert made.table == layer.table
        before = Structure([made])
        made.steps.append(1)
        assert not before.holds()
        assert Structure([layer]).holds()


def test_a_description_takes_microseconds_to_check():
    number = watch.now
    model = network()
    assert watch.now > number
    found = Structure([model])
    assert found.holds()
    assert not found.must_ask
    model.layers[0].use_bias = False
    assert not found.holds()


def test_equal_models_that_are_built_by_fit():
    """The trace of the first knows the names of its outputs, which the second has not yet."""
    found = []
    for _ in range(3):
        handmill.utils.set_random_seed(1)
        model = handmill.Sequential([layers.Dense(4, activation="relu"), layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        x = np.linspace(-1.0, 1.0, 24, dtype="float32").reshape(8, 3)
        found.append(model.fit(x, x[:, :1], epochs=2, verbose=0, shuffle=False).history)
    assert found[0] == found[1] == found[2]


# What layers remember of their description.


def dense(units=3, activation="relu"):
    layer = layers.Dense(units, activation)
    layer.build((None, 2))
    return layer


def key(*things):
    return Structure(things).key


def test_a_layer_is_described_again_when_it_has_changed():
    first, second = dense(), dense()
    assert key(first) == key(second)
    part = first._part
    assert key(first) == key(second)
    assert first._part is part
    first.activation = handmill.activations.tanh
    assert key(first) == key(dense(activation="tanh")) != key(second)
    first.activation = handmill.activations.relu
    assert key(first) == key(second)


def test_what_is_trainable_is_read_anew():
    first, second = dense(), dense()
    before = key(first)
    first.trainable = False
    assert key(first) != before == key(second)
    first.trainable = True
    assert key(first) == before


def test_layers_that_share_something_are_not_alike_with_layers_that_do_not():
    apart = [dense(), dense()]
    tied = [dense(), dense()]
    tied[1].kernel = tied[0].kernel
    tied[1]._own_weights[0] = tied[0].kernel
    assert key(*apart) == key(dense(), dense())
    assert key(*tied) != key(*apart) != key(apart[0], apart[0])
    assert len(Structure(tied).variables) == 3
    x, twice = handmill.Input((3,)), layers.Dense(3)
    reused = handmill.Model(x, twice(twice(x)))
    assert key(reused) != key(handmill.Model(x, layers.Dense(3)(layers.Dense(3)(x))))
    plain = handmill.Sequential([handmill.Input((3,)), layers.Dense(3), layers.Dense(3)])
    again = handmill.Sequential([handmill.Input((3,)), layers.Dense(3), layers.Dense(3)])
    assert key(plain) == key(again)
    again.layers[1].use_bias = False
    assert key(plain) != key(again)


def test_copies_have_a_description_of_their_own():
    first = dense()
    key(first)
    second = copy.deepcopy(first)
    assert key(second) == key(first)
    assert Structure((second,)).variables[0] is second.kernel
