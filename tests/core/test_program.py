"""Programs written by hand: results, updates, views, guards, host nodes, checks."""

import numpy as np
import pytest
from core_programs import (
    ADD,
    F32,
    FLOOR_DIVIDE,
    I32,
    I64,
    MULTIPLY,
    PUSH,
    SYMBOL,
    U8,
    host,
    node,
    program,
    random,
    state,
    tile,
)

from handmill import _core
from handmill.ir.shapes import DTYPES
from handmill.runtime.variable import ArrayState

# --- Results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("batch", (0, 1, 5, 300))
def test_dense(isa, batch):
    w, b, x = random(20, 30), random(30, seed=1), random(batch, 20, seed=2)
    made = program(
        [(-1, 20), (20, 30), (30,), (-1, 30)],
        [node("matmul", (0, 1, 2), (3,), has_bias=True, activation="relu")],
        inputs=[0],
        outputs=[3],
        variables=[(1, state(w)), (2, state(b))],
    )
    y = made.specialize(batch, isa=isa)(x)
    assert y.shape == (batch, 30)
    assert y.flags.c_contiguous
    np.testing.assert_allclose(y, np.maximum(x @ w + b, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("a", "b"),
    (
        ((3, 7, 5), (5, 6)),
        ((3, 7, 5), (3, 5, 6)),
        ((2, 1, 7, 5), (3, 5, 6)),
        ((2, 3, 1, 4, 7, 5), (1, 3, 2, 4, 5, 6)),
        ((1, 2, 1, 2, 1, 3, 5), (2, 1, 3, 1, 2, 5, 2)),
        ((7, 5), (2, 3, 5, 6)),
        ((0, 7, 5), (0, 5, 6)),
        ((3, 0, 7, 5), (5, 6)),
        ((7, 0), (0, 6)),
    ),
)
@pytest.mark.parametrize("turned", ("nn", "tn", "nt", "tt"))
def test_matmul_of_stacks(a, b, turned):
    x, y = random(*a), random(*b, seed=1)
    want = x @ y
    if turned[0] == "t":
        x = np.ascontiguousarray(np.swapaxes(x, -1, -2))
    if turned[1] == "t":
        y = np.ascontiguousarray(np.swapaxes(y, -1, -2))
    flags = {"transpose_a": turned[0] == "t", "transpose_b": turned[1] == "t"}
    made = program(
        [x.shape, y.shape, want.shape],
        [node("matmul", (0, 1), (2,), **flags)],
        inputs=[0, 1],
        outputs=[2],
    )
    np.testing.assert_allclose(made.specialize(1)(x, y), want, rtol=1e-4, atol=1e-5)


def test_matmul_epilogue_operands_come_in_order():
    shapes = {"x": (9, 4), "w": (4, 6), "bias": (6,), "residual": (9, 6), "y": (9, 6)}
    x, w, bias, residual, y = (random(*s, seed=i) for i, s in enumerate(shapes.values()))
    attrs = {"has_bias": True, "residual": True, "act_grad": "tanh"}
    made = program(
        [*shapes.values(), (9, 6)],
        [node("matmul", range(5), (5,), **attrs)],
        inputs=range(5),
        outputs=[5],
    )
    got = made.specialize(1)(x, w, bias, residual, y)
    np.testing.assert_allclose(got, (x @ w + bias + residual) * (1 - y * y), rtol=1e-4, atol=1e-5)


def test_no_outputs_and_several_outputs():
    assert program([(2,)], inputs=[0]).specialize(1)(np.ones(2, np.float32)) == ()
    made = program([(2,), (2,)], [tile("neg", [0], 1)], inputs=[0], outputs=[1, 0, 1])
    x = random(2)
    got = made.specialize(1)(x)
    assert isinstance(got, tuple)
    for array, want in zip(got, (-x, x, -x), strict=True):
        np.testing.assert_array_equal(array, want)
        assert not np.shares_memory(array, x)
    assert not np.shares_memory(got[0], got[2])


def test_scalars():
    made = program([(), ()], [tile("neg", [0], 1)], inputs=[0], outputs=[1])
    y = made.specialize(1)(np.asarray(2.0, np.float32))
    assert y.shape == ()
    assert y == -2


def test_outputs_that_nothing_computes():
    made = program(
        [(3,), (3,), (3,)],
        inputs=[0],
        outputs=[0, 1, 2],
        constants=[(1, np.full(3, 2, np.float32))],
        variables=[(2, state(np.full(3, 5.0)))],
    )
    for array, want in zip(made.specialize(1)(np.ones(3, np.float32)), (1, 2, 5), strict=True):
        np.testing.assert_array_equal(array, np.full(3, want))


def test_views_share_memory_through_chains():
    made = program(
        [(-1, 6), (-2, 3), (-6,), (-3, 2), (-3, 2), (-1, 6)],
        [
            node("view", (0,), (1,)),
            node("view", (1,), (2,)),
            node("view", (2,), (3,)),
            tile("neg", [3], 4),
            node("view", (4,), (5,)),
        ],
        inputs=[0],
        outputs=[5, 3],
    )
    plan = made.specialize(4)
    x = random(4, 6)
    y, view = plan(x)
    np.testing.assert_array_equal(y, -x)
    np.testing.assert_array_equal(view, x.reshape(12, 2))
    # The negation goes to the output itself; only the view of the input is copied.
    assert [row["kernel"] for row in plan.summary()] == ["tile_program", "copy"]


# --- Updates -------------------------------------------------------------------------------------


def sgd(w, x, *, in_place):
    """w := w - x; the output is the sum of the old and the new w."""
    nodes = [
        tile("sub", [0, 1], 2, alias=[(0, 0)] if in_place else []),
        tile("add", [2, 2], 3) if in_place else tile("add", [0, 2], 3),
    ]
    return program(
        [w.shape, x.shape, w.shape, w.shape],
        nodes,
        inputs=[1],
        outputs=[3],
        variables=[(0, w)],
        updates=[(0, 2)],
    )


@pytest.mark.parametrize("in_place", (True, False))
def test_update(in_place):
    old, x = random(1000), random(1000, seed=1)
    w = state(old)
    version = w.version
    plan = sgd(w, x, in_place=in_place).specialize(1)
    y = plan(x)
    np.testing.assert_allclose(w.copy(), old - x, rtol=1e-6)
    want = 2 * w.copy() if in_place else old + w.copy()
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)
    assert w.version == version + 1
    assert ("copy" in [row["kernel"] for row in plan.summary()]) == (not in_place)


def test_a_late_reader_of_the_old_value_forbids_writing_in_place():
    old = random(10)
    w = state(old)
    made = program(
        [(10,), (10,), (10,)],
        [tile("neg", [0], 1, alias=[(0, 0)]), tile("square", [0], 2)],
        outputs=[2],
        variables=[(0, w)],
        updates=[(0, 1)],
    )
    np.testing.assert_array_equal(made.specialize(1)(), old * old)
    np.testing.assert_array_equal(w.copy(), -old)


def test_variables_can_change_places():
    a, b, c = (state(np.full(4, v)) for v in (1.0, 2.0, 3.0))
    made = program(
        [(4,)] * 3,
        variables=[(0, a), (1, b), (2, c)],
        updates=[(0, 1), (1, 2), (2, 0)],
        outputs=[0, 1],
    )
    y, z = made.specialize(1)()
    assert (y[0], z[0]) == (1, 2)
    assert [s.copy()[0] for s in (a, b, c)] == [2, 3, 1]


def test_one_value_for_two_variables_and_an_output():
    a, b = state(np.zeros(4)), state(np.zeros(4))
    made = program(
        [(4,), (4,), (4,), (4,)],
        [tile("neg", [2], 3)],
        inputs=[2],
        outputs=[3],
        variables=[(0, a), (1, b)],
        updates=[(0, 3), (1, 3)],
    )
    x = random(4)
    y = made.specialize(1)(x)
    for array in (y, a.copy(), b.copy()):
        np.testing.assert_array_equal(array, -x)


def test_updates_from_input_and_constant():
    a, b = state(np.zeros(4)), state(np.zeros(4))
    made = program(
        [(4,)] * 4,
        inputs=[2],
        constants=[(3, np.full(4, 7, np.float32))],
        variables=[(0, a), (1, b)],
        updates=[(0, 2), (1, 3)],
    )
    x = random(4)
    assert made.specialize(1)(x) == ()
    np.testing.assert_array_equal(a.copy(), x)
    np.testing.assert_array_equal(b.copy(), np.full(4, 7))


def test_an_input_that_is_the_variable_itself():
    w = state(np.arange(4.0))
    made = program(
        [(4,), (4,), (4,), (4,)],
        [tile("neg", [0], 2, alias=[(0, 0)]), tile("copy", [1], 3)],
        inputs=[1],
        outputs=[3],
        variables=[(0, w)],
        updates=[(0, 2)],
    )
    np.testing.assert_array_equal(made.specialize(1)(w.view()), np.arange(4.0))
    np.testing.assert_array_equal(w.copy(), -np.arange(4.0))


# --- States --------------------------------------------------------------------------------------


def test_state():
    s = _core.State((2, 3), F32)
    np.testing.assert_array_equal(s.copy(), np.zeros((2, 3)))
    assert (s.nbytes, s.version, s.shape, s.dtype) == (24, 0, (2, 3), F32)
    s.write(np.arange(6).reshape(2, 3))  # converts
    assert s.version == 1
    view, copy = s.view(), s.copy()
    assert not view.flags.writeable
    assert view.ctypes.data % 64 == 0
    s.write(np.ones((3, 2), np.float32).T)
    np.testing.assert_array_equal(view, np.ones((2, 3)))
    np.testing.assert_array_equal(copy, np.arange(6).reshape(2, 3))
    s.bump()
    assert s.version == 3
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got shape \(6,\)"):
        s.write(np.zeros(6))
    del s
    np.testing.assert_array_equal(view, np.ones((2, 3)))
    with pytest.raises(ValueError, match="no dtype with code 9"):
        _core.State((2,), 9)
    with pytest.raises(ValueError, match="negative"):
        _core.State((-2,), F32)
    with pytest.raises(ValueError, match="too large"):
        _core.State((2**40, 2**40), F32)
    with pytest.raises(MemoryError):
        _core.State((2**50,), F32)
    assert _core.State((0, 2**60), F32).nbytes == 0
    with pytest.raises(ValueError, match="too large"):  # as NumPy
        _core.State((0, 2**62), F32)


@pytest.mark.parametrize("kind", (_core.State, ArrayState))
@pytest.mark.parametrize("dtype", ("float32", "float64", "int32", "int64", "uint8", "bool"))
def test_the_number_of_a_state_and_zero(kind, dtype):
    s = kind((), DTYPES.index(dtype))
    assert (s.item(), s.version) == (0, 0)
    s.write(np.asarray(0.1, "float32").astype(dtype) if dtype == "float32" else np.asarray(1))
    number = s.item()
    assert type(number) is type(s.copy().item())
    assert number == s.copy().item() != 0
    before = s.version
    s.zero()
    assert (s.item(), s.version) == (0, before + 1)
    several = kind((2, 3), DTYPES.index(dtype))
    several.write(np.ones((2, 3)))
    several.zero()
    assert not several.copy().any()
    with pytest.raises(ValueError, match=r"item\(\) is for|size 1"):
        several.item()


def test_packed_weights_are_made_again_after_a_write():
    w, x = random(256, 256), random(128, 256, seed=1)
    weights = state(w)
    made = program(
        [(-1, 256), (256, 256), (-1, 256)],
        [node("matmul", (0, 1), (2,))],
        inputs=[0],
        outputs=[2],
        variables=[(1, weights)],
    )
    plan = made.specialize(128)
    assert any(row["cached"] for row in plan.summary())
    for scale in (1.0, 2.0, 2.0, -1.0):
        weights.write(w * np.float32(scale))
        for _ in range(2):
            np.testing.assert_allclose(plan(x), x @ w * scale, rtol=1e-3, atol=1e-3)


# --- Host nodes ----------------------------------------------------------------------------------


def test_host_nodes_run_among_kernels():
    def sort(arrays):
        assert not arrays[0].flags.writeable
        return np.sort(arrays[0]), np.argsort(arrays[0])

    made = program(
        [(-1,), (-1,), (-1,), (I64, (-1,)), (-1,)],
        [tile("neg", [0], 1), host(sort, (1,), (2, 3)), tile("add", [2, 2], 4)],
        inputs=[0],
        outputs=[4, 3],
    )
    plan = made.specialize(100)
    x = random(100)
    y, order = plan(x)
    np.testing.assert_array_equal(y, 2 * np.sort(-x))
    np.testing.assert_array_equal(order, np.argsort(-x))
    assert [row["host"] for row in plan.summary()] == [False, True, False]


@pytest.mark.parametrize(
    ("result", "error"),
    (
        (lambda arrays: (np.zeros(3),), ValueError),
        (lambda arrays: (), ValueError),
        (lambda arrays: 5, TypeError),
        (lambda arrays: ("text",), ValueError),
        (lambda arrays: 1 / 0, ZeroDivisionError),
    ),
)
def test_a_failing_host_node_leaves_variables_as_they_were(result, error):
    w = state(np.ones(4))
    made = program(
        [(4,), (4,), (4,)],
        [tile("neg", [0], 1, alias=[(0, 0)]), host(result, (1,), (2,))],
        outputs=[2],
        variables=[(0, w)],
        updates=[(0, 1)],
    )
    plan = made.specialize(1)
    for _ in range(2):
        with pytest.raises(error):
            plan()
        np.testing.assert_array_equal(w.copy(), np.ones(4))
        assert w.version == 1


# --- Guards --------------------------------------------------------------------------------------


def guarded(w):
    """w := -w if all labels are below 3."""
    return program(
        [(4,), (I32, (-1,)), (I32, (-1,)), (4,)],
        [
            node("check_labels", (1,), (2,), num_classes=3, guard=True),
            tile("neg", [0], 3, alias=[(0, 0)]),
        ],
        inputs=[1],
        outputs=[2],
        variables=[(0, w)],
        updates=[(0, 3)],
        feeds=[1],
    )


def test_a_guard_refuses_before_anything_is_written():
    w = state(np.ones(4))
    plan = guarded(w).specialize(5)
    with pytest.raises(_core.GuardFailed) as caught:
        plan(np.array([0, 1, 2, 7, 9], np.int32))
    assert caught.value.args == (0, 3, 7.0)
    assert isinstance(caught.value, ValueError)
    np.testing.assert_array_equal(w.copy(), np.ones(4))
    assert w.version == 1
    plan(np.array([0, 1, 2, 2, 2], np.int32))
    np.testing.assert_array_equal(w.copy(), -np.ones(4))
    guarded(w).specialize(0)(np.zeros(0, np.int32))


def test_writes_before_a_guard_are_put_off():
    w = state(np.ones(4))
    made = program(
        [(4,), (I32, (2,)), (I32, (2,)), (4,)],
        [
            tile("neg", [0], 3, alias=[(0, 0)]),
            node("check_labels", (1,), (2,), num_classes=3, guard=True),
        ],
        inputs=[1],
        variables=[(0, w)],
        updates=[(0, 3)],
    )
    plan = made.specialize(1)
    with pytest.raises(_core.GuardFailed):
        plan(np.array([0, -1], np.int32))
    np.testing.assert_array_equal(w.copy(), np.ones(4))
    plan(np.array([0, 1], np.int32))
    np.testing.assert_array_equal(w.copy(), -np.ones(4))


# --- All values ----------------------------------------------------------------------------------


def test_values_of_every_node_without_updates():
    old, x = random(10), random(10, seed=1)
    w = state(old)
    made = program(
        [(10,), (10,), (10,), (10,)],
        [tile("add", [0, 1], 2, alias=[(0, 0)]), tile("neg", [2], 3, alias=[(0, 0)])],
        inputs=[1],
        outputs=[3],
        variables=[(0, w)],
        updates=[(0, 2)],
    )
    plan = made.specialize(1, keep_all=True)
    values = plan.values(x)
    assert sorted(values) == [0, 1, 2, 3]
    for got, want in zip((values[i] for i in range(4)), (old, x, old + x, -(old + x)), strict=True):
        np.testing.assert_array_equal(got, want)
    assert w.version == 1
    np.testing.assert_array_equal(plan(x), -(old + x))
    np.testing.assert_array_equal(w.copy(), old + x)
    with pytest.raises(ValueError, match="keep_all"):
        made.specialize(1).values(x)


def test_summary_and_profile():
    made = program([(64, 64)] * 3, [node("matmul", (0, 1), (2,))], inputs=[0, 1], outputs=[2])
    plan = made.specialize(1)
    (row,) = plan.summary()
    assert row["kernel"] == "matmul"
    assert row["isa"] == _core.isa()
    assert row["flops"] == 2 * 64**3
    x = random(64, 64)
    (seconds,) = plan.profile(x, x, repeats=3)
    assert 0 < seconds < 1
    assert (plan.sizes, plan.arena_bytes, plan.lower_bound_bytes) == ((1,), 0, 0)
    assert plan.nbytes > 0


# --- Checks --------------------------------------------------------------------------------------


def test_inputs_are_checked():
    plan = program([(-1, 3), (I32, (-1,))], inputs=[0, 1]).specialize(4)
    x, i = np.zeros((4, 3), np.float32), np.zeros(4, np.int32)
    assert plan(x, i) == ()
    odd = np.zeros(4 * 3 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(4, 3)
    for bad in (
        (x,),
        (x, i, i),
        (x.tolist(), i),
        (x.astype(np.float64), i),
        (x.astype(">f4"), i),
        (np.asfortranarray(random(4, 3)), i),
        (x[::-1], i),
        (odd, i),
        (x, i.astype(np.int64)),
        (x, None),
    ):
        with pytest.raises(TypeError):
            plan(*bad)
    with pytest.raises(TypeError, match="keywords"):
        plan(x, i, training=True)
    for bad in ((x[:3], i), (x.reshape(3, 4), i), (x, i[:3]), (x.reshape(-1), i)):
        with pytest.raises(ValueError, match="must have shape"):
            plan(*bad)
    plan(x.view(np.ndarray), np.zeros(4, np.dtype("l" if np.dtype("l").itemsize == 4 else "i")))


GOOD = {
    "values": [(F32, (2,)), (F32, (2,))],
    "inputs": [0],
    "constants": [],
    "variables": [],
    "nodes": [tile("neg", [0], 1)],
    "outputs": [1],
    "updates": [],
    "feeds": [],
}


@pytest.mark.parametrize(
    ("changes", "error"),
    (
        ({"values": [(99, (2,)), (F32, (2,))]}, ValueError),
        ({"inputs": [5]}, ValueError),
        ({"inputs": [0, 0]}, ValueError),
        ({"inputs": []}, ValueError),
        ({"outputs": [2]}, ValueError),
        ({"outputs": [-1]}, ValueError),
        ({"nodes": []}, ValueError),
        ({"nodes": [tile("neg", [0], 0)]}, ValueError),
        ({"nodes": [tile("neg", [1], 1)]}, ValueError),
        ({"nodes": [node("no_such_kernel", (0,), (1,))]}, ValueError),
        ({"nodes": [tile("neg", [0], 1, alias=[(0, 1)])]}, ValueError),
        ({"nodes": [host(None, (0,), (1,))]}, ValueError),
        ({"nodes": [("tile",)]}, TypeError),
        ({"constants": [(0, np.zeros(2, np.float32))]}, ValueError),
        ({"inputs": [], "constants": [(0, np.zeros(3, np.float32))]}, ValueError),
        ({"inputs": [], "constants": [(0, np.zeros(2))]}, ValueError),
        ({"updates": [(0, 1)]}, ValueError),
        ({"feeds": [1]}, ValueError),
        (
            {"inputs": [], "variables": [0], "updates": [(0, 1), (0, 1)]},
            ValueError,
        ),
        (
            {
                "inputs": [],
                "values": [(F32, (-2,)), (F32, (2,))],
                "variables": [0],
            },
            ValueError,
        ),
        ({"values": [(F32, (-1,)), (F32, (2,))]}, ValueError),
        ({"symbols": -1}, ValueError),
        *(
            ({"symbols": 1, "expressions": [code]}, ValueError)
            for code in (
                (),
                (ADD,),
                (9,),
                (PUSH,),
                (SYMBOL, 1),
                (PUSH, 1, PUSH, 2),
                (PUSH, 1, PUSH, 0, FLOOR_DIVIDE),
                (PUSH, 1, SYMBOL, 0, FLOOR_DIVIDE),
            )
        ),
    ),
)
def test_descriptions_are_checked(changes, error):
    _core.Program(**GOOD)
    with pytest.raises(error):
        _core.Program(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("bad", "text"),
    (
        (node("tile", (0,), (1,)), 'attribute "instrs" must be a tuple of integers, it is missing'),
        (node("matmul", (0, 0), (1,)), "two dimensions"),
        (node("softmax", (), (1,)), "there is no operand 0"),
        (node("view", (0,), (1,), guard=True), "guard"),
        (node("tile", (0,), (1,), instrs="x", imms=(), n_temps=0), "has another type"),
    ),
)
def test_lowering_rules_check_their_node(bad, text):
    made = _core.Program(**{**GOOD, "nodes": [bad]})
    with pytest.raises(ValueError, match=text):
        made.specialize([])


def test_dimensions_are_expressions():
    codes = [
        (SYMBOL, 0, SYMBOL, 1, MULTIPLY),
        (SYMBOL, 1, PUSH, -3, ADD, PUSH, 2, FLOOR_DIVIDE, PUSH, 2, ADD),
    ]
    values = [(F32, (-1,)), (F32, (-1,)), (F32, (-2,)), (F32, (-2,))]
    made = _core.Program(
        **{
            **GOOD,
            "values": values,
            "inputs": [0, 2],
            "outputs": [1, 3],
            "nodes": [tile("neg", [0], 1), tile("neg", [2], 3)],
            "symbols": 2,
            "expressions": codes,
        }
    )
    for b, t in ((3, 8), (1, 0), (0, 2), (5, 1)):
        plan = made.specialize([b, t])
        assert plan.sizes == (b, t)
        x, y = random(b * t), random((t - 3) // 2 + 2)
        for got, want in zip(plan.bind()(x, y), (-x, -y), strict=True):
            assert got.tobytes() == want.tobytes()
    for sizes in ([1], [1, 2, 3], [-1, 2], [2**40, 2**40]):
        with pytest.raises(ValueError, match="size"):
            made.specialize(sizes)
    negative = _core.Program(
        **{**GOOD, "values": values[2:], "symbols": 2, "expressions": [codes[0], (PUSH, -1)]}
    )
    with pytest.raises(ValueError, match="negative"):
        negative.specialize([1, 1])


def test_batch_sizes_are_checked():
    made = program([(-1, 2**40), (-1, 2**40)], [tile("neg", [0], 1)], inputs=[0], outputs=[1])
    with pytest.raises(ValueError, match="negative"):
        made.specialize(-1)
    with pytest.raises(ValueError, match="too large"):
        made.specialize(2**40)


def test_memory_that_is_not_there_is_a_memory_error():
    made = program(
        [(1,), (2**46,), (2**46,)],
        [tile("neg", [0], 1), tile("neg", [1], 2)],
        inputs=[0],
    )
    plan = made.specialize(1)
    with pytest.raises(MemoryError):
        plan(np.ones(1, np.float32))


@pytest.mark.parametrize("name", ("float32", "float64", "int8", "uint8", "int32", "int64", "bool"))
def test_every_dtype_passes_through(name):
    from handmill.ir.shapes import DTYPES

    x = (np.arange(6) % 3).astype(name)
    plan = program([(DTYPES.index(name), (-1,))], inputs=[0], outputs=[0]).specialize(6)
    y = plan(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)


def test_bfloat16_passes_through():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.arange(6).astype(ml_dtypes.bfloat16)
    plan = program([(2, (-1,))], inputs=[0], outputs=[0]).specialize(6)
    y = plan(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)
    with pytest.raises(TypeError, match="bfloat16"):
        plan(x.astype(np.float32))


def test_unknown_codes_do_not_crash():
    assert U8 == 4
    with pytest.raises(TypeError):
        _core.Plan()
