"""``handmill explain``: what counts for the answers of a saved model, with a picture."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from handmill.cli.rows_of_files import IMAGES, read_rows, rescales
from handmill.explanation.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the rows, and what is asked of them."""
    parser.add_argument("model", help="a saved model (.hmill, .keras, ...)")
    parser.add_argument("input", help="rows: an .npz file with x, an .npy file, a .csv table, "
                        "a .txt file with a text a line, or an image")  # fmt: skip
    parser.add_argument("--method", default="auto", choices=("auto", *METHODS), metavar="NAME",
                        help=f"auto, {', '.join(METHODS)}")  # fmt: skip
    parser.add_argument("--target", help="a class, or its name; default: the predicted class")
    parser.add_argument("--names", help="names of the classes, with commas between them")
    parser.add_argument("--layer", help="of maps: the path of a layer")
    parser.add_argument("--baseline", help='a number, "black", "mean", "blur", or an .npy file')
    parser.add_argument("--background", help="rows to compare with: an .npz, .npy or .csv file")
    parser.add_argument("--drop", help="columns of a table that are no inputs, with commas")
    parser.add_argument("--rows", type=int, default=5, help="rows to explain (default: 5)")
    parser.add_argument("--scale", type=float, help="a factor for the levels of an image, such as "
                        "0.00392 for a network that learned from 0 to 1 (default: 1)")  # fmt: skip
    parser.add_argument("--shape", help="height,width of images that lie as flat rows")
    parser.add_argument("-o", "--output", help="where the picture goes: .svg, .png or .html")
    parser.add_argument("--check", action="store_true", help="check how far to trust it")


def run(options: argparse.Namespace) -> int:
    """Prints the explanation and writes the picture; status 2 if it cannot be made."""
    from handmill.models import load_model

    try:
        model = load_model(options.model)
        drop = options.drop.split(",") if options.drop else []
        scale = 1.0 if options.scale is None else options.scale
        rows = read_rows(options.input, model, scale, drop)
        x = rows.x[: options.rows]
        given: dict[str, Any] = {"method": options.method}
        if rows.names:
            given["feature_names"] = rows.names
        if options.names:
            given["class_names"] = options.names.split(",")
        if options.layer:
            given["layer"] = options.layer
        if options.baseline:
            given["baseline"] = _baseline(options.baseline)
        if options.background:
            given["background"] = read_rows(options.background, model, scale, drop).x
        elif rows.is_table() and options.method == "auto" and not options.baseline:
            raise ValueError(
                "rows of a table are explained by comparing: pass --background FILE with rows of "
                "the training data, or --baseline 0 where 0 means that there is nothing"
            )
        target = options.target
        if target is not None and target.lstrip("-").isdigit():
            target = int(target)
        from handmill.explanation import explain

        found = explain(model, x, target, **given)
        print(found)
        if options.scale is None and _is_image(options.input) and not rescales(model):
            print(
                "note: the network was given levels of 0 to 255, and none of its layers rescales "
                "them. If it learned from 0 to 1, pass --scale 0.00392 (--scale 1 says that this "
                "is right)",
                file=sys.stderr,
            )
        shape = tuple(map(int, options.shape.split(","))) if options.shape else None
        if options.output:
            found.picture(options.output, rows=options.rows, shape=shape)
            print(f"picture: {options.output}")
        for check in found.check() if options.check else ():
            print(check)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        text = str(error.args[0] if isinstance(error, KeyError) else error)
        if "needs a `baseline`" in text:
            text += "; here: --baseline 0, --baseline MEAN.npy, or rows by --background TRAIN.npz"
        print(f"handmill explain: {text}", file=sys.stderr)
        return 2
    return 0


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGES)


def _baseline(text: str) -> Any:
    if text in ("black", "mean", "blur"):
        return text
    if text.endswith(".npy"):
        return np.load(text, allow_pickle=False)
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f'--baseline must be a number, "black", "mean", "blur" or an .npy file, got {text!r}'
        ) from None
