"""``handmill explain``: rows from files, a picture, and what is wrong, in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import layers
from handmill.cli import main
from handmill.explanation.picture import encode_png


def saved(folder: Path, *inner: object, shape: tuple[int, ...]) -> str:
    model = handmill.Sequential([handmill.Input(shape), *inner])
    model.save(folder / "m.hmill")
    return str(folder / "m.hmill")


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path, layers.Dense(3, "softmax"), shape=(4,))
    np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
    np.savez(tmp_path / "x.npz", x=np.eye(4, dtype=np.float32))
    picture = tmp_path / "why.svg"
    options = ["--baseline", "0", "--target", "b", "--names", "a,b,c", "-o", str(picture)]
    assert main(["explain", model, str(tmp_path / "x.npy"), *options, "--check"]) == 0
    said = capsys.readouterr().out
    assert "integrated gradients: row 0, b has the logit" in said
    assert "ok    completeness" in said
    assert picture.read_text().startswith("<svg")
    background = ["--background", str(tmp_path / "x.npz"), "--rows", "2"]
    assert main(["explain", model, str(tmp_path / "x.npz"), *background]) == 0
    assert "Shapley" in capsys.readouterr().out


def test_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    inner = (layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3))
    model = saved(tmp_path, *inner, shape=(12, 12, 3))
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    (tmp_path / "cat.png").write_bytes(encode_png(pixels))
    image = str(tmp_path / "cat.png")
    for method, suffix in (("auto", "png"), ("grad_cam", "html")):
        picture = tmp_path / f"why.{suffix}"
        options = ["--method", method, "--scale", "0.004", "-o", str(picture)]
        assert main(["explain", model, image, *options]) == 0
        assert picture.stat().st_size > 500
    told = capsys.readouterr()
    assert "picture:" in told.out
    assert not told.err
    assert main(["explain", model, image]) == 0
    assert "pass --scale 0.00392" in capsys.readouterr().err
    rescaling = saved(tmp_path, layers.Rescaling(1 / 255), *inner, shape=(12, 12, 3))
    assert main(["explain", rescaling, image]) == 0
    assert not capsys.readouterr().err


def test_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path, layers.Dense(3, "softmax"), shape=(4,))
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    np.savez(tmp_path / "y.npz", y=np.ones(2))
    rows = str(tmp_path / "x.npy")
    for arguments, words in (
        ([model, rows], "pass --background FILE"),
        ([model, rows, "--method", "deep_lift"], "a table needs a `baseline`"),
        ([model, rows, "--method", "deep_lift"], "here: --baseline 0, --baseline MEAN.npy"),
        ([model, rows, "--baseline", "zero"], "--baseline must be a number"),
        ([model, rows, "--baseline", "0", "--target", "7"], "`target` 7 is no class of the model"),
        ([model, str(tmp_path / "y.npz")], "holds ['y'], but no array x"),
        ([str(tmp_path / "none.hmill"), rows], "none.hmill"),
        ([model, rows, "--method", "grad_cam"], "no layer whose output has places"),
    ):
        assert main(["explain", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_rows_of_a_csv_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path, layers.Dense(2, "softmax"), shape=(3,))
    (tmp_path / "row.csv").write_text("size,age,price,sold\n1,2.5,3,yes\n\n4,5,6,no\n")
    (tmp_path / "train.csv").write_text("size;age;price\n0;0;0\n1;1;2\n")
    row = str(tmp_path / "row.csv")
    given = ["--drop", "sold", "--background", str(tmp_path / "train.csv")]
    assert main(["explain", model, row, *given]) == 2  # the background has no such column
    assert "has no column 'sold'; there are ['size', 'age', 'price']" in capsys.readouterr().err
    assert main(["explain", model, row, "--drop", "sold", "--baseline", "0"]) == 0
    said = capsys.readouterr().out
    assert "row 1" in said
    assert "age    = 2.5" in said
    (tmp_path / "row.csv").write_text("1,2.5,3\n")
    assert main(["explain", model, row, *given[2:]]) == 0
    assert "exact Shapley values" in capsys.readouterr().out


@pytest.mark.slow
def test_lines_of_a_text_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = np.array(["a good film", "a bad film", "good good", "so bad and long"])
    words = layers.TextVectorization(output_sequence_length=5)
    words.adapt(texts)
    inner = [
        words,
        layers.Embedding(len(words.get_vocabulary()), 4),
        layers.GlobalAveragePooling1D(),
    ]
    model = handmill.Sequential(
        [handmill.Input((), dtype="string"), *inner, layers.Dense(2, "softmax")]
    )
    model.save(tmp_path / "m.hmill")
    (tmp_path / "texts.txt").write_text("a good <b> film\n\nso bad\n")
    report = tmp_path / "why.html"
    command = ["explain", str(tmp_path / "m.hmill"), str(tmp_path / "texts.txt"), "--target", "1"]
    for method in ("auto", "integrated_gradients"):
        assert main([*command, "--method", method, "-o", str(report)]) == 0
        said = capsys.readouterr().out
        assert "good" in said
        page = report.read_text()
        assert 'title="' in page
        assert "<b> film" not in page  # text is no markup
        assert page.count("rgba(") >= 4
    found = handmill.explain(model, np.array(["a good film"], object), 1)
    assert found.method.startswith("LIME")
    assert [piece for piece, _ in found.text_of(0)] == ["a", " ", "good", " ", "film"]
    named = handmill.explain(model, np.array(["a good film"], object), 1, "saliency")
    assert named.details["words"] == [["a", "good", "film", "", ""]]
    assert handmill.explain(model, np.array(["a good film"], object), 1, baseline=0).complete


def test_files_that_are_not_what_the_model_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path, layers.Dense(2, "softmax"), shape=(3,))
    folder = tmp_path / "images"
    folder.mkdir()
    images = saved(folder, layers.Flatten(), layers.Dense(2), shape=(4, 4, 1))
    for name, content, words in (
        ("a.csv", "a,b\n1,2\n", "has 2 columns, the model takes 3"),
        ("a.csv", "a,b,c,d\n1,2,3,4\n", "such as the answer: --drop 'd'"),
        ("a.csv", "a,b,c\n1,red,3\n", "row 2, column 'b': 'red' is no number"),
        ("a.csv", "a,b,c\n1,2\n", "row 2: 2 cells, expected 3"),
        ("a.csv", "a,b,c\n", "holds a header, but no rows"),
        ("a.csv", "", "is empty"),
        ("a.csv", "1,2,3\n", "pass --background FILE with rows of the training data"),
        ("a.txt", "hello\n", "holds texts, but the model takes numbers"),
        ("a.png", "", "is an image, but the model takes (None, 3)"),
        ("a.doc", "", "not from .doc"),
    ):
        (tmp_path / name).write_text(content)
        assert main(["explain", model, str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err, name
    (tmp_path / "a.csv").write_text("1,2,3\n")
    assert main(["explain", images, str(tmp_path / "a.csv")]) == 2
    assert "rows of the shape (4, 4, 1): pass an image" in capsys.readouterr().err
