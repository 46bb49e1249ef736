"""Products of 8-bit integers: the same bits at every level, for any threads and neighbours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from core_programs import node, program

import handmill
from handmill import _core
from handmill.primitives.int8 import INT8_PRODUCT, PLAIN, quantized_rows
from handmill.quantizers import pack_int4
from handmill.runtime.plans import PLANS
from levels import levels

INT8 = 3  # the code of the dtype
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _restore():
    before = _core.isa(), _core.num_threads()
    yield
    _core.set_isa(before[0])
    _core.set_num_threads(before[1])
    _core.set_int8_dot(True)


def product(x, kernel, factors, bias, **attrs):
    """By the kernel, of a plan made now."""
    made = program(
        [x.shape, (INT8, kernel.shape), factors.shape, bias.shape, (len(x), bias.size)],
        [node("int8_product", (0, 1, 2, 3), (4,), **{**PLAIN, "has_bias": True, **attrs})],
        inputs=[0, 1, 2, 3], outputs=[4],
    )  # fmt: skip
    return made.specialize(1)(x, kernel, factors, bias)


def operands(m, k, n):
    x = (RNG.standard_normal((m, k)) * 10.0 ** RNG.integers(-3, 4, (m, 1))).astype("float32")
    kernel = RNG.integers(-128, 128, (k, n)).astype("int8")
    factors = RNG.uniform(1e-3, 1e-2, n).astype("float32")
    return x, kernel, factors, RNG.standard_normal(n).astype("float32")


SIZES = ((1, 3, 5), (2, 64, 17), (5, 130, 64), (13, 33, 129), (49, 257, 70), (97, 20, 200))


@pytest.mark.parametrize("isa", levels())
def test_bits_are_the_references(isa):
    _core.set_isa(isa)
    for m, k, n in SIZES:
        given = operands(m, k, n)
        want = INT8_PRODUCT.reference(*given, **{**PLAIN, "has_bias": True})
        for threads in (1, 2, 3, 7):
            _core.set_num_threads(threads)
            for dot in (True, False):
                _core.set_int8_dot(dot)
                np.testing.assert_array_equal(product(*given), want, f"{m}x{k}x{n} {dot}")


def test_a_row_does_not_know_its_neighbours():
    x, *rest = operands(60, 100, 40)
    whole = product(x, *rest)
    for size in (1, 7, 12, 31):
        parts = [product(x[i : i + size], *rest) for i in range(0, 60, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_row_that_is_not_finite_is_nan_alone():
    x, *rest = operands(8, 50, 20)
    want = product(x, *rest)
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        x[3, 49] = bad
        found = product(x, *rest)
        assert np.isnan(found[3]).all()
        others = [0, 1, 2, 4, 5, 6, 7]
        np.testing.assert_array_equal(found[others], want[others])
    x[3] = 0.0
    np.testing.assert_array_equal(product(x, *rest)[3], rest[-1])


def test_rows_of_any_size_are_quantized():
    x = np.stack([
        np.full(40, value, "float32")
        for value in (1e-45, 1e-38, 1e-20, 1.0, 3e38, np.finfo("float32").max)
    ])  # fmt: skip
    q, step = quantized_rows(x)
    assert q.max() == 127
    assert (step > 0).all()
    assert np.isfinite(step).all()
    kernel = np.ones((40, 1), "int8")
    one = np.ones(1, "float32")
    want = INT8_PRODUCT.reference(x, kernel, one, 0 * one, **{**PLAIN, "has_bias": True})
    np.testing.assert_array_equal(product(x, kernel, one, 0 * one), want)


def test_extreme_integers_do_not_saturate():
    k = 4096
    x = np.ones((3, k), "float32")
    x[1] = -1.0
    x[2, ::2] = -1.0
    for value in (-128, 127):
        kernel = np.full((k, 20), value, "int8")
        one = np.ones(20, "float32")
        want = INT8_PRODUCT.reference(x, kernel, one, one, **{**PLAIN, "has_bias": True})
        for isa in _core.available_isas():
            _core.set_isa(isa)
            for dot in (True, False):
                _core.set_int8_dot(dot)
                np.testing.assert_array_equal(product(x, kernel, one, one), want)


def test_plans_are_made_for_what_multiplies():
    """Where the CPU has instructions for bytes, plans with them are others than those without."""
    model = handmill.Sequential([handmill.layers.Input((6,)), handmill.layers.Dense(5)])
    model.quantize("int8")
    x = np.ones((3, 6), "float32")
    has, counts = _core.uses_int8_dot(), []
    for dot in (True, False, True):
        _core.set_int8_dot(dot)
        want = model(x)
        counts.append(len(PLANS))
        np.testing.assert_array_equal(model(x), want)
        assert len(PLANS) == counts[-1]
    assert [b - a for a, b in itertools.pairwise(counts)] == [has, 0]


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize("turned", (False, True))
def test_pairs_of_4_bits_have_the_bits_of_the_same_numbers_in_bytes(isa, turned):
    _core.set_isa(isa)
    for m, k, n in (*SIZES, (3, 16, 16), (6, 15, 9)):
        x, kernel, factors, bias = operands(m, k, n)
        extremes = RNG.random((k, n))
        kernel = np.where(extremes < 0.2, -8, np.where(extremes > 0.8, 7, kernel // 16))
        kernel = kernel.astype("int8")
        want = product(x, kernel, factors, bias)
        packed = pack_int4(kernel.T if turned else kernel, axis=-1)[0]
        for threads in (1, 2, 7):
            _core.set_num_threads(threads)
            found = product(x, packed, factors, bias, pairs=True, transpose_b=turned)
            np.testing.assert_array_equal(found, want, f"{m}x{k}x{n}")


@pytest.mark.parametrize("isa", levels())
def test_the_largest_products_of_bytes_and_4_bits_do_not_saturate(isa):
    _core.set_isa(isa)
    x = np.ones((2, 1000), "float32") * np.array([[1.0], [-1.0]], "float32")
    for number in (-8, 7):
        packed = pack_int4(np.full((1000, 24), number, "int8"), axis=-1)[0]
        ones, none = np.ones(24, "float32"), np.zeros(24, "float32")
        want = INT8_PRODUCT.reference(
            x, packed, ones, none, **{**PLAIN, "has_bias": True, "pairs": True}
        )
        np.testing.assert_array_equal(product(x, packed, ones, none, pairs=True), want)
