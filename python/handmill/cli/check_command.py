"""``handmill check``: what of Keras a script uses, read from its source, not run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from handmill.cli.keras_uses import is_supported, keras_uses
from handmill.cli.notebooks import notebook_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the script."""
    parser.add_argument("script", help="a Python file, or a notebook, that imports keras")


def run(options: argparse.Namespace) -> int:
    """Prints the count and what is missing; status 1 if something is."""
    script = Path(options.script)
    places: list[str] = []
    try:
        content = script.read_bytes()
        source: str | bytes = content
        if script.suffix == ".ipynb":
            source, places = notebook_source(content)
        used = keras_uses(source)
    except SyntaxError as error:
        line = error.lineno or 0
        print(f"handmill check: {script}, {_place(line, places)}: {error.msg}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"handmill check: {script}: {error.strerror}", file=sys.stderr)
        return 2
    except ValueError as error:  # no text, no notebook
        print(f"handmill check: {script}: {error}", file=sys.stderr)
        return 2
    missing = {n: _place(line, places) for n, line in used.items() if not is_supported(n)}
    print(report(used, missing))
    return 1 if missing else 0


def _place(line: int, places: list[str]) -> str:
    return places[line - 1] if 0 < line <= len(places) else f"line {line}"


def report(used: dict[str, int], missing: dict[str, str]) -> str:
    """The one line that the command prints.

    Example:
        >>> report({"Model": 1, "layers.LSTM": 22}, {"layers.LSTM": "line 22"})
        'uses 2 Keras names, 1 here; missing: layers.LSTM, line 22'
    """
    plural = "" if len(used) == 1 else "s"
    text = f"uses {len(used)} Keras name{plural}, {len(used) - len(missing)} here"
    if missing:
        text += "; missing: " + "; ".join(f"{name}, {place}" for name, place in missing.items())
    return text
