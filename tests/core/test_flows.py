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
        ([node("while", (0,), (1, 2, 3), n_carry=1), STEP, END], "another flow is open"),
        (
            [node("while", (0,), (1, 2, 3), n_carry=1), STEP, node("end_while", (4,), (5,))],
            "no test",
        ),
        ([node("while", (0,), (1, 2, 3, 5), n_carry=1)], "too many results"),
        ([BEGIN, STEP, node("end_switch", (), ())], "another flow is open"),
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


SWITCH = node("switch", (0,), (1,))
BRANCH = [node("branch", (), ()), node("view", (0,), (2,)), node("end_branch", (2,), ())]
CLOSE = node("end_switch", (0,), ())


@pytest.mark.parametrize(
    ("nodes", "text"),
    (
        ([SWITCH, CLOSE], "no branch"),
        ([SWITCH, *BRANCH[:2], CLOSE], "no branch was ended"),
        ([SWITCH, BRANCH[0], *BRANCH, CLOSE], "the one before has no end"),
        ([SWITCH, node("end_branch", (0,), ()), CLOSE], "other results"),
        ([SWITCH, *BRANCH[:2], node("end_branch", (), ()), CLOSE], "other results"),
        ([SWITCH, node("branch", (), (3,)), *BRANCH[1:], CLOSE], "has no results"),
        ([SWITCH, *BRANCH, node("end_switch", (0,), (3,))], "has no results"),
    ),
)
def test_descriptions_of_choices_are_checked(nodes, text):
    description = {
        "values": [(I32, ())] * 4,
        "inputs": [0],
        "constants": [],
        "variables": [],
        "outputs": [],
        "updates": [],
        "feeds": [],
    }
    _core.Program(nodes=[SWITCH, *BRANCH, CLOSE], **description).specialize([])
    with pytest.raises(ValueError, match=text):
        _core.Program(nodes=nodes, **description)


@pytest.mark.parametrize("length", ((), (2, 3), (-1,)))
def test_the_length_is_checked(length):
    begin = node("scan", (0,), (1, 2, 3), n_carry=1, n_xs=0, length=length)
    made = program([(2,)] * 6, [begin, STEP, END], inputs=[0], outputs=[5])
    with pytest.raises(ValueError, match="length must be one number"):
        made.specialize(1)


def rows_and_the_last(reverse):
    """A scan whose carry is its result, and the product of both, which could lie over the rows."""
    h0, x, h, xt, spare, ys, new, last, product, total = range(10)
    return program(
        [
            (ROWS, WIDTH),
            (STEPS, ROWS, WIDTH),
            *[(ROWS, WIDTH)] * 3,
            (STEPS, ROWS, WIDTH),
            *[(ROWS, WIDTH)] * 2,
            *[(STEPS, ROWS, WIDTH)] * 2,
        ],
        [
            node(
                "scan",
                (h0, x),
                (h, xt, spare, ys),
                n_carry=1,
                n_xs=1,
                rows=(0,),
                length=(STEPS,),
                reverse=reverse,
            ),
            tile("add", [h, xt], new),
            node("end_scan", (new, new), (last,)),
            tile("mul", [ys, last], product, alias=[(0, 0)]),
            tile("neg", [product], total),
        ],
        inputs=[h0, x],
        outputs=[total],
    )


@pytest.mark.parametrize("threads", (1, 2, 4))
@pytest.mark.parametrize("reverse", (False, True))
def test_rows_that_hold_the_carry_are_not_written_over(reverse, threads):
    h, x = random(ROWS, WIDTH), random(STEPS, ROWS, WIDTH, seed=1)
    ys, carry = np.empty_like(x), h
    for i in reversed(range(STEPS)) if reverse else range(STEPS):
        carry = ys[i] = carry + x[i]
    plan, before = rows_and_the_last(reverse).specialize(1), _core.num_threads()
    try:
        _core.set_num_threads(threads)
        for _ in range(20):
            assert equal([plan(h, x)], [-(ys * carry)])
    finally:
        _core.set_num_threads(before)


def test_profile_of_loops_without_steps():
    x = np.full(4, 3, np.float32)
    plan = doubling(0).specialize(1)
    assert len(plan.profile(x, repeats=1)) == len(plan.summary())
    assert equal([plan(x)], [x])


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
