"""Products whose extents lie around the tiles, panels and blocks of the kernels."""

from __future__ import annotations

import numpy as np
import pytest
from core_programs import node, program

from handmill import _core

FMA_LEVELS = [isa for isa in _core.available_isas() if isa != "portable"]


def product(a, b, isa, threads=1, **flags):
    M = a.shape[1 if flags.get("transpose_a") else 0]
    N = b.shape[0 if flags.get("transpose_b") else 1]
    made = program(
        [a.shape, b.shape, (M, N)], [node("matmul", (0, 1), (2,), **flags)], inputs=[0, 1],
        outputs=[2],
    )  # fmt: skip
    before = _core.num_threads(), _core.isa()
    _core.set_num_threads(threads)
    _core.set_isa(isa)
    try:
        return made.specialize(1)(a, b)
    finally:
        _core.set_num_threads(before[0])
        _core.set_isa(before[1])


def arrays(M, N, K):
    rng = np.random.default_rng(M * 7 + N)
    return rng.standard_normal((M, K), np.float32), rng.standard_normal((K, N), np.float32)


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("N", (1, 7, 8, 9, 15, 17, 23, 24, 25, 33, 40, 41, 65, 72, 73, 129))
@pytest.mark.parametrize("M", (1, 5, 63, 65))
def test_last_vectors_of_every_length(isa, M, N):
    a, b = arrays(M, N, 70)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    for turned in ({}, {"transpose_a": True}, {"transpose_b": True}):
        x = np.ascontiguousarray(a.T) if "transpose_a" in turned else a
        y = np.ascontiguousarray(b.T) if "transpose_b" in turned else b
        got = product(x, y, isa, **turned)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("isa", _core.available_isas())
def test_tall_products_whose_rows_alias(isa):
    a, b = arrays(2050, 2049, 1024)
    got = product(a, b, isa)
    rows = [0, 1, 383, 384, 385, 1025, 2048, 2049]
    wanted = a[rows].astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(got[rows], wanted, rtol=0, atol=4e-4)
    np.testing.assert_array_equal(got, product(a, b, isa, threads=3))


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("N", (2, 24, 33, 96))
def test_long_sums_of_more_rows_than_columns(isa, N):
    a, b = arrays(170, N, 12000 // N + 900)
    turned = np.ascontiguousarray(a.T)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    got = product(turned, b, isa, transpose_a=True)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(got, product(turned, b, isa, threads=3, transpose_a=True))


@pytest.mark.skipif(len(FMA_LEVELS) < 2, reason="compares two levels with multiply-add")
@pytest.mark.parametrize("shape", ((65, 65, 600), (97, 33, 300), (2048, 2056, 1024)))
def test_levels_with_multiply_add_agree_bit_for_bit(shape):
    a, b = arrays(*shape)
    first, *others = (product(a, b, isa) for isa in FMA_LEVELS)
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("isa", _core.available_isas())
def test_a_row_of_a_product_does_not_depend_on_the_others(isa):
    a, b = arrays(2052, 40, 700)  # too short to be cut into slices
    whole = product(a, b, isa)
    for rows in (slice(0, 2), slice(100, 170), slice(1000, 2052)):
        np.testing.assert_array_equal(product(a[rows].copy(), b, isa), whole[rows])


def at_offset(array, floats):
    """The same numbers, `floats` behind a place that is aligned for every vector."""
    room = np.empty(array.size + 32, np.float32)
    first = -(room.ctypes.data // 4) % 16 + floats
    placed = room[first : first + array.size].reshape(array.shape)
    placed[...] = array
    return placed


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize(("N", "K"), ((513, 130), (1030, 67), (4111, 9), (8209, 20), (1100, 700)))
def test_one_row_wherever_the_matrix_lies(isa, N, K):
    a, b = arrays(1, N, K)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    first = product(a, at_offset(b, 0), isa)
    np.testing.assert_allclose(first, wanted, rtol=0, atol=1e-4)
    for floats in (1, 3, 4, 8, 15):
        for threads in (1, 3):
            got = product(a, at_offset(b, floats), isa, threads)
            np.testing.assert_array_equal(got, first)


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("M", (16, 17, 18, 21, 25, 31, 64, 65, 130))
@pytest.mark.parametrize(("N", "K"), ((40, 300), (129, 70), (200, 257), (1024, 20)))
def test_rows_agree_whether_their_matrix_is_copied_or_read_in_place(isa, M, N, K):
    a, b = arrays(M, N, K)
    few = np.concatenate([product(a[m : m + 2].copy(), b, isa) for m in range(0, M, 2)])
    for threads in (1, 2):
        np.testing.assert_array_equal(product(a, at_offset(b, 4), isa, threads), few)


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize(("N", "K"), ((65, 64), (97, 129), (200, 300), (1000, 700)))
@pytest.mark.parametrize("ends", ("", "bias", "relu", "residual", "gelu", "slope"))
def test_one_row_of_constant_weights_is_that_row_of_many(isa, N, K, ends):
    a, b = arrays(5, N, K)
    rng = np.random.default_rng(N)
    bias, beside = rng.standard_normal(N, np.float32), rng.standard_normal((5, N), np.float32)

    def rows(count, threads):
        like_c = ends in ("residual", "slope")
        flags = {
            "has_bias": ends in ("bias", "relu", "gelu"),
            "residual": ends == "residual",
            "activation": ends if ends in ("relu", "gelu") else "",
            "act_grad": "relu" if ends == "slope" else "",
        }
        read = (0, 1, *((3,) if flags["has_bias"] else ()), *((4,) if like_c else ()))
        made = program(
            [(count, K), b.shape, (count, N), bias.shape, (count, N)],
            [node("matmul", read, (2,), **flags)], inputs=[0, 4] if like_c else [0], outputs=[2],
            constants=[(1, b), (3, bias)] if flags["has_bias"] else [(1, b)],
        )  # fmt: skip
        before = _core.num_threads(), _core.isa()
        _core.set_num_threads(threads)
        _core.set_isa(isa)
        try:
            given = (a[:count], beside[:count])
            return made.specialize(1)(*(given if like_c else given[:1]))
        finally:
            _core.set_num_threads(before[0])
            _core.set_isa(before[1])

    one = rows(1, 1)
    np.testing.assert_array_equal(one, rows(5, 1)[:1])
    np.testing.assert_array_equal(one, rows(1, 3))
