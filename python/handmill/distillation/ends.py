"""What outputs of models are: probabilities of classes, of yes or no, or neither."""

from __future__ import annotations

from typing import Any, Literal

from handmill import ops, tree
from handmill.exchange.inference_graph import signature_of
from handmill.ir.graph import Graph, Value
from handmill.ir.links import link_of
from handmill.layers.context import collected_losses

End = Literal["softmax", "sigmoid"] | None
"""What an output ends with; None: neither, it counts as logits."""

LEAST = 1e-7
"""Probabilities below it count as it, where logits are made of them."""


def ends_of(model: Any, x: Any = None) -> list[End] | None:
    """What each output of a model ends with, read off the operators of its program.

    Args:
        model: a model.
        x: its inputs, for one whose ``call`` is its own; default: as it was made.

    Returns:
        One for each output, in the order of ``tree.flatten``; None if that cannot be told.
    """
    graph = Graph("ends")
    try:
        given = None if x is None else tree.map_structure(lambda array: array[:1], x)
        structure, specs, names = signature_of(model, given)
        with graph, collected_losses():
            values = [graph.input(spec, name) for spec, name in zip(specs, names, strict=True)]
            found = model(tree.pack_sequence_as(structure, values), training=False)
    except (ValueError, TypeError, NotImplementedError):  # a call() of its own, texts
        return None
    return [_end_of(value) for value in tree.flatten(found)]


def _end_of(value: Any) -> End:
    node = link_of(value) if isinstance(value, Value) else None
    if node is None:
        return None
    if node.op.link == "sigmoid":
        return "sigmoid"
    return "softmax" if node.attrs.get("axis") in (-1, value.ndim - 1) else None


def logits_of(output: Any, known: End) -> tuple[Any, End]:
    """What stands before the softmax or sigmoid of an output, and which of them it is.

    Args:
        output: a value of a program, or an array.
        known: what the model is known to end with: where its logits cannot be reached, they are
            made of the probabilities.
    """
    end = _end_of(output)
    if end is not None:
        node = link_of(output)
        assert node is not None  # noqa: S101
        return node.inputs[0], end
    if known is None:
        return output, None
    logs = ops.log(ops.maximum(output, LEAST))
    if known == "sigmoid":
        logs = ops.subtract(logs, ops.log(ops.maximum(ops.subtract(1.0, output), LEAST)))
    return logs, known


def joined(teacher: End, student: End) -> End:
    """What the logits of two models are logits of.

    Raises:
        ValueError: if one gives probabilities of classes, the other of yes or no.
    """
    if None not in (teacher, student) and teacher != student:
        raise ValueError(
            f"the teacher ends with {teacher}, the student with {student}: probabilities of "
            "classes, of which one is right, and of labels by themselves cannot be compared. Let "
            "both end with the same, or compare features (FeatureDistillation)"
        )
    return teacher or student
