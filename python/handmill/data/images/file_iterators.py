"""Batches of images from files: folders of classes, and tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.console import say
from handmill.data.images.augmenter import ImageAugmenter
from handmill.data.images.directory import (
    IMAGE_SUFFIXES,
    checked_directory,
    find_classes,
    list_images,
)
from handmill.data.images.files import (
    COLOR_MODES,
    checked_color_mode,
    resampling,
)
from handmill.data.images.iterator import BatchMaker, Iterator, make_now, saver
from handmill.data.images.sources import FileSource
from handmill.errors import warn_caller

if TYPE_CHECKING:
    from handmill.ir.op import Array


class _FilesIterator(Iterator):
    """What iterators over image files have in common."""

    allowed_class_modes: frozenset[str | None] = frozenset()

    def __init__(
        self,
        paths: list[str],
        labels: Any,
        sample_weight: Array | None,
        image_data_generator: ImageAugmenter,
        target_size: tuple[int, int],
        color_mode: str,
        class_mode: str | None,
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        data_format: str | None,
        save_to_dir: str | os.PathLike[str] | None,
        save_prefix: str,
        save_format: str,
        interpolation: str,
        keep_aspect_ratio: bool,
        dtype: str | None,
        cache_bytes: int,
        skip_corrupt: bool,
    ) -> None:
        self.image_data_generator = image_data_generator
        self.target_size = _checked_target_size(target_size)
        self.color_mode = checked_color_mode(color_mode)
        self.data_format = config.standardize_data_format(data_format)
        self.keep_aspect_ratio = keep_aspect_ratio
        self.interpolation = interpolation
        resampling(interpolation)
        channels = COLOR_MODES[color_mode]
        first = self.data_format == "channels_first"
        self.image_shape = (channels, *self.target_size) if first else (*self.target_size, channels)
        self.class_mode = class_mode
        self.dtype = dtype or config.floatx()
        self.save_to_dir = save_to_dir
        self.save_prefix = save_prefix
        self.save_format = save_format
        self.labels = labels
        self.sample_weight = sample_weight
        self.samples = len(paths)
        self.filepaths = paths
        super().__init__(self.samples, batch_size, shuffle, seed)
        source = FileSource(
            paths,
            color_mode,
            self.target_size,
            interpolation,
            keep_aspect_ratio,
            cache_bytes,
            skip_corrupt,
        )
        self.corrupt_files = source.reader.corrupt_files
        self._maker = BatchMaker(
            self._plan,
            image_data_generator,
            source,
            _Finisher(class_mode, labels, self.num_classes, sample_weight, self.dtype),
            seed,
            saver(save_to_dir, save_prefix, save_format, self.data_format),
        )

    @property
    def augments(self) -> bool:  # type: ignore[override]
        """Whether batches differ at random from the data."""
        return self.image_data_generator.augments

    def _check_class_mode(self, class_mode: str | None) -> None:
        if class_mode not in self.allowed_class_modes:
            known = ", ".join(sorted(repr(mode) for mode in self.allowed_class_modes))
            raise ValueError(f"Invalid class_mode: {class_mode!r}; expected one of: {known}")

    def _get_batches_of_transformed_samples(self, index_array: Array) -> Any:
        return make_now(self, index_array)


def _checked_target_size(target_size: Any) -> tuple[int, int]:
    size = tuple(target_size)
    if len(size) != 2 or not all(isinstance(s, int | np.integer) and s > 0 for s in size):
        raise ValueError(
            f"target_size: expected two positive integers (height, width), got {target_size!r}"
        )
    return int(size[0]), int(size[1])


@dataclass(frozen=True)
class _Finisher:
    """Adds the labels, which have the dtype of the images, as in Keras."""

    class_mode: str | None
    labels: Any
    num_classes: int | None
    weights: Array | None
    dtype: str

    def __call__(self, x: Array, indices: Array) -> Any:
        if self.class_mode is None:
            return x
        if self.weights is None:
            return x, self._targets(x, indices)
        return x, self._targets(x, indices), self.weights[indices]

    def _targets(self, x: Array, indices: Array) -> Any:
        labels = self.labels
        if self.class_mode == "input":
            return x.copy()
        if self.class_mode in ("binary", "sparse"):
            return np.asarray(labels)[indices].astype(self.dtype)
        if self.class_mode == "categorical":
            y = np.zeros((len(indices), self.num_classes or 0), self.dtype)
            for row, index in zip(y, indices, strict=True):
                row[labels[index]] = 1.0
            return y
        if self.class_mode == "multi_output":
            return [column[indices] for column in labels]
        return labels[indices]  # raw


def _subset_split(subset: str | None, generator: ImageAugmenter) -> tuple[float, float] | None:
    if subset is None:
        return None
    fraction = generator._validation_split
    if subset == "validation":
        return (0, fraction)
    if subset == "training":
        return (fraction, 1)
    raise ValueError(f'Invalid subset name: {subset}; expected "training" or "validation"')


class DirectoryIterator(_FilesIterator):
    """Batches of images from a folder; made by ``ImageDataGenerator.flow_from_directory``.

    Args:
        directory: a folder that holds one folder for each class.
        image_data_generator: how to augment and normalise.
        target_size: (height, width) to which images are resized.
        color_mode: ``"rgb"``, ``"rgba"`` or ``"grayscale"``.
        classes: names of the folders to use; default: all, sorted.
        class_mode: ``"categorical"``, ``"sparse"``, ``"binary"``, ``"input"`` or None.
        batch_size: images in a batch.
        shuffle: whether each pass has an order of its own.
        seed: of orders and augmentation.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        save_to_dir: a folder to which each augmented image is written.
        save_prefix: begins the names of those files.
        save_format: suffix and format of those files.
        follow_links: whether to enter folders that are symbolic links.
        subset: ``"training"``, ``"validation"`` or None.
        interpolation: how to resize, in Pillow's meaning.
        keep_aspect_ratio: crops the centre to the target's aspect ratio before resizing.
        dtype: of the images and labels in a batch.
        cache_bytes: how many bytes of decoded images to keep.
        skip_corrupt: whether files that cannot be read are left out.

    Attributes:
        class_indices: name of a class -> its number.
        classes: the number of each file's class, int32.
        filenames: the files, relative to the directory.
        filepaths: the files with their directory.
        samples: how many files.
        corrupt_files: with ``skip_corrupt``, the files left out so far, and why.
    """

    allowed_class_modes = frozenset({"categorical", "binary", "sparse", "input", None})

    def __init__(
        self,
        directory: str | os.PathLike[str],
        image_data_generator: ImageAugmenter,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
        dtype: str | None = None,
        cache_bytes: int = 0,
        skip_corrupt: bool = False,
    ) -> None:
        self._check_class_mode(class_mode)
        split = _subset_split(subset, image_data_generator)
        self.directory = checked_directory(directory)
        names = list(classes) if classes else find_classes(self.directory)
        self.filenames, numbers = list_images(self.directory, names, split, follow_links)
        self.subset = subset
        self.num_classes = len(names)
        self.class_indices = {name: number for number, name in enumerate(names)}
        self.classes = np.array(numbers, np.int32)
        super().__init__(
            [os.path.join(self.directory, name) for name in self.filenames],  # noqa: PTH118
            self.classes,
            None,
            image_data_generator,
            target_size,
            color_mode,
            class_mode,
            batch_size,
            shuffle,
            seed,
            data_format,
            save_to_dir,
            save_prefix,
            save_format,
            interpolation,
            keep_aspect_ratio,
            dtype,
            cache_bytes,
            skip_corrupt,
        )
        say(f"Found {self.samples} images belonging to {self.num_classes} classes.")

    def _require_samples(self) -> None:
        if self.n == 0:
            part = "" if self.subset is None else f" in subset {self.subset!r}"
            raise ValueError(
                f"no images{part} below {self.directory!r}: expected one folder for each class, "
                f"with files ending in {', '.join(IMAGE_SUFFIXES)}"
            )


class DataFrameIterator(_FilesIterator):
    """Batches of files named in a table; made by ``ImageDataGenerator.flow_from_dataframe``.

    Args:
        dataframe: a DataFrame of pandas or polars, or a mapping of column names to sequences.
        directory: to which the file names are relative.
        image_data_generator: how to augment and normalise.
        x_col: the column of file names.
        y_col: the column of labels, or a list of columns.
        weight_col: the column of sample weights.
        target_size: (height, width) to which images are resized.
        color_mode: ``"rgb"``, ``"rgba"`` or ``"grayscale"``.
        classes: the labels to use; default: all, sorted.
        class_mode: ``"categorical"``, ``"sparse"``, ``"binary"``, ``"input"``, ``"raw"``,
            ``"multi_output"`` or None.
        batch_size: images in a batch.
        shuffle: whether each pass has an order of its own.
        seed: of orders and augmentation.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        save_to_dir: a folder to which each augmented image is written.
        save_prefix: begins the names of those files.
        save_format: suffix and format of those files.
        subset: ``"training"``, ``"validation"`` or None.
        interpolation: how to resize, in Pillow's meaning.
        keep_aspect_ratio: crops the centre to the target's aspect ratio before resizing.
        dtype: of the images and labels in a batch.
        validate_filenames: leaves out, with a warning, rows whose file does not exist.
        cache_bytes: how many bytes of decoded images to keep.
        skip_corrupt: whether files that cannot be read are left out.
    """

    allowed_class_modes = frozenset(
        {"binary", "categorical", "input", "multi_output", "raw", "sparse", None}
    )

    def __init__(
        self,
        dataframe: Any,
        directory: str | os.PathLike[str] | None,
        image_data_generator: ImageAugmenter,
        x_col: str = "filename",
        y_col: str | list[str] = "class",
        weight_col: str | None = None,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | os.PathLike[str] | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
        dtype: str | None = None,
        validate_filenames: bool = True,
        cache_bytes: int = 0,
        skip_corrupt: bool = False,
    ) -> None:
        self._check_class_mode(class_mode)
        split = _subset_split(subset, image_data_generator)
        self.directory = os.fspath(directory or "")
        targets = [] if class_mode in ("input", None) else y_col
        _check_columns(dataframe, x_col=x_col, y_col=targets, weight_col=weight_col or [])
        files = list(dataframe[x_col])
        if not all(isinstance(file, str) for file in files):
            raise TypeError(f"All values in column x_col={x_col} must be strings.")
        paths = [os.path.join(self.directory, file) for file in files]  # noqa: PTH118
        rows = list(range(len(files)))
        if validate_filenames:
            rows = [r for r in rows if _is_image_file(paths[r])]
            if len(rows) < len(files):
                warn_caller(
                    f'Found {len(files) - len(rows)} invalid image filename(s) in x_col="{x_col}". '
                    "These filename(s) will be ignored.",
                )
        labels: Any = None
        kinds = ""
        if class_mode in ("binary", "categorical", "sparse"):
            rows, labels = self._label_rows(dataframe, y_col, class_mode, classes, rows)
            kinds = f" belonging to {self.num_classes} classes"
        if split is not None:
            part = slice(int(split[0] * len(rows)), int(split[1] * len(rows)))
            rows, labels = rows[part], None if labels is None else labels[part]
        if class_mode == "multi_output":
            if not isinstance(y_col, list):
                raise TypeError(
                    f'If class_mode="multi_output", y_col must be a list. Received {y_col!r}.'
                )
            labels = [np.array([list(dataframe[column])[r] for r in rows]) for column in y_col]
        elif class_mode == "raw":
            columns = [dataframe[c] for c in y_col] if isinstance(y_col, list) else dataframe[y_col]
            values = np.asarray(columns).T if isinstance(y_col, list) else np.asarray(columns)
            labels = values[rows]
        weights = None
        if weight_col is not None:
            weights = np.asarray(dataframe[weight_col])[rows]
            if weights.dtype.kind not in "iuf":
                raise TypeError(f"Column weight_col={weight_col} must be numeric.")
        self.filenames = [files[r] for r in rows]
        if class_mode in ("binary", "categorical", "sparse"):
            self.classes = labels
        super().__init__(
            [paths[r] for r in rows],
            labels,
            weights,
            image_data_generator,
            target_size,
            color_mode,
            class_mode,
            batch_size,
            shuffle,
            seed,
            data_format,
            save_to_dir,
            save_prefix,
            save_format,
            interpolation,
            keep_aspect_ratio,
            dtype,
            cache_bytes,
            skip_corrupt,
        )
        validated = "validated" if validate_filenames else "non-validated"
        say(f"Found {self.samples} {validated} image filenames{kinds}.")

    def _label_rows(
        self, table: Any, y_col: Any, class_mode: str, classes: Any, rows: list[int]
    ) -> tuple[list[int], list[Any]]:
        """The rows whose label is a known class, and their labels as numbers."""
        # Lists in a column of polars are columns themselves.
        values = [v.to_list() if hasattr(v, "to_list") else v for v in table[y_col]]
        allowed = (str, list, tuple) if class_mode == "categorical" else str
        if not all(isinstance(value, allowed) for value in values):
            kind = "type string, list or tuple" if class_mode == "categorical" else "strings"
            raise TypeError(
                f'If class_mode="{class_mode}", y_col="{y_col}" column values must be {kind}.'
            )
        sets = [[v] if isinstance(v, str) else list(v) for v in values]
        # Classes of rows whose file is missing are none, as in Keras.
        found = {v for row in rows for v in sets[row]}
        names = list(dict.fromkeys(classes)) if classes else sorted(found)
        if class_mode == "binary" and len(names) != 2:
            raise ValueError(
                f'If class_mode="binary" there must be 2 classes. Found {len(names)} classes.'
            )
        self.num_classes = len(names)
        self.class_indices = {name: number for number, name in enumerate(names)}
        kept, labels = [], []
        for row in rows:
            numbers = [self.class_indices[v] for v in sets[row] if v in self.class_indices]
            if numbers:
                kept.append(row)
                labels.append(numbers[0] if isinstance(values[row], str) else numbers)
        return kept, labels


def _is_image_file(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES) and Path(path).is_file()


def _check_columns(dataframe: Any, **given: str | Sequence[str]) -> None:
    """Raises a KeyError that names the argument and the columns that there are."""
    there = list(getattr(dataframe, "columns", dataframe))  # a dict of columns will do
    for argument, names in given.items():
        for name in [names] if isinstance(names, str) else names:
            if name not in there:
                raise KeyError(f"{argument}: the frame has no column {name!r}; it has {there}")
