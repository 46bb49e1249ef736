"""``strategy.learning_curve``: power laws that are known, and when nothing can be told."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, random
from handmill.datasets import digits
from handmill.strategy import CannotTellError, LearningCurve, learning_curve
from handmill.strategy.case import Rows
from handmill.strategy.learning_curves import _fitted, _power_laws, _sizes, _stratified
from handmill.strategy.task import Task

SIZES = np.array([100, 200, 400, 800, 1600, 3200])


def errors(a: float, b: float, c: float, seeds: int = 8, rows: int = 2000, seed: int = 0) -> Any:
    """Rows that are wrong with the chance of a power law."""
    chance = a + b * SIZES**-c
    drawn = np.random.default_rng(seed).random((len(SIZES), seeds, rows))
    return (drawn < chance[:, None, None]).astype(np.float64)


def net() -> Any:
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [handmill.Input((64,)), layers.Dense(16, "relu"), layers.Dense(10, "softmax")]
    )
    model.compile(handmill.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def test_a_law_without_noise_is_found() -> None:
    for a, b, c in ((0.05, 2.0, 0.5), (0.0, 0.8, 0.2), (0.2, 30.0, 1.0)):
        found = _power_laws(SIZES, (a + b * SIZES**-c)[None], np.ones(len(SIZES)))[0]
        assert found == pytest.approx([a, b, c], rel=0.1, abs=0.01)


@pytest.mark.slow
def test_intervals_hold_what_was_drawn_out() -> None:
    held = 0
    for seed in range(15):
        table = errors(0.05, 2.0, 0.5, rows=500, seed=seed)
        curve = _fitted(SIZES, np.zeros((6, 8)), table)
        value, low, high = curve.predict(4 * 3200)
        assert low <= value <= high
        held += low <= 0.05 + 2.0 * 12800**-0.5 <= high
    assert held >= 11


def test_rows_for_an_error_are_an_interval_and_infinite_below_the_floor() -> None:
    curve = _fitted(SIZES, np.zeros((6, 8)), errors(0.05, 2.0, 0.5))
    value, low, high = curve.samples_for(0.07)
    assert low < 10_000 < high
    assert low <= value <= high
    assert curve.samples_for(0.0)[0] == math.inf


@pytest.mark.slow
def test_what_a_curve_does_not_show_is_no_number() -> None:
    flat = errors(0.3, 0.0, 1.0)
    for table, sizes, reason in (
        (flat, SIZES, "no gain from more rows is visible: the curve is flat or rises"),
        (errors(0.05, 2.0, 0.5)[::-1], SIZES, "no gain from more rows is visible"),
        (errors(0.05, 2.0, 0.5)[:3], SIZES[:3], "3 sizes of at least 20 rows a class; at least 4"),
    ):
        curve = _fitted(sizes, np.zeros(table.shape[:2]), np.ascontiguousarray(table))
        assert reason in curve.reason
        assert f"cannot tell what more rows would give: {curve.reason}" in str(curve)
        with pytest.raises(CannotTellError, match="cannot tell: "):
            curve.predict(6400)
        with pytest.raises(CannotTellError, match="cannot tell: "):
            curve.samples_for(0.1)


def test_a_curve_is_not_drawn_out_further_than_ten_times() -> None:
    curve = _fitted(SIZES, np.zeros((6, 8)), errors(0.05, 2.0, 0.5))
    with pytest.raises(ValueError, match="expected 100 to 32000 rows, ten times what there is"):
        curve.predict(32_001)


def test_parts_are_nested_and_have_the_classes_in_their_shares() -> None:
    y = np.repeat([0, 1, 2], [100, 200, 700])
    task = Task("classes", 3, 0.5, None)
    order = _stratified(task, y, 0)
    assert sorted(order) == list(range(1000))
    for size in (50, 100, 500):
        counts = np.bincount(y[order[:size]], minlength=3)
        assert np.abs(counts - size * np.array([0.1, 0.2, 0.7])).max() <= 1.5
    assert _sizes(task, Rows(y, y))[[0, -1]].tolist() == [60, 1000]


@pytest.mark.slow
def test_digits_are_learned_better_from_more_rows_and_the_model_stays() -> None:
    (x, y), (x_val, y_val) = digits.load_data()
    model = net()
    before = model.get_weights(), random.state()
    curve = learning_curve(
        model, x.reshape(-1, 64) / 16, y, (x_val.reshape(-1, 64) / 16, y_val), seeds=3, epochs=5
    )
    assert isinstance(curve, LearningCurve)
    assert curve.validation.shape == curve.train.shape == (6, 3)
    means = curve.validation.mean(1)
    assert means[0] > means[-1]
    assert str(curve).startswith("      200 rows: error ")
    assert random.state() == before[1]
    assert all(map(np.array_equal, model.get_weights(), before[0]))


def test_bad_arguments_are_refused_with_what_was_expected() -> None:
    (x, y), (x_val, y_val) = digits.load_data()
    x, x_val = x.reshape(-1, 64) / 16, x_val.reshape(-1, 64) / 16
    model = net()
    hole = x.copy()
    hole[3, 1] = np.nan
    for given, text in (
        ({"validation_data": (x_val[:20], y_val[:20])}, "at least 50 validation rows"),
        (
            {"x": x[:100], "y": y[:100]},
            "at least 50 validation rows to tell errors apart, received 20",
        ),
        ({"x": hole}, "learning_curve: x is NaN at row 3, column 1"),
        ({"seeds": 2}, "`seeds`"),
        ({"epochs": 0}, "`epochs`"),
        ({"x": x[:-1]}, "must have equally many rows"),
    ):
        arguments: dict[str, Any] = {"model": model, "x": x, "y": y, **given}
        with pytest.raises(ValueError, match=re.escape(text)):
            learning_curve(**arguments)
    with pytest.raises(TypeError, match=r"validation_data: expected \(x, y\)"):
        learning_curve(model, x, y, x_val)
