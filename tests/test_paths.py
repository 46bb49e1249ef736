"""Paths of layers and weights: the names of the layers around them, as in Keras."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import handmill
from handmill import layers

X = np.ones((2, 3), "float32")


@pytest.fixture(autouse=True)
def _fresh_names():
    handmill.utils.clear_session()


def programs(library):
    """Paths of the kernels of several kinds of models."""
    make = library.layers

    class Inside(make.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = make.Dense(2)
            self.q = self.add_weight((2,), name="q")

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x)

    class Net(library.Model):
        def __init__(self):
            super().__init__()
            self.a = make.Dense(2)
            self.b = library.Sequential([make.Dense(4)], name="inner")

        def call(self, x):
            return self.b(self.a(x))

    found = {}
    early = library.Sequential([library.Input((3,)), make.Dense(2)], name="early")
    late = library.Sequential([make.Dense(2)], name="late")
    late(X)
    x = library.Input((3,))
    deferred = library.Sequential([make.Dense(2)], name="deferred")
    functional = library.Model(x, make.Dense(1)(deferred(x)), name="functional")
    own = Inside(name="own")
    own(X)
    net = Net()
    net(X)
    nested = library.Sequential([library.Input((3,)), Inside(name="block")], name="nested")
    everything = [early, late, functional, own, net, nested]
    for thing in everything:
        found[thing.name] = [w.path for w in thing.weights]
    found["layer"] = [nested.layers[0].path, nested.layers[0].dense.path]
    functional.compile("adam", "mse")
    functional.fit(X, X[:, :1], verbose=0)
    found["optimizer"] = sorted(v.path for v in functional.optimizer.variables)
    return found


def test_paths():
    found = programs(handmill)
    assert found["early"] == ["early/dense/kernel", "early/dense/bias"]
    assert found["own"] == ["own/q", "own/dense_4/kernel", "own/dense_4/bias"]
    assert found["net"][2:] == ["net/inner/dense_6/kernel", "net/inner/dense_6/bias"]
    assert found["layer"] == ["nested/block", "nested/block/dense_7"]


@pytest.mark.peers
def test_paths_are_those_of_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip("jax")
    keras = pytest.importorskip("keras")
    keras.utils.clear_session()
    ours, theirs = programs(handmill), programs(keras)
    # A weight made in __init__ has no scope in Keras but the layer's own; ours is put below.
    theirs["nested"][0] = "nested/block/q"
    assert ours == theirs


def test_paths_stay_when_a_model_is_loaded(tmp_path):
    inner = handmill.Sequential([handmill.Input((3,)), layers.Dense(2)], name="inner")
    model = handmill.Sequential([handmill.Input((3,)), inner, layers.Dense(1)], name="outer")
    paths = [w.path for w in model.weights]
    assert paths[0] == "outer/inner/dense/kernel"
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    assert [w.path for w in again.weights] == paths
    assert [layer.path for layer in again.layers] == [layer.path for layer in model.layers]


def test_name_scope():
    found = []
    with handmill.name_scope("a"), handmill.name_scope("b"):
        variable = handmill.Variable(1.0, name="v")
        dense = layers.Dense(2, name="dense")
        dense.build((None, 3))
        other = threading.Thread(target=lambda: found.append(handmill.Variable(1.0, name="w")))
        other.start()
        other.join()
    assert variable.path == "a/b/v"
    assert dense.kernel.path == "a/b/dense/kernel"
    assert found[0].path == "w"  # a scope is that of its thread
    with handmill.name_scope("a"), handmill.name_scope("b", override_parent="c/d"):
        assert handmill.Variable(1.0, name="v").path == "c/d/b/v"
    owner = object()
    with handmill.name_scope("a", caller=owner), handmill.name_scope("a", caller=owner):
        assert handmill.Variable(1.0, name="v").path == "a/v"
    assert handmill.Variable(1.0, name="v").path == "v"
    for wrong in ("a/b", 3):
        with pytest.raises(ValueError, match="cannot contain character"):
            handmill.name_scope(wrong)
