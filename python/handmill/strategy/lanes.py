"""Trainings side by side: each a model of its own, whole epochs on one thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handmill import config, random
from handmill.callbacks.callback import Callback
from handmill.callbacks.monitor import MonitorCallback
from handmill.errors import TrainingWarning, keep_warnings, warn_caller
from handmill.ir.op import Array
from handmill.models.data_adapters import is_arrays
from handmill.models.layout import split
from handmill.naming import names_of_its_own
from handmill.runtime.memory import FEW_BYTES, check_room, in_gigabytes
from handmill.runtime.variable import Variable, noted_draws
from handmill.strategy import deadline
from handmill.strategy.lane_arguments import Material, checked_configurations, checked_seeds
from handmill.strategy.lane_copies import Copies, First
from handmill.strategy.lane_programs import Description, LaneProgram, describe
from handmill.strategy.lane_rows import LaneRows
from handmill.strategy.runs import Divergence, Lane, Runs

MOST_LANES = 100_000
"""More are a mistake in a product, or meant: ``limit=`` says so."""

_REMEMBERED = 8
"""Configurations of which it is known how to make lanes without a model; these hold states."""

_WAITING = 4
"""Lanes that wait for each thread, so that it has one when it ends another; more hold memory."""


class Lanes:
    """Trainings that can be taken on from epoch to epoch, some further than others.

    Args:
        build: as for :func:`handmill.train_many`; also ``configurations``, ``seeds``,
            ``keep_weights`` and ``limit``.
        material: the rows.

    Attributes:
        lanes: by configuration, then seed.
        configurations: without duplicates.
        seeds: the seeds.
        notes: what was noticed.
        directions: ``"up"`` or ``"down"`` for each number whose metric knows it.
    """

    def __init__(
        self,
        build: Callable[..., Any],
        configurations: Iterable[Mapping[str, Any]],
        material: Material,
        *,
        seeds: int | Sequence[int] = 8,
        keep_weights: bool = True,
        limit: int = MOST_LANES,
    ) -> None:
        self.notes: list[str] = []
        self._said = 0  # of the notes
        self.seeds = checked_seeds(seeds)
        self.configurations = checked_configurations(
            build, configurations, len(self.seeds), limit, self._note
        )
        self.lanes = [Lane(i, seed) for i in range(len(self.configurations)) for seed in self.seeds]
        self._numbers = {id(lane): i for i, lane in enumerate(self.lanes)}
        self._build = build
        self._keep_weights = keep_weights
        self._fit_arguments = material.of_fit
        self._has_splits = material.splits is not None
        parts = material.parts(self.seeds)
        rows = {id(part): LaneRows(*part, self._fit_arguments) for part in parts}
        self._rows = {seed: rows[id(part)] for seed, part in zip(self.seeds, parts, strict=True)}
        # Of lanes that may go on: programs, or models and where their draws go on.
        self._models: dict[int, Any] = {}
        self._copies: dict[Any, First | Copies | None] = {}  # of the last configurations
        self._seen: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by id
        self._written: weakref.WeakValueDictionary[int, Variable] = weakref.WeakValueDictionary()
        self._first_weights: dict[int, list[Array]] = {}  # of the first lane of a configuration
        self.directions: dict[str, str] = {}
        self._undirected: set[str] = set()  # names whose direction nothing tells
        self._told: set[str] = set()  # warnings that were passed on
        self._counted: set[int] = set()  # configurations whose memory was looked at
        self._say_notes()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _say_notes(self) -> None:
        """Warns of what was noticed since the last time."""
        for text in self.notes[self._said :]:
            self._said += 1
            warn_caller(text, TrainingWarning)

    def advance(self, epochs: int, lanes: Iterable[Lane] | None = None, last: bool = False) -> None:
        """Trains lanes up to an epoch; those that diverged stay where they are.

        Args:
            epochs: the number of epochs that a lane has then.
            lanes: some of :attr:`lanes`; default: all.
            last: whether they will not go on, so that their models need not be kept.
        """
        chosen = self.lanes if lanes is None else list(lanes)
        todo = [lane for lane in chosen if lane.failure is None and lane.epochs < epochs]
        team = _Team(self, epochs, last)
        try:
            for lane in todo:
                self._start(lane, team, epochs, last)
            team.wait()
        finally:
            team.close()
        self._say_notes()

    def _start(self, lane: Lane, team: _Team, epochs: int, last: bool) -> None:
        """Hands a lane to the team, or trains it by ``fit`` if it needs that."""
        deadline.look()
        left = epochs - lane.epochs
        kept = self._models.pop(self._numbers[id(lane)], None)
        if isinstance(kept, LaneProgram):
            team.add(lane, kept.more(left))
            return
        rows = self._rows[lane.seed]
        known = self._copies.get((lane.configuration, id(rows)))
        if kept is None and isinstance(known, Copies):
            team.add(lane, known.program(lane.seed, left))
            return
        if kept is None:
            with _seeded(lane.seed), noted_draws() as draws, self._warnings():
                model = self._new_model(lane)
                description = describe(model, rows)
                state = random.state()
            if description is not None:
                self._check_own(
                    description.training.written, self.configurations[lane.configuration]
                )
                self._check_room(lane, description, last)
            if description is not None and len(self.seeds) > 2:
                self._learn(lane, rows, First.of(description, lane.seed, state["drawn"], draws))
        else:
            model, state = kept
            description = None
        if description is None:
            self._train(lane, (model, state), epochs, last)
        else:
            team.add(
                lane, LaneProgram(description, description.states, model._shuffle, left, model)
            )

    def _check_room(self, first: Lane, description: Description, last: bool) -> None:
        """Refuses a configuration whose lanes need more memory together than there is.

        Raises:
            MemoryError: before any other than its first lane was made.
        """
        number = first.configuration
        if number in self._counted:
            return
        self._counted.add(number)
        count = sum(lane.configuration == number for lane in self.lanes)
        sizes = [state.nbytes for state in description.states]
        at_once = min(count, (_WAITING + 1) * config.num_threads() + 1) if last else count
        kept = count * sum(sizes[i] for i in description.weights) if self._keep_weights else 0
        needed = (at_once - 1) * sum(sizes) + kept
        if needed <= FEW_BYTES:
            return
        check_room(
            needed,
            f"{count} lanes of {_call(self.configurations[number])}, {at_once} of them at a time, "
            f"need {in_gigabytes(needed)} for what they train and keep beside the first",
            "Train fewer seeds at a time, or a smaller model; train_many(keep_weights=False) keeps "
            "no weights",
        )

    def _learn(self, lane: Lane, rows: LaneRows, first: First) -> None:
        """Remembers the first lane of a configuration, and with the second how to make others."""
        key = lane.configuration, id(rows)
        before = self._copies.get(key)
        if isinstance(before, First):
            self._copies[key] = Copies.learn(before, first)
        elif key not in self._copies:
            if len(self._copies) >= _REMEMBERED:
                del self._copies[next(iter(self._copies))]
            self._copies[key] = first

    def finish(self, lanes: Iterable[Lane] | None = None) -> None:
        """Lets go of the models of lanes that will not go on; default: all."""
        for lane in self.lanes if lanes is None else lanes:
            self._models.pop(self._numbers[id(lane)], None)

    def runs(self) -> Runs:
        """What was found; the lanes do not go on."""
        self.finish()
        return Runs(
            self.configurations,
            self.seeds,
            self.lanes,
            self.directions,
            self.notes,
            self._rebuild,
            [tuple(map(_count, (r.training, r.validation))) for r in self._rows.values()],
            self._has_splits,
        )

    def _train(self, lane: Lane, taken: tuple[Any, Any], epochs: int, last: bool) -> None:
        """Trains a lane by ``fit``."""
        model, draws = taken
        rows = self._rows[lane.seed]
        watch = _Finite()
        with _draws(draws):
            with self._warnings():
                x, y, weight = rows.training
                history = model.fit(
                    x,
                    y,
                    sample_weight=weight,
                    validation_data=rows.validation,
                    initial_epoch=lane.epochs,
                    epochs=epochs,
                    verbose=0,
                    callbacks=[watch],
                    **self._fit_arguments,
                ).history
            draws = random.state()
        if watch.is_late:
            deadline.look()
        weights = model.get_weights() if self._keep_weights else None
        self.note(lane, model, history, (watch.steps, watch.finite), weights)
        if lane.failure is None and not last:
            self._models[self._numbers[id(lane)]] = model, draws

    def note_program(self, lane: Lane, program: LaneProgram, last: bool) -> None:
        """Notes what a lane in C++ has learnt.

        Raises:
            ValueError: what ended it, if anything did.
        """
        history = program.finish()
        model, steps = program.description.model, program.description.steps
        weights = program.weights() if self._keep_weights else None
        self.note(lane, model, history, (steps, program.finite_steps), weights)
        if lane.failure is None and not last:
            self._models[self._numbers[id(lane)]] = program

    def note(
        self,
        lane: Lane,
        model: Any,
        history: Mapping[str, list[Any]],
        steps: tuple[int, int],
        weights: list[Array] | None,
    ) -> None:
        """Notes what a lane has learnt.

        Args:
            lane: the lane.
            model: a model of its configuration.
            history: the numbers of its new epochs.
            steps: of an epoch, and those of the last before the loss was not finite.
            weights: what it has learnt.
        """
        for name, numbers in history.items():
            lane.history.setdefault(name, []).extend(numbers)
            if name in self.directions or name in self._undirected:
                continue
            direction = _direction(model, name)
            if direction is None:
                self._undirected.add(name)
            else:
                self.directions[name] = direction
        lane.failure = _divergence(lane, *steps)
        lane.weights = weights

    def again(self, lane: Lane, epochs: int, last: bool) -> None:
        """Trains a lane from its beginning by ``fit``, which has better words for what is wrong."""
        with _seeded(lane.seed):
            model = self._build(**self.configurations[lane.configuration])
            draws = random.state()
        lane.history = {}
        self._train(lane, (model, draws), epochs, last)

    @contextmanager
    def _warnings(self) -> Iterator[None]:
        """Keeps warnings about the numbers of a training to itself, passes others on once."""
        with keep_warnings() as kept:
            yield
        for text, category in kept:
            if not issubclass(category, TrainingWarning) and text not in self._told:
                self._told.add(text)
                warn_caller(text, category)

    def _new_model(self, lane: Lane) -> Any:
        configuration = self.configurations[lane.configuration]
        root = random.state()["root"]
        model = self._build(**configuration)
        if not hasattr(model, "fit") or not hasattr(model, "compiled"):
            raise TypeError(
                f"{_call(configuration)} must return a compiled model, it returned "
                f"{type(model).__name__}"
            )
        if self._seen.get(id(model)) is model:
            raise ValueError(
                f"{_call(configuration)} returned a model that it had returned before. Each lane "
                "is trained from its own beginning: make the model inside of `build`"
            )
        if not model.compiled:
            raise ValueError(
                f"{_call(configuration)} returned a model that is not compiled: call "
                "model.compile(optimizer, loss) in `build`"
            )
        self._seen[id(model)] = model
        if random.state()["root"] != root:
            self._note(
                "build() sets a seed of its own, so that seeds have no effect: all lanes of a "
                "configuration are one training. Leave set_random_seed() out of `build`"
            )
        elif lane.seed in self.seeds[:2] and len(self.seeds) > 1 and model.weights:
            self._look_at_weights(lane, model)
        return model

    def _check_own(self, written: Iterable[Variable], configuration: Mapping[str, Any]) -> None:
        """Raises a ValueError for variables that the training of another model writes too."""
        for variable in written:
            if self._written.get(id(variable)) is variable:
                raise ValueError(
                    f"models that {_call(configuration)} returned share {variable.path!r}, which "
                    "training changes: make all layers, optimizers and metrics inside of `build`, "
                    "or freeze the layer (trainable=False)"
                )
            self._written[id(variable)] = variable

    def _look_at_weights(self, lane: Lane, model: Any) -> None:
        """Notes where two seeds gave the same weights."""
        first = self._first_weights.pop(lane.configuration, None)
        if first is None:
            self._first_weights[lane.configuration] = model.get_weights()
        elif all(map(np.array_equal, first, model.get_weights())):
            self._note(
                "build() gives the same weights for every seed (initializers with a seed, "
                "constants or loaded weights): only the order of the rows differs between lanes"
            )

    def _rebuild(self, lane: Lane) -> Any:
        rows = self._rows[lane.seed]
        with _seeded(lane.seed):
            model = self._build(**self.configurations[lane.configuration])
            x, y, weight = rows.training
            if lane.weights is not None:
                if len(model.weights) != len(lane.weights):  # it is built by its first batch
                    layout, arrays = split(x, y, weight)
                    model(layout.join([a[:1] for a in arrays])[0])
                model.set_weights(lane.weights)
                return model
            with keep_warnings():
                model.fit(
                    x,
                    y,
                    sample_weight=weight,
                    validation_data=rows.validation,
                    epochs=lane.epochs,
                    verbose=0,
                    **self._fit_arguments,
                )
            return model


class _Team:
    """The threads that train lanes while others are made ready.

    Args:
        lanes: what is told of lanes that are done.
        epochs: the number of epochs that a lane has then.
        last: whether lanes will not go on.
    """

    def __init__(self, lanes: Lanes, epochs: int, last: bool) -> None:
        self._lanes = lanes
        self._epochs = epochs
        self._last = last
        self._queue: Any = None  # made when there is a lane for it
        self._running: dict[Any, tuple[Lane, LaneProgram]] = {}

    def add(self, lane: Lane, program: LaneProgram) -> None:
        """Lets the next thread that is free train a lane."""
        if self._queue is None:
            from handmill import _core

            self._queue = _core.LaneQueue()
        self._running[program.native] = lane, program
        self._queue.add(program.native)
        while self._queue.waiting > _WAITING * config.num_threads():
            self._help()
        self._take()

    def _help(self) -> None:
        """Trains a lane on this thread; leaves it, and those that wait, when the time is up."""
        self._queue.help(deadline.seconds_left())
        deadline.look()

    def wait(self) -> None:
        """Trains what waits, until all is done."""
        while self._running:
            self._help()
            self._take()

    def close(self) -> None:
        """Ends all threads; what was done when an error or the user ended the others is kept."""
        if self._queue is not None:
            self._queue.close()
            self._take(complete=True)

    def _take(self, complete: bool = False) -> None:
        """Notes the lanes that are done; with ``complete`` those alone that made all epochs."""
        for native in self._queue.take():
            lane, program = self._running.pop(native)
            if complete and native.epochs_done < program.epochs:
                continue
            try:
                self._lanes.note_program(lane, program, self._last)
            except ValueError:
                self._lanes.again(lane, self._epochs, self._last)


class _Finite(Callback):
    """Ends a training whose loss is not finite, and says where that was; or whose time is up.

    Attributes:
        steps: of an epoch.
        finite: the steps of the last epoch before the loss was not finite.
        is_late: whether the time was up before the last epoch.
    """

    steps = finite = 0
    is_late = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the loss."""
        self.steps = int(self.params["steps"])
        loss = (logs or {}).get("loss")
        if isinstance(loss, float) and not np.isfinite(loss):
            counts = [s.steps_before_nan() for s in self.model._steps.values() if s.function]
            self.finite = max(counts, default=0)
            self.model.stop_training = True
        elif deadline.is_up() and epoch + 1 < self.params["epochs"]:
            self.is_late = self.model.stop_training = True


def _divergence(lane: Lane, steps: int, finite: int) -> Divergence | None:
    """What the losses of the last epoch of a lane say."""
    epoch = lane.epochs - 1
    for name, place in (("loss", min(finite + 1, steps)), ("val_loss", steps)):
        loss = lane.history.get(name, [0.0])[-1]
        if isinstance(loss, float) and not np.isfinite(loss):
            step = epoch * steps + place
            what = "NaN" if np.isnan(loss) else "infinite"
            return Divergence(epoch, step, f"{name} was {what} at step {step}")
    return None


def _count(data: Any) -> int:
    """The rows of (x, y, ...); 0 where there are none to be counted."""
    if not isinstance(data, tuple | list) or not is_arrays(data[0]):
        return 0
    return len(split(data[0], *(*data[1:], None, None)[:2])[1][0])


def _call(configuration: Mapping[str, Any]) -> str:
    return f"build({', '.join(f'{k}={v!r}' for k, v in configuration.items())})"


_seeding = threading.RLock()
"""Held while the seed of everything is that of a lane: two threads may train many at once."""


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draws of the block start from ``seed``, names (of metrics, too) from their beginning.

    Afterwards both go on as if the block had not been.
    """
    with _seeding:
        before = random.state()
        random.seed_all(seed)
        try:
            with names_of_its_own():
                yield
        finally:
            random.restore_state(before)


@contextmanager
def _draws(state: Any) -> Iterator[None]:
    """Draws of the block go on from ``state``; afterwards as if it had not been."""
    with _seeding:
        before = random.state()
        random.restore_state(state)
        try:
            with names_of_its_own():
                yield
        finally:
            random.restore_state(before)


def _direction(model: Any, name: str) -> str | None:
    """Whether a number should rise (``"up"``) or fall; None if nothing tells it."""
    watcher = MonitorCallback(name)
    watcher.set_model(model)
    try:
        watcher.find_direction()
    except ValueError:
        return None
    return "up" if watcher.is_better(1.0, 0.0) else "down"
