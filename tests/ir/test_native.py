"""Whole programs: planned and run in C++ against interpreted in float64."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import WIDTH, random_graph

from handmill import config, ops
from handmill.errors import RowError
from handmill.inspection.comparison import ComparisonError, compare_function
from handmill.ir import trace
from handmill.ir.interpret import interpret
from handmill.ir.lower import describe
from handmill.ir.op import Op, Ulp
from handmill.ir.passes import PASSES, optimize
from handmill.ir.shapes import Spec
from handmill.primitives import loss
from handmill.runtime.feed import Feed
from handmill.runtime.function import TracedFunction, gradients
from handmill.runtime.variable import Variable

_core = pytest.importorskip("handmill._core", reason="a build without kernels")


def run_natively(graph, arrays):
    arguments, _ = describe(graph, _core.tile_opcodes(), feeds=False)
    binding = _core.Binding([v.state for v in graph.variables])
    return (
        _core.Program(**arguments)
        .specialize(graph.sizes_of(graph.bind([a.shape for a in arrays])))
        .bind(binding)(*arrays)
    )


def arrays_for(graph, seed, rows):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, WIDTH)).astype(np.float32) for _ in graph.inputs]


@pytest.mark.parametrize("rows", (1, 7))
@pytest.mark.parametrize(
    "without", (None, *(p.__name__ for p in PASSES if p.__name__ != "schedule"))
)
@pytest.mark.parametrize("seed", range(8))
def test_plan_equals_interpreter(seed, without, rows):
    graph, _ = random_graph(seed, nodes=40)
    arrays = arrays_for(graph, seed, rows)
    want = interpret(graph, arrays, dtype="float64")
    got = run_natively(optimize(graph, frozenset({without} - {None})), arrays)
    for a, b in zip(got, want.outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    for variable, new in want.updates.items():
        np.testing.assert_allclose(variable.numpy(), new, rtol=2e-5, atol=2e-5)


def test_swapped_variables():
    a = Variable(np.zeros(3, np.float32), name="a")
    b = Variable(np.ones(3, np.float32), name="b")

    def swap():
        old = a.value, b.value
        a.assign(old[1])
        b.assign(old[0])
        return ()

    TracedFunction(swap)()
    assert a.numpy().tolist() == [1, 1, 1]
    assert b.numpy().tolist() == [0, 0, 0]


def test_backends_give_the_same_and_share_state():
    total = Variable(np.zeros((), np.float32), name="total")

    def add(x):
        total.assign(total + ops.sum(x))
        return total.value * 2.0

    function = TracedFunction(add)
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert function(x) == 30.0
    with config.use_backend("numpy"):
        assert function(x) == 60.0
    assert function(x) == 90.0
    assert total.numpy() == 45.0


@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_a_refused_label_changes_nothing_and_is_named(backend):
    seen = Variable(np.zeros((), np.float32), name="seen")

    def count(labels):
        loss.check_labels(labels, 10)
        seen.assign(seen + 1.0)
        return ()

    labels = np.zeros(40, np.int64)
    labels[33] = 12
    order = np.arange(40)[::-1].copy()
    with config.use_backend(backend):
        function = TracedFunction(count)
        feed = Feed([labels], order)
        with pytest.raises(RowError, match=r"label 12 is not an integer from 0 to 9 .*row 33"):
            function.run_fed(feed, 4, 10)
        assert seen.numpy() == 1.0  # the first batch of four was sound
        with pytest.raises(RowError, match="row 33"):
            function(labels)
        assert seen.numpy() == 1.0


def test_converts_what_is_not_ready():
    double = TracedFunction(lambda x: ops.cast(x, "float32") * 2.0)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for given in (x.T, x[::-1], np.asfortranarray(x), x.astype(">f4"), x.astype(np.float16)):
        np.testing.assert_array_equal(double(given), np.asarray(given, np.float32) * 2)
    with pytest.raises(TypeError, match="expected numbers"):
        double(np.array([[object()]]))
    with pytest.raises(TypeError, match="expected numbers"):
        double(np.array(["a"]))


def test_compare_accepts_sound_kernels():
    weight = Variable(np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32), name="w")

    def step(x):
        loss = ops.mean(ops.square(ops.tanh(ops.matmul(x, weight))))
        (gradient,) = gradients(loss, [weight])
        weight.assign(weight - 0.1 * gradient)
        return loss

    before = weight.numpy()
    x = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    found = compare_function(TracedFunction(step), [x])
    found.raise_if_failed()
    assert found.ok
    assert 0.0 < found.worst.error <= 1.0
    assert {row.graph for row in found.rows} == {"unfused", "fused"}
    np.testing.assert_array_equal(weight.numpy(), before)


def test_compare_names_a_planted_wrong_kernel():
    wrong = Op(
        "almost_tanh",
        infer=lambda x: x,
        reference=np.sin,  # the kernel below computes tanh
        samples=lambda: (),
        bound=Ulp(4),
        tile="tanh",
    )
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)

    def step(x):
        return ops.exp(trace.apply(wrong, ops.square(x)) * 0.5)

    found = compare_function(TracedFunction(step), [x])
    assert not found.ok
    assert "almost_tanh" in found.worst.op
    unfused = [row for row in found.rows if row.graph == "unfused" and row.error > 1]
    assert [row.op for row in unfused] == ["almost_tanh"]
    with pytest.raises(ComparisonError, match="almost_tanh"):
        found.raise_if_failed()


def test_a_new_batch_size_is_not_a_new_trace():
    traces = []

    def fn(x):
        traces.append(x.spec)
        return ops.exp(x)

    function = TracedFunction(fn)
    for rows in (1, 5, 32, 5):
        assert function(np.zeros((rows, 3), np.float32)).shape == (rows, 3)
    assert len(traces) == 1
    function(np.zeros((4, 5), np.float32))
    assert len(traces) == 2
    assert traces[0] == Spec(traces[0].shape, "float32")


@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_results_come_as_an_array_or_a_tuple(backend):
    x = np.ones(3, np.float32)
    with config.use_backend(backend):
        assert isinstance(TracedFunction(lambda x: x + 1.0)(x), np.ndarray)
        assert isinstance(TracedFunction(lambda x: (x + 1.0,))(x), np.ndarray)
        assert isinstance(TracedFunction(lambda x: (x + 1.0, x))(x), tuple)
        assert TracedFunction(lambda x: ())(x) == ()
