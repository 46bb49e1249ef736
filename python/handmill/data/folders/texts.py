"""Folders of texts as data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from handmill.data.folders.index import FileArguments, checked_format, make_datasets
from handmill.data.reader import FileReader
from handmill.files import read_regular

SUFFIXES = (".txt",)


def text_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Makes a data set of the text files in a folder, which holds one folder for each class.

    Args:
        directory: the folder. Files ending in txt count; they are UTF-8.
        labels: see :func:`image_dataset_from_directory`, as for the arguments not listed here.
        label_mode: see there.
        class_names: see there.
        batch_size: texts of a batch; None for single texts.
        max_length: texts are cut to so many characters.
        shuffle: see there.
        seed: see there.
        validation_split: see there.
        subset: see there.
        follow_links: see there.
        format: see there.
        verbose: see there.

    Returns:
        A ``Dataset`` of texts (arrays of ``str`` objects), or of pairs of texts and labels, with
        the attributes ``class_names`` and ``file_paths``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: as for images; and when a file is reached that is not UTF-8, which is named.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from handmill.utils import text_dataset_from_directory
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, text in (("bad", "boring"), ("good", "fun")):
        ...         Path(folder, name).mkdir()
        ...         _ = Path(folder, name, "1.txt").write_text(text)
        ...     data = text_dataset_from_directory(folder, shuffle=False)
        ...     [(x.tolist(), y.tolist()) for x, y in data]
        Found 2 files belonging to 2 classes.
        [(['boring', 'fun'], [0, 1])]
    """
    checked_format(format)
    if max_length is not None and (not isinstance(max_length, int) or max_length < 0):
        raise ValueError(f"`max_length` must be a count of characters, got {max_length!r}")

    given = FileArguments(
        directory,
        labels,
        label_mode,
        class_names,
        batch_size,
        shuffle,
        seed,
        validation_split,
        subset,
        follow_links,
        verbose,
    )
    return make_datasets(
        given, SUFFIXES, "text files", FileReader(partial(_text, max_length=max_length))
    )


def _text(path: str, max_length: int | None) -> str:
    data = read_regular(path)
    try:
        return data.decode("utf-8")[:max_length]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"cannot read text {path!r}: it is not UTF-8 ({error}); convert the file first"
        ) from None
