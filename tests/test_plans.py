"""The owner of plans: what is kept, and that memory has a limit."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.runtime import plans
from handmill.runtime.function import TracedFunction

pytestmark = pytest.mark.alone

_core = pytest.importorskip("handmill._core", reason="a build without kernels")

MB = 1 << 20


@pytest.fixture
def limit():
    """Sets the limit of all plans for a test."""
    before = plans.PLANS.limit

    def set_limit(nbytes):
        plans.PLANS.limit = nbytes

    yield set_limit
    plans.PLANS.limit = before


def resident():
    gc.collect()
    _core.give_back_free_memory()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.mark.slow
@linux
def test_the_limit_binds_over_1000_batch_sizes(limit):
    limit(8 * MB)
    model = handmill.Sequential([handmill.Input((20,)), layers.Dense(128, activation="relu")])
    x = np.ones((1000, 20), np.float32)
    model(x)
    before = resident()
    most = 0
    for rows in np.random.default_rng(0).permutation(1000) + 1:
        model(x[:rows])
        most = max(most, _core.plan_bytes())
    assert most <= 8 * MB + 2 * MB  # a plan more than fits
    assert resident() - before < 24 * MB


@pytest.mark.slow
@linux
def test_memory_is_bounded_over_3000_lengths():
    for n in range(1, 300):
        ops.exp(np.ones(n, np.float32))
    before, held = resident(), _core.plan_bytes()
    for n in range(300, 3300):
        ops.exp(np.ones(n, np.float32))
    assert _core.plan_bytes() - held < 2 * MB
    assert resident() - before < 8 * MB


@pytest.mark.slow
@linux
def test_a_loop_that_makes_and_fits_models_is_flat():
    x = np.ones((8, 3), np.float32)

    def once(kind):
        units = 3 + kind % 4
        model = handmill.Sequential([handmill.Input((3,)), layers.Dense(units), layers.Dense(1)])
        model.compile("adam", "mse", metrics=["mae"])
        model.fit(x, x[:, :1], verbose=0)
        model.predict(x, verbose=0)

    for kind in range(100):
        once(kind)
    before, held, traces = resident(), _core.plan_bytes(), plans.TRACES.nbytes
    for kind in range(300):
        once(kind)
    assert _core.plan_bytes() <= held + 64 * 1024
    assert plans.TRACES.nbytes <= traces + 64 * 1024
    assert resident() - before < 6 * MB


@pytest.mark.slow
def test_notes_of_functions_that_are_gone_go_too():
    x = np.zeros((8, 3), "float32")
    held, most = plans.TRACES._held, 0
    gc.collect()
    gc.freeze()  # what other tests left counts as it is; a collection sees the models here only
    gc.disable()
    try:
        for _ in range(plans.FEWEST_HELD):
            model = handmill.Sequential([handmill.Input((3,)), layers.Dense(2)])
            model.compile("sgd", "mse")
            model.train_on_batch(x, x[:, :2])
            model.predict_on_batch(x)
            most = max(most, sum(n[1] is None or n[1]() is not None for n in held.values()))
            del model
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    assert len(held) <= max(plans.FEWEST_HELD, 2 * most) + 2


@pytest.mark.slow
@linux
def test_models_with_functions_of_users_leave_nothing_behind(limit):
    """They share no program, so each has its own; it goes with the model."""
    x = np.ones((8, 3), np.float32)

    def once():
        model = handmill.Sequential([handmill.Input((3,)), layers.Dense(64)])
        model.compile("adam", lambda y, p: ops.mean(ops.square(y - p)))
        model.fit(x, np.ones((8, 64), np.float32), verbose=0)

    for _ in range(10):
        once()
    gc.collect()
    held = _core.plan_bytes()
    for _ in range(30):
        once()
    gc.collect()
    assert _core.plan_bytes() <= held


def test_the_least_recently_used_plan_goes_first(limit):
    function = TracedFunction(lambda x: ops.exp(x) * 2.0 + x, "f")
    rows = 1 << 14

    def call(n):
        return function(np.zeros((n, 64), np.float32))

    def known():
        (bound,) = function._bound.values()
        return {key[0][0] for key in bound.trace.plans}

    limit(1 << 62)
    for n in range(rows, rows + 8):
        call(n)
    call(rows)
    call(rows + 3)
    assert known() == set(range(rows, rows + 8))
    limit(1)  # the fewest are kept
    call(rows + 8)
    assert known() == {rows, rows + 3, rows + 7, rows + 8}
    np.testing.assert_array_equal(call(rows + 1), np.full((rows + 1, 64), 2, np.float32))


def test_a_program_keeps_so_many_plans(limit):
    limit(1 << 62)
    function = TracedFunction(lambda x: ops.exp(x) + x, "f")
    for n in range(1, 400):
        np.testing.assert_array_equal(function(np.zeros((n, 2), np.float32)), np.ones((n, 2)))
        function(np.zeros((1, 2), np.float32))
    (bound,) = function._bound.values()
    kept = {key[0][0] for key in bound.trace.plans}
    assert kept == {1, *range(400 - 63, 400)}


def test_packed_weights_count_once(limit):
    limit(1 << 62)
    model = handmill.Sequential([handmill.Input((512,)), layers.Dense(512)])
    x = np.ones((64, 512), np.float32)
    model(x[:32])
    before = _core.plan_bytes()
    for rows in (40, 48, 56, 64):
        model(x[:rows])
    assert _core.plan_bytes() - before < 4 * 512 * 512 * 2


@pytest.mark.slow
def test_traces_have_a_limit_too(monkeypatch):
    monkeypatch.setattr(plans.TRACES, "limit", 1 << 20)
    functions = [TracedFunction(lambda x: ops.exp(x) + 1.0, f"f{i}") for i in range(300)]
    x = np.zeros((2, 2), np.float32)
    for function in functions:
        function(x)
    assert plans.TRACES.nbytes <= plans.TRACES.limit
    kept = [function for function in functions if function._bound]
    assert 0 < len(kept) < 300
    assert kept == functions[-len(kept) :]
    for function in functions:  # those without are traced again
        np.testing.assert_array_equal(function(x), np.full((2, 2), 2, np.float32))


def test_a_trace_that_has_not_run_yet_is_not_the_first_to_go(monkeypatch):
    functions = [TracedFunction(lambda x: ops.exp(x) + 1.0, f"f{i}") for i in range(40)]
    x = np.zeros((2, 2), np.float32)
    for function in functions[:38]:
        function(x)
    new = functions[38]
    trace = new.signature(new.specs_of([x])).trace  # made, and not run
    monkeypatch.setattr(plans.TRACES, "limit", plans.TRACES.nbytes)
    for other in (functions[39], *functions[:2]):
        other(x)
    assert plans.TRACES.nbytes <= plans.TRACES.limit
    assert new.signature(new.specs_of([x])).trace is trace


def test_changed_weights_reach_a_plan_that_was_dropped(limit):
    model = handmill.Sequential([handmill.Input((8,)), layers.Dense(8, use_bias=False)])
    x = np.eye(8, dtype=np.float32)
    limit(1)
    for turn in range(3):
        for rows in range(1, 9):
            np.testing.assert_array_equal(model(x[:rows]), model.get_weights()[0][:rows])
        model.set_weights([np.full((8, 8), turn, np.float32)])


@pytest.mark.slow
def test_the_trace_that_trains_is_not_the_first_to_go(monkeypatch):
    """A fed run finds its plan in C++: that it uses its trace is known by its plans."""
    x = np.ones((32, 5), np.float32)
    model = handmill.Sequential([handmill.Input((5,)), layers.Dense(3), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], verbose=0)
    traces = []
    real = TracedFunction._trace

    def counted(self, specs):
        traces.append(self.name)
        return real(self, specs)

    monkeypatch.setattr(TracedFunction, "_trace", counted)
    functions = []
    monkeypatch.setattr(plans.TRACES, "limit", plans.TRACES.nbytes + (1 << 18))
    for n in range(200):
        functions.append(TracedFunction(lambda y, n=n: ops.exp(y) * float(n) + y, f"other{n}"))
        functions[-1](x)
        model.fit(x, x[:, :1], verbose=0)
    assert not [name for name in traces if not name.startswith("other")]


# Functions of one array and a number.


@pytest.mark.parametrize("dtype", ("float32", "int32", "bool"))
def test_a_number_beside_an_array_gives_what_it_gave_the_first_time(dtype: str) -> None:
    x = np.array([[0, 1, 3], [2, 7, 1]], dtype)
    numbers = (2, -1, 0, 2.5, 0.0, -0.0, 1e30, True, np.float32(0.1), np.int64(3), float("nan"))
    for function in (ops.add, ops.multiply, ops.maximum, ops.power, ops.divide, ops.arctan2):
        for number in numbers:
            plain, calls = function.__wrapped__, []
            for call in (plain, function, function, function):
                with np.errstate(all="ignore"):
                    try:
                        calls.append(call(x, number))
                    except Exception as error:
                        calls.append(np.array(f"{type(error).__name__}: {error}"))
            for found in calls[1:]:
                assert found.dtype == calls[0].dtype
                assert found.tobytes() == calls[0].tobytes(), (function.__name__, number)


def test_the_numbers_beside_arrays_are_told_apart() -> None:
    x = np.array([1.0, -2.0], "float32")
    for _ in range(3):
        np.testing.assert_array_equal(ops.divide(x, 0.0), [np.inf, -np.inf])
        np.testing.assert_array_equal(ops.divide(x, -0.0), [-np.inf, np.inf])
        both = ops.softmax(np.stack([x, x]), 0), ops.softmax(np.stack([x, x]), 1)
        assert [bool((found == 0.5).all()) for found in both] == [True, False]
        assert ops.multiply(x, True).dtype == ops.multiply(x, 1).dtype == np.float32
    for number in range(200):
        np.testing.assert_array_equal(ops.add(x, number), x + number)
