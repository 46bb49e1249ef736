"""Runs ONNX's own tests of its operators on what handmill reads, and lists those that fail.

    PYTHONPATH=python python tools/onnx_tests.py            # counts
    PYTHONPATH=python python tools/onnx_tests.py --list     # each that fails, and why
    PYTHONPATH=python python tools/onnx_tests.py --layers   # which become layers of a model
    PYTHONPATH=python python tools/onnx_tests.py --write-docs

Needs the package onnx. A test is a file of one node with arrays for its inputs and outputs, which
are compared as ONNX's own runner does: within 1e-3 of the value and 1e-7.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DOCS = Path(__file__).parents[1] / "docs" / "onnx_tests.md"
RTOL, ATOL = 1e-3, 1e-7


def cases() -> list[Any]:
    """The tests of nodes, built in memory."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return load_model_tests(kind="node")


def data_of(case: Any) -> list[tuple[list[Any], list[Any]]]:
    """Inputs and outputs."""
    import onnx
    from onnx import numpy_helper

    def array(x: Any) -> Any:
        return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)

    if case.data_sets is not None:
        return [(list(map(array, a)), list(map(array, b))) for a, b in case.data_sets]
    found = []
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        sides = []
        for side in ("input", "output"):
            files = sorted(folder.glob(f"{side}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            arrays = []
            for file in files:
                tensor = onnx.TensorProto()
                tensor.ParseFromString(file.read_bytes())
                arrays.append(numpy_helper.to_array(tensor))
            sides.append(arrays)
        found.append((sides[0], sides[1]))
    return found


def outcome(case: Any) -> str:
    """What is wrong; nothing if the test passes."""
    from handmill.exchange.from_onnx.execution import RULES
    from handmill.exchange.from_onnx.file import evaluate
    from handmill.exchange.from_onnx.program import program_of

    if case.model is not None:
        data = case.model.SerializeToString()
    else:
        data = (Path(case.model_dir) / "model.onnx").read_bytes()
    try:
        program = program_of(data, "it", RULES)
        for inputs, outputs in data_of(case):
            found = evaluate(program, inputs)
            for a, b in zip(found, outputs, strict=True):
                compare(np.asarray(a), np.asarray(b))
    except Exception as error:  # each is listed
        return f"{type(error).__name__}: {error}"
    return ""


def layers_of(case: Any) -> str | None:
    """What becomes of a test of one operator whose weights are numbers of the file.

    Returns:
        "" if a layer computes it, and right; "graph: " and why no layer does; "wrong: " and what is
        wrong; None for a test of something else.
    """
    from handmill import layers
    from handmill.exchange.from_onnx.execution import RULES
    from handmill.exchange.from_onnx.layer_rules import HOLDS_WEIGHTS, LAYER_RULES
    from handmill.exchange.from_onnx.layered import NoLayersError, Walk
    from handmill.exchange.from_onnx.program import program_of
    from handmill.models import Model

    if case.model is None:
        return None
    nodes = case.model.graph.node
    known = LAYER_RULES.keys() | HOLDS_WEIGHTS.keys()
    if len(nodes) != 1 or nodes[0].op_type not in known or outcome(case):
        return None
    program = program_of(case.model.SerializeToString(), "it", RULES)
    ((arrays, outputs),) = data_of(case)
    merges = nodes[0].op_type in ("Add", "Concat", "Max", "Min", "Mul", "Sub")
    given = {}
    for port, array in zip(program.inputs, arrays, strict=True):
        if port.name != program.steps[0].inputs[0] and not merges:
            program.numbers[port.name] = array
        else:
            given[port.name] = array
    program.inputs = [port for port in program.inputs if port.name in given]
    if any(x.dtype != np.float32 or x.ndim == 0 for x in given.values()):
        return None
    if nodes[0].op_type == "LayerNormalization":  # a layer has no means and deviations
        program.outputs, program.steps[0].outputs = program.outputs[:1], program.outputs[:1]
    inputs = [layers.Input(batch_shape=x.shape, name=name) for name, x in given.items()]
    walk = Walk(program, "it")
    try:
        found = walk.outputs(inputs)
    except NoLayersError as error:
        return f"graph: {error}"
    except ValueError as error:
        return f"wrong: {error}"
    if walk.faults:
        return f"wrong: {walk.faults}"
    if walk.unread:
        return f"graph: {next(iter(walk.unread.values()))}"
    try:
        results = Model(inputs, found)(list(given.values()))
        for a, b in zip(results if len(found) > 1 else [results], outputs, strict=False):
            compare(np.asarray(a), np.asarray(b))
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"
    return ""


def compare(a: Any, b: Any) -> None:
    """Raises an AssertionError where dtype, shape or numbers differ."""
    assert a.dtype == b.dtype, f"the dtype is {a.dtype}, not {b.dtype}"
    assert a.shape == b.shape, f"the shape is {a.shape}, not {b.shape}"
    np.testing.assert_allclose(a, b, rtol=RTOL, atol=ATOL)


def run_all(pattern: str, layers: bool = False) -> dict[str, Any]:
    """Name of each test -> what is wrong; or whether a layer computes it: :func:`layers_of`."""
    found: dict[str, Any] = {}
    judge: Callable[[Any], Any] = layers_of if layers else outcome
    for case in cases():
        if re.search(pattern, case.name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[case.name] = judge(case)
    return found


def reason(problem: str) -> str:
    """The first line that tells, without numbers."""
    lines = [line.strip() for line in problem.splitlines() if line.strip()]
    listed = [line for line in lines if " time" in line and ": " in line]
    if listed:
        return "not read: " + ", ".join(sorted({line.split(":")[0] for line in listed}))
    text = re.sub(r"^\w+: (it|the graph): ", "", lines[0]) if lines else ""
    return re.sub(r" in '[^']*'", "", text)[:110]


def page(found: dict[str, str]) -> str:
    """The page of docs."""
    import onnx

    passed = sum(not problem for problem in found.values())
    plain = {name: p for name, p in found.items() if "_expanded" not in name}
    passed_plain = sum(not problem for problem in plain.values())
    groups: dict[str, list[str]] = {}
    for name, problem in sorted(found.items()):
        if problem:
            groups.setdefault(reason(problem), []).append(name.removeprefix("test_"))
    lines = [
        "# ONNX's own tests",
        "",
        f"Of the tests of nodes in onnx {onnx.__version__}, {passed:,} of {len(found):,} pass: "
        f"{passed_plain:,} of {len(plain):,} of single operators, the rest are the same tests with "
        "an operator written as what it is made of. Made by `python tools/onnx_tests.py "
        "--write-docs`. Those that do not pass, by what they need:",
        "",
    ]
    for text, names in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        safe = text.replace("<", "&lt;").replace("|", "\\|")
        lines += [f"- **{safe}** ({len(names)}): {', '.join(names)}"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Prints counts, and what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pattern", default="", help="tests whose names hold this")
    parser.add_argument("--list", action="store_true", help="print each that fails")
    parser.add_argument("--write-docs", action="store_true", help="renew docs/onnx_tests.md")
    parser.add_argument("--layers", action="store_true", help="print which tests layers compute")
    options = parser.parse_args()
    if options.layers:
        told = {k: v for k, v in run_all(options.pattern, layers=True).items() if v is not None}
        for name, text in told.items():
            print(f"{name}: {text or 'a layer'}"[:230])
        return int(any(text.startswith("wrong") for text in told.values()))
    found = run_all(options.pattern)
    failed = {name: problem for name, problem in found.items() if problem}
    if options.list:
        for name, problem in failed.items():
            print(f"{name}: {problem.splitlines()[0] if problem.splitlines() else problem}"[:230])
    else:
        for text, count in Counter(map(reason, failed.values())).most_common():
            print(f"{count:5}  {text}")
    print(f"{len(found) - len(failed)} of {len(found)} pass")
    if options.write_docs:
        DOCS.write_text(page(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
