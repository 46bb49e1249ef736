"""Which units a model has: traced once in inference mode, followed through its operators.

What records say of each operator (:mod:`handmill.ir.units`) is put together: a unit of the model is
everything that can go only at once, such as an output of a layer, its bias, its normalization, and
the rows of all kernels that read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import tree
from handmill.ir.graph import Graph, Value
from handmill.ir.op import Array
from handmill.ir.shapes import Spec
from handmill.ir.units import FIXED, Axes, Units, through
from handmill.layers.context import collected_losses
from handmill.layers.layer import all_layers
from handmill.runtime.variable import Variable

Place = tuple[int, int]
"""A variable, by its number among the model's weights, and one of its axes."""


@dataclass(frozen=True)
class Group:
    """Units that stand in the same places: those of one layer, or of layers that are tied.

    Attributes:
        name: the first weight whose outputs they are.
        units: the numbers of those that can go.
        size: how many units there are, with those that must stay.
        places: where they stand.
        width: how many outputs one of them is (of a head: its dimensions).
        reason: why none or not all can go; "" if all can.
    """

    name: str
    units: Array
    size: int
    places: tuple[Place, ...]
    width: int
    reason: str


@dataclass(frozen=True)
class Structure:
    """The units of a model.

    Attributes:
        weights: the model's weights.
        numbers: for each of them and each axis the unit of each entry.
        groups: what can be chosen from, and what not.
        reshaped: name of a layer -> units of the axes of its last reshape, rows left out.
    """

    weights: list[Variable]
    numbers: list[tuple[Array, ...]]
    groups: list[Group]
    reshaped: dict[str, tuple[Array | int, ...]]

    def outputs(self, removed: Array) -> dict[str, tuple[int, ...]]:
        """The sizes that reshaping layers give when some units go."""
        return {
            name: tuple(
                axis if isinstance(axis, int) else int(np.count_nonzero(~np.isin(axis, removed)))
                for axis in axes
            )
            for name, axes in self.reshaped.items()
        }

    def kept(self, removed: Array) -> list[tuple[Array, ...]]:
        """For each weight and axis, which entries stay when some units go."""
        return [tuple(np.flatnonzero(~np.isin(n, removed)) for n in axes) for axes in self.numbers]

    def scores(self, group: Group, squares: Sequence[Array]) -> Array:
        """Sums of one number an element over each unit of a group.

        Each weight counts relative to its mean unit, so that small kernels have a say.

        Args:
            group: the group.
            squares: an array for each weight.
        """
        total = np.zeros(len(group.units))
        order = np.argsort(group.units)
        for number, axis in group.places:
            array = squares[number]
            if array.ndim < 2 and len(group.places) > 1 and any(
                squares[n].ndim > 1 for n, _ in group.places
            ):  # fmt: skip
                continue
            others = tuple(a for a in range(array.ndim) if a != axis)
            entries = array.sum(axis=others, dtype=np.float64)
            ids = self.numbers[number][axis]
            inside = np.isin(ids, group.units)
            place = order[np.searchsorted(group.units, ids[inside], sorter=order)]
            own = np.bincount(place, entries[inside], len(group.units))
            total += own / (own.mean() or 1.0)
        return total


def structure_of(model: Any) -> Structure:
    """The units of a built functional or sequential model.

    Raises:
        ValueError: for another model, or one whose inputs are texts.
    """
    graph, given = _traced(model)
    units = Units()
    weights = list(model.weights)
    position = {id(v): i for i, v in enumerate(weights)}
    known: dict[Value, Axes] = {value: (None,) * value.ndim for value in given}
    numbers: list[tuple[Array, ...]] = []
    for weight in weights:
        numbers.append(tuple(units.fresh(size) for size in weight.shape))
    _fix_unknown_layers(units, model, numbers, position)
    read = {id(state) for state in graph.variables}
    for weight, axes in zip(weights, numbers, strict=True):
        if id(weight) not in read:
            units.fix_all([axes], f"{weight.path} is not used when the model infers")
    for state, value in graph.variables.items():
        place = position.get(id(state))
        known[value] = (None,) * value.ndim if place is None else numbers[place]
    for constant in graph.constants:
        known[constant] = _of_constant(units, constant)
    views: dict[str, Value] = {}
    sized = {layer.name for layer in all_layers(model) if getattr(layer, "holds_sizes", False)}
    for node in graph.nodes:
        units.scope = node.scope
        if not sized.isdisjoint(node.scope.split("/")):
            units.fix_all([known[v] for v in node.inputs], "numbers of a file may be its sizes")
        found = through(
            units,
            node.op,
            [known[v] for v in node.inputs],
            [v.spec for v in node.inputs],
            [v.spec for v in node.outputs],
            node.attrs,
        )
        known.update(zip(node.outputs, found, strict=True))
        if node.op.view:
            views[node.scope.rpartition("/")[2]] = node.outputs[0]
    units.scope = ""
    for value in graph.outputs:
        units.fix_all([known[value]], "outputs of the model")
    root, why = units.solved()
    numbers = [tuple(root[n] for n in axes) for axes in numbers]
    reshaped = {
        name: tuple(
            int(size) if ids is None else root[ids]
            for size, ids in zip(value.shape[1:], known[value][1:], strict=True)
        )
        for name, value in views.items()
    }
    return Structure(weights, *_groups(weights, numbers, why), reshaped)


def _traced(model: Any) -> tuple[Graph, list[Value]]:
    described = getattr(model, "_graph", None)
    inputs = getattr(model, "inputs", None) if getattr(model, "built", False) else None
    if not inputs or not (described is not None or hasattr(model, "_layers")):
        raise ValueError(
            f"{type(model).__name__} {getattr(model, 'name', '')!r} must be a built functional or "
            "sequential model: what a call() of one's own does with sizes is not known"
        )
    graph = Graph("units")
    with graph:
        values = [graph.input(_spec_of(t), t.name) for t in inputs]
        nested = model.inputs if described is None else described.inputs_struct
        fed = tree.pack_sequence_as(nested, values) if described is not None else values[0]
        with collected_losses():
            found = model(fed, training=False)
    graph.outputs = [v for v in tree.flatten(found) if isinstance(v, Value)]
    return graph, values


_ROWS, _STEPS = 2, 64  # rows of the traced batch; positions along axes of any length


def _spec_of(tensor: Any) -> Spec:
    if tensor.dtype == "string":
        raise ValueError("the model reads texts: shrink the part behind its TextVectorization")
    shape = tuple(_STEPS if size is None else int(size) for size in tensor.shape[1:])
    return Spec((_ROWS, *shape), tensor.dtype)


def _of_constant(units: Units, value: Value) -> Axes:
    """An axis along which a constant is the same everywhere can have any length."""
    array = value.constant
    assert array is not None  # noqa: S101
    found: list[Array | None] = []
    for axis, size in enumerate(array.shape):
        alike = size > 1 and np.array_equal(
            array, np.broadcast_to(array.take([0], axis), array.shape)
        )
        found.append(units.fresh(size) if alike else None)
    return tuple(found)


def _fix_unknown_layers(
    units: Units, model: Any, numbers: Sequence[tuple[Array, ...]], position: dict[int, int]
) -> None:
    from handmill.compress.rebuilding import can_be_resized

    for layer in all_layers(model):
        if can_be_resized(layer):
            continue
        for variable in layer._own_variables():
            place = position.get(id(variable))
            if place is not None:
                why = f"what its arguments say of its sizes is not known ({type(layer).__name__})"
                units.scope = layer.name
                units.fix_all([numbers[place]], why)


def _groups(
    weights: Sequence[Variable], numbers: Sequence[tuple[Array, ...]], why: dict[int, str]
) -> tuple[list[tuple[Array, ...]], list[Group]]:
    """The numbers, those of all units that must stay being FIXED, and the groups."""
    places: dict[int, list[Place]] = defaultdict(list)
    for number, axes in enumerate(numbers):
        for axis, ids in enumerate(axes):
            for unit in np.unique(ids):
                places[int(unit)].append((number, axis))
    members: dict[tuple[Place, ...], list[int]] = defaultdict(list)
    for unit, where in places.items():
        members[tuple(where)].append(unit)
    found = []
    for stands, units in members.items():
        free = [unit for unit in units if unit not in why]
        reason = next((why[unit] for unit in units if unit in why), "")
        width = min(
            numbers[n][a].size // len(units) * int(np.prod(weights[n].shape[a + 1 :], dtype=int))
            for n, a in stands
        )
        name = _name(weights, stands)
        if name and (reason or (free and len(units) > 1)):
            found.append(Group(name, np.array(free, np.int64), len(units), stands, width, reason))
    free_places = [p for g in found if len(g.units) for p in g.places]
    held = {n for n, axis in free_places if axis > 0 or len(weights[n].shape) != 2}
    found = [g for g in found if len(g.units) or held.isdisjoint(n for n, _ in g.places)]
    fixed = np.array(sorted(why), np.int64)
    kept = [tuple(np.where(np.isin(n, fixed), FIXED, n) for n in axes) for axes in numbers]
    return kept, found


def _name(weights: Sequence[Variable], where: Sequence[Place]) -> str:
    """The first weight whose outputs the units are; "" if there is none."""
    for number, axis in where:
        weight = weights[number]
        turned = "transpose" in weight.path
        out = weight.shape[axis + 1 :] if len(weight.shape) == 3 and axis == 1 else ()
        last = len(weight.shape) - (2 if turned else 1)
        if len(weight.shape) > 1 and (axis == last or out):
            return weight.path
    return ""
