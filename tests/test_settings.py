"""Settings that Keras has: logging, limits, layouts of images, tracebacks, and what is refused."""

from __future__ import annotations

import logging
import traceback

import numpy as np
import pytest

import handmill
from handmill import config, layers

X = np.ones((10, 3), "float32")


def compiled():
    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "handmill")
    yield caplog
    config.enable_interactive_logging()


def test_messages_go_to_the_log(log, capsys):
    assert config.is_interactive_logging_enabled()
    config.disable_interactive_logging()
    assert not handmill.utils.is_interactive_logging_enabled()
    model = compiled()
    stop = handmill.callbacks.EarlyStopping("loss", patience=0, verbose=1, mode="max")
    model.fit(X, X[:, :1], epochs=3, callbacks=[stop])
    model.summary()
    assert capsys.readouterr().out == ""
    texts = [record.getMessage() for record in log.records]
    assert texts[0] == "Epoch 1/3"
    assert texts[1].startswith("1/1 - 0s")
    assert any("early stopping" in text for text in texts)
    assert any("Total params: 6" in text for text in texts)
    assert {record.name for record in log.records} == {"handmill"}
    config.enable_interactive_logging()
    model.evaluate(X, X[:, :1])
    assert "loss" in capsys.readouterr().out


@pytest.fixture
def limits():
    yield
    config.set_max_epochs(None)
    config.set_max_steps_per_epoch(None)


def test_limits(limits):
    model = compiled()
    config.set_max_epochs(2)
    with pytest.warns(UserWarning, match="Limiting epochs to 2"):
        history = model.fit(X, X[:, :1], epochs=5, verbose=0)
    assert history.epoch == [0, 1]
    assert config.max_epochs() == 2
    config.set_max_epochs(None)
    config.set_max_steps_per_epoch(2)
    before = int(model.optimizer.iterations.numpy())
    with pytest.warns(UserWarning, match="Limiting steps_per_epoch to 2"):
        model.fit(X, X[:, :1], epochs=2, batch_size=2, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == before + 4
    with pytest.warns(UserWarning, match="Limiting steps"):
        assert model.predict(X, batch_size=2, verbose=0).shape == (4, 1)
    with pytest.warns(UserWarning, match="Limiting steps"):
        model.evaluate(X, X[:, :1], batch_size=2, verbose=0)
    model.fit(X, X[:, :1], batch_size=5, verbose=0)  # short enough: no warning
    for setter in (config.set_max_epochs, config.set_max_steps_per_epoch):
        for wrong in (0, 2.5, True, "3"):
            with pytest.raises(ValueError, match="integer of at least 1"):
                setter(wrong)
    assert config.max_steps_per_epoch() == 2


def test_image_data_format():
    assert config.image_data_format() == "channels_last"
    config.set_image_data_format("Channels_First")
    try:
        assert config.image_data_format() == "channels_first"
        assert layers.SpatialDropout2D(0.5).data_format == "channels_first"
        flat = layers.Flatten()(np.arange(6, dtype="float32").reshape(1, 2, 3))
        assert flat.tolist() == [[0, 3, 1, 4, 2, 5]]
        image = np.zeros((3, 4, 5), "float32")
        assert handmill.utils.array_to_img(image).size == (5, 4)
    finally:
        config.set_image_data_format("channels_last")
    with pytest.raises(ValueError, match="channels_first"):
        config.set_image_data_format("sideways")


def test_what_means_nothing_here_is_refused():
    with pytest.raises(ValueError, match=r"use_backend\('numpy'\)"):
        config.set_backend("jax")
    with pytest.raises(ValueError, match="register_keras_serializable"):
        config.enable_unsafe_deserialization()
    assert config.is_nnx_enabled() is False
    assert config.is_flash_attention_enabled() is None
    config.disable_flash_attention()
    assert config.is_flash_attention_enabled() is False
    config.enable_flash_attention()
    assert config.is_flash_attention_enabled() is None


class Broken(layers.Layer):
    def call(self, x):
        return undefined_name + x  # noqa: F821


def modules_of(error):
    return [
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]


@pytest.mark.parametrize("how", ("layer", "symbolic", "fit", "predict"))
def test_tracebacks_show_the_code_of_the_caller(how, monkeypatch):
    monkeypatch.delenv("HANDMILL_DEBUG", raising=False)
    model = handmill.Sequential([Broken()])
    model.compile("sgd", "mse")
    calls = {
        "layer": lambda: Broken()(X),
        "symbolic": lambda: Broken()(handmill.Input((3,))),
        "fit": lambda: model.fit(X, X, verbose=0),
        "predict": lambda: model.predict(X, verbose=0),
    }
    counts = {}
    for wanted in (True, False):
        (config.enable_traceback_filtering if wanted else config.disable_traceback_filtering)()
        try:
            assert config.is_traceback_filtering_enabled() is wanted
            with pytest.raises(NameError, match="undefined_name") as caught:
                calls[how]()
        finally:
            config.disable_traceback_filtering()  # as conftest.py has it
        assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "call"
        counts[wanted] = modules_of(caught.value).count("handmill")
    assert counts[True] <= 1  # the frame that raises it again
    assert counts[False] > 2


def test_devices():
    for name in ("cpu", "CPU:0", "/cpu:0", "/device:CPU:0"):
        with handmill.device(name):
            assert handmill.ops.add(1.0, 2.0) == 3.0
    for name in ("gpu", "cuda:0", "cpu:1", "tpu"):
        with pytest.raises(ValueError, match="computes on the CPU alone"):
            handmill.device(name)


def test_version():
    assert handmill.version() == handmill.__version__
