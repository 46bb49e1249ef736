"""MelSpectrogram, STFTSpectrogram and Pipeline: what prepares sound and other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from layer_parity import check_config, check_layer, errors_of, normal

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")

MEL: dict[str, dict[str, Any]] = {
    "small": {"fft_length": 64, "sequence_stride": 16, "num_mel_bins": 8},
    "window": {"fft_length": 64, "sequence_length": 48, "window": "hamming", "num_mel_bins": 8},
    "magnitudes": {"fft_length": 64, "mag_exp": 1.0, "power_to_db": False, "num_mel_bins": 5},
    "bands": {
        "fft_length": 128,
        "sampling_rate": 8000,
        "min_freq": 100.0,
        "max_freq": 3000.0,
        "num_mel_bins": 8,
        "top_db": 20.0,
        "ref_power": 2.0,
        "sequence_stride": 32,
    },
}


@pytest.mark.peers
@pytest.mark.parametrize("name", MEL)
def test_mel_as_keras(keras: Any, name: str, tmp_path: Path) -> None:
    theirs, ours = (k.layers.MelSpectrogram(**MEL[name]) for k in (keras, handmill))
    check_config(keras, theirs, ours)
    for x in (normal(3, 400), normal(400)):
        want = np.asarray(theirs(x))
        np.testing.assert_allclose(ours(x), want, rtol=2e-4, atol=2e-4)
    x = normal(3, 400)
    model = handmill.Sequential([layers.Input((400,)), ours])
    assert model.output_shape == (None, *np.asarray(theirs(x)).shape[1:])
    found = model.predict(x, verbose=0)
    np.testing.assert_allclose(found, np.asarray(theirs(x)), rtol=2e-4, atol=2e-4)
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(again.predict(x, verbose=0), found)


def test_a_tone_is_loudest_in_its_band() -> None:
    times = np.arange(4000) / 8000
    tone = np.sin(2 * np.pi * 1000 * times).astype("float32")
    layer = layers.MelSpectrogram(512, 128, sampling_rate=8000, num_mel_bins=40, min_freq=0.0)
    edges = 700 * (np.exp(np.linspace(0, np.log1p(4000 / 700), 42)) - 1)
    band = int(np.argmin(np.abs(edges[1:-1] - 1000)))
    found = layer(tone)
    assert found.shape == (40, 32)
    assert set(np.argmax(found[:, 4:-4], axis=0)) == {band}
    assert found.max() - found.min() == pytest.approx(80.0, abs=1e-3)


STFT: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "log": ({"frame_length": 16}, (3, 70, 2)),
    "magnitude": ({"mode": "magnitude", "frame_length": 16, "expand_dims": True}, (3, 70, 2)),
    "psd": ({"mode": "psd", "frame_length": 12, "frame_step": 5}, (3, 70, 1)),
    "real": ({"mode": "real", "frame_length": 16, "scaling": None, "window": None}, (3, 70, 2)),
    "imag": ({"mode": "imag", "frame_length": 16, "periodic": True}, (3, 70, 1)),
    "stft": ({"mode": "stft", "frame_length": 16, "fft_length": 32}, (3, 70, 2)),
    "same": (
        {"mode": "magnitude", "frame_length": 16, "padding": "same", "scaling": "spectrum"},
        (3, 70, 1),
    ),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", STFT)
def test_stft_as_keras(keras: Any, name: str, tmp_path: Path) -> None:
    given, shape = STFT[name]
    check_layer(
        keras,
        lambda k: k.layers.STFTSpectrogram(**given),
        normal(*shape),
        before=False,
        rtol=2e-4,
        atol=2e-5,
        saved=tmp_path / "m.hmill",
    )
    theirs, ours = (k.layers.STFTSpectrogram(**given) for k in (keras, handmill))
    x = normal(*shape, seed=4)
    np.testing.assert_allclose(ours(x), np.asarray(theirs(x)), rtol=2e-4, atol=2e-5)


@pytest.mark.peers
@pytest.mark.parametrize(
    "given",
    (
        {"mode": "loud"},
        {"frame_step": 300},
        {"fft_length": 100},
        {"padding": "full"},
        {"scaling": "much"},
        {"window": "door"},
    ),
)
def test_arguments_of_stft(keras: Any, given: dict[str, Any]) -> None:
    errors_of(keras, lambda k: k.layers.STFTSpectrogram(**given))


def test_channels_that_come_first_are_those_that_come_last() -> None:
    x = normal(3, 70, 2)
    for mode in ("angle", "stft"):
        last, first = (
            layers.STFTSpectrogram(mode, 16, data_format=f"channels_{where}", expand_dims=True)
            for where in ("last", "first")
        )
        found = first(np.swapaxes(x, 1, 2))
        np.testing.assert_allclose(np.moveaxis(found, 1, 3), last(x), atol=1e-6)


def test_any_length() -> None:
    model = handmill.Sequential([layers.Input((None, 1)), layers.STFTSpectrogram("log", 16)])
    assert model.predict(normal(2, 70, 1), verbose=0).shape == (2, 7, 9)
    assert model.predict(normal(2, 40, 1), verbose=0).shape == (2, 4, 9)
    with pytest.raises(ValueError, match="padding='same' needs a known number of samples"):
        handmill.Sequential([layers.Input((None, 1)), layers.STFTSpectrogram(padding="same")])
    with pytest.raises(TypeError, match="Expected a floating dtype"):
        layers.STFTSpectrogram(frame_length=4)(np.ones((1, 9, 1), "int32"))


# Pipeline.


class Seen(layers.Layer):
    """Notes what it is called with."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calls: list[Any] = []

    def call(self, x: Any, training: bool = False, mask: Any = None) -> Any:
        self.calls.append((training, mask is not None))
        return x

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        return mask


def test_a_pipeline_hands_on_training_and_masks() -> None:
    pipeline = layers.Pipeline([layers.Masking(), Seen(), layers.Dropout(0.5, seed=1), Seen()])
    x = np.array([[[0.0, 0.0], [1.0, 2.0]]], "float32")
    for training in (True, False):
        found = pipeline(x, training=training)
        assert [s.calls[-1] for s in pipeline.layers if isinstance(s, Seen)] == [
            (training, True)
        ] * 2
        if not training:
            np.testing.assert_array_equal(found, x)
    assert len(pipeline.layers) == 4


@pytest.mark.parametrize("suffix", (".keras", ".hmill"))
def test_a_pipeline_in_a_model_and_in_files(suffix: str, tmp_path: Path) -> None:
    if suffix == ".keras":
        pytest.importorskip("h5py")
    inner = layers.Pipeline([layers.Rescaling(0.5), layers.Dense(3), layers.Flatten()], name="p")
    model = handmill.Sequential([layers.Input((2, 4)), inner, layers.Dense(1)])
    x = normal(5, 2, 4)
    want = model.predict(x, verbose=0)
    config = inner.get_config()
    again = layers.Pipeline.from_config(config)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in inner.layers]
    assert isinstance(config["layers"][0], dict)
    model.save(tmp_path / f"m{suffix}")
    loaded = handmill.models.load_model(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), want)
    for wrong in ({"name": "p"}, {"layers": None}):
        with pytest.raises(ValueError, match="must contain a list of `layers`"):
            layers.Pipeline.from_config(wrong)
    with pytest.raises(ValueError, match="must be a list of layers"):
        layers.Pipeline([lambda x: x])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"must be a list of layers\. Received: None"):
        layers.Pipeline(None)  # type: ignore[arg-type]


def test_a_layer_of_the_users_may_have_an_attribute_named_layers(tmp_path: Path) -> None:
    pytest.importorskip("h5py")

    class Block(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [layers.Dense(3), layers.Dense(2)]

        def call(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    first, second = (handmill.Sequential([layers.Input((4,)), Block()]) for _ in range(2))
    first.save_weights(tmp_path / "m.weights.h5")
    second.load_weights(tmp_path / "m.weights.h5")
    x = normal(5, 4)
    np.testing.assert_array_equal(second.predict(x, verbose=0), first.predict(x, verbose=0))
