"""``handmill run``: a Keras script, with handmill in the place of keras."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from handmill.as_keras import install_as_keras


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
    install_as_keras()
    print(
        f"handmill run: in {script.name}, keras means handmill (in this process only)",
        file=sys.stderr,
    )
    sys.argv = [str(script), *options.arguments]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")
    return 0
