"""The scripts of .ci that decide what passes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "check_skips.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="no .ci beside the tests")


@pytest.fixture
def check_skips():
    spec = importlib.util.spec_from_file_location("check_skips", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
