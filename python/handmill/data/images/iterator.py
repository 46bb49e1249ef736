"""Iterators over images: what batch comes when, and the threads that prepare it."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.data.buffers import BatchBuffers
from handmill.data.images.augmenter import ImageAugmenter
from handmill.data.images.directory import IMAGE_SUFFIXES
from handmill.data.images.files import array_to_img
from handmill.data.images.sources import ImageSource
from handmill.data.keyed_random import make_key, permutation, words
from handmill.data.locks import Lock
from handmill.data.prefetch import Prefetcher

if TYPE_CHECKING:
    from handmill.ir.op import Array

# Batches finished ahead of the consumer: at least this many, more while they are small.
_LEAST_AHEAD = 2
_MOST_AHEAD = 8
_BYTES_AHEAD = 64 * 2**20


class _Plan:
    """Which images a step consists of; a step is a batch counted on through all passes."""

    def __init__(self, n: int, batch_size: int, shuffle: bool, key: int) -> None:
        self.n = n
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.key = key
        self.batches = -(-n // batch_size)
        self._orders: dict[int, Array] = {}

    def order(self, number: int) -> Array:
        """The images of pass ``number`` in their order."""
        if not self.shuffle:
            number = 0
        order = self._orders.get(number)
        if order is None:
            key = make_key(self.key, number, 0)
            order = permutation(key, self.n) if self.shuffle else np.arange(self.n)
            # Threads ahead of the consumer may be one pass further on. Two may get here at once;
            # they find the same order.
            self._orders = {number - 1: self._orders.get(number - 1, order), number: order}
        return order

    def pass_key(self, number: int) -> int:
        """Under which the random numbers of pass ``number`` stand, addressed by image."""
        return make_key(self.key, number, 1)

    def cut(self, order: Array, batch: int) -> Array:
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]


class BatchMaker:
    """Makes batches. Threads hold it, so it does not know its iterator."""

    def __init__(
        self,
        plan: _Plan,
        generator: ImageAugmenter,
        source: ImageSource,
        finish: Callable[[Array, Array], Any],
        seed: int | None,
        save: Callable[[Array, Array, Array], None] | None,
    ) -> None:
        self.plan = plan
        self.generator = generator
        self.source = source
        self.finish = finish
        self.seed = seed
        self.save = save
        self.buffers = BatchBuffers(keep=self.most_ahead)
        self._keras_order = (-1, np.arange(plan.n))  # the first batch of a pass, and its order

    @property
    def most_ahead(self) -> int:
        """How many batches may wait for the consumer."""
        height, width = self.source.size
        batch_bytes = self.plan.batch_size * height * width * self.source.channels * 4
        return max(_LEAST_AHEAD, min(_MOST_AHEAD, _BYTES_AHEAD // max(batch_bytes, 1)))

    def make(self, step: int, threads: int) -> Any:
        """The batch of ``step``."""
        number, batch = divmod(step, self.plan.batches)
        return self.make_from_pass(number, self.plan.cut(self.plan.order(number), batch), threads)

    def make_from_pass(self, number: int, indices: Array, threads: int) -> Any:
        """A batch of the images ``indices`` as pass ``number`` augments them."""
        taken = self.source.take(indices)
        indices = taken[-1]
        key = self.plan.pass_key(number)
        draws = self.generator._draw(key, indices, *self.source.size)
        names = words(make_key(key, 2), indices) % np.uint64(10_000) if self.save else indices
        return self._assemble(taken, draws, names, threads)

    def make_keras(self, step: int, seen: int, threads: int) -> Any:
        """The batch of ``step`` with Keras's draws.

        ``seen`` is what Keras's ``total_batches_seen`` would be before it; Keras seeds every batch
        with that number, and orders a pass by the first numbers after the seed of its first batch.
        """
        batch = step % self.plan.batches
        begin = seen - batch
        stream = keras_stream(self.seed, seen)
        known, order = self._keras_order
        if batch == 0:
            order = self.order_from_stream(stream)
        elif known != begin and self.seed is not None:
            order = self.order_from_stream(keras_stream(self.seed, begin))
        self._keras_order = (begin, order)
        return self.make_from_stream(self.plan.cut(order, batch), stream, threads)

    def make_from_stream(self, indices: Array, stream: Any, threads: int) -> Any:
        """A batch of the images ``indices``, its numbers taken from ``stream``."""
        taken = self.source.take(indices)
        indices = taken[-1]
        draws = self.generator._draw_from(stream, len(indices), *self.source.size)
        names = indices
        if self.save:
            names = np.array([stream.randint(10_000) for _ in indices])
        return self._assemble(taken, draws, names, threads)

    def order_from_stream(self, stream: Any) -> Array:
        """The order of a pass as Keras takes it from the generator ``stream``."""
        n = self.plan.n
        return np.asarray(stream.permutation(n) if self.plan.shuffle else np.arange(n))

    def _assemble(
        self, taken: tuple[Any, Array | None, Array], draws: Any, names: Array, threads: int
    ) -> Any:
        images, index, indices = taken
        out = self.buffers.empty((len(indices), *self.source.size, self.source.channels))
        x = self.generator._batch(images, index, draws, out, threads)
        if self.save is not None:
            self.save(x, indices, names)
        return self.finish(x, indices)


class Iterator:
    """Base of the image iterators: endless, in batches, each pass in an order of its own.

    ``next()`` goes on from pass to pass, and on where the last consumer stopped; every image comes
    exactly once in a pass. ``it[i]`` makes batch i of the pass that :meth:`on_epoch_end` counts. A
    subclass defines ``_get_batches_of_transformed_samples(index_array)``.

    Args:
        n: how many samples.
        batch_size: samples in a batch; the last of a pass may be smaller.
        shuffle: whether each pass has an order of its own.
        seed: of the orders; default: follows from ``utils.set_random_seed``.

    Attributes:
        class_mode: what the labels are, None where that is not known.
        num_classes: how many classes, None where that is not known.
        augments: whether batches differ at random from the data.
        total_batches_seen: batches made so far.

    Raises:
        ValueError: if ``n`` is negative or ``batch_size`` is not a positive integer.

    Example:
        >>> from handmill.preprocessing.image import Iterator
        >>> class Indices(Iterator):
        ...     def _get_batches_of_transformed_samples(self, index_array):
        ...         return index_array.tolist()
        >>> batches = Indices(5, batch_size=2, shuffle=False, seed=None)
        >>> [next(batches) for _ in range(4)]
        [[0, 1], [2, 3], [4], [0, 1]]
    """

    white_list_formats = IMAGE_SUFFIXES
    class_mode: str | None = None
    num_classes: int | None = None
    augments = False
    _maker: BatchMaker | None = None

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int | None) -> None:
        if n < 0:
            raise ValueError(f"n: expected a number of samples, got {n}")
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size: expected a positive integer, got {batch_size!r}")
        self.n = n
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.seed = seed
        self.total_batches_seen = 0
        self.lock = Lock()
        self._plan = _Plan(n, self.batch_size, shuffle, _seed_key(seed))
        self._step = 0  # of next()
        self._item_pass = 0  # of __getitem__
        self._item_stream: Any = None
        self._item_order: Array | None = None
        self._prefetcher: Prefetcher | None = None
        self._process = os.getpid()

    def __len__(self) -> int:
        """The number of batches in a pass."""
        return self._plan.batches

    def __iter__(self) -> Iterator:
        return self

    @property
    def batch_index(self) -> int:
        """The position of the next batch in its pass."""
        return self._step % max(len(self), 1)

    @property
    def index_array(self) -> Array:
        """The order of the pass that ``next()`` is in."""
        return self._plan.order(self._step // max(len(self), 1))

    def __next__(self) -> Any:
        if self._process != os.getpid():  # forked: a thread of the parent may hold the lock
            self._process, self.lock = os.getpid(), Lock()
        self._require_samples()
        with self.lock:
            try:
                batch = self._take(self._step)
            except Exception:
                self._advance()  # past the batch that cannot be made
                raise
            self._advance()
        if self._maker is not None:
            self._maker.source.report()
        return batch

    def _advance(self) -> None:
        self._step += 1
        self.total_batches_seen += 1

    def __getitem__(self, idx: int) -> Any:
        """Batch ``idx`` of the current pass, made by the calling thread."""
        if not -len(self) <= idx < len(self):
            raise ValueError(
                f"Asked to retrieve element {idx}, but the Sequence has length {len(self)}"
            )
        batch = self._item(idx % len(self))
        if self._maker is not None:
            self._maker.source.report()
        return batch

    def _item(self, idx: int) -> Any:
        with self.lock:
            seen = self.total_batches_seen
            self.total_batches_seen += 1
            maker = self._maker
            if maker is not None and self.has_keras_draws():
                self._drop_prefetcher()  # its draws followed from total_batches_seen
                self._item_stream = keras_stream(self.seed, seen)
                if self._item_order is None:
                    self._item_order = maker.order_from_stream(self._item_stream)
                indices = self._plan.cut(self._item_order, idx)
                return maker.make_from_stream(indices, self._item_stream, _thread_budget())
        indices = self._plan.cut(self._plan.order(self._item_pass), idx)
        if maker is None:
            return self._get_batches_of_transformed_samples(indices)
        return maker.make_from_pass(self._item_pass, indices, _thread_budget())

    def on_epoch_end(self) -> None:
        """Lets ``it[i]`` go on to the next pass; ``next()`` does that by itself."""
        self._item_pass += 1
        if self._maker is not None and self.has_keras_draws():
            stream = self._item_stream or keras_stream(self.seed, self.total_batches_seen)
            self._item_order = self._maker.order_from_stream(stream)

    def reset(self) -> None:
        """Lets ``next()`` begin a new pass, unless it stands at the beginning of one."""
        with self.lock:
            if self.batch_index:
                self._step += len(self) - self.batch_index
                self._drop_prefetcher()

    def skip_batches(self, count: int) -> None:
        """Lets ``next()`` go on as if so many batches had been made."""
        with self.lock:
            self._step += count
            self.total_batches_seen += count
            self._drop_prefetcher()

    def __getstate__(self) -> dict[str, Any]:
        # A copy goes on at the same batch, with threads of its own.
        return {**vars(self), "_prefetcher": None}

    def close(self) -> None:
        """Ends the threads that prepare batches; ``next()`` starts them again."""
        with self.lock:
            self._drop_prefetcher()

    def _get_batches_of_transformed_samples(self, index_array: Array) -> Any:
        """Makes the batch of the samples ``index_array``; a subclass defines it."""
        raise NotImplementedError(
            f"{type(self).__name__} must define _get_batches_of_transformed_samples(index_array)"
        )

    def _require_samples(self) -> None:
        if self.n == 0:
            raise ValueError(f"{type(self).__name__} has no samples to make a batch of")

    # --- Preparing ahead ---

    def has_keras_draws(self) -> bool:
        return self._maker is not None and self._maker.generator.compat == "keras3"

    def _take(self, step: int) -> Any:
        maker = self._maker
        if maker is None:
            number, batch = divmod(step, len(self))
            return self._get_batches_of_transformed_samples(
                self._plan.cut(self._plan.order(number), batch)
            )
        keras_draws = self.has_keras_draws()
        # Draws from NumPy's global generator and files written must not run ahead of the consumer.
        if maker.save is not None or (keras_draws and self.seed is None):
            if keras_draws:
                return maker.make_keras(step, self.total_batches_seen, _thread_budget())
            return maker.make(step, _thread_budget())
        if self._prefetcher is None or not self._prefetcher.is_usable:
            self._prefetcher = self._start_prefetcher(maker, step, keras_draws)
        return self._prefetcher.get(step)

    def _start_prefetcher(self, maker: BatchMaker, step: int, keras_draws: bool) -> Prefetcher:
        # A user's function is called by one thread, in the order of the batches; the warp of a
        # batch is then what the other threads can share.
        budget = _thread_budget()
        is_one = maker.generator.preprocessing_function is not None
        workers = 1 if is_one else maker.source.threads(budget)
        threads = budget // workers
        seen = self.total_batches_seen - step

        def produce(produced: int) -> Any:
            if keras_draws:
                return maker.make_keras(produced, produced + seen, threads)
            return maker.make(produced, threads)

        return Prefetcher(produce, step, workers, max(maker.most_ahead, workers + 1))

    def _drop_prefetcher(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None


def _seed_key(seed: int | None) -> int:
    if seed is None:
        from handmill.random import next_host_seed

        seed = next_host_seed()
    return make_key(operator.index(seed))


def keras_stream(seed: int | None, seen: int) -> Any:
    """The generator that Keras draws a batch from after ``seen`` others."""
    return np.random if seed is None else np.random.RandomState(seed + seen)


def _thread_budget() -> int:
    return max(1, config.num_threads())


def make_now(iterator: Iterator, index_array: Array) -> Any:
    """A batch of any samples as the current pass of ``it[i]`` augments them."""
    maker = iterator._maker
    if maker is None:
        raise RuntimeError("the iterator is not ready")
    indices = np.asarray(index_array, np.int64)
    if iterator.has_keras_draws():
        stream = iterator._item_stream or keras_stream(iterator.seed, iterator.total_batches_seen)
        return maker.make_from_stream(indices, stream, _thread_budget())
    return maker.make_from_pass(iterator._item_pass, indices, _thread_budget())


def saver(
    folder: str | os.PathLike[str] | None, prefix: str, file_format: str, data_format: str
) -> Callable[[Array, Array, Array], None] | None:
    """A function that writes the images of a batch to a folder, None without a folder."""
    if folder is None:
        return None
    return partial(_save, Path(folder), prefix, file_format, data_format)


def _save(
    folder: Path,
    prefix: str,
    file_format: str,
    data_format: str,
    x: Array,
    indices: Array,
    names: Array,
) -> None:
    for image, index, name in zip(x, indices, names, strict=True):
        path = folder / f"{prefix}_{index}_{name}.{file_format}"
        array_to_img(image, data_format, scale=True).save(path)
