"""Dimensions as polynomials: arithmetic, what is known of them, what a trace assumes."""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest

from handmill.ir.dims import (
    BATCH,
    Assumptions,
    Symbol,
    SymbolicDim,
    at_least,
    exact_quotient,
    pop_assumptions,
    push_assumptions,
    same,
    substituted,
    symbol,
)
from handmill.ir.shapes import bind, broadcast_shapes, size_of

T, U = symbol("T"), symbol("U")
SIZES = {Symbol("B"): 6, Symbol("T"): 5, Symbol("U"): 4}


@pytest.fixture
def assumed():
    found = Assumptions()
    push_assumptions(found)
    yield found
    pop_assumptions()


def test_equal_polynomials_are_one_dimension():
    assert T * 2 - T == T
    assert (BATCH + 1) * T - T == T * BATCH
    assert (T + U) - U == T
    assert T - T == 0
    assert isinstance(T - T, int)
    assert {T * U: 1}[U * T] == 1
    assert (BATCH * T * 8) // (BATCH * 8) == T
    assert exact_quotient((T + U) * (T - 1), T - 1) == T + U
    assert exact_quotient(T * U + 1, T) is None
    assert size_of((BATCH, T, 8)) == 8 * BATCH * T
    assert repr(2 * T * BATCH - 1) == "2*B*T - 1"


def test_floor_division_is_pythons():
    dim = (3 * T + 7) // 2
    assert dim == T + 3 + (T + 1) // 2
    for size in range(9):
        assert substituted(dim, {Symbol("T"): size}) == (3 * size + 7) // 2
        assert substituted((T - 5) // 3, {Symbol("T"): size}) == (size - 5) // 3
        assert substituted((T - 5) % 3, {Symbol("T"): size}) == (size - 5) % 3
    assert divmod(4 * T, 2) == (2 * T, 0)
    assert 2 * ((T + 1) // 2) != T + 1


@pytest.mark.slow
def test_arithmetic_is_that_of_integers():
    rng = random.Random(0)
    pool = [(BATCH, 6), (T, 5), (U, 4), (3, 3), (1, 1)]
    for _ in range(300):
        (a, x), (b, y) = rng.choice(pool), rng.choice(pool)
        made = rng.choice([(a + b, x + y), (a - b, x - y), (a * b, x * y), (a // 3, x // 3)])
        assert substituted(made[0], SIZES) == made[1]
        pool.append(made)


def test_only_what_every_call_answers_is_answered():
    assert T + 1 > T
    assert T >= 0
    assert not T + 1 < 0
    assert T + 3 >= 3
    for ask in (lambda: T > 3, lambda: T < U, lambda: bool(T), lambda: range(T), lambda: int(T)):
        with pytest.raises(TypeError, match="differs from call to call"):
            ask()
    assert T != 3
    for ask in (lambda: T // U, lambda: T < "a"):
        with pytest.raises(TypeError):
            ask()


def test_copies_are_equal():
    dim = (BATCH * T + 1) // 2
    for other in (copy.deepcopy(dim), pickle.loads(pickle.dumps(dim))):
        assert other == dim
        assert hash(other) == hash(dim)


def test_an_equality_replaces_a_symbol(assumed):
    assert same(T, U)
    assert assumed.resolve(T) == assumed.resolve(U)
    assert same(2 * T, 10)
    assert assumed.resolve(U) == assumed.resolve(T) == 5
    assert not same(T, 6)


def test_common_factors_do_not_hide_a_solution(assumed):
    assert same(BATCH * T * 8, BATCH * 40)
    assert assumed.resolve(T) == 5


def test_the_batch_size_is_never_a_number(assumed):
    assert not same(BATCH, 8)
    assert not same(2 * BATCH, 1)
    assert not same(BATCH, BATCH + 1)
    assert same(T, BATCH)
    assert assumed.resolve(T) == BATCH


def test_what_cannot_be_solved_is_checked(assumed):
    assert same(T * T, 3 * U + 1)
    assert same((BATCH + 1) // 2, BATCH // 2)
    assert at_least(U, 3)
    assert not assumed.violated({Symbol("T"): 4, Symbol("U"): 5, Symbol("B"): 8})
    for sizes, text in (((4, 4, 8), "T*T"), ((4, 5, 7), "floor"), ((2, 1, 8), "U >= 3")):
        found = assumed.violated(dict(zip(map(Symbol, "TUB"), sizes, strict=True)))
        assert text in found


def test_what_is_assumed_is_known_from_then_on(assumed):
    assert at_least(T, 5)
    assert T > 2
    assert at_least(T - 5, 0)
    assert len(assumed.at_least) == 1


def test_broadcasting(assumed):
    assert broadcast_shapes((BATCH, 1), (1, T)) == (BATCH, T)
    assert broadcast_shapes((BATCH, T), (5,)) == (BATCH, 5)
    assert assumed.resolve(T) == 5
    with pytest.raises(ValueError, match="do not broadcast"):
        broadcast_shapes((BATCH,), (3,))


def test_binding_names_inputs_axes_and_sizes():
    shapes, names = [(BATCH, T), (T, 2 * BATCH + 1)], ["a", "b"]
    sizes = bind(shapes, [(3, 5), (5, 7)], names)
    assert sizes == {Symbol("B"): 3, Symbol("T"): 5}
    for concrete, text in (
        ([(3, 5), (4, 7)], r"axis 0 of input 'b' must be 5, as axis 1 of input 'a', but it is 4"),
        ([(3, 5), (5, 8)], r"axis 1 of input 'b' must be 7, 2\*B \+ 1, by axis 0 of input 'a'"),
        ([(3, 5), (5,)], r"input 'b': expected 2 dimensions"),
    ):
        with pytest.raises(ValueError, match=text):
            bind(shapes, concrete, names)
    assert bind([(3 * T,)], [(9,)], ["x"]) == {Symbol("T"): 3}
    with pytest.raises(ValueError, match="cannot be 8"):
        bind([(3 * T,)], [(8,)], ["x"])


def test_numbers_of_numpy():
    assert np.int64(2) * T == 2 * T == T * np.int64(2)
    assert np.int32(3) + T == T + 3
    assert isinstance(np.int64(2) - T, SymbolicDim)
