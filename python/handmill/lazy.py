"""Packages whose names are imported when they are first used (PEP 562)."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

_IMPORT_FROM = dis.opmap["IMPORT_FROM"]


def lazy_exports(
    package: str,
    names: Mapping[str, str],
    absent: Callable[[str], str] | None = None,
    needs: tuple[tuple[str, ...], str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: the package's ``__name__``.
        names: public name -> module that defines it, ``".core"`` being relative to the package.
            A module listed under its own last name, such as ``"layers": ".layers"``, is
            exported itself; ``".core:make"`` exports ``make`` under another name.
        absent: words the error for another name; default: :func:`missing_name`.
        needs: the packages of another library without which the names cannot be imported, and
            what to install.

    Returns:
        The two functions, to be bound in the package's ``__init__.py``.

    Example:
        >>> __getattr__, __dir__ = lazy_exports("handmill.layers", {"Dense": ".core"})
        >>> __dir__()
        ['Dense']
    """

    def getattr_(name: str) -> Any:
        if name == "__all__":  # of `from package import *`
            return sorted(names)
        where = names.get(name)
        if where is None and absent is not None:
            raise _error(package, absent(name))
        if where is None:
            raise missing_name(package, name, list(names))
        module_name, _, attribute = where.partition(":")
        try:
            module = importlib.import_module(module_name, package)
        except ImportError as error:
            if needs and (error.name or "").partition(".")[0] in needs[0]:
                raise ImportError(f"{package} needs {needs[1]}") from error
            if error.name is None or not error.name.startswith("handmill"):
                raise
            if error.name != importlib.util.resolve_name(module_name, package):
                raise
            raise missing_name(package, name, list(names)) from None
        is_module = not attribute and module.__name__ == f"{package}.{name}"
        value = module if is_module else getattr(module, attribute or name)
        setattr(sys.modules[package], name, value)
        return value

    def dir_() -> list[str]:
        return sorted(names)

    return getattr_, dir_


def publish(
    package: str, *modules: ModuleType, wrap: Callable[[Any], Any] = lambda function: function
) -> None:
    """Brings the functions that modules define into their package, and writes both ``__all__``.

    A function is named once, where it is defined; with a leading underscore it stays there.

    Args:
        package: the package's ``__name__``.
        modules: its modules; of packages among them, what they have published themselves.
        wrap: what the package shows in the place of a function.
    """
    room = vars(sys.modules[package])
    room["__all__"] = []
    for module in modules:
        known = vars(module)
        if "__all__" not in known:
            known["__all__"] = [
                name
                for name, value in known.items()
                if not name.startswith("_")
                and isinstance(value, FunctionType)
                and value.__module__ == module.__name__
            ]
        room["__all__"] += known["__all__"]
        room.update((name, wrap(known[name])) for name in known["__all__"])


def plain_module(module: str) -> Callable[[str], Any]:
    """Makes the ``__getattr__`` of a module that is not a package; it only words the error.

    Args:
        module: the module's ``__name__``.
    """

    def getattr_(name: str) -> Any:
        if name.startswith("__"):  # the import system asks for __path__ at each import
            raise AttributeError(name)
        known = [n for n in vars(sys.modules[module]) if not n.startswith("_")]
        raise missing_name(module, name, known)

    return getattr_


def forwarded_to(target: ModuleType) -> Callable[[str], Any]:
    """Makes the ``__getattr__`` of a module that stands for another one."""

    def getattr_(name: str) -> Any:
        return getattr(target, name)

    return getattr_


def missing_name(module: str, name: str, known: list[str]) -> Exception:
    """The error for a name that ``module`` lacks.

    ``from module import name`` gets an ImportError, everything else an AttributeError, so
    that ``hasattr`` stays False. (Python would replace an AttributeError by an ImportError
    with a text of its own.)
    """
    text = f"module {module!r} has no attribute {name!r}"
    if not name.startswith("_"):
        from handmill.keras_names import KERAS_NAMES

        inside = module.partition(".")[2]
        dotted = f"{inside}.{name}" if inside else name
        if name in KERAS_NAMES.get(inside, "").split():
            text = f"handmill has no {dotted} yet (Keras has). Supported names: docs/supported.md"
        else:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            if inside == "backend" and _is_operator(name):  # as in Keras 2
                text += f". Keras 3 has it as `keras.ops.{name}`: use handmill.ops.{name}"
            elif near:
                text += f". Did you mean {near[0]!r}?"
    return _error(module, text)


def _is_operator(name: str) -> bool:
    from handmill import ops

    return callable(getattr(ops, name, None))


def _error(module: str, text: str) -> Exception:
    return ImportError(text, name=module) if _is_import_from() else AttributeError(text)


def _is_import_from() -> bool:
    """Whether the nearest caller outside this module is executing ``from ... import``."""
    frame = sys._getframe(1) if hasattr(sys, "_getframe") else None
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    if frame is None or frame.f_lasti < 0:
        return False
    code, position = frame.f_code.co_code, frame.f_lasti
    while code[position] == dis.EXTENDED_ARG:  # where Python 3.10 still is, in long modules
        position += 2
    return code[position] == _IMPORT_FROM
