"""``strategy.lr_range_test``: rates that train, and a model that stays as it was."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, naming, optimizers, random
from handmill.datasets import digits
from handmill.strategy import RangeTest, lr_range_test, rate_range


def data() -> tuple[Any, Any]:
    (x, y), _ = digits.load_data()
    return x[:480].reshape(-1, 64) / np.float32(16), y[:480]


def net(optimizer: Any = "adam", scale: float = 1.0) -> Any:
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [
            handmill.Input((64,)),
            layers.Rescaling(scale),
            layers.Dense(16, "relu"),
            layers.Dense(10, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


def state(model: Any) -> Any:
    held = [*model.variables, *model.optimizer.variables]
    held += [v for metric in model.metrics for v in metric.variables]
    own = model.optimizer.get_config(), model.history, model._shuffle and list(model._shuffle)
    around = random.state(), dict(naming._counts)
    return [(v.path, v.numpy().tobytes()) for v in held], own, around


@pytest.fixture(scope="module")
def found() -> RangeTest:
    return lr_range_test(net(), *data(), seeds=6, epochs=3)


@pytest.mark.slow
def test_the_suggestion_trains_and_its_neighbours_are_worse(found: RangeTest) -> None:
    assert found.rates[0] == pytest.approx(1e-6)
    assert found.rates[-1] == pytest.approx(1.0)
    assert found.losses.shape == (6, 100)
    assert (
        found.steepest.shape == found.minimum_over_ten.shape == found.largest_stable.shape == (6,)
    )
    assert list(found.tried) == sorted(found.tried)
    means = found.scores.mean(1)
    assert found.suggestion == found.tried[means.argmin()]
    assert 0 < means.argmin() < len(means) - 1  # not at an end of what was tried
    low, high = found.interval
    assert low <= found.suggestion <= high
    assert 3e-3 < found.suggestion < 0.3
    assert f"learning rate {found.suggestion:.2g} [" in str(found)


def test_the_same_test_gives_the_same_numbers(found: RangeTest) -> None:
    again = lr_range_test(net(), *data(), seeds=6, epochs=3)
    assert again.losses.tobytes() == found.losses.tobytes()
    assert again.scores.tobytes() == found.scores.tobytes()


def test_everything_is_as_it_was_and_a_schedule_is_set_aside() -> None:
    x, y = data()
    schedule = optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model = net(optimizers.SGD(schedule, momentum=0.9))
    model.fit(x, y, epochs=2, verbose=0)
    before = state(model)
    test = lr_range_test(model, x, y, seeds=2, epochs=1)
    assert state(model) == before
    assert model.optimizer._learning_rate is schedule
    assert test.rates[-1] == pytest.approx(10.0)


@pytest.mark.parametrize("error", (KeyboardInterrupt, RuntimeError))
def test_an_end_in_the_middle_leaves_everything_too(error: Any, monkeypatch: Any) -> None:
    x, y = data()
    model = net()
    model.fit(x, y, verbose=0)

    def stop(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(rate_range, "_score", stop)
    before = state(model)
    with pytest.raises(error):
        lr_range_test(model, x, y, seeds=2)
    assert state(model) == before


@pytest.mark.slow
def test_a_function_that_builds_models_is_taken_too(found: RangeTest) -> None:
    x, y = data()

    def build() -> Any:
        model = handmill.Sequential([handmill.Input((64,)), layers.Dense(10, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    def seeded() -> Any:
        handmill.utils.set_random_seed(7)
        return build()

    before = random.state()
    assert lr_range_test(build, x, y, seeds=2, epochs=1).suggestion > 0
    with pytest.warns(handmill.TrainingWarning, match="so that seeds have no effect"):
        lr_range_test(seeded, x, y, seeds=2, epochs=1)
    assert random.state() == before


def test_bad_arguments_are_refused_with_what_was_expected() -> None:
    x, y = data()
    model = net()
    loose = handmill.Sequential([handmill.Input((64,)), layers.Dense(10)])
    hole = x.copy()
    hole[5, 2] = np.inf
    for given, text in (
        ({"start": 1.0, "end": 0.1}, "expected 0 < start < end, received start=1, end=0.1"),
        ({"start": 0.0}, "expected 0 < start < end, received start=0, end=1"),
        ({"end": -1.0}, "expected 0 < start < end, received start=1e-06, end=-1"),
        ({"seeds": 1}, "`seeds`"),
        ({"steps": 10}, "`steps`"),
        ({"x": x[:-1]}, "must have equally many rows"),
        ({"x": hole}, "lr_range_test: x is infinite at row 5, column 2"),
        ({"x": x[:5], "y": y[:5]}, "at least 10 rows, a fifth of which is held out; received 5"),
        ({"model": loose}, "lr_range_test() needs a compiled model"),
        ({"model": lambda: model}, "build() returned a model that it had returned before"),
        ({"model": lambda: loose}, "build() must return a compiled model"),
    ):
        arguments: dict[str, Any] = {"model": model, "x": x, "y": y, **given}
        before = state(model)
        with pytest.raises(ValueError, match=re.escape(text)):
            lr_range_test(**arguments)
        assert state(model) == before or "model" in given
    with pytest.raises(TypeError, match="expected a model or a function that builds one"):
        lr_range_test("adam", x, y)
    several = net({".*bias": optimizers.SGD(0.1), ".*": optimizers.Adam()})
    with pytest.raises(ValueError, match="no single learning rate"):
        lr_range_test(several, x, y)


def test_a_loss_that_cannot_be_trained_says_at_which_rate() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="the loss left the range of numbers after"):
        lr_range_test(net("sgd", scale=1e25), x, y, seeds=2)
