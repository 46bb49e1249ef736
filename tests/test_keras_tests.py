"""tools/keras_tests.py: Keras's own tests run here, are counted, and fail where they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "keras_tests.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.skipif(not TOOL.is_file(), reason="no tools/ beside the tests"),
]


def test_constraints():
    for library in ("keras", "absl", "ml_dtypes"):
        pytest.importorskip(library)
    done = subprocess.run(
        (sys.executable, TOOL, "constraints", "--list"), capture_output=True, text=True, check=True
    )
    first = done.stdout.splitlines()[0].strip("| ")
    folder, passed, in_scope, share, out, _ = first.split(" | ")
    assert folder == "`constraints`", done.stdout
    assert passed == in_scope, done.stdout
    assert int(passed) >= 15
    assert (share, out) == ("100.0 %", "0")


def test_scope(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    from keras_tests import scope

    patterns = scope.read()
    assert scope.reason_of_test(patterns, "layers/core/dense_test.py::A::test_quantize_int8") == (
        "quantization"
    )
    assert scope.reason_of_test(patterns, "layers/core/dense_test.py::A::test_dense") is None
    why = "AbsentError: keras.src.backend.x.y is no public name"
    assert scope.reason_of_error(patterns, why) == scope.MACHINERY
    why = "AbsentError: keras.losses.CTC is missing"
    assert scope.reason_of_error(patterns, why) is None
    assert scope.reason_of_error(patterns, "AssertionError: 1 != 2") is None
