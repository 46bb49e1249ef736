"""The Python of a Jupyter notebook, without what only IPython understands."""

from __future__ import annotations

import json
import re
from typing import Any

# Cells of these are Python; those of others (%%bash, %%html, ...) are not.
_PYTHON_CELLS = ("time", "timeit", "capture", "prun")
_ASSIGNED = re.compile(r"(?<![=!<>])=\s*[!%].*")  # files = !ls


def notebook_source(content: bytes) -> tuple[str, list[str]]:
    r"""Returns the code of all cells, and the place of each of its lines.

    Raises:
        ValueError: if it is no notebook.

    Example:
        >>> cell = {"cell_type": "code", "source": ["%matplotlib inline\n", "import keras"]}
        >>> notebook_source(json.dumps({"cells": [cell]}).encode())
        ('pass\nimport keras\n', ['cell 1, line 1', 'cell 1, line 2'])
    """
    try:
        cells = json.loads(content)["cells"]
        texts = [_text(cell) if cell["cell_type"] == "code" else "" for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("no notebook of Jupyter, whose JSON holds a list of cells") from error
    lines, places = [], []
    for number, text in enumerate(texts, 1):
        for at, line in enumerate(_python(text.splitlines()), 1):
            lines.append(line)
            places.append(f"cell {number}, line {at}")
    return "".join(f"{line}\n" for line in lines), places


def _text(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _python(lines: list[str]) -> list[str]:
    first = next((line for line in lines if line.strip()), "")
    if (
        first.startswith("%%")
        and first[2:].split()[:1]
        and first[2:].split()[0] not in _PYTHON_CELLS
    ):
        return [""] * len(lines)
    found = []
    for line in lines:
        rest = line.lstrip()
        if rest.startswith(("%", "!", "?")) or rest.endswith("?"):
            line = line[: len(line) - len(rest)] + "pass"
        found.append(_ASSIGNED.sub("= None", line))
    return found
