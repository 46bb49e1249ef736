"""Loops and choices in programs written by hand: results, memory, threads, checks."""

import numpy as np
import pytest
from core_programs import BOOL, F32, I32, equal, node, program, random, tile

from handmill import _core

# h' = tanh(h W + x), and h' as a row of the result; the carry after the last step.
ROWS, WIDTH, STEPS = 96, 160, 7


def recurrent(reverse=False, length=STEPS):
    h0, x, w, h, xt, spare, ys, product, z, new, last = range(11)
    return program(
        [
            (ROWS, WIDTH),
            (length, ROWS, WIDTH),
            (WIDTH, WIDTH),
            *[(ROWS, WIDTH)] * 3,
            (length, ROWS, WIDTH),
            *[(ROWS, WIDTH)] * 4,
        ],
        [
            node(
                "scan",
                (h0, x),
                (h, xt, spare, ys),
                n_carry=1,
                n_xs=1,
                rows=(0,),
                length=(length,),
                reverse=reverse,
            ),
            node("matmul", (h, w), (product,)),
            tile("add", [product, xt], z),
            tile("tanh", [z], new),
            node("end_scan", (new, new, w), (last,)),
        ],
        inputs=[h0, x, w],
        outputs=[last, ys],
    )


def given():
    return random(ROWS, WIDTH), random(STEPS, ROWS, WIDTH, seed=1), random(WIDTH, WIDTH, seed=2) / 8


def by_numpy(h, x, w, reverse=False):
    ys = np.empty_like(x)
    for i in reversed(range(len(x))) if reverse else range(len(x)):
        h = ys[i] = np.tanh(h @ w + x[i])
    return h, ys


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("reverse", (False, True))
def test_a_scan(isa, reverse):
    plan = recurrent(reverse).specialize(1, isa=isa)
    for got, wanted in zip(plan(*given()), by_numpy(*given(), reverse), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_no_step_gives_the_carry_back():
    h, x, w = given()
    last, ys = recurrent(length=0).specialize(1)(h, x[:0], w)
    assert equal([last], [h])
    assert ys.shape == (0, ROWS, WIDTH)


@pytest.mark.skipif(not _core.openmp, reason="this build has no threads")
def test_the_number_of_threads_changes_no_bit():
    before = _core.num_threads()
    plan = recurrent().specialize(1)
    assert any(row["blocks"] > 1 and row["times"] == STEPS for row in plan.summary())
    try:
        results = []
        for threads in (1, 2, 3, 5):
            _core.set_num_threads(threads)
            results += [plan(*given()) for _ in range(3)]
    finally:
        _core.set_num_threads(before)
    assert all(equal(results[0], other) for other in results[1:])


def test_profile_takes_each_launch_once():
    plan = recurrent().specialize(1)
    summary, times = plan.summary(), plan.profile(*given(), repeats=2)
    assert len(summary) == len(times)
    inside = [t for row, t in zip(summary, times, strict=True) if row["times"] == STEPS]
    assert all(t > 0 for t in inside)
    assert len(inside) >= 3
    empty = recurrent(length=0).specialize(1)
    h, x, w = given()
    times = empty.profile(h, x[:0], w, repeats=1)
    assert [row["times"] for row in empty.summary() if row["kernel"] == "tile_program"] == [
        0.0,
        0.0,
    ]
    assert len(times) == len(empty.summary())


def test_carries_change_places():
    a, b, x, y, a2, b2, a3, b3, new_a, new_b, a4, b4 = range(12)
    made = program(
        [(5,)] * 12,
        [
            node("scan", (a, b), (x, y, a2, b2, a3, b3), n_carry=2, n_xs=0, length=(3,)),
            node("view", (y,), (new_a,)),
            node("view", (x,), (new_b,)),
            node("end_scan", (new_a, new_b), (a4, b4)),
        ],
        inputs=[a, b],
        outputs=[a4, b4],
    )
    one, two = random(5), random(5, seed=1)
    assert equal(made.specialize(1)(one, two), (two, one))


def doubling(most=None):
    """while x[0] < 100: x = x + x."""
    x, now, spare, other, bound, row, test, twice, after, first = range(10)
    limit = {} if most is None else {"maximum_iterations": most}
    return program(
        [(F32, (4,))] * 4
        + [(F32, ()), (F32, (1,)), (BOOL, ()), (F32, (4,)), (F32, (4,)), (F32, ())],
        [
            node("while", (x,), (now, spare, other), n_carry=1, **limit),
            node("slice", (now,), (row,), start=(0,), stop=(1,), step=(1,)),
            node("view", (row,), (first,)),
            tile("less", [first, bound], test),
            node("test_while", (test,), ()),
            tile("add", [now, now], twice),
            node("end_while", (twice, bound), (after,)),
        ],
        inputs=[x],
        constants=[(bound, np.float32(100))],
        outputs=[after],
    )


@pytest.mark.parametrize(
    ("start", "most", "wanted"), ((3, None, 192), (128, None, 128), (3, 2, 12))
)
def test_a_while_loop(start, most, wanted):
    plan = doubling(most).specialize(1)
    x = np.full(4, start, np.float32)
    for _ in range(3):
        assert equal([plan(x)], [np.full(4, wanted, np.float32)])


def chosen():
    i, x, y, minus, same = range(5)
    return program(
        [(I32, ()), (F32, (300,)), (F32, (300,)), (F32, (300,)), (F32, (300,))],
        [
            node("switch", (i,), (y,)),
            node("branch", (), ()),
            tile("neg", [x], minus),
            node("end_branch", (minus,), ()),
            node("branch", (), ()),
            node("view", (x,), (same,)),
            node("end_branch", (same,), ()),
            node("end_switch", (x,), ()),
        ],
        inputs=[i, x],
        outputs=[y],
    )


def test_a_choice():
    plan = chosen().specialize(1)
    x = random(300)
    for index, wanted in ((0, -x), (1, x), (-5, -x), (7, x)):
        assert equal([plan(np.array(index, np.int32), x)], [wanted])


SCAN = {"n_carry": 1, "n_xs": 0, "length": (2,)}
BEGIN = node("scan", (0,), (1, 2, 3), **SCAN)
STEP, END = tile("neg", [1], 4), node("end_scan", (4,), (5,))


@pytest.mark.parametrize(
    ("nodes", "text"),
    (
        ([BEGIN, STEP], "has no end"),
        ([node("end_scan", (), ())], "no loop or choice around"),
        ([node("branch", (), ())], "no loop or choice around"),
        ([BEGIN, node("branch", (), ()), STEP, END], "not in a switch"),
        ([BEGIN, node("test_while", (0,), ()), STEP, END], "one bool decides"),
        ([node("scan", (0,), (1, 2, 3), n_carry=2, n_xs=0, length=(2,))], "number of operands"),
        ([node("scan", (0,), (1, 2, 3), n_carry=-1, n_xs=0, length=(2,))], "must be a number"),
        ([node("scan", (0,), (1, 2, 3), n_xs=0, length=(2,))], "must be a number"),
        ([node("scan", (0,), (1,), **SCAN)], "a buffer is missing"),
        ([node("scan", (0,), (1, 2, 3), rows=(4,), **SCAN)], "no such row"),
        ([BEGIN, STEP, node("end_scan", (), (5,))], "number of operands"),
        ([BEGIN, node("end_scan", (0,), (5,))], "not computed in the body"),
        ([BEGIN, node("end_scan", (1,), (5,))], "not computed in the body"),
        ([node("switch", (0,), (1,))], "one int32 decides"),
        ([node("while", (0,), (1, 2, 3), n_carry=1), STEP, END], "no test"),
    ),
)
def test_descriptions_are_checked(nodes, text):
    description = {
        "values": [(F32, (2,))] * 6,
        "inputs": [0],
        "constants": [],
        "variables": [],
        "outputs": [],
        "updates": [],
        "feeds": [],
    }
    _core.Program(nodes=[BEGIN, STEP, END], **description).specialize([])
    with pytest.raises(ValueError, match=text):
        _core.Program(nodes=nodes, **description)


def test_lengths_are_checked():
    made = recurrent()
    h, x, w = given()
    with pytest.raises(ValueError, match="must have shape"):
        made.specialize(1)(h, x[:3], w)


def test_depth_is_bounded():
    nodes = [node("switch", (0,), ())] * 9
    with pytest.raises(ValueError, match="too deep"):
        _core.Program(
            values=[(I32, ())],
            inputs=[0],
            constants=[],
            variables=[],
            outputs=[],
            updates=[],
            feeds=[],
            nodes=nodes,
        )
