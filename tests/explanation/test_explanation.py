"""The result type: sums, intervals, files, pictures; and which outputs a target means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handmill.errors import FileFormatError
from handmill.explanation import Explanation
from handmill.explanation.picture import encode_png, resized
from handmill.explanation.targets import targets_for

OUTPUTS = np.array([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]])


@pytest.mark.parametrize(
    ("target", "classes", "scores"),
    (
        (None, [1, 0], [5, 7]),
        (2, [2, 2], [2, 3]),
        (np.int32(0), [0, 0], [1, 7]),
        ([0, 2], [0, 2], [1, 3]),
        (np.array([[0, 0, 1.0], [1, 0, 0]]), [2, 0], [2, 7]),
        ((0, 1), [[0, 1], [0, 1]], [-4, 7]),
        (([2, 2], [0, 1]), [[2, 0], [2, 1]], [1, 3]),
        ("cat", [1, 1], [5, 0]),
        (["dog", "cat"], [2, 1], [2, 0]),
        (("cat", "dog"), [[1, 2], [1, 2]], [3, -3]),
    ),
)
def test_targets(target: Any, classes: list[int], scores: list[float]) -> None:
    names = ["bird", "cat", "dog"]
    found = targets_for(target, OUTPUTS, class_names=names)
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_array_equal(found.scores(OUTPUTS), scores)
    assert len(found.names) == 2
    assert "class" not in found.names[0]


def test_target_of_a_sigmoid_unit() -> None:
    p = np.array([[0.8], [0.3]])
    assert targets_for(None, p, "binary").classes.tolist() == [1, 0]
    np.testing.assert_allclose(targets_for(0, p, "binary").scores(p), [0.2, 0.7])
    np.testing.assert_allclose(targets_for(1, p, "binary").scores(p), [0.8, 0.3])
    np.testing.assert_allclose(targets_for((1, 0), p, "binary").scores(p), [0.6, -0.4])
    logits = np.array([[2.0], [-1.0]])
    found = targets_for(None, logits, "binary", score="logit")
    assert found.classes.tolist() == [1, 0]
    assert found.scores(logits).tolist() == [2, 1]


def test_target_of_a_regression() -> None:
    y = np.array([[3.0], [4.0]])
    for target in (None, 0):
        assert targets_for(target, y, "number").scores(y).tolist() == [3, 4]
    with pytest.raises(ValueError, match=r"one number a row .a regression.*Received: 1"):
        targets_for(1, y, "number")


@pytest.mark.parametrize(
    ("target", "error", "words"),
    (
        (3, ValueError, "`target` 3 is no class .* 3 classes are numbered from 0 to 2"),
        (-1, ValueError, "`target` -1 is no class"),
        (1.0, TypeError, "whole class numbers .* received float64: 1.0"),
        (True, TypeError, "whole class numbers"),
        ([0, 1, 2], ValueError, r"shape \(3,\), but there are 2 rows"),
        (np.ones((2, 3)), ValueError, "not one-hot"),
        (np.eye(2), ValueError, r"one-hot rows would be \(2, 3\)"),
        ((0, 1, 2), ValueError, r"why a and not b; received 3"),
        ("cat", ValueError, "'cat': pass `class_names`"),
    ),
)
def test_bad_targets(target: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        targets_for(target, OUTPUTS)


def test_bad_class_names() -> None:
    with pytest.raises(ValueError, match=r"no class is called 'cot'; there are .'cat'"):
        targets_for("cot", OUTPUTS, class_names=["bird", "cat", "dog"])
    with pytest.raises(ValueError, match=r"2 names, but the model has 3 classes"):
        targets_for(0, OUTPUTS, class_names=["a", "b"])


def test_not_a_number_in_an_output_that_is_not_explained() -> None:
    outputs = np.array([[np.nan, 1.0]])
    assert targets_for(None, outputs).scores(outputs).tolist() == [1.0]


def several() -> Explanation:
    return Explanation(
        values={"b": np.array([[1.0, 2.0]]), "a": np.array([[0.5]])},
        error={"b": np.array([[0.1, 0.2]]), "a": np.array([[0.0]])},
        data={"b": np.array([[3, 4]]), "a": np.array([[5.0]])},
        feature_names={"b": ["p", "q"], "a": ["r"]},
        method="test",
        scores=np.array([5.0]),
        base_values=np.array([1.0]),
        targets=("cat",),
        complete=True,
        notes=("a note",),
        details={"steps": 50, "path": np.arange(3)},
    )


def test_gap_and_interval() -> None:
    found = several()
    assert found.gap is not None
    assert found.gap.tolist() == [0.5]
    assert not found.check()[0].passed
    assert "12 %" in str(found.check()[0])
    low, high = found.interval(0.95)
    np.testing.assert_allclose(high["b"] - low["b"], [[0.3919928, 0.7839856]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"between 0 and 1. Received: 95"):
        found.interval(95)
    exact = Explanation(values=1.0, data=1.0, method="", scores=np.zeros(1))
    assert exact.interval() == (1.0, 1.0)
    assert exact.gap is None
    assert exact.check() == []


def test_part() -> None:
    part = several().part("b")
    assert part.values.tolist() == [[1.0, 2.0]]
    assert part.names_of(0) == ["p", "q"]
    assert part.gap is None
    with pytest.raises(KeyError, match=r"no input 'c'; there are .'b', 'a'"):
        several().part("c")


def test_files(tmp_path: Path) -> None:
    found = several()
    found.save(tmp_path / "why")
    read = Explanation.load(tmp_path / "why.npz")
    assert list(read.values) == ["b", "a"]
    assert str(read) == str(found)
    assert read.data["b"].dtype == found.data["b"].dtype
    np.testing.assert_array_equal(read.error["b"], found.error["b"])
    assert read.details["steps"] == 50
    assert read.details["path"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("other.npz", "text.npz"):
        with pytest.raises(FileFormatError, match=r"no explanation that handmill saved"):
            Explanation.load(tmp_path / name)


def test_bars_name_features_and_images_are_tiles(tmp_path: Path) -> None:
    svg = several().picture()
    assert isinstance(svg, str)
    assert "p = 3" in svg
    assert "cat: output 5" in svg
    assert "a note" in svg
    values = np.zeros((2, 8, 8, 1), np.float32)
    values[:, 2, 3] = 1
    found = Explanation(values=values, data=np.zeros((2, 8, 8, 1)), method="m", scores=np.zeros(2))
    assert str(found.picture()).count("<image") == 4
    found.picture(tmp_path / "a.png")
    picture = tmp_path / "a.png"
    pil = pytest.importorskip("PIL.Image")
    pixels = np.asarray(pil.open(picture))
    assert pixels.shape == (2 * 164, 2 * 164, 3)
    # The heat map stands right; its place is red, what does not count is grey.
    assert pixels[2 + 2 * 20 + 5, 164 + 2 + 3 * 20 + 5].tolist() == [201, 42, 42]
    assert len(set(pixels[10, 170].tolist())) == 1


def test_flat_rows_with_a_shape(tmp_path: Path) -> None:
    found = Explanation(
        values=np.ones((1, 6)), data=np.ones((1, 6)), method="m", scores=np.zeros(1)
    )
    assert "<image" not in str(found.picture())
    assert "<image" in str(found.picture(shape=(2, 3)))
    with pytest.raises(ValueError, match=r"give `shape=.height, width.`"):
        found.picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"ends in .svg, .png or .html .* got 'a.jpg'"):
        found.picture("a.jpg")
    page = found.picture(tmp_path / "a.html")
    assert isinstance(page, str)
    assert "Red counts for the answer" in page
    assert "<svg" in page


def test_no_rows() -> None:
    found = Explanation(
        values=np.ones((0, 6)), data=np.ones((0, 6)), method="m", scores=np.zeros(0)
    )
    assert "no rows" in str(found)
    assert "no rows" in str(found.picture())
    assert len(found) == 0


def test_png_of_pixels_is_read_by_others() -> None:
    pil = pytest.importorskip("PIL.Image")
    import io

    pixels = np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8)
    found = np.asarray(pil.open(io.BytesIO(encode_png(pixels))))
    np.testing.assert_array_equal(found, pixels)


def test_resized_is_linear() -> None:
    ramp = np.arange(4.0)[None].repeat(2, 0)
    found = resized(ramp, (2, 8))
    np.testing.assert_allclose(found[0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


@pytest.mark.parametrize(("target", "kind"), (((2, 0), "classes"), (1, "classes"), (0, "binary")))
def test_a_row_alone_has_the_score_that_it_has_among_others(target: Any, kind: str) -> None:
    """What Python sums up of one row is what NumPy does of many; factors of 0 count nothing."""
    outputs = np.random.default_rng(0).normal(size=(5, 1 if kind == "binary" else 4))
    outputs = outputs.astype(np.float32)
    outputs[0, -1] = np.inf
    whole = targets_for(target, outputs, kind).scores(outputs)
    for row in range(5):
        own = outputs[row : row + 1]
        alone = targets_for(target, own, kind).scores(own)
        assert alone.dtype == np.float64
        np.testing.assert_array_equal(alone, whole[row : row + 1])
