"""The table of configurations: what it says, in which order, and what it refuses."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from handmill.strategy import (
    Comparison,
    compare_pair,
    compare_with_best,
    corrected_t_test,
    mean_interval,
    wilson_interval,
)
from handmill.strategy.distributions import student_quantile
from handmill.strategy.statistics import winners_curse

GRID = [{"units": u, "rate": r} for u in (8, 16, 32) for r in (0.1, 0.01)]


def scores(seeds: int = 8) -> np.ndarray[Any, Any]:
    """Six configurations; the last two are the good ones, hardly apart."""
    noise = np.random.default_rng(0).normal(0, 0.004, (6, seeds))
    return np.array([0.8, 0.81, 0.85, 0.9, 0.96, 0.961])[:, None] + noise


def test_numbers_are_those_of_the_statistics() -> None:
    given = scores()
    table = Comparison(given, GRID, metric="val_accuracy", rows=500)
    assert table.means == pytest.approx(given.mean(axis=1))
    half = student_quantile(0.975, 7) * given.std(axis=1, ddof=1) / math.sqrt(8)
    assert table.seed_errors == pytest.approx(half)
    assert table.row_intervals is not None
    assert table.row_intervals[2] == wilson_interval(given[2].mean() * 500, 500)
    assert table.p_values.tolist() == compare_with_best(given).tolist()
    assert table.best == given.mean(axis=1).argmax()
    assert table.undecided.tolist() == [False] * 4 + [True] * 2
    deviation = math.sqrt(given[4:].var(axis=1, ddof=1).mean())
    assert table.curse == pytest.approx(winners_curse(2) * deviation / math.sqrt(8))
    assert table.differences[table.best] == 0
    assert table.order == np.argsort(-given.mean(axis=1)).tolist()


def test_text() -> None:
    table = Comparison(scores(), GRID, metric="val_accuracy", rows=500, test_uses=2)
    lines = str(table).splitlines()
    assert lines[0] == (
        "val_accuracy of 6 configurations, 8 seeds, judged on 500 rows (higher is better)"
    )
    assert lines[1].split() == (
        "units rate mean +- seeds +- rows to the best p".split()  # noqa: SIM905
    )
    assert all(len(line) <= 100 for line in lines)
    assert len({len(line) for line in lines[1:8]}) == 1  # aligned
    assert [line[0] for line in lines[2:8]] == ["=", "="] + [" "] * 4
    for mean, line in zip(np.sort(table.means)[::-1], lines[2:8], strict=True):
        assert f"{mean:.4f}" in line
    assert "not distinguishable from the best (p > 0.05" in lines[8]
    assert lines[9].startswith("The best of 2 equals looks better than it is, by 0.00")
    assert "seeds would tell the first two apart" in lines[10]
    assert lines[-1] == "The test set was used twice."
    assert "has not been used" in str(Comparison(scores(), test_uses=0))
    assert "test set" not in str(Comparison(scores()))
    short = table.table(most=2).splitlines()
    assert short[4] == "  ... and 4 more"
    assert repr(table) == "<Comparison by val_accuracy: 6 configurations, 8 seeds, 2 undecided>"


def test_lower_can_be_better() -> None:
    up = Comparison(scores(), GRID)
    down = Comparison(1 - scores(), GRID, metric="val_loss", higher_is_better=False)
    assert down.order == up.order
    assert down.p_values == pytest.approx(up.p_values)
    assert "(lower is better)" in str(down)
    assert min(down.differences) == 0


def test_few_seeds_decide_nothing_and_say_so() -> None:
    for seeds in (1, 2, 5):
        table = Comparison(scores(seeds), GRID)
        assert table.undecided.all()
        assert "cannot tell anything apart; 6 are the fewest" in str(table)
    assert "inf" in str(Comparison(scores(1)))
    assert not Comparison(scores(6)).undecided.all()


def test_trainings_without_a_score_are_not_compared() -> None:
    given = scores()
    given[5, 3] = math.nan
    given[0, 0] = math.inf
    table = Comparison(given, GRID)
    assert table.best == 4
    assert table.order[:4] == [4, 3, 2, 1]
    assert np.isnan(table.means[[0, 5]]).all()
    assert np.isnan(table.p_values[[0, 5]]).all()
    rest = compare_with_best(given[1:5])
    assert table.p_values[1:5].tolist() == rest.tolist()
    assert "2 without a number under some seed: not compared" in str(table)
    assert not table.undecided[5]
    with pytest.raises(ValueError, match="no configuration has a score for each seed"):
        Comparison([[0.5, math.nan], [math.nan, 0.5]])


def test_splits_are_judged_by_the_corrected_test() -> None:
    given = scores()
    table = Comparison(given, GRID, split_rows=(90, 10))
    wide = student_quantile(0.975, 7) * given.std(axis=1, ddof=1) * math.sqrt(1 / 8 + 10 / 90)
    assert table.seed_errors == pytest.approx(wide)
    assert table.p_values.tolist() == compare_with_best(given, split_rows=(90, 10)).tolist()
    assert (table.p_values >= Comparison(given, GRID).p_values - 0.02).all()
    assert "corrected t of Nadeau and Bengio" in str(table)
    assert "8 splits" in str(table)


def test_the_same_numbers_in_any_order_of_configurations() -> None:
    given = scores()
    order = [3, 5, 0, 2, 4, 1]
    there = Comparison(given[order], [GRID[i] for i in order], rows=100)
    assert str(there) == str(Comparison(given, GRID, rows=100))


def test_pivot() -> None:
    table = Comparison(scores(), GRID)
    names, heads, means, marked = table.cells("units", "rate")
    assert (names, heads) == (["8", "16", "32"], ["0.1", "0.01"])
    assert means.ravel() == pytest.approx(table.means)
    assert marked.ravel().tolist() == table.undecided.tolist()
    lines = table.pivot("units", "rate").splitlines()
    assert lines[0].split() == ["units", "\\", "rate", "0.1", "0.01"]
    assert lines[3].split()[0] == "32"
    assert lines[3].count("=") == 2
    assert lines[1].count("=") == 0
    averaged = Comparison(scores(), GRID).cells("units", "units")[2]
    assert averaged[0, 0] == pytest.approx(table.means[:2].mean())
    assert np.isnan(averaged[0, 1])
    functions = Comparison(scores()[:2], [{"f": lambda: 1}, {"f": lambda: 2}])
    assert functions.cells("f", "f")[0] == ["<lambda>", "<lambda>"]
    with pytest.raises(ValueError, match=r"Unknown setting: 'unit'.*Did you mean 'units'"):
        table.pivot("unit", "rate")


def test_few_rows_are_told() -> None:
    assert "49 rows are too few to choose by: one of them is 0.020" in (
        str(Comparison(scores(), GRID, rows=49))
    )
    assert "too few" not in str(Comparison(scores(), GRID, rows=50))


def test_two_of_them() -> None:
    given = scores()
    table = Comparison(given, GRID)
    pair = table.pair(5, 0)
    apart = given[5] - given[0]
    assert pair.difference == pytest.approx(apart.mean())
    assert pair.interval == mean_interval(apart)
    assert pair.p == 2 / 2**8
    assert pair.probability == 1.0
    assert "undecided" not in str(pair)
    turned = Comparison(1 - given, GRID, higher_is_better=False).pair(5, 0)
    assert turned.probability == 1.0
    assert turned.difference == pytest.approx(-pair.difference)
    assert "undecided, about" in str(table.pair(4, 5))
    splits = Comparison(given, GRID, split_rows=(90, 10)).pair(5, 0)
    assert splits.p == corrected_t_test(apart, 90, 10).p
    same = compare_pair([0.5, 0.5], [0.5, 0.5])
    assert same.probability == 0.5
    assert "no seeds would tell" in str(same)
    given[0, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        Comparison(given, GRID).pair(5, 0)


def test_all_numbers_are_data() -> None:
    given = scores()
    given[0] = math.nan
    data = json.loads(json.dumps(Comparison(given, GRID, rows=500).to_dict(), allow_nan=False))
    assert data["best"] == 5
    assert data["configurations"][0]["mean"] is None
    assert data["configurations"][5]["scores"] == given[5].tolist()
    assert [c["undecided"] for c in data["configurations"]] == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    (
        (([0.5, 0.6],), {}, r"shape \(2,\)"),
        ((np.empty((0, 3)),), {}, "none of them 0"),
        ((scores(), GRID[:5]), {}, "scores has 6 rows, but there are 5 configurations"),
        ((scores() * 3,), {"rows": 10}, "rates of rows, from 0 to 1"),
    ),
)
def test_bad_arguments(arguments: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Comparison(*arguments, **settings)
