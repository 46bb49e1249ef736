"""What torch exports: read, compared with onnxruntime, trained, made smaller, written again."""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import compress
from handmill.exchange.from_onnx.file import model_of
from handmill.exchange.to_onnx.file import onnx_bytes

pytestmark = [pytest.mark.peers]

RNG = np.random.default_rng(0)
WORDS = RNG.integers(0, 20, (6, 7))
ROWS = RNG.normal(size=(6, 7, 8)).astype("float32")
IMAGES = RNG.normal(size=(6, 3, 16, 16)).astype("float32")

# name: what it is given, which axes a call decides, which layers it becomes, how many of them
# are quantized
NETWORKS: dict[str, tuple[Any, dict[int, str], set[str], int]] = {
    "lstm": (WORDS, {0: "n", 1: "t"}, {"LSTM", "Dense"}, 2),
    "gru": (WORDS, {0: "n", 1: "t"}, {"GRU", "Dense"}, 2),
    "both ways": (ROWS, {0: "n", 1: "t"}, {"Bidirectional", "Dense"}, 5),
    "last states": (ROWS, {0: "n", 1: "t"}, {"Bidirectional", "Concatenate", "Dense"}, 3),
    "encoder": (WORDS, {0: "n"}, {"LayerNormalization", "Dense"}, 5),
    "causal attention": (ROWS, {0: "n", 1: "t"}, {"LayerNormalization", "Dense"}, 4),
    "mobilenet": (IMAGES, {0: "n"}, {"Conv2D", "DepthwiseConv2D", "Dense"}, 8),
    "resnet": (IMAGES, {0: "n", 2: "h", 3: "w"}, {"Conv2D", "Dense"}, 7),
    "unet": (IMAGES, {0: "n", 2: "h", 3: "w"}, {"Conv2D", "Conv2DTranspose"}, 4),
    "unet upsampled": (IMAGES, {0: "n"}, {"Conv2D", "UpSampling2D"}, 5),
}


def network(name: str) -> Any:
    torch = pytest.importorskip("torch")
    nn, f = torch.nn, torch.nn.functional

    class Recurrent(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, kind: Any, words: bool, states: bool, **given: Any) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 8) if words else nn.Identity()
            self.rnn = kind(8, 16, batch_first=True, **given)
            self.head = nn.Linear(32 if given.get("bidirectional") else 16, 5)
            self.states = states

        def forward(self, x: Any) -> Any:
            y, last = self.rnn(self.table(x))
            return self.head(torch.cat([last[0], last[1]], -1) if self.states else y[:, -1])

    class Encoder(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 16)
            self.block = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
            self.head = nn.Linear(16, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.block(self.table(x)).mean(1))

    class Attention(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])
            self.norm = nn.LayerNorm(8)

        def forward(self, x: Any) -> Any:
            n, t, d = x.shape
            q, k, v = (p(x).view(n, t, 2, 4).transpose(1, 2) for p in self.parts[:3])
            y = f.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.norm(x + self.parts[3](y.transpose(1, 2).reshape(n, t, d)))

    def normed(*args: Any, **given: Any) -> Any:
        return nn.Sequential(nn.Conv2d(*args, bias=False, **given), nn.BatchNorm2d(args[1]))

    class Inverted(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, i: int, o: int, step: int) -> None:
            super().__init__()
            self.added = step == 1 and i == o
            wide = normed(4 * i, 4 * i, 3, step, 1, groups=4 * i)
            self.parts = nn.Sequential(
                normed(i, 4 * i, 1), nn.ReLU6(), wide, nn.ReLU6(), normed(4 * i, o, 1)
            )

        def forward(self, x: Any) -> Any:
            return x + self.parts(x) if self.added else self.parts(x)

    class Residual(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, i: int, o: int, step: int) -> None:
            super().__init__()
            self.first, self.second = normed(i, o, 3, step, 1), normed(o, o, 3, 1, 1)
            self.beside = normed(i, o, 1, step) if step > 1 else nn.Identity()

        def forward(self, x: Any) -> Any:
            return f.relu(self.second(f.relu(self.first(x))) + self.beside(x))

    class Grows(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, up: Any) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 32, 3, 1, 1), nn.Conv2d(32, 64, 3, 1, 1)
            self.up, self.c, self.d = up, nn.Conv2d(64, 32, 3, 1, 1), nn.Conv2d(32, 2, 1)

        def forward(self, x: Any) -> Any:
            a = f.relu(self.a(x))
            b = self.up(f.relu(self.b(f.max_pool2d(a, 2))))
            return torch.sigmoid(self.d(f.relu(self.c(torch.cat([b, a], 1)))))

    def classifier(width: int, *parts: Any) -> Any:
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))

    torch.manual_seed(0)
    return {
        "lstm": lambda: Recurrent(nn.LSTM, True, False),
        "gru": lambda: Recurrent(nn.GRU, True, False),
        "both ways": lambda: Recurrent(nn.LSTM, False, False, num_layers=2, bidirectional=True),
        "last states": lambda: Recurrent(nn.GRU, False, True, bidirectional=True),
        "encoder": Encoder,
        "causal attention": Attention,
        "mobilenet": lambda: classifier(
            16, normed(3, 8, 3, 2, 1), nn.ReLU6(), Inverted(8, 16, 2), Inverted(16, 16, 1)
        ),
        "resnet": lambda: classifier(
            32, normed(3, 16, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Residual(16, 16, 1),
            Residual(16, 32, 2),
        ),
        "unet": lambda: Grows(nn.ConvTranspose2d(64, 32, 2, 2)),
        "unet upsampled": lambda: Grows(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(64, 32, 1))
        ),
    }[name]().eval()  # fmt: skip


def exported(name: str, newer: bool) -> bytes:
    """The file of one of torch's exporters."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx", reason="torch writes ONNX with it")
    x, axes = NETWORKS[name][:2]
    if newer:
        pytest.importorskip("onnxscript", reason="torch writes ONNX with it")
    given: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net, example = network(name), (torch.from_numpy(x),)
            if newer:
                shapes = ({axis: torch.export.Dim.DYNAMIC for axis in axes},)
                made = torch.onnx.export(
                    net, example, None, dynamo=True, dynamic_shapes=shapes, verbose=False,
                    opset_version=18, **given,
                )  # fmt: skip
                return bytes(made.model_proto.SerializeToString())
            file = io.BytesIO()
            torch.onnx.export(
                net,
                example,
                file,
                dynamo=False,
                opset_version=17,
                dynamic_axes={"x": axes},
                **given,
            )
            return file.getvalue()
    finally:
        logging.disable(level)


def by_onnxruntime(data: bytes, x: Any) -> Any:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(float)": "float32"}
    first = session.get_inputs()[0]
    return session.run(None, {first.name: x.astype(kinds[first.type])})[0]


def agree(model: Any, data: bytes, x: Any) -> None:
    np.testing.assert_allclose(
        model.predict(x, verbose=0), by_onnxruntime(data, x), rtol=1e-5, atol=1e-5
    )


def sizes(x: Any, axes: dict[int, str]) -> list[Any]:
    """The input at other sizes than the file was made with."""
    found = [x, x[:3]]
    if 1 in axes:
        found.append(x[:2, :4])
    if 2 in axes:
        found.append(np.concatenate([x, x], 2)[:2])
    return found


def runs(name: str, newer: bool) -> None:
    x, axes, kinds, quantized = NETWORKS[name]
    data = exported(name, newer)
    model = model_of(data, "it", None)
    layers = {type(layer).__name__ for layer in model.layers}
    assert kinds <= layers
    for given in sizes(x, axes):
        agree(model, data, given)
    targets = np.zeros_like(model.predict(x, verbose=0))

    model.compile(hm.optimizers.SGD(0.01), "mse")
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(x, targets, epochs=2, batch_size=6, verbose=0)
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    # Shifting all scores of a query changes nothing, nor does a first step without a state.
    assert sum(not m for m in moved) <= 1
    again = onnx_bytes(model, 17, None, False)
    for given in sizes(x, axes):
        agree(model, again, given)

    pruned = model_of(data, "it", None)
    pruned.compile("sgd", "mse")
    compress.prune(pruned, 0.5)
    pruned.fit(x, targets, verbose=0)
    agree(pruned, onnx_bytes(pruned, 17, None, False), x)

    if name != "causal attention":  # its heads are sizes that the file names
        small = compress.shrink(model_of(data, "it", None), 0.5)
        assert small.count_params() < model.count_params()
        agree(small, onnx_bytes(small, 17, None, False), x)

    whole = model_of(data, "it", None)
    want = whole.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that keep floats, and of few rows
        config = hm.quantizers.Int8StaticQuantizationConfig(x) if x.ndim == 4 else None
        report = whole.quantize(None if config else "int8", config=config, verbose=0)
    assert len(report.quantized) >= quantized
    found = whole.predict(x, verbose=0)
    assert 0 < np.abs(found - want).max() < 0.02
    if not kinds & {"LSTM", "GRU", "Bidirectional"}:  # 8-bit recurrences have no form in ONNX
        np.testing.assert_allclose(
            found, by_onnxruntime(onnx_bytes(whole, 17, None, False), x), atol=1e-3
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_torch(name: str) -> None:
    runs(name, newer=False)


FIXED_LENGTHS = ("both ways", "last states")
"""Networks of which torch.export (2.13) makes the length a number, always or after others."""


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in FIXED_LENGTHS])
def test_torch_newer_exporter(name: str) -> None:
    """Through torch.export, which needs onnxscript."""
    runs(name, newer=True)
