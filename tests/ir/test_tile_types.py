"""Tile programs in every type: random chains of elementwise operators against their references.

Integers and booleans must be the same; floats that are only added, multiplied, divided and compared
too, for IEEE 754 leaves no choice (and no operator of a chain may be joined with another).
"""

import numpy as np
import pytest

import handmill.ops  # noqa: F401  (registers the operators)
from handmill import _core
from handmill.ir.graph import Graph
from handmill.ir.interpret import interpret
from handmill.ir.op import REGISTRY
from handmill.ir.tile import TileInstruction, computes_in, tile_code
from handmill.runtime.function import TracedFunction

DTYPES = ("float32", "float64", "int8", "uint8", "int32", "int64", "bool")
SPECIAL = {
    "f": [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, -129.0, 300.5, 2.0**31, -(2.0**63)],
    "i": [0, -1, 1, 127, -128],
    "u": [0, 1, 255, 128, 127],
    "b": [True, False],
}
BOTH = ("add", "multiply", "maximum", "minimum")
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
ONE = ("absolute", "square", "sign", "negative")


def draw(rng, shape, dtype):
    kind = np.dtype(dtype).kind
    special = np.array(SPECIAL[kind]).astype(dtype)
    if kind in "iu":
        info = np.iinfo(dtype)
        special = np.append(special, [info.min, info.max]).astype(dtype)
        near = rng.integers(0 if kind == "u" else -9, 9, shape).astype(dtype)
    else:
        near = (rng.normal(size=shape) * 4).astype(dtype)
    return np.where(rng.random(shape) < 0.3, rng.choice(special, shape), near)


class Chain:
    """Operators, chosen once, that can be applied to values again."""

    def __init__(self, rng, dtypes, length):
        self.steps = []
        known = list(dtypes)  # the dtype of each value
        for _ in range(length):
            at = int(rng.integers(len(known)))
            same = [i for i, d in enumerate(known) if d == known[at]]
            other = int(rng.choice(same))
            bools = [i for i, d in enumerate(known) if d == "bool"]
            kind = rng.choice(["both", "compare", "one", "cast", "where", "logic"])
            result, attrs = known[at], {}
            if kind == "both":
                name, operands = str(rng.choice(BOTH)), (at, other)
            elif kind == "compare":
                name, operands, result = str(rng.choice(COMPARISONS)), (at, other), "bool"
            elif kind == "one" and known[at] != "bool":
                name, operands = str(rng.choice(ONE)), (at,)
            elif kind == "where" and bools:
                name, operands = "where", (int(rng.choice(bools)), at, other)
            elif kind == "logic" and bools:
                name, result = str(rng.choice(["logical_and", "logical_or"])), "bool"
                operands = (int(rng.choice(bools)), int(rng.choice(bools)))
            else:
                name, operands, result = "cast", (at,), str(rng.choice(DTYPES))
                attrs = {"dtype": result}
            self.steps.append((name, operands, attrs))
            known.append(result)
        self.results = sorted({*rng.integers(len(dtypes), len(known), 2), len(known) - 1})

    def __call__(self, *values):
        found = list(values)
        for name, operands, attrs in self.steps:
            emit = found[0].graph.emit
            found.append(emit(REGISTRY[name], [found[i] for i in operands], attrs))
        return tuple(found[i] for i in self.results)


@pytest.fixture(params=_core.available_isas())
def level(request):
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.mark.parametrize("seed", range(60))
def test_chains_of_all_types(seed, level):
    rng = np.random.default_rng(seed)
    shapes = [(3, 1, 700), (2, 1), (700,), (), (3, 2, 700)] if seed % 2 else [(37,), (1,), (37,)]
    dtypes = [str(rng.choice(DTYPES)) for _ in shapes]
    inputs = [draw(rng, s, d) for s, d in zip(shapes, dtypes, strict=True)]
    inputs = [np.asfortranarray(x) if rng.random() < 0.2 else x for x in inputs]
    chain = Chain(rng, dtypes, int(rng.integers(1, 30)))
    function = TracedFunction(chain, batched=False)
    got = function(*inputs)
    want = interpret(function.graph(*inputs), inputs).outputs
    plan = function.plan(*inputs)
    assert all(row["kernel"] != "host" for row in plan.summary())
    for g, w, i in zip(got if isinstance(got, tuple) else (got,), want, chain.results, strict=True):
        assert g.dtype == w.dtype
        assert np.array_equal(g, w, equal_nan=g.dtype.kind == "f"), (i, chain.steps)


def test_a_chain_of_integers_is_one_step():
    add, multiply, less = (REGISTRY[n] for n in ("add", "multiply", "less"))

    def chain(x, y):
        with_emit = x.graph.emit
        return with_emit(less, [with_emit(multiply, [with_emit(add, [x, y], {}), y], {}), x], {})

    x = np.arange(12, dtype="int64").reshape(3, 4)
    function = TracedFunction(chain, batched=False)
    assert np.array_equal(function(x, x), (x + x) * x < x)
    assert [row["kernel"] for row in function.plan(x, x).summary()] == ["tile_program"]


def test_types_of_opcodes():
    assert computes_in("add", ["int8", "int8"])
    assert computes_in("where", ["bool", "float64", "float64"])
    assert not computes_in("exp", ["float64"])
    assert not computes_in("add", ["int64", "int32"])
    assert not computes_in("add", ["bfloat16", "bfloat16"])


def test_unsound_types_are_refused():
    """The core trusts no description: a register is read in the type in which it was written."""
    step = TileInstruction(REGISTRY["add"], (0, 1), (), "int32")
    opcodes = _core.tile_opcodes()
    attrs = tile_code(["int32", "int32"], (step,), (0,), opcodes)
    assert attrs["types"] == (2, 2, 2)

    def specialize(**changed):
        with Graph():
            program = _core.Program(
                values=[(5, (4,))] * 3,
                inputs=[0, 1],
                constants=[],
                variables=[],
                nodes=[("tile", (0, 1), (2,), {**attrs, **changed}, (), "", None)],
                outputs=[2],
                updates=[],
                feeds=[],
            )
        return program.specialize([])

    specialize()
    with pytest.raises(ValueError, match="cannot have the type 3"):
        specialize(types=(3, 3, 3), instrs=(opcodes["add"], 3, *attrs["instrs"][2:]))
    with pytest.raises(ValueError, match="of another type"):
        specialize(instrs=(opcodes["add"], 3, *attrs["instrs"][2:]))
    with pytest.raises(ValueError, match="does not compute in type 2"):
        specialize(instrs=(opcodes["exp"], *attrs["instrs"][1:]))
    with pytest.raises(ValueError, match=r"unknown type|does not compute in type 9"):
        specialize(instrs=(opcodes["add"], 9, *attrs["instrs"][2:]))
    with pytest.raises(ValueError, match="has 2 types"):
        specialize(types=(2, 2))
