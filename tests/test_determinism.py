"""Whole trainings: the same bits for any number of threads, in every process, at every level."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import handmill as hm
from handmill import layers, models

_core = pytest.importorskip("handmill._core", reason="a build without kernels")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 96)).astype("float32")
Y = (X[:, :7].argmax(axis=1)).astype("int64")


@pytest.fixture(autouse=True)
def _settings_as_before():
    level, threads = _core.isa(), _core.num_threads()
    yield
    _core.set_isa(level)
    _core.set_num_threads(threads)


def make_model(activation="relu"):
    hm.utils.set_random_seed(11)
    model = models.Sequential(
        [
            layers.Input((96,)),
            layers.Dense(160, activation=activation),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(80, activation=activation, kernel_regularizer="l2"),
            layers.Dropout(0.1),
            layers.Dense(7),
        ]
    )
    loss = hm.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(hm.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    return model


def result():
    """All bits that a training leaves: variables, slots, history, predictions."""
    model = make_model()
    history = model.fit(
        X, Y, batch_size=64, epochs=3, validation_split=0.2, class_weight={0: 2.0}, verbose=0
    ).history
    bits = b"".join(v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables))
    return bits, json.dumps(history), model.predict(X, verbose=0).tobytes()


@pytest.mark.skipif(not _core.has_threads, reason="this build has no threads")
@pytest.mark.parametrize("level", _core.available_isas())
def test_number_of_threads_changes_no_bit(level):
    _core.set_isa(level)
    results = []
    for threads in (1, 2, 3, 7):
        _core.set_num_threads(threads)
        results.append(result())
    assert all(other == results[0] for other in results[1:])
    losses = json.loads(results[0][1])["loss"]
    assert losses[-1] < losses[0]


DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import test_determinism
print(hashlib.sha256(repr(test_determinism.result()).encode()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", _core.available_isas())
def test_processes_agree(level):
    """Neither hash seeds, nor addresses, nor threads, nor tests that ran before, matter."""
    digests = set()
    for threads, seed in (("1", "0"), ("2", "1"), ("7", "random")):
        environment = {
            **os.environ,
            "HANDMILL_NUM_THREADS": threads,
            "HANDMILL_ISA": level,
            "PYTHONHASHSEED": seed,
        }
        digests.add(
            subprocess.run(
                [sys.executable, "-c", DIGEST, str(Path(__file__).parent)],
                check=True,
                capture_output=True,
                text=True,
                cwd=Path(hm.__file__).parent.parent,
                env=environment,
            ).stdout
        )
    assert len(digests) == 1


# The NumPy backend against the kernels.


class Seen(hm.callbacks.Callback):
    """Notes the loss of each step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


def on_both(function):
    found = []
    for backend in ("native", "numpy"):
        with hm.use_backend(backend):
            found.append(function())
    return found


def test_backends_start_from_equal_weights():
    native, numpy = on_both(lambda: [w.tobytes() for w in make_model().get_weights()])
    assert native == numpy


@pytest.mark.parametrize(
    "name",
    (
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_normal",
        "random_normal",
        "random_uniform",
        "truncated_normal",
        "orthogonal",
    ),
)
def test_backends_have_equal_initializers(name):
    def made():
        hm.utils.set_random_seed(2)
        return np.asarray(hm.initializers.get(name)((37, 19), dtype="float32")).tobytes()

    native, numpy = on_both(made)
    assert native == numpy


def test_backends_have_equal_masks():
    def masks():
        hm.utils.set_random_seed(4)
        layer = layers.Dropout(0.4)
        ones = np.ones((33, 71), "float32")
        return [np.asarray(layer(ones, training=True)).tobytes() for _ in range(3)]

    native, numpy = on_both(masks)
    assert native == numpy
    assert len(set(native)) == 3


def test_backends_have_equal_shuffles():
    def order():
        hm.utils.set_random_seed(5)
        seen = []

        class Data(hm.utils.PyDataset):
            def __len__(self):
                return 15

            def __getitem__(self, index):
                seen.append(index)
                return X[index : index + 1], Y[index : index + 1]

        model = models.Sequential([layers.Input((96,)), layers.Dense(7)])
        model.compile("sgd", hm.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(Data(), epochs=2, verbose=0)
        orders = [model._order(100).tolist() for _ in range(2)]
        return seen, orders

    native, numpy = on_both(order)
    assert native == numpy
    assert native[0][:15] != native[0][15:]


def test_backends_agree_over_200_steps():
    def losses():
        model = make_model("tanh")
        seen = Seen()
        model.fit(X, Y, batch_size=60, epochs=40, verbose=0, callbacks=[seen])
        return np.array(seen.losses)

    native, numpy = on_both(losses)
    assert len(native) == 200
    np.testing.assert_allclose(native, numpy, rtol=1e-4)
