"""The scripts of examples/keras_scripts print under ``handmill run`` what they print under Keras.

``results.json`` beside them holds what Keras 3.15 printed with its JAX backend, from the same
weights; a slow test looks whether it still does. ``python tests/test_keras_scripts.py`` writes it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "keras_scripts"
RESULTS = FOLDER / "results.json"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "seeded")
QUICK = ("autoencoder", "custom_train_step", "layer_with_loss")

TOLERANCE = 2e-3
"""Relative; of numbers below 0.05, that of 0.05."""

TOLERANCES = {"vae": 0.25}
"""Of scripts that draw random numbers of the framework, which are others in handmill."""

_NUMBER = re.compile(r"(?<![A-Za-z])-?\d+\.?\d*(?:e-?\d+)?")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no examples beside the tests")


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        (sys.executable, *command),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_under_handmill(script: str, cwd: Path) -> str:
    import handmill

    source = str(Path(handmill.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    file = str(FOLDER / f"{script}.py")
    return run("-W", "error", "-m", "handmill", "run", file, cwd=cwd, PYTHONPATH=path)


def run_under_keras(script: str, cwd: Path) -> str:
    return run(str(FOLDER / f"{script}.py"), cwd=cwd, KERAS_BACKEND="jax")


def check(script: str, printed: str) -> None:
    wanted = json.loads(RESULTS.read_text("utf-8"))[script]
    assert words_of(printed) == words_of(wanted)
    tolerance = TOLERANCES.get(script, TOLERANCE)
    found, want = numbers_of(printed), numbers_of(wanted)
    assert len(found) == len(want)
    assert len(want) > 3, "a script prints what it has computed"
    for a, b in zip(found, want, strict=True):
        assert abs(a - b) <= tolerance * max(abs(a), abs(b), 0.05), f"{printed}\nwanted\n{wanted}"


def words_of(text: str) -> list[str]:
    return re.sub(r"[\[\]\s]+", " ", _NUMBER.sub("#", text)).split()


def numbers_of(text: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(text)]


def test_there_are_twenty() -> None:
    assert len(SCRIPTS) == 20
    assert sorted(json.loads(RESULTS.read_text("utf-8"))) == SCRIPTS


@pytest.mark.slow
@pytest.mark.parametrize("script", QUICK)
def test_quick(script: str, tmp_path: Path) -> None:
    check(script, run_under_handmill(script, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted({*SCRIPTS} - {*QUICK}))
def test_under_handmill(script: str, tmp_path: Path) -> None:
    check(script, run_under_handmill(script, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.peers
@pytest.mark.parametrize(
    "script",
    [pytest.param(s, marks=pytest.mark.slow if s in QUICK else pytest.mark.long) for s in SCRIPTS],
)
def test_under_keras(script: str, tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="Keras is the oracle")
    pytest.importorskip("jax", reason="the scripts' own train_step is that of JAX")
    check(script, run_under_keras(script, tmp_path))


def write_results() -> None:
    found = {script: run_under_keras(script, Path.cwd()) for script in SCRIPTS}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write_results()
