"""Data parallel training: the ranks share the rows of each batch."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from handmill.callbacks.callback import Callback
from handmill.callbacks.callback_list import CallbackList
from handmill.distribution.agreement import agree, check_weights, facts_of, share_state
from handmill.distribution.exchange import Exchange
from handmill.distribution.mesh import DeviceMesh, TensorLayout, list_devices
from handmill.distribution.ranks import DEADLINE, ranks
from handmill.distribution.shards import rows_of_shard
from handmill.distribution.sharing import Shares, can_be_shared
from handmill.distribution.step import ShardedStep
from handmill.ir.op import Array
from handmill.models.distributed import CURRENT
from handmill.optimizers.applied import with_gradients
from handmill.runtime.variable import Variable

SHARDS = 16
"""Into how many shards a batch is cut: for up to so many ranks sums have the same bits."""

_WRITERS = ("CSVLogger", "TensorBoard", "RemoteMonitor", "ProgbarLogger")
"""Callbacks that do nothing but write: rank 0 has them alone."""


class DataParallel:
    """Several processes train one model: each computes a part of the rows of every batch.

    ``fit``, ``evaluate``, ``train_on_batch`` and ``test_on_batch`` mean what they mean in one
    process: batch size, learning rate, order of rows, seeds and numbers in logs are those of the
    whole batch. A batch is cut into shards by the number of its rows alone, and the gradients of
    the shards are added up in one tree, so weights and logs have the same bits for 1, 2, 4 and
    any other number of ranks up to ``shards``, and for any number of threads. What looks at a
    whole batch sees its shard: statistics of BatchNormalization are those of a shard (the moving
    ones are the mean over shards), and means over what a mask leaves are taken by shard.

    Every process reads all data, or maps the same file into memory, and takes its own rows. Files,
    progress and reports are those of rank 0; other callbacks run on every rank, on equal numbers.
    ``predict`` of arrays shares the batches, and every rank gets all outputs; calls of a model and
    ``predict_on_batch`` stay in their process.

    The optimizer's state is shared out while ``fit`` runs: each rank holds that of its variables
    (neighbours, about as many bytes as the others' have), updates them, and gives the others what
    they become. Each rank has all of it when ``fit`` has ended; see :meth:`whole` for callbacks.
    It is not shared out where ranks have less than 64 KB of gradients, with
    ``global_clipnorm``, running means (``use_ema``), float64 weights, a LossScaleOptimizer, a
    MultiOptimizer, and optimizers of other packages.

    Args:
        device_mesh: a mesh with one axis, of all devices.
        devices: the devices; default: :func:`list_devices`.
        auto_shard_dataset: must be True: ranks take their rows of the same data.
        shards: into how many a batch is cut: a power of two, at least the number of ranks.
            Fewer make larger products. It is handmill's, as all that follow.
        deadline: seconds that a rank waits for another before it names it and ends.
        shard_optimizer: whether the optimizer's state is shared out; the bits are the same.

    Raises:
        ValueError: for a mesh of several axes, or arguments that do not fit.

    Example:
        >>> import numpy as np, handmill as keras
        >>> x = np.linspace(0, 1, 64, dtype="float32").reshape(-1, 1)
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> with keras.distribution.DataParallel().scope():
        ...     history = model.fit(x, 2 * x, epochs=2, verbose=0)
        >>> history.history["loss"][1] < history.history["loss"][0]
        True
    """

    def __init__(
        self,
        device_mesh: DeviceMesh | None = None,
        devices: Any = None,
        auto_shard_dataset: bool = True,
        *,
        shards: int = SHARDS,
        deadline: float = DEADLINE,
        shard_optimizer: bool = True,
    ) -> None:
        if device_mesh is None:
            found = list_devices() if devices is None else list(np.ravel(devices))
            device_mesh = DeviceMesh((len(found),), ("batch",), found)
        if len(device_mesh.shape) != 1:
            raise ValueError(
                f"DataParallel got a mesh of shape {device_mesh.shape}; expected one axis: the "
                "rows of a batch are shared, models are not cut"
            )
        known, given = list_devices(), [str(d) for d in device_mesh.devices]
        if given != known:
            raise ValueError(
                f"DataParallel got the devices {given}, but the processes of this training are "
                f"{known}: each of them takes part. mpiexec -n says how many there are"
            )
        if not auto_shard_dataset:
            raise ValueError(
                "DataParallel got auto_shard_dataset=False; expected True: each rank takes its "
                "rows of the same data (numpy.load(path, mmap_mode='r') reads what it takes alone)"
            )
        if not isinstance(shards, int) or shards < 1 or shards & (shards - 1):
            raise ValueError(f"DataParallel got shards={shards!r}; expected a power of two")
        if shards < len(known):
            raise ValueError(
                f"DataParallel got shards={shards} for {len(known)} ranks; expected at least as "
                "many shards as ranks"
            )
        if not deadline > 0:
            raise ValueError(
                f"DataParallel got deadline={deadline!r}; expected seconds greater than 0"
            )
        self.device_mesh = device_mesh
        self.batch_dim_name = device_mesh.axis_names[0]
        self.auto_shard_dataset = True
        self.shards = shards
        self._ranks = ranks()
        self._ranks.deadline = float(deadline)
        self.shard_optimizer = bool(shard_optimizer)
        self._exchange = Exchange(self._ranks, shards)
        self._fitted: Any = None  # the model that fit() trains
        self._shares: weakref.WeakKeyDictionary[Any, Shares] = weakref.WeakKeyDictionary()

    @property
    def num_processes(self) -> int:
        """How many ranks there are."""
        return int(self._ranks.size)

    @property
    def num_model_replicas(self) -> int:
        """How many ranks hold the model: all."""
        return self.num_processes

    @property
    def data_shard_id(self) -> int:
        """The number of this rank."""
        return int(self._ranks.rank)

    def get_data_layout(self, data_shape: Any) -> TensorLayout:
        """How a batch is cut: along its first axis.

        Args:
            data_shape: the shape of the batch.
        """
        axes = [self.batch_dim_name, *(None for _ in data_shape[1:])]
        return TensorLayout(axes, self.device_mesh)

    def get_variable_layout(self, variable: Any) -> TensorLayout:
        """How a variable is cut: not at all.

        Args:
            variable: the variable.
        """
        return TensorLayout([None] * len(variable.shape), self.device_mesh)

    def get_tensor_layout(self, path: str) -> None:
        """How a value inside the model is cut: as its rows are.

        Args:
            path: its name.
        """

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Makes this the distribution of the process inside a ``with`` block."""
        before = distribution()
        set_distribution(self)
        try:
            yield
        finally:
            set_distribution(before)

    # What the trainer asks for (models/trainer.py, models/loop.py).

    @property
    def writes(self) -> bool:
        """Whether this process writes files."""
        return self.data_shard_id == 0

    def step(self, model: Any, layout: Any, phase: str, is_own: bool) -> ShardedStep:
        """Makes the step of a model for a layout of data."""
        if is_own:
            raise ValueError(
                f"{phase}_function of {model.name!r} is its own; over several processes a batch "
                "is cut into shards, which works for the standard step: leave it out, or call "
                "set_distribution(None)"
            )
        return ShardedStep(model, layout, phase, self._exchange, self.shards, self._shares_of)

    def of_rank(self, callbacks: Any, verbose: Any) -> tuple[Any, Any]:
        """Which callbacks this rank has, and how much it prints."""
        if self.writes or isinstance(callbacks, CallbackList):
            return callbacks, verbose
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        return [c for c in given if not _only_writes(c)], 0

    def beginning(
        self, model: Any, data: Any, epochs: range, begun: int, look: Callable[[Any, Any], None]
    ) -> Callable[[Any, Any], None]:
        """Gives what ``fit`` calls with its first step: ranks agree on what they train."""
        return functools.partial(self._begin, model, data, (epochs, begun), look)

    def _begin(
        self,
        model: Any,
        data: Any,
        place: Any,
        look: Callable[[Any, Any], None],
        step: Any,
        portion: Any,
    ) -> None:
        failure = None
        try:
            look(step, portion)
            step.function.fitted(portion.like())  # builds what is not built
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            facts = facts_of(model, data, place, self.shards)
        except Exception as error:
            failure = error
        self._exchange.epoch = place[0].start + 1
        self._exchange.meet("fit()", 0, failure)
        agree(self._ranks, facts)
        self._collect(model)  # an error ended the last fit()
        share_state(self._ranks, model)
        self._fitted = model

    def _shares_of(
        self, model: Any, trained: Sequence[tuple[Variable, bool]], nbytes: int
    ) -> Shares | None:
        """How the optimizer's state is shared out in a step; None for not at all."""
        optimizer = model.optimizer
        shares = self._shares.get(optimizer)
        if shares is None and (self._fitted is not model or self.num_processes == 1):
            return None
        variables = [v for v, has in trained if has]
        if shares is not None and shares.variables_are(variables):
            return shares
        self._collect(model)
        if not self.shard_optimizer or not can_be_shared(optimizer, variables, nbytes):
            return None
        with_gradients([has or None for _, has in trained], [v for v, _ in trained])
        shares = self._shares[optimizer] = Shares(optimizer, variables, self._exchange)
        # Programs of one process would go on with what this one does not hold any more.
        optimizer.forget_programs()
        model._steps = {k: s for k, s in model._steps.items() if isinstance(s, ShardedStep)}
        shares.let_go()
        return shares

    def _collect(self, model: Any) -> None:
        """Gives every rank all of the optimizer's state; called by all."""
        shares = self._shares.pop(model.optimizer, None)
        if shares is not None:
            self._exchange.meet("whole()", 0)
            shares.collect(lambda rank: True)

    @contextmanager
    def whole(self, model: Any) -> Iterator[bool]:
        """Lets rank 0 have all of the optimizer's state inside a ``with`` block.

        For callbacks that save a model while ``fit`` trains it. All ranks have to come here.

        Args:
            model: the model.

        Yields:
            Whether this process is rank 0, which writes files.

        Example:
            >>> import numpy as np, handmill as keras
            >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            >>> model.compile("adam", "mse")
            >>> with keras.distribution.DataParallel().whole(model) as writes:
            ...     print(writes)
            True
        """
        shares = None if model.optimizer is None else self._shares.get(model.optimizer)
        if shares is None:
            yield self.writes
            return
        self._exchange.meet("whole()", 0)
        shares.collect(lambda rank: rank == 0)
        try:
            yield self.writes
        finally:
            shares.let_go()

    def end(self, model: Any) -> None:
        """Gives every rank all of the optimizer's state: ``fit`` has come to its end."""
        self._fitted = None
        self._collect(model)

    def predict(
        self, run: Callable[[int], None], rows: int, size: int, outputs: Sequence[Array]
    ) -> None:
        """Shares the batches of a prediction; each rank gets all outputs.

        Args:
            run: predicts the batch that begins at a row, into ``outputs``.
            rows: how many there are.
            size: of a batch.
            outputs: arrays with a row for each.
        """
        ranks, batches = self._ranks, -(-rows // size)
        ends = [
            min(size * rows_of_shard(q, ranks.size, batches)[0], rows) for q in range(ranks.size)
        ]
        parts = list(pairwise([*ends, rows]))
        failure = None
        try:
            first, last = parts[ranks.rank]
            for start in range(first, last, size):
                run(start)
        except Exception as error:
            failure = error
        self._exchange.meet("predict()", 0, failure)
        for output in outputs:
            pieces = [output[start:stop] for start, stop in parts]
            mine = pieces[ranks.rank]
            ranks.exchange(
                [None if q == ranks.rank else mine for q in range(ranks.size)],
                [None if q == ranks.rank else pieces[q] for q in range(ranks.size)],
            )

    def end_epoch(self, model: Any, epoch: int) -> None:
        """Makes sure that all ranks have the same weights."""
        self._exchange.meet("the end", 0)
        self._exchange.epoch = epoch + 2
        shares = self._shares.get(model.optimizer)
        check_weights(self._ranks, model, epoch, set() if shares is None else shares.sharded)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} device_mesh={self.device_mesh}, shards={self.shards}>"


def _only_writes(callback: Any) -> bool:
    return any(kind.__name__ in _WRITERS for kind in type(callback).__mro__)


def distribution() -> DataParallel | None:
    """Returns the distribution of the process, None if none is set.

    Example:
        >>> from handmill import distribution
        >>> distribution.distribution() is None
        True
    """
    return CURRENT.distribution  # type: ignore[no-any-return]


def set_distribution(value: DataParallel | None) -> None:
    """Sets how models are trained from now on, those that were made before too.

    Args:
        value: a DataParallel; None for one process.

    Raises:
        TypeError: for anything else.

    Example:
        >>> from handmill import distribution
        >>> distribution.set_distribution(distribution.DataParallel())
        >>> distribution.distribution().num_processes
        1
        >>> distribution.set_distribution(None)
    """
    if value is not None and not isinstance(value, DataParallel):
        raise TypeError(
            f"set_distribution() got {value!r}; expected a DataParallel, or None for one process"
        )
    CURRENT.distribution = value
