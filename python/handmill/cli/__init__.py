"""The command line: ``handmill COMMAND`` or ``python -m handmill COMMAND``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType

from handmill import __version__

START = time.perf_counter()
"""When the command line was loaded: before NumPy and the rest of handmill. The system's record of
the process may begin with a shell that the command took the place of."""

COMMANDS = {
    "demo": "train on real digits and show what this machine can do, in seconds",
    "info": "version, instruction set, threads, decoder, extras",
    "bench": "time training beside the libraries installed here, in a minute",
    "selftest": "check every operator at every instruction set level against NumPy",
    "compare": "check one step of a saved model, operator by operator, against NumPy",
    "diagnose": "say what is wrong with a saved model, its training or its data, and what helps",
    "explain": "say what counts for the answers of a saved model, with a picture",
    "export": "write a saved model as a file that others run: ONNX or C",
    "shrink": "say what a saved model loses and gains when it is made smaller, with a table",
    "generate": "continue a text by a model from a folder, token by token",
    "launch": "train by a script on several processes, on one machine or on many",
    "serve": "answer for a saved model over HTTP",
    "run": "run a Keras script with handmill standing in for keras",
    "check": "list the Keras names that a script uses and handmill lacks",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="handmill", description="Deep learning on the CPU, from hand-written kernels."
    )
    parser.add_argument("--version", action="version", version=f"handmill {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parsers = {}
    for name, text in COMMANDS.items():
        description = text[:1].upper() + text[1:] + "."
        sub = parsers[name] = commands.add_parser(name, help=text, description=description)
        if not given or given[0] in (name, "-h", "--help"):
            _module(name).add_arguments(sub)
    if not given:
        parser.print_help()
        return 2
    options, unknown = parser.parse_known_args(given)
    if unknown:  # with the usage of the command
        parsers[options.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status = int(_module(options.command).run(options) or 0)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads what is printed has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"handmill.cli.{name}_command")
