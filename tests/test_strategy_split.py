"""split: parts that have nothing in common, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from handmill import check_data
from handmill.strategy import split


def data(rows: int = 300) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 3)), np.arange(rows) % 10 // 7


def part_of(rows: dict[str, Any], count: int) -> Any:
    found = np.full(count, -1)
    for i, chosen in enumerate(rows.values()):
        assert (found[chosen] == -1).all()
        found[chosen] = i
    assert (found >= 0).all()
    return found


def test_parts_are_sized_stratified_and_whole() -> None:
    x, y = data()
    parts = split(x, y)
    part = part_of(parts.rows, 300)
    assert np.bincount(part).tolist() == [180, 60, 60]
    shares = [y[chosen].mean() for chosen in parts.rows.values()]
    np.testing.assert_allclose(shares, y.mean(), atol=0.01)
    assert np.array_equal(parts.training[0], x[parts.rows["training"]])
    assert parts.test is not None
    assert np.array_equal(parts.test[1], y[parts.rows["test"]])
    assert check_data(*parts.training, validation_data=parts.validation, test_data=parts.test).ok
    again = split(x, y, seed=0)
    other = split(x, y, seed=1)
    assert np.array_equal(again.rows["test"], parts.rows["test"])
    assert not np.array_equal(other.rows["test"], parts.rows["test"])


def test_groups_and_copies_stay_together() -> None:
    x, y = data()
    person = np.array([f"p{i}" for i in np.random.default_rng(1).integers(0, 40, 300)])
    x[7] = x[200]
    part = part_of(split(x, y, groups=person).rows, 300)
    for name in np.unique(person):
        assert len(np.unique(part[person == name])) == 1
    assert part[7] == part[200]
    # Copies join groups to chains: all of one chain is in one part.
    x[np.flatnonzero(person == "p3")[0]] = x[200]
    part = part_of(split(x, groups=person).rows, 300)
    together = np.isin(person, [person[7], person[200], "p3"])
    assert len(np.unique(part[together])) == 1


def test_time_is_not_turned_round() -> None:
    x, y = data()
    day = np.random.default_rng(2).permutation(300) // 3  # three rows a day
    parts = split(x, y, time=day, validation=0.1)
    rows = parts.rows
    assert day[rows["training"]].max() < day[rows["validation"]].min()
    assert day[rows["validation"]].max() < day[rows["test"]].min()
    assert (np.diff(day[rows["training"]]) >= 0).all()
    assert len(rows["test"]) == 60
    no_validation = split(x, y, time=day, validation=0)
    assert no_validation.validation is None
    assert list(no_validation.rows) == ["training", "test"]
    part_of(no_validation.rows, 300)
    early, late = np.argmin(day), np.argmax(day)
    x[late] = x[early]
    assert late in split(x, y, time=day).rows["training"]


def test_frames_dicts_and_texts() -> None:
    x, y = data()
    names = np.array(["no", "yes"])[y]
    parts = split({"a": x, "b": x[:, 0]}, names, test=0)
    assert parts.test is None
    assert parts.training[0]["b"].shape == (240,)
    assert set(parts.training[1]) == {"no", "yes"}
    pandas = pytest.importorskip("pandas", reason="no pandas")
    frame = split(pandas.DataFrame(x, columns=list("abc")), pandas.Series(y)).training
    assert list(frame[0].columns) == ["a", "b", "c"]
    assert len(frame[0]) == len(frame[1]) == 180


def refused(text: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        split(*args, **kwargs)


def test_bad_calls_are_refused() -> None:
    x, y = data()
    refused("test: expected a part of the rows, from 0 to below 1, got 20", x, y, test=20)
    refused("validation must be a number. Received: 'half'", x, y, validation="half")
    refused("validation=0.5 and test=0.5 leave nothing to train on", x, y, validation=0.5, test=0.5)
    refused("x has 300 rows, y has 299: expected as many", x, y[1:])
    refused("groups of training: expected 300 values, one a row, got 2", x, y, groups=[1, 2])
    refused("expected groups or time, got both", x, y, groups=y, time=y)
    rare = y.copy()
    rare[:] = 0
    rare[5:7] = 1
    refused("class 1 has 2 rows in 2 groups that stay together, fewer than the 3 parts", x, rare)
    assert len(split(x, rare, stratify=False).rows["test"]) == 60
    refused("stay together leaves no row for it", x, None, groups=np.zeros(300))
    refused("test: expected a part of the rows", x, y, test=float("nan"))
