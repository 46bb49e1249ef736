"""Small programs for the tests of the core, written by hand."""

import numpy as np

from handmill import _core
from handmill.ir.shapes import DTYPES

F32, U8, I32, I64, BOOL = (
    DTYPES.index(name) for name in ("float32", "uint8", "int32", "int64", "bool")
)
PUSH, SYMBOL, ADD, MULTIPLY, FLOOR_DIVIDE = range(5)
OPS = _core.tile_opcodes()


def tile(op, inputs, output, imm=(), alias=(), scope=""):
    """An elementwise node of one instruction."""
    operands = [*range(len(inputs)), 0, 0, 0][:3]
    attrs = {
        "instrs": (OPS[op], 0, len(inputs), *operands),
        "types": (0,) * (len(inputs) + 1),
        "imms": (*imm, 0.0, 0.0)[:2],
        "n_temps": 0,
    }
    return ("tile", tuple(inputs), (output,), attrs, tuple(alias), scope, None)


def node(kernel, inputs, outputs, alias=(), **attrs):
    return (kernel, tuple(inputs), tuple(outputs), attrs, tuple(alias), "", None)


def host(function, inputs, outputs, **attrs):
    def run(arrays, sizes):
        return function(arrays)

    return ("host", tuple(inputs), tuple(outputs), attrs, (), "", function and run)


def program(
    values, nodes=(), inputs=(), outputs=(), variables=(), updates=(), constants=(), feeds=()
):
    """A program with its states; `values` are shapes of float32, or (dtype code, shape).

    In shapes, -c stands for c times the batch size.
    """
    full = [v if v and isinstance(v[-1], tuple) else (F32, v) for v in values]
    times = sorted({-d for _, shape in full for d in shape if d < 0})
    full = [(t, tuple(-1 - times.index(-d) if d < 0 else d for d in s)) for t, s in full]
    made = _core.Program(
        values=full,
        inputs=list(inputs),
        constants=list(constants),
        variables=[value for value, _ in variables],
        nodes=list(nodes),
        outputs=list(outputs),
        updates=list(updates),
        feeds=list(feeds),
        symbols=1,
        expressions=[(SYMBOL, 0, PUSH, c, MULTIPLY) for c in times],
    )
    return BoundProgram(made, _core.Binding([state for _, state in variables]))


class BoundProgram:
    """A program and the states behind its variables."""

    def __init__(self, program, binding):
        self.program, self.binding = program, binding

    def specialize(self, batch, **how):
        return self.program.specialize([batch], **how).bind(self.binding)


def state(array, dtype=F32):
    array = np.asarray(array)
    made = _core.State(array.shape, dtype)
    made.write(array)
    return made


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Training:
    """A step of a small network: products, a reduction, updates in place; many barriers."""

    def __init__(self, batch=96, width=160):
        w1, w2 = random(width, width), random(width, 32, seed=1)
        self.states = [state(w1 * np.float32(0.1)), state(w2 * np.float32(0.1))]
        self.x = random(batch, width, seed=2)
        self.initial = [s.copy() for s in self.states]
        turned = {"transpose_a": True}
        self.program = program(
            [
                (width, width),
                (width, 32),
                (-1, width),
                (-1, width),
                (-1, 32),
                (-1, 32),
                (width, 32),
                (-1, width),
                (width, width),
                (width, width),
                (width, 32),
                (32,),
                (width, width),
                (width, 32),
            ],
            [
                node("matmul", (2, 0), (3,), activation="tanh"),
                node("matmul", (3, 1), (4,)),
                tile("neg", [4], 5, alias=[(0, 0)]),
                node("matmul", (3, 5), (6,), **turned),
                node("matmul", (5, 1, 3), (7,), transpose_b=True, act_grad="tanh"),
                node("matmul", (2, 7), (8,), **turned),
                tile("clip", [8], 12, imm=(-1e-3, 1e-3)),
                tile("clip", [6], 13, imm=(-1e-3, 1e-3)),
                tile("sub", [0, 12], 9, alias=[(0, 0)]),
                tile("sub", [1, 13], 10, alias=[(0, 0)]),
                node("reduce", (5,), (11,), kind="sum", axis=(0,)),
            ],
            inputs=[2],
            outputs=[11],
            variables=[(0, self.states[0]), (1, self.states[1])],
            updates=[(0, 9), (1, 10)],
            feeds=[2],
        )
        self.plan = self.program.specialize(batch)

    def run(self, steps=20):
        """The bits after some steps from the same start."""
        for s, array in zip(self.states, self.initial, strict=True):
            s.write(array)
        for _ in range(steps):
            y = self.plan(self.x)
        return [y, *(s.copy() for s in self.states)]


def equal(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
