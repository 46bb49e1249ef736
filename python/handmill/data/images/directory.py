"""Folders of images: one folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from handmill.errors import warn_caller

IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff")


def checked_directory(directory: str | os.PathLike[str]) -> str:
    """The path of a directory that exists.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        NotADirectoryError: if it is a file.
    """
    path = Path(directory)
    if not path.exists():
        raise FileNotFoundError(f"no such directory: {os.fspath(directory)!r}")
    if not path.is_dir():
        raise NotADirectoryError(f"not a directory: {os.fspath(directory)!r}")
    return os.fspath(directory)


def find_classes(directory: str) -> list[str]:
    """The names of the folders in ``directory``, sorted."""
    return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())


def list_images(
    directory: str, classes: Sequence[str], split: tuple[float, float] | None, follow_links: bool
) -> tuple[list[str], list[int]]:
    """The image files of each class, in Keras's order.

    Args:
        directory: holds one folder a class.
        classes: names of those folders.
        split: the part of each class to take, as fractions of its files; None takes all.
        follow_links: whether to enter folders that are symbolic links.

    Returns:
        The files, relative to ``directory``, and the position in ``classes`` of each.
    """
    filenames: list[str] = []
    labels: list[int] = []
    empty = []
    for label, name in enumerate(classes):
        found = _list_files(Path(directory) / name, follow_links)
        if not found:
            empty.append(name)
        if split is not None:
            found = found[int(split[0] * len(found)) : int(split[1] * len(found))]
        filenames += [os.path.join(name, file) for file in found]  # noqa: PTH118
        labels += [label] * len(found)
    if empty and filenames:
        names = ", ".join(repr(name) for name in empty)
        warn_caller(
            f"no images ({', '.join(IMAGE_SUFFIXES)}) in the class folder(s) {names} of "
            f"{directory!r}; they count as classes all the same",
        )
    return filenames, labels


def _list_files(folder: Path, follow_links: bool) -> list[str]:
    """The image files below ``folder``, relative to it: folder by folder, each one sorted."""
    found = []
    for root, files in sorted(walked(folder, follow_links)):
        inside = os.path.relpath(root, folder)
        for file in sorted(files):
            if file.lower().endswith(IMAGE_SUFFIXES):
                found.append(file if inside == "." else os.path.join(inside, file))  # noqa: PTH118
    return found


def walked(folder: Path, follow_links: bool) -> Iterator[tuple[str, list[str]]]:
    """Yields folders and their files; a link to a folder above it is not entered.

    Raises:
        OSError: if a folder cannot be read; the message names it.
    """

    def fail(error: OSError) -> None:
        raise error

    above: dict[str, tuple[str, ...]] = {}
    for root, folders, files in os.walk(folder, onerror=fail, followlinks=follow_links):
        real = os.path.realpath(root)
        outer = above.get(os.path.dirname(root), ())  # noqa: PTH120
        if real in outer:
            folders.clear()
            continue
        above[root] = (*outer, real)
        yield root, files
