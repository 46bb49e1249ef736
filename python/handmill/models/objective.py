"""What ``compile`` was given, matched to the outputs of a model."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from handmill import config, losses, metrics, ops, tree
from handmill.arguments import real_number
from handmill.ir.graph import outside_graph
from handmill.losses.loss import check_returned
from handmill.losses.registry import resolve as loss_for
from handmill.metrics.metric import Metric
from handmill.metrics.reduction import Mean, batch_size_of
from handmill.metrics.registry import resolve as metric_for
from handmill.models.loss_terms import loss_terms
from handmill.models.one_hot import OneHotLabels
from handmill.primitives.operands import shape_of
from handmill.runtime.variable import Variable
from handmill.runtime.watch import Watched


class Objective(Watched):
    """Losses and metrics of a compiled model.

    They are made when the shapes of targets and predictions are known, at the first trace.

    Args:
        loss: None, one loss for all outputs, or losses nested like them (models/loss_terms.py).
        loss_weights: factors of the losses, in the same form.
        loss_metrics: metrics without sample weights, in the same form.
        weighted_metrics: metrics with sample weights, in the same form.
        prepared: see :class:`CompileMetrics`.

    Attributes:
        losses: a Loss for each term of the total.
        tracker: the running mean of the total loss.
        compiled: the metrics that ``compile`` was given, as one.
        built: whether the shapes are known.
        built_for: the arguments of :meth:`build_for`.
        guess: the loss of guessing, where that is known.
    """

    _unwatched = frozenset({"names", "guess", "one_hot", "built_for", "compiled"})

    def __init__(
        self,
        loss: Any,
        loss_weights: Any,
        loss_metrics: Any,
        weighted_metrics: Any,
        prepared: Callable[..., Any],
    ) -> None:
        _check_form("loss_weights", loss_weights, (list, tuple, dict, float, int))
        for weight in tree.flatten(loss_weights):
            if weight is not None:
                real_number("each of the `loss_weights`", weight)
        _check_form("metrics", loss_metrics, (list, tuple, dict))
        _check_form("weighted_metrics", weighted_metrics, (list, tuple, dict))
        for name in tree.flatten(loss):
            if isinstance(name, str) and name.lower() not in ("crossentropy", "ce"):
                losses.get(name)
        for group in (loss_metrics, weighted_metrics):
            for name in tree.flatten(group):
                if isinstance(name, str) and name.lower() not in ("accuracy", "acc"):
                    metrics.get(name)
        self._start(
            loss=loss,
            loss_weights=loss_weights,
            loss_metrics=loss_metrics,
            weighted_metrics=weighted_metrics,
            tracker=Mean("loss"),
            compiled=CompileMetrics(self, prepared),
            one_hot=OneHotLabels() if _may_be_one_hot(loss) else None,
            built=False,
            built_for=None,
            names=[],
            losses=[],
            guess=None,
            weights=[],
            outputs=[],
            output_trackers=[],
            _plain=[],
            _weighted=[],
        )

    loss: Any
    loss_weights: Any
    loss_metrics: Any
    weighted_metrics: Any
    tracker: Mean
    compiled: CompileMetrics
    one_hot: OneHotLabels | None
    built: bool
    built_for: Any
    names: list[Any]
    losses: list[Any]
    guess: float | None
    weights: list[float | None]
    outputs: list[Any]
    output_trackers: list[Metric]
    _plain: list[list[Metric]]
    _weighted: list[list[Metric]]

    @property
    def metrics(self) -> list[Metric]:
        """All metrics: the loss, compiled ones (as one), losses of the outputs."""
        compiled = [self.compiled] if self.loss_metrics or self.weighted_metrics else []
        return [self.tracker, *compiled, *self.output_trackers]

    @property
    def compiled_metrics(self) -> list[Metric]:
        """The metrics that ``compile`` was given; none before their shapes are known."""
        return [m for group in (*self._plain, *self._weighted) for m in group]

    @property
    def variables(self) -> list[Variable]:
        """The state of the metrics that :meth:`build_for` has made."""
        return [v for m in (*self.compiled_metrics, *self.output_trackers) for v in m.variables]

    def build(
        self, targets: Sequence[Any], predictions: Sequence[Any], names: list[Any], nesting: Any
    ) -> None:
        """Makes losses and metrics for these values.

        Args:
            targets: a value, or None, for each output.
            predictions: a value for each output.
            names: the names of the outputs.
            nesting: the numbers of the outputs, nested like them.
        """
        if self.built and names == self.names:
            return
        self.build_for(
            [None if t is None else shape_of(t) for t in targets],
            [shape_of(p) for p in predictions],
            names,
            nesting,
        )

    def build_for(
        self,
        target_shapes: Sequence[Any],
        prediction_shapes: Sequence[Any],
        names: list[Any],
        nesting: Any,
    ) -> None:
        """Makes losses and metrics for values of these shapes (None: no targets)."""
        self.forget()
        count = len(prediction_shapes)
        self.names = names
        self.built_for = (target_shapes, prediction_shapes, names, nesting)
        shapes = [
            None if t is None else (t, p)
            for t, p in zip(target_shapes, prediction_shapes, strict=True)
        ]
        terms = loss_terms(
            self.loss,
            self.loss_weights,
            nesting,
            names,
            lambda v: per_output("loss_weights", v, names, single=lambda v: [v] * count),
        )
        resolved, labels = [], []
        for term in terms:
            shape = next((shapes[i] for i in tree.flatten(term.outputs) if shapes[i]), None)
            if shape is None:
                raise ValueError(
                    f"the loss of output {term.name or term.outputs!r} needs targets: pass `y`, or "
                    "batches (x, y)"
                )
            found = loss_for(term.loss, *shape)
            labels.append(term.name or found.name)
            if self.one_hot is not None and uses_sparse_labels(found):
                found = self.one_hot.settle(shape[0], shape[1], found)
                if self.one_hot.pinned:
                    self.loss = found
            resolved.append(found)
        last = prediction_shapes[0][-1:] if count == 1 else ()
        self._start(
            _plain=self._make_metrics("metrics", self.loss_metrics, shapes),
            _weighted=self._make_metrics("weighted_metrics", self.weighted_metrics, shapes),
            losses=resolved,
            weights=[term.weight for term in terms],
            outputs=[term.outputs for term in terms],
            guess=guessing_loss(resolved, last[0] if last else None),
            output_trackers=[Mean(f"{n}_loss") for n in labels] if len(terms) > 1 else [],
        )
        with outside_graph():  # a reset of the user's is no part of the step that is being traced
            for metric in self.metrics:  # which may have counted elsewhere, in another model
                metric.reset_state()
        self.built = True

    def forget(self) -> None:
        """Goes back to before :meth:`build`, after a trace that failed."""
        if self.built or self.output_trackers or self._plain or self._weighted:
            self._start(built=False, output_trackers=[], _plain=[], _weighted=[])

    def _make_metrics(self, argument: str, given: Any, shapes: list[Any]) -> list[list[Metric]]:
        count = len(shapes)
        if not given:
            return [[] for _ in range(count)]
        nested_alike = _by_nesting(given, self.built_for[3], count)
        if count == 1:
            groups: list[Any] = [tree.flatten(given)]
        elif nested_alike is not None:
            groups = nested_alike
        else:
            nested = isinstance(given, dict) or len(given) == count
            if not nested:
                raise ValueError(
                    f"For a model with multiple outputs, when providing the `{argument}` argument "
                    "as a list, it should have as many entries as the model has outputs. "
                    f"Received: {argument}={given} of length {len(given)}, the model has {count} "
                    "outputs."
                )
            groups = per_output(argument, given, self.names, single=lambda v: [v] * count)
        made = []
        for group, shape in zip(groups, shapes, strict=True):
            items = tree.flatten(group) if group is not None else []
            if items and shape is None:
                raise ValueError(f"`{argument}` need targets for each output that they measure")
            found = [metric_for(item, *shape) for item in items if item is not None]
            for metric in found:
                metric.build_for(*shape)
            made.append(found)
        return made

    def total(
        self, targets: Sequence[Any], predictions: Sequence[Any], weights: Sequence[Any]
    ) -> Any | None:
        """Returns the sum of all losses, None if there is none; updates those of the outputs."""
        values = []
        trackers = iter(self.output_trackers)
        for loss, factor, outputs in zip(self.losses, self.weights, self.outputs, strict=True):
            target, prediction, weight = (
                tree.map_structure(lambda i, of=of: of[i], outputs)
                for of in (targets, predictions, weights)
            )
            if all(leaf is None for leaf in tree.flatten(target)):
                raise ValueError(
                    f"the loss {loss.name!r} needs targets: pass `y`, or batches (x, y)"
                )
            if tree.is_nested(outputs):
                prediction_of_all, prediction = prediction, tree.flatten(prediction)[0]
                value = loss.of_nested(target, prediction_of_all, tree.flatten(weight)[0])
            else:
                value = loss(target, prediction, weight)
            check_returned(loss.name, value)
            if len(shape_of(value)):
                value = ops.sum(value)
            if self.output_trackers:
                next(trackers).update_state(value, sample_weight=batch_size_of(prediction))
            values.append(value if factor is None else ops.multiply(value, float(factor)))
        if not values:
            return None
        total = values[0]
        for value in values[1:]:
            total = ops.add(total, value)
        return total

    def update_metrics(
        self, targets: Sequence[Any], predictions: Sequence[Any], weights: Sequence[Any]
    ) -> None:
        """Takes a batch into account in every compiled metric."""
        for group, target, prediction in zip(self._plain, targets, predictions, strict=True):
            for metric in group:
                metric.update_state(target, prediction)
        rows = zip(self._weighted, targets, predictions, weights, strict=True)
        for group, target, prediction, weight in rows:
            for metric in group:
                metric.update_state(target, prediction, sample_weight=weight)

    def metric_results(self) -> dict[str, Any]:
        """Returns the results of the compiled metrics by name."""
        found: dict[str, Any] = {}
        several = len(self.names) > 1
        for groups, prefix in ((self._plain, ""), (self._weighted, "weighted_")):
            for name, group in zip(self.names, groups, strict=True):
                for metric in group:
                    key = f"{name}_{metric.name}" if several and name else metric.name
                    if key in found and prefix:
                        inner = f"{prefix}{metric.name}"
                        key = f"{name}_{inner}" if several and name else inner
                    _put(found, key, metric.result())
        return found


class CompileMetrics(Metric):
    """All metrics that ``compile`` was given, as the one metric that Keras makes of them.

    Args:
        objective: what holds them.
        prepared: gives targets, predictions and sample weights, one entry for each output; it
            makes the metrics at the first call.
    """

    def __init__(self, objective: Objective, prepared: Callable[..., Any]) -> None:
        super().__init__(name="compile_metrics")
        self._objective = objective
        self._prepared = prepared

    @property
    def metrics(self) -> list[Metric]:
        """The metrics; none before the first batch."""
        return self._objective.compiled_metrics

    @property
    def variables(self) -> list[Variable]:
        """The state."""
        return [v for metric in self.metrics for v in metric.variables]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        targets, predictions, weights = self._prepared(y_true, y_pred, sample_weight)
        self._objective.update_metrics(targets, predictions, weights)

    def result(self) -> dict[str, Any]:
        """Returns the numbers by name."""
        return self._objective.metric_results() if self._objective.built else {}

    def reset_state(self) -> None:
        """Starts all of them again."""
        for metric in self.metrics:
            metric.reset_state()


def _by_nesting(given: Any, nesting: Any, count: int) -> list[Any] | None:
    """Metrics for each output of outputs that are nested deeply, if they are nested so too."""
    inside = nesting.values() if isinstance(nesting, dict) else nesting
    if not tree.is_nested(nesting) or not any(map(tree.is_nested, inside)):
        return None
    found: list[Any] = [None] * count
    outputs = tree.lists_to_tuples(nesting)
    try:
        pairs = tree.lists_to_tuples(given), outputs
        tree.map_structure_up_to(outputs, lambda group, i: found.__setitem__(i, group), *pairs)
    except (TypeError, ValueError):
        return None
    return found


def _may_be_one_hot(loss: Any) -> bool:
    """Whether ``loss`` is one sparse loss whose labels may turn out to be one-hot rows."""
    found = tree.flatten(loss)
    return not config.strict_keras() and len(found) == 1 and uses_sparse_labels(found[0])


def uses_sparse_labels(loss: Any) -> bool:
    """Whether ``loss`` wants class numbers."""
    if isinstance(loss, losses.SparseCategoricalCrossentropy):
        return loss._fn_kwargs["ignore_class"] is None
    if isinstance(loss, str):
        return loss in ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
    return loss is losses.sparse_categorical_crossentropy


def guessing_loss(given: Sequence[Any], classes: Any) -> float | None:
    """The cross-entropy of guessing all classes equally often, None for other losses."""
    found = [loss for loss in given if loss is not None]
    kind = getattr(found[0], "fn", None) if len(found) == 1 else None
    if kind is losses.binary_crossentropy:
        return math.log(2.0)
    if kind in (losses.categorical_crossentropy, losses.sparse_categorical_crossentropy):
        return math.log(classes) if isinstance(classes, int) and classes > 1 else None
    return None


def _put(found: dict[str, Any], key: str, value: Any) -> None:
    if isinstance(value, dict):
        found.update(value)
        return
    number, unique = 0, key
    while unique in found:
        number += 1
        unique = f"{key}_{number}"
    found[unique] = value


def _check_form(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if value is not None and not isinstance(value, kinds):
        raise ValueError(
            f"Expected `{name}` argument to be a list, tuple, or dict. Received instead: "
            f"{name}={value!r} of type {type(value)}"
        )


def per_output(
    argument: str, given: Any, names: list[Any], single: Callable[[Any], list[Any]]
) -> list[Any]:
    """Returns what ``given`` says for each output.

    Args:
        argument: its name, for errors.
        given: None, a dict by output name, a list in order, or one thing.
        names: the names of the outputs.
        single: what one thing means.

    Raises:
        ValueError: for unknown names or a list of another length.
    """
    if given is None:
        return [None] * len(names)
    if isinstance(given, dict):
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(
                f"Invalid `{argument}`: it names outputs that the model does not have: {unknown}. "
                f"Expected keys: {names}"
            )
        return [given.get(name) for name in names]
    if isinstance(given, list | tuple):
        if argument == "loss_weights" and any(tree.is_nested(item) for item in given):
            given = tree.flatten(given)  # nested like the outputs
        if len(given) != len(names):
            raise ValueError(
                f"`{argument}` has {len(given)} entries, but the model has {len(names)} outputs: "
                f"{names}"
            )
        return list(given)
    return single(given)


@functools.lru_cache(maxsize=64)
def _takes_training(compute_loss: Any) -> bool:
    return "training" in inspect.signature(compute_loss).parameters


def loss_of(model: Any, x: Any, y: Any, y_pred: Any, weight: Any, training: bool) -> Any:
    """The loss; overrides of ``compute_loss`` may lack the argument ``training``."""
    arguments = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": weight}
    compute_loss = model.compute_loss
    if _takes_training(getattr(compute_loss, "__func__", compute_loss)):
        arguments["training"] = training
    return compute_loss(**arguments)
