"""Reductions of every dtype at every level against NumPy; integers and booleans exactly."""

import numpy as np
import pytest

from handmill import _core, ops
from handmill.primitives import metrics
from handmill.runtime.function import Feed, TracedFunction
from handmill.runtime.variable import Variable

SHAPES = [((1,), 0), ((17,), 0), ((70000,), 0), ((5, 7001), 1), ((7001, 5), 0), ((4, 3, 50, 7), 2)]
SHAPES += [((3, 40, 5, 6), (0, 2)), ((33, 129), (0, 1)), ((2500, 130), 0), ((6, 1, 4), 1)]


@pytest.fixture(params=_core.available_isas())
def level(request):
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def draw(rng, shape, dtype):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype == "float64":
        return rng.normal(size=shape)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def kernels(function, *arrays):
    return {row["kernel"] for row in function.plan(*arrays).summary()}


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ("bool", "int8", "uint8", "int32", "int64", "float64"))
def test_reductions(dtype, shape, axis, level):
    x = draw(np.random.default_rng(0), shape, dtype)
    wide = "int32" if dtype in ("bool", "int8", "uint8") else dtype  # of sums and products
    wanted = {
        "sum": np.sum(x, axis=axis, dtype=wide),
        "prod": np.prod(x, axis=axis, dtype=wide),
        "max": np.max(x, axis=axis),
        "min": np.min(x, axis=axis),
        "any": np.any(x, axis=axis),
        "all": np.all(x, axis=axis),
        "count_nonzero": np.count_nonzero(x, axis=axis).astype("int32")
        if isinstance(axis, int)
        else np.sum(x != 0, axis=axis, dtype="int32"),
    }
    if isinstance(axis, int):
        wanted |= {
            name: getattr(np, name)(x, axis).astype("int32") for name in ("argmax", "argmin")
        }
    for name, want in wanted.items():
        function = TracedFunction(lambda v, n=name: getattr(ops, n)(v, axis=axis), batched=False)
        got = function(x)
        assert "host" not in kernels(function, x), name
        assert got.dtype == want.dtype, name
        if name == "sum" and dtype == "float64":
            assert np.allclose(got, want, rtol=0, atol=1e-15 * np.abs(x).sum())
        elif name == "prod" and dtype == "float64":
            assert np.allclose(got, want, rtol=1e-11, atol=0)
        else:
            assert np.array_equal(got, want), name


@pytest.mark.parametrize("dtype", ("bool", "int8", "int32", "int64", "float64"))
def test_reductions_of_nothing(dtype):
    x = np.zeros((3, 0), dtype)
    assert np.array_equal(ops.sum(x, axis=1), [0, 0, 0])
    assert np.array_equal(ops.prod(x, axis=1), [1, 1, 1])
    assert np.array_equal(ops.any(x, axis=1), [False] * 3)
    assert np.array_equal(ops.all(x, axis=1), [True] * 3)
    assert ops.sum(x).dtype == ("int32" if dtype in ("bool", "int8") else dtype)
    for function in (ops.max, ops.min, ops.argmax):
        with pytest.raises(ValueError, match="no elements"):
            function(x, axis=1)


def test_extremes_with_an_initial_value():
    x = np.array([[3, 9], [5, 1]], "int32")
    assert np.array_equal(ops.max(x, axis=1, initial=4), [9, 5])
    assert np.array_equal(ops.max(np.zeros((2, 0), "int32"), axis=1, initial=4), [4, 4])
    assert np.array_equal(ops.min(np.zeros((0,), "float32"), initial=-1.5), -1.5)


def test_nan_counts_as_an_extreme(level):
    x = np.array([[1.0, np.nan, 9.0], [4.0, 9.0, 2.0]])
    assert np.array_equal(ops.max(x, axis=1), [np.nan, 9.0], equal_nan=True)
    assert np.array_equal(ops.min(x, axis=0), [1.0, np.nan, 2.0], equal_nan=True)
    assert np.array_equal(ops.argmax(x, axis=1), [1, 1])
    assert np.array_equal(ops.argmin(x, axis=0), [0, 0, 1])


@pytest.mark.parametrize("threads", (1, 2))
def test_batches_beside_host_nodes_are_gathered_on_all_threads(threads):
    """A step without a kernel does not change what is gathered."""
    from handmill import config

    x = np.arange(4096.0 * 33, dtype="float32").reshape(4096, 33)
    total = Variable(np.zeros((33,), "float64"))

    def step(rows):
        ordered = ops.sort(rows, axis=0)  # on the host
        total.assign(total + ops.sum(ops.cast(ordered, "float64"), axis=0))

    order = np.random.default_rng(0).permutation(4096)
    before = config.num_threads()
    config.set_num_threads(threads)
    try:
        feed = Feed([x], order)
        function = TracedFunction(lambda rows: (step(rows), rows)[1])
        done = 0
        while done < 4:
            done += function.run_fed(feed, 1024, 4 - done, 1.0)
    finally:
        config.set_num_threads(before)
    assert np.array_equal(total.read(), x.astype("float64").sum(axis=0))


def test_place_of_the_largest_number_in_rows_of_all_widths(level):
    """The first one, or the first NaN, wherever it lies in a vector; also as metrics count it."""
    rng = np.random.default_rng(3)
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], "float32")
    for width in (*range(1, 40), 63, 64, 65, 127, 130):
        x = rng.integers(-3, 3, (24, width)).astype("float32")  # ties are many
        x[12:] = np.where(rng.random((12, width)) < 0.2, rng.choice(odd, (12, width)), x[12:])
        x[22:] = -np.inf
        largest = np.argmax(x, axis=1)
        assert np.array_equal(ops.argmax(x, axis=1), largest), width
        assert np.array_equal(ops.argmin(x, axis=1), np.argmin(x, axis=1)), width
        labels = np.where(rng.random(24) < 0.5, largest, rng.integers(0, width, 24))
        hits = (labels == largest).astype("float32")
        assert np.array_equal(metrics.sparse_match(labels, x), hits), width
        other = x[rng.permutation(24)]
        hits = (np.argmax(other, axis=1) == largest).astype("float32")
        assert np.array_equal(metrics.dense_match(other, x), hits), width
