"""An explanation as text: what counts most, for every row."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import tree
from handmill.explanation.explanation import Explanation
from handmill.ir.op import Array

_ROWS = 5
_FEATURES = 12
_BAR = 20


def as_text(explanation: Explanation) -> str:
    """The rows of an explanation, five at most, the features of each by size, twelve at most."""
    rows = len(explanation)
    lines: list[str] = []
    for row in range(min(rows, _ROWS)):
        lines += _row(explanation, row, numbered=rows > 1)
    if rows > _ROWS:
        lines.append(f"... and {rows - _ROWS} rows more")
    if not rows:
        lines.append(f"{explanation.method}: there are no rows to explain")
    return "\n".join([*lines, *explanation.notes])


def _row(explanation: Explanation, row: int, numbered: bool) -> list[str]:
    target = explanation.targets[row] if explanation.targets else "output"
    head = f"{explanation.method}: "
    head += f"row {row}, " if numbered else ""
    has = f"{target} has the {explanation.score} {explanation.scores[row]:.4g}"
    if target == "output":
        has = f"the {explanation.score} is {explanation.scores[row]:.4g}"
    head += has
    if explanation.base_values is not None:
        head += f", {explanation.base_values[row]:.4g} without these features"
    lines = [head]
    for number, name in enumerate(keys(explanation.values)):
        values = np.asarray(tree.flatten(explanation.values)[number])[row]
        data = np.asarray(tree.flatten(explanation.data)[number])[row]
        if name:
            lines.append(f" {name}")
        conditions = explanation.conditions_of(row)
        names = conditions or explanation.names_of(number)
        data = data if conditions is None else np.zeros(0)
        if conditions is not None and values.ndim == 1:  # what has no name is not there
            named = [i for i, condition in enumerate(conditions) if condition]
            values, names = values[named], [conditions[i] for i in named]
        lines += _few(values, data, names) if values.ndim == 1 else [_summary(values)]
    gap = explanation.gap
    relative = explanation.relative_gap()
    if gap is not None and relative is not None:
        percent = 100 * relative[row]
        lines.append(f"gap {gap[row]:.2g} ({percent:.2g} % of what is explained)")
    return lines


def keys(structure: Any) -> list[str]:
    """The names of the leaves of a nesting; of a single array, an empty text."""
    if not tree.is_nested(structure):
        return [""]
    return ["/".join(map(str, path)) for path, _ in tree.flatten_with_path(structure)]


def _few(values: Array, data: Array, names: list[str] | None) -> list[str]:
    names = names or [f"x{i}" for i in range(len(values))]
    order = np.argsort(-np.abs(values), kind="stable")[:_FEATURES]
    most = max(float(np.max(np.abs(values), initial=0.0)), 1e-30)
    wide = max((len(names[i]) for i in order), default=0)
    same = data.shape == values.shape
    shown = [f"= {data[i]:.4g}" if same else "" for i in order]
    room = max(map(len, shown), default=0)
    numbers = [f"{values[i]:+.3g}" for i in order]
    column = max(map(len, numbers), default=0)
    lines = []
    for i, value, number in zip(order, shown, numbers, strict=True):
        size = abs(float(values[i])) / most
        length = round(_BAR * size) if np.isfinite(size) else 0
        bar = ("+" if values[i] > 0 else "-") * length
        text = f"  {names[i]:<{wide}}  {value:<{room}}   {number:<{column}}   {bar}"
        lines.append(text.rstrip())
    if len(values) > _FEATURES:
        rest = float(np.sum(np.delete(values, order)))
        lines.append(f"  {len(values) - _FEATURES} others: {rest:+.3g}")
    return lines


def _summary(values: Array) -> str:
    if not values.size:
        return "  no values"
    with np.errstate(invalid="ignore"):
        place = np.unravel_index(np.argmax(np.abs(np.nan_to_num(values))), values.shape)
        total = float(np.sum(values))
    at = ", ".join(str(int(i)) for i in place)
    return (
        f"  values of shape {values.shape} from {values.min():.3g} to {values.max():.3g}, sum "
        f"{total:.4g}, largest at ({at})"
    )
