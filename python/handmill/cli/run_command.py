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
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
    return 0


def stand_in() -> None:
    """Makes ``keras`` and ``tensorflow.keras`` mean handmill in this process."""
    sys.meta_path.insert(0, _StandIn())


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds keras modules in handmill."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if _handmill_name(name) is None:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        ours = _handmill_name(spec.name)
        if ours == "":
            return None  # tensorflow: an empty package that only holds keras
        try:
            return importlib.import_module(str(ours))
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("handmill"):
                raise ImportError(
                    f"handmill has no {spec.name.partition('.')[2]} yet (asked for as "
                    f"{spec.name}). Supported names: docs/supported.md"
                ) from None
            raise

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the module is loaded already."""


def _handmill_name(name: str) -> str | None:
    """The handmill module for a module's name; "" for tensorflow itself; None: not ours."""
    if name == "tensorflow":
        return ""
    for prefix in ("tensorflow.keras", "tf_keras", "keras"):
        if name == prefix or name.startswith(prefix + "."):
            return "handmill" + name[len(prefix) :]
    return None
