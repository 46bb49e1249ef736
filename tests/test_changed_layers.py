"""Files of classes whose layers were quantized or adapted after the class made them."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import compress, layers, quantizers

X = np.random.default_rng(3).normal(size=(64, 20)).astype("float32")
Y = X[:, :4] @ np.ones((4, 4), "float32")
STATIC = quantizers.Int8StaticQuantizationConfig(X)


@handmill.saving.register_keras_serializable("changed_layers")
class Net(handmill.Model):
    def __init__(self, units=32, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units, "relu")
        self.second = layers.Dense(4)

    def call(self, x):
        return self.second(self.first(x))

    def get_config(self):
        return {"units": self.units}


@handmill.saving.register_keras_serializable("changed_layers")
class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(20, "relu")

    def call(self, x):
        return x + self.inner(x)

    def build(self, shape):
        self.inner.build(shape)


def trained(model):
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=1, verbose=0)
    return model


def around_a_block():
    return handmill.Sequential([layers.Input((20,)), Block(), layers.Dense(4)])


def nested():
    return handmill.Sequential([layers.Input((20,)), Net(8)])


def adapt(model):
    for layer in (model.first, model.second):
        layer.enable_lora(3, lora_alpha=2.0)
    trained(model)


WAYS = {
    "int8": lambda m: m.quantize("int8"),
    "int4": lambda m: m.quantize("int4"),
    "static": lambda m: m.quantize(config=STATIC),
    "aware": lambda m: compress.quantize_aware(m, "int4"),
    "aware static": lambda m: compress.quantize_aware(m, config=STATIC),
}


def check(model, path):
    model.save(path)
    again = handmill.models.load_model(path)
    wanted = model.predict(X, verbose=0)
    np.testing.assert_array_equal(again.predict(X, verbose=0), wanted)
    assert [v.dtype for v in again.weights] == [v.dtype for v in model.weights]
    return again


@pytest.mark.parametrize("suffix", ("hmill", "keras"))
@pytest.mark.parametrize("way", WAYS)
def test_subclasses(tmp_path, way, suffix):
    if suffix == "keras":
        pytest.importorskip("h5py")
    model = trained(Net())
    WAYS[way](model)
    again = check(model, tmp_path / f"m.{suffix}")
    if way == "aware":  # goes on with what it simulates
        for each in (model, again):
            each.fit(X, Y, epochs=1, shuffle=False, verbose=0)
            each.quantize("int4")
        np.testing.assert_array_equal(again(X), model(X))


def test_layers_inside_layers_and_models(tmp_path):
    for make in (around_a_block, nested):
        model = trained(make())
        assert len(model.quantize("int8").quantized) == 2
        check(model, tmp_path / "m.hmill")


def test_low_rank_adaptation(tmp_path):
    model, both = trained(Net()), trained(Net())
    adapt(model)
    check(model, tmp_path / "m.hmill")
    both.quantize("int8")
    adapt(both)
    again = check(both, tmp_path / "m.hmill")
    assert again.first.lora_alpha == 2.0


def test_low_rank_adaptation_inside_attention(tmp_path):
    inputs = layers.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 4)
    outputs = layers.Dense(4)(layers.Flatten()(attention(inputs, inputs)))
    for first in (lambda m: None, lambda m: m.quantize("int8")):
        model = handmill.models.clone_model(handmill.Model(inputs, outputs))
        first(model)
        next(v for v in model.layers if hasattr(v, "query_dense")).query_dense.enable_lora(2)
        model.compile("adam", "mse")
        x = X.reshape(-1, 5, 4)
        model.fit(x, Y, epochs=1, verbose=0)
        model.save(tmp_path / "m.hmill")
        again = handmill.models.load_model(tmp_path / "m.hmill")
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_what_files_cannot_say(tmp_path, monkeypatch):
    model = trained(Net())
    model.quantize("int8")
    pytest.importorskip("h5py")
    with pytest.raises(ValueError, match=r"\.h5 files cannot hold"):
        model.save(tmp_path / "m.h5")
    model.save(tmp_path / "m.hmill")
    monkeypatch.setattr(Net, "call", lambda self, x: self.first(x))
    plain = Net.__init__

    def other(self, **kwargs):
        plain(self, **kwargs)
        self.first = layers.EinsumDense("ab,bc->ac", 4)

    monkeypatch.setattr(Net, "__init__", other)
    with pytest.raises(handmill.errors.FileFormatError, match="was a Dense"):
        handmill.models.load_model(tmp_path / "m.hmill")
