"""What many trainings are given: configurations, seeds and rows, looked at before any of them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.models.data_adapters import is_arrays, split_validation
from handmill.models.layout import split
from handmill.strategy.holdout import check_varied, hold_out


@dataclass(frozen=True)
class Material:
    """What trainings have in common: rows, and how they are taken.

    Attributes:
        x: inputs; also ``y``, ``sample_weight``, ``validation_data``, ``validation_split``,
            ``splits``, ``batch_size``, ``validation_batch_size``, ``class_weight``, ``shuffle``: as
            for :func:`handmill.train_many`.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    validation_data: Any = None
    validation_split: float = 0.0
    splits: Sequence[tuple[Any, Any]] | None = None
    batch_size: int | None = None
    validation_batch_size: int | None = None
    class_weight: Mapping[Any, float] | None = None
    shuffle: Any = True

    def validated(self) -> Material:
        """With a fifth of the rows put aside where nothing says what to validate on.

        Raises:
            TypeError: if inputs are no arrays.
            ValueError: for targets that are all alike, and as :func:`hold_out`.
        """
        check_arrays(self.x)
        check_varied(self.y, len(self.y) if hasattr(self.y, "__len__") else 0)
        if self.validation_split or self.validation_data is not None or self.splits is not None:
            return self
        x, y, weight, held = hold_out(self.x, self.y, self.sample_weight)
        return replace(self, x=x, y=y, sample_weight=weight, validation_data=held)

    @property
    def of_fit(self) -> dict[str, Any]:
        """How ``fit`` takes the rows of a part."""
        names = ("batch_size", "validation_batch_size", "class_weight", "shuffle")
        return {name: getattr(self, name) for name in names}

    @property
    def settings(self) -> dict[str, Any]:
        """What numbers depend on besides configuration, seed, epochs and :attr:`data`."""
        return {**self.of_fit, "validation_split": self.validation_split}

    @property
    def data(self) -> list[Any]:
        """All arrays."""
        return [self.x, self.y, self.sample_weight, self.validation_data, self.splits]

    def parts(self, seeds: Sequence[int]) -> list[tuple[tuple[Any, Any, Any], Any]]:
        """The rows to train on and those to validate on, for each seed.

        Raises:
            TypeError: if inputs are no arrays.
            ValueError: for rows that do not fit, are not finite, or are in both parts.
        """
        return parts_of(
            self.x, self.y, self.sample_weight, self.validation_split, self.validation_data,
            self.splits, seeds,
        )  # fmt: skip


def checked_configurations(
    build: Any,
    configurations: Iterable[Mapping[str, Any]],
    seeds: int,
    limit: int,
    note: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Returns the configurations, each once.

    Args:
        build: what they are arguments of.
        configurations: dicts.
        seeds: how many lanes each will have.
        limit: the most lanes.
        note: told of those that are there twice.
    """
    if not callable(build) or hasattr(build, "fit"):
        raise TypeError(
            "`build` must be a function that returns a compiled model, not "
            f"{type(build).__name__}: each lane needs a new model"
        )
    if isinstance(configurations, Mapping):
        raise TypeError(
            "`configurations` must be a list of dicts, received one dict; for the product of "
            "lists of values use handmill.try_all"
        )
    found: list[dict[str, Any]] = []
    known: dict[Any, list[dict[str, Any]]] = {}
    check = _Keys(build)
    most = max(1, limit // seeds)
    for given in configurations:
        if not isinstance(given, Mapping):
            raise TypeError(
                f"each configuration must be a dict of arguments of `build`, received {given!r}"
            )
        made = dict(given)
        check(made)
        alike = known.setdefault(_mark(made), [])
        if any(_is_same(made, other) for other in alike):
            note(f"configuration {made} is there more than once; it is run once")
            continue
        alike.append(made)
        found.append(made)
        if len(found) > most:
            raise ValueError(
                f"more than {most} configurations x {seeds} seeds are more lanes than "
                f"limit={limit}. Pass a higher `limit`, or choose some of them (handmill.tune "
                "searches a space without running all of it)"
            )
    if not found:
        raise ValueError("`configurations` is empty: pass [{}] to run `build()` as it is")
    return found


def checked_seeds(seeds: int | Sequence[int]) -> list[int]:
    """Returns the seeds: so many from 0, or those that were given."""
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        if seeds < 1:
            raise ValueError(f"`seeds` must be at least 1, received {seeds}")
        return list(range(int(seeds)))
    if isinstance(seeds, str | bool) or not hasattr(seeds, "__iter__"):
        raise TypeError(
            "`seeds` must be how many, such as 8, or the seeds themselves, such as [3, 4, 5]. "
            f"Received: {seeds!r}"
        )
    found = [whole_number("`seeds`", seed, 0) for seed in seeds]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"`seeds` must be different whole numbers, received {seeds!r}")
    return found


class _Keys:
    """Refuses configurations with arguments that ``build`` does not have, or lacks."""

    def __init__(self, build: Any) -> None:
        try:
            parameters = dict(inspect.signature(build).parameters)
        except (TypeError, ValueError):
            parameters = {
                "arguments": inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)
            }
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        named = {name: p for name, p in parameters.items() if p.kind in by_name}
        self._takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        self._named = list(named)
        self._needed = [n for n, p in named.items() if p.default is inspect.Parameter.empty]

    def __call__(self, configuration: Mapping[str, Any]) -> None:
        if not self._takes_all:
            for key in configuration:
                if key not in self._named:
                    near = difflib.get_close_matches(str(key), self._named, n=1)
                    raise ValueError(
                        f"build() has no argument {key!r}; it has "
                        f"{', '.join(self._named) or 'none'}"
                        + (f". Did you mean {near[0]!r}?" if near else "")
                    )
        for name in self._needed:
            if name not in configuration:
                raise ValueError(
                    f"the configuration {dict(configuration)} lacks {name!r}, which build() needs"
                )


def _mark(configuration: Mapping[str, Any]) -> Any:
    """The same for equal configurations."""
    return tuple(
        (name, value) if isinstance(value, str | int | float | bool | type(None)) else name
        for name, value in sorted(configuration.items())
    )


def _is_same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(_is_equal(value, b[key]) for key, value in a.items())


def _is_equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    try:
        return bool(a is b or a == b)
    except ValueError:  # arrays inside
        return False


def check_arrays(x: Any) -> None:
    """Raises a TypeError for inputs whose rows cannot be taken in any order."""
    if not is_arrays(x):
        raise TypeError(
            "`x` must be arrays, whose rows each lane takes in an order of its own; received "
            f"{type(x).__name__}"
        )


def parts_of(
    x: Any,
    y: Any,
    weight: Any,
    fraction: float,
    validation: Any,
    splits: Sequence[tuple[Any, Any]] | None,
    seeds: Sequence[int],
) -> list[tuple[tuple[Any, Any, Any], Any]]:
    """The rows to train on and those to validate on, for each seed."""
    check_arrays(x)
    given = [bool(fraction), validation is not None, splits is not None]
    if sum(given) > 1:
        raise ValueError("pass one of `validation_split`, `validation_data` and `splits`")
    layout, arrays = split(x, y, weight)
    for array in arrays:
        if len(array) != len(arrays[0]):
            raise ValueError(
                "x and y must have equally many rows, received "
                f"{', '.join(str(len(a)) for a in arrays)}"
            )
    _check_finite(arrays, layout.counts)
    if isinstance(validation, tuple | list) and validation and is_arrays(validation[0]):
        held, found_in = split(*(*validation, None, None)[:3])
        _check_finite(found_in, held.counts, "the validation data: ")
    if splits is None:
        if fraction:
            head, tail = split_validation(x, y, weight, fraction)
            return [(head, tail)] * len(seeds)
        return [((x, y, weight), validation)] * len(seeds)
    if len(splits) != len(seeds):
        raise ValueError(
            f"`splits` must have an entry (training rows, validation rows) for each of the "
            f"{len(seeds)} seeds, received {len(splits)}"
        )
    found = []
    for number, (train, test) in enumerate(splits):
        train, test = (_rows(number, rows, len(arrays[0])) for rows in (train, test))
        both = np.intersect1d(train, test)
        if len(both):
            raise ValueError(
                f"split {number} has {len(both)} rows to train on that it also validates on: "
                f"{both[:10].tolist()}{' ...' if len(both) > 10 else ''}"
            )
        found.append(
            (
                layout.join([a[train] for a in arrays]),
                layout.join([a[test] for a in arrays]) if len(test) else None,
            )
        )
    return found


def _rows(number: int, rows: Any, count: int) -> Array:
    found = np.asarray(rows)
    if found.dtype == bool:
        found = np.flatnonzero(found)
    found = found.astype(np.int64) if not found.size else found
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(f"split {number}: rows must be whole numbers, received {rows!r}")
    if found.size and (found.min() < 0 or found.max() >= count):
        raise ValueError(f"split {number}: there are {count} rows, received row {found.max()}")
    return found


def _check_finite(arrays: Sequence[Array], counts: Sequence[int], where: str = "") -> None:
    """Raises a ValueError for the first number that is not finite."""
    names = [n for n, c in zip(("x", "y", "sample_weight"), counts, strict=True) for _ in range(c)]
    for name, array in zip(names, arrays, strict=False):
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        place = np.argwhere(~np.isfinite(array))[0]
        column = f", column {', '.join(map(str, place[1:]))}" if len(place) > 1 else ""
        what = "NaN" if np.isnan(array[tuple(place)]) else "infinity"
        raise ValueError(
            f"{where}{name} has {what} in row {place[0]}{column}: no model learns from it. Fill it "
            "in or leave the row out; handmill.check_data lists all of them"
        )
