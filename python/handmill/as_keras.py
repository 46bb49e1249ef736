"""``import keras`` means handmill: what ``install_as_keras`` and ``handmill run`` do."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

from handmill.keras_names import KERAS_VERSION
from handmill.lazy import forwarded_to, lazy_exports

PREFIXES = ("tensorflow.keras", "tf_keras", "keras")
"""The packages that are Keras."""


class InstalledAsKeras:
    """What :func:`install_as_keras` has put into the import system, and takes out again.

    In a ``with`` statement it is undone at the end of the block.
    """

    def __init__(self, finder: _StandIn | None) -> None:
        self._finder = finder

    def undo(self) -> None:
        """Restores the import system: ``import keras`` finds what it found before.

        Names that a script has imported meanwhile keep what they are.
        """
        finder, self._finder = self._finder, None
        if finder is None:
            return
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        for name, module in finder.loaded.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    def __enter__(self) -> InstalledAsKeras:
        return self

    def __exit__(self, *exc: object) -> None:
        self.undo()


def install_as_keras() -> InstalledAsKeras:
    """Makes ``keras``, ``tf_keras`` and ``tensorflow.keras`` mean handmill, in this process.

    Of ``tensorflow``, nothing but ``keras`` is there then; another name of it is an error that
    says so. A second call changes nothing, and undoing it neither.

    Returns:
        An object whose ``undo()`` takes it back; as a context manager it does so by itself.

    Raises:
        RuntimeError: if one of these packages is loaded already.

    Example (it would fail where a test has loaded Keras before)::

        with handmill.install_as_keras():
            from keras import layers  # handmill.layers
    """
    if any(isinstance(finder, _StandIn) for finder in sys.meta_path):
        return InstalledAsKeras(None)
    loaded = [
        name for name in ("keras", "tf_keras", "tensorflow") if sys.modules.get(name) is not None
    ]
    if loaded:
        where = getattr(sys.modules[loaded[0]], "__file__", None)
        raise RuntimeError(
            f"another {loaded[0]} is loaded in this process already"
            f"{f' ({where})' if where else ''}: modules that have imported it would keep it. "
            "Call handmill.install_as_keras() before anything imports it, or start the script "
            "with `handmill run SCRIPT.py`"
        )
    finder = _StandIn()
    sys.meta_path.insert(0, finder)
    return InstalledAsKeras(finder)


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds keras modules in handmill, each when it is first imported.

    Attributes:
        loaded: what it has put into ``sys.modules``.
    """

    def __init__(self) -> None:
        self.loaded: dict[str, ModuleType] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.startswith("tensorflow.") and _handmill_name(name) is None:
            raise ModuleNotFoundError(_absent_of_tensorflow(name.split(".")[1]), name=name)
        if name != "tensorflow" and _handmill_name(name) is None:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Puts handmill's module where the empty one would stand (importlib looks again)."""
        name = module.__name__
        ours = _handmill_name(name)
        if ours is None:
            _make_tensorflow(module)
        elif ours == "handmill":
            _make_keras(module)
        else:
            sys.modules[name] = _module_for(name, ours)
        self.loaded[name] = sys.modules[name]


def _module_for(name: str, ours: str) -> ModuleType:
    try:
        return importlib.import_module(ours)
    except ModuleNotFoundError as error:
        if error.name != ours and not ours.startswith(f"{error.name}."):
            raise
        raise ModuleNotFoundError(
            f"handmill has no {ours.partition('.')[2]} yet (the script imports {name}). "
            "Supported names: docs/supported.md",
            name=name,
        ) from None


def _make_keras(module: ModuleType) -> None:
    """Makes ``keras`` itself: handmill, but for the version, which scripts check."""
    handmill = importlib.import_module("handmill")
    module.__doc__ = handmill.__doc__
    module.__version__ = KERAS_VERSION  # type: ignore[attr-defined]
    module.version = lambda: KERAS_VERSION  # type: ignore[attr-defined]
    module.__getattr__ = forwarded_to(handmill)  # type: ignore[method-assign]
    module.__dir__ = handmill.__dir__  # type: ignore[method-assign]


def _make_tensorflow(module: ModuleType) -> None:
    """Makes a ``tensorflow`` that holds nothing but ``keras``."""
    module.__getattr__, module.__dir__ = lazy_exports(  # type: ignore[method-assign]
        "tensorflow", {"keras": "tensorflow.keras"}, absent=_absent_of_tensorflow
    )


def _absent_of_tensorflow(name: str) -> str:
    return (
        f"tensorflow.{name} is not here; handmill stands in for tensorflow.keras only (no other "
        "part of TensorFlow; handmill.install_as_keras or `handmill run` is in effect)"
    )


def _handmill_name(name: str) -> str | None:
    """The handmill module for a module of Keras; None for any other."""
    for prefix in PREFIXES:
        if name == prefix or name.startswith(prefix + "."):
            return "handmill" + name[len(prefix) :]
    return None
