"""The passes: pure functions Graph -> Graph, each with one reason to exist.

A pass never changes a graph or a node. Where it only leaves out or reorders nodes, the new
graph shares them with the old one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from handmill.ir.bfloat16 import BFLOAT16, compute_in_float32, run_reference
from handmill.ir.body import any_op, bodies_of, map_bodies
from handmill.ir.dims import holds_dims, is_fixed
from handmill.ir.graph import Graph, Node, Value, rewrite
from handmill.ir.hoist import hoist
from handmill.ir.op import FUSIONS
from handmill.ir.order import list_schedule
from handmill.ir.shapes import numpy_dtype
from handmill.ir.tile import (
    CONVERT,
    MAX_TILE_INSTRUCTIONS,
    MAX_TILE_OPERANDS,
    TILE,
    TileInstruction,
)
from handmill.ir.tile_sinking import sink_results
from handmill.ir.tile_sums import fuse_sums
from handmill.ir.verify import verify

FOLD_LIMIT = 4096


def fold(graph: Graph, most: int = FOLD_LIMIT) -> Graph:
    """Computes at once what depends on constants only (results up to ``most`` elements)."""
    known = set(graph.constants)
    if not any(node.inputs and known.issuperset(node.inputs) for node in graph.nodes):
        return graph

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if not operands or node.op.random or not known.issuperset(operands) or bodies_of(node):
            return None
        for out in node.outputs:
            if not is_fixed(out.shape) or np.prod(out.shape) > most:
                return None
        if any(holds_dims(v) for v in node.attrs.values()):
            return None
        with np.errstate(all="ignore"):
            results = run_reference(node.op, [v.origin for v in operands], node.attrs)
        folded = [
            new.constant(array, dtype=numpy_dtype(value.dtype).name)
            for array, value in zip(results, node.outputs, strict=True)
        ]
        known.update(folded)
        return folded

    return rewrite(graph, visit)


def drop_transparent(graph: Graph) -> Graph:
    """Drops what only gradients needed to know."""
    if not any(node.op.transparent for node in graph.nodes):
        return graph

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        return operands[: len(node.outputs)] if node.op.transparent else None

    return dce(rewrite(graph, visit))


def dce(graph: Graph) -> Graph:
    """Drops nodes, constants and variables that nothing needs; inputs stay."""
    needed: set[Value] = set(graph.roots())
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs) or is_guard(node):
            needed.update(node.inputs)
            kept.append(node)
    trimmed = Graph(graph.name, graph.assumptions)
    trimmed.inputs = graph.inputs
    trimmed.variables = {
        s: v for s, v in graph.variables.items() if v in needed or s in graph.updates
    }
    trimmed.constants = [v for v in graph.constants if v in needed]
    trimmed.nodes = kept[::-1]
    trimmed.outputs = graph.outputs
    trimmed.updates = {s: v for s, v in graph.updates.items() if v is not graph.variables[s]}
    return trimmed


def is_guard(node: Node) -> bool:
    """Whether the node, or one inside of it, can refuse the batch."""
    return node.op.guard or (bool(bodies_of(node)) and any_op(node, lambda op: op.guard))


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
        first = constants.setdefault(key, value)
        if first is not value:
            same[value] = first

    def key_of(name: str, operands: tuple[Value, ...], attrs: dict[str, Any]) -> Any:
        return (name, operands, frozenset(attrs.items()) if attrs else None)

    offers: dict[Any, tuple[Node, int]] = {}
    offered: set[str] = set()
    for node in graph.nodes:
        for output, name, positions in node.op.also:
            operands = tuple(same.get(node.inputs[i], node.inputs[i]) for i in positions)
            attrs = node.op.also_attrs([v.spec for v in operands]) if node.op.also_attrs else {}
            offers.setdefault(key_of(name, operands, attrs), (node, output))
            offered.add(name)

    found: dict[Any, tuple[Value, ...]] = {}
    early: dict[Node, tuple[Value, ...]] = {}
    computed: dict[Value, Value] = {}

    def compute_early(new: Graph, node: Node) -> tuple[Value, ...]:
        if node not in early:
            for value in node.inputs:
                if value.node is not None and value not in computed:
                    compute_early(new, value.node)
            early[node] = new.keep_node(
                node, [computed.get(v, same.get(v, v)) for v in node.inputs]
            )
            computed.update(zip(node.outputs, early[node], strict=True))
        return early[node]

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value]:
        if node in early:
            return early[node]
        if node.op.name in offered:
            old_operands = tuple(same.get(v, v) for v in node.inputs)
            offer = offers.get(key_of(node.op.name, old_operands, node.attrs))
            if offer is not None:
                other, output = offer
                if all(_ready(v, node, computed) for v in other.inputs):
                    return (compute_early(new, other)[output],)
        if same:
            operands = tuple([same.get(v, v) for v in operands])
        key = key_of(node.op.name, operands, node.attrs)
        outputs = found.get(key)
        if outputs is None:
            outputs = new.keep_node(node, operands)
            if not (node.op.random or (bodies_of(node) and any_op(node, lambda op: op.random))):
                found[key] = outputs
        computed.update(zip(node.outputs, outputs, strict=True))
        return outputs

    return dce(rewrite(graph, visit))


def _ready(value: Value, before: Node, computed: dict[Value, Value], depth: int = 4) -> bool:
    """Whether ``value`` is computed already, or can be from what is, without ``before``."""
    if value in computed or value.node is None:
        return True
    if value.node is before or depth == 0:
        return False
    return all(_ready(v, before, computed, depth - 1) for v in value.node.inputs)


def join_scans(graph: Graph) -> Graph:
    """Runs a scan once that a gradient repeats with more results (see ``primitives/loops.py``)."""
    longest: dict[Any, Node] = {}
    key_of: dict[Node, Any] = {}
    for node in graph.nodes:
        bodies = bodies_of(node)
        if node.op.loop is None or len(bodies) != 1:
            continue
        inputs, nodes, outputs = bodies[0].key
        other = frozenset((k, v) for k, v in node.attrs.items() if v is not bodies[0])
        # What all of them have in common are the results of the one with the fewest.
        key = key_of[node] = (node.op.name, node.inputs, other, inputs, nodes)
        known = longest.get(key)
        if known is None or len(outputs) > len(bodies_of(known)[0].key[2]):
            longest[key] = node
    if len(longest) == len(key_of):
        return graph
    made: dict[Node, tuple[Value, ...]] = {}

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        best = longest.get(key_of.get(node))
        if best is None:
            return None
        have, want = bodies_of(best)[0].key[2], bodies_of(node)[0].key[2]
        if have[: len(want)] != want:
            return None
        if best not in made:
            made[best] = new.keep_node(best, operands)
        return made[best][: len(node.outputs)]

    return rewrite(graph, visit)


def trim_scans(graph: Graph) -> Graph:
    """Drops stacked results of scans that nothing reads, or that are there already.

    A step that returns its carry as its result too would write it twice where the gradient keeps
    the carry, and a copy is a launch in every step.
    """
    if not any(node.op.loop is not None for node in graph.nodes):
        return graph
    needed = {*graph.roots(), *graph.uses()}

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op.loop is None or not operands:
            return None
        n_carry, n_xs = node.op.loop(node.attrs)
        if len(node.outputs) == n_carry:
            return None
        (body,) = bodies_of(node)
        rows = zip(body.graph.inputs[n_carry : n_carry + n_xs], operands[n_carry:], strict=False)
        known = dict(rows)  # what stands for each value of a step, stacked
        kept: dict[Value, int] = {}
        for i, value in enumerate(body.graph.outputs[n_carry:], n_carry):
            if value not in known and node.outputs[i] in needed:
                kept.setdefault(value, i)
        if len(kept) == len(node.outputs) - n_carry:
            return None
        inner = body.graph.without_nodes()
        inner.nodes = body.graph.nodes
        inner.outputs = [*body.graph.outputs[:n_carry], *kept]
        specs = [node.outputs[i].spec for i in (*range(n_carry), *kept.values())]
        attrs = map_bodies(node, lambda _: inner)
        found = new.append(node.op, operands, attrs, node.scope, specs)
        known.update(zip(kept, found[n_carry:], strict=True))
        unread = operands[0]  # in the place of what nothing reads
        return [*found[:n_carry], *[known.get(v, unread) for v in body.graph.outputs[n_carry:]]]

    return dce(rewrite(graph, visit))


def drop_broadcasts(graph: Graph) -> Graph:
    """Gives elementwise operators what was broadcast before: they broadcast by themselves.

    Gradients of sums and means are broadcast to the shape of what was summed.
    """
    if not any(node.op.name == "broadcast_to" for node in graph.nodes):
        return graph

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if not node.op.elementwise:
            return None
        found = list(operands)
        for i, value in enumerate(operands):
            if value.node is None or value.node.op.name != "broadcast_to":
                continue
            tried = [*found[:i], value.node.inputs[0], *found[i + 1 :]]
            if node.op.specs([v.spec for v in tried], node.attrs) == node.outputs[0].spec:
                found = tried
        return new.keep_node(node, found)

    return _trimmed(graph, rewrite(graph, visit))


def fuse_penalties(graph: Graph) -> Graph:
    """Builds the gradient of an L2 penalty into the optimizer's update.

    Where something else reads the sum of both gradients too (a norm, say), it is computed twice.
    """
    if not any(node.op.absorb_operand for node in graph.nodes):
        return graph

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op.absorb_operand is None:
            return None
        found = node.op.absorb_operand(operands, node.attrs)
        if found is None:
            return None
        return new.append(node.op, *found, node.scope, [v.spec for v in node.outputs])

    return _trimmed(graph, rewrite(graph, visit))


def _trimmed(before: Graph, after: Graph) -> Graph:
    """What is needed of a graph that was made from a trimmed one."""
    return before if after is before else dce(after)


def fuse_epilogues(graph: Graph) -> Graph:
    """Builds what follows a product (scale, bias, activation, its derivative) into it."""
    if not any(node.op.epilogue for node in graph.nodes):
        return graph
    uses = graph.uses()
    roots = set(graph.roots())
    moved: dict[Value, Value] = {}  # the other results of a producer that took something in

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if moved and not moved.keys().isdisjoint(operands):
            operands = tuple([moved.get(v, v) for v in operands])
            return fused(new, node, operands) or new.keep_node(node, operands)
        return fused(new, node, operands)

    def fused(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op.epilogue is None:
            return None
        kind, name = node.op.epilogue
        for position in (0, 1) if kind in ("scale", "bias") else (0,):
            producer, old = operands[position].node, node.inputs[position]
            if producer is None or producer.op.absorb is None:
                continue
            if len(uses[old]) != 1 or old in roots or _count(node, old) != 1:
                continue
            first, *others = producer.outputs
            if operands[position] is not first:
                continue
            other = operands[1 - position] if len(operands) > 1 else None
            taken = producer.op.absorb(producer.inputs, producer.attrs, kind, name, other)
            if taken is None:
                continue
            op, inputs, attrs = taken
            scope, new.scopes = new.scopes, [producer.scope]
            emitted = new.emit(op, inputs, attrs)
            new.scopes = scope
            output, *rest = emitted if isinstance(emitted, tuple) else (emitted,)
            if output.spec == node.outputs[0].spec:
                moved.update(zip(others, rest, strict=True))
                return (output,)
            new.nodes.pop()
        return None

    found = rewrite(graph, visit)
    if moved:
        found.outputs = [moved.get(v, v) for v in found.outputs]
        found.updates = {state: moved.get(v, v) for state, v in found.updates.items()}
    return _trimmed(graph, found)


def fuse_updates(graph: Graph) -> Graph:
    """Builds an optimizer's update into the operator that computes the gradient.

    The gradient must have no other reader (see :class:`handmill.ir.op.Fusion`). That no reader of
    the old weight is still to run is :func:`schedule`'s business, which puts the update behind
    them.
    """
    consumers = {consumer for consumer, _ in FUSIONS}
    if not any(node.op.name in consumers for node in graph.nodes):
        return graph
    uses = graph.uses()
    roots = set(graph.roots())

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op.name not in consumers:
            return None
        for position, (old, value) in enumerate(zip(node.inputs, operands, strict=True)):
            producer = value.node
            if producer is None or len(uses[old]) != 1 or old in roots:
                continue
            fusion = FUSIONS.get((node.op.name, producer.op.name))
            if fusion is None or fusion.position != position or _count(node, old) != 1:
                continue
            if not fusion.pays([v.spec for v in producer.inputs], producer.attrs):
                continue
            inputs = (*producer.inputs, *operands[:position], *operands[position + 1 :])
            attrs = {**producer.attrs, **node.attrs}
            if fusion.op.native([v.spec for v in inputs], attrs):
                scope, new.scopes = new.scopes, [producer.scope]
                outputs = new.emit(fusion.op, inputs, attrs)
                new.scopes = scope
                return outputs if isinstance(outputs, tuple) else (outputs,)
        return None

    return _trimmed(graph, rewrite(graph, visit))


def _count(node: Node, value: Value) -> int:
    return sum([v is value for v in node.inputs])


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
    new = graph.without_nodes()
    mapping: dict[Value, Value] = {}  # of the outputs that are other values now
    for item in order:
        if isinstance(item, _Group):
            _emit_group(new, item, mapping, uses, roots)
        elif mapping.keys().isdisjoint(item.inputs):
            new.nodes.append(item)
        else:
            outputs = new.keep_node(item, [mapping.get(v, v) for v in item.inputs])
            mapping.update(zip(item.outputs, outputs, strict=True))
    new.outputs = [mapping.get(v, v) for v in graph.outputs]
    new.updates = {state: mapping.get(v, v) for state, v in graph.updates.items()}
    return new


def _fusible(node: Node) -> bool:
    if not node.op.elementwise or not node.op.native([v.spec for v in node.inputs], node.attrs):
        return False
    ends = (node.inputs[0].dtype, node.outputs[0].dtype)
    return node.op.tile != CONVERT or BFLOAT16 not in ends


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
    if len(nodes) > MAX_TILE_INSTRUCTIONS:
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
    return list_schedule(needs, rank)


def _emit_group(
    new: Graph,
    group: _Group,
    mapping: dict[Value, Value],
    uses: dict[Value, list[Node]],
    roots: set[Value],
) -> None:
    if len(group.nodes) == 1 and group.nodes[0].op.kernel is not None:  # a change of dtype alone
        (node,) = group.nodes
        kept = new.keep_node(node, [mapping.get(v, v) for v in node.inputs])
        mapping.update(zip(node.outputs, kept, strict=True))
        return
    inputs = _external(group.nodes)
    number = {value: i for i, value in enumerate(inputs)}
    instructions = []
    for at, node in enumerate(group.nodes):
        operands = tuple(number[v] for v in node.inputs)
        attrs = tuple(sorted(node.attrs.items()))
        instructions.append(TileInstruction(node.op, operands, attrs, node.outputs[0].dtype))
        number[node.outputs[0]] = len(inputs) + at
    results = _results(group.nodes, uses, roots)
    outputs = new.append(
        TILE,
        [mapping.get(v, v) for v in inputs],
        {"instructions": tuple(instructions), "results": tuple(i for i, _ in results)},
        group.nodes[-1].scope,
        [value.spec for _, value in results],
    )
    mapping.update({value: out for (_, value), out in zip(results, outputs, strict=True)})


def _runs_on_host(node: Node) -> bool:
    """Whether the node, or one inside of it, runs its reference in Python."""
    bodies = bodies_of(node)
    if bodies and any(_runs_on_host(inner) for body in bodies for inner in body.graph.nodes):
        return True
    return node.op is not TILE and node.op.runs_on_host([v.spec for v in node.inputs], node.attrs)


def schedule(graph: Graph) -> Graph:
    """Orders the nodes so that updates can be written in place, each as early as it may be.

    Guards come first, so that a refused batch changes nothing. Scalars that depend on
    variables only (the step size of Adam) come next. The node that computes a variable's new
    value comes after every reader of the old value, and then at once: its gradient is still
    in cache and its memory is free again early. It also comes after what runs on the host, which
    may fail: an update before that is not written in place, but to a copy.
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
        if not fed.isdisjoint(node.inputs):
            fed.update(node.outputs)
    writers = {v.node for v in graph.updates.values() if v.node is not None}
    for state, new_value in graph.updates.items():
        writer = new_value.node
        if writer is None:
            continue
        for reader in uses.get(graph.variables[state], []):
            if reader is not writer and not ancestors[reader] >> position[writer] & 1:
                needs[writer].add(reader)
    guards = {node for node in graph.nodes if is_guard(node)}
    behind_guard = set(guards)
    wanted = {above for node in guards for above in needs[node]}
    for node in reversed(graph.nodes):
        if node in wanted:
            behind_guard.add(node)
            wanted |= needs[node]
    if guards:
        for node in writers:
            needs[node] |= guards - {node}

    def rank(node: Node) -> tuple[int, int]:
        if node in behind_guard:
            return (0, position[node])
        if node in writers:
            return (2, position[node])
        scalar = all([v.spec.shape == () and v not in fed for v in node.outputs])
        return (1 if scalar else 3, position[node])

    ranks = {node: rank(node) for node in graph.nodes}
    wishes = [needs]
    hosts = [node for node in graph.nodes if _runs_on_host(node)]
    if hosts:
        wishes.insert(0, {node: set(above) for node, above in needs.items()})
        for writer in writers:
            free = (h for h in hosts if not ancestors[h] >> position[writer] & 1)
            wishes[0][writer].update(h for h in free if h is not writer)
    for wish in wishes:
        try:
            order = list_schedule(wish, ranks)
            break
        except AssertionError:
            continue
    else:  # variables that swap contents; those are copied at the end
        operands = {n: {v.node for v in n.inputs if v.node is not None} for n in graph.nodes}
        order = list_schedule(operands, ranks)
    ordered = Graph(graph.name, graph.assumptions)
    ordered.inputs, ordered.variables = graph.inputs, graph.variables
    ordered.constants, ordered.outputs = graph.constants, graph.outputs
    ordered.updates, ordered.nodes = graph.updates, order
    return ordered


PASSES: tuple[Callable[[Graph], Graph], ...] = (
    join_scans,
    trim_scans,
    hoist,
    drop_transparent,
    fold,
    cse,
    drop_broadcasts,
    fuse_penalties,
    fuse_epilogues,
    compute_in_float32,
    fuse_updates,
    fuse_tiles,
    sink_results,
    fuse_sums,
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
    return _optimize_bodies(graph, without)


def _optimize_bodies(graph: Graph, without: frozenset[str]) -> Graph:
    """Applies the passes to the graphs inside of nodes."""
    if not any(bodies_of(node) for node in graph.nodes):
        return graph

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        if not bodies_of(node):
            return None
        attrs = map_bodies(node, lambda inner: optimize(inner, without))
        return new.append(node.op, operands, attrs, node.scope, [v.spec for v in node.outputs])

    return rewrite(graph, visit)
