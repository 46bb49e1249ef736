"""The steps of training, evaluation and prediction: planned as programs, or run by Python.

``train_step``, ``test_step`` and ``predict_step`` of a model say what a step is. Made of operators,
it is traced once and becomes one program; with ``run_eagerly`` Python runs it on every batch.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from handmill import ops, tree
from handmill.data.batches import pack_x_y_sample_weight, unpack_x_y_sample_weight
from handmill.errors import needs_numbers, not_a_program
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.trace import as_value
from handmill.layers.context import collected_losses, eager_calls, numbered_rows
from handmill.layers.eager import names_for
from handmill.metrics.metric import Metric, noted_results
from handmill.models.layout import Layout, fill
from handmill.models.lengths import lengths_of
from handmill.models.row_numbers import row_generators
from handmill.runtime.function import Outputs, TracedFunction
from handmill.runtime.structure import Structure
from handmill.runtime.variable import Variable
from handmill.runtime.watch import is_ours

STOPS = {"train": "stop_training", "test": "stop_evaluating", "predict": "stop_predicting"}
"""The attribute of a model by which a phase is told to end."""

MONITORED = 2
"""Steps of a reading of a monitor: one before an update, one after it."""

_ZERO = np.zeros((), "float32")
_ONE = np.ones((), "float32")


class _Tracing(threading.local):
    step: Any = None


_TRACING = _Tracing()


@contextmanager
def tracing(step: Any) -> Iterator[None]:
    """Lets what is traced meanwhile be a part of ``step``."""
    before, _TRACING.step = _TRACING.step, step
    try:
        yield
    finally:
        _TRACING.step = before


def note_loss(loss: Any) -> None:
    """Lets the step that is being traced, if any, watch whether ``loss`` stays finite."""
    if _TRACING.step is not None:
        _TRACING.step.losses.append(loss)


def results_come_later(model: Any) -> bool:
    """Whether a step is traced whose numbers are read from the metrics after it has run."""
    return _TRACING.step is not None and _TRACING.step.is_standard and _TRACING.step.model is model


class Step:
    """One kind of step of one model.

    Args:
        model: the model.
        layout: how the arrays of a batch lie.
        phase: ``"train"`` or ``"test"``.

    Attributes:
        function: the program, None where Python runs the step.
        is_standard: whether it is a program that no method of the model's own changes.
        is_stopped: says whether the phase was told to end.
    """

    def __init__(self, model: Any, layout: Layout, phase: str) -> None:
        self.model = model
        self.layout = layout
        self.phase = phase
        self.training = phase == "train"
        self.is_stopped = functools.partial(getattr, model, STOPS[phase])
        self.function: Any = None
        self.is_standard = False

    @property
    def call(self) -> Callable[[Any], Any]:
        """The method of the model that says what the step is."""
        return getattr(self.model, f"{self.phase}_step")  # type: ignore[no-any-return]

    def _numbered(self, values: Sequence[Any]) -> AbstractContextManager[None]:
        """Lets layers know the numbers of the rows, if they stand behind the values of a batch."""
        if not self.layout.numbered:
            return nullcontext()
        return numbered_rows(values[-1], row_generators(self.model))

    def run(self, portion: Any, count: int) -> int:
        """Runs ``count`` steps, or as many as there is time for; returns how many."""
        raise NotImplementedError

    def logs(self) -> dict[str, Any]:
        """Returns the numbers by name as they are after the last step."""
        raise NotImplementedError

    def epoch_logs(self) -> dict[str, Any]:
        """Returns the numbers of all steps since the metrics were reset.

        Those that the last step returned; where they have the names of the metrics and the step
        updates these, the results of the metrics.
        """
        logs = self.logs()
        results = self.model.get_metrics_result()
        if set(results) == set(logs) and all(map(_has_counted, self.model.metrics)):
            return in_order_of_names(results)
        return logs

    def reset(self) -> None:
        """Starts the count of finite steps again."""

    def steps_before_nan(self) -> int:
        """How many steps had a finite loss before the first that had not."""
        return 0


def _has_counted(metric: Metric) -> bool:
    return any(v.read().any() for v in metric.variables) or not metric.variables


class TracedStep(Step):
    """A step as one program, for one layout of data; see :class:`Step`."""

    _monitor: Any = None

    def __init__(self, model: Any, layout: Layout, phase: str) -> None:
        super().__init__(model, layout, phase)
        hooks = (f"{phase}_step", "compute_metrics", "get_metrics_result")
        self.is_standard = not is_overridden(model, *hooks)
        lengths = lengths_of(model, layout.counts)
        self.function = TracedFunction(self._trace, f"{phase}_step", subject=self, lengths=lengths)
        self.losses: list[Any] = []
        self._returned: dict[str, Callable[[], Any]] | None = None
        self._kept: dict[str, Variable] = {}
        # How many steps had a finite loss before the first that had not; and 1 until then.
        self.finite_steps = Variable.of_zeros((), "float32", "finite_steps", "finite_steps")
        self.alive = Variable.of_zeros((), "float32", "alive", "alive")
        self.alive.state.write(_ONE)

    def run(self, portion: Any, count: int) -> int:
        """Runs ``count`` steps, or as many as there is time for; returns how many."""
        return portion.run(self.function, count, self.is_stopped)  # type: ignore[no-any-return]

    ignores_trainable = True  # a change takes effect when the model is compiled again

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        model, objective = self.model, self.model.objective
        given = (objective.loss, objective.loss_metrics, objective.weighted_metrics)
        names = names_for(model, (*self.layout.structures, *given))
        own = (self.finite_steps, self.alive, self.layout.numbered, self._monitor)
        uses_it = self.training or not is_ours(type(model))
        return model, model.optimizer if uses_it else None, objective, own, self.phase, names

    def memo(self, before: Structure) -> Any:
        """How the objective was built, and which variables the optimizer has slots for."""
        model, built_for = self.model, self.model.objective.built_for
        numbers = {id(v): i for i, v in enumerate(before.variables)}
        trained = [numbers.get(id(v)) for v in model.trainable_variables] if self.training else []
        places = None if None in trained else trained
        if built_for is None:
            return None, places
        targets, predictions, names, nesting = built_for
        are_own = model._graph is not None and names == model.output_names
        return (targets, predictions, None if are_own else names, nesting), places

    def prepare(self, memo: Any, before: Structure) -> list[Variable] | None:
        """Builds the objective and the optimizer, as a trace does."""
        model, objective, made = self.model, self.model.objective, []
        built_for, places = memo
        if built_for is not None and not objective.built:
            targets, predictions, names, nesting = built_for
            if names is None and model._graph is None:
                return None  # another was built by its trace; this one is not: it is traced too
            objective.build_for(targets, predictions, names or model.output_names, nesting)
            made = objective.variables
        if self.training and model.optimizer is not None and not model.optimizer.built:
            if places is None:
                return None  # the trace made weights that are not there yet, so it is made again
            variables = [before.variables[i] for i in places]
            if variables:
                model.optimizer.build(variables)
                made += model.optimizer.variables
        return made

    def logs(self) -> dict[str, Any]:
        """Returns the numbers by name as they are after the last step."""
        if self._returned is None:
            return in_order_of_names(self.model.get_metrics_result())
        return in_order_of_names({name: read() for name, read in self._returned.items()})

    def epoch_logs(self) -> dict[str, Any]:
        """Returns the numbers of all steps since the metrics were reset."""
        return self.logs() if self._returned is None else super().epoch_logs()

    def reset(self) -> None:
        """Starts the count of finite steps again."""
        self.finite_steps.state.write(_ZERO)
        self.alive.state.write(_ONE)

    def steps_before_nan(self) -> int:
        """How many steps had a finite loss before the first that had not."""
        return int(self.finite_steps.read())

    def _trace(self, *values: Any) -> tuple[()]:
        objective = self.model.objective
        was_built = objective.built
        self.losses = []
        try:
            with tracing(self):
                if self._monitor is not None:
                    self._monitor.trace(self.layout, values)
                with collected_losses(), noted_results() as noted, self._numbered(values):
                    returned = call_step(self.call, self.layout.join(values))
                if self.training:
                    self._watch()
                self._keep(returned, noted)
        except BaseException as error:
            if not was_built:
                objective.forget()
            if needs_numbers(error):
                raise not_a_program(error, self._name()) from error
            raise
        return ()

    def _name(self) -> str:
        return f"{self.phase}_step() of {type(self.model).__name__} {self.model.name!r}"

    def _watch(self) -> None:
        losses = [loss for loss in self.losses if isinstance(loss, Value)]
        if not losses:
            return
        alive = self.alive.value
        for loss in losses:
            alive = ops.multiply(alive, ops.cast(ops.isfinite(loss), "float32"))
        self.alive.assign(alive)
        self.finite_steps.assign(ops.add(self.finite_steps.value, alive))

    def _keep(self, returned: Any, noted: Sequence[tuple[Any, Metric, Any]]) -> None:
        """Says where the numbers that the step returned are found after it has run.

        Results of metrics are read from these; everything else is written into variables by the
        program.
        """
        graph = current_graph()
        assert graph is not None  # noqa: S101
        if self.is_standard or returned is None:
            self._returned = None
            return
        found: dict[str, Callable[[], Any]] = {}
        for name, value in flat_logs(returned, f"{self.phase}_step").items():
            read = _result_of(graph, value, noted) or self._kept_in_variable(graph, name, value)
            found[name] = read
        self._returned = found

    def _kept_in_variable(self, graph: Graph, name: str, value: Any) -> Callable[[], Any]:
        if not isinstance(value, Value | Variable | np.ndarray | np.generic | int | float):
            return lambda: value
        value = as_value(graph, value)
        shape = value.shape
        if not all(isinstance(d, int) for d in shape):
            raise ValueError(
                f"{self.phase}_step() of {self.model.name!r} returned {name!r} of shape {shape}; "
                "its numbers must have a shape that does not depend on the batch: return a mean or "
                "a sum over the rows, e.g. ops.mean(x), or compile(run_eagerly=True)"
            )
        kept = self._kept.get(name)
        if kept is None or kept.spec != value.spec:
            kept = Variable(np.zeros(shape), dtype=value.dtype, trainable=False, name=name)
            self._kept[name] = kept
        kept.assign(value)
        return kept.numpy


class MonitoredStep(TracedStep):
    """A step two of whose programs take turns: one computes what a monitor reads, one does not.

    Args:
        plain: the step without a monitor.
        monitor: what the other computes (inspection/health_monitor.py).
    """

    def __init__(self, plain: TracedStep, monitor: Any) -> None:
        super().__init__(plain.model, plain.layout, plain.phase)
        self._monitor = monitor
        self.plain = plain
        self._ran: TracedStep = self
        self.finite_steps, self.alive = plain.finite_steps, plain.alive

    def run(self, portion: Any, count: int) -> int:
        """Runs ``count`` steps, or as many as there are until the other program's turn."""
        monitor = self._monitor
        if monitor.done < MONITORED:
            self._ran, count = self, min(count, MONITORED - monitor.done)
            monitor.was_due = True
        else:
            self._ran, count = self.plain, min(count, monitor.every - monitor.done)
        ran = portion.run(self._ran.function, count, self.is_stopped)
        monitor.done = (monitor.done + ran) % monitor.every
        return ran  # type: ignore[no-any-return]

    def logs(self) -> dict[str, Any]:
        """Returns the numbers by name as they are after the last step."""
        return super().logs() if self._ran is self else self._ran.logs()


class EagerStep(Step):
    """A step that Python runs on the arrays of every batch; see :class:`Step`."""

    _returned: Any = None

    def run(self, portion: Any, count: int) -> int:
        """Runs one step."""
        arrays = portion.take()
        with collected_losses(), eager_calls(), self._numbered(arrays):
            self._returned = call_step(self.call, portion.layout.join(arrays))
        return 1

    def logs(self) -> dict[str, Any]:
        """Returns the numbers by name as they are after the last step."""
        if self._returned is None:
            return in_order_of_names(self.model.get_metrics_result())
        return in_order_of_names(flat_logs(self._returned, f"{self.phase}_step"))


class FunctionStep(Step):
    """A step that the model's own ``train_function`` or ``test_function`` makes.

    Args:
        model: the model.
        layout: how the arrays of a batch lie.
        phase: ``"train"`` or ``"test"``.
        function: takes an iterator of batches, makes a step, returns numbers by name.
    """

    def __init__(self, model: Any, layout: Layout, phase: str, function: Any) -> None:
        super().__init__(model, layout, phase)
        self._function = function
        self._returned: Any = None

    def run(self, portion: Any, count: int) -> int:
        """Runs one step."""
        batch = pack_x_y_sample_weight(*portion.layout.join(portion.take()))
        self._returned = self._function(iter((batch,)))
        return 1

    def logs(self) -> dict[str, Any]:
        """Returns the numbers by name as they are after the last step."""
        if self._returned is None:
            return in_order_of_names(self.model.get_metrics_result())
        return in_order_of_names(flat_logs(self._returned, f"{self.phase}_function"))


class Predictor:
    """The prediction of a model for one layout of inputs.

    Args:
        model: the model.
        layout: how the arrays of a batch lie; targets and weights are left out.
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        self.model = model
        self.layout = layout
        lengths = lengths_of(model, (layout.counts[0],))
        self.function = TracedFunction(self._trace, "predict_step", subject=self, lengths=lengths)

    ignores_trainable = False

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        return self.model, names_for(self.model, self.layout.structures[0])

    def memo(self, before: Any) -> None:
        """Nothing: a prediction makes nothing but what it returns."""

    def prepare(self, memo: None, before: Any) -> tuple[()]:
        """There is nothing to make."""
        return ()

    def _trace(self, *values: Any) -> Outputs:
        x = fill(self.layout.structures[0], iter(values))
        try:
            with collected_losses():
                outputs = self.model.predict_step(pack_x_y_sample_weight(x))
        except TypeError as error:
            if not needs_numbers(error):
                raise
            name = f"predict_step() of {type(self.model).__name__} {self.model.name!r}"
            raise not_a_program(error, name) from error
        nesting = tree.map_structure(lambda _: None, outputs)
        return Outputs(tuple(tree.flatten(outputs)), nesting)

    def __call__(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the outputs for a batch, flat."""
        found = self.function(*arrays[: self.layout.counts[0]])
        return found if isinstance(found, tuple) else (found,)

    def nesting(self, arrays: Sequence[Any]) -> Any:
        """How the model's outputs are nested for such a batch, with None at the leaves."""
        return self.function.structure_for(arrays[: self.layout.counts[0]])


def nested(nesting: Any, outputs: Sequence[Any]) -> Any:
    """Returns flat outputs nested as :meth:`Predictor.nesting` says."""
    return outputs[0] if nesting is None else tree.pack_sequence_as(nesting, list(outputs))


def joined(parts: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Returns the flat outputs of several batches, joined."""
    return [g[0] if len(g) == 1 else np.concatenate(g) for g in zip(*parts, strict=True)]


class EagerPredictor(Predictor):
    """A prediction that Python runs on the arrays of every batch.

    Args:
        model: the model.
        layout: how the arrays of a batch lie.
        function: the model's own ``predict_function``, if it has one: takes a list of batches.
    """

    def __init__(self, model: Any, layout: Layout, function: Any = None) -> None:
        super().__init__(model, layout)
        self._own = function
        self._nesting: Any = None

    def __call__(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the outputs for a batch, flat."""
        x = fill(self.layout.structures[0], iter(arrays[: self.layout.counts[0]]))
        batch = pack_x_y_sample_weight(x)
        if self._own is not None:
            outputs = self._own([batch])
        else:
            with collected_losses(), eager_calls():
                outputs = self.model.predict_step(batch)
        self._nesting = tree.map_structure(lambda _: None, outputs)
        return tuple(np.asarray(y) for y in tree.flatten(outputs))

    def nesting(self, arrays: Sequence[Any]) -> Any:
        """How the outputs of the last batch were nested, with None at the leaves."""
        return self._nesting


class StepFunction:
    """What ``make_train_function`` and its siblings make: a step on the next batch.

    Args:
        model: the model.
        phase: ``"train"``, ``"test"`` or ``"predict"``.
    """

    def __init__(self, model: Any, phase: str) -> None:
        self.model = model
        self.phase = phase

    def __call__(self, batches: Iterable[Any]) -> Any:
        """Takes a batch from ``batches``; returns numbers by name, or the model's outputs.

        Raises:
            StopIteration: if there is none.
        """
        x, y, weight = unpack_x_y_sample_weight(next(iter(batches)))
        if self.phase == "predict":
            return self.model._predict_batch(x, may_be_own=False)
        return self.model._run_batch(self.phase, x, y, weight, may_be_own=False)


def is_overridden(model: Any, *names: str) -> bool:
    """Whether ``model`` has a method of its own in the place of one of the Trainer's."""
    from handmill.models.trainer import Trainer

    own, kind = vars(model), type(model)
    return any([n in own or getattr(kind, n) is not getattr(Trainer, n) for n in names])


def call_step(step: Callable[[Any], Any], data: tuple[Any, Any, Any]) -> Any:
    """Calls ``train_step`` or ``test_step`` on a batch.

    Raises:
        TypeError: for the form that Keras's JAX backend has.
    """
    is_ours_own = str(getattr(step, "__module__", "")).startswith("handmill.")
    needed = [
        p
        for p in (() if is_ours_own else inspect.signature(step).parameters.values())
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        raise TypeError(
            f"{step.__qualname__}() takes {', '.join(p.name for p in needed)}; expected "
            "(self, data), the form of Keras's TensorFlow backend: state is assigned to variables, "
            "not passed in and out"
        )
    return step(pack_x_y_sample_weight(*data))


def flat_logs(returned: Any, where: str) -> dict[str, Any]:
    """Returns what a step returned as numbers by name, without nesting.

    Raises:
        TypeError: if it is no dict.
    """
    if not isinstance(returned, Mapping):
        raise TypeError(
            f"{where}() must return a dict of numbers by name, such as "
            f"{{'loss': loss}}; it returned {type(returned).__name__}"
        )
    found: dict[str, Any] = {}
    for name, value in returned.items():
        if isinstance(value, Mapping):
            found.update(flat_logs(value, where))
        else:
            found[str(name)] = value
    return found


def in_order_of_names(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a step tells callbacks and histories: numbers, in the order of Keras 3."""
    numbers = as_numbers(logs)
    if len(numbers) < 2:
        return numbers
    return {name: numbers[name] for name in sorted(numbers)}


def as_numbers(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``logs`` without nesting, scalars as Python floats."""
    found: dict[str, Any] = {}
    for name, value in logs.items():
        if isinstance(value, dict):
            found.update(as_numbers(value))
            continue
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            found[name] = value
    return found


def _result_of(
    graph: Graph, value: Any, noted: Sequence[tuple[Any, Metric, Any]]
) -> Callable[[], Any] | None:
    """How to read ``value`` after the step, if it is the final result of a metric."""
    for result, metric, state in reversed(noted):
        if any(graph.updates.get(v) is not value for v, value in state):
            continue
        if result is value:
            return lambda: metric.result()  # noqa: PLW0108  (returned at once)
        if isinstance(result, Mapping):
            for key, item in result.items():
                if item is value:
                    return lambda: metric.result()[key]
    return None
