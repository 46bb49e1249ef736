"""``model.export``: a model as an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import handmill
from handmill.exchange import messages, wire
from handmill.exchange.inference_graph import expanded, inference_graph
from handmill.exchange.to_onnx import (  # noqa: F401  (fill RULES)
    elementwise,
    movement,
    products,
    quantized,
)
from handmill.exchange.to_onnx.emitter import RULES, Emitter, Refused, channels_first
from handmill.ir.body import bodies_of
from handmill.ir.graph import Graph, Node
from handmill.saving.atomic_file import write_bytes

IR_VERSIONS = {
    13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13,
}  # fmt: skip
"""Opset -> version of the file format: older runtimes refuse a newer one."""
DEFAULT_OPSET = 17


def write_onnx(
    model: Any,
    filepath: Any,
    *,
    opset_version: int | None = None,
    input_signature: Any = None,
    inputs_as_nchw: bool = False,
    verify: bool = False,
) -> None:
    """Writes a model for inference; see ``Model.export``."""
    path = Path(filepath)
    if not isinstance(verify, bool):
        raise ValueError(f"`verify` must be True or False. Received: {verify!r}")
    opset = DEFAULT_OPSET if opset_version is None else opset_version
    content = onnx_bytes(model, opset, input_signature, inputs_as_nchw)
    if verify:
        from handmill.exchange.to_onnx.check import check_against_runtime

        check_against_runtime(model, content, input_signature, inputs_as_nchw)
    write_bytes(path, [content])


def onnx_bytes(model: Any, opset: int, input_signature: Any, inputs_as_nchw: bool) -> bytes:
    """Returns what the file holds.

    Raises:
        ValueError: if the opset is not written; if layers have no form in ONNX, which lists all.
    """
    if opset not in IR_VERSIONS:
        raise ValueError(
            f"`opset_version` must be one of {min(IR_VERSIONS)} to {max(IR_VERSIONS)}, "
            f"got {opset!r}"
        )
    found = expanded(inference_graph(model, input_signature), _is_known)
    graph = found.graph
    if problems := list(_unknown(graph)):
        counts = "\n".join(f"  {text}" for text in dict.fromkeys(problems))
        raise ValueError(
            f"{model.name} cannot be exported: ONNX, or the exporter, has no form for\n{counts}\n"
            "nothing was written. Replace these layers, or export the part of the model before or "
            "behind them."
        )
    e = Emitter(graph, opset, found.labels)
    for name in (*found.inputs, *found.outputs):
        e.name(name)
    for value, name in zip(graph.inputs, found.inputs, strict=True):
        order = channels_first(len(value.shape))
        turned = inputs_as_nchw and len(value.shape) in (3, 4, 5) and value.spec.is_float
        e.put(value, name, order if turned else None)
    try:
        e.write()
    except Refused as error:
        raise ValueError(f"{model.name} cannot be exported: {error}; nothing was written") from None
    e.finish(found.outputs, found.inputs)
    file = messages.Model(
        ir_version=IR_VERSIONS[opset],
        producer_name="handmill",
        producer_version=handmill.__version__,
        graph=e.as_graph(model.name, graph.inputs, found.inputs, found.outputs),
        opset_import=[messages.OperatorSet("", opset)],
    )
    return b"".join(bytes(piece) for piece in wire.written(file))


def _is_known(node: Node) -> bool:
    if node.op.name in products.KNOWN:
        return products.KNOWN[node.op.name](node)
    return node.op.name in RULES


def _nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for body in bodies_of(node):
            yield from _nodes(body.graph)


def _unknown(graph: Graph) -> Iterator[str]:
    """What has no form in ONNX, a line for each layer and operator."""
    found = Counter(
        (node.scope, node.op.name) for node in _nodes(graph) if node.op.name not in RULES
    )
    for (scope, name), count in found.items():
        yield f"layer {scope or 'of the model'!r}: {name}" + (f" ({count} times)" * (count > 1))
    narrow = {node.scope for node in _nodes(graph) for v in node.outputs if v.dtype == "bfloat16"}
    for scope in sorted(narrow):
        yield f"layer {scope!r}: computes in bfloat16 (build the model with the policy 'float32')"
