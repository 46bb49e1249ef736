"""The examples run as their first lines say, in a fresh process, without a warning."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import audio

FOLDER = Path(__file__).parents[1] / "examples"
DATA = Path(os.environ.get("HANDMILL_DATA", Path(__file__).parents[2] / "shared" / "data"))

QUICK = {
    "compare_with_numpy.py": r"results compared: all right",
    "digits.py": r"test accuracy 0\.9[5-9]",
    "lambda_handler.py": r"status 200: a digit \d was taken for a \d\nstatus 400",
    "own_layer.py": r"saved and loaded: Quadratic with 13 weights",
    "save_and_load.py": r"the same bits",
}
"""Script -> what it prints."""

RECIPES = {
    "cifar10_airbench94.py": ("--widths", "8", "8", "8"),
    "cifar10_fast.py": ("--widths", "8", "8", "8"),
    "cifar10_resnet8.py": (),
    "lecun_1989.py": ("--passes", "2"),
    "mnist_fast.py": ("--epochs", "2"),
}
"""Script with ``--quick`` -> what its run is made shorter by."""
_SEEN_ALWAYS = ("lecun_1989.py",)

WITHOUT_LABELS = {
    "cifar10_simclr.py": (("--epochs", "1"), r"\n200 neighbours: [\d.]+ % over 1 seed"),
    "mnist_simclr.py": (("--epochs", "1"), r"\n100 labels: [\d.]+ % over 1 seed"),
    "mnist_vae.py": (("--epochs", "1"), r"\n-ELBO: [\d.]+ nats over 1 seed"),
}
"""Script with ``--quick`` -> what its run is made shorter by, and what it prints."""

SOUND = {
    "spoken_digits.py": ((), r"\ntest accuracy: [\d.]+ % over 1 seed"),
    "sound_and_image.py": ((), r"\nearly, modalities dropped: [\d.]+ % over 1 seed"),
    "sound_finds_image.py": ((), r"\nsounds whose nearest image is right: [\d.]+ % over 1 seed"),
}
"""Script with ``--quick`` -> what its run is made shorter by, and what it prints."""

WORDS = {
    "image_captions.py": ((), r"\nwhole captions right: [\d.]+ % over 1 seed"),
    "movie_reviews.py": ((), r"\ntransformer: [01]\.\d+, 95 % interval [01]\.\d+ to [01]\.\d+\n"),
}
"""Script with ``--quick`` -> what its run is made shorter by, and what it prints."""

TINY = ("ds_cnn", "autoencoder", "mobilenet", "resnet8")
"""Arguments of ``mlperf_tiny.py``."""

EXPLAINED = {"explain_roar.py": (("--seeds", "1", "--epochs", "5"), r"random")}
"""Script -> what its run is made shorter by, and what it prints."""

TEXTS = {"tiny_shakespeare.py": (("--steps", "20"), r"validation loss [0-2]\.\d+ over 1 seed")}
"""Script on a text -> what its run is made shorter by, and what it prints."""

SEQUENCES = {
    "addition_seq2seq.py": (
        ("--epochs", "1", "--pairs", "1000"),
        r"sums right 0\.\d+, 205,324 weights",
    )
}
"""Script -> what its run is made shorter by, and what it prints."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no examples beside the tests")


def run(script: str, *arguments: str, cwd: Path) -> str:
    source = str(Path(handmill.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        (sys.executable, "-W", "error", str(FOLDER / script), *arguments),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("script", QUICK)
def test_quick(script: str, tmp_path: Path) -> None:
    assert re.search(QUICK[script], run(script, cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", (*EXPLAINED, *SEQUENCES))
def test_shorter(script: str, tmp_path: Path) -> None:
    arguments, printed = (EXPLAINED | SEQUENCES)[script]
    assert re.search(printed, run(script, *arguments, cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_every_example_is_tested() -> None:
    scripts = {path.name for path in FOLDER.glob("*.py")}
    known = {*QUICK, *RECIPES, *WITHOUT_LABELS, *SOUND, *WORDS, *EXPLAINED, *TEXTS, *SEQUENCES}
    alone = {"image_folder.py", "mlperf_tiny.py", "mnist.py", "scikit_learn.py"}
    assert scripts == known | alone


@pytest.mark.slow
def test_scikit_learn(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")
    text = run("scikit_learn.py", cwd=tmp_path)
    assert re.search(r"test accuracy (0\.9[3-9]|1\.0)", text)
    assert "the saved model: the same bits" in text


@pytest.mark.slow
@pytest.mark.parametrize("script", TEXTS)
def test_text(script: str, tmp_path: Path) -> None:
    arguments, printed = TEXTS[script]
    text = tmp_path / "text.txt"
    text.write_text("what is often repeated, is soon learned.\n" * 200)
    found = run(script, str(text), *arguments, cwd=tmp_path)
    assert re.search(printed, found)


@pytest.mark.slow
def test_mnist(tmp_path: Path) -> None:
    file = DATA / "mnist.npz"
    if not file.is_file():
        pytest.skip(f"no {file}")
    text = run("mnist.py", str(file), cwd=tmp_path)
    assert float(re.findall(r"test accuracy ([\d.]+)", text)[0]) >= 0.97


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of pictures and ten of digits that a few steps tell apart, as the data sets lie."""
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name, dark in (("dark", 0.3), ("light", 1.0)):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(260):
                pixels = (rng.integers(0, 256, (32, 32, 3)) * dark).astype("uint8")
                image.fromarray(pixels).save(place / f"{i}.png")
    digits = {}
    for part, count in (("train", 2000), ("test", 500)):
        labels = rng.integers(0, 10, count)
        images = rng.integers(0, 30, (count, 28, 28))
        for row, label in enumerate(labels):
            images[row, 5 + label : 15 + label, 4 + label : 14 + label] += 200
        digits[f"x_{part}"], digits[f"y_{part}"] = images.astype("uint8"), labels.astype("uint8")
    np.savez(folder / "mnist.npz", **digits)
    for name, words in (("neg", "dull long flat"), ("pos", "warm funny wise")):
        lines = (" ".join(rng.permutation(f"a film so {words}".split())) for _ in range(200))
        (folder / f"movie_reviews_{name}.txt").write_text("\n".join(lines))
    tones = folder / "recordings"
    tones.mkdir()
    for digit in range(10):
        tone = 0.5 * np.sin(np.arange(5000) / 8000 * 2 * np.pi * 300 * (1 + digit))
        for take in range(30):
            audio.save(tones / f"{digit}_someone_{take}.wav", tone, 8000)
    with tarfile.open(folder / "spoken_digits_wav.tar.gz", "w:gz") as archive:
        archive.add(tones, "recordings")
    return folder


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(name, marks=() if name in _SEEN_ALWAYS else pytest.mark.slow)
        for name in RECIPES
    ],
)
def test_recipes(script: str, small_data: Path, tmp_path: Path) -> None:
    arguments = ("--quick", "--data", str(small_data), *RECIPES[script])
    text = run(script, *arguments, cwd=tmp_path)
    # Rates for 50,000 images teach little in the few steps over 500.
    least = 0 if script.startswith("cifar10") else 70
    assert float(re.findall(r"test accuracy: ([\d.]+)", text)[0]) >= least, text
    assert re.search(r"training: [\d.]+ s wall, [\d.]+ s CPU", text)


@pytest.mark.slow
@pytest.mark.parametrize("script", {**WITHOUT_LABELS, **SOUND, **WORDS})
def test_other_results(script: str, small_data: Path, tmp_path: Path) -> None:
    arguments, printed = {**WITHOUT_LABELS, **SOUND, **WORDS}[script]
    text = run(script, "--quick", "--data", str(small_data), *arguments, cwd=tmp_path)
    assert re.search(printed, text), text


@pytest.mark.slow
@pytest.mark.parametrize("network", TINY)
def test_mlperf_tiny(network: str, small_data: Path, tmp_path: Path) -> None:
    text = run("mlperf_tiny.py", network, "--quick", "--data", str(small_data), cwd=tmp_path)
    scores = dict(re.findall(r"\n([\w ]+): ([\d.]+) (?:%|under the curve) over 1 seed", text))
    assert {"float32", "int8"} <= scores.keys(), text
    if shutil.which("cc"):
        assert scores["C of the same rows"] == scores["float32 of some rows"]


@pytest.mark.slow
def test_image_folder(tmp_path: Path) -> None:
    """Small pictures of two colours: the script does what its arguments say."""
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    for part, count in (("train", 20), ("test", 5)):
        for name, colour in (("red", (200, 40, 40)), ("green", (40, 200, 40))):
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for i in range(count):
                image.new("RGB", (20, 20), tuple(c - i for c in colour)).save(place / f"{i}.png")
    arguments = ("train", "test", "--size", "16", "--epochs", "3", "--steps", "5")
    text = run("image_folder.py", *arguments, cwd=tmp_path)
    assert "Found 40 images belonging to 2 classes." in text
    assert "test accuracy 1.000" in text


@pytest.mark.slow
def test_image_folder_on_cifar10(cifar10: Path, tmp_path: Path) -> None:
    """The tutorial's steps, done right, at 64x64: far above the 0.10 of guessing."""
    found = []
    for seed in "012":
        folders = str(cifar10 / "train"), str(cifar10 / "test")
        text = run("image_folder.py", *folders, "--seed", seed, "--epochs", "2", cwd=tmp_path)
        found.append(float(re.findall(r"test accuracy ([\d.]+)", text)[0]))
    assert sum(found) / 3 >= 0.33, found
