"""``handmill run``: a Keras script, with handmill in the place of keras."""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.machinery
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from handmill.keras_names import KERAS_VERSION
from handmill.lazy import forwarded_to

PREFIXES = ("tensorflow.keras", "tf_keras", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the script and what it is given."""
    parser.add_argument("script", help="a Python file that imports keras")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the script")


def run(options: argparse.Namespace) -> int:
    """Runs the script in this process."""
    script = Path(options.script)
    if not script.is_file():
        print(f"handmill run: no file {options.script!r}", file=sys.stderr)
        return 2
    stand_in()
    print(
        f"handmill run: in {script.name}, keras means handmill (in this process only)",
        file=sys.stderr,
    )
    sys.argv = [str(script), *options.arguments]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")
    return 0


def stand_in() -> None:
    """Makes ``keras``, ``tf_keras`` and ``tensorflow.keras`` mean handmill in this process."""
    if not any(isinstance(finder, _StandIn) for finder in sys.meta_path):
        sys.meta_path.insert(0, _StandIn())


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds keras modules in handmill, each when it is first imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
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
            return
        if ours == "handmill":
            _make_keras(module)
            return
        try:
            sys.modules[name] = importlib.import_module(ours)
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

    def getattr_(name: str) -> Any:
        if name == "keras":
            return importlib.import_module("tensorflow.keras")
        raise AttributeError(
            f"handmill run: tensorflow.{name} is not here; handmill stands in for "
            "tensorflow.keras only"
        )

    module.__getattr__ = getattr_  # type: ignore[method-assign]


def _handmill_name(name: str) -> str | None:
    """The handmill module for a module of Keras; None for any other."""
    for prefix in PREFIXES:
        if name == prefix or name.startswith(prefix + "."):
            return "handmill" + name[len(prefix) :]
    return None
