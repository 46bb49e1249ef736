"""ONNX files as models of ordinary layers: what compresses other models compresses these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import compress
from handmill import layers as L
from handmill.exchange import load_onnx, messages, wire
from handmill.exchange.from_onnx.file import model_of
from handmill.exchange.to_onnx.file import onnx_bytes

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(40, 9, 9, 3)).astype("float32")


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def node(op: str, inputs: str, output: str, **attrs: Any) -> messages.Node:
    given = [messages.attribute_of(k, v) for k, v in attrs.items()]
    return messages.Node(inputs.split(), [output], output, op, attribute=given)


def file_of(
    nodes: list[messages.Node], shape: list[int], output: str, **numbers: Any
) -> messages.Model:
    """A file whose input is ``x`` of a shape behind the batch."""
    model = hm.Sequential([L.Input(tuple(shape)), L.Dense(1)])
    file = wire.read(messages.Model, onnx_bytes(model, 17, None, False), "it")
    graph = file.graph
    assert graph is not None
    graph.input[0].name, graph.output[0].name = "x", output
    graph.node = nodes
    graph.initializer = [messages.tensor_of(np.asarray(v), k) for k, v in numbers.items()]
    return file


def read(file: messages.Model) -> Any:
    return model_of(b"".join(bytes(piece) for piece in wire.written(file)), "it", None)


def kinds(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers[1:]]


def convnet() -> Any:
    return hm.Sequential(
        [
            L.Input((9, 9, 3)),
            *(L.Conv2D(32, 3, padding="same"), L.BatchNormalization(), L.ReLU()),
            *(L.MaxPooling2D(2), L.DepthwiseConv2D(3, padding="same")),
            *(L.Conv2D(32, 3, strides=2, padding="same", activation="relu"), L.Flatten()),
            *(L.Dense(32, "relu"), L.Dense(5, "softmax")),
        ]
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: Any) -> Path:
    hm.utils.set_random_seed(0)
    found = tmp_path_factory.mktemp("onnx") / "m.onnx"
    convnet().export(found, format="onnx")
    return Path(found)


def test_layers_of_a_file(path: Path) -> None:
    """Each is what it was."""
    found = kinds(load_onnx(path))
    assert "OnnxGraph" not in found
    assert [k for k in found if "Conv" in k or k == "Dense"] == [
        "Conv2D", "DepthwiseConv2D", "Conv2D", "Dense", "Dense",
    ]  # fmt: skip


def test_quantized_by_rows(path: Path, tmp_path: Path) -> None:
    model = load_onnx(path)
    before = model.predict(IMAGES, verbose=0)
    with pytest.warns(UserWarning, match="3 layers keep float weights"):
        report = model.quantize("int8", verbose=0)
    assert len(report.quantized) == 2
    after = model.predict(IMAGES, verbose=0)
    assert 0 < np.abs(after - before).max() < 0.01
    model.save(tmp_path / "m.hmill")
    again = hm.models.load_model(tmp_path / "m.hmill")
    assert np.array_equal(again.predict(IMAGES, verbose=0), after)


def test_quantized_by_data(path: Path, tmp_path: Path) -> None:
    model = load_onnx(path)
    before = model.predict(IMAGES, verbose=0)
    config = hm.quantizers.Int8StaticQuantizationConfig(IMAGES)
    report = model.quantize(config=config, verbose=0)
    assert len(report.quantized) == 5
    assert not report.skipped
    after = model.predict(IMAGES, verbose=0)
    assert 0 < np.abs(after - before).max() < 0.01
    model.save(tmp_path / "m.hmill")
    again = hm.models.load_model(tmp_path / "m.hmill")
    assert np.array_equal(again.predict(IMAGES, verbose=0), after)


def test_pruned_and_trained_on(path: Path) -> None:
    model = load_onnx(path)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert len(compress.prune(model, 0.5).rows) == 5
    model.fit(IMAGES, np.arange(40) % 5, verbose=0)
    kernel = model.layers[-2].kernel if hasattr(model.layers[-2], "kernel") else None
    assert kernel is not None
    assert np.count_nonzero(kernel.numpy() == 0) == kernel.numpy().size // 2


def test_shrunk(path: Path) -> None:
    """:func:`compress.shrink` compares the smaller model with the one whose units are zero."""
    model = load_onnx(path)
    small = compress.shrink(model, 0.5)
    assert small.count_params() < 0.4 * model.count_params()
    assert small.predict(IMAGES, verbose=0).shape == (40, 5)


def test_channels_first_and_a_normalization_that_learns() -> None:
    """As torch writes it: channels behind the batch, padding of its own, a batch's statistics."""
    x, w, v = floats(6, 3, 8, 8), floats(4, 3, 3, 3), floats(2, 4 * 4 * 4)
    scale, bias, mean, var = floats(4), floats(4), floats(4), np.abs(floats(4)) + 1
    file = file_of(
        [
            node("Conv", "x w", "a", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("BatchNormalization", "a scale bias mean var", "b", epsilon=1e-3),
            node("Relu", "b", "c"),
            node("Flatten", "c", "d"),
            node("Gemm", "d v", "y", transB=1),
        ],
        [3, 8, 8],
        "y",
        **{"w": w, "v": v, "scale": scale, "bias": bias, "mean": mean, "var": var},
    )
    model = read(file)
    assert kinds(model) == [
        "Permute", "ZeroPadding2D", "Conv2D", "BatchNormalization", "Activation", "Permute",
        "Flatten", "Dense",
    ]  # fmt: skip
    a = hm.ops.conv(
        np.pad(x.transpose(0, 2, 3, 1), [(0, 0), (1, 1), (1, 1), (0, 0)]),
        w.transpose(2, 3, 1, 0),
        strides=2,
    )
    b = np.maximum((np.asarray(a) - mean) / np.sqrt(var + 1e-3) * scale + bias, 0)
    want = b.transpose(0, 3, 1, 2).reshape(6, -1) @ v.T
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-4, atol=1e-4)
    model.compile("sgd", "mse")
    model.fit(x, want, verbose=0)
    moving = next(v for v in model.non_trainable_variables if "mean" in v.path)
    assert not np.array_equal(moving.numpy(), mean)


def test_what_no_layer_computes_is_a_graph_between_layers() -> None:
    """Sizes of a tensor that is computed before it, used behind it."""
    x, w, v = floats(5, 6), floats(6, 4), floats(2, 2)
    file = file_of(
        [
            node("MatMul", "x w", "a"),
            node("Add", "a bias", "b"),
            node("Shape", "b", "sizes"),
            node("Gather", "sizes zero", "rows", axis=0),
            node("Concat", "rows two minus", "form", axis=0),
            node("Sin", "b", "c"),
            node("Reshape", "c form", "d"),
            node("MatMul", "d v", "e"),
            node("Reshape", "e form", "y"),
        ],
        [6],
        "y",
        w=w, bias=np.ones(4, "float32"), v=v, zero=np.array([0]), two=np.array([2]),
        minus=np.array([-1]),
    )  # fmt: skip
    model = read(file)
    assert kinds(model) == ["Dense", "OnnxGraph", "Dense", "OnnxGraph"]
    for rows in (5, 2):
        want = np.sin(x[:rows] @ w + 1).reshape(rows, 2, 2) @ v
        np.testing.assert_allclose(model.predict(x[:rows], verbose=0), want, rtol=1e-5, atol=1e-6)
    assert len(model.quantize("int8", verbose=0).quantized) == 2


def test_sizes_of_a_file_stay() -> None:
    """Units that meet a Reshape of the file's own numbers are kept."""
    file = file_of(
        [
            *(node("Gemm", "x w", "a"), node("Sin", "a", "b"), node("Reshape", "b form", "c")),
            *(node("Sin", "c", "d"), node("Flatten", "d", "e"), node("Gemm", "e v", "f")),
            *(node("Relu", "f", "g"), node("Gemm", "g u", "y")),
        ],
        [6],
        "y",
        w=floats(6, 32), form=np.array([-1, 2, 16]), v=floats(32, 32), u=floats(32, 3),
    )  # fmt: skip
    model = read(file)
    assert "OnnxGraph" in kinds(model)
    small = compress.shrink(model, 0.5)
    assert [w.shape for w in small.weights] == [(6, 32), (32, 16), (16, 3)]


def test_matrices_used_twice_stay_one() -> None:
    """They are one weight of one layer, which says why it cannot be quantized or pruned."""
    file = file_of(
        [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b w", "y")],
        [4],
        "y",
        w=floats(4, 4),
    )
    model = read(file)
    assert kinds(model) == ["OnnxGraph"]
    with pytest.warns(UserWarning, match="1 layers keep float weights"):
        report = model.quantize("int8", verbose=0)
    assert "its weights 'w' are used in 2 places" in report.skipped[0][1]
    with pytest.raises(ValueError, match="and graphs of ONNX files"):
        compress.prune(model, 0.5)
    with pytest.raises(ValueError, match="OnnxGraph"):
        compress.shrink(model, 0.5)


@pytest.mark.parametrize(
    "attrs",
    (
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
)
@pytest.mark.parametrize("op", ("MaxPool", "AveragePool"))
def test_pools_as_layers_or_as_graphs(op: str, attrs: dict[str, Any]) -> None:
    """The same numbers as the graph alone."""
    if op == "MaxPool" and "count_include_pad" in attrs:
        return
    x, w = floats(3, 2, 7, 7), floats(2, 2, 1, 1)
    nodes = [node("Conv", "x w", "a"), node(op, "a", "b", **attrs), node("Relu", "b", "y")]
    one = read(file_of(nodes, [2, 7, 7], "y", w=w))
    assert "Conv2D" in kinds(one)
    images = np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0])
    alone = read(file_of([node(op, "x", "b", **attrs), node("Relu", "b", "y")], [2, 7, 7], "y"))
    assert kinds(alone) == ["OnnxGraph"]
    np.testing.assert_allclose(
        one.predict(x, verbose=0), alone.predict(images, verbose=0), rtol=1e-5, atol=1e-5
    )
