"""Spoken digits: a small network on mel spectrograms, tested on takes it has not heard.

    python examples/spoken_digits.py [--epochs 20] [--seeds 1] [--leave-out SPEAKER] [--data FOLDER]

The Free Spoken Digit Dataset has 3,000 recordings of six speakers at 8 kHz. Its own test takes the
first five of each digit and speaker (300 recordings), which is easy: the same voices were heard.
``--leave-out george`` tests on all that one speaker said, and learns from the other five.

Seed 0 hears 98.7 % of the 300 right, after 51 s of processor time on one core (AMD EPYC, Zen 3).
"""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

import numpy as np
from recipes import frame

import handmill as keras
from handmill import audio, layers, optimizers

RATE, SECONDS = 8000, 0.75


def load(options):
    """Sounds (N, 6000), digits, and which of them are the test."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(options.data / "spoken_digits_wav.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        files = sorted(Path(folder).rglob("*.wav"))
        sounds = np.zeros((len(files), int(RATE * SECONDS)), "float32")
        for i, file in enumerate(files):
            samples, rate = audio.load(file, mono=True)
            assert rate == RATE
            samples = samples[: sounds.shape[1]]
            sounds[i, : len(samples)] = samples
    names = [file.stem.split("_") for file in files]
    digits = np.array([int(digit) for digit, _, _ in names])
    if options.leave_out:
        is_test = np.array([speaker == options.leave_out for _, speaker, _ in names])
    else:
        is_test = np.array([int(take) < 5 for _, _, take in names])
    return sounds, digits, is_test


def network(seed):
    """Mel spectrograms inside the model, so that whoever loads it gives it samples."""
    return keras.Sequential(
        [
            keras.Input((int(RATE * SECONDS),)),
            audio.RandomShift(0.1, seed=seed),
            audio.RandomGain(6.0, seed=seed + 1),
            layers.MelSpectrogram(
                256, 80, sampling_rate=RATE, num_mel_bins=40, convention="torchaudio"
            ),
            layers.Rescaling(1 / 40, offset=1.0),
            audio.SpecAugment(2, 6, 2, 8, seed=seed + 2),
            layers.Reshape((40, 76, 1)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),  # not the mean: where in time and pitch is what tells digits apart
            layers.Dropout(0.3, seed=seed + 3),
            layers.Dense(10),
        ]
    )


def learn(data, seed, options):
    sounds, digits, is_test = data
    epochs = 1 if options.quick else options.epochs
    keras.utils.set_random_seed(seed)
    model = network(seed)
    steps = epochs * -(-int((~is_test).sum()) // 64)
    model.compile(
        optimizers.AdamW(optimizers.schedules.OneCycle(4e-3, steps), weight_decay=0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(sounds[~is_test], digits[~is_test], batch_size=64, epochs=epochs, verbose=0)
    return model


def test(model, data, options):
    sounds, digits, is_test = data
    return {"test accuracy": model.evaluate(sounds[is_test], digits[is_test], verbose=0)[1]}


if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--leave-out", help="a speaker of whom nothing is learned")
    frame.run("spoken_digits", parser.parse_args(), load, learn, test)
