"""Files that layers keep beside their variables, such as a vocabulary."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from handmill.errors import FileFormatError
from handmill.saving.keras_tree import saveables
from handmill.saving.pieces import Content
from handmill.saving.stored_variables import describe


def saved_assets(model: Any) -> dict[str, bytes]:
    """Returns the files that layers with a method ``save_assets(folder)`` write, by path."""
    found: dict[str, bytes] = {}
    for path, part in saveables(model).items():
        if not hasattr(part, "save_assets"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            part.save_assets(folder)
            for file in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
                name = PurePosixPath(path, file.relative_to(folder).as_posix())
                found[str(name)] = file.read_bytes()
    return found


def load_assets(model: Any, assets: Mapping[str, Content], name: str) -> None:
    """Hands each layer with a method ``load_assets(folder)`` its files, in a folder of their own.

    Args:
        model: the model.
        assets: the files by path.
        name: what errors call the file that held them.

    Raises:
        FileFormatError: for a path that leads out of a folder.
        ValueError: for files that no layer takes.
    """
    for path in assets:
        if not _is_inside(path):
            raise FileFormatError(f"{name} holds an asset with the path {path[:80]!r}")
    left = {path: data for path, data in assets.items() if not path.endswith("/")}
    for prefix, part in sorted(saveables(model).items(), key=lambda item: -len(item[0])):
        own = {p: p[len(prefix) + 1 if prefix else 0 :] for p in left if _is_below(p, prefix)}
        if not own or not hasattr(part, "load_assets"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            for path, inner in own.items():
                file = Path(folder, inner)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(left.pop(path))
            part.load_assets(folder)
    if left:
        raise ValueError(
            f"{name} holds files that no layer of model {model.name!r} takes: {sorted(left)[:5]}. "
            f"A layer takes its files in a method load_assets(folder); {describe(model)} has "
            "layers that lack it."
        )


def _is_below(path: str, prefix: str) -> bool:
    return not prefix or path.startswith(f"{prefix}/")


def _is_inside(path: str) -> bool:
    parts = path.rstrip("/").split("/")
    return all(part not in ("", ".", "..") for part in parts) and not any(
        c in path for c in '\\:\0*?"<>|'
    )
