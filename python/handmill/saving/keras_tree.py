"""The objects whose state files of Keras hold, and the paths under which they lie there.

A path is made of the names of attributes and, in lists and dicts, of the names of classes; not of
the names of layers, which differ between two equal models of one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from handmill.naming import to_snake_case
from handmill.saving.objects import is_own
from handmill.saving.stored_variables import StoredVariables

Aliases = dict[int, list[str]]
"""The identity of an object -> the other paths that lead to it."""


def saveables(
    root: Any, skipped: Iterable[Any] = (), aliases: Aliases | None = None
) -> dict[str, Any]:
    """Returns the objects inside ``root``, and itself, by path.

    Objects in ``skipped`` are not entered; ``aliases`` gets the other paths of what is found.

    An object that is found under several attributes lies under the first of them: those that begin
    with ``_`` come last, the others in the order of their names.
    """
    found: dict[str, Any] = {}
    seen = _Seen({id(part) for part in skipped}, {} if aliases is None else aliases)
    _visit(root, "", found, seen)
    return found


class _Seen(NamedTuple):
    parts: set[int]
    aliases: Aliases


def other_paths(path: str, parts: Mapping[str, Any], aliases: Aliases) -> Iterator[str]:
    """The other paths that lead to the object at ``path``, itself or by what it lies in."""
    end = len(path)
    while end > 0:
        owner = parts.get(path[:end])
        for other in aliases.get(id(owner), ()) if owner is not None else ():
            yield f"{other}{path[end:]}"
        end = path.rfind("/", 0, end)


def _visit(part: Any, path: str, found: dict[str, Any], visited: _Seen) -> None:
    if id(part) in visited.parts:
        visited.aliases.setdefault(id(part), []).append(path)
        return
    visited.parts.add(id(part))
    found[path] = part
    for name, child in _attributes(part):
        _enter(child, f"{path}/{name}" if path else name, found, visited, set())


def _enter(
    child: Any, path: str, found: dict[str, Any], visited: _Seen, containers: set[int]
) -> None:
    if isinstance(child, StoredVariables):
        _visit(child, path, found, visited)
        return
    if not isinstance(child, list | tuple | dict) or id(child) in containers:
        return
    containers.add(id(child))
    used: dict[str, int] = {}
    for item in list(child.values() if isinstance(child, dict) else child):
        if isinstance(item, StoredVariables):
            name = to_snake_case(type(item).__name__)
        elif isinstance(item, list | tuple | dict):
            name = "container"
        else:
            continue
        count = used.get(name, -1) + 1
        used[name] = count
        name = f"{name}_{count}" if count else name
        _enter(item, f"{path}/{name}", found, visited, containers)


# What layers and models keep for themselves; the same objects are found under other names.
_INTERNAL = frozenset(
    {
        "_all_metrics",
        "_carried",
        "_row_generators",
        "_compile_arguments",
        "_eager_losses",
        "_graph",
        "_inbound_nodes",
        "_init_arguments",
        "_known_parts",
        "_part",
        "_layers",
        "_own_weights",
        "_predictors",
        "_programs",
        "_steps",
        "history",
        "objective",
    }
)


def _attributes(part: Any) -> Iterator[tuple[str, Any]]:
    has_layers = hasattr(part, "layers")
    # What the graph of a model holds comes before other attributes.
    if has_layers and getattr(part, "_graph", None) is not None:
        yield "layers", part.layers
    names = {name for name in vars(part) if name not in _INTERNAL}
    for cls in type(part).__mro__:
        if not is_own(cls):
            names |= {name for name, value in vars(cls).items() if isinstance(value, property)}
    if has_layers:
        names.add("layers")
    for name in sorted(names, key=_private_last):
        if name.startswith("__"):
            continue
        try:
            yield name, getattr(part, name)
        except Exception:  # a property of the user's that has nothing to give yet
            continue


def _private_last(name: str) -> str:
    return f"~{name}" if name.startswith("_") else name
