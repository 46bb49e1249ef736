"""Nested structures of lists, tuples, deques and dicts, in Keras's order.

The entries of a dict come in the order of their sorted keys, those of an ``OrderedDict`` as they
stand. Named tuples are tuples with a class of their own.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from handmill.errors import warn_caller
from handmill.lazy import plain_module

_SEQUENCES: tuple[type[Any], ...] = (list, tuple, deque)
_NESTED: tuple[type[Any], ...] = (*_SEQUENCES, dict)
_KEPT: set[type] = set()


class MAP_TO_NONE:
    """What the function of :func:`traverse` returns to put None into the result."""


def keep_kind(kind: type) -> None:
    """Lets structures of ``kind`` be made again as such, not as plain lists or dicts.

    Args:
        kind: a class of lists, dicts or sets, made from a list or dict of its items. Sets of it
            are structures too, which other sets are not: their items have no order.
    """
    global _SEQUENCES, _NESTED
    _KEPT.add(kind)
    if not issubclass(kind, _NESTED):
        _SEQUENCES = (*_SEQUENCES, kind)
        _NESTED = (*_NESTED, kind)


def is_nested(structure: Any) -> bool:
    """Whether ``structure`` is a list, a tuple, a deque or a dict."""
    return isinstance(structure, _NESTED)


def ordered_keys(structure: dict[Any, Any]) -> list[Any]:
    """The keys of a dict in the order in which its entries are leaves."""
    return list(structure) if isinstance(structure, OrderedDict) else sorted(structure)


def flatten(structure: Any) -> list[Any]:
    """Returns the leaves; the entries of a dict in the order of their sorted keys.

    Example:
        >>> flatten({"b": 1, "a": [2, 3]})
        [2, 3, 1]
    """
    if isinstance(structure, _SEQUENCES):
        return [leaf for item in structure for leaf in flatten(item)]
    if isinstance(structure, dict):
        return [leaf for key in ordered_keys(structure) for leaf in flatten(structure[key])]
    return [structure]


def flatten_with_path(structure: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns pairs of a path, made of indices and keys, and the leaf there.

    Example:
        >>> flatten_with_path([{"foo": 42}, 7])
        [((0, 'foo'), 42), ((1,), 7)]
    """
    return list(_with_paths((), structure))


def _with_paths(path: tuple[Any, ...], structure: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if not is_nested(structure):
        yield path, structure
        return
    for key, item in _children(structure):
        yield from _with_paths((*path, key), item)


def _children(structure: Any) -> list[tuple[Any, Any]]:
    """Index or key, and what lies there."""
    if isinstance(structure, dict):
        return [(key, structure[key]) for key in ordered_keys(structure)]
    return list(enumerate(structure))


def map_structure(func: Callable[..., Any], *structures: Any, none_is_leaf: bool = True) -> Any:
    """Applies ``func`` to corresponding leaves; the result is nested like the first structure.

    Args:
        func: takes a leaf of each structure.
        *structures: nested alike.
        none_is_leaf: whether ``func`` sees None; otherwise None stays as it is.

    Raises:
        TypeError: if ``func`` cannot be called.
        ValueError: if there is no structure, or they are nested differently.

    Example:
        >>> map_structure(lambda x, y: x + y, {"a": [1, 2]}, {"a": [10, 20]})
        {'a': [11, 22]}
    """
    if not callable(func):
        raise TypeError(f"`func` must be callable, got {func!r} of type {type(func)}")
    if not structures:
        raise ValueError("map_structure needs at least one structure")
    if len(structures) == 1:
        return _mapped(func if none_is_leaf else _past_none(func), structures[0])
    return _mapped_together(func if none_is_leaf else _past_none(func), structures)


def _mapped(func: Callable[..., Any], structure: Any) -> Any:
    if isinstance(structure, dict):
        return _rebuild(structure, [_mapped(func, item) for item in structure.values()])
    if isinstance(structure, _SEQUENCES):
        return _rebuild(structure, [_mapped(func, item) for item in structure])
    return func(structure)


def _mapped_together(func: Callable[..., Any], structures: Sequence[Any]) -> Any:
    first = structures[0]
    if not is_nested(first):
        for other in structures[1:]:
            _check_alike(first, other)
        return func(*structures)
    for other in structures[1:]:
        _check_alike(first, other)
    if isinstance(first, dict):
        keys = list(first)
        return _rebuild(
            first, [_mapped_together(func, [s[key] for s in structures]) for key in keys]
        )
    return _rebuild(
        first, [_mapped_together(func, group) for group in zip(*structures, strict=True)]
    )


def _past_none(func: Callable[..., Any]) -> Callable[..., Any]:
    def skipping(*leaves: Any) -> Any:
        if leaves[0] is not None:
            return func(*leaves)
        if any(leaf is not None for leaf in leaves):
            raise ValueError(f"expected None in every structure, got {leaves!r}")
        return None

    return skipping


def map_structure_up_to(shallow_structure: Any, func: Callable[..., Any], *structures: Any) -> Any:
    """Applies ``func`` to what lies where ``shallow_structure`` has leaves.

    Args:
        shallow_structure: says how deep to go.
        func: takes what lies there in each of ``structures``, nested or not.
        *structures: nested like ``shallow_structure``, or deeper.

    Raises:
        TypeError: if ``func`` cannot be called.
        ValueError: if there is no structure, or one is not as deep.

    Example:
        >>> map_structure_up_to([None, None], len, [[1, 1], [2, 2, 2]])
        [2, 3]
    """
    if not callable(func):
        raise TypeError(f"`func` must be callable, got {func!r} of type {type(func)}")
    if not structures:
        raise ValueError("map_structure_up_to needs at least one structure")

    def mapped(shallow: Any, given: Sequence[Any]) -> Any:
        if not is_nested(shallow):
            return func(*given)
        for other in given:
            _check_alike(shallow, other)
        if isinstance(shallow, dict):
            items = [mapped(shallow[key], [s[key] for s in given]) for key in shallow]
        else:
            items = [mapped(own, group) for own, *group in zip(shallow, *given, strict=True)]
        return _rebuild(shallow, items)

    return mapped(shallow_structure, structures)


def map_shape_structure(func: Callable[[Any], Any], structure: Any) -> Any:
    """Applies ``func`` to shapes: lists and tuples of integers and None are leaves.

    Example:
        >>> map_shape_structure(len, {"a": (None, 3), "b": [(1, 2, 3)]})
        {'a': 2, 'b': [3]}
    """
    if not callable(func):
        raise TypeError(f"`func` must be callable, got {func!r} of type {type(func)}")

    def mapped(part: Any) -> Any:
        if isinstance(part, list | tuple) and all(e is None or isinstance(e, int) for e in part):
            return func(part)
        if not is_nested(part):
            return func(part)
        found = {key: mapped(item) for key, item in _children(part)}
        return _rebuild(part, [found[key] for key in (part if isinstance(part, dict) else found)])

    return mapped(structure)


def traverse(func: Callable[[Any], Any], structure: Any, top_down: bool = True) -> Any:
    """Calls ``func`` on every part of ``structure``, depth first.

    Args:
        func: what it returns replaces the part, unless it is None; :class:`MAP_TO_NONE` stands
            for None. Top down, a part that was replaced is not gone into.
        structure: the structure.
        top_down: whether a part comes before what is in it.

    Raises:
        TypeError: if ``func`` cannot be called.

    Example:
        >>> traverse(lambda x: tuple(x) if isinstance(x, list) else None, [1, [2]], top_down=False)
        (1, (2,))
    """
    if not callable(func):
        raise TypeError(f"`func` must be callable, got {func!r} of type {type(func)}")

    def inside(part: Any) -> Any:
        if not is_nested(part):
            return part
        found = {key: traverse(func, item, top_down) for key, item in _children(part)}
        order = part if isinstance(part, dict) else found
        return _rebuild(part, [found[key] for key in order])

    if top_down:
        made = func(structure)
        if made is None:
            return inside(structure)
    else:
        whole = inside(structure)
        made = func(whole)
        if made is None:
            return whole
    return None if made is MAP_TO_NONE else made


def lists_to_tuples(structure: Any) -> Any:
    """Returns the structure with tuples where there were lists.

    Example:
        >>> lists_to_tuples([1, {"a": [2]}])
        (1, {'a': (2,)})
    """
    return traverse(lambda x: tuple(x) if isinstance(x, list) else None, structure, top_down=False)


def assert_same_structure(a: Any, b: Any, check_types: Any = None) -> None:
    """Raises unless two structures are nested alike, in containers of the same types.

    Dicts, ordered dicts and default dicts with the same keys are alike.

    Args:
        a: a structure.
        b: another.
        check_types: as in Keras, it has no effect and warns.

    Raises:
        ValueError: if they differ.
    """
    if check_types is not None:
        warn_caller(
            "`check_types` has no effect; to compare lists with tuples use `assert_same_paths`",
            DeprecationWarning,
        )
    _check_alike(a, b)
    if isinstance(a, dict):
        for key in a:
            assert_same_structure(a[key], b[key])
    elif is_nested(a):
        for own, other in zip(a, b, strict=True):
            assert_same_structure(own, other)


def assert_same_paths(a: Any, b: Any) -> None:
    """Raises unless the leaves of two structures lie at the same indices and keys.

    Raises:
        ValueError: naming the paths that only one of them has.
    """
    ours = {path for path, _ in flatten_with_path(a)}
    theirs = {path for path, _ in flatten_with_path(b)}
    if ours == theirs:
        return
    text = "`a` and `b` don't have the same paths."
    if only := ours - theirs:
        text += f"\nOnly in `a`: {sorted(only, key=repr)}"
    if only := theirs - ours:
        text += f"\nOnly in `b`: {sorted(only, key=repr)}"
    raise ValueError(text)


def pack_sequence_as(structure: Any, flat_sequence: Sequence[Any]) -> Any:
    """Returns leaves in the shape of ``structure``; the inverse of :func:`flatten`.

    Args:
        structure: says how to nest.
        flat_sequence: the leaves.

    Raises:
        TypeError: if ``flat_sequence`` is not iterable.
        ValueError: if the number of leaves differs.

    Example:
        >>> pack_sequence_as({"b": 0, "a": (0, 0)}, [1, 2, 3])
        {'b': 3, 'a': (1, 2)}
    """
    leaves = list(flat_sequence)
    count = len(flatten(structure))
    if count != len(leaves):
        problem = "Too few" if len(leaves) < count else "Too many"
        raise ValueError(
            f"{problem} leaves for {structure!r}; expected: {count}, got {len(leaves)}"
        )
    return _pack(structure, iter(leaves))


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, dict):
        packed = {key: _pack(structure[key], leaves) for key in ordered_keys(structure)}
        return _rebuild(structure, [packed[key] for key in structure])
    if isinstance(structure, _SEQUENCES):
        return _rebuild(structure, [_pack(item, leaves) for item in structure])
    return next(leaves)


def _rebuild(like: Any, items: list[Any]) -> Any:
    """A container of the kind of ``like``; the items of a dict in the order of its own keys."""
    if isinstance(like, dict):
        pairs = zip(like, items, strict=True)
        if isinstance(like, OrderedDict):
            return OrderedDict(pairs)
        if isinstance(like, defaultdict):
            return defaultdict(like.default_factory, pairs)
        return type(like)(pairs) if type(like) in _KEPT else dict(pairs)
    if type(like) in _KEPT:
        return type(like)(items)
    if isinstance(like, list):
        return items
    if isinstance(like, deque):
        return deque(items, like.maxlen)
    if hasattr(like, "_fields"):
        return type(like)(*items)
    return tuple(items)


def _check_alike(a: Any, b: Any) -> None:
    """Compares one level of two structures.

    Raises:
        ValueError: if they are of different kinds, lengths or keys.
    """
    if not is_nested(a):
        if is_nested(b):
            raise ValueError(f"{a!r} and {b!r} don't have the same nested structure")
        return
    kind = _kind(a)
    if kind is not _kind(b):
        named = "namedtuple " if hasattr(a, "_fields") else ""
        raise ValueError(
            f"Expected an instance of {named}{type(a).__module__}.{type(a).__qualname__}, got "
            f"{b!r} of type {type(b)}, while comparing it with {a!r}"
        )
    if kind is dict:
        if a.keys() != b.keys():
            raise ValueError(f"Dictionary key mismatch: expected {sorted(a)}, got {sorted(b)}")
    elif len(a) != len(b):
        raise ValueError(f"Arity mismatch: expected {len(a)} items, got {len(b)} in {b!r}")


def _kind(structure: Any) -> Any:
    for kind in (dict, list, deque):
        if isinstance(structure, kind):
            return kind
    plain = isinstance(structure, tuple) and not hasattr(structure, "_fields")
    return tuple if plain else type(structure)


if not TYPE_CHECKING:  # a __getattr__ would hide typing errors from mypy
    __getattr__ = plain_module(__name__)
