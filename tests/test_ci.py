"""The scripts of .ci that decide what passes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / ".ci"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no .ci beside the tests")


def script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check_skips():
    return script("check_skips")


@pytest.mark.parametrize(
    ("line", "is_listed"),
    (
        ("SKIPPED [2] tests/test_saving_safety.py:451: root may write", True),
        ("SKIPPED [1] tests/core/test_isa.py:41: this CPU has no avx512: no kernel of it", True),
        ("SKIPPED [1] tests/test_ops.py:73: a build without kernels", False),
        ("SKIPPED [1] tests/test_other.py:1: root may write", False),
        ("SKIPPED [9] tests/test_sklearn.py: no scikit-learn", False),
    ),
)
def test_skips_that_are_listed(check_skips, tmp_path, capsys, line, is_listed):
    log = tmp_path / "log"
    log.write_text(f"{line}\n5 passed, 1 skipped in 1.0s\n")
    assert check_skips.main(str(log)) == int(not is_listed)
    assert (line in capsys.readouterr().out) == (not is_listed)


def test_a_log_that_is_none(check_skips, tmp_path):
    log = tmp_path / "log"
    log.write_text("Killed\n")
    assert check_skips.main(str(log)) == 1


@pytest.mark.slow
def test_what_passed_before_is_left_out_and_nothing_else(tmp_path):
    tests = tmp_path / "test_it.py"
    tests.write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', ('a', 'b.c::d'))\n"
        "def test_passes(n): pass\n"
        "class TestThem:\n"
        "    def test_passes(self): pass\n"
        "    def test_skips(self): pytest.skip('not here')\n"
        "def test_fails(): assert False\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "PYTEST_ADDOPTS": ""}

    def run(*arguments):
        done = subprocess.run(
            [*command, tests, *arguments],
            check=False,
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()[-1]

    report = tmp_path / "report.xml"
    assert "1 failed, 3 passed, 1 skipped in" in run(f"--junitxml={report}")
    again = run("-p", "passed_before", f"--passed-before={report}")
    assert "1 failed, 1 skipped, 3 deselected in" in again
