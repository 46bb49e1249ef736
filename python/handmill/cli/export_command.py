"""``handmill export``: a saved model as a file that others run."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the file, and what it shall be."""
    parser.add_argument("model", help="a saved model: .hmill, .keras or .h5")
    parser.add_argument("output", help="the file to write, such as model.onnx or model.c")
    parser.add_argument(
        "--c", action="store_true", help="write C (default: where the file ends in .c)"
    )
    parser.add_argument("--opset", type=int, default=None, help="ONNX operators (default: 17)")
    parser.add_argument(
        "--nchw", action="store_true", help="take images with channels behind the batch"
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare with onnxruntime before writing"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the file; status 2 if it cannot be."""
    from handmill.models import load_model

    as_c = options.c or options.output.endswith(".c")
    if not as_c and not options.output.endswith(".onnx"):
        print(
            f"handmill export: {options.output!r} names no format: .onnx and .c are written "
            "(with --c any name is taken for C)",
            file=sys.stderr,
        )
        return 2
    given = {
        "opset_version": options.opset,
        "inputs_as_nchw": options.nchw,
        "verify": options.verify,
    }
    if as_c and any(given.values()):
        print("handmill export: --opset, --nchw and --verify are for ONNX", file=sys.stderr)
        return 2
    try:
        model = load_model(options.model, compile=False)
        if as_c:
            model.export(options.output, format="c", verbose=True)
        else:
            model.export(options.output, format="onnx", verbose=True, **given)
    except (OSError, ValueError, ImportError) as error:
        print(f"handmill export: {error}", file=sys.stderr)
        return 2
    return 0
