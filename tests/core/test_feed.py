"""Fed runs: batches gathered in C++, order, position, guards, deadlines."""

import math
import signal
import threading
import time

import numpy as np
import pytest
from core_programs import F32, I32, I64, U8, host, node, program, random, state, tile

from handmill import _core
from handmill.ir.shapes import DTYPES

pytestmark = pytest.mark.alone


def summing(shape, dtype=F32):
    """total := total + column sums of the batch, as the sum over a view of rows."""
    total, seen = state(np.zeros((1, *shape))), state(np.zeros((1, *shape)))
    made = program(
        [(1, *shape), (1, *shape), (dtype, (1, *shape)), (1, *shape), (1, *shape)],
        [
            tile("copy", [2], 4) if dtype != F32 else node("view", (2,), (4,)),
            tile("add", [0, 4], 3, alias=[(0, 0)]),
        ],
        inputs=[2],
        variables=[(0, total), (1, seen)],
        updates=[(0, 3), (1, 4)],
        feeds=[2],
    )
    return made.specialize(1), total, seen


def test_rows_come_in_order_and_the_position_moves():
    x = random(100, 3)
    plan, total, seen = summing((3,))
    feed = _core.Feed([x])
    assert (feed.rows, feed.position) == (100, 0)
    assert plan.run_fed(feed, 10) == (10, 0, ())
    assert feed.position == 10
    np.testing.assert_array_equal(seen.copy()[0], x[9])
    assert plan.run_fed(feed, 1000, 60.0) == (90, 0, ())
    np.testing.assert_allclose(total.copy()[0], np.cumsum(x, 0, np.float32)[-1], rtol=1e-6)
    assert plan.run_fed(feed, 1000) == (0, 0, ())
    assert feed.position == 100
    feed.position = 98
    assert plan.run_fed(feed, 1000)[0] == 2
    feed.position = 10**9
    assert plan.run_fed(feed, 1000)[0] == 0
    assert plan.run_fed(feed, -5)[0] == 0


def test_order():
    x = random(50, 2)
    plan, _, seen = summing((2,))
    order = np.random.default_rng(0).permutation(50)[:20]
    feed = _core.Feed([x], order)
    assert feed.rows == 20
    for i in range(20):
        plan.run_fed(feed, 1)
        np.testing.assert_array_equal(seen.copy()[0], x[order[i]])
    feed.set_order(np.array([7, 7, 7]))
    feed.position = 0
    assert plan.run_fed(feed, 9)[0] == 3
    np.testing.assert_array_equal(seen.copy()[0], x[7])
    feed.set_order(None)
    assert feed.rows == 50
    for bad in ([50], [-1], [[1]], [2**40]):
        with pytest.raises(ValueError, match="order"):
            feed.set_order(np.array(bad))
    assert feed.rows == 50


@pytest.mark.parametrize("source", ("uint8", "int8", "int32", "int64", "bool", "float64"))
def test_rows_are_converted(source):
    x = (np.arange(300).reshape(100, 3) % 250 % (128 if source == "int8" else 256)).astype(source)
    plan, _, seen = summing((3,))
    feed = _core.Feed([x], np.arange(100)[::-1].copy())
    for row in (99, 98):
        plan.run_fed(feed, 1)
        np.testing.assert_array_equal(seen.copy()[0], x[row].astype(np.float32))


def test_several_sources_of_several_dtypes():
    images = np.random.default_rng(0).integers(0, 256, (70, 5, 5, 3)).astype(np.uint8)
    labels = np.arange(70, dtype=np.int64)
    pixels, ids = state(np.zeros((16, 5, 5, 3))), _core.State((16,), I32)
    made = program(
        [(16, 5, 5, 3), (I32, (16,))] * 2,
        inputs=[3, 2],
        variables=[(0, pixels), (1, ids)],
        updates=[(0, 2), (1, 3)],
        feeds=[2, 3],
    )
    feed = _core.Feed([images, labels])
    steps, status, _ = made.specialize(16).run_fed(feed, 100, 60.0)
    assert (steps, status, feed.position) == (4, 0, 64)  # the last six rows are no whole batch
    np.testing.assert_array_equal(ids.copy(), labels[48:64])
    np.testing.assert_array_equal(pixels.copy(), images[48:64])


def test_what_does_not_fit_is_refused():
    plan, *_ = summing((3,))
    for sources in ([], [random(5, 4)], [random(5, 3), random(5, 3)], [random(5, 3, 1)]):
        with pytest.raises(ValueError, match=r"feed|fed"):
            plan.run_fed(_core.Feed(sources), 1)
    to_int = program([(I32, (-1,))], inputs=[0], feeds=[0]).specialize(1)
    with pytest.raises(ValueError, match="float32 is not converted to int32"):
        to_int.run_fed(_core.Feed([random(4)]), 1)
    not_fed = program([(I32, (-1,))], inputs=[0]).specialize(1)
    with pytest.raises(ValueError, match="fed by 0 arrays"):
        not_fed.run_fed(_core.Feed([np.zeros(4, np.int32)]), 1)
    with pytest.raises(ValueError, match="at least one row"):
        program([(-1,)], inputs=[0], feeds=[0]).specialize(0).run_fed(_core.Feed([random(4)]), 1)
    with pytest.raises(TypeError):
        _core.Feed([random(4, 4).T])
    with pytest.raises(TypeError):
        _core.Feed([[1, 2]])
    with pytest.raises(ValueError, match="same number of rows"):
        _core.Feed([random(4), random(5)])
    with pytest.raises(ValueError, match="must have rows"):
        _core.Feed([np.asarray(np.float32(1))])
    with pytest.raises(ValueError, match="negative"):
        _core.Feed([random(4)]).position = -1


def test_a_guard_stops_the_run_before_the_step_writes():
    doubled = state(np.ones(1))
    made = program(
        [(1,), (I64, (-1,)), (I64, (-1,)), (1,)],
        [
            node("check_labels", (1,), (2,), num_classes=10, guard=True),
            tile("add", [0, 0], 3, alias=[(0, 0)]),
        ],
        inputs=[1],
        variables=[(0, doubled)],
        updates=[(0, 3)],
        feeds=[1],
    )
    labels = np.arange(100) % 10
    labels[57] = 12
    plan = made.specialize(8)
    feed = _core.Feed([labels])
    version = doubled.version
    assert plan.run_fed(feed, 100, 60.0) == (7, 1, (0, 1, 12.0))
    assert feed.position == 56
    assert doubled.copy()[0] == 2**7
    assert doubled.version > version
    assert plan.run_fed(feed, 100, 60.0) == (0, 1, (0, 1, 12.0))
    assert doubled.copy()[0] == 2**7
    feed.position = 64
    assert plan.run_fed(feed, 100, 60.0) == (4, 0, ())
    assert doubled.copy()[0] == 2**11


def test_host_nodes_in_fed_runs():
    seen = []

    def watch(arrays):
        seen.append(arrays[0].copy())
        return (arrays[0] * 2,)

    made = program(
        [(4, 2), (4, 2), (4, 2)],
        [host(watch, (0,), (1,))],
        inputs=[0],
        variables=[(2, state(np.zeros((4, 2))))],
        updates=[(2, 1)],
        feeds=[0],
    )
    x = random(12, 2)
    assert made.specialize(4).run_fed(_core.Feed([x]), 9, 60.0) == (3, 0, ())
    np.testing.assert_array_equal(np.concatenate(seen), x)


def test_an_error_in_a_host_node_frees_the_feed():
    made = program([(-1,), (-1,)], [host(lambda a: 1 / 0, (0,), (1,))], inputs=[0], feeds=[0])
    feed = _core.Feed([random(8)])
    plan = made.specialize(4)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            plan.run_fed(feed, 9)
    assert feed.position == 0


def slow_program():
    """A step of about a millisecond."""
    w = state(random(256, 256) * 0.01)
    nodes = [node("matmul", (1, 0), (2,)), *(node("matmul", (i, 0), (i + 1,)) for i in range(2, 6))]
    made = program(
        [(256, 256), (-1, 256), *[(-1, 256)] * 5],
        nodes,
        inputs=[1],
        variables=[(0, w)],
        outputs=[6],
        feeds=[1],
    )
    return made.specialize(256)


def test_deadline():
    plan, feed = slow_program(), _core.Feed([random(256 * 4, 256)], np.arange(10**6) % 1024)
    plan.run_fed(feed, 2, 60.0)
    seconds = []
    while len(seconds) < 3 and min(seconds, default=math.inf) >= 1.0:  # other processes only add
        begin = time.perf_counter()
        steps, status, _ = plan.run_fed(feed, 10**6, 0.05)
        seconds.append(time.perf_counter() - begin)
        assert status == 0
        assert 1 <= steps < 3000
    assert 0.04 < min(seconds) < 1.0, seconds
    assert plan.run_fed(feed, 10**6, 0.0)[0] == 1
    assert plan.run_fed(feed, 3, float("nan"))[0] in (1, 3)


def test_signals_arrive_between_runs():
    plan, feed = slow_program(), _core.Feed([random(1024, 256)], np.arange(10**7) % 1024)

    def interrupt(*_):
        raise KeyboardInterrupt

    def run_for_ever():
        while True:
            plan.run_fed(feed, 10**9)

    before = signal.signal(signal.SIGALRM, interrupt)
    seconds = []
    try:
        while len(seconds) < 3 and min(seconds, default=math.inf) >= 2:  # other processes only add
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            begin = time.perf_counter()
            with pytest.raises(KeyboardInterrupt):
                run_for_ever()
            seconds.append(time.perf_counter() - begin)
        assert min(seconds) < 2, seconds
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert plan.run_fed(feed, 1)[0] == 1


def test_a_feed_serves_one_run_at_a_time():
    plan, feed = slow_program(), _core.Feed([random(1024, 256)], np.arange(10**6) % 1024)
    refused = []
    thread = threading.Thread(target=plan.run_fed, args=(feed, 10**6, 0.3))
    thread.start()
    while thread.is_alive():
        for act in (
            lambda: plan.run_fed(feed, 1),
            lambda: feed.set_order(None),
            lambda: setattr(feed, "position", 0),
        ):
            try:
                act()
            except ValueError as error:
                refused.append(str(error))
        if len(refused) >= 3:
            break
        feed.position  # noqa: B018 - may be read at any time
    thread.join()
    assert any("in use" in text for text in refused)


def test_the_feed_keeps_its_arrays():
    x = random(64, 3)
    feed = _core.Feed([x.copy()])
    plan, _, seen = summing((3,))
    for i in range(64):
        plan.run_fed(feed, 1)
        np.testing.assert_array_equal(seen.copy()[0], x[i])
    assert len(DTYPES) > U8


@pytest.mark.parametrize("size", (1, 2, 3, 16, 17, 100))
@pytest.mark.parametrize("dtype", (F32, U8, I32, I64))
def test_rows_of_every_size_are_gathered_in_order(dtype, size):
    x = np.random.default_rng(size).integers(0, 100, (40, size)).astype(DTYPES[dtype])
    order = np.random.default_rng(1).permutation(40)[:13]
    kept = _core.State((13, size), dtype)
    made = program(
        [(dtype, (13, size))] * 2, inputs=[1], variables=[(0, kept)], updates=[(0, 1)], feeds=[1]
    )
    assert made.specialize(13).run_fed(_core.Feed([x], order), 1)[0] == 1
    np.testing.assert_array_equal(kept.copy(), x[order])


def test_arrays_of_a_feed_cannot_be_resized():
    x = random(100, 3)
    plan, _, seen = summing((3,))
    for source in (x, x[10:90], x[:, :3]):
        feed = _core.Feed([source])
        with pytest.raises(ValueError, match="resize"):
            x.resize((1, 1), refcheck=False)
        plan.run_fed(feed, 10)
        del feed
    last = seen.copy()
    x.resize((1, 1), refcheck=False)  # nobody reads it any more
    np.testing.assert_array_equal(seen.copy(), last)
