"""Sums of columns that tile programs add up as they go, instead of one more pass over memory each.

The gradient of a normalization sums up two products of what comes back to it, and the gradient of a
bias one: what they sum up is computed, or at least read, by a tile program.
"""

from __future__ import annotations

from handmill.ir.graph import Graph, Node, Value
from handmill.ir.order import list_schedule
from handmill.ir.tile import TILE, TileInstruction

MAX_TILE_SUMS = 6
_TILE_DIMENSIONS = 4  # of the kernel's iteration space


def fuse_sums(graph: Graph) -> Graph:
    """Builds sums of columns into a tile program that computes what is summed, or reads it."""
    sums = [node for node in graph.nodes if _is_sum(node)]
    if not sums:
        return graph
    uses = graph.uses()
    joined: dict[Node, list[Node]] = {}
    tile_of: dict[Node, Node] = {}
    for node in sums:
        (value,) = node.inputs
        near = [value.node] if value.node is not None else []
        for tile in (*near, *uses[value]):
            if (
                _takes_sums(tile, value)
                and len(joined.get(tile, ())) < MAX_TILE_SUMS
                and (tile is value.node or not _leads_to(node, tile, uses, tile_of, joined))
            ):
                joined.setdefault(tile, []).append(node)
                tile_of[node] = tile
                break
    if not joined:
        return graph
    return _rebuilt(graph, joined, tile_of, uses)


def _is_sum(node: Node) -> bool:
    rule = node.op.tile_sum
    return rule is not None and rule([v.spec for v in node.inputs], node.attrs)


def _takes_sums(tile: Node, value: Value) -> bool:
    """Whether the program goes over the rows of ``value`` in at most four dimensions."""
    if tile.op is not TILE or tile.outputs[0].shape != value.shape:
        return False
    whole_or_columns = (
        v.shape == value.shape or all(d == 1 for d in v.shape[:-1]) for v in tile.inputs
    )
    return len(value.shape) <= _TILE_DIMENSIONS or all(whole_or_columns)


def _leads_to(
    node: Node,
    tile: Node,
    uses: dict[Value, list[Node]],
    tile_of: dict[Node, Node],
    joined: dict[Node, list[Node]],
) -> bool:
    """Whether ``tile`` needs what comes of ``node``, given the sums that run in programs."""
    stack, seen = [node], {node}
    while stack:
        at = stack.pop()
        for value in at.outputs:
            for user in uses.get(value, ()):
                user = tile_of.get(user, user)
                if user is tile:
                    return True
                for below in (user, *joined.get(user, ())):
                    if below not in seen:
                        seen.add(below)
                        stack.append(below)
    return False


def _rebuilt(
    graph: Graph,
    joined: dict[Node, list[Node]],
    tile_of: dict[Node, Node],
    uses: dict[Value, list[Node]],
) -> Graph:
    rank = {node: i for i, node in enumerate(graph.nodes) if node not in tile_of}
    needs = {
        node: {tile_of.get(v.node, v.node) for v in node.inputs if v.node is not None}
        for node in rank
    }
    roots = set(graph.roots())
    new = graph.without_nodes()
    mapping: dict[Value, Value] = {}
    for node in list_schedule(needs, rank):
        operands = [mapping.get(v, v) for v in node.inputs]
        if node in joined:
            outputs, found = _with_sums(new, node, operands, joined[node], uses, roots)
        else:
            outputs, found = node.outputs, new.keep_node(node, operands)
        mapping.update(zip(outputs, found, strict=True))
    new.outputs = [mapping.get(v, v) for v in graph.outputs]
    new.updates = {state: mapping.get(v, v) for state, v in graph.updates.items()}
    return new


def _with_sums(
    new: Graph,
    tile: Node,
    operands: list[Value],
    sums: list[Node],
    uses: dict[Value, list[Node]],
    roots: set[Value],
) -> tuple[list[Value], tuple[Value, ...]]:
    """Emits the program with its sums; returns what it gave in the old graph, and in the new."""
    instructions = list(tile.attrs["instructions"])
    number = {value: i for i, value in enumerate(tile.inputs)}
    written: dict[Value, int] = {}
    for result, value in zip(tile.attrs["results"], tile.outputs, strict=True):
        number.setdefault(value, len(operands) + result)
        if value in roots or any(user not in sums for user in uses.get(value, ())):
            written[value] = result
    outputs = list(written)
    results = list(written.values())
    for node in sums:
        of_sum = tuple(sorted(node.attrs.items()))
        results.append(len(instructions))
        instructions.append(
            TileInstruction(node.op, (number[node.inputs[0]],), of_sum, node.outputs[0].dtype)
        )
        outputs.append(node.outputs[0])
    attrs = {"instructions": tuple(instructions), "results": tuple(results)}
    specs = [v.spec for v in outputs]
    return outputs, new.append(TILE, operands, attrs, tile.scope, specs)
