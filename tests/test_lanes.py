"""Lanes in C++: the bits of models trained alone, for any threads; and what goes through fit."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest

import handmill
from handmill import config, layers, metrics, optimizers, random
from handmill.models.trainer import Trainer
from handmill.strategy.lane_arguments import Material
from handmill.strategy.lanes import Lanes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype("float32")
Y = (X[:, :3].sum(1) > 0).astype("int64")
WEIGHTS = RNG.uniform(0.5, 2.0, 50).astype("float32")
VALIDATION = RNG.normal(size=(11, 6)).astype("float32"), np.arange(11) % 2

pytestmark = [
    pytest.mark.skipif(not config.has_kernels(), reason="lanes are kernels' work"),
    pytest.mark.filterwarnings("ignore::handmill.TrainingWarning"),
]


@contextlib.contextmanager
def threads(count):
    before = config.num_threads()
    config.set_num_threads(count)
    try:
        yield
    finally:
        config.set_num_threads(before)


def compiled(
    model, optimizer="adam", loss="sparse_categorical_crossentropy", measured=("accuracy",)
):
    model.compile(optimizer, loss, metrics=list(measured))
    return model


def sequence(*found, last=layers.Dense, **arguments):
    return compiled(
        handmill.Sequential([handmill.Input((6,)), *found, last(2, "softmax")]), **arguments
    )


def plain():
    return sequence(layers.Dense(4, "relu"))


def noisy():
    return sequence(layers.Dense(5, "tanh"), layers.Dropout(0.4), layers.GaussianNoise(0.1))


def normalized():
    schedule = optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    return sequence(
        layers.Dense(4, kernel_regularizer="l2"),
        layers.BatchNormalization(),
        optimizer=optimizers.SGD(schedule, momentum=0.9),
    )


def averaged():
    return sequence(
        layers.Dense(4, "relu"), optimizer=optimizers.Adam(0.01, use_ema=True, weight_decay=0.01)
    )


def measured_by_counts():
    return sequence(
        layers.Dense(3), measured=("accuracy", metrics.SparseTopKCategoricalAccuracy(1))
    )


def measured_by_histograms():
    model = handmill.Sequential([handmill.Input((6,)), layers.Dense(1, "sigmoid")])
    return compiled(model, loss="binary_crossentropy", measured=(metrics.AUC(num_thresholds=9),))


def drawn_otherwise():
    return sequence(
        layers.Dense(4, kernel_initializer="orthogonal", bias_initializer="random_normal")
    )


def built_by_data():
    return compiled(handmill.Sequential([layers.Dense(3, "relu"), layers.Dense(2, "softmax")]))


def with_two_outputs():
    x = handmill.Input((6,))
    h = layers.Dense(3, "relu")(x)
    outputs = {"a": layers.Dense(2, "softmax", name="a")(h), "b": layers.Dense(1, name="b")(h)}
    model = handmill.Model(x, outputs)
    model.compile("adam", {"a": "sparse_categorical_crossentropy", "b": "mse"})
    return model


IN_LANES = [
    plain,
    noisy,
    normalized,
    averaged,
    measured_by_counts,
    measured_by_histograms,
    drawn_otherwise,
    built_by_data,
    with_two_outputs,
]


class OwnStep(handmill.Sequential):
    def train_step(self, data):
        return super().train_step(data)


def own_step():
    return compiled(OwnStep([handmill.Input((6,)), layers.Dense(2, "softmax")]))


def eager():
    model = handmill.Sequential([handmill.Input((6,)), layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


class Unseeded(layers.Layer):
    def call(self, x):
        return x + random.normal((6,))


def unseeded():
    return sequence(Unseeded(), layers.Dense(3))


BY_FIT = [own_step, eager, unseeded]


def targets_of(build):
    if build is with_two_outputs:
        return {"a": Y, "b": X[:, :1]}, {"a": VALIDATION[1], "b": VALIDATION[0][:, :1]}
    return Y, VALIDATION[1]


def alone(build, seed, epochs=2, **arguments):
    handmill.utils.clear_session()  # names, as in a fresh process
    handmill.utils.set_random_seed(seed)
    model = build()
    y, validated = targets_of(build)
    given = {"batch_size": 16, "validation_data": (VALIDATION[0], validated), **arguments}
    history = model.fit(X, y, epochs=epochs, verbose=0, **given).history
    return model.get_weights(), history


def lanes_of(build, seeds, **arguments):
    y, validated = targets_of(build)
    given = {"batch_size": 16, "validation_data": (VALIDATION[0], validated), **arguments}
    return Lanes(build, [{}], Material(X, y, **given), seeds=seeds)


def assert_are_alone(lanes, wanted):
    for lane, (weights, history) in zip(lanes, wanted, strict=True):
        assert list(lane.history) == list(history)
        for name, numbers in history.items():
            np.testing.assert_array_equal(lane.history[name], numbers, name)
        for got, one in zip(lane.weights, weights, strict=True):
            np.testing.assert_array_equal(got, one)


@pytest.fixture
def no_fit(monkeypatch):
    """Lets ``fit`` fail, so that lanes do not go through it."""

    def refuse():
        def fit(*args, **kwargs):
            raise AssertionError("a lane went through fit")

        monkeypatch.setattr(Trainer, "fit", fit)

    return refuse


@pytest.mark.parametrize("build", IN_LANES)
def test_lanes_are_models_trained_alone(build, no_fit):
    wanted = [alone(build, seed) for seed in range(4)]
    no_fit()
    for count in (1, 2, 3):
        with threads(count):
            lanes = lanes_of(build, 4)
            lanes.advance(2, last=True)
            assert_are_alone(lanes.lanes, wanted)


@pytest.mark.parametrize("build", BY_FIT)
def test_what_lanes_cannot_do_goes_through_fit(build):
    seeds = [0, 1, 2]
    wanted = [alone(build, seed) for seed in seeds]
    lanes = lanes_of(build, seeds)
    lanes.advance(2)
    assert_are_alone(lanes.lanes, wanted)


@pytest.mark.parametrize("build", (noisy, averaged, own_step))
def test_lanes_go_on(build):
    lanes = lanes_of(build, 4)
    lanes.advance(1)
    lanes.advance(3, [lanes.lanes[3], lanes.lanes[0]])
    for lane in (lanes.lanes[0], lanes.lanes[3]):
        handmill.utils.set_random_seed(lane.seed)
        model, given = build(), {"batch_size": 16, "validation_data": VALIDATION, "verbose": 0}
        first = model.fit(X, Y, epochs=1, **given).history
        rest = model.fit(X, Y, initial_epoch=1, epochs=3, **given).history
        history = {name: first[name] + rest[name] for name in first}
        assert_are_alone([lane], [(model.get_weights(), history)])
    assert [lane.epochs for lane in lanes.lanes] == [3, 1, 1, 3]


def test_only_two_models_of_a_configuration_are_built(no_fit):
    calls = []

    def build():
        calls.append(1)
        return noisy()

    wanted = [alone(noisy, seed) for seed in (3, 5, 7, 11, 13)]
    no_fit()
    lanes = lanes_of(build, [3, 5, 7, 11, 13])
    lanes.advance(2)
    assert_are_alone(lanes.lanes, wanted)
    assert len(calls) == 2


@pytest.mark.parametrize(("count", "built"), ((3, 6), (9, 36)))
def test_lanes_that_come_by_seed_are_copies_too(count, built):
    calls = []

    def build(units):
        calls.append(units)
        return sequence(layers.Dense(units))

    configurations = [{"units": 2 + i} for i in range(count)]
    material = Material(X, Y, validation_data=VALIDATION, batch_size=16)
    lanes = Lanes(build, configurations, material, seeds=4)
    lanes.advance(1, sorted(lanes.lanes, key=lambda lane: lane.seed))
    assert len(calls) == built  # of eight configurations at most it is known how to copy them
    for lane in lanes.lanes[3::4]:
        wanted = alone(lambda lane=lane: build(2 + lane.configuration), lane.seed, epochs=1)
        assert_are_alone([lane], [wanted])


def test_models_that_differ_by_more_than_what_was_drawn_are_all_built():
    calls = []

    def build():
        calls.append(1)
        scale = random.uniform((), 0.5, 2.0).item()  # of the seed, but no weight
        return sequence(layers.Rescaling(scale), layers.Dense(3))

    lanes = lanes_of(build, 4)
    lanes.advance(1)
    assert len(calls) == 4
    wanted = [alone(build, seed, epochs=1) for seed in range(4)]
    assert_are_alone(lanes.lanes, wanted)


def attending():
    tokens = handmill.Input((6,), dtype="int32")
    found = layers.Embedding(5, 4)(tokens)
    found = layers.MultiHeadAttention(2, 2, dropout=0.2)(found, found)
    return compiled(handmill.Model(tokens, layers.Dense(5, "softmax")(found)))


def test_models_of_sequences_are_copied(no_fit):
    tokens = RNG.integers(0, 5, (50, 7)).astype("int32")
    x, y = tokens[:, :-1], tokens[:, 1:]  # six class numbers a row are no one-hot row
    calls, wanted = [], []

    def build():
        calls.append(1)
        return attending()

    for seed in range(4):
        handmill.utils.clear_session()
        handmill.utils.set_random_seed(seed)
        model = attending()
        history = model.fit(x, y, epochs=2, batch_size=16, verbose=0).history
        wanted.append((model.get_weights(), history))
    no_fit()
    lanes = Lanes(build, [{}], Material(x, y, batch_size=16), seeds=4)
    lanes.advance(2)
    assert_are_alone(lanes.lanes, wanted)
    assert len(calls) == 2


@pytest.mark.filterwarnings("ignore::handmill.KerasDifferenceWarning")
def test_one_hot_rows_with_the_sparse_loss_go_through_fit():
    one_hot = np.eye(2, dtype="float32")[Y]
    wanted = []
    for seed in range(3):
        handmill.utils.clear_session()
        handmill.utils.set_random_seed(seed)
        model = plain()
        history = model.fit(X, one_hot, epochs=2, batch_size=16, verbose=0).history
        wanted.append((model.get_weights(), history))
    lanes = Lanes(plain, [{}], Material(X, one_hot, batch_size=16), seeds=3)
    lanes.advance(2)
    assert_are_alone(lanes.lanes, wanted)


def test_weights_of_rows_and_order(no_fit):
    for arguments in ({"sample_weight": WEIGHTS}, {"class_weight": {0: 2.0, 1: 0.5}}):
        for shuffle in (True, False):
            given = {**arguments, "shuffle": shuffle}
            wanted = [alone(plain, seed, **given) for seed in range(3)]
            lanes = lanes_of(plain, 3, **given)
            lanes.advance(2)
            assert_are_alone(lanes.lanes, wanted)


def test_batches_of_one_size_and_of_all_rows():
    for size in (10, 25, 50, 64):
        wanted = [alone(plain, seed, batch_size=size, validation_data=None) for seed in range(3)]
        lanes = lanes_of(plain, 3, batch_size=size, validation_data=None)
        lanes.advance(2)
        assert_are_alone(lanes.lanes, wanted)


def test_models_with_a_layer_in_common():
    handmill.utils.set_random_seed(0)
    shared = layers.Dense(3, "relu")

    def build():
        return sequence(shared)

    with pytest.raises(ValueError, match=r"share .*kernel.*which training changes"):
        lanes_of(build, 3).advance(1)
    shared.trainable = False
    wanted = [alone(build, seed) for seed in range(4)]
    lanes = lanes_of(build, 4)
    lanes.advance(2)
    assert_are_alone(lanes.lanes, wanted)


def test_a_label_that_a_guard_refuses_is_named():
    y = Y.copy()
    y[41] = 2
    with pytest.raises(ValueError, match=r"label 2 .*row 41"):
        Lanes(plain, [{}], Material(X, y, batch_size=16), seeds=3).advance(1)


def test_numpy_gives_what_numpy_gives_alone():
    with handmill.use_backend("numpy"):
        wanted = [alone(plain, seed, epochs=1) for seed in range(2)]
        lanes = lanes_of(plain, 2)
        lanes.advance(1)
        assert_are_alone(lanes.lanes, wanted)


def test_an_error_ends_all_threads():
    calls = []

    def build():
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("second")
        return plain()

    with pytest.raises(KeyError, match="second"):
        lanes_of(build, 3).advance(2)


def test_two_threads_may_train_many_at_once():
    wanted = {seed: alone(noisy, seed) for seed in range(6)}
    found = {}

    def train(first):
        found[first] = lanes_of(noisy, range(first, first + 3))
        found[first].advance(2)

    both = [threading.Thread(target=train, args=(first,)) for first in (0, 3)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    for first, lanes in found.items():
        assert_are_alone(lanes.lanes, [wanted[seed] for seed in range(first, first + 3)])
