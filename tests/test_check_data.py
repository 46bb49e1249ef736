"""check_data: planted faults are named, clean data are not, bad calls are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import check_data
from handmill.strategy.duplicates import duplicate_groups
from handmill.strategy.inputs import inputs_of
from handmill.strategy.label_checks import chi_square_tail
from handmill.strategy.near_duplicates import nearest
from handmill.strategy.split_checks import distance

Data = tuple[Any, Any]


def table(rows: int = 400, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 5)), rng.integers(0, 3, rows)


def halves(rows: int = 400) -> tuple[Data, Data]:
    x, y = table(rows)
    cut = rows * 3 // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def plant_nan(x: Any, y: Any) -> None:
    x[7, 2] = np.inf


def plant_constant(x: Any, y: Any) -> None:
    x[:, 1] = 3.5


def plant_nearly_constant(x: Any, y: Any) -> None:
    x[:, 1] = 0
    x[5, 1] = 1


def plant_codes(x: Any, y: Any) -> None:
    x[:, 4] = np.arange(len(x)) ** 2 % 7


def plant_ids(x: Any, y: Any) -> None:
    x[:, 0] = np.random.default_rng(1).permutation(len(x)) + 1000


def plant_scales(x: Any, y: Any) -> None:
    x[:, 3] *= 1e4


def plant_repeats(x: Any, y: Any) -> None:
    x[10], y[10] = x[3], y[3]


def plant_conflict(x: Any, y: Any) -> None:
    x[10], y[10] = x[3], (y[3] + 1) % 3


def plant_rare(x: Any, y: Any) -> None:
    y[y == 2] = 0
    y[:5] = 2


def plant_gap(x: Any, y: Any) -> None:
    y[y == 1] = 4


def plant_one_class(x: Any, y: Any) -> None:
    y[:] = 1


def plant_order(x: Any, y: Any) -> None:
    y.sort()


PLANTED = {
    "values.nonfinite": (plant_nan, "error", (7,)),
    "columns.constant": (plant_constant, "warning", ()),
    "columns.nearly_constant": (plant_nearly_constant, "note", ()),
    "columns.codes": (plant_codes, "note", ()),
    "columns.ids": (plant_ids, "warning", ()),
    "columns.scales": (plant_scales, "warning", ()),
    "duplicates.within": (plant_repeats, "note", (10,)),
    "duplicates.conflict": (plant_conflict, "warning", (3, 10)),
    "labels.imbalance": (plant_rare, "warning", ()),
    "labels.numbers": (plant_gap, "warning", ()),
    "labels.constant": (plant_one_class, "error", ()),
    "labels.sorted": (plant_order, "note", ()),
}


@pytest.mark.parametrize("id", PLANTED)
def test_planted_faults_are_named(id: str) -> None:
    plant, level, rows = PLANTED[id]
    x, y = table(2000 if id == "columns.nearly_constant" else 400)
    assert len(check_data(x, y)) == 0
    plant(x, y)
    before = x.copy(), y.copy()
    report = check_data(x, y)
    assert (report[id].level, report[id].rows) == (level, rows)
    with_another = ("duplicates.conflict", "columns.ids")  # also repeated; also of another scale
    assert len(report) == (2 if id in with_another else 1)
    assert np.array_equal(before[0], x)
    assert np.array_equal(before[1], y)


def test_texts_of_findings() -> None:
    x, y = table()
    x[7, 2] = np.nan
    x[:, 3] *= 1e4
    x[9], y[9] = x[4], y[4]
    assert str(check_data(x, y)).splitlines() == [
        "400 rows",
        "error values.nonfinite: 1 values of training are NaN or infinite, first in row 7 at "
        "x[:, 2]. x = numpy.nan_to_num(x), or leave the rows out",
        "warning columns.scales: deviations of columns are 10614 times apart (x[:, 2] 0.96 to "
        "x[:, 3] 1.02e+04). layers.Normalization(), adapted to the training rows",
        "note duplicates.within: 1 rows of training repeat earlier ones (9). "
        "numpy.unique(x, axis=0), or split(), which keeps them together",
    ]
    chinese = str(check_data(x, y, language="zh"))
    assert "错误 values.nonfinite：training 中有 1 个值为 NaN 或无穷" in chinese


def test_rows_in_two_splits_are_an_error() -> None:
    (x, y), (xv, yv) = halves()
    assert check_data(x, y, validation_data=(xv, yv)).ok
    xv[:5] = x[20:25]
    yv[:5] = y[20:25]
    xv[0] = -0.0
    x[20] = 0.0
    report = check_data(x, y, validation_data=(xv, yv))
    assert report["duplicates.across"].rows == tuple((i, 20 + i) for i in range(5))
    assert report["duplicates.across"].level == "error"
    assert "handmill.strategy.split(x, y)" in report["duplicates.across"].remedy()


def test_rows_that_are_equal_by_chance_are_a_note() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (300, 3)).astype(float)
    report = check_data(x[:200], None, validation_data=(x[200:], None), near_duplicates=False)
    assert "duplicates.across" not in report
    assert report["duplicates.chance"].level == "note"


def test_equal_rows_are_found_in_any_form() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 9, 9, 3), dtype=np.uint8)
    images[4] = images[11]
    frame = {"a": rng.normal(size=30), "b": np.array([f"t{i}" for i in range(30)], object)}
    frame["a"][4], frame["b"][4] = frame["a"][11], frame["b"][11]
    half = rng.normal(size=(30, 3)).astype("float32")
    half[4] = half[11] = np.nan
    half[4, 1], half[11, 1] = 0.0, -0.0
    strings = np.array([f"text {i}" for i in range(30)])
    strings[11] = strings[4]
    for x in (images, frame, half, strings, [half, strings]):
        first, second = (
            inputs_of(_rows(x, slice(0, 10)), "x"),
            inputs_of(_rows(x, slice(10, 30)), "x"),
        )
        groups = duplicate_groups([first, second])
        assert np.flatnonzero(groups != np.arange(30)).tolist() == [11]
        assert groups[11] == 4


def _rows(x: Any, which: slice) -> Any:
    if isinstance(x, dict):
        return {key: value[which] for key, value in x.items()}
    return [value[which] for value in x] if isinstance(x, list) else x[which]


def test_nearest_rows_are_exact() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, 3)).astype("float32") for n in (40, 60))
    full = np.sqrt(((a[:, None].astype("float64") - b[None]) ** 2).sum(-1))
    found = nearest(a, b, is_cosine=False)
    assert np.array_equal(found.rows, full.argmin(axis=1))
    np.testing.assert_allclose(found.distances, full.min(axis=1), rtol=1e-5)
    own = np.sqrt(((a[:, None].astype("float64") - a[None]) ** 2).sum(-1))
    np.fill_diagonal(own, np.inf)
    assert np.array_equal(nearest(a, None, is_cosine=False).rows, own.argmin(axis=1))


def test_near_duplicates_of_images_are_named() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (120, 8, 8, 3)).repeat(3, axis=1).repeat(3, axis=2)
    x = (coarse + rng.integers(-20, 20, coarse.shape)).astype(np.uint8)
    y = np.arange(120) % 2
    for i in range(4):  # darker and noisy
        x[100 + i] = x[i] * 0.8 + rng.integers(0, 20, x[i].shape)
    report = check_data(x[:100], y[:100], validation_data=(x[100:], y[100:]))
    assert report["near.across"].rows == tuple((i, i) for i in range(4))
    assert report["near.across"].level == "warning"
    assert report["values.unscaled"].remedy() == "layers.Rescaling(1/255)"
    assert "near.across" not in check_data(
        x[:100], y[:100], validation_data=(x[100:], y[100:]), near_duplicates=False
    )


def test_shifts_of_inputs_texts_and_labels_are_named() -> None:
    (x, y), (xv, yv) = halves()
    report = check_data(x, y, validation_data=(xv + np.eye(5)[2], np.minimum(yv, 1)))
    assert (
        report["shift.inputs"].text().startswith("x[:, 2] is distributed otherwise in validation")
    )
    assert report["shift.inputs"].value == pytest.approx(distance(x[:, 2], xv[:, 2] + 1))
    assert report["shift.labels"].value < 1e-6
    assert report["labels.absent"].level == "warning"
    texts = np.array(["a", "b"], object)[np.arange(300) % 2]
    new = texts[:100].copy()
    new[3] = "c"
    report = check_data({"t": texts}, y, validation_data=({"t": new}, yv))
    assert report["shift.unseen"].value == 0.01
    images = np.random.default_rng(0).integers(0, 200, (100, 6, 6, 3), dtype=np.uint8)
    report = check_data(images[:60], None, validation_data=(images[60:] + np.uint8(50), None))
    assert "the mean of x[..., 0]" in report["shift.inputs"].text()


def test_a_class_that_training_lacks_is_an_error() -> None:
    (x, y), (xv, yv) = halves()
    report = check_data(x, np.minimum(y, 1), validation_data=(xv, yv))
    assert report["labels.absent"].level == "error"
    assert report["labels.absent"].text() == "1 of 3 classes have no row in training (2)"
    one_hot = check_data(x, np.eye(4)[y])
    assert one_hot["labels.absent"].text() == "1 of 4 classes have no row in training (3)"
    assert check_data(x, np.array(["a", "b", "c"])[y]).ok


def test_validation_split_takes_the_last_rows() -> None:
    x, y = table()
    assert check_data(x, y, validation_split=0.2).ok
    report = check_data(x, np.sort(y), validation_split=0.2)
    assert report["labels.split"].level == "error"
    assert report["labels.split"].value == 80


def test_groups_and_time() -> None:
    (x, y), (xv, yv) = halves()
    data = {"validation_data": (xv, yv)}
    groups = {"training": np.arange(300) % 30, "validation": np.arange(100) % 5 + 28}
    report = check_data(x, y, groups=groups, **data)
    assert report["groups.shared"].text().startswith("2 groups have rows in training and in valid")
    assert report["groups.shared"].level == "error"
    days = np.datetime64("2026-01-01") + np.arange(400)
    time = {"training": days[:300], "validation": days[300:]}
    assert check_data(x, y, time=time, **data).ok
    time = {"training": days[30:330], "validation": days[300:]}
    assert check_data(x, y, time=time, **data)["time.order"].value == pytest.approx(29 / 300)


def test_missing_labels_are_named() -> None:
    x, y = table()
    floats = y.astype(float)
    floats[[3, 9]] = np.nan
    assert check_data(x, floats)["labels.missing"].rows == (3, 9)
    texts = np.array(["a", "b", "c"], object)[y]
    texts[4] = None
    assert check_data(x, texts)["labels.missing"].rows == (4,)
    numbers = np.random.default_rng(0).normal(size=400)
    numbers[5] = np.inf
    assert check_data(x, numbers)["labels.missing"].rows == (5,)
    assert check_data(x, np.full(400, 2.5))["labels.constant"].level == "error"


def test_frames_are_looked_at_column_by_column() -> None:
    pandas = pytest.importorskip("pandas", reason="no pandas")
    x, y = table()
    frame = pandas.DataFrame(x, columns=list("abcde"))
    frame["town"] = np.array(["York", "Leeds"])[y % 2]
    frame["id"] = np.arange(400)
    frame.loc[8, "town"] = None
    frame.loc[9, "c"] = np.nan
    report = check_data(frame, pandas.Series(y))
    assert "at c" in report["values.nonfinite"].text()
    assert report["values.missing"].text().startswith("1 texts of town in training are missing")
    assert "(id)" in report["columns.ids"].text()


def wine_scaled(load: Callable[..., Any]) -> Data:
    x, y = load(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


@pytest.mark.slow
def test_clean_data_are_left_alone() -> None:
    """Twenty seeds of four data sets, split by hand: one false warning at most."""
    datasets = pytest.importorskip("sklearn.datasets", reason="no scikit-learn")
    found = []
    for name in ("digits", "iris", "wine", "breast_cancer"):
        load = getattr(datasets, f"load_{name}")
        x, y = wine_scaled(load) if name in ("wine", "breast_cancer") else load(return_X_y=True)
        for seed in range(20):
            order = np.random.default_rng(seed).permutation(len(y))
            a, b = np.split(order, [len(y) * 4 // 5])
            report = check_data(x[a], y[a], validation_data=(x[b], y[b]))
            found += [f"{name} {seed}: {f}" for f in report.at_least("warning")]
    assert len(found) <= 1, found
    raw, y = datasets.load_wine(return_X_y=True)
    assert [f.id for f in check_data(raw, y).at_least("warning")] == ["columns.scales"]


def test_chi_square_tails() -> None:
    """Against R's pchisq(..., lower.tail = FALSE)."""
    cases = ((3.84145882069412, 1, 0.05), (5.99146454710798, 2, 0.05), (100, 9, 1.4856e-17))
    for value, degrees, p in cases:
        assert chi_square_tail(value, degrees) == pytest.approx(p, rel=1e-4)
    assert chi_square_tail(0.0, 3) == 1.0


def refused(text: str, *args: Any, error: type[Exception] = ValueError, **kwargs: Any) -> None:
    with pytest.raises(error, match=re.escape(text)):
        check_data(*args, **kwargs)


def test_bad_calls_are_refused() -> None:
    x, y = table()
    refused("training: expected a target for each row, got 400 rows of x and 399 of y", x, y[1:])
    refused("expected rows of shape (5,) as in x, got (4,)", x, y, validation_data=(x[:, 1:], y))
    refused("validation_data: expected (x, y), got ndarray", x, y, validation_data=x)
    refused(
        "expected targets for every split, but validation has none", x, y, validation_data=(x, None)
    )
    refused("x: expected at least one row, got none", x[:0], y[:0])
    refused("expected an array, a data frame", (row for row in x), y, error=TypeError)
    refused("expected validation_data or validation_split, got both",
            x, y, validation_data=(x, y), validation_split=0.1)  # fmt: skip
    refused(
        "validation_split: expected a fraction between 0 and 1, got 20", x, y, validation_split=20
    )
    refused("expected one of 'classification', 'regression', got 'classes'", x, y, task="classes")
    refused("groups of training: expected 400 values, one a row, got 3", x, y, groups=[1, 2, 3])
    refused("groups: expected a dict {'training': ..., 'validation': ...}",
            x, y, validation_data=(x, y), groups=y)  # fmt: skip
    refused("groups: 'train' is no split; expected some of 'training'", x, y, groups={"train": y})
    refused("time of training: the value of row 2 is missing",
            x, y, time=np.where(np.arange(400) == 2, np.nan, 0.0))  # fmt: skip
    refused("expected 'en' (English) or 'zh' (Chinese), got 'de'", x, y, language="de")
    refused("all its arrays need the same number of rows", {"a": x, "b": x[1:]}, y)
    refused("expected the inputs ['a'] of x, got ['b']", {"a": x}, y, validation_data=({"b": x}, y))


def test_the_package_hands_it_on() -> None:
    assert handmill.check_data is handmill.strategy.check_data
