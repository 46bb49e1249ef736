"""Cutting data into parts of which none knows the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.arguments import real_number, whole_number
from handmill.data.keyed_random import make_key, permutation
from handmill.ir.op import Array
from handmill.strategy.duplicates import duplicate_groups
from handmill.strategy.inputs import Inputs, inputs_of, taken
from handmill.strategy.split_checks import column_of
from handmill.strategy.targets import targets_of


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of some data.

    Attributes:
        training: ``(x, y)``, or ``(x, None)`` without targets.
        validation: the same; None if none was asked for.
        test: the same; None if none was asked for.
        rows: part -> the numbers of its rows (int64), in the order in which they lie in the data;
            in that of time, if that was given.
    """

    training: tuple[Any, Any]
    validation: tuple[Any, Any] | None
    test: tuple[Any, Any] | None
    rows: dict[str, Array]


def split(
    x: Any,
    y: Any = None,
    *,
    test: float = 0.2,
    validation: float = 0.2,
    groups: Any = None,
    stratify: bool = True,
    time: Any = None,
    seed: int = 0,
) -> Splits:
    """Cuts data into parts for training, validation and test that have nothing in common.

    Rows of one group stay together, and so do rows that are equal: a part never holds a copy of a
    row of another one, nor another picture of the same person. With ``time`` the parts follow one
    another: training is the past of validation, and that of the test.

    Args:
        x: inputs, as for ``fit``: an array, a data frame, a list or dict of arrays.
        y: targets; None for none.
        test: the part of the rows to test on, from 0 (none) to below 1.
        validation: the part of the rows to validate on.
        groups: for each row what it shares with others: a person, place, recording.
        stratify: whether classes are as frequent in each part, as far as groups allow.
        time: when each row was taken; rows of one time stay together. Groups would have to be cut:
            one of both is taken.
        seed: of the order.

    Returns:
        A :class:`Splits`.

    Raises:
        ValueError: if parts do not fit, a part would be empty, or a class with fewer rows (or
            groups) than parts would have to be in all.

    Example:
        >>> import numpy as np, handmill
        >>> person = np.repeat(np.arange(10), 5)
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> parts = handmill.strategy.split(x, groups=person)
        >>> {name: len(np.unique(person[rows])) for name, rows in parts.rows.items()}
        {'training': 6, 'validation': 2, 'test': 2}
    """
    sizes = _sizes(test, validation)
    inputs = inputs_of(x, "x")
    whole_number("seed", seed, 0)
    codes, names = _classes(y, inputs.rows, stratify and time is None)
    units = _units(inputs, groups, time)
    if time is not None:
        ranks = _ranks(column_of(time, "time", "training", {"training": inputs}))
        part_of = _by_time(ranks, units, sizes)
    else:
        part_of = _at_random(units, codes, names, sizes, seed)
    rows = {name: np.flatnonzero(part_of == i) for i, name in enumerate(sizes)}
    for name, chosen in rows.items():
        if sizes[name] and not len(chosen):
            raise ValueError(
                f"split: {name}={sizes[name]:g} of {len(np.unique(units))} groups of rows that "
                "stay together leaves no row for it; a larger part, or more groups"
            )
    if time is not None:
        rows = {n: chosen[np.argsort(ranks[chosen], kind="stable")] for n, chosen in rows.items()}
    rows = {name: chosen for name, chosen in rows.items() if sizes[name]}
    made = {name: (taken(x, r), None if y is None else taken(y, r)) for name, r in rows.items()}
    return Splits(made["training"], made.get("validation"), made.get("test"), rows)


def _sizes(test: Any, validation: Any) -> dict[str, float]:
    found = {"validation": real_number("validation", validation), "test": real_number("test", test)}
    for name, size in found.items():
        if not 0 <= size < 1:
            raise ValueError(
                f"{name}: expected a part of the rows, from 0 to below 1, got {size:g}"
            )
    rest = 1 - found["validation"] - found["test"]
    if rest <= 1e-9:
        raise ValueError(
            f"validation={validation!r} and test={test!r} leave nothing to train on: expected less "
            "than 1 together"
        )
    return {"training": rest, **found}


def _classes(y: Any, rows: int, stratify: bool) -> tuple[Array, tuple[Any, ...]]:
    """The class of each row, and their names; one for all where classes do not matter."""
    nothing = np.zeros(rows, np.int64), ("all",)
    if y is None:
        return nothing
    targets = targets_of({"y": y})["y"]
    if len(targets.values) != rows:
        raise ValueError(f"x has {rows} rows, y has {len(targets.values)}: expected as many")
    if targets.codes is None or not stratify:
        return nothing
    return targets.codes + 1, ("without a label", *targets.names)


def _units(inputs: Inputs, groups: Any, time: Any) -> Array:
    """Numbers rows such that those which have to stay together have one number."""
    units = duplicate_groups([inputs])
    if time is not None:
        if groups is not None:
            raise ValueError("expected groups or time, got both: groups that last would be cut")
        return units
    if groups is None:
        return units
    first: dict[Any, int] = {}
    given = column_of(groups, "groups", "training", {"training": inputs})
    group = np.array([first.setdefault(g, i) for i, g in enumerate(given)])
    # Equal rows in two groups join these: the least number spreads until nothing changes.
    while True:
        least = np.arange(inputs.rows)
        for labels in (group, units):
            _, places = np.unique(labels, return_inverse=True)
            lowest = np.full(places.max() + 1, inputs.rows)
            np.minimum.at(lowest, places, np.minimum(group, units))
            least = np.minimum(least, lowest[places])
        if np.array_equal(least, group) and np.array_equal(least, units):
            return least
        group, units = np.minimum(group, least), np.minimum(units, least)


def _at_random(
    units: Array, codes: Array, classes: tuple[Any, ...], sizes: dict[str, float], seed: int
) -> Array:
    """Deals out units, large ones first, each to the part that lacks its classes most."""
    names, place = np.unique(units, return_inverse=True)
    present, columns = np.unique(codes, return_inverse=True)
    table = np.zeros((len(names), len(present)))
    np.add.at(table, (place, columns), 1)
    shares = np.array(list(sizes.values()))
    wanted = shares[:, None] * table.sum(axis=0)
    _check_classes(table, [classes[k] for k in present], shares)
    order = permutation(make_key(seed), len(names))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    given = np.zeros_like(wanted)
    part = np.empty(len(names), np.int64)
    scale = np.maximum(wanted, 1e-12)
    for unit in order:
        row = table[unit]
        # How much the squared distance from what each part wants would fall, by half.
        lack = ((wanted - given) * row / scale).sum(axis=1) - 0.5 * (row**2 / scale).sum(axis=1)
        lack[shares == 0] = -np.inf
        chosen = int(np.argmax(lack))
        part[unit] = chosen
        given[chosen] += row
    return part[place]


def _check_classes(table: Array, classes: list[Any], shares: Array) -> None:
    parts = int(np.count_nonzero(shares))
    holding = np.count_nonzero(table, axis=0)
    if len(classes) > 1 and holding.min() < parts:
        k = int(np.argmin(holding))
        raise ValueError(
            f"split: class {classes[k]!r} has {int(table[:, k].sum())} rows in {holding[k]} groups "
            f"that stay together, fewer than the {parts} parts: leave it out, or pass "
            "stratify=False"
        )


def _by_time(ranks: Array, units: Array, sizes: dict[str, float]) -> Array:
    """The earliest rows are trained on; equal times, and rows equal to earlier ones, stay there."""
    asked = [i for i, size in enumerate(sizes.values()) if size]
    shares = np.cumsum([size for size in sizes.values() if size])[:-1]
    ordered = np.sort(ranks)
    cuts = ordered[np.minimum(np.round(shares * len(ordered)).astype(int), len(ordered) - 1)]
    part = np.array(asked)[np.searchsorted(cuts, ranks, side="right")]
    earliest = np.full(len(units), len(sizes))
    np.minimum.at(earliest, units, part)
    return earliest[units]


def _ranks(times: list[Any]) -> Array:
    """Times as whole numbers in their order."""
    place = {t: i for i, t in enumerate(sorted(set(times)))}
    return np.array([place[t] for t in times])
