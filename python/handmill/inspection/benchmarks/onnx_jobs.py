"""ONNX Runtime."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from handmill.inspection.benchmarks.job import Job, Run, calls, largest
from handmill.inspection.benchmarks.networks import (
    NORMALIZATION_EPSILON,
    Activation,
    Convolution,
    Dense,
    Depthwise,
    GlobalAverage,
    Layer,
    MaxPooling,
    Network,
    Normalization,
    Residual,
    Shape,
    Windows,
)
from handmill.inspection.benchmarks.workloads import Workload
from handmill.ir.op import Array

ACTIVATIONS = {
    "relu": "Relu", "tanh": "Tanh", "gelu": "Gelu", "elu": "Elu", "softmax": "Softmax",
    "sigmoid": "Sigmoid", "linear": "Identity",
}  # fmt: skip


def onnx_model(w: Workload) -> Any:
    """The network of a workload, its last activation included; images are channels first."""
    from onnx import TensorProto, helper

    graph = _Graph(w)
    output = graph.add_network(w.network, "x", w.input_shape)
    shape = ["batch", *_channels_first(w.input_shape)]
    made = helper.make_graph(
        graph.nodes, w.name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", w.outputs])],
        graph.initializers,
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _channels_first(shape: Shape) -> Shape:
    return (shape[-1], *shape[:-1])


class _Graph:
    """Nodes and initializers while a network is walked through."""

    def __init__(self, w: Workload) -> None:
        self.weights = iter(w.weights())
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.flattened: Shape | None = None
        """What a flatten had before it, until the dense layer behind it is reached."""

    def add(self, kind: str, inputs: list[str], *arrays: Array, **attributes: Any) -> str:
        """A node of these inputs and constants; returns its output."""
        from onnx import helper, numpy_helper

        for array in arrays:
            inputs = [*inputs, f"w{len(self.initializers)}"]
            constant = numpy_helper.from_array(np.ascontiguousarray(array), inputs[-1])
            self.initializers.append(constant)
        output = f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def add_network(self, network: Network, x: str, shape: Shape) -> str:
        """All layers of a network; returns the output of the last."""
        for layer in network:
            x = self.add_layer(layer, x, shape)
            shape = layer.output(shape)
        return x

    def add_layer(self, layer: Layer, x: str, shape: Shape) -> str:
        """A layer and its activation."""
        if isinstance(layer, Residual):
            branch = self.add_network(layer.branch, x, shape)
            return self.add("Add", [branch, self.add_network(layer.shortcut, x, shape)])
        if isinstance(layer, Activation):
            return self.add(ACTIVATIONS[layer.name], [x])
        if isinstance(layer, Dense):
            kernel, bias = next(self.weights)
            if self.flattened is not None:  # the rows in the order of channels first
                rows = np.arange(len(kernel)).reshape(self.flattened).transpose(2, 0, 1).ravel()
                kernel, self.flattened = kernel[rows], None
            return self.add(ACTIVATIONS[layer.activation], [self.add("Gemm", [x], kernel, bias)])
        if isinstance(layer, Convolution):
            kernel, *biases = next(self.weights)
            kernel = kernel.transpose(3, 2, 0, 1)
            y = self.add("Conv", [x], kernel, *biases, **_windows(layer, shape))
            return (
                y if layer.activation == "linear" else self.add(ACTIVATIONS[layer.activation], [y])
            )
        if isinstance(layer, Depthwise):
            kernel = next(self.weights)[0].transpose(2, 3, 0, 1)
            return self.add("Conv", [x], kernel, group=shape[2], **_windows(layer, shape))
        if isinstance(layer, MaxPooling):
            return self.add("MaxPool", [x], **_windows(layer, shape))
        if isinstance(layer, Normalization):
            return self.add(
                "BatchNormalization", [x], *next(self.weights), epsilon=NORMALIZATION_EPSILON
            )
        if isinstance(layer, GlobalAverage):
            return self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        self.flattened = shape
        return self.add("Flatten", [x])


def _windows(layer: Windows, shape: Shape) -> dict[str, Any]:
    (top, bottom), (left, right) = layer.pads(shape)
    return {
        "kernel_shape": [layer.size] * 2,
        "strides": [layer.strides] * 2,
        "pads": [top, left, bottom, right],
    }


def call(w: Workload, batch: int) -> Job:
    """A session with all threads, and one with a single thread."""
    import onnxruntime

    model = onnx_model(w)
    x = w.inputs(batch)
    if x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    feed = {"x": x}
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
