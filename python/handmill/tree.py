"""Nested structures of lists, tuples and dicts, flattened in Keras's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from handmill.lazy import plain_module


def is_nested(structure: Any) -> bool:
    """Whether ``structure`` is a list, a tuple or a dict."""
    return isinstance(structure, list | tuple | dict)


def flatten(structure: Any) -> list[Any]:
    """Returns the leaves; the entries of a dict in the order of their sorted keys.

    Example:
        >>> flatten({"b": 1, "a": [2, 3]})
        [2, 3, 1]
    """
    if isinstance(structure, list | tuple):
        return [leaf for item in structure for leaf in flatten(item)]
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in flatten(structure[key])]
    return [structure]


def map_structure(function: Callable[..., Any], *structures: Any) -> Any:
    """Applies ``function`` to corresponding leaves; the result has the same structure."""
    first = structures[0]
    if isinstance(first, dict):
        return {key: map_structure(function, *(s[key] for s in structures)) for key in first}
    if isinstance(first, list | tuple):
        items = [map_structure(function, *group) for group in zip(*structures, strict=True)]
        return _rebuild(first, items)
    return function(*structures)


def pack_sequence_as(structure: Any, leaves: Sequence[Any]) -> Any:
    """Returns ``leaves`` in the shape of ``structure``; the inverse of :func:`flatten`.

    Raises:
        ValueError: if the number of leaves differs.
    """
    count = len(flatten(structure))
    if count != len(leaves):
        raise ValueError(f"expected {count} leaves for {structure!r}, got {len(leaves)}")
    return _pack(structure, iter(leaves))


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, dict):
        packed = {key: _pack(structure[key], leaves) for key in sorted(structure)}
        return {key: packed[key] for key in structure}
    if isinstance(structure, list | tuple):
        return _rebuild(structure, [_pack(item, leaves) for item in structure])
    return next(leaves)


def _rebuild(like: list[Any] | tuple[Any, ...], items: list[Any]) -> Any:
    if isinstance(like, list):
        return items
    if hasattr(like, "_fields"):
        return type(like)(*items)
    return tuple(items)


if not TYPE_CHECKING:  # a __getattr__ would hide typing errors from mypy
    __getattr__ = plain_module(__name__)
