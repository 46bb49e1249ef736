"""Depthwise and recurrent kernels of 8-bit integers: the same bits at every level."""

from __future__ import annotations

import numpy as np
import pytest

from handmill import _core
from handmill.primitives.int8_depthwise import INT8_DEPTHWISE, int8_depthwise
from handmill.primitives.int8_recurrent import (
    INT8_RECURRENT,
    int8_recurrent,
    plain_sigmoid,
    plain_tanh,
)
from levels import levels

RNG = np.random.default_rng(5)
KINDS = ("simple_rnn", "gru", "lstm")
GATES = {"simple_rnn": 1, "gru": 3, "lstm": 4}


@pytest.fixture(autouse=True)
def _restore():
    before = _core.isa(), _core.num_threads()
    yield
    _core.set_isa(before[0])
    _core.set_num_threads(before[1])
    _core.set_int8_dot(True)


def recurrent_operands(kind, batch, time, units):
    width = GATES[kind] * units

    def normal(*shape):
        return RNG.standard_normal(shape).astype("float32")

    more = {"simple_rnn": (), "gru": ((units,),), "lstm": ((batch, units),)}[kind]
    return (
        normal(batch, time, width),
        RNG.integers(-128, 128, (units, width)).astype("int8"),
        RNG.uniform(5e-4, 2e-3, width).astype("float32"),
        normal(batch, units),
        *(normal(*shape) for shape in more),
    )


def by_kernel(kind, given):
    found = int8_recurrent(kind, *given, backwards=False, masked=False)
    return [np.asarray(x) for x in found]


def same(found, want, text=""):
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b, text)


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize("kind", KINDS)
def test_steps_have_the_bits_of_the_reference(kind, isa):
    _core.set_isa(isa)
    for size in ((1, 1, 3), (5, 9, 17), (35, 4, 40)):
        given = recurrent_operands(kind, *size)
        want = INT8_RECURRENT[kind].reference(*given, backwards=False, masked=False)
        for threads in (1, 3):
            _core.set_num_threads(threads)
            for dot in (True, False):
                _core.set_int8_dot(dot)
                same(by_kernel(kind, given), want, f"{size} {threads} {dot}")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_steps_alone_are_those_of_a_batch(kind):
    given = recurrent_operands(kind, 21, 6, 12)
    z, r, factors, *states = given
    want = by_kernel(kind, given)
    shared = kind == "gru"  # the bias of the candidate

    def rows(part):
        first, *more = states
        return first[part], *(x if shared else x[part] for x in more)

    for size in (1, 2, 5):
        parts = [
            by_kernel(kind, (z[i : i + size], r, factors, *rows(slice(i, i + size))))
            for i in range(0, 21, size)
        ]
        same([np.concatenate(x) for x in zip(*parts, strict=True)], want)
    now, y = list(states), []
    for t in range(6):
        found = by_kernel(kind, (z[:, t : t + 1], r, factors, *now))
        y.append(found[0])
        now = [found[1], *(states[1:] if shared else found[2:])]
    np.testing.assert_array_equal(np.concatenate(y, axis=1), want[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_not_finite_stays_in_its_row(kind):
    z, r, factors, *states = recurrent_operands(kind, 6, 3, 9)
    want = by_kernel(kind, (z, r, factors, *states))
    states[0][2, 4] = np.inf
    found = by_kernel(kind, (z, r, factors, *states))
    assert np.isnan(found[0][2]).all()
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found[0][others], want[0][others])


def test_gates_are_close_to_their_functions():
    x = np.concatenate([np.linspace(-20, 20, 100_001), [1e-30, np.inf, -np.inf]]).astype("float32")
    wide = x.astype("float64")
    assert np.abs(plain_tanh(x) - np.tanh(wide)).max() < 4e-7
    with np.errstate(over="ignore"):
        assert np.abs(plain_sigmoid(x) - 1 / (1 + np.exp(-wide))).max() < 4e-7
    assert np.abs(plain_tanh(x)).max() == 1
    assert np.isnan(plain_tanh(np.float32(np.nan)))


@pytest.mark.parametrize("isa", levels())
def test_depthwise_has_the_bits_of_the_reference(isa):
    _core.set_isa(isa)
    for sample in INT8_DEPTHWISE.samples():
        given = sample.make(RNG)
        if sample.bench or sample.attrs["activation"] or len(given) > 4:
            continue  # with more around them they are checked as every operator is
        want = INT8_DEPTHWISE.reference(*given, **sample.attrs)
        how = (sample.attrs[name] for name in ("strides", "padding", "dilation"))
        arguments = (*given, *how)
        for threads in (1, 3):
            _core.set_num_threads(threads)
            for dot in (True, False):
                _core.set_int8_dot(dot)
                same([np.asarray(int8_depthwise(*arguments))], [want], sample.name)


def test_extreme_bytes_do_not_saturate():
    x = np.full((1, 5, 5, 33), 255, "uint8")
    one = np.ones(33, "float32")
    for weight in (-128, 127):
        kernel = np.full((3, 3, 33, 1), weight, "int8")
        for zero in (0, 255):
            found = int8_depthwise(
                x, kernel, one, np.float32(zero), (1, 1), ((0, 0), (0, 0)), (1, 1)
            )
            want = np.full((1, 3, 3, 33), 9.0 * weight * (255 - zero))
            np.testing.assert_array_equal(found, want)
