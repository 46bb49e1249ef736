"""One plan for many sets of states: which one it works on is said with each call."""

import gc
import threading

import numpy as np
import pytest
from core_programs import I64, Training, node, program, random, state, tile

from handmill import _core


def counter(size=4):
    """w += x, and the old w as output."""
    return program(
        [(size,)] * 3,
        [tile("add", [0, 1], 2)],
        inputs=[1],
        outputs=[0],
        variables=[(0, state(np.zeros(size)))],
        updates=[(0, 2)],
    ).program


def bound(plan, *states):
    return plan.bind(_core.Binding(states))


def test_each_binding_has_its_own_states():
    plan = counter().specialize([1])
    states = [state(np.full(4, 10.0 * i)) for i in range(3)]
    calls = [bound(plan, s) for s in states]
    one = np.ones(4, np.float32)
    for turn in range(3):
        for i, call in enumerate(calls):
            np.testing.assert_array_equal(call(one), 10 * i + turn)
    assert [s.version for s in states] == [4, 4, 4]  # one write, three steps
    assert [s.view()[0] for s in states] == [3, 13, 23]


def test_packed_weights_belong_to_the_state():
    k, n = 300, 70
    made = program(
        [(-1, k), (k, n), (-1, n)],
        [node("matmul", (0, 1), (2,))],
        inputs=[0],
        outputs=[2],
        variables=[(1, state(np.zeros((k, n))))],
    ).program
    plan = made.specialize([64])
    assert any(step["cached"] for step in plan.summary())
    x = random(64, k)
    weights = [random(k, n, seed=i) for i in range(6)]
    states = [state(w) for w in weights]
    calls = [bound(plan, s) for s in states]
    for turn in range(3):
        for i in (0, 1, 0, 2, 3, 4, 5, 5, 1):
            np.testing.assert_allclose(calls[i](x), x @ weights[i], rtol=1e-3, atol=1e-3)
        weights[1] = weights[1] + np.float32(turn)
        states[1].write(weights[1])


def test_the_states_must_fit():
    plan = counter().specialize([1])
    good = state(np.zeros(4))
    for bad in ((), (good, state(np.zeros(4))), (state(np.zeros(5)),), (state(np.zeros(4), I64),)):
        with pytest.raises(ValueError, match="variable"):
            bound(plan, *bad)
    with pytest.raises(ValueError, match="variable"):
        plan.bind()
    with pytest.raises(ValueError, match="no state"):
        _core.Binding([None])
    with pytest.raises(ValueError, match="same state"):
        _core.Binding([good, good])
    assert len(_core.Binding([good])) == 1


def test_inputs_in_the_states_of_the_call_are_copied():
    """Only those of the binding are written."""
    plan = counter().specialize([1])
    mine, other = state(np.arange(4.0)), state(np.arange(4.0) + 1)
    call = bound(plan, mine)
    np.testing.assert_array_equal(call(mine.view()), np.arange(4.0))
    np.testing.assert_array_equal(mine.view(), 2 * np.arange(4.0))
    np.testing.assert_array_equal(call(other.view()), 2 * np.arange(4.0))
    np.testing.assert_array_equal(mine.view(), 3 * np.arange(4.0) + 1)
    np.testing.assert_array_equal(other.view(), np.arange(4.0) + 1)


def test_many_bindings_train_in_threads():
    training = Training()
    plan = training.program.program.specialize([96])
    want = training.run(6)
    results = []

    def train():
        states = [state(array) for array in training.initial]
        call = bound(plan, *states)
        for _ in range(6):
            y = call(training.x)
        results.append([y, *(s.copy() for s in states)])

    threads = [threading.Thread(target=train) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    for found in results:
        for got, expected in zip(found, want, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_an_idle_plan_holds_no_memory_of_states_that_are_gone():
    k, n = 1024, 1024  # memory of that size is taken in whole huge pages of 2 MiB
    made = program(
        [(-1, k), (k, n), (-1, n)],
        [node("matmul", (0, 1), (2,))],
        inputs=[0],
        outputs=[2],
        variables=[(1, state(np.zeros((k, n))))],
    ).program
    plan = made.specialize([8])
    before = _core.plan_bytes()
    x = random(8, k)
    call = bound(plan, state(random(k, n)))
    view = call.plan
    call(x)
    packed = 4 * k * n
    arena = _core.plan_bytes() - before
    assert packed <= arena < 2 * packed
    del call
    gc.collect()
    assert _core.plan_bytes() - before < packed  # the instance stays, the copy of the weights goes
    for _ in range(3):
        bound(plan, state(random(k, n)))(x)
    assert _core.plan_bytes() - before < packed
    del plan, view
    gc.collect()
    assert _core.plan_bytes() < before


def test_fed_runs_use_the_states_of_the_call():
    made = program(
        [(-1,), (), (), ()],
        [node("reduce", (0,), (1,), kind="sum", axis=(0,)), tile("add", [2, 1], 3)],
        inputs=[0],
        variables=[(2, state(np.zeros(())))],
        updates=[(2, 3)],
        feeds=[0],
    ).program
    plan = made.specialize([4])
    x = np.arange(16, dtype=np.float32)
    for start in (0.0, 100.0):
        total = state(np.asarray(start))
        assert bound(plan, total).run_fed(_core.Feed([x]), 99, 60.0) == (4, 0, ())
        assert total.view() == start + x.sum()
