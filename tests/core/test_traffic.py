"""What plans say of their steps: bytes and operations, exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

_core = pytest.importorskip("handmill._core", reason="a build without kernels")

import handmill.ops  # noqa: E402, F401  (fills the registry)
from handmill.ir import trace  # noqa: E402
from handmill.ir.op import REGISTRY  # noqa: E402
from handmill.runtime.function import TracedFunction  # noqa: E402

# Operators that need only a part of an operand.
# rms_norm_grad: without rows one launch is left, which writes zeros.
# What is transparent gives its first operands; the others are for gradients.
READS_LESS = {"slice", "size_along", "rms_norm_grad"} | {
    n for n, op in REGISTRY.items() if n.startswith("rows_") or op.transparent
}
# Operations for each element of a parameter; see the formulas in
# csrc/kernels/optimizer/optimizer.cpp. A multiply-add is two.
UPDATE_FLOPS = {
    "sgd_update": 2,
    "momentum_update": 4,
    "adam_update": 12,
    "rmsprop_update": 9,
    "adagrad_update": 7,
}


def plan_of(op, sample):
    arrays = [np.require(a, requirements="CA") for a in sample.make(np.random.default_rng(0))]
    function = TracedFunction(
        lambda *values: trace.apply(op, *values, **sample.attrs), op.name, batched=False
    )
    results = function(*arrays)
    return function.plan(*arrays), arrays, results if isinstance(results, tuple) else (results,)


def native_samples(op):
    for sample in op.samples():
        if sample.bench:
            continue
        plan, arrays, results = plan_of(op, sample)
        steps = plan.summary()
        if not any(s["host"] for s in steps):
            yield sample, steps, arrays, results


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_operator_reads_its_operands_and_writes_its_results_once(name):
    for sample, steps, arrays, results in native_samples(REGISTRY[name]):
        operands, written = sum(a.nbytes for a in arrays), sum(r.nbytes for r in results)
        assert all(s["bytes"] == s["bytes_read"] + s["bytes_written"] for s in steps)
        if REGISTRY[name].guard:  # a view of the operand, and what the guard found
            assert steps[0]["bytes_read"] == operands, sample.name
            continue
        if len(steps) != 1:  # none: nothing to do; several: they also pass on partial results
            moved = sum(s["bytes_written"] * s["times"] for s in steps)
            assert not steps or moved >= written, sample.name
            continue
        (step,) = steps
        assert step["bytes_written"] == written, sample.name
        if name == "take":  # no more than the rows it takes, nor than there are
            indices = arrays[1].nbytes
            assert step["bytes_read"] == min(written, arrays[0].nbytes) + indices, sample.name
        elif name in READS_LESS:
            assert step["bytes_read"] <= operands, sample.name
        else:
            assert step["bytes_read"] == operands, sample.name


def test_an_operand_given_twice_is_read_once():
    square = TracedFunction(lambda x: x * x, "square", batched=False)
    x = np.ones((64, 64), np.float32)
    (step,) = square.plan(x).summary()
    assert (step["bytes_read"], step["bytes_written"]) == (x.nbytes, x.nbytes)


def test_an_update_happens_in_place():
    from handmill import ops
    from handmill.runtime.variable import Variable

    p = Variable(np.ones((50, 3), np.float32))
    function = TracedFunction(
        lambda g: (p.assign(ops.subtract(p.value, g)), ())[1], "update", batched=False
    )
    g = np.ones((50, 3), np.float32)
    (step,) = function.plan(g).summary()
    assert step["bytes_in_place"] == g.nbytes
    assert (step["bytes_read"], step["bytes_written"]) == (2 * g.nbytes, g.nbytes)


@pytest.mark.parametrize("name", sorted(UPDATE_FLOPS))
def test_operations_of_updates(name):
    for sample, steps, arrays, _ in native_samples(REGISTRY[name]):
        each = UPDATE_FLOPS[name]
        each += 2 if sample.attrs.get("nesterov") else 0
        penalty = sample.attrs.get("penalty", False)
        each += 2 if penalty else 0
        each += 2 if name == "adam_update" and len(arrays) == 6 + penalty else 0  # weight decay
        assert sum(s["flops"] for s in steps) == each * arrays[0].size, sample.name


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize(
    ("a", "b"), (((3, 4), (4, 5)), ((200, 3000), (3000, 40)), ((2, 7, 6, 5), (2, 7, 5, 9)))
)
def test_operations_of_a_product(a, b, isa):
    from handmill import ops

    arrays = [np.ones(a, np.float32), np.ones(b, np.float32)]
    function = TracedFunction(ops.matmul, "matmul", batched=False)
    before = _core.isa()
    _core.set_isa(isa)
    try:
        steps = function.plan(*arrays).summary()
    finally:
        _core.set_isa(before)
    products = math.prod(a) * b[-1]
    assert sum(s["flops"] for s in steps if s["kernel"] == "matmul") == 2 * products
    (product,) = (s for s in steps if s["kernel"] == "matmul")
    assert product["bytes_read"] >= arrays[0].nbytes
    combined = [s for s in steps if s["kernel"] == "matmul_combine"]
    for step in combined:  # the sum of K's slices, whose number the partial results tell
        result = 4 * math.prod(a[:-1]) * b[-1]
        slices = round(product["bytes_written"] / result)
        assert step["flops"] == (slices - 1) * result / 4
        assert step["bytes_written"] == result


@pytest.mark.parametrize("name", ("reduce_sum", "reduce_max"))
def test_operations_of_a_reduction(name):
    for sample, steps, arrays, _ in native_samples(REGISTRY[name]):
        if len(steps) == 1:
            assert steps[0]["flops"] == arrays[0].size, sample.name
