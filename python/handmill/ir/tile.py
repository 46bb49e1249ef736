"""The one operator that passes make up: a chain of elementwise operators run as one.

A tile program goes over its operands in pieces that fit the first-level cache and applies
every operator of the chain to a piece before it takes the next: fusion without a compiler.

Sums of the columns of what a piece holds can be added up as it goes by (``Op.tile_sum``); they come
last among the instructions and the results.

Every instruction computes in one type, and every register holds one: float32, float64, int32 or
int64. Arrays of smaller integers travel as int32, bfloat16 as float32, and bool as 0 and 1 of the
type that reads it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handmill.ir.op import Array, Exact, Op
from handmill.ir.shapes import Spec

MAX_TILE_OPERANDS = 14
MAX_TILE_INSTRUCTIONS = 24

CONVERT = "convert"
"""The opcode of a change of dtype: which instructions it is depends on both dtypes."""

_LETTERS = "FDII"  # of the types float32, float64, int32, int64, in csrc/.../tile_ops.def
_TYPES = {"float32": 0, "bfloat16": 0, "float64": 1, "int8": 2, "uint8": 2, "int32": 2, "int64": 3}
_INT32 = 2
_CONVERSIONS = ("to_float32", "to_float64", "to_int32", "to_int64")  # by the type of the result
# A result of these may lie outside of its dtype while it travels as a wider one.
_WIDENING = frozenset({"add", "sub", "mul", "neg", "abs", "square", "pow"})
_WRAPS = {"int8": "wrap_int8", "uint8": "wrap_uint8", "bool": "truth"}


@functools.cache
def _types_of_opcodes() -> Mapping[str, str]:
    try:
        from handmill import _core
    except ImportError:  # a build without kernels: nothing is lowered
        return {}
    return _core.tile_types()


def computes_in(opcode: str, dtypes: Sequence[str]) -> bool:
    """Whether an instruction exists for operands of these dtypes.

    bfloat16 is left to the two conversions that are instructions of their own.
    """
    types = {_TYPES[d] for d in dtypes if d != "bool"}
    letters = _types_of_opcodes().get(opcode, "F")
    if "bfloat16" in dtypes or len(types) > 1:
        return False
    return _LETTERS[types.pop()] in letters if types else bool(letters)


@dataclass(frozen=True, slots=True)
class TileInstruction:
    """One elementwise operator inside a tile program.

    Attributes:
        op: the operator.
        operands: below the number of inputs: that input; else the result of an earlier instruction.
        attrs: the operator's attributes as items.
        dtype: of the result.
    """

    op: Op
    operands: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]
    dtype: str


def _run(
    arguments: Sequence[Any],
    instructions: tuple[TileInstruction, ...],
    results: tuple[int, ...],
    rule: str,
) -> tuple[Any, ...]:
    values = list(arguments)
    for instruction in instructions:
        operands = (values[i] for i in instruction.operands)
        values.append(getattr(instruction.op, rule)(*operands, **dict(instruction.attrs)))
    return tuple(values[len(arguments) + i] for i in results)


def _infer(
    *specs: Spec, instructions: tuple[TileInstruction, ...], results: tuple[int, ...]
) -> Any:
    found = _run(specs, instructions, results, "infer")
    return found if len(found) > 1 else found[0]


def _reference(
    *arrays: Array, instructions: tuple[TileInstruction, ...], results: tuple[int, ...]
) -> Any:
    found = _run(arrays, instructions, results, "reference")
    return found if len(found) > 1 else found[0]


TILE = Op(
    "tile",
    infer=_infer,
    reference=_reference,
    samples=lambda: (),
    bound=Exact(),  # each instruction has its own bound; compare() sums them
    kernel="tile",
)


def tile_code(
    inputs: Sequence[str],
    instructions: tuple[TileInstruction, ...],
    results: tuple[int, ...],
    opcodes: Mapping[str, int],
) -> dict[str, Any]:
    """Returns the instructions of a tile program as the attributes of its lowering rule.

    Registers are the inputs, then the outputs, then temporaries, which are reused as soon as
    their last reader has run.

    Args:
        inputs: the dtypes of the inputs.
        instructions: the operators, in an order in which they can run.
        results: which instructions are outputs; sums behind all others.
        opcodes: the number of each instruction.
    """
    return _Coder(inputs, instructions, results, opcodes).code()


class _Coder:
    """A tile program under way."""

    def __init__(
        self,
        inputs: Sequence[str],
        instructions: tuple[TileInstruction, ...],
        results: tuple[int, ...],
        opcodes: Mapping[str, int],
    ) -> None:
        self.instructions = [i for i in instructions if i.op.elementwise]
        self.summed = [i.operands[0] for i in instructions[len(self.instructions) :]]
        self.results = results[: len(results) - len(self.summed)]
        self.opcodes = opcodes
        self.n_inputs = len(inputs)
        self.dtypes = [*inputs, *(instruction.dtype for instruction in instructions)]
        # A bool among the inputs has the type of its first reader.
        self.types: dict[int, int] = {
            i: _TYPES[dtype] for i, dtype in enumerate(inputs) if dtype != "bool"
        }
        self.register = {i: i for i in range(self.n_inputs)}
        for position, result in enumerate(self.results):
            self.register.setdefault(self.n_inputs + result, self.n_inputs + position)
        self.first_temp = self.n_inputs + len(self.results)
        self.n_temps = 0
        self.free: list[int] = []
        self.instrs: list[int] = []
        self.imms: list[float] = []

    def code(self) -> dict[str, Any]:
        last: dict[int, int] = {}
        for at, instruction in enumerate(self.instructions):
            last.update(dict.fromkeys(instruction.operands, at))
        last.update(dict.fromkeys(self.summed, len(self.instructions)))
        for at, instruction in enumerate(self.instructions):
            self._instruction(
                self.n_inputs + at, instruction, [i for i in instruction.operands if last[i] == at]
            )
        outputs = [self.n_inputs + result for result in self.results]
        types = [self.types.get(i, 0) for i in (*range(self.n_inputs), *outputs)]
        code: dict[str, Any] = {
            "instrs": tuple(self.instrs),
            "imms": tuple(self.imms),
            "types": tuple(types),
            "n_temps": self.n_temps,
        }
        if self.summed:
            code["sums"] = tuple(self.register[i] for i in self.summed)
        return code

    def _instruction(self, value: int, instruction: TileInstruction, done: Sequence[int]) -> None:
        if instruction.op.tile == CONVERT:
            self._convert(value, instruction.operands[0])
            self._release(done)
            return
        opcode = str(instruction.op.tile)
        kind = self._type_of(opcode, instruction.operands)
        operands, copies = [], []
        for i in instruction.operands:
            found = self.types.setdefault(i, kind)
            if found == kind:
                operands.append(self.register[i])
            else:
                copies.append(self._take())
                self._emit(_CONVERSIONS[kind], found, copies[-1], [self.register[i]])
                operands.append(copies[-1])
        self.free += copies
        self._release(done)
        target = self._place(value)
        self.types[value] = kind
        imm = instruction.op.tile_imm(dict(instruction.attrs)) if instruction.op.tile_imm else ()
        self._emit(opcode, kind, target, operands, imm)
        if opcode in _WIDENING and instruction.dtype in _WRAPS:
            self._emit(_WRAPS[instruction.dtype], kind, target, [target])

    def _type_of(self, opcode: str, operands: Sequence[int]) -> int:
        """The type of operands that are not bool; of bools that of the first that has one."""
        for i in operands:
            if self.dtypes[i] != "bool":
                return _TYPES[self.dtypes[i]]
        letters = _types_of_opcodes().get(opcode, "F")
        known = [self.types[i] for i in operands if i in self.types]
        usable = [kind for kind in known if _LETTERS[kind] in letters]
        return usable[0] if usable else _LETTERS.index(letters[0])

    def _convert(self, value: int, source: int) -> None:
        dtype, before = self.dtypes[value], self.dtypes[source]
        target = self._place(value)  # never the source's: their elements may differ in size
        if dtype == "bool":
            kind = self.types.setdefault(source, 0)
            self.types[value] = kind
            self._emit("truth", kind, target, [self.register[source]])
            return
        kind = self.types[value] = _TYPES[dtype]
        found = self.types.setdefault(source, kind)
        opcode = "copy" if found == kind else _CONVERSIONS[kind]
        self._emit(opcode, found, target, [self.register[source]])
        if dtype in ("int8", "uint8") and before != "bool":
            narrow = "clamp" if before.startswith("float") else "wrap"
            self._emit(f"{narrow}_{dtype}", _INT32, target, [target])

    def _place(self, value: int) -> int:
        if value not in self.register:
            self.register[value] = self._take()
        return self.register[value]

    def _take(self) -> int:
        if self.free:
            return self.free.pop()
        self.n_temps += 1
        return self.first_temp + self.n_temps - 1

    def _release(self, values: Sequence[int]) -> None:
        for i in dict.fromkeys(values):
            if self.register[i] >= self.first_temp:
                self.free.append(self.register[i])

    def _emit(
        self,
        opcode: str,
        kind: int,
        target: int,
        operands: Sequence[int],
        imm: Sequence[float] = (),
    ) -> None:
        sources = [*operands, 0, 0, 0][:3]
        self.instrs += [self.opcodes[opcode], kind, target, *sources]
        self.imms += [*imm, 0.0, 0.0][:2]
