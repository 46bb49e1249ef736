"""What a traced program depends on, as a key.

Two models of equal structure (the same layers with the same settings, variables of the same shapes
at the same places) have equal keys and share their programs; and a model whose key has changed is
no longer what its programs were traced from.

Objects of this package are described by their type and attributes, plain data and small arrays by
their content, functions by their identity. What else an attribute may hold is described by its
identity and, one level deep, by its attributes: then no other model shares the programs.
"""

from __future__ import annotations

import functools
import hashlib
import re
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import count
from operator import is_
from typing import Any

import numpy as np

from handmill import config
from handmill.ir.graph import Value
from handmill.runtime import watch
from handmill.runtime.variable import Variable
from handmill.runtime.watch import TrackedDict, TrackedList, TrackedSet, Watched, is_ours

MOST_ARRAY_BYTES = 1 << 20
"""Larger arrays are told apart by identity: nobody reads them again before each call."""

_MOST_ITEMS = 4096
"""Longer containers that notice their changes are described by the number of the last one."""


class Structure:
    """The description of some objects.

    Args:
        parts: the objects.
        trainable: whether :meth:`holds` and :meth:`is_equal` look at what is trainable.

    Attributes:
        key: hashable; equal for equal structures, where equally much is trainable.
        variables: every variable in it, in the order in which the description meets them.
        names: those of the layers, in the order in which the description meets them.
        is_shared: whether another structure with the same key means the same programs.
    """

    __slots__ = (
        "_atoms", "_flags", "_marks", "_probes", "_watched", "is_shared", "names", "variables",
    )  # fmt: skip

    def __init__(self, parts: Sequence[Any], trainable: bool = True) -> None:
        walk = Walk()
        walk.watched.append(watch.SETTINGS)
        if trainable:
            walk.watched.append(watch.TRAINABLE)
        walk.atoms += (config.epsilon(), config.strict_keras())
        for part in parts:
            walk.visit(part)
        self._atoms = tuple(walk.atoms)
        self._flags = tuple([thing._trainable for thing in walk.flagged])
        self.variables = walk.variables
        self.names = walk.names
        self.is_shared = walk.is_shared
        self._watched = walk.watched
        self._probes = walk.probes
        self._marks = watch.sum_of_marks(walk.watched)

    @classmethod
    def expected(
        cls, key: Any, variables: list[Variable], names: list[str], trainable: bool
    ) -> Structure:
        """One that nobody has described: :meth:`holds` is False, so that somebody will.

        Args:
            key: what the description would give.
            variables: those that it would meet, in order.
            names: those of the layers.
            trainable: whether what is trainable is looked at.
        """
        made = cls.__new__(cls)
        made._atoms, made._flags = key
        made.variables, made.names, made.is_shared = variables, names, True
        made._watched = [watch.SETTINGS, watch.TRAINABLE] if trainable else [watch.SETTINGS]
        made._probes = []
        made._marks = -1
        return made

    @property
    def key(self) -> Any:
        return self._atoms, self._flags

    @property
    def looks_at_trainable(self) -> bool:
        """Whether it notices what is trainable."""
        return watch.TRAINABLE in self._watched[:2]

    @property
    def must_ask(self) -> bool:
        """Whether it holds things that do not notice their changes."""
        return bool(self._probes)

    def holds(self) -> bool:
        """Whether nothing was changed since it was described. Takes microseconds."""
        return self._marks == watch.sum_of_marks(self._watched) and all(
            probe() for probe in self._probes
        )

    def is_equal(self, other: Structure) -> bool:
        """Whether programs of one are programs of the other, with the same variables."""
        return (
            self._atoms == other._atoms
            and (not self.looks_at_trainable or self._flags == other._flags)
            and len(self.variables) == len(other.variables)
            and all(map(is_, self.variables, other.variables))
        )


class Walk:
    """Collects the description. Types may define ``describe_structure(walk)``.

    Attributes:
        atoms: what the key will be made of; each thing says where it ends.
        flagged: layers and variables, which may be trainable, in their order.
    """

    def __init__(self) -> None:
        self.flagged: list[Any] = []
        self.atoms: list[Any] = []
        self.variables: list[Variable] = []
        self.names: list[str] = []
        self.watched: list[Any] = []
        self.probes: list[Callable[[], bool]] = []
        self.is_shared = True
        self.numbers: dict[int, int] = {}
        self.kept: list[Any] = []  # so that ids stay what they are

    def visit(self, thing: Any) -> None:
        """Describes ``thing``."""
        handler = _HANDLERS.get(type(thing)) or _handler_for(type(thing))
        handler(self, thing)

    def add(self, *atoms: Any) -> None:
        """Appends hashable atoms as they are."""
        self.atoms += atoms

    def is_new(self, thing: Any) -> bool:
        """Appends the number of ``thing``; whether it is met for the first time."""
        numbers = self.numbers
        count = len(numbers)
        number = numbers.setdefault(id(thing), count)
        if number != count:
            self.atoms.append(number)
            return False
        self.kept.append(thing)
        self.atoms.append(type(thing))
        return True

    def visit_apart(self, thing: Any, describe: Callable[[Walk], None]) -> None:
        """Describes ``thing``, and all that is in it, by one atom, which it remembers.

        Equal things have the same atom. What was met before must not be in it: such a thing is
        described in its place.

        Args:
            thing: a Watched object.
            describe: describes it and what is in it.
        """
        if id(thing) in self.numbers:
            self.is_new(thing)
            return
        part = part_of(thing, describe)
        if self.numbers and not self.numbers.keys().isdisjoint(part.ids):
            describe(self)
            return
        self.numbers.update(zip(part.ids, count(len(self.numbers)), strict=False))
        self.atoms.append(part.atom)
        self.flagged += part.flagged
        self.variables += part.variables
        self.names += part.names
        self.watched += part.watched
        self.kept += part.kept
        self.probes += part.probes
        self.is_shared = self.is_shared and part.is_shared

    def visit_constant(self, *things: Any) -> None:
        """Describes things whose containers do not change."""
        known = len(self.probes)
        for thing in things:
            self.visit(thing)
        del self.probes[known:]

    def attributes(self, thing: Any, *skipped: frozenset[str]) -> None:
        """Describes the attributes of ``thing``, an object of this package or made from it.

        Args:
            thing: the object.
            *skipped: sets of names that are left out.
        """
        if not is_ours(type(thing)):
            self.is_shared = False
            skipped = (*skipped, thing.__dict__.get("_written", _NOTHING))
        attributes = thing.__dict__
        key = (*skipped, *attributes)
        names = _NAMES.get(key)
        if names is None:
            names = _names_to_describe(key, skipped, attributes)
        atoms, handlers = self.atoms, _HANDLERS
        atoms.append(names)
        for name in names:
            value = attributes[name]
            kind = type(value)
            if value is None or kind is str:
                atoms.append(value)
            elif kind is bool:
                atoms.append(_TRUE if value else _FALSE)
            else:
                handler = handlers.get(kind) or _handler_for(kind)
                handler(self, value)


def part_of(thing: Any, describe: Callable[[Walk], None]) -> Part:
    """What a Watched object adds to a description; remembered until something in it changes."""
    known: Part | None = thing.__dict__.get("_part")
    if known is not None and known.holds():
        return known
    made = Part(describe)
    thing.__dict__["_part"] = made if not made.probes else None
    return made


class Part:
    """What a thing adds to a description, where nothing in it was met before.

    Args:
        describe: describes the thing and what is in it.
    """

    __slots__ = (
        "_kinds", "_marks", "atom", "flagged", "ids", "is_shared", "kept", "names", "probes",
        "variables", "watched",
    )  # fmt: skip

    def __init__(self, describe: Callable[[Walk], None]) -> None:
        walk = Walk()
        describe(walk)
        self.atom = _PartKey.of(tuple(walk.atoms))
        self.flagged, self.variables, self.names = walk.flagged, walk.variables, walk.names
        self.watched, self.probes, self.kept = walk.watched, walk.probes, walk.kept
        self.ids = list(walk.numbers)
        self.is_shared = walk.is_shared
        self._marks = watch.sum_of_marks(walk.watched)
        self._kinds: dict[type, bool] = {}

    def holds(self) -> bool:
        """Whether nothing in it was changed since."""
        return self._marks == watch.sum_of_marks(self.watched)

    def holds_any(self, kind: type) -> bool:
        """Whether an object of a class may be in it."""
        found = self._kinds.get(kind)
        if found is None:
            kinds = set(map(type, self.kept))
            found = not self.is_shared or any([issubclass(k, kind) for k in kinds])
            self._kinds[kind] = found
        return found


class _PartKey:
    """Stands for the atoms of a part: the same object for equal ones."""

    __slots__ = ("__weakref__",)

    @staticmethod
    def of(atoms: tuple[Any, ...]) -> _PartKey:
        """The only one for these atoms."""
        return _PART_KEYS.setdefault(atoms, _PartKey())


_PART_KEYS: weakref.WeakValueDictionary[tuple[Any, ...], _PartKey] = weakref.WeakValueDictionary()


_NOTHING: frozenset[str] = frozenset()
_NAMES: dict[tuple[Any, ...], tuple[str, ...]] = {}
"""The names of attributes that are described, by sets of skipped names and all names."""

_MOST_NAMES = 4096


def _names_to_describe(
    key: tuple[Any, ...], skipped: Sequence[frozenset[str]], attributes: Iterable[str]
) -> tuple[str, ...]:
    if len(_NAMES) >= _MOST_NAMES:
        _NAMES.clear()
    left_out = frozenset({"_changed", "_written"}).union(*skipped)
    found = _NAMES[key] = tuple([name for name in attributes if name not in left_out])
    return found


class _Bool:
    """Stands for True or False in keys, where 1 and 0 are numbers of things."""


_TRUE, _FALSE = _Bool(), _Bool()


class Constant:
    """Things whose containers nobody changes."""

    def __init__(self, *things: Any) -> None:
        self._things = things

    def describe_structure(self, walk: Walk) -> None:
        """Adds the things to a description."""
        walk.visit_constant(*self._things)


def describe_watched(walk: Walk, thing: Watched, skipped: frozenset[str] = _NOTHING) -> None:
    """Describes an object that notices its changes, by type and attributes."""
    if walk.is_new(thing):
        walk.watched.append(thing)
        walk.attributes(thing, thing._unwatched, thing._undescribed, skipped)


def _plain(walk: Walk, thing: Any) -> None:
    walk.atoms += (type(thing), thing)


def _as_is(walk: Walk, thing: Any) -> None:
    walk.atoms.append(thing)


def _float(walk: Walk, thing: float) -> None:
    walk.atoms += (float, thing.hex())


def _scalar(walk: Walk, thing: Any) -> None:
    walk.atoms += (type(thing), thing.tobytes())


def _tuple(walk: Walk, thing: tuple[Any, ...]) -> None:
    walk.atoms += (type(thing), len(thing))
    for item in thing:
        walk.visit(item)


def _list(walk: Walk, thing: Any) -> None:
    """A list or set that does not notice its changes."""
    items = list(thing)
    _tuple(walk, tuple(items))
    walk.probes.append(lambda: len(thing) == len(items) and all(map(is_, thing, items)))


def _dict(walk: Walk, thing: Any) -> None:
    known = list(thing.items())
    walk.atoms += (type(thing), len(known))
    for key, value in known:
        walk.visit(key)
        walk.visit(value)
    walk.probes.append(lambda: _has_items(thing, known))


def _has_items(thing: Any, known: list[tuple[Any, Any]]) -> bool:
    if len(thing) != len(known):
        return False
    return all(
        a is c and b is d for (a, b), (c, d) in zip(list(thing.items()), known, strict=False)
    )


def _tracked(walk: Walk, thing: Any) -> None:
    if not walk.is_new(thing):
        return
    walk.watched.append(thing)
    walk.atoms.append(len(thing))
    if not thing:
        return
    if len(thing) > _MOST_ITEMS:
        walk.is_shared = False
        walk.atoms.append(thing._changed)
        return
    items: Iterable[Any] = thing
    if type(thing) is not TrackedList:
        if isinstance(thing, dict):
            for key in thing:
                walk.visit(key)
            items = thing.values()
        else:
            walk.is_shared = False  # the order of a set is no part of what it is
    handlers = _HANDLERS
    for item in items:
        handler = handlers.get(type(item)) or _handler_for(type(item))
        handler(walk, item)


def _array(walk: Walk, thing: Any) -> None:
    if thing.dtype.hasobject or thing.nbytes > MOST_ARRAY_BYTES:
        walk.is_shared = False
        walk.atoms.append(token(thing))
        return
    walk.atoms += (np.ndarray, thing.dtype.str, thing.shape, _digest(thing))
    if thing.flags.writeable or thing.base is not None:
        content = thing.copy()
        walk.probes.append(lambda: _has_content(thing, content))


def _digest(array: Any) -> bytes:
    content: bytes = array.tobytes()
    return content if len(content) <= 64 else hashlib.blake2b(content, digest_size=16).digest()


def _has_content(array: Any, content: Any) -> bool:
    return (
        array.shape == content.shape
        and array.dtype == content.dtype
        and bool(np.array_equal(array.view(np.uint8), content.view(np.uint8)))
        if array.flags.c_contiguous and array.ndim
        else array.tobytes() == content.tobytes()
    )


def _function(walk: Walk, thing: Any) -> None:
    if not (thing.__module__ or "").startswith("handmill."):
        walk.is_shared = False
    walk.atoms.append(token(thing))


def _identity(walk: Walk, thing: Any) -> None:
    walk.is_shared = False
    walk.atoms.append(token(thing))


def _constant(walk: Walk, thing: Any) -> None:
    """An object of this package that does not change, such as an operator."""
    walk.atoms.append(token(thing))


def _method(walk: Walk, thing: Any) -> None:
    walk.atoms.append(types.MethodType)
    walk.visit(thing.__func__)
    walk.visit(thing.__self__)


def _partial(walk: Walk, thing: Any) -> None:
    walk.atoms.append(functools.partial)
    walk.visit(thing.func)
    walk.visit(thing.args)
    _tuple(walk, tuple(thing.keywords.items()))


def _variable(walk: Walk, thing: Variable) -> None:
    numbers = walk.numbers  # as Walk.is_new does: most of what is described are variables
    count = len(numbers)
    number = numbers.setdefault(id(thing), count)
    if number != count:
        walk.atoms.append(number)
        return
    walk.kept.append(thing)
    walk.watched.append(thing)
    walk.variables.append(thing)
    walk.flagged.append(thing)
    spec, regularizer, constraint = thing.spec, thing.regularizer, thing.constraint
    plain = regularizer is None and constraint is None
    walk.atoms.append(
        (type(thing), spec.shape, spec.dtype, thing.autocast, thing.sparse_rows, plain)
    )
    if not plain:
        walk.visit(regularizer)
        walk.visit(constraint)


def _value(walk: Walk, thing: Value) -> None:
    """One of a trace that is over: nobody can use it any more."""
    walk.atoms.append(Value)


def _unknown(walk: Walk, thing: Any) -> None:
    """By identity, and one level of its attributes."""
    walk.is_shared = False
    if not walk.is_new(thing):
        return
    walk.atoms.append(token(thing))
    attributes = getattr(thing, "__dict__", None)
    if not isinstance(attributes, dict):
        return
    known = list(attributes.items())
    for name, value in known:
        walk.atoms.append(name)
        simple = _HANDLERS.get(type(value)) in _SIMPLE or isinstance(value, np.ndarray)
        (walk.visit if simple else functools.partial(_identity, walk))(value)
    walk.probes.append(lambda: _has_items(thing.__dict__, known))


def _described(walk: Walk, thing: Any) -> None:
    thing.describe_structure(walk)


_SIMPLE = (_plain, _as_is, _float, _scalar, _function)

_HANDLERS: dict[type, Callable[[Walk, Any], None]] = {
    type(None): _as_is,
    str: _as_is,
    bool: _plain,
    int: _plain,
    bytes: _plain,
    complex: _plain,
    type(Ellipsis): _plain,
    float: _float,
    tuple: _tuple,
    list: _list,
    dict: _dict,
    TrackedList: _tracked,
    TrackedDict: _tracked,
    TrackedSet: _tracked,
    re.Pattern: _plain,
    np.ndarray: _array,
    types.FunctionType: _function,
    types.BuiltinFunctionType: _function,
    types.MethodType: _method,
    types.ModuleType: _identity,
    functools.partial: _partial,
    Variable: _variable,
    Value: _value,
}


def _handler_for(kind: type) -> Callable[[Walk, Any], None]:
    """The handler of a type that has none of its own; found once."""
    found = _find_handler(kind)
    _HANDLERS[kind] = found
    return found


def _find_handler(kind: type) -> Callable[[Walk, Any], None]:
    if hasattr(kind, "describe_structure"):
        return _described
    if issubclass(kind, Variable):
        return _variable
    if issubclass(kind, Watched):
        return describe_watched
    if issubclass(kind, np.ndarray):
        return _array
    if issubclass(kind, np.generic):
        return _scalar
    if issubclass(kind, type):
        return _function
    if issubclass(kind, Enum | np.dtype):
        return _plain
    if issubclass(kind, tuple):
        return _tuple
    if issubclass(kind, list | set | frozenset):
        return _list
    if issubclass(kind, dict):
        return _dict
    if not is_ours(kind):
        return _unknown
    if kind.__hash__ is object.__hash__:  # equal to itself alone, whatever `==` gives
        return _constant
    return _plain  # shapes and specs


_tokens: dict[int, tuple[Any, Any]] = {}


class _Token:
    """Stands for an object in keys, without holding it."""

    __slots__ = ("__weakref__",)


class _Held:
    """Stands for an object that cannot be held weakly."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def token(thing: Any) -> Any:
    """What stands for ``thing`` and nothing else, also after it is gone."""
    found = _tokens.get(id(thing))
    if found is not None and found[0]() is thing:
        return found[1]
    made = _Token()

    def forget(reference: Any, key: int = id(thing)) -> None:
        if key in _tokens and _tokens[key][0] is reference:
            del _tokens[key]

    try:
        reference = weakref.ref(thing, forget)
    except TypeError:
        return _Held(thing)
    _tokens[id(thing)] = reference, made
    return made
