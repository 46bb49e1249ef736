"""flow_from_dataframe of tables of pandas and polars, against Keras's own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handmill.preprocessing.image import ImageDataGenerator

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::handmill.errors.KerasDifferenceWarning"),
]

FILES = [*(f"{i}.png" for i in range(9)), "absent.png", "note.txt"]
SETTINGS = {
    "rotation_range": 10,
    "channel_shift_range": 20.0,
    "brightness_range": (0.5, 1.5),
    "validation_split": 0.3,
}
MODES: tuple[dict[str, Any], ...] = (
    {},
    {"class_mode": "sparse", "weight_col": "weight"},
    {"class_mode": "binary", "classes": ["a", "b"]},
    {"class_mode": "raw", "y_col": ["value", "weight"]},
    {"class_mode": "multi_output", "y_col": ["value", "weight"]},
    {"class_mode": "input"},
    {"class_mode": None, "color_mode": "grayscale", "interpolation": "bilinear"},
    {"y_col": "several"},
    {"classes": ["c", "a"], "subset": "training"},
    {"class_mode": "sparse", "subset": "validation"},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for name in FILES[:9]:
        image.fromarray(rng.integers(0, 256, (8, 9, 3)).astype("uint8")).save(path / name)
    return path


def table() -> dict[str, list[Any]]:
    return {
        "filename": FILES,
        "class": list("abcabcabcab"),
        "several": [*([["a"], ["a", "b"]] * 5), ["c"]],
        "value": [float(i) for i in range(11)],
        "weight": [i / 3 for i in range(11)],
    }


def same(got: Any, expected: Any) -> None:
    if isinstance(expected, list | tuple):
        for mine, theirs in zip(got, expected, strict=True):
            same(mine, theirs)
        return
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=0.05)


@pytest.mark.parametrize("library", ("pandas", "polars"))
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_tables_give_the_batches_of_keras(folder: Path, mode: dict[str, Any], library: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("scipy", reason="Keras warps with scipy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = pytest.importorskip("keras.src.legacy.preprocessing.image")
    frame = pytest.importorskip(library).DataFrame(table())
    arguments = {"directory": str(folder), "target_size": (6, 7), "batch_size": 4, "seed": 5} | mode
    ours = ImageDataGenerator(**SETTINGS, compat="keras3").flow_from_dataframe(frame, **arguments)
    theirs = oracle.ImageDataGenerator(**SETTINGS).flow_from_dataframe(
        pandas.DataFrame(table()), **arguments
    )
    assert list(ours.filenames) == list(theirs.filenames)
    assert getattr(ours, "class_indices", None) == getattr(theirs, "class_indices", None)
    for _ in range(len(theirs) + 1):
        same(next(ours), next(theirs))
    ours.close()


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"file": ["0.png"], "kind": ["a"]})
    flow = ImageDataGenerator().flow_from_dataframe
    for given, problem in (
        ({}, "x_col: .* no column 'filename'; it has .*'file', 'kind'"),
        ({"x_col": "file"}, "y_col: .* no column 'class'"),
        ({"x_col": "file", "y_col": ["kind", "b"], "class_mode": "raw"}, "y_col: .* column 'b'"),
        ({"x_col": "file", "y_col": "kind", "weight_col": "w"}, "weight_col: .* column 'w'"),
    ):
        with pytest.raises(KeyError, match=problem):
            flow(frame, tmp_path, **given)
