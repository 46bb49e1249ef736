"""Data as steps: arrays gathered by the program itself, or batches that something else makes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from handmill import config, random
from handmill.data.batches import unpack_x_y_sample_weight
from handmill.data.dataset import PyDataset, batches_of
from handmill.data.images.directory import IMAGE_SUFFIXES
from handmill.data.pipeline.dataset import INFINITE, Dataset
from handmill.data.pipeline.elements import ElementSpec
from handmill.data.pipeline.rows import RowBatches
from handmill.data.tables import is_lazy_table, is_table
from handmill.errors import warn_caller
from handmill.ir.op import Array
from handmill.models.checked_arguments import checked_batch_size, checked_class_weight, is_whole
from handmill.models.layout import (
    READY,
    SINGLE,
    Layout,
    as_data,
    as_weights,
    has_sparse,
    is_sparse,
    leaves,
    nested,
    split,
)
from handmill.models.mapped_batches import BatchError
from handmill.models.piece_data import PieceData
from handmill.models.portions import Drawn, Rows, name_batch, warn_out_of_data
from handmill.models.row_numbers import numbers_of
from handmill.models.sparse_data import SparseData
from handmill.runtime.feed import Feed

D = TypeVar("D", bound="ArrayData | BatchData | PieceData | SparseData")


class ArrayData:
    """Arrays in memory. Batches are gathered in C++, several steps a call.

    Args:
        layout: how the arrays lie.
        arrays: one for each input of the step, equally long.
        batch_size: rows of a batch.
        steps: steps of an epoch; None for a whole pass.
        orders: gives the order of rows for each pass; None to take them as they lie.
    """

    is_ahead = False

    def __init__(
        self,
        layout: Layout,
        arrays: list[Array],
        batch_size: int,
        steps: int | None,
        orders: Callable[[], Array] | None,
    ) -> None:
        self.layout = layout
        self.numbered = layout.numbered
        self.arrays = arrays
        self.rows = len(arrays[0])
        self.batch_size = batch_size
        self.steps = steps
        self.feed = Feed(arrays)
        self._orders = orders
        self._started = False

    @property
    def num_batches(self) -> int:
        """Steps of an epoch."""
        return self.steps or -(-self.rows // self.batch_size)

    @property
    def shuffled(self) -> bool:
        """Whether rows are taken in another order than that in which they lie."""
        return self._orders is not None

    def sample(self, count: int) -> list[Array]:
        """Returns the first rows of each array."""
        return [a[:count] for a in self.arrays]

    def whole(self) -> list[Array]:
        """All rows."""
        return self.arrays

    def rows_in_use(self) -> None:
        """All of them."""

    def look(self) -> tuple[Layout, list[Any]]:
        """The layout of a batch, and what its arrays are like."""
        return self.layout, self.feed.batch(min(self.batch_size, self.rows))

    def begin_epoch(self) -> None:
        """Starts a new pass, unless the last epoch left rows of one."""
        if not self._started or self.feed.position >= self.rows:
            self._started = True
            if self._orders is not None:
                self.feed.set_order(self._orders())
            self.feed.position = 0

    def restart(self) -> None:
        """Lets the next epoch start with the first row."""
        self._started = False

    def position(self) -> dict[str, Any]:
        """The place in the data, as plain data."""
        return {"started": self._started, "rows": self.feed.position}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Goes to a place that :meth:`position` gave; the order of a begun pass is drawn again."""
        rows = position["rows"]
        self._started = bool(position["started"])
        if self._started and self._orders is not None and rows < self.rows:
            self.feed.set_order(self._orders())
        self.feed.position = rows

    def next_portion(self, done: int) -> Rows | None:
        """Returns the batches that come next, None if the pass has no rows left."""
        left = self.rows - self.feed.position
        if left <= 0:
            warn_out_of_data()
            return None
        size = self.batch_size
        return Rows(self, size, left // size) if left >= size else Rows(self, left, 1)

    def end_epoch(self, done: int) -> None:
        """Is told that the epoch is over."""


class BatchData:
    """Batches made by a generator, a PyDataset or an image iterator.

    Args:
        source: the object.
        steps: steps of an epoch; None for as many as it has.
        shuffle: whether a PyDataset's batches come in a new order each pass.
        class_weight: factors of the samples' weights by class.
        check: called with the targets of each batch.
        numbered: whether batches come with the numbers of their rows: counted in each epoch.
        may_differ: whether the arrays of a batch may have different numbers of rows.
    """

    def __init__(
        self,
        source: Any,
        steps: int | None,
        shuffle: bool,
        class_weight: Mapping[Any, float] | None,
        check: Callable[[Any], Any] | None = None,
        numbered: bool = False,
        may_differ: bool = False,
    ) -> None:
        self.source = source
        self.numbered = numbered
        self.may_differ = may_differ
        self._rows = 0  # of the epoch that is under way
        self.steps = steps
        self.class_weight = class_weight
        self.check = check
        self._endless = hasattr(source, "__next__") and hasattr(source, "__len__")
        self._indexed = not self._endless and hasattr(source, "__getitem__")
        self._seed = random.next_host_seed() if shuffle and self._indexed else None
        self._passes = 0
        self._taken = 0  # batches of the pass that is under way
        self._drawn = 0  # batches of all passes
        self._ahead: Drawn | None = None  # a batch that was drawn before it was asked for
        self._epochs = 0
        self.last_batch: list[Array] | None = None
        self._iterator: Iterator[Any] | None = None
        self._hint = hint_for_samples(source)
        self._known = _number_of_batches(source)
        if self._known == 0:
            raise ValueError(f"{_named(source)} has no batches (its length is 0)")

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, None if that is not known yet."""
        return self.steps or self._known

    def _open(self) -> Iterator[Any]:
        if self._endless or hasattr(self.source, "__next__"):
            return self.source  # type: ignore[no-any-return]
        if self._indexed and self._known is not None:
            self._passes += 1
            return self._indexed_pass(0)
        if self._indexed:
            return batches_of(self.source, count())
        return iter(self.source)

    def _indexed_pass(self, start: int) -> Iterator[Any]:
        batches = int(self._known or 0)
        order: Any = range(batches)
        if self._seed is not None:
            order = random.permutation(self._seed, self._passes - 1, batches)
        return batches_of(self.source, order[start:])

    def _notify(self, hook: str) -> None:
        if self._indexed and hasattr(self.source, hook):
            getattr(self.source, hook)()

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._open())
            self._taken = 0
        try:
            batch = next(self._iterator)
        except BatchError as error:
            name_batch(error, self._taken)
            raise
        self._taken += 1
        self._drawn += 1
        return batch

    def _unpacked(self, batch: Any) -> tuple[Layout, list[Array]]:
        if type(batch) is tuple and len(batch) == 2 and self.class_weight is None:
            # What nearly every batch is; the long way costs two microseconds more.
            x, y = batch
            if type(x) is type(y) is np.ndarray and x.ndim and y.ndim and len(x) == len(y) > 0:
                if self.check is not None:
                    y = self.check(y)
                if x.dtype in READY and y.dtype in READY:
                    return SINGLE[True, False], [x, y]
                return split(x, y, None)
        x, y, weight = unpack_x_y_sample_weight(batch)
        if self.check is not None and y is not None:
            y = self.check(y)
        if self.class_weight is not None:
            weight = weights_of_classes(y, self.class_weight, weight)
        layout, arrays = split(x, y, weight)
        check_rows(layout, arrays, self._hint, self.may_differ)
        return layout, arrays

    def begin_epoch(self) -> None:
        """Tells the source that an epoch begins."""
        self._notify("on_epoch_begin")

    def whole(self) -> None:
        """The rows are not there yet."""

    def look(self) -> tuple[Layout, list[Any]] | None:
        """The layout of the first batch, and arrays like its own; None if it cannot be had yet.

        The batch is made once: the pass that begins next starts with it. The passes of a data set
        are counted, so it is asked for the specs of its elements instead.
        """
        if isinstance(self.source, Dataset):
            return self._like_specs()
        if _is_told_of_passes(self.source):
            return None
        if self._ahead is None:
            try:
                self._ahead = self._given(self._next())
            except StopIteration:
                self._iterator = None
                return None
        return self._ahead.layout, self._ahead.like()

    def _like_specs(self) -> tuple[Layout, list[Any]] | None:
        state = random.state()
        try:
            batch = _like(self.source.element_spec)
        except _Unknown:
            return None
        finally:
            random.restore_state(state)  # functions of the chain may have drawn
        layout, arrays = split(*unpack_x_y_sample_weight(batch))
        check_rows(layout, arrays, self._hint, self.may_differ)
        return layout, arrays

    def restart(self) -> None:
        """Lets the next epoch start with the first batch, where the source can start again."""
        if self._ahead is not None:
            return
        if self._endless and hasattr(self.source, "reset"):
            self.source.reset()
        elif not hasattr(self.source, "__next__"):
            self._iterator = None

    @property
    def is_ahead(self) -> bool:
        """Whether a batch was drawn whose step has not run."""
        return self._ahead is not None

    def next_portion(self, done: int) -> Drawn | None:
        """Returns the batches that come next, None (with a warning if it is too early) without."""
        if self._ahead is not None:
            found, self._ahead = self._ahead, None
            return found
        if not done:
            self._rows = 0
        try:
            batch = self._next()
        except StopIteration:
            self._iterator = None
            if self.num_batches is None and done:
                return None
            batch = self._first_of_another_pass() if not done else None
            if batch is None:
                warn_out_of_data()
                return None
        return self._given(batch)

    def _given(self, batch: Any) -> Drawn:
        layout, arrays = self._arrays_of(batch)
        return Drawn(layout, arrays, self._taken - 1, self._hint, self._draw)

    def _arrays_of(self, batch: Any) -> tuple[Layout, list[Array]]:
        number = self._taken - 1
        try:
            layout, arrays = self._unpacked(batch)
        except ValueError as error:
            name_batch(error, number or None)
            raise
        if self.numbered:
            rows = len(arrays[0])
            layout = layout.with_numbers()
            arrays.append(numbers_of(rows, self._rows))
            self._rows += rows
        self.last_batch = arrays
        return layout, arrays

    def _draw(self, layout: Layout) -> list[Array] | None:
        """Returns the next batch of a pass if it lies so; one that does not begins a portion."""
        try:
            batch = self._next()
        except StopIteration:
            self._iterator = iter(())  # what ended is not asked again
            return None
        found, arrays = self._arrays_of(batch)
        if found is layout or found.key == layout.key:
            return arrays
        self._ahead = Drawn(found, arrays, self._taken - 1, self._hint, self._draw)
        return None

    def _first_of_another_pass(self) -> Any:
        """The first batch of a data set that ended exactly where the last epoch did."""
        if self.num_batches is None or hasattr(self.source, "__next__"):
            return None
        self._iterator = None
        try:
            return self._next()
        except StopIteration:
            return None

    def position(self) -> dict[str, Any]:
        """The place in the data, as plain data."""
        return {
            "seed": self._seed,
            "passes": self._passes,
            "taken": self._taken if self._iterator is not None else 0,
            "is_open": self._iterator is not None,
            "drawn": self._drawn,
            "epochs": self._epochs,
            "known": self._known,
            "rows": self._rows,
            "source": self._state_of_source(),
        }

    def _state_of_source(self) -> Any:
        source = self.source
        if not isinstance(source, Dataset):
            return None
        return source.get_state() if self._iterator is not None else source.next_pass()

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Goes to a place that :meth:`position` gave, in a source that is at its beginning.

        A source with an index or a state, or that can skip batches, is not asked for those before;
        any other makes them once more. One that is told when epochs begin and end is told so.
        """
        taken, drawn = position["taken"], position["drawn"]
        self._known = position["known"]
        self._rows = position.get("rows", 0)  # files of older versions have none
        for _ in range(position["epochs"]):
            self._notify("on_epoch_begin")
            self._notify("on_epoch_end")
        if isinstance(self.source, Dataset):
            self.source.set_state(position["source"])
            self._iterator = iter(self._open()) if position["is_open"] else None
        elif hasattr(self.source, "skip_batches"):
            self.source.skip_batches(drawn)
            self._iterator = iter(self._open()) if position["is_open"] else None
        elif self._indexed and self._known is not None:
            self._seed, self._passes = position["seed"], position["passes"]
            self._iterator = self._indexed_pass(taken) if position["is_open"] else None
        elif position["is_open"]:
            for _ in range(drawn if hasattr(self.source, "__next__") else taken):
                self._next()
        self._taken, self._drawn, self._epochs = taken, drawn, position["epochs"]

    def end_epoch(self, done: int) -> None:
        """Notes the length of a pass, and tells the source that the epoch is over."""
        if self._known is None and self.steps is None and not self._indexed:
            self._known = done
        if self.steps is None and not self._endless and not hasattr(self.source, "__next__"):
            self._iterator = None
        self._epochs += 1
        self._notify("on_epoch_end")


class _Unknown(Exception):
    """Elements whose sizes are not known before they are made."""


def _like(spec: Any) -> Any:
    """Arrays like those of a batch of this spec, without memory."""
    if isinstance(spec, ElementSpec):
        sizes = [size or 0 for size in spec.shape[1:]]
        if None in spec.shape[1:] or spec.dtype == "str":
            raise _Unknown
        shape = (spec.shape[0] or 1, *sizes) if spec.shape else ()
        return np.broadcast_to(np.zeros((), spec.dtype), shape)
    if isinstance(spec, dict):
        return {key: _like(item) for key, item in spec.items()}
    return tuple(_like(item) for item in spec)


def _is_told_of_passes(source: Any) -> bool:
    """Whether a data set does something when a pass begins, before its first batch."""
    hook = getattr(type(source), "on_epoch_begin", None)
    return hook not in (None, PyDataset.on_epoch_begin)


def hint_for_samples(source: Any) -> str:
    """What to do where a source gives single samples and batches are needed."""
    if isinstance(source, Dataset):
        return "its elements are single samples; put them into batches: .batch(32)"
    if type(source).__module__.startswith("torch."):
        return (
            "its elements are single samples; put them into batches: "
            "torch.utils.data.DataLoader(dataset, batch_size=32)"
        )
    return "each batch is (x, y) whose arrays have a row for each of its samples"


def _number_of_batches(source: Any) -> int | None:
    if isinstance(source, Dataset):
        return source.num_batches
    if hasattr(source, "__len__"):
        try:
            return len(source)
        except TypeError as error:  # a DataLoader has a length that its data set may not know
            if "integer" in str(error):
                raise ValueError(
                    f"__len__() of {type(source).__name__} must return the number of batches, an "
                    f"integer: {error}"
                ) from error
            return None
    found: int | None = getattr(source, "num_batches", None)
    return found


def _named(source: Any) -> str:
    """What users call the kind of a source."""
    kind = Dataset if isinstance(source, Dataset) else type(source)
    return getattr(source, "kind_for_users", None) or kind.__name__


_IN_MEMORY = (np.ndarray, list, tuple, dict, memoryview)


def is_arrays(x: Any) -> bool:
    """Whether ``x`` is arrays in memory, not something that makes batches."""
    if isinstance(x, _IN_MEMORY):
        return True
    return is_table(x) or is_sparse(x) or hasattr(x, "__array__") or hasattr(x, "__dlpack__")


def check_rows(
    layout: Layout, arrays: list[Array], hint: str = "", may_differ: bool = False
) -> int:
    """Returns the number of rows, that of the first array.

    Args:
        layout: how the arrays lie.
        arrays: the arrays.
        hint: what to do if they are those of a single sample.
        may_differ: whether arrays may differ in it.

    Raises:
        ValueError: if arrays differ in it, or there is no data.
    """
    if not arrays:
        raise ValueError("Expected input data to be non-empty.")
    rows = -1
    for array in arrays:
        if array.ndim == 0:
            raise ValueError(
                "When passing a dataset to a Keras model, the arrays must be at least rank 1. "
                f"Received: {array} of rank 0." + (f"\n  hint: {hint}" if hint else "")
            )
        if rows < 0:
            rows = array.shape[0]
        elif array.shape[0] != rows and not may_differ:
            names = ("x", "y", "sample_weight")
            sizes, start = [], 0
            for name, count in zip(names, layout.counts, strict=True):
                part = arrays[start : start + count]
                start += count
                if part:
                    sizes.append(f"'{name}' sizes: {', '.join(str(a.shape[0]) for a in part)}")
            if not hint and layout.counts[0] > 1:
                hint = "a list holds one array for each input; np.stack(x) joins samples"
            raise ValueError(
                "Data cardinality is ambiguous. Make sure all arrays contain the same number of "
                f"samples. {'; '.join(sizes)}" + (f"\n  hint: {hint}" if hint else "")
            )
    if rows == 0:
        raise ValueError("Expected input data to be non-empty: the arrays have no rows.")
    return rows


def make_data(
    x: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    steps: int | None,
    shuffle: Any,
    class_weight: Mapping[Any, float] | None,
    orders: Callable[[int], Array] | None,
    check: Callable[[Any], Any] | None = None,
    numbered: bool = False,
    may_differ: bool = False,
) -> ArrayData | BatchData | PieceData | SparseData:
    """Returns data as steps.

    Args:
        x: arrays, or something that makes batches.
        y: targets, with arrays only.
        sample_weight: with arrays only.
        batch_size: default: 32.
        steps: steps of an epoch; default: a whole pass.
        shuffle: whether rows are taken in a new order each pass; ``"batch"`` changes it inside each
            batch only.
        class_weight: factors of the samples' weights by class.
        orders: gives an order of n things, for each pass anew.
        check: called with targets before they are used.
        numbered: whether batches come with the numbers of their rows in the data.
        may_differ: whether the arrays of a batch that is made may have different numbers of rows.
    """
    if steps is not None and not is_whole(steps):
        raise ValueError(f"the number of steps must be a positive integer, got {steps!r}")
    if isinstance(shuffle, str) and shuffle != "batch":
        raise ValueError(f"`shuffle` must be a bool or 'batch', got shuffle={shuffle!r}")
    if class_weight is not None:
        class_weight = checked_class_weight(class_weight)
    if x is None:
        raise ValueError("`x` is missing: pass arrays, a generator or a PyDataset")
    if is_lazy_table(x):
        as_data(x, "x")  # which says what to do
    if is_sparse(y):
        y = as_data(y, "y")
    if isinstance(x, str | bytes) or not is_arrays(x):
        _check_source(x)
        if batch_size is not None:
            warn_caller(
                f"batch_size={batch_size!r} has no effect: a {_named(x)} makes batches of its own "
                "size",
                UserWarning,
            )
        for name, given in (("y", y), ("sample_weight", sample_weight)):
            if given is not None:
                raise ValueError(
                    f"When providing `x` as a {_named(x)}, `{name}` should not be passed. "
                    f"Instead, {name} should be included as part of the batches."
                )
        if isinstance(x, Dataset) and steps is None and x.cardinality() == INFINITE:
            raise ValueError(
                "the data set is endless (it repeats for ever): say how many steps an epoch has "
                "(`steps_per_epoch`, `validation_steps`, `steps`), or end it with take(n)"
            )
        # Rows that come twice in an epoch are numbered by their places in it.
        in_order = isinstance(x, RowBatches) and not (numbered and x.repeats)
        if in_order and x.num_batches != 0:
            return _limited(PieceData(x, steps, class_weight, weights_of_classes, check, numbered))
        return _limited(
            BatchData(x, steps, bool(shuffle), class_weight, check, numbered, may_differ)
        )
    size = checked_batch_size(batch_size)
    if check is not None and y is not None:
        y = check(y)
    if class_weight is not None:
        sample_weight = weights_of_classes(y, class_weight, sample_weight)
    sparse = has_sparse(x)
    layout, arrays = split(x, y, sample_weight, sparse)
    rows = check_rows(layout, arrays)
    if numbered:
        layout, arrays = layout.with_numbers(), [*arrays, numbers_of(rows)]
    order: Callable[[], Array] | None = None
    if shuffle and orders is not None:
        if shuffle == "batch":
            order = _batchwise(orders, rows, size)
        elif rows > 1:
            order = _rowwise(orders, rows)
    if sparse:
        return _limited(SparseData(layout, arrays, size, int(steps) if steps else None, order))
    return _limited(ArrayData(layout, arrays, size, int(steps) if steps else None, order))


_ONE_IMAGE = "utils.img_to_array({})[None]"


def _check_source(x: Any) -> None:
    """Raises a ValueError for what makes no batches."""
    iterates = hasattr(x, "__next__") or hasattr(x, "__getitem__") or hasattr(x, "__iter__")
    if iterates and not isinstance(x, str | bytes | set | frozenset):
        return
    hint = ""
    if isinstance(x, str | bytes) or hasattr(x, "__fspath__"):
        hint = "read the file first, e.g. with numpy.load or pandas.read_csv"
        if Path(os.fsdecode(x)).suffix[1:].lower() in IMAGE_SUFFIXES:
            hint = f"read the image: {_ONE_IMAGE.format('utils.load_img(x, target_size=(H, W))')}"
    elif type(x).__module__.startswith("PIL."):
        hint = f"make a batch of the image: {_ONE_IMAGE.format('x')}"
    elif isinstance(x, set | frozenset):
        hint = "a set has no order: pass an array or a list"
    elif callable(x):
        name = getattr(x, "__name__", "x")
        hint = f"pass what the function makes, {name}(), or data.Dataset.from_generator({name})"
    hint = f"\n  hint: {hint}" if hint else ""
    raise ValueError(f"Unrecognized data type: x={x!r} (of type {type(x)}){hint}")


def _limited(data: D) -> D:
    """Cuts what is longer than ``config.max_steps_per_epoch``."""
    limit = config.max_steps_per_epoch()
    if limit is not None and (data.num_batches is None or data.num_batches > limit):
        warn_caller(f"Limiting steps_per_epoch to {limit}", UserWarning)
        data.steps = limit
    return data


def _rowwise(orders: Callable[[int], Array], rows: int) -> Callable[[], Array]:
    return lambda: orders(rows)


def _batchwise(orders: Callable[[int], Array], rows: int, size: int) -> Callable[[], Array]:
    def order() -> Array:
        return np.lexsort((orders(rows), np.arange(rows) // size)).astype(np.int64)

    return order


def weights_of_classes(y: Any, class_weight: Mapping[int, float], sample_weight: Any) -> Array:
    """Returns a weight for each sample by its class; one-hot rows count as their largest entry.

    Raises:
        ValueError: if there is more than one target array.
    """
    if y is None:
        raise ValueError("`class_weight` needs targets: pass `y`, or batches (x, y)")
    found = leaves(nested(y))
    if len(found) != 1:
        raise ValueError("`class_weight` is only supported for Models with a single output.")
    labels = as_data(found[0], "y")
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] != 1 else labels[..., 0]
    numbers = np.round(labels).astype(np.int64)
    weights = np.ones(numbers.shape, np.float32)
    for label, weight in class_weight.items():
        weights[numbers == int(label)] = weight
    if sample_weight is not None:
        given = as_weights(sample_weight)
        if given.shape[:1] != weights.shape[:1]:
            check_rows(SINGLE[True, True], [labels, labels, given])
        weights = weights * given
    return weights


def split_validation(
    x: Any, y: Any, sample_weight: Any, fraction: float
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Cuts the last rows off for validation.

    Raises:
        ValueError: if a part would be empty, or ``x`` is not arrays.
    """
    if not isinstance(fraction, int | float | np.number) or not 0 < fraction < 1:
        raise ValueError(
            f"`validation_split` must be between 0 and 1. Received: validation_split={fraction}"
        )
    if not is_arrays(x):
        raise ValueError(
            "Argument `validation_split` is only supported for tensors or NumPy arrays. Found "
            f"incompatible type in the input: {_named(x)}"
            "\n  hint: pass `validation_data`; utils.split_dataset and the verbs take and skip "
            "split data sets"
        )
    layout, arrays = split(x, y, sample_weight, keeps_sparse=True)
    rows = check_rows(layout, arrays)
    at = math.floor(rows * (1.0 - fraction))
    if at in (0, rows):
        raise ValueError(
            f"Training data contains {rows} samples, which is not sufficient to split it into a "
            "validation and training set as specified by `validation_split="
            f"{fraction}`. Either provide more data, or a different value for the "
            "`validation_split` argument."
        )
    head = layout.join([a[:at] for a in arrays])
    tail = layout.join([a[at:] for a in arrays])
    return head, tail
