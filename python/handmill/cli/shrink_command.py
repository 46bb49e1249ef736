"""``handmill shrink``: what a saved model loses and gains when it is made smaller."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the data and what may be lost."""
    parser.add_argument("model", help="a .hmill or .keras file")
    parser.add_argument(
        "data", help="an .npz file with x and y to measure on, and to train on x_train and y_train"
    )
    parser.add_argument("--budget", type=float, default=60.0, help="seconds (default: 60)")
    parser.add_argument(
        "--max-drop", type=float, default=0.01, help="accuracy that may be lost (default: 0.01)"
    )
    parser.add_argument("--epochs", type=int, default=1, help="of training on (default: 1)")
    parser.add_argument("--picture", help="an .svg file for the picture")
    parser.add_argument("--save", help="a file for the model that is advised, if one pays")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(options: argparse.Namespace) -> int:
    """Prints the table; status 2 for files that cannot be used."""
    from handmill.compress.advisor import search
    from handmill.models import load_model
    from handmill.saving.model_file import checked_suffix

    try:
        if options.save:
            checked_suffix(options.save)
        _check_folders(options.save, options.picture)
        model = load_model(options.model)
        with np.load(options.data, allow_pickle=False) as data:
            arrays = dict(data)
        if missing := [name for name in ("x", "y") if name not in arrays]:
            raise ValueError(f"{options.data} has no array {missing[0]}")
        train = (arrays["x_train"], arrays["y_train"]) if "x_train" in arrays else None
        advice = search(
            model,
            arrays["x"],
            arrays["y"],
            options.budget,
            options.max_drop,
            train,
            options.epochs,
        )
        print(advice.to_json() if options.json else advice)
        if options.picture:
            advice.picture(options.picture)
        if options.save and advice.best != "float":
            advice.model.save(options.save)
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"handmill shrink: {error}", file=sys.stderr)
        return 2
    return 0


def _check_folders(*files: str | None) -> None:
    """Refuses files that cannot be written before the time of the search is spent."""
    for file in files:
        if file and not Path(file).resolve().parent.is_dir():
            raise FileNotFoundError(f"{file!r} lies in a folder that does not exist")
