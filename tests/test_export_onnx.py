"""``Model.export(format="onnx")``: what onnx accepts and onnxruntime computes from the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import layers as L
from handmill.cli import main
from handmill.exchange.to_onnx import check as check_module
from handmill.exchange.to_onnx.check import EXACT_SUMS
from handmill.exchange.to_onnx.emitter import RULES
from handmill.exchange.to_onnx.file import onnx_bytes
from handmill.ir.op import REGISTRY

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx.reference")
ort = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """The same numbers whichever tests ran before.

    At a tie x / step, as ONNX has it, and our x * (1 / step) round to neighbouring bytes: 2 of 40
    draws of 12,288 pixels had one, and failed. What is drawn here has none.
    """
    RNG.bit_generator.state = np.random.default_rng(3).bit_generator.state


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def other_weights(model: Any) -> None:
    """Weights that nothing is by default, so that each of them matters."""
    rng = np.random.default_rng(1)
    for v in model.variables:
        if v.dtype == "float32":
            drawn = rng.normal(scale=0.3, size=v.shape).astype("float32")
            v.assign(np.abs(drawn) + 0.5 if "variance" in v.path else drawn)


def run_file(content: bytes, *xs: Any, exact_sums: bool = True, joined: bool = True) -> list[Any]:
    """What onnxruntime computes; its sums of bytes saturate on CPUs without VNNI unless asked."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(EXACT_SUMS, str(int(exact_sums)))
    if not joined:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: x for i, x in zip(session.get_inputs(), xs, strict=True)})


def check(model: Any, *xs: Any, opset: int = 17, tolerance: float = 1e-5) -> Counter[str]:
    """Compares at the batch of ``xs`` and at one row; returns how often each operator is there."""
    other_weights(model)
    content = onnx_bytes(model, opset, None, False)
    file = onnx.load_from_string(content)
    onnx.checker.check_model(file, full_check=True)
    assert file.opset_import[0].version == opset
    for rows in (len(xs[0]), 1):
        given = [x[:rows] for x in xs]
        found = run_file(content, *given)
        wanted = hm.tree.flatten(model(given if len(given) > 1 else given[0], training=False))
        for a, b in zip(found, wanted, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
    return Counter(node.op_type for node in file.graph.node)


def seq(shape: Any, *layers: Any, dtype: str = "float32") -> Any:
    return hm.Sequential([L.Input(shape, dtype=dtype), *layers])


def test_dense_with_normalization_is_gemm() -> None:
    model = seq((5,), L.Dense(4), L.BatchNormalization(), L.ReLU(), L.Dense(3, "softmax"))
    found = check(model, floats(7, 5))
    assert found == {"Gemm": 2, "Relu": 1, "Softmax": 1}  # the normalization is built in


def test_images_are_turned_once() -> None:
    model = seq(
        (16, 16, 3),
        *(L.Conv2D(4, 3, strides=2, padding="same", use_bias=False), L.BatchNormalization()),
        *(L.ReLU(), L.DepthwiseConv2D(3, depth_multiplier=2), L.MaxPooling2D(2), L.Conv2D(5, 1)),
        *(L.AveragePooling2D(2, padding="same"), L.ReLU(6.0), L.Flatten(), L.Dropout(0.5)),
        L.Dense(3),
    )
    found = check(model, floats(3, 16, 16, 3))
    assert found["Transpose"] == 1
    assert found["Conv"] == 3
    assert "Gather" not in found
    content = onnx_bytes(model, 17, None, True)
    assert "Transpose" not in {n.op_type for n in onnx.load_from_string(content).graph.node}
    x = floats(2, 16, 16, 3)
    (y,) = run_file(content, np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(y, model(x), rtol=1e-5, atol=1e-6)


def resnet() -> Any:
    """The network of MLPerf Tiny: three stages with shortcuts, 16, 32 and 64 channels."""
    x = start = L.Input((32, 32, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding="same")(x)))
    for channels, step in ((16, 1), (32, 2), (64, 2)):
        y = L.Conv2D(channels, 3, strides=step, padding="same")(x)
        y = L.ReLU()(L.BatchNormalization()(y))
        y = L.BatchNormalization()(L.Conv2D(channels, 3, padding="same")(y))
        if step > 1:
            x = L.Conv2D(channels, 1, strides=step, padding="same")(x)
        x = L.ReLU()(L.Add()([x, y]))
    x = L.Flatten()(L.AveragePooling2D(8)(x))
    return hm.Model(start, L.Dense(10, "softmax")(x))


def test_resnet8() -> None:
    found = check(resnet(), floats(2, 32, 32, 3))
    assert found["Transpose"] == 1
    assert found["Conv"] == 9
    assert found["Mul"] == 0


def test_mobilenet_with_squeeze() -> None:
    def block(x: Any, channels: int, step: int) -> Any:
        x = L.DepthwiseConv2D(3, strides=step, padding="same", use_bias=False)(x)
        x = L.ReLU(6.0)(L.BatchNormalization()(x))
        return L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(channels, 1, use_bias=False)(x)))

    start = L.Input((32, 32, 3))
    x = block(block(L.Conv2D(8, 3, strides=2, padding="same")(start), 16, 1), 24, 2)
    weights = L.Reshape((1, 1, 24))(L.GlobalAveragePooling2D()(x))
    weights = L.Conv2D(24, 1, activation="sigmoid")(L.Conv2D(6, 1, activation="silu")(weights))
    x = L.Activation("hard_swish")(L.Multiply()([x, weights]))
    x = L.Dense(10)(L.GlobalAveragePooling2D()(x))
    found = check(hm.Model(start, x), floats(2, 32, 32, 3))
    assert found["Transpose"] == 1


def test_other_windows() -> None:
    transposed = L.Conv2DTranspose(4, 3, strides=2, padding="same")
    model = seq(
        (8, 8, 3),
        *(transposed, L.LeakyReLU(), L.UpSampling2D(), L.ZeroPadding2D(), L.Cropping2D()),
        *(L.PReLU(), L.GlobalMaxPooling2D(), L.LayerNormalization(), L.Dense(3, "gelu")),
    )
    check(model, floats(3, 8, 8, 3))
    check(seq((8, 8, 3), L.Conv2DTranspose(2, 2, strides=3), L.Flatten()), floats(2, 8, 8, 3))
    check(seq((8, 8, 4), L.Conv2D(6, 3, groups=2, dilation_rate=2)), floats(2, 8, 8, 4))
    check(seq((5, 5, 5, 2), L.Conv3D(3, 2), L.AveragePooling3D(2)), floats(2, 5, 5, 5, 2))
    causal = L.Conv1D(4, 3, padding="causal", dilation_rate=2)
    check(seq((12, 3), causal, L.MaxPooling1D(2), L.LSTM(4)), floats(2, 12, 3))
    separable = seq((8, 8, 4), L.SeparableConv2D(4, 3), L.GroupNormalization(2))
    check(separable, floats(2, 8, 8, 4))


def test_sizes_that_a_call_decides() -> None:
    model = seq(
        (None, None, 3),
        *(L.Conv2D(4, 3, strides=2, padding="same"), L.MaxPooling2D(3, 2, padding="same")),
        *(L.Conv2DTranspose(3, 2, 2), L.GlobalAveragePooling2D()),
    )
    check(model, floats(2, 16, 17, 3))
    check(model, floats(2, 21, 10, 3))


def test_recurrent_layers() -> None:
    """Every gate of ONNX in its place, both directions, states, masks of any form."""
    x = floats(3, 6, 4)
    for layer in (
        L.LSTM(3),
        L.LSTM(3, return_sequences=True, go_backwards=True, use_bias=False),
        L.GRU(3, return_sequences=True),
        L.GRU(3, reset_after=False, go_backwards=True),
        L.SimpleRNN(3, return_sequences=True),
        L.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid"),
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        L.Bidirectional(L.GRU(3), merge_mode="sum"),
    ):
        found = check(seq((None, 4), layer), x)
    stacked = seq((None, 4), L.LSTM(3, return_sequences=True), L.GRU(3))
    found = check(stacked, x)
    assert found["LSTM"] == found["GRU"] == found["Transpose"] == 1
    masked = seq(
        (None,),
        *(L.Embedding(5, 4, mask_zero=True), L.LSTM(3, return_sequences=True), L.GRU(2)),
        dtype="int32",
    )
    words = np.array([[1, 0, 2, 3], [4, 2, 0, 0], [0, 0, 0, 0]], "int32")
    assert check(masked, words)["Scan"] == 2


def test_states_that_are_inputs() -> None:
    x, h, c = L.Input((5, 2)), L.Input((3,)), L.Input((3,))
    y, *after = L.LSTM(3, return_sequences=True, return_state=True)(x, initial_state=[h, c])
    found = check(hm.Model([x, h, c], [y, *after]), floats(2, 5, 2), floats(2, 3), floats(2, 3))
    assert found["LSTM"] == 1


def test_attention() -> None:
    i = L.Input((None, 8))
    x = L.MultiHeadAttention(2, 4)(i, i, use_causal_mask=True)
    x = L.RMSNormalization()(L.Add()([x, i]))
    x = L.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(x)
    check(hm.Model(i, x), floats(2, 6, 8))
    j = L.Input((4, 8))
    y = L.MultiHeadAttention(2, 4)(i, j)
    check(hm.Model([i, j], L.GroupQueryAttention(8, 4, 2)(y, y)), floats(2, 6, 8), floats(2, 4, 8))


def test_a_small_gpt() -> None:
    words = L.Input((None,), dtype="int32")
    x = hm.hub.layers.TokenAndPositionEmbedding(50, 16, 8, mask_zero=True)(words)
    for _ in range(2):
        x = hm.hub.layers.TransformerDecoder(16, 2, activation="gelu", normalize_first=True)(x)
    model = hm.Model(words, L.Dense(50)(L.LayerNormalization()(x)))
    check(model, np.array([[3, 7, 9, 0, 0], [1, 2, 3, 4, 5]], "int32"))


ACTIVATIONS = (
    "relu relu6 leaky_relu elu selu softplus softsign silu gelu hard_sigmoid hard_silu mish celu "
    "exponential tanh sigmoid log_softmax tanh_shrink hard_tanh glu squareplus log_sigmoid "
    "soft_shrink hard_shrink sparse_plus sparse_sigmoid"
)


def test_activations() -> None:
    start = L.Input((8,))
    outputs = [L.Activation(name)(L.Dense(8)(start)) for name in ACTIVATIONS.split()]
    check(hm.Model(start, outputs), floats(5, 8))


def test_functions_of_ops() -> None:
    start = L.Input((6,))
    ops = hm.ops
    outputs = [
        ops.concatenate([start[:, :2], start[:, 3:]], axis=1),
        ops.pad(start, ((0, 0), (1, 2)), constant_values=3.0),
        ops.cumsum(start, axis=1),
        ops.sort(start, axis=1),
        ops.argmax(start, axis=1),
        ops.one_hot(ops.argmax(start, axis=1), 6),
        ops.floor_divide(ops.cast(start * 10, "int32"), 3),
        ops.mod(ops.cast(start * 10, "int32"), 3),
        ops.mod(start, 0.7),
        ops.expm1(start),
        ops.trunc(start * 3),
        ops.where(ops.isfinite(start), start, 0.0),
        ops.any(start > 1, axis=1),
        ops.var(start, axis=1),
        ops.take(start, [5, -1, 0], axis=1),
        ops.reshape(ops.repeat(start, 2, axis=1), (-1, 3, 4)),
        ops.matmul(ops.transpose(ops.reshape(start, (-1, 2, 3)), (0, 2, 1)), floats(2, 4)),
    ]
    check(hm.Model(start, outputs), floats(4, 6))


@pytest.mark.parametrize("opset", (13, 15, 18, 20, 21, 23, 25))
def test_opsets(opset: int) -> None:
    model = seq(
        (8, 8, 3),
        *(L.Conv2D(4, 3, activation="gelu"), L.BatchNormalization(), L.MaxPooling2D(2)),
        *(L.Dense(4, "silu"), L.GlobalMaxPooling2D(), L.Dense(8), L.Activation("softmax")),
    )
    check(model, floats(5, 8, 8, 3), opset=opset)
    with pytest.raises(ValueError, match="13 to 25"):
        model.export("never.onnx", format="onnx", opset_version=12)


def bytes_of(content: bytes, x: Any) -> list[Any]:
    """The results of all QuantizeLinear in a file, where they are in the file's order of axes."""
    file = onnx.load_from_string(content)
    names = [n.output[0] for n in file.graph.node if n.op_type == "QuantizeLinear"]
    del file.graph.output[:]
    file.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names
    )
    return run_file(file.SerializeToString(), x)


def check_integers(model: Any, x: Any, opset: int, turned: float = 0.0) -> bytes:
    """The file, after ONNX's own evaluator and onnxruntime computed what the model computes.

    Operators as they are written are exact. What onnxruntime joins operators to rounds otherwise
    between layers: of ``turned`` of the rows, bytes and so results may be a step away.
    """
    content = onnx_bytes(model, opset, None, False)
    wanted = model.predict(x, verbose=0)
    found = [run_file(content, x)[0]]
    if b"MatMulInteger" not in content:  # whose exact sums are a rewriting of the graph
        found = [run_file(content, x, joined=False)[0], *found]
    if opset >= 21:  # ONNX's DequantizeLinear with axes begins there
        file = onnx.load_from_string(content)
        evaluator = onnx.reference.ReferenceEvaluator(file)
        found = [*evaluator.run(None, {file.graph.input[0].name: x}), *found]
    most = np.abs(wanted).max()
    for each in found[:-1]:
        np.testing.assert_allclose(each, wanted, atol=1e-6 * most)
    apart = np.abs(found[-1] - wanted).max(axis=1)
    assert apart.max() <= (0.02 if turned else 1e-6) * most
    assert (apart > 1e-6 * most).mean() <= turned
    return content


@pytest.mark.filterwarnings("ignore:.*layer")
@pytest.mark.parametrize("opset", (17, 21))
def test_integers_of_8_bits(opset: int) -> None:
    """Static steps as QDQ, rows that are measured as exact integers: no number is another one."""
    config = hm.quantizers.Int8StaticQuantizationConfig
    x = floats(64, 8, 8, 3)
    conv = [L.Conv2D(4, 3, padding="same", activation="relu"), L.Conv2D(8, 3, strides=2)]
    images = seq((8, 8, 3), *conv, L.ReLU(), L.Flatten(), L.Dense(5))
    images.quantize(config=config(x))
    content = check_integers(images, x, opset)
    kinds = Counter(n.op_type for n in onnx.load_from_string(content).graph.node)
    assert kinds["QuantizeLinear"] == 3
    assert kinds["DequantizeLinear"] == 6
    # The first bytes are those of the reference: round(x * factor) + zero.
    step, zero = (
        np.array(v) for v in (images.layers[0].inputs_scale, images.layers[0].inputs_zero)
    )
    mine = np.clip(np.rint(x * (np.float32(1) / step)) + zero, 0, 255).astype(np.uint8)
    first = bytes_of(content, x)[0]
    first = first if first.shape == mine.shape else np.moveaxis(first, 1, -1)
    assert (first == mine).mean() >= 0.9999
    rows = floats(300, 50)
    for mode in ("int8", "int4"):
        dense = seq((50,), L.Dense(40, "relu"), L.BatchNormalization(), L.Dense(10))
        other_weights(dense)
        dense.quantize(mode)
        check_integers(dense, rows, opset)
    with_biases = hm.models.clone_model(dense)
    other_weights(with_biases)
    with_biases.quantize(config=config(rows))
    check_integers(with_biases, rows, opset, turned=0.1)


@pytest.mark.parametrize("static", (False, True))
def test_integers_that_layers_share(static: bool) -> None:
    """Equal kernels, and one layer twice: onnxruntime rewrites initializers for exact sums."""
    x, i = floats(40, 24), L.Input((24,))
    shared = L.Dense(24, "relu")
    twins = [L.Dense(24, "relu", kernel_initializer="ones") for _ in range(2)]
    model = hm.Model(i, L.Dense(24)(twins[1](twins[0](shared(shared(i))))))
    other_weights(model)
    twins[1].set_weights(twins[0].get_weights())
    model.quantize(
        **{"config": hm.quantizers.Int8StaticQuantizationConfig(x)} if static else {"mode": "int8"}
    )
    check_integers(model, x, 21, turned=0.1 * static)


def test_verify_tells_of_saturated_sums(tmp_path: Path, recwarn: Any) -> None:
    """Exact bytes that saturate in 16 bits on some CPUs: the file is right, and written."""
    model = seq((50,), L.Dense(8))
    model.layers[0].set_weights([np.ones((50, 8), np.float32), np.ones(8, np.float32)])
    model.quantize("int8")
    model.export(tmp_path / "m.onnx", format="onnx", verify=True)
    content, x = (tmp_path / "m.onnx").read_bytes(), np.random.default_rng(0).random((3, 50))
    x = x.astype("float32")
    plain, wanted = run_file(content, x, exact_sums=False)[0], model.predict(x, verbose=0)
    saturates = not np.allclose(plain, wanted, rtol=1e-5)
    told = [str(w.message) for w in recwarn if EXACT_SUMS in str(w.message)]
    assert len(told) == saturates
    np.testing.assert_allclose(run_file(content, x)[0], wanted, rtol=1e-6)


def test_depthwise_integers_of_8_bits() -> None:
    """As written: runtimes that fuse QDQ may saturate sums of bytes where there is no VNNI."""
    x = floats(40, 8, 8, 3)
    model = seq((8, 8, 3), L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), L.ReLU())
    model.quantize(config=hm.quantizers.Int8StaticQuantizationConfig(x))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = onnx_bytes(model, 17, None, False)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=1e-6 * np.abs(wanted).max())


def test_depthwise_integers_with_exact_sums() -> None:
    """onnxruntime rewrites the zero points of weights there, so each output has one."""
    x = floats(40, 8, 8, 3)
    model = seq((8, 8, 3), L.Conv2D(4, 3, activation="relu"), L.DepthwiseConv2D(3), L.Flatten())
    other_weights(model)
    model.quantize(config=hm.quantizers.Int8StaticQuantizationConfig(x))
    content, wanted = onnx_bytes(model, 17, None, False), model.predict(x, verbose=0)
    apart = np.abs(run_file(content, x, exact_sums=True)[0] - wanted) / np.abs(wanted).max()
    assert apart.max() < 0.02  # a byte is rounded to the next one, here and there
    assert (apart > 1e-5).mean() < 0.03


def test_verify_tells_of_bytes_that_are_rounded_otherwise(
    tmp_path: Path, monkeypatch: Any, recwarn: Any
) -> None:
    """Joined products round some bytes to the next one: no reason to refuse a file."""
    x = floats(40, 8, 8, 3)
    model = seq((8, 8, 3), L.Conv2D(4, 3, activation="relu"), L.DepthwiseConv2D(3), L.Flatten())
    other_weights(model)
    model.quantize(config=hm.quantizers.Int8StaticQuantizationConfig(x))
    monkeypatch.setattr(check_module, "_ROWS", (40,))
    model.export(tmp_path / "m.onnx", format="onnx", verify=True)
    content, drawn = (tmp_path / "m.onnx").read_bytes(), np.random.default_rng(0)
    x = drawn.random((40, 8, 8, 3)).astype("float32")
    found, wanted = run_file(content, x)[0], model.predict(x, verbose=0)
    turned = not np.allclose(found, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)
    told = [str(w.message) for w in recwarn if "operator by operator" in str(w.message).lower()]
    assert len(told) == turned
    whole = run_file(content, x, joined=False)[0]
    np.testing.assert_allclose(whole, wanted, atol=1e-6 * np.abs(wanted).max())


def test_rules_are_of_operators() -> None:
    assert set(RULES) <= set(REGISTRY)


def test_names_are_the_models() -> None:
    i = L.Input((4,), name="pixels")
    outputs = {"class": L.Dense(2, name="a")(i), "same": i}
    model = hm.Model(i, outputs)
    file = onnx.load_from_string(onnx_bytes(model, 17, None, False))
    assert [v.name for v in file.graph.input] == ["pixels"]
    assert [v.name for v in file.graph.output] == ["class", "same"]
    shape = file.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param == "batch"
    assert shape[1].dim_value == 4
    assert {t.name for t in file.graph.initializer} >= {"a/kernel"}
    check(model, floats(3, 4))


def test_own_layers_and_models(tmp_path: Path) -> None:
    class Scaled(hm.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x: Any) -> Any:
            return hm.ops.tanh(self.dense(x)) * 2.0

    model = Scaled()
    x = floats(4, 5)
    wanted = model(x)
    with pytest.raises(ValueError, match="input_signature"):
        model.export(tmp_path / "m.onnx", format="onnx")
    signature = [hm.InputSpec(shape=(None, 5), dtype="float32")]
    model.export(tmp_path / "m.onnx", format="onnx", input_signature=signature, verify=True)
    np.testing.assert_allclose(run_file((tmp_path / "m.onnx").read_bytes(), x)[0], wanted, 1e-5)


def test_what_cannot_be_written_is_listed_at_once(tmp_path: Path) -> None:
    class Draws(L.Layer):
        def call(self, x: Any) -> Any:
            return x + hm.random.normal(hm.ops.shape(x), seed=hm.random.SeedGenerator(1))

    class Inverts(L.Layer):
        def call(self, x: Any) -> Any:
            return hm.ops.linalg.inv(x)

    model = seq((3, 3), Draws(name="noise"), Inverts(name="inverse"))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"noise[\s\S]*inverse[\s\S]*nothing was written"):
        model.export(path, format="onnx")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_of_the_model_changes(tmp_path: Path) -> None:
    model = seq((5,), L.Dense(4, "relu"), L.Dropout(0.5), L.BatchNormalization(), L.Dense(1))
    model.compile("adam", "mse")
    model.fit(floats(8, 5), floats(8, 1), verbose=0)
    before = [np.array(v) for v in [*model.variables, *model.optimizer.variables]]
    model.export(tmp_path / "m.onnx", format="onnx")
    after = [np.array(v) for v in [*model.variables, *model.optimizer.variables]]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_bad_arguments(tmp_path: Path) -> None:
    model = seq((5,), L.Dense(1))
    with pytest.raises(ValueError, match='"onnx"'):
        model.export(tmp_path / "m")  # Keras's default is another framework's format
    with pytest.raises(TypeError, match="opset"):
        model.export(tmp_path / "m", format="onnx", opset=17)
    with pytest.raises(FileNotFoundError):
        model.export(tmp_path / "no" / "m.onnx", format="onnx")
    words = hm.Sequential([L.Input((), dtype="string"), L.StringLookup(vocabulary=["a"])])
    with pytest.raises(ValueError, match="strings"):
        words.export(tmp_path / "m", format="onnx")
    assert not list(tmp_path.iterdir())


def test_command(tmp_path: Path, capsys: Any) -> None:
    model = seq((5,), L.Dense(2))
    model.save(tmp_path / "m.hmill")
    out = tmp_path / "m.onnx"
    assert main(["export", str(tmp_path / "m.hmill"), str(out), "--opset", "18", "--verify"]) == 0
    assert onnx.load(str(out)).opset_import[0].version == 18
    assert main(["export", str(tmp_path / "none.hmill"), str(out)]) == 2
    assert "none.hmill" in capsys.readouterr().err


def test_what_inputs_are_is_said_by_shapes(tmp_path):
    model = hm.Sequential([L.Input((3,)), L.Dense(2)])
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="entry 0 of `input_signature` has no shape"):
        model.export(path, format="onnx", input_signature=[3])
    with pytest.raises(ValueError, match="`verify` must be True or False"):
        model.export(path, format="onnx", verify="no")
    assert not path.exists()
