"""Small programs for the tests of the core, written by hand."""

import numpy as np

from handmill import _core
from handmill.ir.shapes import DTYPES

F32, U8, I32, I64 = (DTYPES.index(name) for name in ("float32", "uint8", "int32", "int64"))
OPS = _core.tile_opcodes()


def tile(op, inputs, output, imm=(), alias=(), scope=""):
    """An elementwise node of one instruction."""
    operands = [*range(len(inputs)), 0, 0, 0][:3]
    attrs = {
        "instrs": (OPS[op], len(inputs), *operands),
        "imms": (*imm, 0.0, 0.0)[:2],
        "n_temps": 0,
    }
    return ("tile", tuple(inputs), (output,), attrs, tuple(alias), scope, None)


def node(kernel, inputs, outputs, alias=(), **attrs):
    return (kernel, tuple(inputs), tuple(outputs), attrs, tuple(alias), "", None)


def host(function, inputs, outputs, **attrs):
    return ("host", tuple(inputs), tuple(outputs), attrs, (), "", function)


def program(values, nodes=(), inputs=(), outputs=(), variables=(), updates=(), constants=(), feeds=()):
    """A program; `values` are shapes of float32, or (dtype code, shape)."""
    full = [v if v and isinstance(v[-1], tuple) else (F32, v) for v in values]
    return _core.Program(
        values=full,
        inputs=list(inputs),
        constants=list(constants),
        variables=list(variables),
        nodes=list(nodes),
        outputs=list(outputs),
        updates=list(updates),
        feeds=list(feeds),
    )


def state(array, dtype=F32):
    array = np.asarray(array)
    made = _core.State(array.shape, dtype)
    made.write(array)
    return made


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
