"""Traced programs without the variables that they were traced with, and with others in their place.

A :class:`Trace` knows of each variable its shape and dtype alone, so that models of equal structure
share it. A :class:`Bound` is a trace together with the variables of one model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill.ir.body import within
from handmill.ir.dims import BATCH
from handmill.ir.graph import Graph, Node, Value
from handmill.ir.interpret import Interpretation, interpret
from handmill.ir.lower import describe
from handmill.ir.op import Array
from handmill.ir.passes import optimize
from handmill.ir.shapes import Sizes, Spec
from handmill.runtime.memory import FEW_BYTES, check_room, in_gigabytes
from handmill.runtime.plans import PLANS
from handmill.runtime.structure import Structure
from handmill.runtime.variable import Variable

UNFUSED = frozenset({"fuse_penalties", "fuse_epilogues", "fuse_updates", "fuse_tiles"})

_MOST_PLANS = 64
"""Sizes of one program whose plans are kept, if the limit of all plans allows it."""

_MOST_BEFORE_A_GUARD = 8
"""Nodes up to a guard of data: more would be work that belongs into the step."""

_BYTES_OF_A_TRACE = 6_000
_BYTES_OF_A_NODE = 2_500  # in the three graphs that it is in, and in the C++ program


class Slot:
    """Stands in a graph for a variable."""

    __slots__ = ("index", "name", "spec")

    def __init__(self, index: int, name: str, spec: Spec) -> None:
        self.index = index
        self.name = name
        self.spec = spec

    def read(self) -> Array:
        """There is nothing to read: it says which variable is meant, and no more."""
        raise RuntimeError(f"the program was not told which variable {self.name!r} is")

    def __repr__(self) -> str:
        return f"<Slot {self.index}: {self.name}>"


class Trace:
    """A traced program for any variables that fit.

    Args:
        graph: as it was traced; its variables are replaced by slots.
        structure: what the traced function said of its outputs.
        rows_alone: whether products give each row the bits that it has alone.

    Attributes:
        traced: the graph before any pass.
        is_shared: whether other subjects of equal structure may use it.
        places: of the variable of each slot in that structure.
        after: the key of that structure after the trace.
        memo: what the owner needs to know to come to that state without a trace.
        way: how another owner comes there, once one has.
        names: those of the layers, in the order of the structure.
    """

    def __init__(self, graph: Graph, structure: Any, rows_alone: bool = False) -> None:
        self.traced = graph
        self.structure = structure
        self.rows_alone = rows_alone
        self.is_shared = False
        self.places: list[int] = []
        self.after: Any = None
        self.memo: Any = None
        self.way: Way | None = None
        self.names: list[str] = []
        self.plans: dict[Any, Any] = {}  # PLANS decides which are kept
        self._symbols = graph.symbols
        self._optimized: Graph | None = None
        self._programs: dict[bool, tuple[Any, list[int]]] = {}
        self._guards: list[tuple[Graph, list[int]] | None] = []  # empty: not looked for yet
        self._fits: dict[Any, tuple[Sizes | None, str]] = {}  # by shapes

    @property
    def nbytes(self) -> int:
        """About how much memory the graphs need."""
        graphs = list(within(self.traced))
        nodes = sum([len(graph.nodes) for graph in graphs])
        constants = sum([int(v.origin.nbytes) for graph in graphs for v in graph.constants])
        return _BYTES_OF_A_TRACE + _BYTES_OF_A_NODE * nodes + 2 * constants

    @property
    def optimized(self) -> Graph:
        """The graph after all passes."""
        if self._optimized is None:
            self._optimized = optimize(self.traced)
        return self._optimized

    @property
    def guards(self) -> tuple[Graph, list[int]] | None:
        """What refuses rows by nothing but themselves, and the places of its inputs; or None."""
        if not self._guards:
            self._guards.append(guards_of_data(self.traced))
        return self._guards[0]

    def program(self, feeds: bool, fused: bool = True) -> tuple[Any, dict[Value, int], Graph]:
        """Returns the C++ program, the number of each value in it, and the graph."""
        from handmill import _core

        graph = self.optimized if fused else optimize(self.traced, UNFUSED)
        arguments, number = describe(graph, _core.tile_opcodes(), feeds)
        return _core.Program(**arguments, rows_alone=self.rows_alone), number, graph

    def known_program(self, feeds: bool) -> tuple[Any, list[int]]:
        """Returns the fused C++ program, made once, and the slots of its variables."""
        found = self._programs.get(feeds)
        if found is None:
            program, _, graph = self.program(feeds)
            found = self._programs[feeds] = program, slots_of(graph)
        return found

    def fits(self, arrays: Sequence[Any]) -> tuple[Sizes | None, str]:
        """The sizes that arrays bind; or None and why they do not fit what was traced."""
        shapes = tuple([a.shape for a in arrays])
        found = self._fits.get(shapes)
        if found is None:
            if len(self._fits) >= _MOST_PLANS:
                self._fits.clear()
            found = self._fits[shapes] = self._find_fit(shapes)
        return found

    def _find_fit(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Sizes | None, str]:
        try:
            sizes = self.traced.bind(shapes)
        except ValueError as error:
            return None, str(error)
        problem = self.traced.assumptions.violated(sizes)
        if problem:
            return None, f"{problem} was assumed"
        return sizes, ""

    def plan(self, sizes: Sizes, feeds: bool) -> Any:
        """Returns the plan for these sizes; made if it is not known (or not any more)."""
        from handmill import _core

        values = tuple([sizes[symbol] for symbol in self._symbols])
        key = (values, feeds, _core.isa(), _core.tuning(), _core.uses_int8_dot())
        plan = self.plans.get(key)
        if plan is None:
            if len(self.plans) >= _MOST_PLANS:
                del self.plans[min(self.plans, key=lambda k: self.plans[k].last_use)]
            plan = self.known_program(feeds)[0].specialize(values)
            if plan.arena_bytes > FEW_BYTES:
                self._check_room(plan.arena_bytes, values)
            self.plans[key] = plan
            PLANS.add(self, key)
        return plan

    def _check_room(self, needed: int, sizes: Sequence[int]) -> None:
        """Refuses a plan whose intermediate results the memory does not hold."""
        named = ", ".join(f"{s}={n}" for s, n in zip(self._symbols, sizes, strict=True))
        what = (
            f"{self.traced.name!r}{f' with sizes {named}' if named else ''} needs "
            f"{in_gigabytes(needed)} for what it computes on the way"
        )
        remedy = "Take fewer rows at a time (batch_size), shorter sequences or smaller images"
        try:
            check_room(needed, what, remedy)
        except MemoryError:
            PLANS.drop_all()  # those of other sizes hold as much
            check_room(needed, what, remedy)


class Way:
    """What a subject is like after it was prepared for a trace, learnt from the first one.

    Subjects of equal structure, which hold nothing but objects of this package, become equal again
    when the same is made for them: so the next one need not be described a second time.

    Args:
        before: a subject's structure.
        made: the variables that were made for it.
        after: its structure then, in which each variable is one of these.
    """

    def __init__(self, before: Structure, made: Sequence[Variable], after: Structure) -> None:
        number = {id(v): i for i, v in enumerate((*before.variables, *made))}
        self._places = [number[id(v)] for v in after.variables]
        self._specs = [v.spec for v in made]
        self._key = after.key
        self._trainable = after.looks_at_trainable

    @classmethod
    def learn(
        cls, before: Structure, made: Sequence[Variable] | None, after: Structure
    ) -> Way | None:
        """The way from ``before`` to ``after``; None if what was made does not tell it all."""
        if made is None or after.must_ask or before.names != after.names:
            return None
        known = set(map(id, (*before.variables, *made)))
        return cls(before, made, after) if known.issuperset(map(id, after.variables)) else None

    def leads(self, before: Structure, made: Sequence[Variable] | None) -> Structure | None:
        """The structure of another subject, for which ``made`` was made; None if it differs."""
        if made is None or [v.spec for v in made] != self._specs:
            return None
        variables = [*before.variables, *made]
        found = [variables[i] for i in self._places]
        return Structure.expected(self._key, found, before.names, self._trainable)


def guards_of_data(graph: Graph) -> tuple[Graph, list[int]] | None:
    """Returns the guards of a graph that look at rows of its inputs, as a graph of their own.

    Those that are a few operators away from inputs, each of which goes row by row: what looks at
    labels and indices.

    Returns:
        The graph and the places of its inputs among those of ``graph``; None if there is no guard.
    """
    of_data: dict[Value, set[Node]] = {v: set() for v in graph.inputs if _has_rows(v)}
    of_data.update({v: set() for v in graph.constants})
    kept: set[Node] = set()
    for node in graph.nodes:
        if not (_goes_by_rows(node) and all(v in of_data for v in node.inputs)):
            continue
        needs = {node}.union(*[of_data[v] for v in node.inputs])
        if len(needs) <= _MOST_BEFORE_A_GUARD and all(_has_rows(v) for v in node.outputs):
            of_data.update({v: needs for v in node.outputs})
            if node.op.guard:
                kept |= needs
    needed = {v for node in kept for v in node.inputs}
    places = [i for i, v in enumerate(graph.inputs) if v in needed]
    if not places:
        return None
    guards = Graph(f"{graph.name} guards", graph.assumptions)
    guards.inputs = [graph.inputs[i] for i in places]
    guards.constants = [v for v in graph.constants if v in needed]
    guards.nodes = [node for node in graph.nodes if node in kept]
    return guards, places


def _goes_by_rows(node: Node) -> bool:
    if node.op.kernel == "reduce":
        return 0 not in node.attrs.get("axis", (0,))  # without axes: over all
    return node.op.elementwise or node.op.view or node.op.guard


def _has_rows(value: Value) -> bool:
    return bool(value.shape) and value.shape[0] == BATCH


def slots_of(graph: Graph) -> list[int]:
    """The numbers of the slots that are the variables of ``graph``, in order."""
    slots: Sequence[Any] = list(graph.variables)
    return [slot.index for slot in slots]


def take_variables(graph: Graph) -> list[Variable]:
    """Replaces the variables of a traced graph by slots; returns them in the order of the slots."""
    variables: list[Any] = list(graph.variables)
    slots = {v: Slot(i, v.name, v.spec) for i, v in enumerate(variables)}
    for variable, value in graph.variables.items():
        value.origin = slots[variable]
    graph.variables = {slots[v]: value for v, value in graph.variables.items()}
    graph.updates = {slots[v]: value for v, value in graph.updates.items()}
    return variables


class Bound:
    """A trace with variables in its slots.

    Args:
        trace: the program.
        variables: one for each slot.
        names: those of the layers that the variables belong to, in the order of ``trace.names``.
    """

    def __init__(
        self, trace: Trace, variables: Sequence[Variable], names: Sequence[str] = ()
    ) -> None:
        self.trace = trace
        self.variables = variables
        self._names = names
        self._bindings: dict[bool, Any] = {}

    @property
    def traced(self) -> Graph:
        """The graph before any pass."""
        return self.trace.traced

    @property
    def optimized(self) -> Graph:
        """The graph after all passes."""
        return self.trace.optimized

    def program(self, feeds: bool, fused: bool = True) -> tuple[Any, dict[Value, int], Graph]:
        """See :meth:`Trace.program`."""
        return self.trace.program(feeds, fused)

    def plan(self, sizes: Sizes, feeds: bool) -> Any:
        """Returns the plan for these sizes, bound to the variables."""
        plan = self.trace.plan(sizes, feeds)
        binding = self._bindings.get(feeds)
        if binding is None:
            from handmill import _core

            slots = self.trace.known_program(feeds)[1]
            binding = _binding(_core, [self.variables[i].state for i in slots])
            self._bindings[feeds] = binding
        return plan.bind(binding)

    def binding_of(self, graph: Graph) -> Any:
        """The C++ states of the variables of ``graph``, one of the trace's graphs."""
        from handmill import _core

        return _binding(_core, [self.variables[i].state for i in slots_of(graph)])

    def contents(self, graph: Graph) -> Mapping[Any, Array]:
        """What the variables of ``graph`` hold now."""
        slots: Sequence[Any] = list(graph.variables)
        return {slot: self.variables[slot.index].read() for slot in slots}

    def interpret(self, arrays: Sequence[Array]) -> Interpretation:
        """Runs the program on NumPy and writes the variables."""
        run = interpret(self.traced, arrays, states=self.contents(self.traced))
        for slot, array in run.updates.items():
            self.variables[slot.index].state.write(array)
        return run

    @property
    def written(self) -> list[Variable]:
        """The variables that the program writes."""
        slots: Sequence[Any] = list(self.trace.optimized.updates)
        return [self.variables[slot.index] for slot in slots]

    def scope(self, name: str) -> str:
        """The name of the layer here that is called ``name`` in the trace."""
        if name in self.trace.names:
            return self._names[self.trace.names.index(name)]
        return name


def _binding(core: Any, states: list[Any]) -> Any:
    try:
        return core.Binding(states)
    except TypeError:
        for state in states:
            state.view()  # one that lies elsewhere says where
        raise
