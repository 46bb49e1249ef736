"""Feeds that compose rows of coalitions in C++, and collect what the program gives."""

import numpy as np
import pytest
from core_programs import I64, node, program, tile

from handmill import _core, config
from handmill.ir.shapes import DTYPES
from handmill.runtime.composed_feed import ComposedFeed

KINDS = ("float32", "float64", "int8", "uint8", "int32", "int64", "bool")
RNG = np.random.default_rng(0)


def bits(array):
    return array.view(f"u{array.dtype.itemsize}")


def numbers(kind, *shape):
    """Any bits at all, NaN and -0.0 among them."""
    if kind == "bool":
        return RNG.integers(0, 2, shape).astype(bool)
    return RNG.integers(0, 256, (*shape, np.dtype(kind).itemsize), np.uint8).view(kind)[..., 0]


def identity(dtype, shape, batch):
    made = program([(DTYPES.index(dtype), (-1, *shape))], inputs=[0], outputs=[0], feeds=[0])
    return made.specialize(batch)


def case(kind, shape, background_rows, players, coalitions, members=True):
    """Entries of any players; where `players` is None, each is a player of its own."""
    background, row = numbers(kind, background_rows, *shape), numbers(kind, *shape)
    if players is None:
        players = int(np.prod(shape))
        entries = np.arange(players, dtype=np.int32).reshape(shape)
    else:
        entries = RNG.integers(-1, players, shape).astype(np.int32)
    chosen = RNG.integers(0, 2, (coalitions, players)).astype(bool) if members else None
    return ComposedFeed([background], [row], [entries], players, chosen)


def test_bits_are_those_of_composing_in_numpy():
    cases = [(kind, (13,), 7, 5, 9, True) for kind in KINDS]
    cases += [(kind, (3, 5), 1, 4, 0, False) for kind in KINDS]
    cases += [("float32", (1,), 100, 1, 3, True), ("float32", (4, 4, 3), 1, 40, 77, True)]
    cases += [("float32", (511,), 3, 600, 9, True), ("float32", (512,), 3, 30, 9, True)]
    cases += [("float64", (1300,), 5, 1300, 6, True), ("uint8", (513,), 2, 6, 0, False)]
    cases += [("float32", (20,), 1, 11, 0, False), ("int64", (0,), 2, 2, 5, True)]
    cases += [(kind, (28, 28), rows, None, 9, True) for kind in KINDS for rows in (1, 3)]
    cases += [("float32", (10,), 2, None, 8, True), ("float32", (10,), 2, None, 0, False)]
    for one in cases:
        feed = case(*one)
        want = feed.take(0, feed.rows)[0][0]
        results = np.zeros_like(want)
        feed.native.set_results([results])
        batch = max(1, feed.rows // 3 - 1)
        steps = feed.rows // batch
        assert identity(one[0], one[1], batch).run_fed(feed.native, steps, 60.0)[0] == steps, one
        rest = feed.rows - steps * batch
        if rest:
            identity(one[0], one[1], rest).run_fed(feed.native, 1, 60.0)
        np.testing.assert_array_equal(bits(results), bits(want), str(one))
        assert feed.position == feed.rows


def test_rows_in_numpy_are_by_definition():
    feed = ComposedFeed(
        [np.array([[10, 20, 30], [40, 50, 60]])],
        [np.array([1, 2, 3])],
        [np.array([0, -1, 1])],
        2,
        np.array([[True, False], [False, True]]),
    )
    rows, numbers = feed.take(1, 3)
    assert rows[0].tolist() == [[1, 50, 60], [10, 20, 3], [40, 50, 3]]
    assert numbers.tolist() == [1, 2, 3]
    every = ComposedFeed([np.zeros((1, 2))], [np.ones(2)], [np.array([0, 1])], 2)
    assert every.take(0, every.rows)[0][0].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    with pytest.raises(TypeError, match="order"):
        every.set_order(None)


def test_several_inputs_share_coalitions_and_threads_change_nothing():
    images, ids = numbers("float32", 6, 8, 8), numbers("int64", 6, 4)
    entries = [np.arange(64, dtype=np.int32).reshape(8, 8) % 9, np.full(4, 9, np.int32)]
    members = RNG.integers(0, 2, (200, 10)).astype(bool)
    feed = ComposedFeed([images, ids], [images[0] * 2, ids[1]], entries, 10, members)
    want = feed.take(0, feed.rows)[0]
    made = program([(-1, 8, 8), (I64, (-1, 4))], inputs=[1, 0], outputs=[0, 1], feeds=[0, 1])
    threads = config.num_threads()
    try:
        for count in (1, 2, 3, 7):
            config.set_num_threads(count)
            again = ComposedFeed([images, ids], [images[0] * 2, ids[1]], entries, 10, members)
            found = [np.zeros_like(part) for part in want]
            again.native.set_results(found)
            assert made.specialize(400).run_fed(again.native, 9, 60.0)[0] == 3
            for part, expected in zip(found, want, strict=True):
                np.testing.assert_array_equal(bits(part), bits(expected))
    finally:
        config.set_num_threads(threads)


def test_what_is_collected_begins_and_ends_where_it_is_said():
    x = np.arange(60.0, dtype=np.float32).reshape(20, 3)
    doubled = program(
        [(-1, 3), (-1, 3)], [tile("add", [0, 0], 1)], inputs=[0], outputs=[1], feeds=[0]
    ).specialize(4)
    feed, part = _core.Feed([x], np.arange(20)[::-1].copy()), np.zeros((9, 3), np.float32)
    feed.position = 4
    feed.set_results([part], 4)
    assert doubled.run_fed(feed, 99, 60.0)[0] == 2  # a third batch would not fit
    np.testing.assert_array_equal(part[:8], 2 * x[::-1][4:12])
    assert not part[8].any()
    assert doubled.run_fed(feed, 99, 60.0)[0] == 0
    feed.set_results([])
    assert doubled.run_fed(feed, 99, 60.0)[0] == 2
    feed.position = 0
    feed.set_results([part], 4)
    with pytest.raises(ValueError, match="begin at row 4, its position is 0"):
        doubled.run_fed(feed, 1)


def test_a_refused_batch_is_not_collected():
    labels = np.array([1, 2, 3, 12, 0, 1])
    made = program(
        [(I64, (-1,)), (I64, (-1,))],
        [node("check_labels", (0,), (1,), num_classes=10, guard=True)],
        inputs=[0],
        outputs=[1],
        feeds=[0],
    ).specialize(2)
    feed, results = _core.Feed([labels]), np.full(6, -1)
    feed.set_results([results])
    assert made.run_fed(feed, 3, 60.0) == (1, 1, (0, 1, 12.0))
    assert results.tolist() == [1, 2, -1, -1, -1, -1]


def test_what_does_not_fit_is_refused():
    rows, row = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
    who = np.zeros(3, np.int32)
    make = _core.Feed.composed
    for arguments, message in (
        (([rows], [], [who], 1), "for each source"),
        (([rows], [row[:2]], [who], 1), "not of the shape"),
        (([rows], [row.astype(float)], [who], 1), "not of the shape"),
        (([rows], [row], [who[:2]], 1), "as many int32"),
        (([rows], [row], [who.astype(int)], 1), "as many int32"),
        (([rows], [row], [who + 1], 1), "entry 0 belongs to player 1 of 1"),
        (([rows], [row], [who - 2], 1), "entry 0 belongs to player -2 of 1"),
        (([rows[:0]], [row], [who], 1), "needs a background row"),
        (([rows], [row], [who], -1), "negative"),
    ):
        with pytest.raises(ValueError, match=message):
            make(*arguments)
    feed = make([rows], [row], [who], 1)
    assert feed.rows == 0  # before there are coalitions
    for members in (np.zeros((4, 2), bool), np.zeros(4, bool), np.zeros((4, 1), np.uint8)):
        with pytest.raises(ValueError, match=r"bool of shape \(coalitions, 1\)"):
            feed.set_coalitions(members)
    with pytest.raises(ValueError, match="no order"):
        feed.set_order(None)
    with pytest.raises(ValueError, match="30 players or less"):
        make([rows], [row], [who], 31).set_coalitions(None)
    with pytest.raises(ValueError, match="30 players at most"):
        ComposedFeed([rows], [row], [who], 31)
    with pytest.raises(ValueError, match="does not compose"):
        _core.Feed([rows]).set_coalitions(None)
    feed.set_coalitions(np.ones((4, 1), bool))
    assert feed.rows == 8
    with pytest.raises(ValueError, match="float32 is not float64"):
        identity("float64", (3,), 2).run_fed(feed, 1)
    plan = identity("float32", (3,), 2)
    for results, message in (
        ([np.zeros((8, 4), np.float32)], "rows of shape"),
        ([np.zeros((8, 3))], "float64 rows"),
        ([np.zeros((8, 3), np.float32)] * 2, "has 1 outputs, the feed collects 2"),
    ):
        feed.set_results(results)
        with pytest.raises(ValueError, match=message):
            plan.run_fed(feed, 1)
    fixed = np.zeros((8, 3), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        feed.set_results([fixed])
    with pytest.raises(ValueError, match="must have rows"):
        feed.set_results([np.array(1.0)])


def test_arrays_outlive_their_names():
    feed = ComposedFeed([np.full((3, 2), 7.0)], [np.ones(2)], [np.array([0, 1])], 2).native
    results = np.zeros((12, 2))
    feed.set_results([results])
    identity("float64", (2,), 12).run_fed(feed, 1)
    assert results[0].tolist() == [7, 7]
    assert results[-1].tolist() == [1, 1]
