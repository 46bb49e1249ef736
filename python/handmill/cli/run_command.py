"""``handmill run``: a Keras script, with handmill in the place of keras."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from handmill.as_keras import install_as_keras


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the script and what it is given."""
    parser.add_argument(
        "-m", dest="is_module", action="store_true", help="SCRIPT is a module, as for python -m"
    )
    parser.add_argument("script", help="a Python file that imports keras")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the script")


def run(options: argparse.Namespace) -> int:
    """Runs the script in this process; status 1 after an exception, which is shown."""
    name = options.script
    script = Path(name)
    if script.suffix == ".ipynb":
        print(
            f"handmill run: {name!r} is a notebook; begin it with "
            "`import handmill; handmill.install_as_keras()` and run it as ever",
            file=sys.stderr,
        )
        return 2
    if not options.is_module and not script.is_file():
        print(f"handmill run: no file {name!r}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(Path.cwd() if options.is_module else script.resolve().parent))
    if options.is_module and not _is_found(name):
        print(f"handmill run: no module named {name!r}", file=sys.stderr)
        return 2
    install_as_keras()
    shown = name if options.is_module else script.name
    print(
        f"handmill run: in {shown}, keras means handmill (in this process only)",
        file=sys.stderr,
    )
    sys.argv = [str(script), *options.arguments]
    try:
        if options.is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(script), run_name="__main__")
    except Exception as error:
        _show(error)
        return 1
    return 0


def _is_found(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def _show(error: Exception) -> None:
    """Shows an exception of the script as Python does, without the frames that lead to it."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_globals.get("__name__") != "__main__":
        place = place.tb_next
    sys.excepthook(type(error), error.with_traceback(place), place)
