"""What a program computes before the softmax or sigmoid that it ends with."""

from __future__ import annotations

from handmill.ir.graph import Node, Value


def link_of(value: Value) -> Node | None:
    """The softmax or sigmoid that makes a value, but for changes of dtype or shape, if one does."""
    while value.node is not None:
        node = value.node
        if node.op.link is not None:
            return node
        same = len(node.inputs) == 1 and node.inputs[0].shape == value.shape
        if not (same and (node.op.tile == "convert" or node.op.view)):
            break
        value = node.inputs[0]
    return None
