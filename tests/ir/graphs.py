"""Random programs for the tests of floor 3."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.ir.dims import BATCH
from handmill.ir.gradient import gradients
from handmill.ir.graph import Graph
from handmill.ir.shapes import Spec
from handmill.runtime.variable import Variable

WIDTH = 6


def random_graph(seed: int, nodes: int = 25) -> tuple[Graph, list[Any]]:
    """A program of elementwise ops, matmuls and reductions on (B, 6) values, with updates.

    Returns:
        The graph, which has two inputs of shape (B, 6), and its variables.
    """
    rng = np.random.default_rng(seed)
    weights = [
        Variable(rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 3, name=f"w{i}")
        for i in range(2)
    ]
    bias = Variable(rng.normal(size=WIDTH).astype(np.float32), name="b")
    unary = [ops.tanh, ops.sigmoid, ops.relu, ops.square, lambda x: ops.exp(-ops.square(x))]
    binary = [ops.add, ops.subtract, ops.multiply, ops.maximum]
    graph = Graph("random")
    with graph:
        pool = [graph.input(Spec((BATCH, WIDTH)), name) for name in ("x", "y")]
        for _ in range(nodes):
            kind = rng.integers(6)
            a, b = (pool[rng.integers(len(pool))] for _ in range(2))
            if kind < 2:
                pool.append(unary[rng.integers(len(unary))](a))
            elif kind < 4:
                pool.append(binary[rng.integers(len(binary))](a, b) * 0.5)
            elif kind == 4:
                weight = weights[rng.integers(len(weights))]
                pool.append(ops.relu(ops.matmul(a, weight) + bias))
            else:
                pool.append(a - ops.mean(a, axis=-1, keepdims=True))
        loss = ops.mean(ops.square(pool[-1] + pool[-2]))
        wanted = [v for v in (*weights, bias) if v in graph.variables]
        found = gradients(graph, loss, [graph.variables[v] for v in wanted])
        for variable, gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                variable.assign(variable - 0.1 * gradient)
        graph.outputs = [loss, pool[-1]]
    return graph, [*weights, bias]
