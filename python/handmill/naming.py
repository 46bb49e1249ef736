"""Names of objects, made the way Keras makes them."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

_counts: dict[str, int] = {}


class _Open(threading.local):
    def __init__(self) -> None:
        self.scopes: list[name_scope] = []


_OPEN = _Open()


class name_scope:
    """Puts a name before the paths of variables made in the ``with`` block.

    Layers do the same while they are built and called, so that a weight is called after
    the layers that it is inside of: ``encoder/dense/kernel``.

    Args:
        name: the name; without ``/``.
        caller: the object that opens the scope; its own scope right inside it is not opened again.
        deduplicate: whether that is so.
        override_parent: a path that stands for all scopes around this one.

    Raises:
        ValueError: if ``name`` is not a string or holds a ``/``.

    Example:
        >>> import handmill
        >>> with handmill.name_scope("encoder"):
        ...     rate = handmill.Variable(0.5, name="rate")
        >>> rate.path
        'encoder/rate'
    """

    def __init__(
        self,
        name: str,
        caller: Any = None,
        deduplicate: bool = True,
        override_parent: str | None = None,
    ) -> None:
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                "Argument `name` must be a string and cannot contain character `/`. "
                f"Received: name={name}"
            )
        self.name = name
        self.caller = caller
        self.deduplicate = deduplicate
        if override_parent is None and deduplicate:
            override_parent = getattr(caller, "_parent_path", None)
        self.override_parent = override_parent
        self._opened = False

    def __enter__(self) -> name_scope:
        scopes = _OPEN.scopes
        again = (
            self.deduplicate
            and self.caller is not None
            and bool(scopes)
            and scopes[-1].caller is self.caller
            and scopes[-1].name == self.name
        )
        if not again:
            scopes.append(self)
            self._opened = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened:
            self._opened = False
            if _OPEN.scopes:  # clear_session closes those of its thread
                _OPEN.scopes.pop()


def current_path() -> str:
    """The names of the open scopes, joined by ``/``; empty if there is none."""
    if not _OPEN.scopes:
        return ""
    parts: list[str] = []
    for scope in _OPEN.scopes:
        if scope.override_parent is not None:
            parts = [part for part in scope.override_parent.split("/") if part]
        parts.append(scope.name)
    return "/".join(parts)


def path_of(name: str) -> str:
    """``name`` below the open scopes."""
    outside = current_path()
    return f"{outside}/{name}" if outside else name


@functools.lru_cache(1024)
def to_snake_case(name: str) -> str:
    """Returns ``name`` as Keras writes it in object names.

    Example:
        >>> to_snake_case("BatchNormalization"), to_snake_case("ReLU")
        ('batch_normalization', 're_lu')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(class_name: str) -> str:
    """Returns the next free name of a class: ``dense``, ``dense_1``, ``dense_2``."""
    prefix = to_snake_case(class_name)
    return uniquify(prefix)


def uniquify(prefix: str) -> str:
    """Returns ``prefix``, with a number from its second use on."""
    count = _counts.get(prefix, 0)
    _counts[prefix] = count + 1
    return prefix if count == 0 else f"{prefix}_{count}"


def version() -> str:
    """The version of handmill, as ``handmill.__version__``."""
    from handmill import __version__

    return __version__


def reset_names() -> None:
    """Starts the numbering again and leaves the open scopes, as ``clear_session`` does."""
    _counts.clear()
    _OPEN.scopes.clear()


@contextmanager
def kept_names() -> Iterator[None]:
    """Lets names made in the ``with`` block count for nothing: numbering goes on as before."""
    counts = dict(_counts)
    try:
        yield
    finally:
        _counts.clear()
        _counts.update(counts)


@contextmanager
def names_of_its_own() -> Iterator[None]:
    """Numbers the names of the ``with`` block from the beginning, as in a fresh process."""
    with kept_names():
        _counts.clear()
        yield


def object_name(obj: Any) -> str:
    """Returns the name of an object or function, or makes one from its class."""
    name = getattr(obj, "name", None)
    if isinstance(name, str):
        return name
    name = getattr(obj, "__name__", None)
    return to_snake_case(name if isinstance(name, str) else type(obj).__name__)


def known_names(kind: str, received: object, known: Any) -> str:
    """Words the error of an unknown string, listing what is known.

    Args:
        kind: what was looked up, such as ``"optimizer"``.
        received: what the caller gave.
        known: the known names.
    """
    import difflib

    names = sorted(set(known))
    text = f"Unknown {kind}: {received!r}. Known: {', '.join(names)}."
    if (of_keras := _name_in_keras(kind, received)) is not None:
        return f"{text} Keras has {of_keras}; handmill has not yet (docs/supported.md)."
    near = difflib.get_close_matches(str(received), names, n=1)
    return f"{text} Did you mean {near[0]!r}?" if near else text


_MODULES = {
    "activation function": "activations",
    "constraint": "constraints",
    "initializer": "initializers",
    "loss": "losses",
    "metric": "metrics",
    "optimizer": "optimizers",
    "regularizer": "regularizers",
}


def _name_in_keras(kind: str, received: object) -> str | None:
    """The name in Keras that a string such as ``"auc"`` means."""
    from handmill.keras_names import KERAS_NAMES

    def plain(name: str) -> str:
        return name.replace("_", "").lower()

    module = _MODULES.get(kind, "")
    text = str(received)
    names = [n for n in KERAS_NAMES.get(module, "").split() if plain(n) == plain(text)]
    return f"{module}.{text if text in names else names[0]}" if names else None
