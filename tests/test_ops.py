"""Every operator on every sample at every level: generated from the registry.

An operator that joins the registry is tested without an edit here. No test defines a reference
of its own: the record owns it.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager

import numpy as np
import pytest

import handmill.ops  # registers the operators
from handmill import config
from handmill.errors import ShapeError
from handmill.inspection.comparison import compare_function, worst_error
from handmill.ir.dims import Assumptions, Symbol, pop_assumptions, push_assumptions, symbol
from handmill.ir.gradient import gradients
from handmill.ir.graph import Graph, current_graph
from handmill.ir.interpret import interpret
from handmill.ir.op import REGISTRY
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.runtime.function import TracedFunction
from levels import levels
from test_registry import PLAIN_SAMPLES, WITHOUT_KERNEL

try:
    from handmill import _core
except ImportError:  # a build without kernels
    _core = None

OPS = sorted(REGISTRY.values(), key=lambda op: op.name)
BENCHES = [(op, sample) for op in OPS for sample in op.samples() if sample.bench]
# As many elements as make every number of whole vectors, halves and thirds of them, give or
# take one.
SIZES = sorted(
    {0, 1}
    | {m * 2**i + d for i in range(9) for m in (1, 2, 3) for d in (-1, 0, 1)} & set(range(301))
)


def ids(cases):
    return [f"{op.name}-{sample.name}" for op, sample in cases]


def rng_of(op, sample):
    return np.random.default_rng(zlib.crc32(f"{op.name} {sample.name}".encode()))


def inputs_of(op, sample):
    return sample.make(rng_of(op, sample))


def specs_of(arrays):
    return [Spec(a.shape, a.dtype.name) for a in arrays]


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


@pytest.fixture(params=levels())
def level(request):
    """A level of kernels; bounds are promises of kernels, not of the references in float32."""
    if _core is None:
        pytest.skip("a build without kernels")
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def cases_of(op):
    return [sample for sample in op.samples() if not sample.bench]


def smooth_cases_of(op):
    return [sample for sample in cases_of(op) if sample.smooth and op.vjp is not None]


SMOOTH = [op for op in OPS if smooth_cases_of(op)]


# One test an operator, not one a sample: a sample takes less time than pytest around it.
@contextmanager
def told(sample):
    """Names the sample where a test fails in it: pytest shows what a test printed that failed."""
    try:
        yield
    except BaseException:
        print(f"in sample {sample.name}")
        raise


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_shape_rule_equals_reference(op):
    for sample in cases_of(op):
        inputs, attrs = inputs_of(op, sample), dict(sample.attrs)
        specs = as_tuple(op.infer(*specs_of(inputs), **attrs))
        with np.errstate(all="ignore"):
            results = as_tuple(op.reference(*inputs, **attrs))
        found = [Spec(np.shape(r), np.asarray(r).dtype.name) for r in results]
        assert found == list(specs), sample.name


def symbolic_places(specs):
    """Axes to make one symbol: each by itself, and all of one size together."""
    axes = [(i, a) for i, s in enumerate(specs) for a in range(s.rank) if s.shape[a] > 1]
    yield from ([place] for place in axes)
    for size in {specs[i].shape[a] for i, a in axes}:
        yield [(i, a) for i, a in axes if specs[i].shape[a] == size]


def with_sizes(specs, places, size):
    return [
        Spec(tuple(size if (i, a) in places else d for a, d in enumerate(s.shape)), s.dtype)
        for i, s in enumerate(specs)
    ]


@pytest.mark.parametrize("name", ("B", "T"))
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_shape_rule_with_symbols(op, name):
    """A rule refuses a symbol, or gives for it what it gives for any size that fits."""
    for sample in cases_of(op):
        with told(sample):
            rule_keeps_symbols(op, sample, name)


def rule_keeps_symbols(op, sample, name):
    specs = specs_of(inputs_of(op, sample))
    atom = Symbol(name)
    for places in symbolic_places(specs):
        before = specs[places[0][0]].shape[places[0][1]]
        assumed = Assumptions()
        push_assumptions(assumed)
        try:
            found = as_tuple(op.infer(*with_sizes(specs, places, symbol(name)), **sample.attrs))
        except ShapeError:
            continue
        finally:
            pop_assumptions()
        symbolic = [spec.with_dims(assumed.solved) for spec in found]
        assert assumed.solved.get(atom, before) == before
        for size in (before, before + 1, 2 * before):
            if assumed.solved.get(atom, size) != size or assumed.violated({atom: size}):
                assert size != before
                continue
            concrete = as_tuple(op.infer(*with_sizes(specs, places, size), **sample.attrs))
            assert [s.at({atom: size}) for s in symbolic] == list(concrete)


@pytest.mark.every_sample
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_forward(op, level):
    for sample in cases_of(op):
        with told(sample):
            forward(op, sample, level)


def forward(op, sample, level):
    inputs, attrs = inputs_of(op, sample), dict(sample.attrs)
    got = apply(op, *inputs, **attrs)
    wanted = as_tuple(op.infer(*specs_of(inputs), **attrs))
    assert [Spec(g.shape, g.dtype.name) for g in as_tuple(got)] == list(wanted)
    assert worst_error(op, inputs, attrs, got) <= 1.0
    # A host node would compare the reference with itself.
    function = TracedFunction(lambda *values: apply(op, *values, **attrs), op.name, batched=False)
    steps = function.plan(*inputs).summary()
    on_host = op.name in WITHOUT_KERNEL or sample.name in PLAIN_SAMPLES
    assert any(step["host"] for step in steps) == on_host, steps
    assert all(step["isa"] in (level, "host") for step in steps)


ELEMENTWISE = [op for op in OPS if op.elementwise]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_sizes(op, level):
    """Whole vectors and tails, at addresses that are not those of vectors."""
    usable = (s for s in op.samples() if not s.bench)
    sample = max(usable, key=lambda s: min(a.size for a in inputs_of(op, s)))
    flat = [a.ravel() for a in inputs_of(op, sample)]
    attrs = dict(sample.attrs)
    function = TracedFunction(lambda *values: apply(op, *values, **attrs), op.name)
    for size in SIZES:
        start = size % 2
        inputs = [a[start : start + size] for a in flat]
        assert worst_error(op, inputs, attrs, function(*inputs)) <= 1.0, size


def loss_of(op, values, weights, attrs):
    """Sums every float output, times weights."""
    outputs = [y for y in as_tuple(apply(op, *values, **attrs)) if y.spec.is_float]
    terms = [handmill.ops.sum(y * w) for y, w in zip(outputs, weights, strict=True)]
    return sum(terms[1:], terms[0])


def moving(op, inputs):
    """Positions of the inputs that receive gradients."""
    return [i for i, x in enumerate(inputs) if x.dtype.kind == "f" and i not in op.grad_none]


def weights_for(op, inputs, attrs, rng):
    specs = as_tuple(op.infer(*specs_of(inputs), **attrs))
    return [np.asarray(rng.normal(size=s.shape), s.dtype) for s in specs if s.is_float]


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_gradient_against_differences(op):
    """Reference and vjp in float64 along one random direction, against central differences."""
    for sample in smooth_cases_of(op):
        with told(sample):
            gradient_against_differences(op, sample)


def gradient_against_differences(op, sample):
    rng, attrs = rng_of(op, sample), dict(sample.attrs)
    inputs = sample.make(rng)
    weights = weights_for(op, inputs, attrs, rng)
    wrt = moving(op, inputs)
    graph = Graph()
    with graph:
        values = [graph.input(s, f"x{i}") for i, s in enumerate(specs_of(inputs))]
        factors = [graph.input(s, f"w{i}") for i, s in enumerate(specs_of(weights))]
        loss = loss_of(op, values, factors, attrs)
        found = gradients(graph, loss, [values[i] for i in wrt])
        graph.outputs = [loss, *(g for g in found if g is not None)]
    wrt = [i for i, g in zip(wrt, found, strict=True) if g is not None]
    directions = {i: rng.choice((-1.0, 1.0), inputs[i].shape) for i in wrt}

    def run(step):
        moved = [
            x.astype(np.float64) + step * directions[i] if i in directions else x
            for i, x in enumerate(inputs)
        ]
        return interpret(graph, [*moved, *weights], dtype="float64").outputs

    step = 1e-5
    difference = (float(run(step)[0]) - float(run(-step)[0])) / (2 * step)
    slopes = [np.sum(g * directions[i]) for i, g in zip(wrt, run(0.0)[1:], strict=True)]
    size = sum(float(np.sum(np.abs(g))) for g in run(0.0)[1:])
    assert abs(difference - sum(slopes)) <= 1e-6 * size + 1e-9


FLAT = {"sign", "stop_gradient", "floor_divide"}
"""Operators without any gradient between their kinks."""


@pytest.mark.slow
@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_second_gradient_against_differences(op):
    """The gradient of a weighted sum of gradients, against central differences of that sum.

    There are no exceptions: the vjp of every operator with smooth samples is made of operators
    that have a vjp themselves.
    """
    for sample in smooth_cases_of(op):
        with told(sample):
            second_gradient_against_differences(op, sample)


def second_gradient_against_differences(op, sample):
    rng, attrs = rng_of(op, sample), dict(sample.attrs)
    inputs = sample.make(rng)
    weights = weights_for(op, inputs, attrs, rng)
    wrt = moving(op, inputs)
    factors_of_second = [rng.normal(size=inputs[i].shape) for i in wrt]
    graph = Graph()
    with graph:
        values = [graph.input(s, f"x{i}") for i, s in enumerate(specs_of(inputs))]
        factors = [graph.input(s, f"w{i}") for i, s in enumerate(specs_of(weights))]
        seconds = [graph.input(values[i].spec, f"s{i}") for i in wrt]
        loss = loss_of(op, values, factors, attrs)
        first = gradients(graph, loss, [values[i] for i in wrt])
        terms = [
            handmill.ops.sum(g * s) for g, s in zip(first, seconds, strict=True) if g is not None
        ]
        if not terms:
            assert op.name in FLAT
            return
        total = sum(terms[1:], terms[0])
        found = gradients(graph, total, [values[i] for i in wrt])
        graph.outputs = [total, *(g for g in found if g is not None)]
    moved = [i for i, g in zip(wrt, found, strict=True) if g is not None]
    directions = {i: rng.choice((-1.0, 1.0), inputs[i].shape) for i in wrt}

    def run(step):
        shifted = [
            x.astype(np.float64) + step * directions[i] if i in directions else x
            for i, x in enumerate(inputs)
        ]
        arrays = [*shifted, *weights, *factors_of_second]
        return interpret(graph, arrays, dtype="float64").outputs

    step = 1e-5
    difference = (float(run(step)[0]) - float(run(-step)[0])) / (2 * step)
    slopes = [np.sum(g * directions[i]) for i, g in zip(moved, run(0.0)[1:], strict=True)]
    size = abs(float(run(0.0)[0])) + sum(float(np.sum(np.abs(g))) for g in run(0.0)[1:])
    assert abs(difference - sum(slopes)) <= 1e-6 * size + 1e-9


@pytest.mark.every_sample
@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_gradient_by_kernels(op, level):
    """Each operator that the vjp emits, run by kernels, within the bound of that operator."""
    for sample in smooth_cases_of(op):
        with told(sample):
            gradient_by_kernels(op, sample, level)


def gradient_by_kernels(op, sample, level):
    rng, attrs = rng_of(op, sample), dict(sample.attrs)
    inputs = sample.make(rng)
    weights = weights_for(op, inputs, attrs, rng)

    def run(*values):
        x, w = values[: len(inputs)], values[len(inputs) :]
        loss = loss_of(op, x, w, attrs)
        wrt = [x[i] for i in moving(op, inputs)]
        found = gradients(current_graph(), loss, wrt)
        return tuple(g for g in found if g is not None) or (loss,)

    function = TracedFunction(run, op.name, batched=False)
    compare_function(function, [*inputs, *weights]).raise_if_failed()


COMPOSED = [op for op in OPS if op.composite is not None]


@pytest.mark.parametrize("op", COMPOSED, ids=lambda op: op.name)
def test_composite_means_the_same(op):
    for sample in cases_of(op):
        with told(sample):
            composite_means_the_same(op, sample)


# Samples of these hold what the forward operator gave, in float32; the composite makes it anew.
KEPT_ROUNDED = {"attention_grad"}


def composite_means_the_same(op, sample):
    inputs = inputs_of(op, sample)
    graph = Graph()
    with graph:
        values = [graph.input(s, f"x{i}") for i, s in enumerate(specs_of(inputs))]
        graph.outputs = list(as_tuple(op.composite(*values, **sample.attrs)))
    found = interpret(graph, inputs, dtype="float64").outputs
    wide = [x.astype(np.float64) for x in inputs]
    wanted = as_tuple(op.reference(*wide, **sample.attrs))
    for got, want in zip(found, wanted, strict=True):
        tolerance = 2e-6 if op.name in KEPT_ROUNDED else 1e-12
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def largest_sample(op):
    return max(op.samples(), key=lambda s: sum(a.size for a in inputs_of(op, s)))


def longer(op, sample):
    """The inputs of a sample, repeated along their rows until threads share them, where they may.

    A bench sample is as long as it has to be.
    """
    inputs = inputs_of(op, sample)
    rows = next((a.shape[0] for a in inputs if a.shape), 0)
    if sample.bench or not rows:
        return inputs
    times = -(-200_000 // max(a.size for a in inputs))
    repeated = tuple(
        np.concatenate([a] * times) if a.shape and a.shape[0] == rows else a for a in inputs
    )
    try:
        op.infer(*specs_of(repeated), **sample.attrs)
    except ShapeError:  # attributes that say the size
        return inputs
    return repeated


# Every operator with a kernel, those without a bench sample too.
ON_THREADS = [(op, sample) for op, sample in BENCHES if op.name not in WITHOUT_KERNEL] + [
    (op, largest_sample(op))
    for op in OPS
    if op.name not in WITHOUT_KERNEL and not any(s.bench for s in op.samples())
]


@pytest.mark.skipif(_core is None, reason="a build without kernels")
@pytest.mark.parametrize(("op", "sample"), ON_THREADS, ids=ids(ON_THREADS))
def test_bits_do_not_depend_on_threads(op, sample):
    inputs, attrs = longer(op, sample), dict(sample.attrs)
    before = config.num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            config.set_num_threads(threads)
            found = as_tuple(apply(op, *inputs, **attrs))
            results.append([np.asarray(y).tobytes() for y in found])
    finally:
        config.set_num_threads(before)
    assert all(r == results[0] for r in results[1:])


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (
            lambda ops, ones: ops.matmul(ones((2, 3)), ones((4, 5))),
            r"matmul: inner dimensions differ: a has K=3, b has K=4",
        ),
        (lambda ops, ones: ops.add(ones(3), ones(4)), r"add: shapes \(3,\) and \(4,\) do not"),
        (lambda ops, ones: ops.reshape(ones((2, 3)), (4, -1)), r"reshape: 6 elements cannot"),
        (lambda ops, ones: ops.sum(ones(3), axis=1), r"reduce_sum: axis 1 is out of bounds"),
        (lambda ops, ones: ops.concatenate([ones((2, 3)), ones((2, 4))]), "only axis 0 may"),
        (lambda ops, ones: ops.squeeze(ones((2, 3)), 0), r"squeeze: axis 0 of shape \(2, 3\)"),
        (lambda ops, ones: ops.transpose(ones((2, 3)), (0, 0)), r"each of 2 axes once"),
        (lambda ops, ones: ops.broadcast_to(ones((2, 3)), (3, 3)), r"broadcast_to: cannot"),
        (lambda ops, ones: ops.argmax(ones((2, 0)), axis=1), "argmax: no elements along axis 1"),
        (
            lambda ops, ones: ops.categorical_crossentropy(ones((2,)), ones((2, 3))),
            "for integer labels use the sparse function",
        ),
    ),
)
def test_messages(call, message):
    with pytest.raises(ShapeError, match=message):
        call(handmill.ops, handmill.ops.ones)


def test_labels_that_are_no_classes():
    with pytest.raises(ValueError, match=r"label 3 is not an integer from 0 to 2 .*row 1"):
        handmill.ops.sparse_categorical_crossentropy([0, 3], np.eye(3, dtype="float32")[:2])
