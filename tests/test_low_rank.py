"""Layers that LoRA adapts: what is trained, what files hold, and the numbers of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from layer_parity import check_layer, errors_of, normal

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")

IDS = np.random.default_rng(2).integers(0, 7, (6, 5)).astype("int32")

CASES: dict[str, Any] = {
    "dense": (lambda k: k.layers.Dense(3, "tanh", lora_rank=2, kernel_regularizer="l2"), (6, 4)),
    "dense_steps": (lambda k: k.layers.Dense(3, use_bias=False, lora_rank=1), (6, 5, 4)),
    "heads": (
        lambda k: k.layers.EinsumDense("abc,cde->abde", (None, 2, 3), lora_rank=2, lora_alpha=5),
        (6, 5, 4),
    ),
    "other_order": (
        lambda k: k.layers.EinsumDense("abc,cd->adb", (3, 5), bias_axes="d", lora_rank=2),
        (6, 5, 4),
    ),
    "contracted": (
        lambda k: k.layers.EinsumDense("abc,dc->abd", (None, 3), lora_rank=2),
        (6, 5, 4),
    ),
    "causal": (lambda k: k.layers.Conv1D(4, 2, padding="causal", lora_rank=2), (6, 5, 4)),
    "images": (
        lambda k: k.layers.Conv2D(4, 2, 2, kernel_regularizer="l2", lora_rank=2, lora_alpha=3),
        (6, 5, 4, 3),
    ),
    "groups": (lambda k: k.layers.Conv2D(4, (1, 2), groups=2, lora_rank=1), (6, 3, 4, 4)),
    "volumes": (lambda k: k.layers.Conv3D(2, 2, use_bias=False, lora_rank=2), (4, 3, 3, 2, 3)),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_as_keras(keras: Any, name: str, tmp_path: Path) -> None:
    make, shape = CASES[name]
    # Convolutions of volumes have no kernel of ours yet.
    host = name == "volumes"
    check_layer(keras, make, normal(*shape), saved=tmp_path / "m.hmill", host=host)


@pytest.mark.peers
def test_embedding_as_keras(keras: Any, tmp_path: Path) -> None:
    check_layer(
        keras,
        lambda k: k.layers.Embedding(7, 4, lora_rank=2, embeddings_regularizer="l1"),
        IDS,
        before=False,
        saved=tmp_path / "m.hmill",
    )


@pytest.mark.peers
def test_refusals_are_those_of_keras(keras: Any) -> None:
    def on_constraint(k: Any) -> None:
        k.layers.Dense(2, kernel_constraint="non_neg", lora_rank=2).build((None, 4))

    def on_constrained_vectors(k: Any) -> None:
        k.layers.Embedding(3, 2, embeddings_constraint="non_neg", lora_rank=2).build()

    def on_constrained_windows(k: Any) -> None:
        k.layers.Conv2D(2, 1, kernel_constraint="non_neg", lora_rank=2).build((None, 4, 4, 3))

    def on_unbuilt(k: Any) -> None:
        k.layers.Dense(2).enable_lora(2)

    def twice(k: Any) -> None:
        layer = k.layers.Dense(2, lora_rank=2)
        layer.build((None, 4))
        layer.enable_lora(2)

    for call in (on_constraint, on_constrained_vectors, on_constrained_windows, on_unbuilt, twice):
        theirs, ours = errors_of(keras, call)
        assert ours.partition(":")[0].partition(".")[0] in theirs or "already enabled" in ours


MADE = {
    "dense": (lambda: layers.Dense(3), normal(8, 4), "kernel"),
    "einsum": (lambda: layers.EinsumDense("ab,bc->ac", 3, bias_axes="c"), normal(8, 4), "kernel"),
    "embedding": (lambda: layers.Embedding(7, 3), IDS, "embeddings"),
    "conv": (lambda: layers.Conv2D(3, (2, 1)), normal(8, 2, 1, 4), "kernel"),
}


def adapted(name: str, alpha: float | None = 3.0) -> tuple[handmill.Model, np.ndarray, str]:
    """A model of one layer, trained for two epochs after LoRA was enabled."""
    make, x, table = MADE[name]
    model = handmill.Sequential([layers.Input(x.shape[1:], dtype=x.dtype.name), make()])
    model.layers[0].enable_lora(2, lora_alpha=alpha)
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(x, np.ones((len(x), *model.output_shape[1:])), epochs=2, verbose=0)
    moved = {w.name for w, a in zip(model.weights, before, strict=True) if (w.numpy() != a).any()}
    assert moved == {w.name for w in model.trainable_weights}
    return model, x, table


@pytest.mark.parametrize("name", MADE)
def test_the_table_stays_and_what_is_used_is_the_sum(name: str) -> None:
    model, x, table = adapted(name)
    (layer,) = model.layers
    fixed, a, b = (
        getattr(layer, n).numpy() for n in (f"_{table}", f"lora_{table}_a", f"lora_{table}_b")
    )
    assert [w.name for w in layer.non_trainable_weights] == [table]
    np.testing.assert_allclose(getattr(layer, table), fixed + 1.5 * a @ b, rtol=1e-5, atol=1e-6)
    used = fixed + 1.5 * a @ b
    want = used[x] if table == "embeddings" else x.reshape(len(x), -1) @ used.reshape(-1, 3)
    want = want.reshape(-1, *model.output_shape[1:])
    if table == "kernel":
        want = want + layer.bias.numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)
    layer.trainable = False
    assert layer.trainable_weights == []
    layer.trainable = True
    assert [w.name for w in layer.non_trainable_weights] == [table]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("suffix", (".keras", ".hmill"))
def test_files(name: str, suffix: str, tmp_path: Path) -> None:
    if suffix == ".keras":
        pytest.importorskip("h5py")
    model, x, table = adapted(name)
    want = model.predict(x, verbose=0)
    model.save(tmp_path / f"m{suffix}")
    again = handmill.models.load_model(tmp_path / f"m{suffix}")
    np.testing.assert_allclose(again.predict(x, verbose=0), want, rtol=1e-5, atol=1e-6)
    (layer,) = again.layers
    assert (layer.lora_enabled, layer.lora_rank, layer.lora_alpha) == (True, 2, 3.0)
    if suffix == ".hmill":  # which training goes on from
        for a, b in zip(again.variables, model.variables, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    else:  # the sum lies there in the place of the table
        assert not getattr(layer, f"lora_{table}_b").numpy().any()
        assert getattr(layer, f"lora_{table}_a").numpy().any()
    before = layer.get_weights()
    again.fit(x, np.zeros((len(x), *again.output_shape[1:])), epochs=2, verbose=0)
    assert all((a != b.numpy()).any() for a, b in zip(before[-2:], layer.weights[-2:], strict=True))


@pytest.mark.parametrize("name", MADE)
def test_weights_travel_between_adapted_and_plain_models(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    model, x, _ = adapted(name)
    want = model.predict(x, verbose=0)
    plain = handmill.Sequential([layers.Input(x.shape[1:], dtype=x.dtype.name), MADE[name][0]()])
    model.save_weights(tmp_path / "a.weights.h5")
    plain.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_allclose(plain.predict(x, verbose=0), want, rtol=1e-5, atol=1e-6)
    plain.set_weights([w + 1 for w in plain.get_weights()])
    plain.save_weights(tmp_path / "b.weights.h5")
    model.load_weights(tmp_path / "b.weights.h5")
    np.testing.assert_array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))


def test_a_large_adaptation_fits_into_the_file_that_it_is_part_of(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    model = handmill.Sequential([layers.Input((1500,)), layers.Dense(1500, lora_rank=500)])
    model.save(tmp_path / "m.keras")
    (layer,) = handmill.models.load_model(tmp_path / "m.keras").layers
    assert layer.lora_kernel_a.shape == (1500, 500)


def test_alpha_of_the_constructor_counts() -> None:
    for layer in (layers.Dense(3, lora_rank=2, lora_alpha=7), layers.Dense(3, lora_alpha=7)):
        layer.build((None, 4))
        if not layer.lora_enabled:
            layer.enable_lora(2)
        assert (layer.lora_rank, layer.lora_alpha) == (2, 7)
    with pytest.raises(ValueError, match=r"`lora_rank`.*Received: lora_rank=2\.5"):
        layers.Dense(3, lora_rank=2.5)


def test_a_kernel_of_a_subclass_is_used_with_lora() -> None:
    class Doubled(layers.Dense):
        @property
        def kernel(self) -> Any:
            return super().kernel * 2.0

        @kernel.setter
        def kernel(self, value: Any) -> None:
            self._kernel = value

    layer = Doubled(3, lora_rank=2)
    x = normal(2, 4)
    layer.build(x.shape)
    layer.lora_kernel_b.assign(normal(2, 3))
    merged = layer._kernel.numpy() + layer.lora_kernel_a.numpy() @ layer.lora_kernel_b.numpy()
    np.testing.assert_allclose(layer(x), 2 * (x @ merged), rtol=1e-5, atol=1e-6)


def test_a_sum_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="LoRA is enabled there"):
        layers.SpectralNormalization(layers.Dense(3, lora_rank=2)).build((None, 4))


@pytest.mark.parametrize(
    ("equation", "shape"),
    (
        ("abc,cde->abde", (None, 2, 3)),
        ("...c,cd->...d", (3,)),
        ("abc,dc->abd", (None, 3)),
        ("abc,cd->adb", (3, 5)),
    ),
)
def test_an_adapted_kernel_is_the_sum(equation: str, shape: Any) -> None:
    """Whichever way the products are formed, it is the product with the sum."""
    x = normal(6, 5, 4)
    layer = layers.EinsumDense(equation, shape, lora_rank=2)
    layer(x)
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    table, a, b = (layer._kernel.numpy(), *(v.numpy() for v in layer._lora[:2]))
    want = np.einsum(equation, x, table + layer.lora_alpha / 2 * a @ b)
    np.testing.assert_allclose(layer(x), want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("block_size", (8, -1))
def test_over_tables_of_4_bits(block_size, tmp_path):
    """Two numbers lie in a byte of such a table: the small ones are as long as the numbers."""
    model = handmill.Sequential(
        [layers.Input((6,), dtype="int32"), layers.Embedding(9, 10), layers.Dense(7)]
    )
    x = np.arange(12).reshape(2, 6) % 9
    model.quantize(config=handmill.quantizers.Int4QuantizationConfig(block_size=block_size))
    want = model(x)
    for layer in model.layers:
        layer.enable_lora(2)
    np.testing.assert_allclose(model(x), want, atol=1e-6)  # the second one is 0 at first
    model.compile("adam", "mse")
    model.fit(x, np.ones((2, 6, 7)), epochs=3, verbose=0)
    assert np.abs(model(x) - want).max() > 0
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded(x), model(x))
