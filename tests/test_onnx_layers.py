"""ONNX files as models of ordinary layers: what compresses other models compresses these."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import compress
from handmill import layers as L
from handmill.errors import FaultyRuleWarning
from handmill.exchange import load_onnx, messages, wire
from handmill.exchange.from_onnx import layer_rules
from handmill.exchange.from_onnx.execution import RULES, Unreadable
from handmill.exchange.from_onnx.file import evaluate, model_of
from handmill.exchange.from_onnx.layered import Walk
from handmill.exchange.from_onnx.program import program_of
from handmill.exchange.to_onnx.file import onnx_bytes

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(40, 9, 9, 3)).astype("float32")


def tool(name: str) -> Any:
    path = Path(__file__).resolve().parents[1] / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert len(compress.prune(model, 0.5, scope="layer").rows) == 5
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
    with pytest.warns(UserWarning, match="1 layer keeps float weights"):
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


# --- rules that fail -----------------------------------------------------------------------------

DENSE = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b v", "y")]


def test_a_rule_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only "no layer does this" makes a graph in silence; users get a model that is right."""
    x, w, v = floats(3, 4), floats(4, 5), floats(5, 2)
    file = file_of(DENSE, [4], "y", w=w, v=v)
    want = np.maximum(x @ w, 0) @ v
    calls = {"ValueError": ValueError, "TypeError": TypeError, "KeyError": KeyError}
    for name, kind in calls.items():

        def broken(*args: Any, kind: Any = kind) -> Any:
            raise kind("a fault")

        monkeypatch.setitem(layer_rules.LAYER_RULES, "Relu", broken)
        with pytest.warns(FaultyRuleWarning, match=f"Relu in 'b': {name}.*a fault"):
            model = read(file)
        assert kinds(model) == ["Dense", "OnnxGraph", "Dense"]
        np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)

    def refuses(*args: Any) -> Any:
        raise Unreadable("no layer")

    monkeypatch.setitem(layer_rules.LAYER_RULES, "Relu", refuses)
    assert kinds(read(file)) == ["Dense", "OnnxGraph", "Dense"]


def test_a_walk_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise IndexError("a fault")

    x, w, v = floats(3, 4), floats(4, 5), floats(5, 2)
    monkeypatch.setattr(Walk, "outputs", broken)
    with pytest.warns(FaultyRuleWarning, match="the file as a whole: IndexError"):
        model = read(file_of(DENSE, [4], "y", w=w, v=v))
    assert kinds(model) == ["OnnxGraph"]
    want = np.maximum(x @ w, 0) @ v
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)


def test_what_a_file_is_at_fault_for_is_an_error() -> None:
    file = file_of(DENSE, [4], "y", w=floats(4, 5), v=floats(6, 2))
    with pytest.raises(ValueError, match="MatMul in 'y'"):
        read(file)


@pytest.mark.slow
@pytest.mark.peers
def test_onnx_own_tests_by_layers() -> None:
    """Their weights as numbers of the file: where a layer is made, it gives what ONNX says."""
    pytest.importorskip("onnx")
    found = {n: t for n, t in tool("onnx_tests").run_all("", layers=True).items() if t is not None}
    assert not {n: t for n, t in found.items() if t.startswith("wrong")}
    assert sum(not text for text in found.values()) >= 100


# --- exporters' idioms ---------------------------------------------------------------------------


def test_casts_that_change_nothing() -> None:
    """As Keras on torch writes them, around everything; those of bodies and outputs stay."""
    x, w = floats(3, 4), floats(4, 5)
    file = file_of(
        [
            *(node("Cast", "x", "x1", to=1), node("Cast", "x1", "x2", to=1)),
            *(node("MatMul", "x2 w", "a"), node("Cast", "a", "b", to=1), node("Add", "b c", "d")),
            *(node("Cast", "d", "e", to=1), node("Relu", "e", "f"), node("Cast", "f", "y", to=1)),
        ],
        [4],
        "y",
        w=w,
        c=np.ones(5, "float32"),
    )
    model = read(file)
    assert kinds(model)[:2] == ["Dense", "Activation"]
    want = np.maximum(x @ w + 1, 0)
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)


def test_a_network_of_scikit_learn(tmp_path: Path) -> None:
    """An MLPClassifier as skl2onnx writes it: labels and probabilities, in float64 or float32."""
    x, w, v = floats(6, 4), floats(4, 16), floats(16, 3)
    file = file_of(
        [
            *(node("Cast", "x", "c", to=1), node("MatMul", "c w", "a"), node("Add", "a b", "d")),
            *(node("Relu", "d", "e"), node("MatMul", "e v", "f"), node("Add", "f g", "h")),
            *(node("Softmax", "h", "p", axis=1), node("ArgMax", "p", "at", axis=1)),
            node("ArrayFeatureExtractor", "classes at", "name"),
            *(node("Cast", "name", "i", to=7), node("Reshape", "i flat", "label")),
        ],
        [4],
        "p",
        w=w, b=floats(1, 16), v=v, g=floats(1, 3), classes=np.array([3, 5, 8]),
        flat=np.array([-1]),
    )  # fmt: skip
    graph = file.graph
    assert graph is not None
    graph.node[8].domain = "ai.onnx.ml"
    graph.output.insert(0, messages.value_info("label", "int64", ["n"]))
    numbers = {t.name: messages.array_of(t, "it") for t in graph.initializer}
    scores = np.maximum(x @ w + numbers["b"], 0) @ v + numbers["g"]
    model = read(file)
    label, p = model.predict(x, verbose=0)
    assert np.array_equal(label, np.array([3, 5, 8])[scores.argmax(1)])
    e = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(p, e / e.sum(1, keepdims=True), rtol=1e-5, atol=1e-6)
    assert kinds(model).count("Dense") == 2
    assert len(model.quantize("int8", verbose=0).quantized) == 2
    model.save(tmp_path / "m.hmill")
    hm.models.load_model(tmp_path / "m.hmill")


def test_padding_computed_from_known_sizes() -> None:
    """Of a shape whose first size a call decides, the others are numbers."""
    file = file_of(
        [
            *(node("Shape", "x", "s"), node("Gather", "s three", "n"), node("Sub", "n five", "m")),
            *(node("Mul", "zeros m", "p"), node("Pad", "x p", "q")),
            *(node("Conv", "q w", "r"), node("Flatten", "r", "t"), node("Gemm", "t v", "y")),
        ],
        [2, 6, 6],
        "y",
        three=np.array(3), five=np.array(5), zeros=np.array([0, 0, 1, 1, 0, 0, 0, 0]),
        w=floats(3, 2, 2, 2), v=floats(3 * 36, 4),
    )  # fmt: skip
    model = read(file)
    assert kinds(model)[-1] == "Dense"
    assert "Conv2D" in kinds(model)
    assert model.predict(floats(2, 2, 6, 6), verbose=0).shape == (2, 4)


TURN = {"perm": [1, 0, 2]}


def recurrent(op: str, ways: int, **attrs: Any) -> tuple[list[Any], dict[str, Any]]:
    """A recurrence as exporters write it, of sequences (N, T, 3): its steps and last states."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    direction = {"direction": "bidirectional"} if ways == 2 else {}
    run = messages.Node(
        ["turned", "w", "r", "b"], ["rows", "last"], op, op,
        attribute=[messages.attribute_of(k, v)
                   for k, v in {"hidden_size": 5, **direction, **attrs}.items()],
    )  # fmt: skip
    if ways == 1:
        joined = [node("Squeeze", "rows one", "steps")]
        ends = [node("Squeeze", "last zero", "state")]
    else:
        joined = [node("Transpose", "rows", "rows1", perm=[0, 2, 1, 3]),
                  node("Reshape", "rows1 form", "steps")]  # fmt: skip
        ends = [node("Gather", "last back", "state", axis=0)]
    nodes = [
        *(node("Transpose", "x", "turned", **TURN), run, *joined, *ends),
        *(node("Transpose", "steps", "y0", **TURN), node("ReduceMean", "y0", "y1", axes=[1])),
        *(node("Squeeze", "y1 one", "y2"), node("Concat", "y2 state", "y", axis=1)),
    ]
    numbers = {
        "w": floats(ways, 5 * gates, 3), "r": floats(ways, 5 * gates, 5),
        "b": floats(ways, 10 * gates), "one": np.array([1]), "zero": np.array([0]),
        "form": np.array([0, 0, -1]), "back": np.array(-1),
    }  # fmt: skip
    return nodes, numbers


@pytest.mark.parametrize("ways", (1, 2))
@pytest.mark.parametrize(
    ("op", "attrs", "layer"),
    (
        ("LSTM", {}, "LSTM"),
        ("GRU", {}, "GRU"),
        ("GRU", {"linear_before_reset": 1}, "GRU"),
        ("RNN", {}, "SimpleRNN"),
        ("RNN", {"activations": ["Relu"]}, "SimpleRNN"),
        ("LSTM", {"input_forget": 1}, None),
        ("GRU", {"activations": ["HardSigmoid", "Tanh"]}, None),
    ),
)
def test_recurrent_layers(op: str, attrs: dict[str, Any], layer: str | None, ways: int) -> None:
    """The same numbers as the graph of operators, which ONNX's own tests hold."""
    if "activations" in attrs:
        attrs = {"activations": attrs["activations"] * ways}
    nodes, numbers = recurrent(op, ways, **attrs)
    file = file_of(nodes, [4, 3], "y", **numbers)
    model = read(file)
    names = kinds(model)
    assert (("Bidirectional" if ways == 2 else layer) in names) == (layer is not None)
    x = floats(6, 4, 3)
    data = b"".join(bytes(piece) for piece in wire.written(file))
    (want,) = evaluate(program_of(data, "it", RULES), [x])
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)
    if layer:
        assert names[0] == ("Bidirectional" if ways == 2 else layer)
        model.compile("sgd", "mse")
        model.fit(x, want, verbose=0)


@pytest.mark.parametrize(
    ("attrs", "is_layer"),
    (
        ({"strides": [2, 2]}, True),
        ({"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, True),
        ({"strides": [1, 2], "pads": [1, 0, 0, 1]}, True),
        ({"strides": [2, 2], "output_padding": [1, 1]}, False),
        ({"dilations": [2, 2]}, False),
        ({"strides": [4, 4]}, False),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, False),
    ),
)
def test_transposed_convolutions(attrs: dict[str, Any], is_layer: bool) -> None:
    nodes = [node("ConvTranspose", "x w b", "a", **attrs), node("Relu", "a", "y")]
    against_the_graph(nodes, [3, 5, 4], is_layer, w=floats(3, 2, 3, 3), b=floats(2))


@pytest.mark.parametrize(
    ("attrs", "factors", "is_layer"),
    (
        ({"mode": "nearest", "nearest_mode": "floor",
          "coordinate_transformation_mode": "asymmetric"}, [2, 3], True),
        ({"mode": "nearest"}, [2, 2], True),
        ({"mode": "nearest", "nearest_mode": "floor"}, [2, 2], False),
        ({"mode": "nearest", "coordinate_transformation_mode": "align_corners"}, [2, 2], False),
        ({"mode": "linear"}, [2, 3], True),
        ({"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}, [2, 2], True),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, [2, 2], False),
        ({"mode": "linear"}, [1.5, 2], False),
        ({"mode": "cubic"}, [2, 2], False),
    ),
)  # fmt: skip
def test_resized_images(attrs: dict[str, Any], factors: list[float], is_layer: bool) -> None:
    resize = messages.Node(
        ["a", "", "s"], ["y"], "y", "Resize",
        attribute=[messages.attribute_of(k, v) for k, v in attrs.items()],
    )  # fmt: skip
    nodes = [node("Conv", "x w", "a"), resize]
    scales = np.array([1, 1, *factors], "float32")
    against_the_graph(nodes, [3, 5, 4], is_layer, "UpSampling2D", w=floats(2, 3, 1, 1), s=scales)


def against_the_graph(
    nodes: list[Any],
    shape: list[int],
    is_layer: bool,
    name: str = "Conv2DTranspose",
    **numbers: Any,
) -> None:
    """Compares a model with the graph of operators, which ONNX's own tests hold."""
    file = file_of(nodes, shape, "y", **numbers)
    model = read(file)
    assert (name in kinds(model)) == is_layer
    x = floats(2, *shape)
    data = b"".join(bytes(piece) for piece in wire.written(file))
    (want,) = evaluate(program_of(data, "it", RULES), [x])
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)
