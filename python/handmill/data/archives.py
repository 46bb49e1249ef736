"""Unpacking tar and zip archives, whose members stay inside the folder and are plain files."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

FORMATS = ("tar", "zip")


def archive_kind(path: Path, archive_format: Any) -> str | None:
    """Returns ``"tar"`` or ``"zip"``, None for something else.

    Args:
        path: the file.
        archive_format: ``"auto"`` for both, one of them, a list of them, or None for none.

    Raises:
        ValueError: for an unknown format.
    """
    if archive_format is None:
        return None
    wanted = FORMATS if archive_format == "auto" else archive_format
    for kind in (wanted,) if isinstance(wanted, str) else wanted:
        if kind not in FORMATS:
            raise ValueError(
                "`archive_format` must be 'auto', 'tar', 'zip', a list of them or None, got "
                f"{kind!r}"
            )
        if (tarfile.is_tarfile if kind == "tar" else zipfile.is_zipfile)(path):
            return kind
    return None


def unpack(path: Path, folder: Path, kind: str) -> None:
    """Unpacks an archive into a folder; what is there already is replaced file by file.

    Raises:
        ValueError: for members that would lie outside, links and devices; nothing is written then.
    """
    with _opened(path, kind) as archive:
        members = list(_members(archive, path))
        for name, member in members:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _stream(archive, member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _opened(path: Path, kind: str) -> Any:
    return tarfile.open(path) if kind == "tar" else zipfile.ZipFile(path)


def _members(archive: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yields names and descriptions of the files; folders come with them."""
    if isinstance(archive, zipfile.ZipFile):
        for info in archive.infolist():
            if not info.is_dir():
                yield _inside(info.filename, path), info
        return
    for member in archive.getmembers():
        if member.isdir():
            continue
        if not member.isfile():
            raise ValueError(
                f"archive {path.name!r}: {member.name!r} is a link or a device; only plain files "
                "are unpacked"
            )
        yield _inside(member.name, path), member


def _inside(name: str, path: Path) -> str:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name or not parts.parts:
        raise ValueError(f"archive {path.name!r}: {name!r} would lie outside of the folder")
    return str(parts)


def _stream(archive: Any, member: Any) -> IO[bytes]:
    opened: Any
    if isinstance(archive, zipfile.ZipFile):
        opened = archive.open(member)
    else:
        opened = archive.extractfile(member)
    found: IO[bytes] = opened
    return found
