"""``handmill diagnose``: what is wrong with a saved model, its training or its data."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the data and how to look."""
    parser.add_argument("model", help="a .hmill or .keras file of a compiled model")
    parser.add_argument(
        "data", help="an .npz file with x and y, and for validation x_val and y_val"
    )
    parser.add_argument(
        "--experiments", action="store_true", help="try remedies and say what each gained"
    )
    parser.add_argument("--seeds", type=int, default=8, help="copies to train (default: 8)")
    parser.add_argument(
        "--budget", type=float, default=10.0, help="seconds for trainings (default: 10)"
    )
    parser.add_argument("--epochs", type=int, help="epochs of the training (default: as it was)")
    parser.add_argument("--batch", type=int, help="rows of a batch (default: 32)")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="default: en")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(options: argparse.Namespace) -> int:
    """Prints the report; status 1 if it holds a warning or an error, 2 if nothing was looked at."""
    from handmill.models import load_model
    from handmill.strategy.diagnosis import diagnose

    try:
        model = load_model(options.model)
    except (OSError, ValueError) as error:
        print(f"handmill diagnose: {error}", file=sys.stderr)
        return 2
    try:
        arrays = _arrays(options.data)
        held = (arrays["x_val"], arrays["y_val"]) if "x_val" in arrays else None
        report = diagnose(
            model,
            arrays["x"],
            arrays["y"],
            held,
            experiments=options.experiments,
            seeds=options.seeds,
            budget=options.budget,
            epochs=options.epochs,
            batch_size=options.batch,
            language=options.language,
        )
    except (OSError, ValueError, TypeError) as error:
        print(f"handmill diagnose: {options.data}: {error}", file=sys.stderr)
        return 2
    print(report.to_json() if options.json else report)
    return 0 if report.ok else 1


def _arrays(path: str) -> dict[str, Any]:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        raise ValueError("expected an .npz file of several arrays: np.savez(path, x=x, y=y)")
    with found as data:
        arrays = {name: data[name] for name in ("x", "y", "x_val", "y_val") if name in data}
        names = ", ".join(data.files)
    for first, second in (("x", "y"), ("x_val", "y_val")):
        if (first in arrays) != (second in arrays) or "x" not in arrays:
            raise ValueError(
                f"expected arrays x and y, and for validation x_val and y_val; it holds: {names}. "
                "np.savez(path, x=x, y=y, x_val=x_val, y_val=y_val)"
            )
    return arrays
