"""Objects that know when they were changed.

A program was traced from layers, losses, an optimizer. When one of them is changed, the program is
no longer what they say. Each change of a :class:`Watched` object, or of a list, dict or set among
its attributes, gets a number that no other change has: whoever remembers :data:`now` knows by one
comparison that nothing at all was changed since, and otherwise asks the objects that matter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, ClassVar

from handmill.ir.graph import current_graph
from handmill.tree import keep_kind

now = 0
"""The number of the last change of any watched object of this process."""

_numbers = count(1)


def notice(changed: Any) -> None:
    """Gives a change of ``changed`` its number; called after the change."""
    global now
    number = changed.__dict__["_changed"] = next(_numbers)
    now = number


_NOTHING: frozenset[str] = frozenset()
_set = object.__setattr__
_OURS: dict[type, bool] = {}


def is_ours(kind: type) -> bool:
    """Whether a class was written in this package."""
    found = _OURS.get(kind)
    if found is None:
        found = _OURS[kind] = kind.__module__.startswith("handmill.")
    return found


class Watched:
    """Notices when its attributes are set or deleted.

    Lists, dicts and sets become ones that notice their changes too; they are copied, as Keras
    does with those that layers hold.
    """

    _changed: int = 0  # the number of the last change
    _unwatched: ClassVar[frozenset[str]] = frozenset()
    """Attributes that no program depends on: their changes are not noticed."""
    _undescribed: ClassVar[frozenset[str]] = frozenset()
    """Attributes that are noticed, but not described with the object (runtime/structure.py)."""

    def __setattr__(self, name: str, value: Any) -> None:
        watched = name not in self._unwatched
        if watched:
            if self.__dict__.get(name, _KINDS) is value:
                return
            kind = _KINDS.get(type(value))
            if kind is not None:
                value = kind(value)
        if _OURS.get(type(self)):
            _set(self, name, value)  # no other class among ours has a way of its own
        else:
            super().__setattr__(name, value)
            if watched and not is_ours(type(self)):
                self._note_writer(name)
        if watched:
            notice(self)

    def _start(self, **attributes: Any) -> None:
        """Sets attributes of an object that is being made, as one change."""
        if not is_ours(type(self)):  # which may have properties of these names
            for name, value in attributes.items():
                setattr(self, name, value)
            return
        for name, value in attributes.items():
            kind = _KINDS.get(type(value))
            if kind is not None and name not in self._unwatched:
                attributes[name] = kind(value)
        self.__dict__.update(attributes)
        notice(self)

    def _note_writer(self, name: str) -> None:
        """Remembers which attributes ``call`` itself has written last, such as a count of calls.

        The next trace writes them anew, so no program depends on what they hold.
        """
        written: set[str] = self.__dict__.get("_written", _NOTHING)
        if current_graph() is not None:
            self.__dict__["_written"] = written | {name}
        elif name in written:
            self.__dict__["_written"] = written - {name}

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        notice(self)


SETTINGS = Watched()
"""Stands for settings of the process that programs are traced with."""

TRAINABLE = Watched()
"""Stands for what is trainable, of all layers and variables."""


def _noticing(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *map(_tracked, args), **kwargs)
        finally:
            notice(self)

    return call


def _tracked(value: Any) -> Any:
    kind = _KINDS.get(type(value))
    return value if kind is None else kind(value)


class TrackedList(list[Any]):
    """A list that notices its changes."""

    _changed: int = 0

    def __init__(self, items: Any = ()) -> None:
        if type(items) is list and not items:  # as most that layers and optimizers begin with
            super().__init__()
        else:
            super().__init__(map(_tracked, items))

    def append(self, item: Any) -> None:
        """Appends an item."""
        list.append(self, _tracked(item))
        notice(self)


class TrackedDict(dict[Any, Any]):
    """A dict that notices its changes."""

    _changed: int = 0

    def __init__(self, items: Any = (), **more: Any) -> None:
        super().__init__(items, **more)
        for key, value in self.items():
            kind = _KINDS.get(type(value))
            if kind is not None:
                super().__setitem__(key, kind(value))

    def copy(self) -> dict[Any, Any]:
        """A plain dict with the same entries."""
        return dict(self)


class TrackedSet(set[Any]):
    """A set that notices its changes."""

    _changed: int = 0


_KINDS: dict[type, type] = {list: TrackedList, dict: TrackedDict, set: TrackedSet}


def collect(container: Any, found: list[Any] | None) -> bool:
    """Appends a container, and those in it, that notice their changes; each once.

    Returns:
        Whether all of them do, and cannot be changed otherwise.
    """
    return found is not None and _collect(container, found, {id(known) for known in found})


def _collect(container: Any, found: list[Any], known: set[int]) -> bool:
    if type(container) not in _CHANGES and type(container) is not tuple:
        return False
    if id(container) in known:
        return True
    known.add(id(container))
    if type(container) is not tuple:
        found.append(container)
    items = container.values() if isinstance(container, dict) else container
    return all(
        [
            _collect(x, found, known)
            for x in items
            if isinstance(x, (list, tuple, dict, set, frozenset))
        ]
    )


def sum_of_marks(things: Sequence[Any]) -> int:
    """A sum that grows when one of these things is changed."""
    return sum([thing._changed for thing in things])


_CHANGES = {
    TrackedList: "clear extend insert pop remove reverse sort __delitem__ __iadd__ __imul__ "
    "__setitem__",
    TrackedDict: "clear pop popitem setdefault update __delitem__ __ior__ __setitem__",
    TrackedSet: "add clear difference_update discard intersection_update pop remove "
    "symmetric_difference_update update __iand__ __ior__ __isub__ __ixor__",
}

for _kind, _names in _CHANGES.items():
    keep_kind(_kind)
    for _name in _names.split():
        setattr(_kind, _name, _noticing(getattr(_kind, _name)))
