"""The members of a `.keras` file as a folder of files, which ``zipped=False`` writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from handmill.errors import FileFormatError
from handmill.saving.archive import open_regular
from handmill.saving.atomic_file import write_folder
from handmill.saving.json_data import MAX_JSON
from handmill.saving.keras_format import belongs
from handmill.saving.pieces import Content, read_content

_DEEPEST = 64


def write(path: Path, members: Mapping[str, Any], overwrite: bool) -> None:
    """Writes a folder, whole or not at all; it takes the place of an older one.

    Args:
        path: where.
        members: member name -> content, or pieces of it.
        overwrite: whether an existing folder may be replaced.

    Raises:
        FileExistsError: if it may not, or something else is there that would be lost.
        OSError: if it cannot be written; nothing is changed then.
    """
    path = Path(os.path.realpath(path))
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        if not path.is_dir():
            raise FileExistsError(f"{path} is a file; zipped=False writes a folder")
        names = [f"{file.name}/" if file.is_dir() else file.name for file in path.iterdir()]
        foreign = sorted(name for name in names if not belongs(name))
        if foreign:
            raise FileExistsError(
                f"{path} holds files that are not of a model: {foreign[:5]}. The folder is "
                "replaced as a whole; pass the path of one that is new or holds a model alone"
            )
    write_folder(path, {k: v if isinstance(v, list) else [v] for k, v in members.items()})


def read(path: Path) -> dict[str, Content]:
    """Returns the members in a folder; what belongs to no model is left alone.

    Raises:
        FileFormatError: for links, and what is no regular file.
    """
    found: dict[str, Content] = {}
    for name, file in _files(path, "", 0):
        if not belongs(name):
            continue
        if file.is_symlink():
            raise FileFormatError(f"{file} is a link, which is not followed")
        with open_regular(file) as opened:
            if name.endswith(".json") and os.fstat(opened.fileno()).st_size > MAX_JSON:
                raise FileFormatError(f"{file} is larger than 16 MB")
            found[name] = read_content(opened, os.fstat(opened.fileno()).st_size)[0]
    return found


def _files(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path]]:
    if depth > _DEEPEST:
        raise FileFormatError(f"{folder} lies more than {_DEEPEST} folders deep")
    for file in sorted(folder.iterdir()):
        if file.is_dir() and not file.is_symlink():
            if belongs(f"{prefix}{file.name}/"):
                yield from _files(file, f"{prefix}{file.name}/", depth + 1)
        else:
            yield f"{prefix}{file.name}", file
