"""Sound: files and rates, mel bands by three conventions, layers that vary it."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import audio, layers, ops
from handmill.data.sound.wav import decoded, encoded

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")
DRAWS = np.random.default_rng(0)


def wav(
    code: int, bits: int, data: bytes, channels: int = 1, rate: int = 8000, **sizes: int
) -> Any:
    """A WAV file; ``data_size`` and ``fmt_size`` are what its chunks announce."""
    form = struct.pack("<HHIIHH", code, channels, rate, 0, 0, bits)
    if code == 0xFFFE:
        form += struct.pack("<HHIH", 22, bits, 0, sizes.pop("inner", 1)) + bytes(14)
    chunks = b"LIST" + struct.pack("<I", 3) + b"odd\0"  # an odd chunk is followed by a byte
    chunks += b"fmt " + struct.pack("<I", sizes.get("fmt_size", len(form))) + form
    chunks += b"data" + struct.pack("<I", sizes.get("data_size", len(data))) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize(
    ("code", "bits", "data", "want"),
    (
        (1, 8, bytes([0, 128, 255]), [-1.0, 0.0, 127 / 128]),
        (1, 16, np.int16([-32768, 0, 16384]).tobytes(), [-1.0, 0.0, 0.5]),
        (1, 24, b"\0\0\x80\0\0\0\0\0\x40", [-1.0, 0.0, 0.5]),
        (1, 32, np.int32([-(2**31), 0, 2**30]).tobytes(), [-1.0, 0.0, 0.5]),
        (3, 32, np.float32([-1.5, 0.0, 0.25]).tobytes(), [-1.5, 0.0, 0.25]),
        (3, 64, np.float64([-1.5, 0.0, 0.25]).tobytes(), [-1.5, 0.0, 0.25]),
        (0xFFFE, 16, np.int16([-32768, 0, 16384]).tobytes(), [-1.0, 0.0, 0.5]),
    ),
)
def test_samples_of_each_kind(code: int, bits: int, data: bytes, want: list[float]) -> None:
    samples, rate = decoded(wav(code, bits, data), "a.wav")
    assert rate == 8000
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples[:, 0], np.float32(want))


def test_floats_in_an_extensible_file() -> None:
    data = np.float32([0.5, -0.25]).tobytes()
    samples, _ = decoded(wav(0xFFFE, 32, data, inner=3), "a.wav")
    np.testing.assert_array_equal(samples[:, 0], [0.5, -0.25])


def test_channels_and_a_moment_cut_short() -> None:
    samples, _ = decoded(wav(1, 16, np.int16([1, 2, 3, 4, 5]).tobytes(), channels=2), "a.wav")
    assert samples.shape == (2, 2)
    open_end = wav(1, 16, np.int16([1, 2]).tobytes(), data_size=0xFFFFFFFF)
    assert decoded(open_end, "a.wav")[0].shape == (2, 1)


@pytest.mark.parametrize(
    ("data", "text"),
    (
        (b"", "it is empty"),
        (b"RIFX\0\0\0\0WAVE", "RIFX"),
        (b"ID3" + bytes(40), "no WAV file"),
        (wav(1, 16, bytes(8), data_size=1 << 30), "1073741824 bytes of samples announced, 8 held"),
        (wav(1, 16, bytes(8))[:20], "ends early"),
        (wav(1, 16, bytes(8), fmt_size=1 << 20), "ends early: chunk b'fmt '"),
        (wav(1, 16, bytes(8))[:-16], "no chunk 'data'"),
        (wav(6, 8, bytes(8)), "A-law"),
        (wav(1, 12, bytes(8)), "12 bits"),
        (wav(1, 16, bytes(8), rate=0), "0 samples a second"),
        (wav(1, 16, bytes(8), channels=0), "0 channels"),
    ),
)
def test_files_that_are_none(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read recording 'a\.wav'") as error:
        decoded(data, "a.wav")
    assert text in str(error.value)


def test_files_there_and_back(tmp_path: Path) -> None:
    stereo = DRAWS.uniform(-1, 1, (500, 2)).astype("float32")
    audio.save(tmp_path / "a.wav", stereo, 22050)
    samples, rate = audio.load(tmp_path / "a.wav")
    assert rate == 22050
    np.testing.assert_allclose(samples, stereo, atol=0.5001 / 32768)
    mono, rate = audio.load(tmp_path / "a.wav", sampling_rate=11025, mono=True)
    assert (mono.shape, rate) == ((250,), 11025)
    again, _ = decoded(encoded(samples, 8000), "b.wav")
    np.testing.assert_array_equal(again, samples)  # of what 16 bits hold nothing is lost
    for samples_, rate_, path, text in (
        (stereo, 8000, "a.mp3", "ending in .wav"),
        (stereo, 0, "b.wav", "sampling_rate"),
        (np.int16([1]), 8000, "b.wav", "int16"),
        (np.full(3, np.nan, "float32"), 8000, "b.wav", "finite"),
        (np.zeros((1, 2, 3), "float32"), 8000, "b.wav", "(1, 2, 3)"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            audio.save(tmp_path / path, samples_, rate_)
    assert [f.name for f in tmp_path.iterdir()] == ["a.wav"]
    (tmp_path / "c.ogg").write_bytes(b"OggS" + bytes(50))
    with pytest.raises((ImportError, ValueError), match=r"c\.ogg"):
        audio.load(tmp_path / "c.ogg")


def test_rates_of_a_folder(tmp_path: Path) -> None:
    files = {"a/1.wav": 8000, "a/2.wav": 8000, "b/0.wav": 8000, "b/3.wav": 16000}
    for name, rate in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        audio.save(tmp_path / name, np.zeros(80, "float32"), rate)
    read = handmill.utils.audio_dataset_from_directory
    with pytest.raises(ValueError, match=r"8000 .*[12]\.wav.* 16000 .*3\.wav"):
        read(tmp_path, verbose=False)
    data = read(tmp_path, verbose=False, sampling_rate=8000, shuffle=False)
    assert data.sampling_rate == 8000
    assert [x.shape for x, _ in data] == [(4, 80, 1)]
    (tmp_path / "b" / "3.wav").unlink()
    assert read(tmp_path, verbose=False).sampling_rate == 8000


def test_scales_there_and_back() -> None:
    hertz = np.array([0.0, 200.0, 1000.0, 6400.0])
    np.testing.assert_allclose(audio.mel_of(hertz, "librosa"), [0, 3, 15, 42], rtol=1e-12)
    for convention in ("keras", "librosa", "torchaudio"):
        back = audio.hertz_of(audio.mel_of(hertz, convention), convention)
        np.testing.assert_allclose(back, hertz, rtol=1e-12, atol=1e-9)
    assert audio.mel_of(700.0) == pytest.approx(1127 * np.log(2))


def test_bands_by_their_conventions() -> None:
    # Between the edges of the outer bands, neighbouring triangles of height 1 add up to 1.
    for convention in ("keras", "torchaudio"):
        bands = audio.mel_bands(512, 8000, 12, 100.0, 3500.0, convention)
        inner = bands.sum(axis=1)[20:180]
        np.testing.assert_allclose(inner, 1.0, atol=1e-12)
    area = audio.mel_bands(2048, 8000, 12, 100.0, 3500.0, "librosa").sum(axis=0) * 4000 / 1024
    np.testing.assert_allclose(area, 1.0, rtol=0.02)
    with pytest.warns(UserWarning, match="4 of 128 mel bands"):
        audio.mel_bands(400, 16000, 128, 0.0, 8000.0, "torchaudio")


def test_a_mel_of_a_sound_does_not_look_at_its_neighbours() -> None:
    x = DRAWS.normal(size=(2, 600)).astype("float32")
    x[1] *= 1e6
    for convention in ("librosa", "torchaudio"):
        layer = layers.MelSpectrogram(
            64, 16, sampling_rate=8000, num_mel_bins=8, top_db=5.0, convention=convention
        )
        np.testing.assert_array_equal(layer(x)[0], layer(x[:1])[0])
    keras = layers.MelSpectrogram(64, 16, sampling_rate=8000, num_mel_bins=8, top_db=5.0)
    assert np.ptp(keras(x)[0]) == 0  # all of it lies below the floor of the loud one
    with pytest.raises(ValueError, match="convention"):
        layers.MelSpectrogram(convention="kaldi")
    with pytest.raises(ValueError, match="half of sampling_rate"):
        layers.MelSpectrogram(sampling_rate=8000, max_freq=5000.0)
    config = layer.get_config()
    assert config["convention"] == "torchaudio"
    assert "convention" not in keras.get_config()
    assert layers.MelSpectrogram.from_config(config).convention == "torchaudio"


def test_silence_is_the_floor() -> None:
    layer = layers.MelSpectrogram(64, 16, sampling_rate=8000, num_mel_bins=4)
    np.testing.assert_array_equal(layer(np.zeros((1, 200), "float32")), -100.0)
    with pytest.raises(ValueError, match="20 elements are too few"):
        layer(np.zeros((1, 20), "float32"))


@pytest.mark.parametrize(
    ("wrong", "match"),
    (
        ({"sampling_rate": 0}, "`sampling_rate` must be above 0"),
        ({"num_mel_bins": 0}, "`num_mel_bins` must be above 0"),
        ({"min_freq": 5000.0, "max_freq": 100.0}, r"below the highest, 100.0.*min_freq=5000"),
        ({"min_freq": -1.0}, "min_freq=-1"),
        ({"max_freq": 9000.0}, "above half of sampling_rate=16000"),
    ),
)
def test_bands_that_no_sound_has(wrong: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        layers.MelSpectrogram(**wrong)


def test_nothing_at_another_rate() -> None:
    for shape in ((0,), (0, 2)):
        assert audio.resample(np.zeros(shape, "float32"), 8000, 16000).shape == shape


def test_coefficients_are_an_orthonormal_transform() -> None:
    mel = DRAWS.normal(size=(2, 16, 5)).astype("float32")
    whole = audio.mfcc(mel, 16)
    np.testing.assert_allclose((whole**2).sum(axis=1), (mel**2).sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(audio.mfcc(mel, 3), whole[:, :3])
    np.testing.assert_allclose(whole[:, 0], mel.sum(axis=1) / 4, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="17 coefficients"):
        audio.mfcc(mel, 17)
    with pytest.raises(ValueError, match=r"mfcc: a spectrogram .* received the shape \(8000,\)"):
        audio.mfcc(np.zeros(8000, "float32"))
    with pytest.raises(ValueError, match="mfcc: `count` must be a whole number of 1 or more"):
        audio.mfcc(mel, 2.5)  # type: ignore[arg-type]


SOUND_LAYERS = {
    "gain": (lambda: audio.RandomGain((-6, 6), seed=1), (6, 50)),
    "noise": (lambda: audio.RandomNoise((0, 20), seed=1), (6, 50, 2)),
    "shift": (lambda: audio.RandomShift(0.5, seed=1), (6, 50, 2)),
    "masks": (lambda: audio.SpecAugment(2, 4, 2, 6, fill=-9.0, seed=1), (6, 12, 20)),
    "masks_of_channels": (lambda: audio.SpecAugment(1, 4, 1, 6, seed=1), (6, 12, 20, 2)),
}


@pytest.mark.parametrize("name", SOUND_LAYERS)
def test_layers_that_vary_sound(name: str, tmp_path: Path) -> None:
    make, shape = SOUND_LAYERS[name]
    x = DRAWS.normal(size=shape).astype("float32")
    np.testing.assert_array_equal(make()(x), x)
    one, other = make()(x, training=True), make()(x, training=True)
    np.testing.assert_array_equal(one, other)
    changed = [not np.array_equal(a, b) for a, b in zip(one, x, strict=True)]
    assert sum(changed) >= 4
    layer = make()
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again(x, training=True), one)
    model = handmill.Sequential([layers.Input(shape[1:]), layer])
    assert model.output_shape == (None, *shape[1:])
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), x)
    with pytest.raises(ValueError, match="were expected"):
        make()(x[0, 0] if len(shape) == 3 else x[0][..., 0])


def test_what_is_drawn_for_a_sound_follows_from_its_number() -> None:
    """In ``fit`` neither the size of batches nor their order changes it."""
    x = DRAWS.normal(size=(8, 16)).astype("float32")

    def learned(batch: int) -> Any:
        model = handmill.Sequential(
            [layers.Input((16,)), audio.RandomShift(0.5, seed=3), layers.Dense(1, use_bias=False)]
        )
        model.layers[-1].set_weights([np.zeros((16, 1))])
        model.compile(handmill.optimizers.SGD(1.0), lambda y, p: -ops.sum(p, axis=-1))
        model.fit(x, np.zeros(8), batch_size=batch, shuffle=batch < 8, verbose=0)
        return model.layers[-1].get_weights()[0] * batch  # the sum of what was seen

    np.testing.assert_allclose(learned(2), learned(8), rtol=1e-5, atol=1e-5)


@pytest.mark.peers
def test_mel_as_librosa_and_torchaudio() -> None:
    librosa = pytest.importorskip("librosa")
    x = DRAWS.normal(size=4000).astype("float32")
    power = librosa.feature.melspectrogram(
        y=x, sr=8000, n_fft=256, hop_length=80, n_mels=40, fmin=0.0
    )
    layer = layers.MelSpectrogram(
        256,
        80,
        sampling_rate=8000,
        num_mel_bins=40,
        min_freq=0.0,
        power_to_db=False,
        convention="librosa",
    )
    np.testing.assert_allclose(layer(x), power, atol=1e-5 * power.max())
    decibels = librosa.power_to_db(power)
    loud = layers.MelSpectrogram(
        256, 80, sampling_rate=8000, num_mel_bins=40, min_freq=0.0, convention="librosa"
    )(x)
    np.testing.assert_allclose(loud, decibels, atol=0.01)
    want = librosa.feature.mfcc(S=decibels, n_mfcc=20)
    np.testing.assert_allclose(audio.mfcc(decibels, 20), want, atol=1e-3)
