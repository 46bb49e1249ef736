"""Nested structures: kinds of containers, order of leaves, and what does not fit."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple

import numpy as np
import pytest

import handmill
from handmill import layers, tree

Point = namedtuple("Point", ["x", "y"])
Other = namedtuple("Other", ["x", "y"])
CONTAINERS = (
    [1, 2],
    (1, 2),
    Point(1, 2),
    deque([1, 2], maxlen=3),
    {"a": 1, "b": 2},
    OrderedDict(a=1, b=2),
    defaultdict(int, a=1, b=2),
)


@pytest.mark.parametrize("one", CONTAINERS, ids=lambda c: type(c).__name__)
def test_every_container_is_gone_through_and_built_again(one):
    assert tree.is_nested(one)
    assert tree.flatten(one) == [1, 2]
    for made in (
        tree.map_structure(lambda v: 10 * v, one),
        tree.map_structure(lambda v, w: v + 9 * w, one, one),
        tree.pack_sequence_as(one, [10, 20]),
        tree.map_structure_up_to(one, lambda v: 10 * v, one),
        tree.traverse(lambda v: None if tree.is_nested(v) else 10 * v, one),
        tree.traverse(lambda v: None if tree.is_nested(v) else 10 * v, one, top_down=False),
    ):
        assert type(made) is type(one)
        assert tree.flatten(made) == [10, 20]
        assert getattr(made, "maxlen", None) == getattr(one, "maxlen", None)
        assert getattr(made, "default_factory", None) == getattr(one, "default_factory", None)
    tree.assert_same_structure(one, one)


def test_order_of_dicts():
    """Plain dicts by their keys, ordered dicts as they stand; results keep the user's order."""
    plain, ordered = {"b": 1, "a": 2}, OrderedDict(b=1, a=2)
    assert tree.flatten(plain) == [2, 1]
    assert tree.flatten(ordered) == [1, 2]
    assert tree.flatten_with_path([plain, ordered]) == [
        ((0, "a"), 2), ((0, "b"), 1), ((1, "b"), 1), ((1, "a"), 2)
    ]  # fmt: skip
    assert list(tree.map_structure(str, plain)) == ["b", "a"]
    assert tree.pack_sequence_as(ordered, "xy") == OrderedDict(b="x", a="y")
    assert tree.pack_sequence_as(plain, "xy") == {"b": "y", "a": "x"}


def test_none():
    assert tree.flatten([None, 1]) == [None, 1]
    assert tree.map_structure(str, [None, 1]) == ["None", "1"]
    assert tree.map_structure(str, [None, 1], none_is_leaf=False) == [None, "1"]
    with pytest.raises(ValueError, match="expected None"):
        tree.map_structure(lambda a, b: a, [None], [1], none_is_leaf=False)


def test_traverse_replaces():
    seen = []
    tree.traverse(seen.append, [(1, 2), {"a": 3}])
    assert seen == [[(1, 2), {"a": 3}], (1, 2), 1, 2, {"a": 3}, 3]
    made = tree.traverse(lambda v: tree.MAP_TO_NONE if isinstance(v, tuple) else None, [(1,), 2])
    assert made == [None, 2]
    assert tree.lists_to_tuples([1, [2, {"a": [3]}]]) == (1, (2, {"a": (3,)}))
    assert tree.map_shape_structure(len, {"a": (None, 3), "b": [[1], [2, None]]}) == {
        "a": 2, "b": [1, 2]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    (
        ((), [], "Expected an instance of builtins.tuple"),
        ([], deque(), "Expected an instance of builtins.list"),
        (deque(), Point(1, 2), "Expected an instance of collections.deque"),
        (Point(1, 2), Other(1, 2), "namedtuple .*Point"),
        ((1, 2), Point(1, 2), "builtins.tuple"),
        ([1, 2], [1], "Arity mismatch: expected 2 items, got 1"),
        ({"a": 1}, {"b": 1}, "key mismatch"),
        ({"a": 1}, [1], "builtins.dict"),
        (1, [], "same nested structure"),
    ),
)
def test_structures_that_differ(a, b, problem):
    for call in (tree.assert_same_structure, lambda x, y: tree.map_structure(max, x, y)):
        with pytest.raises(ValueError, match=problem):
            call(a, b)


def test_alike():
    for kind in (dict, OrderedDict, lambda d: defaultdict(int, d)):
        tree.assert_same_structure({"a": 1, "b": [2]}, kind({"b": [1], "a": 2}))
    tree.assert_same_paths([1, (2, 3)], (4, [5, 6]))
    with pytest.raises(ValueError, match=r"Only in `b`: \[\(1,\)\]"):
        tree.assert_same_paths([1], [1, 2])
    with pytest.warns(DeprecationWarning, match="assert_same_paths"):
        tree.assert_same_structure([1], [2], check_types=True)


def test_calls_that_cannot_work():
    for call in (tree.map_structure, tree.traverse, tree.map_shape_structure):
        with pytest.raises(TypeError, match="must be callable, got 'bad'"):
            call("bad", [1])
    with pytest.raises(TypeError, match="callable"):
        tree.map_structure_up_to([1], "bad", [1])
    for call in (lambda: tree.map_structure(max), lambda: tree.map_structure_up_to([1], max)):
        with pytest.raises(ValueError, match="at least one structure"):
            call()
    for leaves, problem in (([1], "Too few.*expected: 2, got 1"), ([1, 2, 3], "Too many")):
        with pytest.raises(ValueError, match=problem):
            tree.pack_sequence_as([0, 0], leaves)
    with pytest.raises(TypeError, match="iterable"):
        tree.pack_sequence_as([0], 1)


def test_layers_take_named_tuples():
    class Both(layers.Layer):
        def call(self, pair):
            return Point(pair.x + 1.0, pair.y * 2.0)

    ones = np.ones(2, "float32")
    made = Both()(Point(ones, ones))
    assert isinstance(made, Point)
    np.testing.assert_array_equal(made, [[2, 2], [2, 2]])


def test_models_with_ordered_dicts():
    """Inputs and targets meet by key, in whatever order a dict of the caller has them."""
    first, second = handmill.Input((2,)), handmill.Input((3,))
    model = handmill.Model(
        OrderedDict(b=first, a=second),
        OrderedDict(z=layers.Dense(2, name="z")(first), c=layers.Dense(1, name="c")(second)),
    )
    data = {"a": np.ones((4, 3), "float32"), "b": np.ones((4, 2), "float32")}
    for given in (data, OrderedDict(b=data["b"], a=data["a"]), OrderedDict(data)):
        made = model.predict(given, verbose=0)
        assert [(k, v.shape) for k, v in made.items()] == [("z", (4, 2)), ("c", (4, 1))]
    model.compile("sgd", {"z": "mse", "c": "mae"})
    found = model.evaluate(
        data, {"c": np.ones((4, 1)), "z": np.ones((4, 2))}, return_dict=True, verbose=0
    )
    assert found["z_loss"] == pytest.approx(np.mean((made["z"] - 1) ** 2), rel=1e-5)
    assert found["c_loss"] == pytest.approx(np.mean(abs(made["c"] - 1)), rel=1e-5)


def test_containers_of_layers_keep_their_kinds():
    holder = handmill.layers.Layer()
    holder.parts = {"b": [1, 2], "a": 3}
    holder.seen = {7}
    assert tree.flatten([holder.parts, holder.seen]) == [3, 1, 2, 7]
    mapped = tree.map_structure(lambda x: x + 10, [holder.parts, holder.seen])
    assert mapped == [{"b": [11, 12], "a": 13}, {17}]
    assert [type(x) for x in mapped] == [type(holder.parts), type(holder.seen)]
    assert type(mapped[0]["b"]) is type(holder.parts["b"])
    assert not tree.is_nested({7})
    with pytest.raises(ValueError, match="nested"):
        tree.assert_same_structure(1, holder.seen)
