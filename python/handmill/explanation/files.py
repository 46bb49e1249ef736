"""Explanations as ``.npz`` files: arrays, and a text of JSON about them."""

from __future__ import annotations

import io
import itertools
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from handmill import tree
from handmill.errors import FileFormatError
from handmill.explanation.explanation import Explanation
from handmill.ir.op import Array
from handmill.saving.atomic_file import write_bytes

_FORMAT = "handmill explanation 1"
_PLAIN = (str, int, float, bool, list, tuple, type(None))


def write(explanation: Explanation, path: Any) -> None:
    """Writes an explanation; ``.npz`` is added to a path without a suffix."""
    arrays: dict[str, Array] = {"scores": explanation.scores}
    for name in ("values", "data", "error"):
        for i, leaf in enumerate(tree.flatten(getattr(explanation, name))):
            if leaf is not None:
                arrays[f"{name}_{i}"] = np.asarray(leaf)
    for name in ("base_values", "classes"):
        if getattr(explanation, name) is not None:
            arrays[name] = getattr(explanation, name)
    details = explanation.details
    arrays |= {f"detail_{k}": v for k, v in details.items() if isinstance(v, np.ndarray)}
    about = {
        "format": _FORMAT,
        "nesting": _nesting(explanation.data),
        "nesting_of_values": _nesting(explanation.values),
        "has_error": explanation.error is not None,
        "method": explanation.method,
        "score": explanation.score,
        "targets": explanation.targets,
        "complete": explanation.complete,
        "feature_names": explanation.feature_names,
        "notes": explanation.notes,
        "details": {k: v for k, v in details.items() if isinstance(v, _PLAIN)},
    }
    arrays["about"] = np.array(json.dumps(about))
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    target = Path(os.fspath(path))
    write_bytes(target if target.suffix else target.with_suffix(".npz"), [content.getbuffer()])


def read(path: Any) -> Explanation:
    """Reads an explanation; see :meth:`Explanation.load`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if about["format"] != _FORMAT:
            raise KeyError("format")
    except (KeyError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{os.fspath(path)} is no explanation that handmill saved") from error
    details = about["details"]
    details |= {k.removeprefix("detail_"): v for k, v in arrays.items() if k[:7] == "detail_"}
    nesting = about["nesting_of_values"]
    return Explanation(
        values=_filled(nesting, arrays, "values"),
        data=_filled(about["nesting"], arrays, "data"),
        error=_filled(nesting, arrays, "error") if about["has_error"] else None,
        scores=arrays["scores"],
        base_values=arrays.get("base_values"),
        classes=arrays.get("classes"),
        method=about["method"],
        score=about["score"],
        targets=tuple(about["targets"]),
        complete=about["complete"],
        feature_names=about["feature_names"],
        notes=tuple(about["notes"]),
        details=details,
    )


def _nesting(structure: Any) -> Any:
    """What JSON says of a nesting: None stands for an array."""
    if isinstance(structure, dict):
        return {"dict": {key: _nesting(item) for key, item in structure.items()}}
    if isinstance(structure, list | tuple):
        return {"list": [_nesting(item) for item in structure]}
    return None


def _filled(nesting: Any, arrays: dict[str, Array], name: str) -> Any:
    return _build(nesting, (arrays.get(f"{name}_{i}") for i in itertools.count()))


def _build(nesting: Any, leaves: Iterator[Any]) -> Any:
    if nesting is None:
        return next(leaves)
    if "list" in nesting:
        return [_build(item, leaves) for item in nesting["list"]]
    inner = nesting["dict"]
    made = {key: _build(inner[key], leaves) for key in tree.ordered_keys(inner)}
    return {key: made[key] for key in inner}
