"""MLPerf Tiny's four networks: learned, quantized to 8 bits, written as C, and tested each time.

    python examples/mlperf_tiny.py ds_cnn|autoencoder|mobilenet|resnet8 [--data FOLDER]

Banbury et al. (2021) ask for 90 % of keywords, 80 % of images with or without a person, 85 % of
CIFAR-10, and an area of 0.85 under the curve that tells faulty machines by their sound. The
networks are theirs. ResNet-8 learns CIFAR-10, too, from JPEG files; the other data stand in for
theirs: spoken digits for keywords, animals or vehicles (CIFAR-10's, three times as large) for
persons, and made sounds of a motor for the toy cars.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import cifar10_resnet8
import numpy as np
from recipes import frame

import handmill as keras
from handmill import audio, layers, ops, optimizers
from handmill.quantizers import Int8StaticQuantizationConfig

VEHICLES = (0, 1, 8, 9)  # of CIFAR-10's classes in alphabetical order
C_ROWS = 200  # of the test go through the C program


# --- networks ------------------------------------------------------------------------------------


def normalized(*convolution):
    return [*convolution, layers.BatchNormalization(), layers.ReLU()]


def separable(width, strides=1):
    depthwise = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)
    pointwise = layers.Conv2D(width, 1, use_bias=False)
    return normalized(depthwise) + normalized(pointwise)


def ds_cnn():
    first = layers.Conv2D(64, (10, 4), 2, padding="same", use_bias=False)
    body = [layer for _ in range(4) for layer in separable(64)]
    end = [layers.AveragePooling2D((25, 5)), layers.Flatten(), layers.Dense(10)]
    return keras.Sequential([keras.Input((49, 10, 1)), *normalized(first), *body, *end])


def mobilenet():
    """MobileNetV1, a quarter as wide."""
    first = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)
    sizes = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2)]
    body = [layer for size in [*sizes, (256, 1)] for layer in separable(*size)]
    start = [keras.Input((96, 96, 3), dtype="uint8"), layers.Rescaling(1 / 128, offset=-1)]
    end = [layers.AveragePooling2D(3), layers.Flatten(), layers.Dense(2)]
    return keras.Sequential([*start, *normalized(first), *body, *end])


def autoencoder():
    body = [layer for n in (*[128] * 4, 8, *[128] * 4) for layer in normalized(layers.Dense(n))]
    return keras.Sequential([keras.Input((640,)), *body, layers.Dense(640)])


# --- data ----------------------------------------------------------------------------------------


def spoken_digits(options):
    """Ten cepstral coefficients of 49 windows, and digits; the first five takes are the test."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(options.data / "spoken_digits_wav.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        files = sorted(Path(folder).rglob("*.wav"))
        sounds = np.zeros((len(files), 8000), "float32")
        for i, file in enumerate(files):
            samples = audio.load(file, mono=True)[0][:8000]
            sounds[i, : len(samples)] = samples
    names = [file.stem.split("_") for file in files]
    digits, takes = (np.array([int(name[i]) for name in names]) for i in (0, 2))
    decibels = layers.MelSpectrogram(
        512, 160, 320, sampling_rate=8000, num_mel_bins=40, convention="librosa"
    )(sounds)
    x = np.asarray(audio.mfcc(decibels, 10)).transpose(0, 2, 1)[:, :49, :, None]
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    return (x[takes >= 5], digits[takes >= 5]), (x[takes < 5], digits[takes < 5])


def motor(rng, faulty):
    """Two seconds at 16 kHz: eight harmonics and noise; faults click, or detune one harmonic."""
    time = np.arange(31744) / 16000
    turns = 110 * (1 + 0.01 * rng.normal()) * time + 0.02 * np.sin(2 * np.pi * 1.3 * time)
    detuned = rng.integers(3, 8) if faulty and rng.random() < 0.5 else -1
    sound = rng.normal(0, 0.1, len(time))
    for k in range(8):
        off = 1.04 if k == detuned else 1.0
        phase = 2 * np.pi * (k + 1) * off * turns + rng.uniform(0, 6)
        sound += np.exp(-0.3 * k) * rng.uniform(0.8, 1.2) * np.sin(phase)
    if faulty and detuned < 0:
        sound[np.diff(np.floor(turns / 8), prepend=0) > 0] += 1.2
    return sound.astype("float32")


def motor_sounds(options):
    """Five windows of 128 mel bands a row (clips, 58, 640), and whether a clip is faulty."""
    rng, clips = np.random.default_rng(0), 40 if options.quick else 400
    faulty = np.r_[np.zeros(clips), np.arange(200) % 2].astype(bool)
    sounds = np.stack([motor(rng, f) for f in faulty])
    mel = layers.MelSpectrogram(
        1024, 512, sampling_rate=16000, num_mel_bins=128, convention="torchaudio"
    )
    decibels = np.concatenate([np.asarray(mel(part)) for part in np.split(sounds, 10)])
    decibels = (decibels - decibels[:clips].mean()) / decibels[:clips].std()
    windows = np.lib.stride_tricks.sliding_window_view(decibels.transpose(0, 2, 1), 5, axis=1)
    x = np.ascontiguousarray(windows.transpose(0, 1, 3, 2).reshape(len(faulty), -1, 640), "float32")
    return (x[:clips], faulty[:clips]), (x[clips:], faulty[clips:])


def animals_or_vehicles(options):
    """A quarter of CIFAR-10 at 96 x 96."""

    def larger(images, labels):
        images, labels = images[::4], labels[::4]
        parts = np.array_split(images, max(len(images) // 500, 1))
        parts = [np.asarray(ops.image.resize(part, (96, 96))) for part in parts]
        return np.concatenate(parts), np.isin(labels, VEHICLES).astype("int32")

    return tuple(larger(*part) for part in frame.cifar10(options))


# --- learning and testing ------------------------------------------------------------------------


def learn(make, epochs, batch, rate, decay, loss):
    """A function for ``frame.run`` that trains a network by one cycle of AdamW's rate."""

    def learned(data, seed, options):
        (x, y), _ = data
        if loss == "mse":
            y = x = x.reshape(-1, x.shape[-1])
        keras.utils.set_random_seed(seed)
        model, passes = make(), 1 if options.quick else epochs
        schedule = optimizers.schedules.OneCycle(rate, passes * -(-len(x) // batch))
        model.compile(optimizers.AdamW(schedule, weight_decay=decay), loss)
        model.fit(x, y, batch_size=batch, epochs=passes, verbose=0)
        return model

    return learned


def in_c(model, folder):
    """The model as a function of arrays that runs its C file."""
    of_floats = keras.models.clone_model(model, keras.Input(model.input_shape[1:]))
    of_floats.set_weights(model.get_weights())
    of_floats.export(folder / "net.c", format="c", name="net")
    library = folder / "net.so"
    command = ("cc", "-O3", "-std=c99", "-shared", "-fPIC", "-o", library, folder / "net.c", "-lm")
    subprocess.run(command, check=True)
    net = ctypes.CDLL(str(library)).net

    def predict(x):
        x = np.ascontiguousarray(x, "float32")
        y = np.zeros((len(x), model.output_shape[-1]), "float32")
        for row, result in zip(x, y, strict=True):
            net(row.ctypes.data_as(ctypes.c_void_p), result.ctypes.data_as(ctypes.c_void_p))
        return y

    return predict


def accuracy(predict, x, y):
    return float(np.mean(predict(x).argmax(1) == y))


def area_under_curve(predict, x, faulty):
    """How often a faulty clip is rebuilt worse than a sound one."""
    rows = x.reshape(-1, x.shape[-1])
    errors = np.square(predict(rows) - rows).mean(1).reshape(len(x), -1).mean(1)
    pairs = errors[faulty][:, None] - errors[~faulty]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test(score):
    """A function for ``frame.run``: the score as float32, in 8 bits, and as C."""

    def tested(model, data, options):
        (seen, _), (x, y) = data
        some = slice(None, None, -(-len(x) // C_ROWS))
        found = {"float32": score(model.predict_on_batch, x, y)}
        if shutil.which("cc"):
            part = score(model.predict_on_batch, x[some], y[some])
            with tempfile.TemporaryDirectory() as folder:
                compiled = score(in_c(model, Path(folder)), x[some], y[some])
            found |= {"float32 of some rows": part, "C of the same rows": compiled}
        rows = seen.reshape(-1, *model.input_shape[1:])
        model.quantize(config=Int8StaticQuantizationConfig(rows[:: -(-len(rows) // 512)]))
        return found | {"int8": score(model.predict_on_batch, x, y)}

    return tested


CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
NETWORKS = {
    "ds_cnn": (spoken_digits, learn(ds_cnn, 30, 64, 4e-3, 0.02, CROSS_ENTROPY), accuracy, "%"),
    "autoencoder": (
        motor_sounds,
        learn(autoencoder, 20, 256, 2e-3, 0.0, "mse"),
        area_under_curve,
        "under the curve",
    ),
    "mobilenet": (
        animals_or_vehicles,
        learn(mobilenet, 6, 64, 4e-3, 0.02, CROSS_ENTROPY),
        accuracy,
        "%",
    ),
    "resnet8": (frame.cifar10, cifar10_resnet8.learn, accuracy, "%"),
}

if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--epochs", type=int, default=40, help="of resnet8")
    parser.add_argument("--rate", type=float, default=0.2, help="of resnet8")
    options = parser.parse_args()
    load, learned, score, unit = NETWORKS[options.network]
    frame.run(f"mlperf_tiny {options.network}", options, load, learned, test(score), unit)
