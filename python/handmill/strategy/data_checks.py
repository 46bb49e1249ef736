"""``check_data``: what is wrong with data before any model sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from handmill.arguments import real_number
from handmill.errors import clean_traceback
from handmill.strategy.column_checks import check_columns
from handmill.strategy.findings import Finding, Report, checked_language
from handmill.strategy.inputs import Inputs, check_alike, inputs_of
from handmill.strategy.label_checks import check_labels
from handmill.strategy.split_checks import (
    check_duplicates,
    check_groups,
    check_near_duplicates,
    check_shift,
    check_time,
)
from handmill.strategy.targets import Targets, targets_of

_SPLITS = ("training", "validation", "test")


@clean_traceback
def check_data(
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    test_data: Any = None,
    validation_split: float | None = None,
    groups: Any = None,
    time: Any = None,
    task: str | None = None,
    near_duplicates: bool = True,
    language: str = "en",
) -> Report:
    """Looks over data before a model is trained on them; changes nothing.

    Looked for are missing and infinite values, constant columns, ids, codes, columns and pixels
    that are not scaled, equal and nearly equal rows within and across splits, equal rows with
    unequal labels, splits that are no draw from the same data, rare and absent classes, classes
    one after the other, groups that several splits share, and rows of the future.

    Args:
        x: training inputs: an array, images (rows, height, width, channels), a data frame, or a
            dict or list of arrays; columns of texts too.
        y: training targets: class numbers, texts, one-hot rows, or numbers.
        validation_data: ``(x, y)``; a third part, the weights, is not looked at.
        test_data: the same.
        validation_split: what ``fit`` will be given: it takes the *last* rows.
        groups: to which person, place or recording each row of ``x`` belongs; of several splits a
            dict ``{"training": ..., "validation": ..., "test": ...}``.
        time: when each row of ``x`` was taken; or a dict, as for ``groups``.
        task: ``"classification"`` or ``"regression"``; default: whole numbers of few values, texts
            and one-hot rows are classes.
        near_duplicates: whether nearly equal rows are looked for, which takes a product of all rows
            by all rows.
        language: ``"en"`` or ``"zh"``.

    Returns:
        A :class:`handmill.strategy.Report`: prints one line for each finding, gravest first.

    Raises:
        TypeError: for what has no rows, such as a generator.
        ValueError: if lengths or columns do not fit.

    Example:
        >>> import numpy as np, handmill
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> y = np.arange(200) % 2
        >>> print(handmill.check_data(x, y))
        200 rows
        nothing found
        >>> x[3, 1] = np.nan
        >>> handmill.check_data(x, y)["values.nonfinite"].rows
        (3,)
    """
    checked_language(language)
    inputs, targets = _read(x, y, validation_data, test_data, task)
    if validation_split is not None:
        validation_split = real_number("validation_split", validation_split)
        if not 0 < validation_split < 1:
            raise ValueError(
                f"validation_split: expected a fraction between 0 and 1, got {validation_split}"
            )
        if "validation" in inputs:
            raise ValueError("expected validation_data or validation_split, got both")
    by_split = {what: _by_split(what, v, inputs) for what, v in _given(groups, time)}
    findings = list(_findings(inputs, targets, validation_split, by_split, near_duplicates))
    sizes = {name: part.rows for name, part in inputs.items()}
    text = {
        "en": ", ".join(f"{n} {name} rows" for name, n in sizes.items())
        if len(sizes) > 1
        else f"{inputs['training'].rows} rows",
        "zh": "，".join(f"{name} {n} 行" for name, n in sizes.items())
        if len(sizes) > 1
        else f"{inputs['training'].rows} 行",
    }
    return Report(tuple(findings), language, text, {"rows": sizes})


def _findings(
    inputs: Mapping[str, Inputs],
    targets: Mapping[str, Targets],
    validation_split: float | None,
    by_split: Mapping[str, Mapping[str, Any]],
    near: bool,
) -> Iterator[Finding]:
    yield from check_columns(dict(inputs))
    if "training" in targets:
        yield from check_labels(targets, validation_split)
    yield from check_duplicates(inputs, targets)
    if near:
        yield from check_near_duplicates(inputs, targets)
    yield from check_shift(inputs)
    if "groups" in by_split:
        yield from check_groups(by_split["groups"], inputs)
    if "time" in by_split:
        yield from check_time(by_split["time"], inputs)


def _read(
    x: Any, y: Any, validation_data: Any, test_data: Any, task: str | None
) -> tuple[dict[str, Inputs], dict[str, Targets]]:
    given = {"training": (x, y)}
    for name, data in (("validation", validation_data), ("test", test_data)):
        if data is not None:
            given[name] = _pair(f"{name}_data", data)
    inputs = {name: inputs_of(part[0], _called(name, "x")) for name, part in given.items()}
    for name, part in inputs.items():
        check_alike(inputs["training"], part, _called(name, "x"))
    with_targets = [name for name, part in given.items() if part[1] is not None]
    if not with_targets:
        return inputs, {}
    if len(with_targets) < len(given):
        lacking = next(name for name in given if name not in with_targets)
        raise ValueError(f"expected targets for every split, but {lacking} has none")
    targets = targets_of({name: part[1] for name, part in given.items()}, task)
    for name, found in targets.items():
        if len(found.values) != inputs[name].rows:
            raise ValueError(
                f"{name}: expected a target for each row, got {inputs[name].rows} rows of x and "
                f"{len(found.values)} of y"
            )
    return inputs, targets


def _called(name: str, what: str) -> str:
    return what if name == "training" else f"{name}_data"


def _pair(what: str, data: Any) -> tuple[Any, Any]:
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ValueError(f"{what}: expected (x, y), got {type(data).__name__}")
    return data[0], data[1]


def _given(groups: Any, time: Any) -> list[tuple[str, Any]]:
    return [(what, v) for what, v in (("groups", groups), ("time", time)) if v is not None]


def _by_split(what: str, values: Any, inputs: Mapping[str, Inputs]) -> dict[str, Any]:
    if not isinstance(values, dict):
        if len(inputs) > 1:
            names = ", ".join(f"{name!r}: ..." for name in inputs)
            raise ValueError(f"{what}: expected a dict {{{names}}}, a value for each row")
        return {"training": values}
    if unknown := [name for name in values if name not in inputs]:
        raise ValueError(
            f"{what}: {unknown[0]!r} is no split; expected some of {', '.join(map(repr, inputs))}"
        )
    return values
