"""Many models trained at once: each lane is that model trained alone."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import layers, optimizers, random, strategy
from handmill.errors import TrainingWarning
from handmill.strategy.lane_arguments import Material
from handmill.strategy.lanes import Lanes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype("float32")
Y = (X[:, :3].sum(1) > 0).astype("int64")
VALIDATION = RNG.normal(size=(11, 6)).astype("float32"), np.arange(11) % 2


def build(units=4, rate=0.01, dropout=0.0, optimizer="adam"):
    model = handmill.Sequential(
        [
            handmill.Input((6,)),
            layers.Dense(units, "relu"),
            layers.BatchNormalization(),
            layers.Dropout(dropout),
            layers.Dense(2, "softmax"),
        ]
    )
    made = optimizers.get({"class_name": optimizer, "config": {"learning_rate": rate}})
    model.compile(made, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def alone(configuration, seed, epochs=3, **arguments):
    handmill.utils.set_random_seed(seed)
    model = build(**configuration)
    history = model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, **arguments).history
    return model, history


def assert_is_alone(runs, model, history, configuration, seed):
    lane = runs.lane(configuration, seed)
    assert lane.history == history
    for got, wanted in zip(lane.weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


CONFIGURATIONS = [
    {"units": 3},
    {"units": 5, "dropout": 0.5},
    {"units": 3, "rate": 0.1},
    {"units": 3, "optimizer": "sgd"},
]


def test_lanes_have_the_bits_of_models_trained_alone():
    runs = handmill.train_many(
        build, CONFIGURATIONS, X, Y, seeds=2, epochs=3, batch_size=16, validation_data=VALIDATION
    )
    for i, configuration in enumerate(CONFIGURATIONS):
        for seed in (0, 1):
            model, history = alone(configuration, seed, validation_data=VALIDATION)
            assert_is_alone(runs, model, history, i, seed)


def test_lanes_go_on_where_they_stopped():
    lanes = Lanes(build, [{}, {"dropout": 0.5}], Material(X, Y, batch_size=16), seeds=[7])
    lanes.advance(1)
    lanes.advance(3, lanes.lanes[1:])
    runs = lanes.runs()
    assert [lane.epochs for lane in runs.lanes] == [1, 3]
    assert_is_alone(runs, *alone({"dropout": 0.5}, 7), 1, 7)
    assert np.isnan(runs.scores("loss")[0, 0])
    assert runs.scores("loss", 0).shape == (2, 1)


def test_scores_best_and_models():
    runs = handmill.train_many(
        build,
        [{"rate": 1e-6}, {"rate": 0.1}],
        X,
        Y,
        seeds=[3, 5],
        epochs=4,
        batch_size=16,
        validation_split=0.2,
    )
    assert runs.metric == "val_accuracy"
    assert runs.rises()
    assert not runs.rises("val_loss")
    table = runs.table("val_loss")
    assert table.shape == (2, 2, 4)
    np.testing.assert_array_equal(runs.scores("val_loss"), table[:, :, -1])
    assert table[1, 1, 2] == runs.lane(1, 5).history["val_loss"][2]
    means = runs.scores().mean(1)
    assert means[0] != means[1]
    assert runs.best == [{"rate": 1e-6}, {"rate": 0.1}][np.argmax(means)]
    np.testing.assert_array_equal(
        runs.model(1, 5).evaluate(X[40:], Y[40:], verbose=0)[0], runs.scores("val_loss")[1, 1]
    )
    with pytest.raises(ValueError, match="Did you mean 'val_loss'"):
        runs.scores("vall_loss")
    with pytest.raises(ValueError, match="seed 4 was not run"):
        runs.model(0, 4)


def test_tests_are_counted():
    runs = handmill.train_many(build, [{}], X, Y, seeds=2, epochs=1)
    assert runs.test_uses == 0
    found = runs.test(*VALIDATION)
    assert runs.test_uses == 1
    wanted = runs.model(0, 1).evaluate(*VALIDATION, verbose=0, return_dict=True)
    assert found["loss"].shape == (2,)
    assert found["loss"][1] == np.float32(wanted["loss"])


def test_models_are_trained_again_where_weights_were_not_kept():
    runs = handmill.train_many(
        build, [{"dropout": 0.5}], X, Y, seeds=[4], epochs=2, batch_size=16, keep_weights=False
    )
    assert runs.lanes[0].weights is None
    model, _ = alone({"dropout": 0.5}, 4, epochs=2)
    for got, wanted in zip(runs.model().get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_diverging_lane_ends_and_the_others_go_on():
    runs = handmill.train_many(
        build,
        [{"rate": 1e30, "optimizer": "sgd"}, {}],
        X,
        Y,
        seeds=2,
        epochs=5,
        batch_size=16,
        validation_data=VALIDATION,
    )
    assert runs.feasible.tolist() == [[False, False], [True, True]]
    failure = runs.lanes[0].failure
    assert failure.epoch == 0
    assert 2 <= failure.step <= 4
    assert "at step" in failure.reason
    assert runs.lanes[0].epochs == 1
    assert np.isnan(runs.scores()[0]).all()
    assert np.isfinite(runs.scores()[1]).all()
    assert runs.best_index == 1
    assert "2 lanes diverged" in repr(runs)


def test_splits_are_rows_for_each_seed():
    order = np.random.default_rng(1).permutation(50)
    splits = [(order[:40], order[40:]), (order[10:], order[:10])]
    runs = handmill.train_many(build, [{}], X, Y, seeds=2, epochs=2, batch_size=16, splits=splits)
    for seed, (train, test) in enumerate(splits):
        handmill.utils.set_random_seed(seed)
        model = build()
        history = model.fit(
            X[train], Y[train], 16, 2, 0, validation_data=(X[test], Y[test])
        ).history
        assert_is_alone(runs, model, history, 0, seed)
    with pytest.raises(ValueError, match=r"split 1 has 2 rows .* validates on: \[2, 3\]"):
        handmill.train_many(build, [{}], X, Y, seeds=2, splits=[([0], [1]), ([2, 3, 4], [3, 2])])
    with pytest.raises(ValueError, match="for each of the 2 seeds, received 1"):
        handmill.train_many(build, [{}], X, Y, seeds=2, splits=[([0], [1])])


def test_draws_outside_go_on_as_if_nothing_had_been_drawn():
    handmill.utils.set_random_seed(11)
    first = random.normal((3,))
    handmill.utils.set_random_seed(11)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    handmill.train_many(build, [{}], X, Y, seeds=1, epochs=1)
    np.testing.assert_array_equal(random.normal((3,)), first)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_notes():
    def fixes_its_seed():
        handmill.utils.set_random_seed(3)
        return build()

    def fixes_its_weights():
        model = handmill.Sequential(
            [handmill.Input((6,)), layers.Dense(2, kernel_initializer="zeros")]
        )
        model.compile("sgd", "mse")
        return model

    with pytest.warns(TrainingWarning, match="seeds have no effect"):
        runs = handmill.train_many(fixes_its_seed, [{}], X, Y, seeds=2, epochs=1)
    assert len(runs.notes) == 1
    assert runs.lanes[0].history == runs.lanes[1].history
    with pytest.warns(TrainingWarning, match="same weights for every seed"):
        handmill.train_many(fixes_its_weights, [{}], X, X[:, :2], seeds=2, epochs=1)
    with pytest.warns(TrainingWarning, match="run once"):
        runs = handmill.train_many(build, [{"units": 3}, {"units": 3}], X, Y, seeds=1, epochs=1)
    assert runs.configurations == [{"units": 3}]


KEPT = build()


def not_compiled():
    return handmill.Sequential([handmill.Input((6,)), layers.Dense(2)])


def needs_units(units):
    return build(units)


MISTAKES = [
    ((lambda: KEPT, [{}]), {"seeds": 2}, "returned a model that it had returned before"),
    ((not_compiled, [{}]), {}, "not compiled"),
    ((lambda: 3, [{}]), {}, "must return a compiled model, it returned int"),
    ((KEPT, [{}]), {}, "new model"),
    ((build, [{"unit": 3}]), {}, "no argument 'unit'.* Did you mean 'units'"),
    ((needs_units, [{}]), {}, "lacks 'units'"),
    ((build, {"units": 3}), {}, "received one dict"),
    ((build, []), {}, "is empty"),
    ((build, [3]), {}, "must be a dict"),
    ((build, ({"units": i} for i in range(10**6))), {"limit": 100}, "limit=100"),
    ((build, [{}]), {"seeds": 0}, "at least 1"),
    ((build, [{}]), {"seeds": [1, 1]}, "different whole numbers"),
    ((build, [{}]), {"epochs": 0}, "`epochs` must be"),
    ((build, [{}]), {"validation_split": 0.1, "validation_data": VALIDATION}, "pass one of"),
]


@pytest.mark.parametrize(("given", "arguments", "text"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(given, arguments, text):
    with pytest.raises((ValueError, TypeError), match=text):
        strategy.train_many(*given, X, Y, **{"epochs": 1, "seeds": 1, **arguments})


def test_bad_rows():
    with pytest.raises(ValueError, match="equally many rows, received 50, 49"):
        handmill.train_many(build, [{}], X, Y[1:])
    wrong = X.copy()
    wrong[7, 2] = np.nan
    with pytest.raises(ValueError, match="x has NaN in row 7, column 2"):
        handmill.train_many(build, [{}], wrong, Y)
    with pytest.raises(TypeError, match="must be arrays"):
        handmill.train_many(build, [{}], iter([X]))
    with pytest.raises(ValueError, match=r"label 9 .* row 0"):
        handmill.train_many(build, [{}], X, np.full(50, 9))


@pytest.mark.parametrize("keep_weights", (True, False))
def test_lanes_that_memory_does_not_hold_together_are_refused_first(monkeypatch, keep_weights):
    built = []

    def noted(units):
        built.append(units)
        return build(units)

    one = sum(v.state.nbytes for v in build(64).weights)
    monkeypatch.setattr("handmill.strategy.lanes.FEW_BYTES", 0)
    monkeypatch.setattr("handmill.runtime.memory.available_bytes", lambda: 60 * one)
    arguments = {"seeds": 1000, "batch_size": 16, "keep_weights": keep_weights}
    if not keep_weights:  # some at a time fit
        monkeypatch.setattr("handmill.config.num_threads", lambda: 2)
        runs = handmill.train_many(noted, [{"units": 64}], X, Y, **{**arguments, "seeds": 20})
        assert len(runs.lanes) == 20
        monkeypatch.setattr("handmill.runtime.memory.available_bytes", lambda: one)
    built.clear()
    with pytest.raises(MemoryError) as found:
        handmill.train_many(noted, [{"units": 64}], X, Y, **arguments)
    assert "1000 lanes of build(units=64)" in str(found.value)
    assert "Train fewer seeds at a time" in str(found.value)
    assert built == [64]
