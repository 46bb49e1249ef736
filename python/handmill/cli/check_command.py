"""``handmill check``: what of Keras a script uses, read from its source, not run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from handmill.cli.keras_uses import is_supported, keras_uses


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the script."""
    parser.add_argument("script", help="a Python file that imports keras")


def run(options: argparse.Namespace) -> int:
    """Prints the count and what is missing; status 1 if something is."""
    try:
        used = keras_uses(Path(options.script).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        print(f"handmill check: {options.script}: {error}", file=sys.stderr)
        return 2
    except SyntaxError as error:
        print(
            f"handmill check: {options.script}, line {error.lineno}: {error.msg}", file=sys.stderr
        )
        return 2
    missing = {name: line for name, line in used.items() if not is_supported(name)}
    print(report(used, missing))
    return 1 if missing else 0


def report(used: dict[str, int], missing: dict[str, int]) -> str:
    """The one line that the command prints.

    Example:
        >>> report({"Model": 1, "layers.LSTM": 22}, {"layers.LSTM": 22})
        'uses 2 Keras names, 1 here; missing: layers.LSTM, line 22'
    """
    plural = "" if len(used) == 1 else "s"
    text = f"uses {len(used)} Keras name{plural}, {len(used) - len(missing)} here"
    if missing:
        text += "; missing: " + "; ".join(f"{n}, line {line}" for n, line in missing.items())
    return text
