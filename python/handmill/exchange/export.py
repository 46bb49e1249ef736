"""``Model.export``: the formats that models are written in for others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from handmill.console import say
from handmill.exchange.to_c.file import write_c
from handmill.exchange.to_onnx.file import write_onnx

FORMATS: dict[str, Callable[..., None]] = {"c": write_c, "onnx": write_onnx}
"""Name -> the function that writes it; its arguments by name are those of ``export``."""


def export_model(
    model: Any,
    filepath: Any,
    format: str,
    verbose: bool | None,
    input_signature: Any,
    options: Mapping[str, Any],
) -> None:
    """Writes a model; see ``Model.export``."""
    write = FORMATS.get(format)
    if write is None:
        names = ", ".join(f'"{name}"' for name in FORMATS)
        raise ValueError(
            f"export(format={format!r}): the formats that are written here are {names}; others are "
            'those of other frameworks. For most of them "onnx" is the way: '
            'model.export("model.onnx", format="onnx")'
        )
    known = inspect.signature(write).parameters
    if unknown := [name for name in options if name not in known]:
        allowed = [n for n, p in known.items() if p.kind is p.KEYWORD_ONLY]
        raise TypeError(
            f"export(format={format!r}) got unexpected keyword arguments {unknown}; it takes "
            f"{allowed}"
        )
    write(model, filepath, input_signature=input_signature, **options)
    if verbose:
        say(f"Saved artifact at '{filepath}'.")
