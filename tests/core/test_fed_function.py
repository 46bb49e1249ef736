"""Function.run_fed: the plan for batches of a feed, known by the rows that the feed has."""

import numpy as np
import pytest
from core_programs import I64, node, program, random, state, tile

from handmill import _core


def summing(shape):
    """total := total + batch, for batches of one row."""
    total = state(np.zeros((1, *shape)))
    made = program(
        [(1, *shape), (1, *shape), (1, *shape)],
        [tile("add", [0, 1], 2, alias=[(0, 0)])],
        inputs=[1],
        variables=[(0, total)],
        updates=[(0, 2)],
        feeds=[1],
    )
    return made.specialize(1), total


class Miss:
    """Gives a plan, keeps it, and counts how often it was asked."""

    def __init__(self, plan):
        self.plans = [plan]
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return self.plans[0]


def run(f, feed, miss, steps=1, batch=1):
    return f.run_fed(feed, batch, steps, 60.0, miss)


def test_the_plan_is_asked_for_once():
    plan, total = summing((3,))
    miss, f, x = Miss(plan), _core.Function(len), random(20, 3)
    feed = _core.Feed([x])
    assert run(f, feed, miss, 5) == 5
    assert run(f, feed, miss, 50) == 15
    assert run(f, feed, miss, 50) == 0
    assert run(f, _core.Feed([x]), miss, 50) == 20  # another feed of such rows
    assert miss.asked == len(f) == 1
    np.testing.assert_allclose(total.copy()[0], 2 * x.sum(0), rtol=1e-5, atol=1e-5)
    f.clear()
    run(f, _core.Feed([x]), miss)
    assert miss.asked == 2


def test_rows_dtypes_batches_and_levels_have_their_own():
    f = _core.Function(len)
    kinds = [(3,), (4,), (3, 1), (), (3,)]
    dtypes = ["float32"] * 4 + ["int32"]
    misses = [Miss(summing(shape)[0]) for shape in kinds]
    for _ in range(2):
        for shape, dtype, miss in zip(kinds, dtypes, misses, strict=True):
            rows = np.ones((4, *shape), dtype)
            assert run(f, _core.Feed([rows]), miss, 4) == 4
    assert [miss.asked for miss in misses] == [1] * len(kinds)

    other = Miss(misses[0].plans[0])
    run(f, _core.Feed([random(4, 3)]), other, 1, batch=2)  # another batch is another plan
    assert other.asked == 1
    level = _core.isa()
    try:
        for isa in _core.available_isas():
            _core.set_isa(isa)
            run(f, _core.Feed([random(4, 3)]), other)
    finally:
        _core.set_isa(level)
    assert other.asked == len(_core.available_isas())  # all but the one that is in use


def test_calls_and_fed_runs_do_not_meet():
    """A key of a feed is none of arrays, whatever numbers are in it."""
    plan, _ = summing((3,))
    miss = Miss(plan)
    called = []
    f = _core.Function(lambda *arrays: lambda *again: called.append(len(again)))
    run(f, _core.Feed([random(4, 3)]), miss)
    f(random(1, 3))
    f()
    run(f, _core.Feed([random(4, 3)]), miss)
    assert (miss.asked, called, len(f)) == (1, [1, 0], 3)


def test_a_plan_that_its_owner_drops_is_asked_for_again():
    miss, f = Miss(summing((2,))[0]), _core.Function(len)
    feed = _core.Feed([random(9, 2)])
    run(f, feed, miss)
    miss.plans[:] = [summing((2,))[0]]
    run(f, feed, miss)
    assert (miss.asked, len(f)) == (2, 1)


def test_a_refused_batch_raises_and_the_feed_stands_before_it():
    count = state(np.zeros(1))
    made = program(
        [(1,), (I64, (-1,)), (I64, (-1,)), (1,), (1,)],
        [
            node("check_labels", (1,), (2,), num_classes=10, guard=True),
            tile("add", [0, 4], 3, alias=[(0, 0)]),
        ],
        inputs=[1],
        constants=[(4, np.ones(1, np.float32))],
        variables=[(0, count)],
        updates=[(0, 3)],
        feeds=[1],
    )
    labels = np.arange(40) % 10
    labels[27] = 12
    miss, f, feed = Miss(made.specialize(4)), _core.Function(len), _core.Feed([labels])
    for _ in range(2):
        with pytest.raises(_core.GuardFailed) as caught:
            run(f, feed, miss, 99, batch=4)
        assert caught.value.args == (0, 3, 12.0)
        assert (feed.position, count.copy()[0]) == (24, 6)


def test_what_is_refused():
    plan, _ = summing((3,))
    f, feed = _core.Function(len), _core.Feed([random(4, 3)])
    with pytest.raises(TypeError, match="feed, batch_size"):
        f.run_fed(feed, 1)
    with pytest.raises(TypeError, match="must return a plan"):
        run(f, feed, lambda: len)
    with pytest.raises(ZeroDivisionError):
        run(f, feed, lambda: 1 // 0)
    assert len(f) == 0
    with pytest.raises(ValueError, match="rows of shape"):
        run(f, _core.Feed([random(4, 2)]), Miss(plan))
    with pytest.raises(TypeError, match="takes a Feed"):
        run(f, random(4, 3), Miss(plan))
