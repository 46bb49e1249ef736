"""``handmill.exchange.load_onnx``: files of handmill, of torch, by hand; hostile ones refused."""

from __future__ import annotations

import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import layers as L
from handmill.errors import FileFormatError
from handmill.exchange import load_onnx, messages, wire
from handmill.exchange.from_onnx.file import model_of
from handmill.exchange.to_onnx.file import onnx_bytes

RNG = np.random.default_rng(0)
TOOLS = Path(__file__).resolve().parents[1] / "tools"


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images() -> Any:
    return hm.Sequential(
        [
            L.Input((8, 8, 3)),
            *(L.Conv2D(4, 3, strides=2, padding="same"), L.BatchNormalization(), L.ReLU()),
            *(L.DepthwiseConv2D(3, padding="same"), L.MaxPooling2D(2), L.UpSampling2D()),
            *(L.Conv2DTranspose(3, 3, strides=2, padding="same"), L.LeakyReLU(), L.Flatten()),
            L.Dense(3, "softmax"),
        ]
    )


def sequences() -> Any:
    layers = [L.Embedding(9, 4), L.LSTM(3, return_sequences=True), L.Bidirectional(L.GRU(2))]
    return hm.Sequential([L.Input((None,), dtype="int32"), *layers, L.Dense(2, "gelu")])


def attention() -> Any:
    i = L.Input((None, 8))
    x = L.MultiHeadAttention(2, 4)(i, i, use_causal_mask=True)
    return hm.Model(i, [L.LayerNormalization()(L.Add()([x, i])), L.RMSNormalization()(x)])


WORDS = RNG.integers(0, 9, (5, 7)).astype("int32")
MODELS = [(images, floats(5, 8, 8, 3)), (sequences, WORDS), (attention, floats(5, 6, 8))]


@pytest.mark.parametrize(("make", "x"), MODELS)
def test_there_and_back(make: Any, x: Any, tmp_path: Path) -> None:
    """The same numbers at two batch sizes, trainable, and the same bits when saved and loaded."""
    model = make()
    model.export(tmp_path / "m.onnx", format="onnx")
    found = load_onnx(tmp_path / "m.onnx")
    for rows in (5, 1):
        wanted = hm.tree.flatten(model.predict(x[:rows], verbose=0))
        given = hm.tree.flatten(found.predict(x[:rows], verbose=0))
        for a, b in zip(given, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    found.save(tmp_path / "m.hmill")
    again = hm.models.load_model(tmp_path / "m.hmill")
    pairs = zip(
        hm.tree.flatten(again.predict(x, verbose=0)),
        hm.tree.flatten(found.predict(x, verbose=0)),
        strict=True,
    )
    assert all(np.array_equal(a, b) for a, b in pairs)
    before = [np.array(v) for v in found.trainable_variables]
    found.compile("sgd", "mse")
    targets = [np.zeros_like(a) for a in hm.tree.flatten(found.predict(x, verbose=0))]
    found.fit(x, targets if len(targets) > 1 else targets[0], verbose=0)
    moved = [not np.array_equal(a, v) for a, v in zip(before, found.variables, strict=False)]
    assert before
    assert any(moved)


def torch_models(nn: Any) -> list[Any]:
    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.second, self.pool = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.AvgPool2d(2)
            self.last = nn.Linear(128, 5)

        def forward(self, x: Any) -> Any:
            x = nn.functional.relu(self.norm(self.first(x)))
            x = self.pool(x + nn.functional.silu(self.second(x)))
            return self.last(x.flatten(1))

    class Words(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 8)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
            self.lstm = nn.LSTM(8, 6, batch_first=True, bidirectional=True)

        def forward(self, x: Any) -> Any:
            return self.lstm(self.block(self.table(x)))[0][:, -1]

    class Grows(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x: Any) -> Any:
            x = nn.functional.interpolate(self.norm(self.conv(x)), scale_factor=2, mode="bilinear")
            return nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)

    dense = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ELU(), nn.Linear(8, 3))
    return [
        (dense, floats(4, 6)),
        (Residual(), floats(4, 3, 8, 8)),
        (Words(), WORDS.astype("int64")),
        (Grows(), floats(4, 3, 5, 5)),
    ]


@pytest.mark.slow
def test_files_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx", reason="torch writes ONNX with it")
    torch.manual_seed(0)
    for model, x in torch_models(torch.nn):
        model.eval()
        with torch.no_grad():
            wanted = model(torch.from_numpy(x)).numpy()
        file = io.BytesIO()
        names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = (torch.from_numpy(x),)
            torch.onnx.export(model, given, file, dynamo=False, opset_version=17, **names)
        found = model_of(file.getvalue(), "it", None)
        for rows in (4, 2):
            given = found.predict(x[:rows], verbose=0)
            np.testing.assert_allclose(given, wanted[:rows], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_onnx_own_tests() -> None:
    pytest.importorskip("onnx")
    found = tool("onnx_tests").run_all("")
    assert sum(not problem for problem in found.values()) >= 1460


# --- hostile files -------------------------------------------------------------------------------


def dense_file() -> messages.Model:
    model = hm.Sequential([L.Input((4,)), L.Dense(2, "relu"), L.Dense(1)])
    return wire.read(messages.Model, onnx_bytes(model, 17, None, False), "it")


def refused(file: messages.Model, match: str, kind: type[Exception] = ValueError) -> None:
    data = b"".join(bytes(piece) for piece in wire.written(file))
    with pytest.raises(kind, match=match):
        model_of(data, "it", None)


def graph_of(file: messages.Model) -> messages.Graph:
    assert file.graph is not None
    return file.graph


def test_unknown_operators_are_listed_at_once() -> None:
    file = dense_file()
    first, second, *_ = graph_of(file).node
    first.op_type, second.op_type, second.domain = "Einsem", "Fancy", "com.example"
    refused(file, r"Einsem: 1 time, first in node 'dense[\s\S]*com\.example\.Fancy: 1 time")


def test_cycles_names_and_outputs() -> None:
    file = dense_file()
    nodes = graph_of(file).node
    nodes[0].input[0] = nodes[-1].output[0]
    refused(file, "before it is written")
    file = dense_file()
    graph_of(file).node[1].output = graph_of(file).node[0].output
    refused(file, "written twice")
    file = dense_file()
    graph_of(file).node[0].input[1] = "nothing"
    refused(file, "written nowhere")
    file = dense_file()
    graph_of(file).output[0].name = "nothing"
    refused(file, "output 'nothing'")


def test_sizes_are_checked_before_anything_is_made() -> None:
    for dims, match in (([2**40, 2**40], "takes"), ([-1, 4], "negative"), ([5, 5], "takes 100")):
        file = dense_file()
        graph_of(file).initializer[0].dims = dims
        refused(file, match, FileFormatError)
    for op, sizes in (("ConstantOfShape", [2**40]), ("Expand", [2**20, 2**20]), ("Tile", [2**50])):
        file = dense_file()
        graph = graph_of(file)
        graph.initializer.append(messages.tensor_of(np.array(sizes, np.int64), "sizes"))
        graph.initializer.append(messages.tensor_of(np.ones(1, np.float32), "one"))
        operands = ["sizes"] if op == "ConstantOfShape" else ["one", "sizes"]
        graph.node.insert(0, messages.Node(operands, ["huge"], "n", op))
        graph.node.append(messages.Node([graph.output[0].name, "huge"], ["y"], "m", "Add"))
        graph.output[0].name = "y"
        refused(file, f"{op} in 'n': .* more than")


def test_attributes_of_other_types_and_unknown_ones() -> None:
    file = dense_file()
    graph_of(file).node[0].attribute = [messages.attribute_of("transB", [1, 2])]
    refused(file, "transB")
    file = dense_file()
    graph_of(file).node[0].attribute = [messages.attribute_of("strange", 1)]
    refused(file, r"\['strange'\] are not read")


def test_versions_domains_and_what_is_no_model() -> None:
    file = dense_file()
    file.opset_import[0].version = 99
    refused(file, "version 99")
    file = dense_file()
    file.functions = [b"x"]
    refused(file, "functions")
    for data in (b"", b"\x00", b"\xff" * 40, b"PK\x03\x04" * 9, b"\x3b" * 8):
        with pytest.raises(FileFormatError):
            model_of(data, "it", None)


def test_a_graph_that_names_no_output() -> None:
    file = dense_file()
    graph_of(file).output = []
    refused(file, "it has no outputs", FileFormatError)


def test_wire_limits() -> None:
    deep = b""
    for _ in range(80):  # graphs in attributes of nodes of graphs
        inner = b"\x32" + wire._varint(len(deep)) + deep
        node = b"\x2a" + wire._varint(len(inner)) + inner
        deep = b"\x0a" + wire._varint(len(node)) + node
    whole = b"\x3a" + wire._varint(len(deep)) + deep
    with pytest.raises(FileFormatError, match="nested more than 32"):
        wire.read(messages.Model, whole, "it")
    for data, match in (
        (b"\x08" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x12\x05ab", "beyond its message"),
        (b"\x12\x02\xff\xfe", "UTF-8"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x08", "beyond its message"),
        (b"\x0d\x01\x02\x03\x04", "another type"),
    ):
        with pytest.raises(FileFormatError, match=match):
            wire.read(messages.Model, data, "it")


def external(tmp_path: Path, **entries: Any) -> Path:
    file = dense_file()
    tensor = graph_of(file).initializer[0]
    (tmp_path / "weights.bin").write_bytes(b"1234" + bytes(tensor.raw_data))
    given = {"location": "weights.bin", "offset": 4, "length": len(tensor.raw_data), **entries}
    tensor.external_data = [messages.Entry(k, str(v)) for k, v in given.items()]
    tensor.raw_data, tensor.data_location = None, 1
    path = tmp_path / "m.onnx"
    path.write_bytes(b"".join(bytes(piece) for piece in wire.written(file)))
    return path


def test_external_data_only_on_request(tmp_path: Path) -> None:
    path = external(tmp_path)
    with pytest.raises(ValueError, match="external_data=True"):
        load_onnx(path)
    assert load_onnx(path, external_data=True).predict(floats(2, 4), verbose=0).shape == (2, 1)


@pytest.mark.parametrize(
    "entries",
    (
        {"location": "../weights.bin"},
        {"location": "/etc/passwd"},
        {"location": ""},
        {"location": "a/../weights.bin"},
        {"offset": 10**9},
        {"offset": -8},
        {"length": 10**12},
        {"offset": "four"},
        {"length": 7},
        {"location": "link"},
        {"location": "second"},
    ),
)
def test_hostile_external_data(tmp_path: Path, entries: dict[str, Any]) -> None:
    path = external(tmp_path, **entries)
    if entries.get("location") == "link":
        (tmp_path / "link").symlink_to(tmp_path / "weights.bin")
    if entries.get("location") == "second":
        (tmp_path / "second").hardlink_to(tmp_path / "weights.bin")
    with pytest.raises(FileFormatError):
        load_onnx(path, external_data=True)


@pytest.mark.parametrize(
    "count",
    (
        100,
        pytest.param(3_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
        pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(20_000)]),
    ),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files(count: int) -> None:
    """Read or refused, never more than a second, never more memory than there is room for."""
    fuzz = tool("fuzz_onnx")
    outcomes, slowest, before = set(), [], 0
    for outcome, seconds, _ in fuzz.run(count, seed=count):
        before = before or fuzz.peak()
        outcomes.add(outcome)
        slowest.append(seconds)
    assert {"read", "ValueError", "FileFormatError"} >= outcomes
    assert len(outcomes) == 3
    assert sum(seconds > fuzz.MOST_SECONDS for seconds in slowest) == 0
    assert fuzz.peak() - before <= fuzz.MOST_BYTES


def test_operators_of_scikit_learn() -> None:
    """A Scaler and a LinearClassifier, as skl2onnx writes them."""
    float_matrix = messages.value_info("x", "float32", ["n", 3])
    scaler = messages.Node(["x"], ["scaled"], "s", "Scaler", domain="ai.onnx.ml")
    scaler.attribute = [
        messages.attribute_of("offset", [1.0, 2.0, 3.0]),
        messages.attribute_of("scale", [0.5, 1.0, 2.0]),
    ]
    weights = RNG.normal(size=(2, 3)).round(2)
    linear = messages.Node(["scaled"], ["label", "scores"], "l", "LinearClassifier")
    linear.domain = "ai.onnx.ml"
    linear.attribute = [
        messages.attribute_of("classlabels_ints", [7, 9]),
        messages.attribute_of("coefficients", [float(w) for w in weights.reshape(-1)]),
        messages.attribute_of("intercepts", [0.5, -0.5]),
        messages.attribute_of("post_transform", "SOFTMAX"),
    ]
    outputs = [messages.value_info(name, "float32", ["n"]) for name in ("label", "scores")]
    graph = messages.Graph([scaler, linear], "g", [], [float_matrix], outputs)
    file = messages.Model(8, "p", "1", None, graph, [messages.OperatorSet("ai.onnx.ml", 1)])
    data = b"".join(bytes(piece) for piece in wire.written(file))
    x = floats(6, 3)
    label, scores = model_of(data, "it", "m").predict(x, verbose=0)
    wanted = ((x - [1, 2, 3]) * [0.5, 1, 2]) @ weights.T + [0.5, -0.5]
    assert np.array_equal(label, np.array([7, 9])[wanted.argmax(1)])
    e = np.exp(wanted - wanted.max(1, keepdims=True))
    np.testing.assert_allclose(scores, e / e.sum(1, keepdims=True), rtol=1e-5)
    linear.op_type = "ZipMap"
    refused(file, r"ai\.onnx\.ml\.ZipMap")
