"""Gives the reader of ONNX files damaged files, and watches what it does.

    PYTHONPATH=python python tools/fuzz_onnx.py --count 100000 --seed 1

Files that handmill wrote are mutated: bits, bytes, numbers, pieces left out, doubled or taken from
other files. Each must be read or refused with a ValueError, within a second and a budget of memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MOST_SECONDS = 1.0  # of processor time, which other work on the machine does not change
MOST_BYTES = 256 << 20
"""More than the process had before: four times what reading may compute at once, and its traces."""


def seeds() -> list[bytes]:
    """Small files of many operators."""
    import handmill as hm
    from handmill import layers
    from handmill.exchange.to_onnx.file import onnx_bytes

    dense = [layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dense(3, "softmax")]
    images = [
        layers.Conv2D(2, 3, padding="same", activation="gelu"),
        layers.MaxPooling2D(2),
        layers.Conv2DTranspose(2, 2, strides=2),
        layers.UpSampling2D(),
        layers.Flatten(),
        layers.Dense(2),
    ]
    words = [layers.Embedding(5, 4), layers.LSTM(3, return_sequences=True), layers.GRU(2)]
    i = layers.Input((None, 4))
    attention = layers.MultiHeadAttention(2, 2)(i, i, use_causal_mask=True)
    models = [
        hm.Sequential([layers.Input((5,)), *dense]),
        hm.Sequential([layers.Input((6, 6, 2)), *images]),
        hm.Sequential([layers.Input((None,), dtype="int32"), *words]),
        hm.Model(i, layers.LayerNormalization()(attention)),
    ]
    files = [onnx_bytes(model, opset, None, False) for model in models for opset in (13, 18)]
    return [*files, *flows()]


def flows() -> list[bytes]:
    """Small files of loops and branches."""
    from handmill.exchange import messages, wire

    def node(op: str, inputs: str, outputs: str, **attrs: Any) -> Any:
        given = [messages.attribute_of(k, v) for k, v in attrs.items()]
        return messages.Node(inputs.split(), outputs.split(), outputs, op, attribute=given)

    def graph(nodes: list[Any], inputs: str, outputs: str) -> Any:
        names = [[messages.ValueInfo(name) for name in x.split()] for x in (inputs, outputs)]
        return messages.Graph(nodes, "body", [], *names)

    then = graph([node("MatMul", "x w", "a")], "", "a")
    other = graph([node("Add", "x b", "a")], "", "a")
    step = graph([node("MatMul", "v w", "p"), node("Tanh", "p", "u")], "i go v", "go u p")
    ends = graph([node("Mul", "v v", "u"), node("ReduceMax", "u", "m", keepdims=0),
                  node("Less", "m one", "still")], "i go v", "still u")  # fmt: skip
    row = graph([node("Max", "s r", "t"), node("Neg", "t", "o")], "s r", "t o")
    bodies = [
        [node("If", "yes", "y", then_branch=then, else_branch=other)],
        [node("ReduceMax", "x", "m", keepdims=0), node("Less", "m one", "c"),
         node("If", "c", "y", then_branch=then, else_branch=other)],
        [node("Loop", "few yes x", "z rows", body=step), node("MatMul", "z w", "y")],
        [node("Loop", "many yes x", "y rows", body=step)],
        [node("Loop", "many yes x", "y", body=ends)],
        [node("Scan", "b x", "last y", body=row, num_scan_inputs=1)],
    ]  # fmt: skip
    numbers = {"w": np.ones((3, 3), "f"), "b": np.ones(3, "f"), "one": np.ones((), "f"),
               "yes": np.array(True), "few": np.array(3), "many": np.array(100_000)}  # fmt: skip
    files = []
    for nodes in bodies:
        whole = graph(nodes, "", "")
        whole.initializer = [messages.tensor_of(v, k) for k, v in numbers.items()]
        whole.input = [messages.value_info("x", "float32", ["n", 3])]
        whole.output = [messages.value_info("y", "float32", ["n", 3])]
        file = messages.Model(8, "p", "1", None, whole, [messages.OperatorSet("", 17)])
        files.append(b"".join(bytes(piece) for piece in wire.written(file)))
    return files


def mutated(rng: np.random.Generator, data: bytes, others: list[bytes]) -> bytes:
    """A file with some things changed."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(found) + 1))
        kind = int(rng.integers(8))
        length = int(rng.integers(1, 17))
        if kind == 0 and at < len(found):
            found[at] ^= 1 << int(rng.integers(8))
        elif kind == 1 and at < len(found):
            found[at] = int(rng.integers(256))
        elif kind == 2:
            del found[at : at + length]
        elif kind == 3:
            found[at:at] = found[max(at - length, 0) : at]
        elif kind == 4:
            other = others[int(rng.integers(len(others)))]
            start = int(rng.integers(len(other)))
            found[at : at + length] = other[start : start + length]
        elif kind == 5:
            found[at:at] = bytes(rng.integers(0, 256, length, dtype=np.uint8))
        elif kind == 6:
            found[at : at + 1] = b"\xff" * int(rng.integers(1, 10)) + b"\x7f"
        else:
            found = found[:at]
    return bytes(found)


_NUMBERS = (-(2**63), -(2**31), -1000, -2, -1, 0, 1, 2, 3, 7, 64, 4097, 10**6, 2**31, 2**62)


def restructured(rng: np.random.Generator, data: bytes, others: list[bytes]) -> bytes:
    """A file that still is one, with other operators, operands, attributes, sizes or types."""
    from handmill.exchange import messages, wire
    from handmill.exchange.from_onnx.execution import RULES
    from handmill.exchange.from_onnx.program import all_nodes

    model = wire.read(messages.Model, data, "it")
    graph = model.graph
    assert graph is not None

    def pick(items: Any) -> Any:  # one of them
        return items[int(rng.integers(len(items)))]

    number = int(pick(_NUMBERS))
    nodes = list(all_nodes(graph))
    names = [name for node in nodes for name in (*node.input, *node.output)]
    for _ in range(int(rng.integers(1, 4))):
        node = pick(nodes)
        kind = int(rng.integers(9))
        if kind == 0:
            node.op_type = pick(sorted(RULES))
        elif kind == 1 and node.input:
            node.input[int(rng.integers(len(node.input)))] = pick([*names, ""])
        elif kind == 2 and node.attribute:
            each = pick(node.attribute)
            each.ints = [number if rng.integers(2) else i for i in each.ints]
            each.i = number if each.i is not None else None
            each.f = float(number) if each.f is not None else None
        elif kind == 3 and graph.initializer:
            each = pick(graph.initializer)
            each.dims = [number if rng.integers(2) else d for d in each.dims]
        elif kind == 4 and graph.initializer:
            each = pick([t for t in graph.initializer if t.data_type == 7] or graph.initializer)
            if each.data_type == 7:
                count = max(len(each.raw_data) // 8, 1)
                values = [number if rng.integers(2) else 1 for _ in range(count)]
                each.raw_data = np.array(values, np.int64).tobytes()
        elif kind == 5:
            donor = wire.read(messages.Model, pick(others), "it").graph
            assert donor is not None
            node.attribute = pick(donor.node).attribute
        elif kind == 6:
            model.opset_import[0].version = int(rng.integers(7, 29))
        elif kind == 7 and graph.input:
            tensor = pick(graph.input).type.tensor_type
            tensor.elem_type = int(rng.integers(1, 14))
            for dim in tensor.shape.dim:
                if rng.integers(2):
                    dim.dim_value, dim.dim_param = number, None
        else:
            node.output = [*node.output, f"more{rng.integers(9)}"]
    return b"".join(bytes(piece) for piece in wire.written(model))


def read(data: bytes) -> str:
    """What became of a file: "read", or the kind of refusal."""
    import handmill as hm
    from handmill.errors import FaultyRuleWarning
    from handmill.exchange.from_onnx.file import model_of

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FaultyRuleWarning)  # of handmill, not of the file
            model_of(data, "it", None)
    except ValueError as error:
        return type(error).__name__
    finally:
        hm.backend.clear_session()
    return "read"


def run(count: int, seed: int) -> Iterator[tuple[str, float, bytes]]:
    """Outcome, seconds and bytes of each file."""
    rng = np.random.default_rng(seed)
    files = seeds()
    for data in files:
        assert read(data) == "read"
    for _ in range(count):
        change = mutated if rng.integers(2) else restructured
        data = change(rng, files[int(rng.integers(len(files)))], files)
        try:
            outcome, seconds = timed(data)
            if seconds > MOST_SECONDS:  # the kernel's part of it differs tenfold with free memory
                seconds = min(seconds, timed(data)[1])
        except Exception:
            path = Path(tempfile.mkdtemp()) / "file.onnx"
            path.write_bytes(data)
            print(f"the file is {path}", file=sys.stderr)
            raise
        yield outcome, seconds, data


def timed(data: bytes) -> tuple[str, float]:
    """What became of a file, and the seconds of the processor that it took."""
    start = time.process_time()
    outcome = read(data)
    return outcome, time.process_time() - start


def peak() -> int:
    """The largest memory that the process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Prints what became of the files; status 1 for one that took too long, or too much memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes: dict[str, int] = {}
    slowest, before = 0.0, None
    for outcome, seconds, _ in run(options.count, options.seed):
        before = peak() if before is None else before
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        slowest = max(slowest, seconds)
    more = peak() - (before or 0)
    print(f"{outcomes}, slowest {slowest:.2f} s, {more >> 20} MiB more")
    return int(slowest > MOST_SECONDS or more > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
