"""The rows that ``handmill explain`` is given in files: arrays, tables, texts, images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handmill.ir.op import Array

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Rows(NamedTuple):
    """Rows of a file, and the names of their columns, if it says them."""

    x: Any
    names: list[str] | None = None

    def is_table(self) -> bool:
        """Whether a row is a list of measured numbers."""
        return np.ndim(self.x) == 2 and self.x.dtype.kind == "f"


def read_rows(path: str, model: Any, scale: float, drop: Sequence[str] = ()) -> Rows:
    """Reads rows as a model takes them.

    Args:
        path: an .npz file with x, an .npy file, a .csv file with a header or without, a .txt file
            with a text a line, or an image, which gets the size that the model takes.
        model: the model.
        scale: a factor for the levels of an image.
        drop: columns of a table, by name or number, that are no inputs.

    Raises:
        OSError: if the file cannot be read.
        ValueError: for what is no such file, or not what the model takes.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        return Rows(np.load(path, allow_pickle=False))
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as data:
            if "x" not in data:
                raise ValueError(f"{path} holds {data.files}, but no array x")
            return Rows(data["x"])
    if suffix == ".csv":
        return _table(path, _columns_of(model), drop)
    if suffix == ".txt":
        return Rows(_texts(path, model))
    if suffix in IMAGES:
        return Rows(_image(path, model, scale))
    raise ValueError(
        f"{path}: rows are read from .npy, .npz, .csv and .txt files and from images "
        f"({', '.join(IMAGES)}), not from {suffix or 'a file without a suffix'}"
    )


def _columns_of(model: Any) -> int | None:
    """How many numbers a row of a table has; None if that is open."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], int):
        return shape[1]
    if isinstance(shape, tuple) and len(shape) > 2 and all(isinstance(d, int) for d in shape[1:]):
        raise ValueError(
            f"a .csv file holds a table, and the model takes rows of the shape {shape[1:]}: pass "
            "an image, or an .npy file"
        )
    return None


def _table(path: str, wanted: int | None, drop: Sequence[str]) -> Rows:
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        start = file.read(4096)
        file.seek(0)
        first = start.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)
        lines = [
            line for line in csv.reader(file, delimiter=delimiter) if any(map(str.strip, line))
        ]
    if not lines:
        raise ValueError(f"{path} is empty")
    names = None if all(map(_is_number, lines[0])) else [name.strip() for name in lines[0]]
    rows = lines if names is None else lines[1:]
    if not rows:
        raise ValueError(f"{path} holds a header, but no rows")
    told = [str(i) for i in range(len(lines[0]))] if names is None else names
    unknown = [column for column in drop if column not in told]
    if unknown:
        raise ValueError(f"--drop: {path} has no column {unknown[0]!r}; there are {told}")
    kept = [i for i, name in enumerate(told) if name not in drop]
    if wanted is not None and len(kept) != wanted:
        raise ValueError(
            f"{path} has {len(kept)} columns, the model takes {wanted}. Leave out what is no "
            f"input, such as the answer: --drop {told[kept[-1]]!r}. The columns are "
            f"{[told[i] for i in kept]}"
        )
    x = np.empty((len(rows), len(kept)))
    for number, row in enumerate(rows):
        line = number + 1 + (names is not None)
        if len(row) != len(told):
            raise ValueError(f"{path}, row {line}: {len(row)} cells, expected {len(told)}")
        for place, i in enumerate(kept):
            if not _is_number(row[i]):
                raise ValueError(
                    f"{path}, row {line}, column {told[i]!r}: {row[i]!r} is no number. Leave the "
                    f"column out (--drop {told[i]!r}) or write numbers, as the model was trained on"
                )
            x[number, place] = float(row[i])
    return Rows(x, None if names is None else [names[i] for i in kept])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def takes_texts(model: Any) -> bool:
    """Whether the model makes numbers of texts itself."""
    return getattr(model, "_host", None) is not None


def _texts(path: str, model: Any) -> Array:
    if not takes_texts(model):
        raise ValueError(
            f"{path} holds texts, but the model takes numbers of the shape {model.input_shape}: "
            "put its TextVectorization layer into the model, or pass the numbers in an .npy file"
        )
    texts = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError(f"{path} holds no text; each line is one")
    return np.array(texts, dtype=object)


def rescales(model: Any) -> bool:
    """Whether a layer of the model brings what it is given to another range."""
    from handmill.layers import BatchNormalization, Normalization, Rescaling
    from handmill.layers.layer import all_layers

    kinds = (BatchNormalization, Normalization, Rescaling)
    return any(isinstance(layer, kinds) for layer in all_layers(model))


def _image(path: str, model: Any, scale: float) -> Array:
    from handmill.utils import img_to_array, load_img

    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) < 3:
        raise ValueError(
            f"{path} is an image, but the model takes {shape}: pass rows in an .npy or .csv file "
            "(with --shape height,width they are drawn as images)"
        )
    size = shape[1:3] if len(shape) == 4 and None not in shape[1:3] else None
    mode = "grayscale" if shape[-1] == 1 else "rgb"
    image = img_to_array(load_img(path, color_mode=mode, target_size=size))
    return np.asarray(image * np.float32(scale))[None]
