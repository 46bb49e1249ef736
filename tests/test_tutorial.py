"""The tutorial's own script: run unchanged, on generated images and on CIFAR-10."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import handmill

DATA = Path(os.environ.get("HANDMILL_DATA", Path(__file__).parents[2] / "shared" / "data"))
CLASSES = 10

# What the script must be told, each once: its pixels are 0..255 and its "test" is no test.
WARNINGS = (
    r"TrainingWarning: model 'sequential': the first loss, [\d.e+]+, is far above guessing "
    r"\(2\.303\)\. The inputs range from 0 to 255; .*Rescaling\(.*rescale=1/255",
    r"TrainingWarning: model 'sequential': \d+ of 128 ReLU units of layer 'dense' gave 0 for every",
    r"TrainingWarning: model 'sequential': after 100 steps the loss, .*guessing \(2\.303\)",
    r"TrainingWarning: model 'sequential': evaluate\(\) .*this is not a test accuracy",
    r"KerasDifferenceWarning: SparseCategoricalCrossentropy received one-hot labels",
    r"DeprecationWarning: The argument `lr` is the older name",
)
# On generated images, which are simple, chance decides (the script has no seed) whether the network
# learns something after all, and whether the first batch has a pixel of 0 and one of 255.
ON_GENERATED = tuple(
    w.replace("from 0 to 255", r"from \d+(?:\.\d+)? to 2\d\d(?:\.\d+)?")
    for w in WARNINGS
    if "after 100 steps" not in w
)


@pytest.fixture(scope="module")
def script() -> str:
    """The code of the tutorial, block after block."""
    text = DATA.parent / "seeds" / "tutorial.txt"
    if not text.is_file():
        pytest.skip(f"no {text}: the tutorial is not part of the project")
    blocks = re.findall(r"^```python\n(.*?)^```", text.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    return "\n".join(blocks)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds data_dir: ten classes of small images, each of its own colour."""
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    folder = tmp_path_factory.mktemp("generated")
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        place = folder / "data_dir" / f"class {label}"
        place.mkdir(parents=True)
        colour = rng.integers(60, 200, 3)
        for i in range(12):
            pixels = colour + rng.integers(-60, 56, (32, 32, 3))
            image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.jpg")
    return folder


def run(command: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    source = str(Path(handmill.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        (sys.executable, *command),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def check(done: subprocess.CompletedProcess[str], warnings: tuple[str, ...] = WARNINGS) -> None:
    """The script ended well, and said what is wrong with it."""
    assert done.returncode == 0, done.stderr
    assert "belonging to 10 classes." in done.stdout
    assert all(f"Epoch {i}/10" in done.stdout for i in range(1, 11))
    (loss,) = re.findall(r"^Test loss: (.*)$", done.stdout, re.M)
    (accuracy,) = re.findall(r"^Test accuracy: (.*)$", done.stdout, re.M)
    assert np.isfinite(float(loss))
    assert 0.0 <= float(accuracy) <= 1.0
    for warning in warnings:
        found = re.findall(warning, done.stderr)
        assert len(found) == 1, (warning, done.stderr)
    # A warning names the line of the script, not one of handmill's own.
    places = re.findall(
        r"^(.*):\d+: (?:Training|KerasDifference|Deprecation)Warning", done.stderr, re.M
    )
    assert {Path(place).name for place in places} == {"tutorial.py"}


@pytest.mark.slow
def test_unchanged_on_generated_images(script: str, generated: Path) -> None:
    (generated / "tutorial.py").write_text(script, encoding="utf-8")
    done = run(("-m", "handmill", "run", "tutorial.py"), generated)
    check(done, ON_GENERATED)
    assert "keras means handmill" in done.stderr


@pytest.mark.slow
def test_with_other_imports(script: str, generated: Path) -> None:
    changed, count = re.subn(r"^from keras\.", "from handmill.", script, flags=re.M)
    assert count == 5
    (generated / "tutorial.py").write_text(changed, encoding="utf-8")
    done = run(("-W", "default::DeprecationWarning:__main__", "tutorial.py"), generated)
    check(done, ON_GENERATED)


@pytest.mark.slow
def test_unchanged_on_cifar10(script: str, cifar10: Path, tmp_path: Path) -> None:
    (tmp_path / "data_dir").symlink_to(cifar10 / "train", target_is_directory=True)
    (tmp_path / "tutorial.py").write_text(script, encoding="utf-8")
    done = run(("-m", "handmill", "run", "tutorial.py"), tmp_path)
    check(done)
    assert "Found 50000 images belonging to 10 classes." in done.stdout
    (accuracy,) = re.findall(r"^Test accuracy: (.*)$", done.stdout, re.M)
    assert abs(float(accuracy) - 0.10) < 0.05  # chance: its ReLU units die, in real Keras too
