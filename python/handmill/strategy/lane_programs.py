"""Lanes in C++: the programs of a model's training and validation, run by one thread, whole epochs.

What is done here is what ``fit`` does, in its order, so that the draws and with them the bits are
the same. A model that asks for more than that is not taken (:func:`describe` gives None).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from handmill import config, random
from handmill.ir.op import Array
from handmill.metrics.reduction import plain_means
from handmill.models.data_adapters import ArrayData
from handmill.models.first_look import in_validation, look_at_rows
from handmill.models.row_numbers import row_generators
from handmill.models.steps import StepFunction, TracedStep, in_order_of_names, is_overridden
from handmill.runtime.variable import Variable
from handmill.runtime.watch import is_ours
from handmill.strategy.lane_rows import LaneRows, batch_counts

_OF_FIT = ("fit", "evaluate", "reset_metrics", "metrics", "_order", "_step", "_step_of")

_ZERO = np.float32(0).tobytes()
_ONE = np.float32(1).tobytes()


@dataclass
class PassPrograms:
    """The programs of a pass over some rows.

    Attributes:
        data: the rows.
        plans: of each size of a batch, in order, and how many batches it has.
        binding: the places of the states of its variables.
        resets: the places of states and what they hold before the pass.
        written: the variables that it writes.
    """

    data: ArrayData
    plans: list[tuple[Any, int]]
    binding: list[int]
    resets: list[tuple[int, bytes]]
    written: list[Variable]

    def bound(self, states: Sequence[Any]) -> tuple[Any, list[tuple[Any, int]], list[Any]]:
        """What ``_core.Lane`` is told of the pass, for states in these places."""
        from handmill import _core

        binding = _core.Binding([states[place] for place in self.binding])
        return (
            self.data.feed.native,
            [(plan.bind(binding), count) for plan, count in self.plans],
            [(states[place], content) for place, content in self.resets],
        )


@dataclass
class Description:
    """The programs of a model's epochs, for any states like those of the model.

    Attributes:
        model: the model that was described.
        metrics: whose states are noted after each pass.
        states: those of the model.
        training: a pass over the training rows.
        validation: a pass over the validation rows, if there are any.
        results: the places of the states of metrics.
        alive: the place of what says that losses were finite.
        finite: the place of how many steps of an epoch had a finite loss.
        weights: the places of the weights, in their order.
        is_shuffled: whether each epoch has an order of its own.
    """

    model: Any
    metrics: list[Any]
    states: list[Any]
    training: PassPrograms
    validation: PassPrograms | None
    results: list[int]
    alive: int
    finite: int
    weights: list[int]
    is_shuffled: bool

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.training.data.num_batches

    @cached_property
    def has_plain_means(self) -> bool:
        """Whether the metrics are means, whose results follow from two numbers each."""
        return len(self.model.objective.names) == 1 and (
            plain_means(self.metrics) is not None
            and all(m.variables == [m.total, m.count] for m in self.metrics)
        )

    def lane(self, states: Sequence[Any], shuffle: Sequence[int] | None, epochs: int) -> Any:
        """The lane in C++.

        Args:
            states: in the places of :attr:`states`.
            shuffle: the seed of the orders of rows, and how many were drawn before.
            epochs: how many epochs follow.
        """
        from handmill import _core

        results = [states[place] for place in self.results]
        made = _core.Lane(*self.training.bound(states), results, states[self.alive], epochs)
        if self.validation is not None:
            made.validate(*self.validation.bound(states))
        if shuffle is not None:
            made.shuffle(*shuffle)
        return made

    def history(self, record: Array) -> dict[str, list[Any]]:
        """The numbers of each epoch by name, as ``fit`` gives them.

        Args:
            record: the bytes of the states of the metrics after each pass.
        """
        history: dict[str, list[Any]] = {}
        logs = self._of_means(record) if self.has_plain_means else self._logs(record)
        passes = 1 if self.validation is None else 2
        for number in range(passes):
            prefix = "val_" if number else ""
            for row in logs[number::passes]:
                for name, value in row.items():
                    history.setdefault(f"{prefix}{name}", []).append(value)
        return history

    def _of_means(self, record: Array) -> list[dict[str, Any]]:
        sums = record.view(np.float64).reshape(-1, len(self.metrics), 2)
        total, count = sums[:, :, 0], sums[:, :, 1]
        means = np.divide(total, count, out=np.zeros_like(total), where=count != 0)
        names = [metric.name for metric in self.metrics]
        order = sorted(range(len(names)), key=lambda i: names[i])
        rows = means.astype(np.float32).astype(float)[:, order].tolist()
        ordered = [names[i] for i in order]
        return [dict(zip(ordered, row, strict=True)) for row in rows]

    def _logs(self, record: Array) -> list[dict[str, Any]]:
        """By the metrics of the model; of a lane with its own states alone."""
        variables = _variables_of(self.metrics)
        logs = []
        for row in record.reshape(-1, sum(v.state.nbytes for v in variables)):
            start = 0
            for variable in variables:
                content = variable.read()
                stop = start + variable.state.nbytes
                variable.state.write(row[start:stop].view(content.dtype).reshape(content.shape))
                start = stop
            logs.append(in_order_of_names(self.model.get_metrics_result()))
        return logs


class LaneProgram:
    """The training of a lane in C++.

    Args:
        description: of its programs.
        states: its states.
        shuffle: the seed of its orders of rows, and how many were drawn before.
        epochs: how many epochs follow.
        model: the model that has the states; None if there is none.
    """

    def __init__(
        self,
        description: Description,
        states: Sequence[Any],
        shuffle: list[int] | None,
        epochs: int,
        model: Any = None,
    ) -> None:
        self.description = description
        self.states = states
        self.model = model
        self.epochs = epochs
        self.native = description.lane(states, shuffle, epochs)
        self._shuffle = shuffle

    def finish(self) -> dict[str, list[Any]]:
        """Brings the model to the state in which ``fit`` leaves it; returns the history.

        Raises:
            ValueError: what ended the lane, if anything did.
        """
        self.native.rethrow()
        if self._shuffle is not None:
            self._shuffle[1] += self.native.epochs_done
        if self.model is not None and self.model.optimizer.finalizes:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        return self.description.history(np.frombuffer(self.native.record, np.uint8))

    @property
    def finite_steps(self) -> int:
        """How many steps of the last epoch had a finite loss before the first that had not."""
        return int(self.states[self.description.finite].item())

    def weights(self) -> list[Array]:
        """Copies of the weights."""
        return [self.states[place].copy() for place in self.description.weights]

    def more(self, epochs: int) -> LaneProgram:
        """The same lane for epochs to come."""
        return LaneProgram(self.description, self.states, self._shuffle, epochs, self.model)


def describe(model: Any, rows: LaneRows) -> Description | None:
    """Describes the programs of a model's epochs; None if only ``fit`` can do what it asks for.

    Args:
        model: a compiled model.
        rows: what it is trained and measured on.

    Raises:
        ValueError: for rows that do not fit the model.
    """
    if not config.is_native() or not _is_plain(model) or rows.data is None:
        return None
    if model.objective.one_hot is not None and rows.may_be_one_hot:
        return None
    data, validation = rows.data
    if rows.is_shuffled and model._shuffle is None:
        model._shuffle = [random.next_host_seed(), 0]
    step = model._step_of("train")(data.layout)
    test = None if validation is None else model._step_of("test")(validation.layout)
    if not all(isinstance(s, TracedStep) and s.is_standard for s in (step, test) if s is not None):
        return None
    places: dict[int, int] = {}
    states: list[Any] = []

    def place_of(variable: Variable) -> int:
        place = places.setdefault(id(variable.state), len(states))
        if place == len(states):
            states.append(variable.state)
        return place

    training = _programs(step, data, rows, place_of)
    measuring = None
    if validation is not None:
        with in_validation():
            measuring = _programs(test, validation, rows, place_of)
    if training is None or (validation is not None and measuring is None):
        return None
    if random.programs_draw_from(places):
        return None
    model.reset_metrics()
    metrics = model._metrics_now()[1]
    if not all(is_ours(type(metric)) for metric in metrics):
        return None
    resets = [(place_of(v), v.state.view().tobytes()) for v in _variables_of(metrics)]
    alive, finite = place_of(step.alive), place_of(step.finite_steps)
    training.resets = [*resets, (alive, _ONE), (finite, _ZERO)]
    if measuring is not None:
        measuring.resets = resets
    weights = [place_of(v) for v in model.weights]
    results = [place for place, _ in resets]
    return Description(
        model, metrics, states, training, measuring, results, alive, finite, weights,
        rows.is_shuffled,
    )  # fmt: skip


def _is_plain(model: Any) -> bool:
    """Whether ``fit`` of the model is that of this package, on numbers, by programs."""
    own = (model.train_function, model.test_function)
    return not (
        is_overridden(model, *_OF_FIT)
        or model.optimizer is None
        or model.run_eagerly
        or model._host is not None
        or row_generators(model)
        or any(function is not None and type(function) is not StepFunction for function in own)
    )


def _programs(step: Any, data: ArrayData, rows: LaneRows, place_of: Any) -> Any:
    """The programs of a pass; None where a part of them is run by Python."""
    plans: list[tuple[Any, int]] = []
    binding: list[int] = []
    written: list[Variable] = []
    for size, count in batch_counts(data):
        fitted = step.function.fitted(data.feed.batch(size))
        bound = fitted.signature
        plan = step.function.fed_plan(fitted).plan
        if plan.has_host_nodes:
            return None
        key = id(data), id(bound.trace)
        if key not in rows.looked_at:
            look_at_rows(bound.trace, data)
            rows.looked_at[key] = bound.trace
        slots = bound.trace.known_program(True)[1]
        found = [place_of(bound.variables[slot]) for slot in slots]
        if binding and found != binding:  # one of the sizes has a trace of its own
            return None
        binding, written = found, bound.written
        plans.append((plan, count))
    return PassPrograms(data, plans, binding, [], written)


def _variables_of(metrics: Sequence[Any]) -> list[Variable]:
    once = {id(v): v for metric in metrics for v in metric.variables}
    return list(once.values())
