"""``Model.export(format="c")``: compiled without a warning, and compared with the library."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import layers as L
from handmill.cli import main
from handmill.exchange.to_c.loops import number

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
compiled = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Wmissing-prototypes", "-pedantic", "-Werror")
INT_MAIN = """
#include <stdio.h>
int main(void) {
    static float x[%d], y[%d];
    while (fread(x, sizeof x, 1, stdin) == 1) { net(x, y); fwrite(y, sizeof y, 1, stdout); }
    return 0;
}
"""


def seq(shape: Any, *layers: Any) -> Any:
    return hm.Sequential([L.Input(shape), *layers])


def check(model: Any, folder: Path, rows: int = 3, levels: tuple[str, ...] = ("-O0",)) -> Path:
    """The file's own comparison, then random rows through it, if any; every compiler there is."""
    rng = np.random.default_rng(1)
    for v in model.variables:
        drawn = rng.normal(scale=0.3, size=v.shape).astype("float32")
        v.assign(np.abs(drawn) + 0.5 if "variance" in v.path else drawn)
    path = folder / "net.c"
    model.export(path, format="c", name="net")
    x = rng.normal(size=(max(rows, 1), *model.input_shape[1:])).astype("float32")
    wanted = np.asarray(model(x))
    more = folder / "main.c"
    more.write_text(path.read_text() + INT_MAIN % (x[0].size, wanted[0].size))
    program = folder / "program"
    for compiler in COMPILERS:
        for level in levels:
            options = (*FLAGS, level, "-o", str(program))
            own = (compiler, "-DNET_SELF_TEST", str(path), *options, "-lm")
            subprocess.run(own, check=True)
            done = subprocess.run([program], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout
            if not rows:
                continue
            subprocess.run((compiler, str(more), *options, "-lm"), check=True)
            done = subprocess.run([program], input=x.tobytes(), capture_output=True, check=True)
            found = np.frombuffer(done.stdout, np.float32).reshape(wanted.shape)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    return path


@compiled
def test_dense(tmp_path: Path) -> None:
    model = seq((5,), L.Dense(4), L.BatchNormalization(), L.ReLU(), L.Dense(3, "softmax"))
    text = check(model, tmp_path, levels=("-O0", "-O3")).read_text()
    assert "malloc" not in text
    assert len(re.findall(r"static const float w\d", text)) == 4  # the normalization is built in


@compiled
def test_images(tmp_path: Path) -> None:
    first = L.Conv2D(4, 3, strides=2, padding="same", use_bias=False)
    model = seq(
        (11, 12, 3),
        *(first, L.BatchNormalization(), L.ReLU(), L.DepthwiseConv2D(3, depth_multiplier=2)),
        *(L.MaxPooling2D(2), L.ZeroPadding2D(1), L.AveragePooling2D(2, padding="same")),
        *(L.Conv2D(6, 2, groups=2, padding="same"), L.Conv2D(5, 1, activation="relu6")),
        *(L.Flatten(), L.Dropout(0.5), L.Dense(3)),
    )
    check(model, tmp_path)


@pytest.mark.slow
@compiled
def test_branches_and_activations(tmp_path: Path) -> None:
    start = L.Input((6, 8))
    x = L.Conv1D(8, 3, padding="causal", dilation_rate=2)(start)
    y = L.Add()([x, start])
    names = (
        "relu leaky_relu elu selu softplus softsign silu gelu hard_sigmoid hard_silu tanh sigmoid "
        "exponential relu6 hard_tanh squareplus"
    )
    parts = [L.Activation(name)(y) for name in names.split()]
    z = L.Concatenate()([*parts, L.Multiply()([x, start]), L.Maximum()([x, y])])
    z = L.Concatenate(axis=1)([z, z[:, 1:4]])
    z = L.Permute((2, 1))(z)
    pooled = [L.GlobalAveragePooling1D()(z), L.GlobalMaxPooling1D()(z)]
    z = L.LayerNormalization()(L.Subtract()(pooled))
    check(hm.Model(start, L.Dense(4, "softmax")(z)), tmp_path)


def resnet8() -> Any:
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


def separable(channels: int, step: int) -> list[Any]:
    return [
        L.DepthwiseConv2D(3, strides=step, padding="same"),
        *(L.BatchNormalization(), L.ReLU(), L.Conv2D(channels, 1)),
        *(L.BatchNormalization(), L.ReLU()),
    ]


def mobilenet() -> Any:
    """MobileNetV1, a quarter as wide, for images of 96 x 96."""
    sizes = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2)]
    body = [layer for size in [*sizes, (256, 1)] for layer in separable(*size)]
    first = [L.Conv2D(8, 3, strides=2, padding="same"), L.BatchNormalization(), L.ReLU()]
    end = [L.AveragePooling2D(3), L.Flatten(), L.Dense(2, "softmax")]
    return seq((96, 96, 3), *first, *body, *end)


def ds_cnn() -> Any:
    first = [L.Conv2D(64, (10, 4), strides=2, padding="same"), L.BatchNormalization(), L.ReLU()]
    body = [layer for _ in range(4) for layer in separable(64, 1)]
    return seq((49, 10, 1), *first, *body, L.AveragePooling2D((25, 5)), L.Flatten(), L.Dense(12))


def autoencoder() -> Any:
    sizes = (128, 128, 128, 128, 8, 128, 128, 128, 128)
    parts = [p for n in sizes for p in (L.Dense(n), L.BatchNormalization(), L.ReLU())]
    return seq((640,), *parts, L.Dense(640))


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("make", (resnet8, mobilenet, ds_cnn, autoencoder))
def test_networks_of_mlperf_tiny(make: Any, tmp_path: Path) -> None:
    check(make(), tmp_path, rows=0, levels=("-O0", "-O3"))


def test_numbers_are_exact() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, 3000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    given = [*words, *np.float32([0, -0.0, 1, 1e-45, 3.4028235e38, 0.1])]
    for x in given:
        text = number(float(x))
        if np.isfinite(x):
            assert np.float32(text.removesuffix("f")) == x
            assert "." in text
        else:
            assert text in ("NAN", "INFINITY", "-INFINITY")


@compiled
def test_names_that_c_has_already(tmp_path: Path) -> None:
    """Words of C, functions of its headers, what the file declares: the function is m_NAME."""
    model, path = seq((3,), L.Dense(2)), tmp_path / "net.c"
    names = ("int", "main", "exp", "tanhf", "INFINITY", "w0", "arena", "x", "i", "y1", "_Bool", "7")
    for name in (*names, "net", "my-net", "exponent"):
        model.export(path, format="c", name=name)
        function = f"m_{name}" if name in names else name.replace("-", "_")
        assert f"void {function}(const float *x, float *y)" in path.read_text()
        for compiler in COMPILERS:
            options = (*FLAGS, "-o", str(tmp_path / "program"), "-lm")
            test = f"-D{function.upper()}_SELF_TEST"
            subprocess.run((compiler, test, str(path), *options), check=True)
            subprocess.run([tmp_path / "program"], check=True, capture_output=True)


def test_what_has_no_loops_is_named(tmp_path: Path) -> None:
    words = seq((7,), L.Embedding(5, 4), L.LSTM(3), L.Dense(1))
    with pytest.raises(ValueError, match=r"embedding[\s\S]*lstm[\s\S]*nothing was written"):
        words.export(tmp_path / "m.c", format="c")
    images = seq((None, None, 3), L.Conv2D(2, 3), L.GlobalAveragePooling2D())
    with pytest.raises(ValueError, match="sizes"):
        images.export(tmp_path / "m.c", format="c")
    assert not list(tmp_path.iterdir())


def test_command(tmp_path: Path, capsys: Any) -> None:
    seq((5,), L.Dense(2)).save(tmp_path / "m.hmill")
    model, out = str(tmp_path / "m.hmill"), tmp_path / "m.c"
    assert main(["export", "--c", model, str(out)]) == 0
    assert "#include <math.h>" in out.read_text()
    assert main(["export", model, str(out), "--opset", "17"]) == 2
    assert "ONNX" in capsys.readouterr().err
    assert main(["export", model, str(tmp_path / "m.tflite")]) == 2
    assert ".onnx and .c are written" in capsys.readouterr().err
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.parametrize("name", ("memcpy", "strlen", "isalpha", "free", "fprintf"))
def test_names_that_compilers_know(tmp_path: Path, name: str) -> None:
    model = seq((5,), L.Dense(2))
    model.export(tmp_path / "m.c", format="c", name=name)
    assert f"void m_{name}(" in (tmp_path / "m.c").read_text()
    with pytest.raises(TypeError, match="`name` of the function"):
        model.export(tmp_path / "n.c", format="c", name=5)
    assert not (tmp_path / "n.c").exists()
