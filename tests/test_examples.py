"""The examples run as their first lines say, in a fresh process, without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import handmill

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


def test_every_example_is_tested() -> None:
    scripts = {path.name for path in FOLDER.glob("*.py")}
    assert scripts == {*QUICK, "image_folder.py", "mnist.py", "scikit_learn.py"}


@pytest.mark.slow
def test_scikit_learn(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")
    text = run("scikit_learn.py", cwd=tmp_path)
    assert re.search(r"test accuracy (0\.9[3-9]|1\.0)", text)
    assert "the saved model: the same bits" in text


@pytest.mark.slow
def test_mnist(tmp_path: Path) -> None:
    file = DATA / "mnist.npz"
    if not file.is_file():
        pytest.skip(f"no {file}")
    text = run("mnist.py", str(file), cwd=tmp_path)
    assert float(re.findall(r"test accuracy ([\d.]+)", text)[0]) >= 0.97


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
        text = run("image_folder.py", *folders, "--seed", seed, "--epochs", "5", cwd=tmp_path)
        found.append(float(re.findall(r"test accuracy ([\d.]+)", text)[0]))
    assert sum(found) / 3 >= 0.33, found
