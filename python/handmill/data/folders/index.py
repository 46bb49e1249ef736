"""Which files a folder holds, and their labels, in Keras's order."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from handmill import config, random
from handmill.console import say
from handmill.data.images.directory import checked_directory, walked
from handmill.data.pipeline.dataset import UNKNOWN, Dataset, count_of
from handmill.data.pipeline.elements import stacked
from handmill.data.pipeline.stages import Derived, with_free_rows
from handmill.data.prefetch import made_ahead_if_slow
from handmill.data.reader import FileReader, reading_threads
from handmill.errors import warn_caller
from handmill.ir.op import Array

_AHEAD = 2  # batches made ahead of the consumer, beside those in work

LABEL_MODES = ("int", "categorical", "binary", None)


@dataclass(frozen=True)
class FileArguments:
    """What the functions ``*_dataset_from_directory`` have in common; see those of images."""

    directory: str | os.PathLike[str]
    labels: Any
    label_mode: str | None
    class_names: Sequence[str] | None
    batch_size: int | None
    shuffle: bool
    seed: int | None
    validation_split: float | None
    subset: str | None
    follow_links: bool
    verbose: bool

    @property
    def has_labels(self) -> bool:
        """Whether elements have labels."""
        return self.labels is not None and self.label_mode is not None


@dataclass(frozen=True)
class Listing:
    """Files with their labels.

    Attributes:
        paths: the files.
        labels: a class number for each, None without labels.
        class_names: what the numbers mean, None without labels.
    """

    paths: list[str]
    labels: Array | None
    class_names: list[str] | None


def make_datasets(
    given: FileArguments,
    suffixes: tuple[str, ...],
    kind: str,
    reader: FileReader,
    join: Callable[[list[Any]], Any] = stacked,
) -> Any:
    """Returns the data set of a folder, or two with ``subset="both"``.

    Args:
        given: the arguments of the caller.
        suffixes: how the names of files end, in small letters.
        kind: what the files are, for messages.
        reader: reads them.
        join: makes a batch of what it read.
    """
    _check(given)
    # As in Keras, the order of the files has this seed too, so that two calls split alike.
    seed = random.next_host_seed() % 1_000_000 if given.seed is None else _seed(given.seed)
    listing = _list(given, suffixes, kind, seed)
    names = listing.class_names
    if given.has_labels and given.label_mode == "binary" and len(names or ()) != 2:
        raise ValueError(
            'When passing `label_mode="binary"`, there must be exactly 2 class_names. Received: '
            f"class_names={names}"
        )
    subsets = ("training", "validation") if given.subset == "both" else (given.subset,)
    made = []
    for subset in subsets:
        chosen = _cut(listing, given, subset)
        if not chosen.paths:
            part = f"{subset} " if subset else ""
            raise ValueError(
                f"No {part}{kind} found in directory {os.fspath(given.directory)!r}. Allowed "
                f"formats: {', '.join(suffixes)}{_hint_of_folders(given, suffixes)}"
            )
        shuffles = given.shuffle and not (given.subset == "both" and subset == "validation")
        made.append(_dataset(chosen, given, shuffles, seed, reader, join))
    return made if given.subset == "both" else made[0]


def checked_format(format: str) -> None:
    """Checks the argument ``format``.

    Raises:
        ValueError: if it is not one of Keras's.
    """
    if format not in ("tf", "grain"):
        raise ValueError(f'`format` should be either "tf" or "grain". Received: format={format!r}')


def _check(given: FileArguments) -> None:
    if given.labels is not None and not isinstance(given.labels, str):
        if not isinstance(given.labels, list | tuple | np.ndarray):
            raise ValueError(
                '`labels` argument should be "inferred", None or a list of class numbers, one for '
                f"each file in the order of sorted paths. Received: labels={given.labels!r}"
            )
        if given.class_names:
            raise ValueError(
                'You can only pass `class_names` if `labels="inferred"`. Received: '
                f"labels={given.labels!r}, and class_names={given.class_names}"
            )
    elif given.labels not in ("inferred", None):
        raise ValueError(
            '`labels` argument should be "inferred", None or a list of class numbers. Received: '
            f"labels={given.labels!r}"
        )
    if given.label_mode not in LABEL_MODES:
        raise ValueError(
            '`label_mode` argument must be one of "int", "categorical", "binary", or None. '
            f"Received: label_mode={given.label_mode!r}"
        )
    split, subset = given.validation_split, given.subset
    if split and not 0 < split < 1:
        raise ValueError(f"`validation_split` must be between 0 and 1, received: {split}")
    if subset not in ("training", "validation", "both", None):
        raise ValueError(
            '`subset` must be either "training", "validation" or "both", received: ' + repr(subset)
        )
    if bool(split) != bool(subset):
        raise ValueError("If `subset` is set, `validation_split` must be set, and inversely.")
    if split and given.shuffle and given.seed is None:
        raise ValueError(
            "If using `validation_split` and shuffling the data, you must provide a `seed` "
            "argument, to make sure that there is no overlap between the training and validation "
            "subset."
        )


def _seed(seed: Any) -> int:
    """The seed of an order of files.

    Raises:
        TypeError: if it is no whole number.
        ValueError: if ``numpy.random.RandomState`` does not take it.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(
            f"`seed` must be an integer or None. Received: seed={seed!r} (of type "
            f"{type(seed).__name__})"
        ) from None
    if not 0 <= number < 2**32:
        raise ValueError(f"`seed` must be between 0 and 2**32 - 1. Received: seed={number}")
    return number


def _list(given: FileArguments, suffixes: tuple[str, ...], kind: str, seed: int) -> Listing:
    directory = checked_directory(given.directory)
    names: list[str] | None = None
    labels: Array | None = None
    # Keras looks at class_names even where there are no labels.
    inferred = isinstance(given.labels, str) and given.label_mode is not None
    if inferred:
        found = sorted(
            entry.name
            for entry in os.scandir(directory)
            if entry.is_dir() and not entry.name.startswith(".")
        )
        names = found if given.class_names is None else list(given.class_names)
        if not set(names) <= set(found):
            raise ValueError(
                "The `class_names` passed did not match the names of the subdirectories of the "
                f"target directory. Expected: {found} (or a subset of it), but received: "
                f"class_names={given.class_names}"
            )
        groups = [_files(Path(directory) / name, suffixes, given.follow_links) for name in names]
        paths = [path for group in groups for path in group]
        empty = [repr(name) for name, group in zip(names, groups, strict=True) if not group]
        if empty and paths:
            warn_caller(
                f"no {kind} ({', '.join(suffixes)}) in the class folder(s) {', '.join(empty)} of "
                f"{directory!r}; they count as classes all the same",
            )
        labels = np.repeat(np.arange(len(groups), dtype=np.int32), [len(g) for g in groups])
    else:
        if given.class_names is not None:
            raise ValueError(
                "When `labels=None` (no labels), argument `class_names` cannot be specified."
            )
        paths = _files(Path(directory), suffixes, given.follow_links)
        if given.has_labels:
            labels = np.asarray(given.labels)
            if len(labels) != len(paths):
                raise ValueError(
                    "Expected the lengths of `labels` to match the number of files in the target "
                    f"directory. len(labels) is {len(labels)} while we found {len(paths)} files in "
                    f"directory {directory!r}."
                )
            names = [str(label) for label in sorted(set(labels.tolist()))]
    if given.verbose:
        classes = "" if names is None else f" belonging to {len(names)} classes"
        say(f"Found {len(paths)} files{classes}.")
    if given.shuffle:
        order = np.arange(len(paths))
        np.random.RandomState(seed).shuffle(order)
        paths = [paths[i] for i in order]
        labels = None if labels is None else labels[order]
    return Listing(paths, labels, names)


def _hint_of_folders(given: FileArguments, suffixes: tuple[str, ...]) -> str:
    """What to do where files lie beside the folders of classes, or are all of one class."""
    with os.scandir(given.directory) as entries:
        count = sum(entry.name.lower().endswith(suffixes) for entry in entries)
    if not count or given.labels != "inferred":
        return ""
    return (
        f"\n  hint: {count} lie in the directory itself; their classes are inferred from folders "
        "inside of it, one for each class: pass the directory that holds those, or labels=None"
    )


def _files(folder: Path, suffixes: tuple[str, ...], follow_links: bool) -> list[str]:
    found = []
    for root, files in sorted(walked(folder, follow_links)):
        found += [
            os.path.join(root, name)  # noqa: PTH118
            for name in sorted(files)
            if name.lower().endswith(suffixes)
        ]
    return found


def _cut(listing: Listing, given: FileArguments, subset: str | None) -> Listing:
    if not given.validation_split:
        return listing
    count = int(given.validation_split * len(listing.paths))
    end = len(listing.paths) - count
    part = slice(0, end) if subset == "training" else slice(end, None)
    if given.verbose:
        say(f"Using {end if subset == 'training' else count} files for {subset}.")
    labels = None if listing.labels is None else listing.labels[part]
    return Listing(listing.paths[part], labels, listing.class_names)


def _dataset(
    listing: Listing,
    given: FileArguments,
    shuffles: bool,
    seed: int,
    reader: FileReader,
    join: Callable[[list[Any]], Any],
) -> Dataset:
    paths = np.empty(len(listing.paths), object)
    paths[:] = listing.paths
    if listing.labels is None:
        data = Dataset.from_tensor_slices(paths)
    else:
        labels = _encoded(listing.labels, given.label_mode, len(listing.class_names or ()))
        data = Dataset.from_tensor_slices((paths, labels))
    size = None if given.batch_size is None else count_of("batch_size", given.batch_size)
    if shuffles:
        data = data.shuffle(1024 if size is None else size * 8, seed=seed)
    above, kind = (data, _Read) if size is None else (data.batch(size), _Joined)
    found: Dataset = kind(above, reader, join)
    found.class_names = listing.class_names
    found.file_paths = listing.paths
    found.corrupt_files = reader.corrupt_files
    return found


class _Read(Derived):
    """What files hold; elements of the stage above are paths, or pairs of a path and a label.

    Files are read ahead, on threads. Reports of files that were left out come from the thread that
    goes through the elements, so that they are warnings at its line.
    """

    def __init__(
        self, above: Dataset, reader: FileReader, join: Callable[[list[Any]], Any]
    ) -> None:
        super().__init__(above)
        self._reader = reader
        self._join = join

    def cardinality(self) -> int:
        return UNKNOWN if self._reader.skip_corrupt else super().cardinality()

    def _spec(self) -> Any:
        return super(Derived, self)._spec()  # of the first element

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        if self._reader.skip_corrupt:
            return islice(self._present(pass_, 0), start, None)
        return self._present(pass_, start)

    def _present(self, pass_: int, start: int) -> Iterator[Any]:
        above = self._above._open(pass_, start)
        threads = reading_threads(self.file_paths, config.num_threads())
        for element in made_ahead_if_slow(above, self._made, threads, threads + _AHEAD):
            self._reader.report()
            if element is not None:
                yield element

    def _made(self, element: Any) -> Any:
        path, *label = element if isinstance(element, tuple) else (element,)
        read = self._reader.read_or_skip(path)
        if read is None:
            return None
        one = self._join([read])[0]
        return (one, *label) if label else one


class _Joined(_Read):
    """Batches of what files hold; elements of the stage above are batches of paths."""

    def cardinality(self) -> int:
        return self._above.cardinality()

    def _spec(self) -> Any:
        return with_free_rows(super()._spec())

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return self._present(pass_, start)

    def _made(self, element: Any) -> Any:
        paths, *labels = element if isinstance(element, tuple) else (element,)
        read, positions = self._reader.read_all(paths.tolist())
        batch = self._join(read)
        if not labels:
            return batch
        return (batch, labels[0] if len(read) == len(paths) else labels[0][positions])


def _encoded(labels: Array, label_mode: str | None, classes: int) -> Array:
    if label_mode == "int":
        return labels.astype(np.int32)
    if label_mode == "binary":
        return labels.astype(np.float32)[:, None]
    from handmill.data.arrays import to_categorical

    return to_categorical(labels, classes)
