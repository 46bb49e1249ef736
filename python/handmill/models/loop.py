"""The one loop over batches: epochs, callbacks, progress, deadlines, and when to stop.

``fit``, ``evaluate`` and ``predict`` all run here. A data source says which rows come next
(:mod:`handmill.models.data_adapters`), a step says what happens to them
(:mod:`handmill.models.steps`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from handmill.callbacks.backup import BackupAndRestore
from handmill.callbacks.callback_list import CallbackList
from handmill.errors import RowError, ShapeError
from handmill.models.distributed import CURRENT
from handmill.models.first_look import look
from handmill.models.row_numbers import end_epoch
from handmill.models.steps import STOPS, in_order_of_names, joined, nested
from handmill.models.training_checks import TrainingChecks

StepOf = Callable[[Any], Any]
"""Gives the step for a layout of data."""


class Pass:
    """Runs passes over data of one phase of one model.

    Args:
        model: the model.
        phase: ``"train"``, ``"test"`` or ``"predict"``.
        callbacks: the callbacks.
        step_of: gives the step for a layout of data.

    Attributes:
        first: called once after the first step, with some of its arrays.
        halfway: called once when half the steps of the pass are done, where their number is known.
        look: called once with the first step and its portion, before it runs.
        prepare: called once with the first step and arrays for it, before it runs.
        after_batch: called with the number of steps done after callbacks were told of a batch.
        last: the step that ran last.
    """

    def __init__(self, model: Any, phase: str, callbacks: CallbackList, step_of: StepOf) -> None:
        self.model = model
        self.phase = phase
        self.callbacks = callbacks
        self.step_of = step_of
        self.first: Callable[[Any], None] | None = None
        self.halfway: Callable[[], None] | None = None
        self.prepare: Callable[[Any, Any], None] | None = None
        self.look: Callable[[Any, Any], None] | None = None
        self.after_batch: Callable[[int], None] | None = None
        self.last: Any = None

    def run(self, data: Any, done: int = 0) -> int:
        """Runs the steps of an epoch, of which some may be done; returns how many are then."""
        model, phase, callbacks = self.model, self.phase, self.callbacks
        watched, stops = callbacks.watches[phase], STOPS[phase]
        every = model.steps_per_execution
        opened = False  # whether callbacks were told that a batch begins, and not that it ended
        step: Any = None
        layout: Any = None
        data.begin_epoch()
        limit = data.num_batches
        while limit is None or done < limit:
            portion = data.next_portion(done)
            if portion is None:
                break
            if watched or portion.layout is not layout:
                layout = portion.layout
                step = self.last = self.step_of(layout)
            if self.look is not None:
                self.look(step, portion)
                self.look = None
            if self.prepare is not None:
                self.prepare(step, portion.sample)
                self.prepare = None
            count = portion.steps if limit is None else min(portion.steps, limit - done)
            if watched:
                count = min(count, every - done % every)
                if not opened:
                    callbacks.batch_begin(phase, done)
                    opened = True
            if self.first is not None:
                count = 1
            elif not watched and self.halfway is not None and limit is not None:
                count = min(count, max(1, limit // 2 - done))
            done += step.run(portion, count)
            if self.first is not None:
                self.first(portion.sample)
                self.first = None
            if self.halfway is not None and limit is not None and 2 * done >= limit:
                self.halfway()
                self.halfway = None
            if opened and done % every == 0:
                callbacks.batch_end(phase, done - 1, step.logs())
                opened = False
                if self.after_batch is not None and (limit is None or done < limit):
                    self.after_batch(done)
            if callbacks.shows_progress:
                callbacks.progress(phase, done, step.logs)
            if not opened and getattr(model, stops) and not data.is_ahead:
                break
        if opened:
            # Numbered as if the last execution were as long as the others, as in Keras.
            callbacks.batch_end(phase, -(-done // every) * every - 1, self.last.logs())
        data.end_epoch(done)
        return done


def fit(
    model: Any,
    data: Any,
    callbacks: CallbackList,
    epochs: range,
    checks: TrainingChecks,
    validation: Any = None,
    validation_freq: Any = 1,
    resumption: Any = None,
) -> None:
    """Trains ``model`` for some epochs.

    Args:
        model: a compiled model.
        data: what to train on.
        callbacks: the callbacks.
        epochs: the numbers of the epochs.
        checks: what watches the numbers.
        validation: data to measure the model on between epochs.
        validation_freq: epochs between validations, or a list of epochs (from 1).
        resumption: the file from which the run goes on, and into which its state is written.

    Raises:
        ValueError: if the data give no batch at all.
    """
    steps = Pass(model, "train", callbacks, model._step_of("train"))
    model.stop_training = False
    logs: dict[str, Any] = {}
    ran = False
    callbacks.begin("train")
    start = None if resumption is None else resumption.begin(model, data, validation, callbacks)
    begun = 0  # batches of the first epoch that are done
    if start is not None:
        first = epochs.stop if start.stopped else max(start.epoch, epochs.start)
        epochs, begun, logs = range(first, epochs.stop), start.batch, start.logs
        model.stop_training = start.stopped
    validates = validation is not None and any(_validates(n, validation_freq) for n in epochs)
    looked_at = validation if validates and resumption is None else None
    steps.look = functools.partial(look, model, data, validation=looked_at)
    shared = CURRENT.distribution
    if shared is not None:
        steps.look = shared.beginning(model, data, epochs, begun, steps.look)
        if resumption is not None:
            resumption.writes = shared.writes
    finalizes = bool(epochs) or (start is not None and not start.finished)
    try:
        for epoch in epochs:
            model.reset_metrics()
            if not begun:
                checks.start_epoch(steps, data, not ran)
            callbacks.on_epoch_begin(epoch, None)
            if begun:
                steps.prepare = resumption.restore_epoch
            if resumption is not None and resumption.batches:
                steps.after_batch = functools.partial(_save_if_due, resumption, callbacks, epoch)
            done, begun = steps.run(data, begun), 0
            if done and data.numbered:
                end_epoch(model)
            if not done:
                if not ran:
                    raise ValueError("fit() received no batch: the data set gave none")
                break
            if steps.last is None:  # nothing was left of the epoch that was begun
                logs = in_order_of_names(model.get_metrics_result())
            else:
                logs = steps.last.epoch_logs()
                checks.end_epoch(steps, done, logs, data, first=not ran)
            if shared is not None:
                shared.end_epoch(model, epoch)
            ran = True
            if validation is not None and _validates(epoch, validation_freq):
                validation.restart()
                results = evaluate(model, validation, callbacks)
                logs.update({f"val_{name}": value for name, value in results.items()})
            callbacks.on_epoch_end(epoch, logs)
            if resumption is not None:
                resumption.save(epoch + 1, 0, logs)
            if model.stop_training:
                break
    finally:
        if finalizes and model.optimizer is not None and model.optimizer.finalizes:
            model.optimizer.finalize_variable_values(model.trainable_variables)
    if shared is not None:
        shared.end(model)
    callbacks.end("train", logs)
    if resumption is not None:
        resumption.end(epochs.stop, logs)


def _save_if_due(resumption: Any, callbacks: CallbackList, epoch: int, done: int) -> None:
    if any([c.is_due() for c in callbacks.callbacks if isinstance(c, BackupAndRestore)]):
        resumption.save(epoch, done)


def evaluate(model: Any, data: Any, callbacks: CallbackList) -> dict[str, Any]:
    """Returns the numbers of one pass by name; none if there was no batch."""
    steps = Pass(model, "test", callbacks, model._step_of("test"))
    model.stop_evaluating = False
    callbacks.begin("test")
    model.reset_metrics()
    logs = steps.last.epoch_logs() if steps.run(data) else {}
    callbacks.end("test", logs)
    return logs


def predict(model: Any, data: Any, callbacks: CallbackList) -> Any:
    """Returns the outputs of one pass, joined.

    Raises:
        ValueError: if the data give no batch at all.
    """
    collected = _Outputs(model)
    steps = Pass(model, "predict", callbacks, collected.step_of)
    model.stop_predicting = False
    callbacks.begin("predict")
    done = steps.run(data)
    callbacks.end("predict")
    if not done:
        raise ValueError("predict() received no batch: the data set is empty")
    return collected.joined()


class _Outputs:
    """The step of ``predict``, which keeps what the model returns."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._predictor: Any = None
        self._nesting: Any = None
        self._parts: list[tuple[Any, ...]] = []

    def step_of(self, layout: Any) -> _Outputs:
        self._predictor = self._model._predictor(layout)
        return self

    def run(self, portion: Any, count: int) -> int:
        arrays = portion.take()
        try:
            self._parts.append(self._predictor(arrays))
        except (RowError, ShapeError) as error:
            raise portion.explained(error)  # noqa: B904  (the same error, with the place)
        self._nesting = self._predictor.nesting(arrays)
        return 1

    def logs(self) -> dict[str, Any]:
        count = (len(self._parts) - 1) % self._model.steps_per_execution + 1
        return {"outputs": nested(self._nesting, joined(self._parts[-count:]))}

    def joined(self) -> Any:
        return nested(self._nesting, joined(self._parts))


def _validates(epoch: int, freq: Any) -> bool:
    if isinstance(freq, int):
        return (epoch + 1) % freq == 0
    return epoch + 1 in freq
