"""ONNX Runtime."""

from __future__ import annotations

import functools
import os
from typing import Any

from handmill.inspection.benchmarks.job import Job, Run, calls, largest
from handmill.inspection.benchmarks.workloads import Workload

ACTIVATIONS = {
    "relu": "Relu", "tanh": "Tanh", "gelu": "Gelu", "elu": "Elu", "softmax": "Softmax",
    "sigmoid": "Sigmoid", "linear": "Identity",
}  # fmt: skip


def onnx_model(w: Workload) -> Any:
    """The network of a workload, its last activation included."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers, x_name = [], [], "x"
    for i, (kernel, bias) in enumerate(w.weights()):
        initializers += [
            numpy_helper.from_array(kernel, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")
        ]  # fmt: skip
        nodes.append(helper.make_node("Gemm", [x_name, f"w{i}", f"b{i}"], [f"z{i}"]))
        name = w.output_activation if i + 1 == len(w.layers) else w.activation
        nodes.append(helper.make_node(ACTIVATIONS[name], [f"z{i}"], [f"y{i}"]))
        x_name = f"y{i}"
    graph = helper.make_graph(
        nodes, w.name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", w.units[0]])],
        [helper.make_tensor_value_info(x_name, TensorProto.FLOAT, ["batch", w.units[-1]])],
        initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def call(w: Workload, batch: int) -> Job:
    """A session with all threads, and one with a single thread."""
    import onnxruntime

    model = onnx_model(w)
    feed = {"x": w.inputs(batch)}
    ways: dict[str, Run] = {}
    sessions = []
    for threads in sorted({1, os.cpu_count() or 1})[::-1]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        sessions.append(session)
        ways[f"{threads} threads"] = calls(functools.partial(session.run, None, feed))
        binding = session.io_binding()  # input and output stay where they are between calls
        binding.bind_cpu_input("x", feed["x"])
        binding.bind_output(session.get_outputs()[0].name, "cpu")
        ways[f"{threads} threads, bound"] = calls(
            functools.partial(session.run_with_iobinding, binding)
        )
    return Job(ways, largest(lambda: sessions[0].run(None, feed)[0]))
