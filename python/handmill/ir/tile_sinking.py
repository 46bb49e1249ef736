"""Moves the last instruction before a result into the one tile program that reads the result.

Chains are joined greedily, so a product that is needed only much later, behind a sum of the same
factors say, is computed where its factors are, written and read back. Where the later program has
its factors anyway, or reads one of them in its place, nothing need be written.
"""

from __future__ import annotations

from dataclasses import replace

from handmill.ir.graph import Graph, Node, Value
from handmill.ir.tile import MAX_TILE_INSTRUCTIONS, MAX_TILE_OPERANDS, TILE, TileInstruction

_Moved = dict[Value, tuple[TileInstruction, tuple[Value, ...]]]


def sink_results(graph: Graph) -> Graph:
    """Computes results of tile programs in the only program that reads them, where that pays."""
    tiles = [node for node in graph.nodes if node.op is TILE and len(node.outputs) > 1]
    if not tiles:
        return graph
    uses = graph.uses()
    roots = set(graph.roots())
    moved: dict[Node, _Moved] = {}  # by the program that reads them
    gone: set[Value] = set()
    for tile in tiles:
        kept = list(tile.outputs)
        for value, result in zip(tile.outputs, tile.attrs["results"], strict=True):
            readers = uses.get(value, ())
            if value in roots or len(readers) != 1 or len(kept) == 1:
                continue
            operands = _operands_outside(tile, result, kept, value)
            if operands is None or not _pays(value, readers[0], operands, moved):
                continue
            instruction = tile.attrs["instructions"][result]
            moved.setdefault(readers[0], {})[value] = instruction, operands
            gone.add(value)
            kept.remove(value)
            # What it reads must be written from now on.
            uses.update({v: [*uses.get(v, ()), readers[0]] for v in operands})
    return _moved(graph, moved, gone) if moved else graph


def _operands_outside(
    tile: Node, result: int, kept: list[Value], value: Value
) -> tuple[Value, ...] | None:
    """What the instruction reads, if that lies in memory and nothing else reads its result."""
    instructions, first = tile.attrs["instructions"], len(tile.inputs)
    if any(first + result in i.operands for i in instructions):
        return None
    written = {
        first + r: v
        for r, v in zip(tile.attrs["results"], tile.outputs, strict=True)
        if v in kept and v is not value
    }
    known = dict(enumerate(tile.inputs)) | written
    operands = instructions[result].operands
    return tuple(known[i] for i in operands) if known.keys() >= set(operands) else None


def _pays(
    value: Value, reader: Node, operands: tuple[Value, ...], moved: dict[Node, _Moved]
) -> bool:
    if reader.op is not TILE or reader.outputs[0].shape != value.shape:
        return False
    others = moved.get(reader, {})
    inputs = {*reader.inputs, *(v for _, given in others.values() for v in given)} - {*others}
    new = {v for v in operands if v not in inputs}
    n_operands = len(inputs) + len(new) - 1 + len(reader.outputs)
    n_instructions = len(reader.attrs["instructions"]) + len(others) + 1
    return (
        sum(v.shape == value.shape for v in new) <= 1
        and n_operands <= MAX_TILE_OPERANDS
        and n_instructions <= MAX_TILE_INSTRUCTIONS
    )


def _moved(graph: Graph, moved: dict[Node, _Moved], gone: set[Value]) -> Graph:
    new = graph.without_nodes()
    mapping: dict[Value, Value] = {}
    for node in graph.nodes:
        if node in moved or not gone.isdisjoint(node.outputs):
            outputs, found = _emit(new, node, moved.get(node, {}), gone, mapping)
        else:
            outputs = list(node.outputs)
            found = new.keep_node(node, [mapping.get(v, v) for v in node.inputs])
        mapping.update(zip(outputs, found, strict=True))
    new.outputs = [mapping.get(v, v) for v in graph.outputs]
    new.updates = {state: mapping.get(v, v) for state, v in graph.updates.items()}
    return new


def _emit(
    new: Graph, tile: Node, taken: _Moved, gone: set[Value], mapping: dict[Value, Value]
) -> tuple[list[Value], tuple[Value, ...]]:
    """Emits a program with what it takes over and without what others take."""
    given = [v for _, operands in taken.values() for v in operands]
    inputs = list(dict.fromkeys(v for v in (*tile.inputs, *given) if v not in taken))
    number = {value: i for i, value in enumerate(inputs)}
    instructions: list[TileInstruction] = []

    def add(instruction: TileInstruction, operands: tuple[int, ...]) -> int:
        instructions.append(replace(instruction, operands=operands))
        return len(inputs) + len(instructions) - 1

    for value, (instruction, operands) in taken.items():
        number[value] = add(instruction, tuple(number[v] for v in operands))
    place = {i: number[v] for i, v in enumerate(tile.inputs)}
    result_of = dict(zip(tile.attrs["results"], tile.outputs, strict=True))
    outputs, results = [], []
    for at, instruction in enumerate(tile.attrs["instructions"]):
        if result_of.get(at) in gone:
            continue
        place[len(tile.inputs) + at] = number_now = add(
            instruction, tuple(place[i] for i in instruction.operands)
        )
        if at in result_of:
            outputs.append(result_of[at])
            results.append(number_now - len(inputs))
    attrs = {"instructions": tuple(instructions), "results": tuple(results)}
    operands_now = [mapping.get(v, v) for v in inputs]
    return outputs, new.append(TILE, operands_now, attrs, tile.scope, [v.spec for v in outputs])
