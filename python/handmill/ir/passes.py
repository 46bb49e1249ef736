"""The passes: pure functions Graph -> Graph, each with one reason to exist.

A pass never changes a graph or a node. Where it only leaves out or reorders nodes, the new
graph shares them with the old one.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from handmill.ir.bfloat16 import compute_in_float32, run_reference
from handmill.ir.graph import Graph, Node, Value, rewrite
from handmill.ir.op import FUSIONS
from handmill.ir.shapes import Batch, numpy_dtype
from handmill.ir.tile import TILE, TileStep
from handmill.ir.verify import verify

MAX_TILE_OPERANDS = 14
MAX_TILE_STEPS = 24
FOLD_LIMIT = 4096


def fold(graph: Graph) -> Graph:
    """Computes at once what depends on constants only (results up to 4096 elements)."""

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        arrays = [v.constant for v in operands if v.constant is not None]
        if not arrays or node.op.random or len(arrays) < len(operands):
            return None
        for out in node.outputs:
            if any(isinstance(d, Batch) for d in out.shape) or np.prod(out.shape) > FOLD_LIMIT:
                return None
        if any(_holds_batch(v) for v in node.attrs.values()):
            return None
        with np.errstate(all="ignore"):
            results = run_reference(node.op, arrays, node.attrs)
        return [
            new.constant(array, dtype=numpy_dtype(value.dtype).name)
            for array, value in zip(results, node.outputs, strict=True)
        ]

    return rewrite(graph, visit)[0]


def _holds_batch(attr: Any) -> bool:
    if isinstance(attr, tuple):
        return any(_holds_batch(a) for a in attr)
    return isinstance(attr, Batch)


def dce(graph: Graph) -> Graph:
    """Drops nodes, constants and variables that nothing needs; inputs stay."""
    needed: set[Value] = set(graph.roots())
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op.guard or any(v in needed for v in node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    trimmed = Graph(graph.name)
    trimmed.inputs = graph.inputs
    trimmed.variables = {
        s: v for s, v in graph.variables.items() if v in needed or s in graph.updates
    }
    trimmed.constants = [v for v in graph.constants if v in needed]
    trimmed.nodes = kept[::-1]
    trimmed.outputs = graph.outputs
    trimmed.updates = {s: v for s, v in graph.updates.items() if v is not graph.variables[s]}
    return trimmed


def cse(graph: Graph) -> Graph:
    """Computes equal expressions once, and equal constants.

    An operator may say that one of its outputs equals another operator on some of its inputs
    (a cross-entropy holds the softmax): such a node takes the other's place, earlier if its
    operands allow that.
    """
    constants: dict[Any, Value] = {}
    same: dict[Value, Value] = {}
    for value in graph.constants:
        array = value.origin
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= FOLD_LIMIT else value
        same[value] = constants.setdefault(key, value)

    def key_of(name: str, operands: tuple[Value, ...], attrs: dict[str, Any]) -> Any:
        return (name, operands, tuple(sorted(attrs.items(), key=lambda item: item[0])))

    offers: dict[Any, tuple[Node, int]] = {}
    for node in graph.nodes:
        for output, name, positions in node.op.also:
            operands = tuple(same.get(node.inputs[i], node.inputs[i]) for i in positions)
            attrs = node.op.also_attrs([v.spec for v in operands]) if node.op.also_attrs else {}
            offers.setdefault(key_of(name, operands, attrs), (node, output))

    found: dict[Any, tuple[Value, ...]] = {}
    early: dict[Node, tuple[Value, ...]] = {}
    mapping: dict[Value, Value] = {}

    def hoist(new: Graph, node: Node) -> tuple[Value, ...]:
        if node not in early:
            for value in node.inputs:
                if value.node is not None and value not in mapping:
                    hoist(new, value.node)
            early[node] = new.copy_node(node, [_mapped(v, mapping, new) for v in node.inputs])
            mapping.update(zip(node.outputs, early[node], strict=True))
        return early[node]

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value]:
        for old, value in zip(node.inputs, operands, strict=True):
            mapping.setdefault(old, value)
        operands = tuple(
            mapping.get(same[old], value) if old in same else value
            for old, value in zip(node.inputs, operands, strict=True)
        )
        if node in early:
            return early[node]
        old_operands = tuple(same.get(v, v) for v in node.inputs)
        offer = offers.get(key_of(node.op.name, old_operands, node.attrs))
        if offer is not None:
            other, output = offer
            if all(_ready(v, node, mapping) for v in other.inputs):
                return (hoist(new, other)[output],)
        key = key_of(node.op.name, operands, node.attrs)
        try:
            if key in found:
                return found[key]
        except TypeError as error:  # pragma: no cover - attributes must be hashable
            raise TypeError(f"attributes of {node.op.name} are not hashable: {error}") from error
        outputs = new.copy_node(node, operands)
        if not node.op.random:
            found[key] = outputs
        for old, value in zip(node.outputs, outputs, strict=True):
            mapping[old] = value
        return outputs

    return dce(rewrite(graph, visit)[0])


def _ready(value: Value, before: Node, mapping: dict[Value, Value], depth: int = 4) -> bool:
    """Whether ``value`` is computed already, or can be from what is, without ``before``."""
    if value in mapping or value.node is None:
        return True
    if value.node is before or depth == 0:
        return False
    return all(_ready(v, before, mapping, depth - 1) for v in value.node.inputs)


def _mapped(value: Value, mapping: dict[Value, Value], new: Graph) -> Value:
    if value in mapping:
        return mapping[value]
    if isinstance(value.origin, str):
        return next(v for v in new.inputs if v.origin == value.origin)
    if value.constant is not None:
        return next(v for v in new.constants if v.origin is value.origin)
    return new.variables[value.origin]


def fuse_epilogues(graph: Graph) -> Graph:
    """Builds what follows a matmul (bias, activation, activation derivative) into it."""
    uses = graph.uses()
    roots = set(graph.roots())

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op.epilogue is None:
            return None
        kind, name = node.op.epilogue
        for position in (0, 1) if kind in ("bias", "residual") else (0,):
            producer, old = operands[position].node, node.inputs[position]
            if producer is None or producer.op.absorb is None:
                continue
            if len(uses[old]) != 1 or old in roots or node.inputs.count(old) != 1:
                continue
            other = operands[1 - position] if len(operands) > 1 else None
            taken = producer.op.absorb(producer.inputs, producer.attrs, kind, name, other)
            if taken is None:
                continue
            op, inputs, attrs = taken
            scope, new.scopes = new.scopes, [producer.scope]
            output = new.emit(op, inputs, attrs)
            new.scopes = scope
            if output.spec == node.outputs[0].spec:
                return (output,)
            new.nodes.pop()
        return None

    return dce(rewrite(graph, visit)[0])


def fuse_updates(graph: Graph) -> Graph:
    """Builds an optimizer's update into the operator that computes the gradient.

    The gradient must have no other reader (see :class:`handmill.ir.op.Fusion`). That no reader of
    the old weight is still to run is :func:`schedule`'s business, which puts the update behind
    them.
    """
    uses = graph.uses()
    roots = set(graph.roots())

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        for position, (old, value) in enumerate(zip(node.inputs, operands, strict=True)):
            producer = value.node
            if producer is None or len(uses[old]) != 1 or old in roots:
                continue
            fusion = FUSIONS.get((node.op.name, producer.op.name))
            if fusion is None or fusion.position != position or node.inputs.count(old) != 1:
                continue
            inputs = (*producer.inputs, *operands[:position], *operands[position + 1 :])
            attrs = {**producer.attrs, **node.attrs}
            if fusion.op.native([v.spec for v in inputs], attrs):
                scope, new.scopes = new.scopes, [producer.scope]
                outputs = new.emit(fusion.op, inputs, attrs)
                new.scopes = scope
                return outputs if isinstance(outputs, tuple) else (outputs,)
        return None

    return dce(rewrite(graph, visit)[0])


class _Group:
    """Elementwise nodes that will run as one tile program."""

    __slots__ = ("nodes", "shape")

    def __init__(self, node: Node) -> None:
        self.nodes = [node]
        self.shape = node.outputs[0].shape


def fuse_tiles(graph: Graph) -> Graph:
    """Joins chains of elementwise operators of one shape into tile programs."""
    graph = dce(graph)
    uses = graph.uses()
    roots = set(graph.roots())
    position = {node: i for i, node in enumerate(graph.nodes)}
    group_of: dict[Node, _Group] = {}
    for node in graph.nodes:
        if not _fusible(node):
            continue
        group = group_of[node] = _Group(node)
        for value in node.inputs:
            other = group_of.get(value.node) if value.node is not None else None
            if other is None or other is group or other.shape != group.shape:
                continue
            nodes = sorted([*other.nodes, *group.nodes], key=position.__getitem__)
            if _joinable(nodes, uses, roots) and not _returns(nodes, group_of):
                group.nodes = nodes
                for member in other.nodes:
                    group_of[member] = group

    order = _group_order(graph, group_of)
    new = Graph(graph.name)
    mapping: dict[Value, Value] = {}
    for old in graph.inputs:
        mapping[old] = new.input(old.spec, old.origin)
    for state, old in graph.variables.items():
        mapping[old] = new.read(state)
    for old in graph.constants:
        mapping[old] = Value(new, old.spec, origin=old.origin)
        new.constants.append(mapping[old])
    for item in order:
        if isinstance(item, _Group):
            _emit_group(new, item, mapping, uses, roots)
        else:
            outputs = new.copy_node(item, [mapping[v] for v in item.inputs])
            mapping.update(zip(item.outputs, outputs, strict=True))
    new.outputs = [mapping[v] for v in graph.outputs]
    new.updates = {state: mapping[v] for state, v in graph.updates.items()}
    return new


def _fusible(node: Node) -> bool:
    return node.op.elementwise and node.op.native([v.spec for v in node.inputs], node.attrs)


def _external(nodes: list[Node]) -> list[Value]:
    inside = {v for n in nodes for v in n.outputs}
    return list(dict.fromkeys(v for n in nodes for v in n.inputs if v not in inside))


def _results(
    nodes: list[Node], uses: dict[Value, list[Node]], roots: set[Value]
) -> list[tuple[int, Value]]:
    inside = set(nodes)
    return [
        (i, node.outputs[0])
        for i, node in enumerate(nodes)
        if node.outputs[0] in roots
        or any(user not in inside for user in uses.get(node.outputs[0], ()))
    ]


def _joinable(nodes: list[Node], uses: dict[Value, list[Node]], roots: set[Value]) -> bool:
    if len(nodes) > MAX_TILE_STEPS:
        return False
    operands = len(_external(nodes)) + len(_results(nodes, uses, roots))
    return operands <= MAX_TILE_OPERANDS


def _returns(nodes: list[Node], group_of: dict[Node, _Group]) -> bool:
    """Whether a path leaves ``nodes`` and comes back, so that they cannot run as one."""
    inside = set(nodes)
    stack = [v.node for v in _external(nodes) if v.node is not None]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        group = group_of.get(node)
        members = [node] if group is None else group.nodes
        if not inside.isdisjoint(members):
            return True
        seen.update(members)
        stack.extend(v.node for m in members for v in m.inputs if v.node is not None)
    return False


def _group_order(graph: Graph, group_of: dict[Node, _Group]) -> list[Node | _Group]:
    """A topological order of groups and other nodes, as near to the given one as possible."""
    unit: dict[Node, Any] = {n: group_of.get(n, n) for n in graph.nodes}
    position = {n: i for i, n in enumerate(graph.nodes)}
    rank: dict[Any, int] = {}
    needs: dict[Any, set[Any]] = {}
    for node in graph.nodes:
        mine = unit[node]
        rank[mine] = position[node]  # a group stands where its last member stood
        for value in node.inputs:
            if value.node is not None and unit[value.node] is not mine:
                needs.setdefault(mine, set()).add(unit[value.node])
        needs.setdefault(mine, set())
    return _list_schedule(needs, rank)


def _list_schedule(needs: dict[Any, set[Any]], rank: dict[Any, Any]) -> list[Any]:
    feeds: dict[Any, list[Any]] = {unit: [] for unit in needs}
    missing = {unit: len(above) for unit, above in needs.items()}
    for unit, above in needs.items():
        for other in above:
            feeds[other].append(unit)
    units = list(needs)
    number = {unit: i for i, unit in enumerate(units)}
    ready = [(rank[u], number[u]) for u in units if not missing[u]]
    heapq.heapify(ready)
    order: list[Any] = []
    while ready:
        unit = units[heapq.heappop(ready)[1]]
        order.append(unit)
        for below in feeds[unit]:
            missing[below] -= 1
            if not missing[below]:
                heapq.heappush(ready, (rank[below], number[below]))
    if len(order) != len(units):
        raise AssertionError("the graph has a cycle")
    return order


def _emit_group(
    new: Graph,
    group: _Group,
    mapping: dict[Value, Value],
    uses: dict[Value, list[Node]],
    roots: set[Value],
) -> None:
    inputs = _external(group.nodes)
    number = {value: i for i, value in enumerate(inputs)}
    steps = []
    for at, node in enumerate(group.nodes):
        steps.append(
            TileStep(
                node.op, tuple(number[v] for v in node.inputs), tuple(sorted(node.attrs.items()))
            )
        )
        number[node.outputs[0]] = len(inputs) + at
    results = _results(group.nodes, uses, roots)
    new.scopes = [group.nodes[-1].scope]
    found = new.emit(
        TILE,
        [mapping[v] for v in inputs],
        {"steps": tuple(steps), "results": tuple(i for i, _ in results)},
    )
    outputs = found if isinstance(found, tuple) else (found,)
    mapping.update({value: out for (_, value), out in zip(results, outputs, strict=True)})
    new.scopes = []


def schedule(graph: Graph) -> Graph:
    """Orders the nodes so that updates can be written in place, each as early as it may be.

    Guards come first, so that a refused batch changes nothing. Scalars that depend on
    variables only (the step size of Adam) come next. The node that computes a variable's new
    value comes after every reader of the old value, and then at once: its gradient is still
    in cache and its memory is free again early.
    """
    position = {node: i for i, node in enumerate(graph.nodes)}
    uses = graph.uses()
    ancestors: dict[Node, int] = {}
    fed: set[Value] = set(graph.inputs)
    needs: dict[Any, set[Any]] = {}
    for node in graph.nodes:
        above = 0
        needs[node] = set()
        for value in node.inputs:
            if value.node is not None:
                above |= ancestors[value.node] | 1 << position[value.node]
                needs[node].add(value.node)
        ancestors[node] = above
        if any(v in fed for v in node.inputs):
            fed.update(node.outputs)
    writers = {v.node for v in graph.updates.values() if v.node is not None}
    for state, new_value in graph.updates.items():
        writer = new_value.node
        if writer is None:
            continue
        for reader in uses.get(graph.variables[state], []):
            if reader is not writer and not ancestors[reader] >> position[writer] & 1:
                needs[writer].add(reader)
    guards = {node for node in graph.nodes if node.op.guard}
    behind_guard = set(guards)
    for node in reversed(graph.nodes):
        if any(node in needs[other] for other in behind_guard):
            behind_guard.add(node)
    if guards:
        for node in writers:
            needs[node] |= guards - {node}

    def rank(node: Node) -> tuple[int, int]:
        scalar = all(v.shape == () and v not in fed for v in node.outputs)
        if node in behind_guard:
            return (0, position[node])
        if scalar and node not in writers:
            return (1, position[node])
        return (2, position[node]) if node in writers else (3, position[node])

    needs = _acyclic(needs, writers, graph)
    order = _list_schedule(needs, {node: rank(node) for node in graph.nodes})
    ordered = Graph(graph.name)
    ordered.inputs, ordered.variables = graph.inputs, graph.variables
    ordered.constants, ordered.outputs = graph.constants, graph.outputs
    ordered.updates, ordered.nodes = graph.updates, order
    return ordered


def _acyclic(needs: dict[Any, set[Any]], writers: set[Node], graph: Graph) -> dict[Any, set[Any]]:
    """Drops the in-place wishes of variables that swap contents; those are copied at the end."""
    try:
        _list_schedule(needs, {node: i for i, node in enumerate(graph.nodes)})
        return needs
    except AssertionError:
        return {node: {v.node for v in node.inputs if v.node is not None} for node in graph.nodes}


PASSES: tuple[Callable[[Graph], Graph], ...] = (
    fold,
    cse,
    fuse_epilogues,
    compute_in_float32,
    fuse_updates,
    fuse_tiles,
    schedule,
)


def optimize(graph: Graph, without: frozenset[str] = frozenset()) -> Graph:
    """Applies every pass in order.

    Args:
        graph: the traced graph; it is left as it is.
        without: names of passes to leave out, to measure their gain or to find a fault.
    """
    checked = os.environ.get("HANDMILL_DEBUG") == "1"
    for transform in PASSES:
        if transform.__name__ not in without:
            graph = transform(graph)
            if checked:
                verify(graph, after=transform.__name__)
    return graph
