"""Models traced for explaining: scores, the values that layers give, gradients of one by the other.

A program is traced once for each structure of a model and each method; which class is explained is
one of its inputs. Nothing is learned: every program runs in inference mode and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from handmill import ops, tree
from handmill.errors import NotDifferentiableError
from handmill.ir.gradient import depends_on, pullback
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.links import link_of
from handmill.ir.op import Array
from handmill.ir.trace import mask_of, with_mask
from handmill.layers.context import CONTEXT, collected_losses
from handmill.layers.eager import names_for
from handmill.models.layout import Layout, fill
from handmill.models.lengths import lengths_of
from handmill.primitives.operands import converted, widened
from handmill.runtime.function import Outputs, TracedFunction
from handmill.runtime.structure import Constant


class Call(NamedTuple):
    """One call of a layer in a trace: where it stands in the model, and what it gave."""

    path: str
    layer: Any
    output: Value | None


@dataclass(eq=False)
class Run:
    """A model, run on values of the graph that is traced.

    Attributes:
        given: the inputs as they were given.
        inputs: these as floats, converted from integers where the model may take floats.
        scores: float32 (rows, classes), before the softmax or sigmoid if logits are explained.
        kind: ``"classes"``, ``"binary"``, ``"number"``, or ``"own"`` for scores of a function.
        calls: the layers called, in order.
    """

    given: list[Value]
    inputs: list[Value]
    scores: Value
    kind: str
    calls: list[Call]


@dataclass(frozen=True)
class Question:
    """What is asked of a model.

    Attributes:
        score: ``"logit"`` or ``"output"``.
        output: which output of several is explained, by number or name; None: the only one.
        function: computes the scores (rows,) of the outputs, instead of a class; or None.
        one_is_binary: whether one column without a sigmoid is the logit of class 1.
    """

    score: str = "logit"
    output: Any = None
    function: Callable[[Any], Any] | None = None
    one_is_binary: bool = False


def run_model(
    model: Any,
    layout: Layout,
    values: Sequence[Value],
    question: Question,
    replaced: Mapping[int, Value] | None = None,
) -> Run:
    """Runs a model in inference mode while a graph is traced.

    Args:
        model: the model.
        layout: how its inputs are nested.
        values: one for each input.
        question: what is asked.
        replaced: what the model goes on with instead of what a call of a layer gave, by the number
            of the call.
    """
    graph = current_graph()
    assert graph is not None  # noqa: S101
    inputs = [_as_float(model, i, v) for i, v in enumerate(values)]
    calls: list[Call] = []

    def note(layer: Any, outputs: Any) -> Any:
        if replaced is not None and len(calls) in replaced:
            outputs = with_mask(replaced[len(calls)], mask_of(outputs))
        path = "/".join(graph.scopes[1:]) or layer.name
        flat = [v for v in tree.flatten(outputs) if isinstance(v, Value)]
        calls.append(Call(path, layer, flat[0] if flat else None))
        return outputs

    before, CONTEXT.observer = CONTEXT.observer, note
    try:
        with collected_losses():
            found = model(fill(layout.structures[0], iter(inputs)), training=False)
    finally:
        CONTEXT.observer = before
    graph.updates.clear()  # nothing is learned
    if question.function is not None:
        scores = question.function(found)
        if not isinstance(scores, Value) or scores.ndim != 1:
            raise ValueError(
                "`target` as a function must return one score a row, of shape (rows,), got "
                f"{getattr(scores, 'shape', scores)}"
            )
        return Run(list(values), inputs, ops.reshape(widened(scores), (-1, 1)), "own", calls)
    return Run(list(values), inputs, *_scores(model, found, question), calls)


def _as_float(model: Any, number: int, value: Value) -> Value:
    """Whole numbers as floats, unless the model says that it takes whole numbers."""
    if value.spec.is_float:
        return value
    graph = getattr(model, "_graph", None)
    if graph is not None and len(graph.inputs) > number and not graph.inputs[number].spec.is_float:
        return value
    return converted(value, "float32")  # type: ignore[no-any-return]


def _scores(model: Any, found: Any, question: Question) -> tuple[Value, str]:
    outputs = _one_of(model, found, question.output)
    if outputs.ndim == 1:
        outputs = ops.reshape(outputs, (-1, 1))
    if outputs.ndim != 2 or not outputs.spec.is_float:
        raise ValueError(
            f"explanations need scores of shape (rows, classes), the model gives {outputs.spec}: "
            "pass as `target` a function of the outputs that returns one score a row, such as "
            "lambda y: y[:, 0, 3]"
        )
    node = link_of(outputs)
    link, logits = (None, outputs) if node is None else (node.op.link, node.inputs[0])
    single = outputs.shape[1] == 1
    if not single:
        kind = "classes"
    else:
        kind = "binary" if link == "sigmoid" or question.one_is_binary else "number"
    return widened(logits if question.score == "logit" else outputs), kind


def _one_of(model: Any, found: Any, which: Any) -> Value:
    """The output that is explained."""
    flat = tree.flatten(found)
    if len(flat) == 1:
        return flat[0]  # type: ignore[no-any-return]
    names = model.names_of_outputs(found)
    if which is None:
        raise ValueError(
            f"the model has the outputs {names}: say with `output=` which is explained, by name or "
            "number"
        )
    if isinstance(which, str):
        if which not in names:
            import difflib

            near = difflib.get_close_matches(which, names) or names
            raise ValueError(f"no output is called {which!r}; there are {near}")
        which = names.index(which)
    if not 0 <= which < len(flat):
        raise ValueError(f"output={which}, but the model has {len(flat)} outputs")
    return flat[which]  # type: ignore[no-any-return]


def gradients_of(
    graph: Graph,
    run: Run,
    seeds: Value,
    wrt: Sequence[Value],
    rule: str | None = None,
) -> list[Value | None]:
    """The gradients of the scores explained, a value of the shape of each of ``wrt``, or None."""
    return pullback(graph, [run.scores], [seeds], wrt, rule=rule)


class Point(NamedTuple):
    """Where an input is explained: at itself, or at what a layer made of it.

    Attributes:
        value: floats on which the scores depend; None if there are none.
        call: the number of the layer's call; None for the input itself.
    """

    value: Value | None
    call: int | None = None


def points_of(graph: Graph, run: Run) -> list[Point]:
    """Where each input is explained.

    An input from which no gradient leads on (the numbers of words) is explained at the first layer
    that makes floats of it, such as an Embedding.

    Raises:
        NotDifferentiableError: if there is no such place for any input.
    """
    found = places_of(graph, run)
    if all(point.value is None for point in found):
        raise NotDifferentiableError(
            "the scores depend on no input through operators that have a gradient: explain the "
            "model with a method without gradients, such as occlusion, lime or shap"
        )
    return found


def places_of(graph: Graph, run: Run) -> list[Point]:
    """Where each input is explained, if anywhere; see :func:`points_of`."""
    nodes = list(graph.nodes)
    found = []
    for given, value in zip(run.given, run.inputs, strict=True):
        if value.spec.is_float and run.scores in depends_on(nodes, [value]):
            found.append(Point(value))
            continue
        computed = computed_from(graph, {given, value})
        at = Point(None)
        for number, call in enumerate(run.calls):
            out = call.output
            if out is None or out not in computed or not out.spec.is_float:
                continue
            if out.ndim >= value.ndim and run.scores in depends_on(nodes, [out]):
                at = Point(out, number)
                break
        found.append(at)
    return found


def computed_from(graph: Graph, values: set[Value]) -> set[Value]:
    """What is computed from values, whether or not a gradient leads there, without themselves."""
    found = set(values)
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found - values


def repeated(value: Value, times: int) -> Value:
    """The rows of a value ``times`` times, one copy after the other."""
    shape = value.shape
    wide = ops.broadcast_to(ops.reshape(value, (1, *shape)), (times, *shape))
    return ops.reshape(wide, (times * shape[0], *shape[1:]))  # type: ignore[no-any-return]


Tracer = Callable[..., Any]
"""(graph, model, layout, question, inputs, other values, *settings, *states) -> what the program
returns: values, or :class:`Outputs`."""


class Program:
    """One traced program of one model.

    Args:
        model: the model.
        layout: how its inputs are nested.
        question: what is asked.
        trace: makes the outputs.
        settings: what ``trace`` depends on beside its arguments; hashable.
        states: variables that ``trace`` reads.
    """

    ignores_trainable = False

    def __init__(
        self,
        model: Any,
        layout: Layout,
        question: Question,
        trace: Tracer,
        settings: tuple[Any, ...] = (),
        states: tuple[Any, ...] = (),
    ) -> None:
        self._model = model
        self.layout = layout
        self._question = question
        self._make = trace
        self._constant = Constant(question, trace, settings)
        self._settings = settings
        self._states = states
        lengths = lengths_of(model, (layout.counts[0],))
        self.function = TracedFunction(self._trace, trace.__name__, subject=self, lengths=lengths)

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        names = names_for(self._model, self.layout.structures[0])
        return self._model, self._constant, self._states, names

    def memo(self, before: Any) -> None:
        """Nothing: a program of this kind makes nothing but what it returns."""

    def prepare(self, memo: None, before: Any) -> tuple[()]:
        """There is nothing to make."""
        return ()

    def _trace(self, *values: Value) -> Outputs:
        graph = current_graph()
        assert graph is not None  # noqa: S101
        count = self.layout.counts[0]
        made = self._make(
            graph,
            self._model,
            self.layout,
            self._question,
            values[:count],
            values[count:],
            *self._settings,
            *self._states,
        )
        graph.updates.clear()
        if isinstance(made, Outputs):
            return made
        return Outputs(tuple(made), None)

    def __call__(self, *arrays: Any) -> tuple[Array, ...]:
        """Runs the program on a batch of arrays."""
        found = self.function(*arrays)
        return found if isinstance(found, tuple) else (found,)

    def facts(self, arrays: Sequence[Array]) -> Any:
        """What ``trace`` says of its outputs for such arrays; nothing is run."""
        return self.function.fitted(arrays).signature.trace.structure

    def structure(self, arrays: Sequence[Array]) -> Any:
        """What ``trace`` said of its outputs when the program was last run on such arrays."""
        return self.function.structure_for(arrays)


def programs_of(model: Any, layout: Layout, question: Question) -> dict[Any, Program]:
    """The programs of a model for one nesting and question, by tracer and settings.

    They lie with those of its calls, and go with the model.
    """
    key = "explained", layout.key[0], question
    found: dict[Any, Program] | None = model._programs.get(key)
    if found is None:
        found = model._programs[key] = {}
    return found


def scores_program(
    graph: Graph, model: Any, layout: Layout, question: Question, x: Any, others: Any
) -> Outputs:
    """Returns the scores of a batch.

    Says of what kind they are, of each input whether it is explained at a layer, and how many
    classes there are.
    """
    run = run_model(model, layout, x, question)
    at_layers = tuple(p.call is not None for p in places_of(graph, run))
    return Outputs((run.scores,), (run.kind, at_layers, run.scores.shape[1]))
