"""``handmill compare``: one step of a saved model, operator by operator, against NumPy."""

from __future__ import annotations

import argparse
import sys

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model and the data."""
    parser.add_argument("model", help="a .hmill file")
    parser.add_argument(
        "data", nargs="?", help="an .npz file with x and, for a training step, y; else random x"
    )
    parser.add_argument("--batch", type=int, default=32, help="rows to use (default: 32)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every operator")


def run(options: argparse.Namespace) -> int:
    """Prints the verdict; status 1 if an operator is outside its bound."""
    from handmill.inspection.comparison import compare
    from handmill.models import load_model

    try:
        model = load_model(options.model)
    except (OSError, ValueError) as error:
        print(f"handmill compare: {error}", file=sys.stderr)
        return 2
    x, y = None, None
    if options.data:
        try:
            with np.load(options.data, allow_pickle=False) as data:
                x = data["x"][: options.batch]
                y = data["y"][: options.batch] if "y" in data else None
        except (OSError, ValueError, KeyError) as error:
            print(f"handmill compare: {options.data}: {error}", file=sys.stderr)
            return 2
    else:
        shape = (options.batch, *model.input_shape[1:])
        x = np.random.default_rng(0).random(shape, dtype=np.float32)
    found = compare(model, x, y)
    for row in found.rows if options.verbose else ():
        print(row)
    print(found)
    return 0 if found.ok else 1
