"""tools/keras_tests.py: Keras's own tests run here, are counted, and fail where they should."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "keras_tests.py"
pytestmark = pytest.mark.skipif(not TOOL.is_file(), reason="no tools/ beside the tests")


@pytest.fixture
def tool(monkeypatch):
    """The tool as a module; its package has the same name."""
    monkeypatch.setattr(sys, "path", [str(TOOL.parent), *sys.path])
    spec = importlib.util.spec_from_file_location("keras_tests_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.peers
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


def test_scope(tool):
    patterns = tool.scope.read()
    found = tool.scope.reason_of_test(patterns, "layers/core/dense_test.py::A::test_quantize_int8")
    assert found == "quantization"
    assert tool.scope.reason_of_test(patterns, "layers/core/dense_test.py::A::test_dense") is None
    why = "AbsentError: keras.src.backend.x.y is no public name"
    assert tool.scope.reason_of_error(patterns, why) == tool.scope.MACHINERY
    for why in ("AbsentError: keras.losses.CTC is missing", "AssertionError: 1 != 2"):
        assert tool.scope.reason_of_error(patterns, why) is None
    lacks = "AssertionError: \n- int32\n+ {}\n"  # what was expected stands after the plus
    assert "number types" in tool.scope.reason_of_error(patterns, lacks.format("int16"))
    assert tool.scope.reason_of_error(patterns, lacks.format("int64")) is None


def test_counted(tool):
    """What handmill lacks is a failure; a name that Keras does not export is none."""
    count = tool.counted(
        {
            "saving/a_test.py::A::test_1": ("passed", ""),
            "saving/a_test.py::A::test_2": ("failed", "AbsentError: keras.x is missing\nmore"),
            "saving/a_test.py::A::test_3": ("failed", "AbsentError: keras.src.y is no public name"),
            "saving/a_test.py::A::test_quantized": ("failed", "AssertionError: 1 != 2"),
            "saving/a_test.py::A::test_4": ("skipped", "tf only"),
        }
    )
    assert (count.passed, count.in_scope) == (1, 2)
    assert count.failed == {"saving/a_test.py::A::test_2": "AbsentError: keras.x is missing"}
    assert count.machinery == {"keras.src.y": 1}
    assert sum(count.out.values()) == 3
    assert tool.line("saving", count).startswith("| `saving` | 1 | 2 | 50.0 % | 3 | 20")


def test_page_keeps_the_other_folders(tool, tmp_path, monkeypatch):
    """A folder's count is renewed without running the rest; those of another Keras are not kept."""
    monkeypatch.setattr(tool, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(tool.source, "version", lambda: "3.0")
    tool.PAGE.write_text(tool.page("utils", tool.Count(passed=5)), "utf-8")
    tool.PAGE.write_text(tool.page("losses", tool.Count(passed=3)), "utf-8")
    text = tool.page("utils", tool.Count(passed=6))
    rows = [row.split(" | ")[:2] for row in text.splitlines() if row.startswith("| `")]
    assert rows == [["| `losses`", "3"], ["| `utils`", "6"]]
    monkeypatch.setattr(tool.source, "version", lambda: "3.1")
    assert "| `losses`" not in tool.page("utils", tool.Count())


def test_rewrites_look_for_their_lines(tool):
    """A test that no longer says what is replaced must not run as it stands, unnoticed."""
    assert tool.rewritten("losses/loss_test.py", "x = 1") == "x = 1"
    file = "testing/test_case.py"
    assert tool.rewritten(file, 'd = "mixed_float16"') == 'd = "mixed_bfloat16"'
    with pytest.raises(ValueError, match=r"test_case\.py .* does not have the line"):
        tool.rewritten(file, "d = 1")
