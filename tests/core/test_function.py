"""Function: the cache of plans behind a call."""

import gc
import threading
import weakref

import numpy as np
import pytest
from core_programs import F32, I32, node, program, random, state, tile

from handmill import _core


class Recorder:
    """A miss that makes a plan which negates, keeps it, and remembers what it was asked for."""

    def __init__(self):
        self.shapes = []
        self.plans = []

    def __call__(self, x):
        self.shapes.append(x.shape)
        made = program([x.shape, x.shape], [tile("neg", [0], 1)], inputs=[0], outputs=[1])
        self.plans.append(made.specialize(1))
        return self.plans[-1]


def owning(miss):
    """A miss that keeps what it gives: a Function does not."""
    given = []

    def keep(x):
        given.append(miss(x))
        return given[-1]

    return keep


def test_plans_are_made_once_for_each_shape():
    miss = Recorder()
    f = _core.Function(miss)
    for shape in ((2,), (3,), (2,), (2, 1), (), (3,), (2,)):
        x = random(*shape)
        np.testing.assert_array_equal(f(np.asarray(x)), -x)
    assert miss.shapes == [(2,), (3,), (2, 1), ()]
    assert len(f) == 4
    f.clear()
    assert len(f) == 0
    f(random(2))
    assert len(miss.shapes) == 5


def test_least_recently_used_plans_are_dropped():
    miss = Recorder()
    f = _core.Function(miss, None, 2)
    for n in (1, 2, 1, 3, 1):
        f(random(n))
    assert miss.shapes == [(1,), (2,), (3,)]
    f(random(2))
    assert miss.shapes == [(1,), (2,), (3,), (2,)]
    assert len(f) == 2


def test_dtypes_and_levels_are_part_of_the_key():
    asked = []

    def miss(x):
        asked.append((x.dtype.name, _core.isa()))
        code = F32 if x.dtype == np.float32 else I32
        return program([(code, x.shape)], inputs=[0], outputs=[0]).specialize(1)

    f = _core.Function(owning(miss))
    level = _core.isa()
    try:
        for isa in _core.available_isas() * 2:
            _core.set_isa(isa)
            f(np.zeros(2, np.float32))
            f(np.zeros(2, np.int32))
    finally:
        _core.set_isa(level)
    assert len(asked) == len(set(asked)) == 2 * len(_core.available_isas())


def test_a_plan_that_does_not_fit_is_refused():
    plan = program([(2,)], inputs=[0]).specialize(1)
    f = _core.Function(lambda x: plan)
    with pytest.raises(ValueError, match="must have shape"):
        f(random(3))
    assert len(f) == 0
    assert f(random(2)) == ()


def test_fallback():
    seen = []
    f = _core.Function(Recorder(), lambda *args: seen.append(args) or "fallback")
    odd = np.zeros(9, np.uint8)[1:].view(np.float32)
    for bad in (
        [1.0],
        None,
        3,
        random(4)[::2],
        random(4).astype(">f4"),
        np.asfortranarray(random(3, 3)),
        np.ma.masked_array(random(3)),
        odd,
    ):
        assert f(bad) == "fallback"
        assert seen.pop()[0] is bad
    with pytest.raises(TypeError, match="contiguous"):
        _core.Function(Recorder())([1.0])
    with pytest.raises(TypeError, match="keywords"):
        f(x=random(2))


def test_miss_may_return_another_callable_or_raise():
    calls = []

    def miss(x):
        calls.append(x.shape)
        if x.shape == (1,):
            raise KeyError("one")
        if x.shape == (2,):
            return 5
        return lambda y: y + 1

    f = _core.Function(miss)
    with pytest.raises(KeyError):
        f(random(1))
    with pytest.raises(TypeError, match="must return a plan"):
        f(random(2))
    for _ in range(2):
        np.testing.assert_array_equal(f(np.ones(3, np.float32)), np.full(3, 2))
    assert calls == [(1,), (2,), (3,)]


def test_a_plan_that_its_owner_drops_is_asked_for_again():
    miss = Recorder()
    f = _core.Function(miss)
    held = _core.plan_bytes()
    for n in (2, 3, 2, 3):
        f(random(n))
    assert miss.shapes == [(2,), (3,)]
    assert _core.plan_bytes() > held
    miss.plans.clear()
    assert _core.plan_bytes() == held  # nothing is kept by the function
    for n in (2, 2, 3):
        np.testing.assert_array_equal(f(np.ones(n, np.float32)), -np.ones(n))
    assert miss.shapes == [(2,), (3,), (2,), (3,)]
    assert len(f) == 2


def test_a_refused_batch_goes_to_the_fallback():
    made = program(
        [(I32, (-1,)), (I32, (-1,))],
        [node("check_labels", (0,), (1,), num_classes=3, guard=True)],
        inputs=[0],
        outputs=[1],
    )

    def words(labels):
        raise ValueError(f"bad labels {labels.tolist()}")

    bad = np.array([0, 5], np.int32)
    f = _core.Function(lambda x: made.specialize(len(x)), words)
    f(np.zeros(2, np.int32))
    with pytest.raises(ValueError, match=r"bad labels \[0, 5\]"):
        f(bad)
    with pytest.raises(_core.GuardFailed):
        _core.Function(lambda x: made.specialize(len(x)))(bad)


def test_reentrancy():
    """A miss may use and clear the function that it serves."""
    plans = Recorder()

    def miss(x):
        if x.size > 1:
            f(x[1:].copy())
            f.clear()
        return plans(x)

    f = _core.Function(miss)
    np.testing.assert_array_equal(f(np.ones(5, np.float32)), -np.ones(5))
    assert len(f) == 1


def test_cycles_are_collected():
    class Owner:
        def __init__(self):
            self.f = _core.Function(self.miss, self.miss)

        def miss(self, x):
            return self.f

    owner = Owner()
    alive = weakref.ref(owner)
    del owner
    gc.collect()
    assert alive() is None


def test_clearing_while_other_threads_call():
    w = state(np.ones(200_000))
    made = program(
        [(200_000,)] * 3, [tile("add", [0, 1], 2)], inputs=[0], outputs=[2], variables=[(1, w)]
    )
    f = _core.Function(owning(lambda x: made.specialize(1)))
    x = np.ones(200_000, np.float32)
    failures = []

    def run():
        for _ in range(200):
            if f(x)[-1] != 2:
                failures.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        f.clear()
    for thread in threads:
        thread.join()
    assert not failures


def test_arguments_of_the_constructor():
    with pytest.raises(TypeError):
        _core.Function()
    with pytest.raises(ValueError, match="limit"):
        _core.Function(len, None, 0)
    f = _core.Function(miss=Recorder(), fallback=None, limit=3)
    assert f(random(2)).shape == (2,)
