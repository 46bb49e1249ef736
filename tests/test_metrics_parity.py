"""Every metric against Keras: values over batches, weights, both executors, configs, training."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, metrics
from handmill.metrics.confusion import total_of_segments

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras", reason="Keras is the oracle of these tests")
    pytest.importorskip("jax", reason="Keras runs on JAX in these tests")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

N = 40
RNG = np.random.default_rng(5)
Draw = Callable[[], Any]


@pytest.fixture(autouse=True)
def own_draws(request: Any) -> None:
    """The same data in any order of tests: a number next to a threshold may fall on either side."""
    seeded = np.random.default_rng(zlib.crc32(request.node.name.encode()))
    RNG.bit_generator.state = seeded.bit_generator.state


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


def shares(*shape: int) -> Any:
    return RNG.uniform(0.01, 0.99, size=shape).astype("float32")


def tenths(*shape: int) -> Any:
    """Predictions that often lie on thresholds."""
    return (RNG.integers(0, 11, shape) / 10).astype("float32")


def bits(*shape: int) -> Any:
    return RNG.integers(0, 2, shape)


def classes(*shape: int) -> Any:
    """Class numbers of 0 to 3, and some that are none."""
    return RNG.integers(-1, 5, shape)


def one_hot(rows: int) -> Any:
    return np.eye(4, dtype="float32")[RNG.integers(0, 4, rows)]


Case = tuple[str, dict[str, Any], Draw, Draw]
CASES: dict[str, Case] = {
    "msle": ("MeanSquaredLogarithmicError", {}, lambda: shares(N, 3), lambda: shares(N, 3)),
    "logcosh": ("LogCoshError", {}, lambda: normal(N, 3), lambda: normal(N, 3)),
    "cosine": ("CosineSimilarity", {}, lambda: normal(N, 3), lambda: normal(N, 3)),
    "cosine_axis": (
        "CosineSimilarity",
        {"axis": 1},
        lambda: normal(N, 3, 2),
        lambda: normal(N, 3, 2),
    ),
    "hinge": ("Hinge", {}, lambda: bits(N, 3), lambda: normal(N, 3)),
    "squared_hinge": ("SquaredHinge", {}, lambda: bits(N, 3), lambda: normal(N, 3)),
    "categorical_hinge": ("CategoricalHinge", {}, lambda: one_hot(N), lambda: normal(N, 4)),
    "poisson": ("Poisson", {}, lambda: RNG.integers(0, 5, (N, 3)), lambda: shares(N, 3)),
    "sparse_ignore": (
        "SparseCategoricalCrossentropy",
        {"ignore_class": 1},
        lambda: RNG.integers(0, 3, N),
        lambda: shares(N, 3),
    ),
    "sorted_ids": (
        "SparseTopKCategoricalAccuracy",
        {"k": 2, "from_sorted_ids": True},
        lambda: RNG.integers(0, 3, N),
        lambda: np.argsort(shares(N, 3)),
    ),
    "pearson": ("PearsonCorrelation", {}, lambda: normal(N, 5), lambda: normal(N, 5)),
    "concordance": ("ConcordanceCorrelation", {}, lambda: normal(N, 5), lambda: normal(N, 5)),
    "auc_flat": ("AUC", {}, lambda: bits(N), lambda: tenths(N)),
    "auc_column": ("AUC", {}, lambda: bits(N), lambda: tenths(N, 1)),
    "iou_images": ("MeanIoU", {"num_classes": 4}, lambda: classes(N), lambda: classes(N, 1)),
    "binary_iou": ("BinaryIoU", {}, lambda: bits(N), lambda: tenths(N)),
    "binary_iou_all": (
        "BinaryIoU",
        {"target_class_ids": [1], "threshold": 0.3, "dtype": "float32"},
        lambda: bits(N),
        lambda: tenths(N),
    ),
}


def decisions(arguments: dict[str, Any], kind: str, predictions: Any = tenths) -> Case:
    return kind, arguments, lambda: bits(N, 3), lambda: predictions(N, 3)


def _name(kind: str, arguments: dict[str, Any]) -> str:
    return "-".join([kind, *(f"{k}={v}".replace(" ", "") for k, v in arguments.items())])


for _kind in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives"):
    for _t in (None, 0.3, [0.2, 0.7], [0.0, 0.5, 1.0]):
        CASES[f"{_kind}-{_t}"] = decisions({"thresholds": _t}, _kind)
for _kind in ("Precision", "Recall"):
    for _arguments in (
        {},
        {"thresholds": [0.2, 0.7]},
        {"thresholds": [0.0, 0.25, 0.5, 0.75, 1.0]},
        {"top_k": 2},
        {"class_id": 1},
        {"class_id": -1, "top_k": 2, "thresholds": [0.3, 0.6]},
    ):
        CASES[_name(_kind, _arguments)] = decisions(_arguments, _kind)
for _curve in ("ROC", "PR", "PRGAIN"):
    for _method in ("interpolation", "minoring", "majoring"):
        for _more in (
            {"num_thresholds": 5},
            {"thresholds": [0.1, 0.2, 0.9], "label_weights": [0.1, 0.5, 0.4]},
            {"multi_label": True, "num_labels": 3, "label_weights": [0.1, 0.5, 0.4]},
        ):
            _arguments = {"curve": _curve, "summation_method": _method, **_more}
            CASES[_name("AUC", _arguments)] = decisions(_arguments, "AUC")
CASES["auc_logits"] = decisions({"from_logits": True}, "AUC", normal)
CASES["auc_labels"] = decisions({"multi_label": True, "thresholds": [0.3, 0.4]}, "AUC")
for _kind in (
    "SensitivityAtSpecificity",
    "SpecificityAtSensitivity",
    "PrecisionAtRecall",
    "RecallAtPrecision",
):
    _asked = _kind.rsplit("At", 1)[1].lower()
    for _arguments in (
        {_asked: 0.5},
        {_asked: 0.9, "class_id": 2},
        {_asked: 0.3, "num_thresholds": 1},
    ):
        CASES[_name(_kind, _arguments)] = decisions(_arguments, _kind)
for _average in (None, "micro", "macro", "weighted"):
    CASES[f"f1-{_average}"] = decisions({"average": _average}, "F1Score")
    CASES[f"fbeta-{_average}"] = decisions(
        {"average": _average, "beta": 2.5, "threshold": 0.6}, "FBetaScore"
    )
for _i, _arguments in enumerate(({}, {"ignore_class": 2}, {"dtype": "float32"})):
    _some = {"num_classes": 4, "target_class_ids": [0, 3], **_arguments}
    _all = {"num_classes": 4, **_arguments}
    CASES[f"iou-{_i}"] = ("IoU", _some, lambda: classes(N), lambda: classes(N))
    CASES[f"mean_iou-{_i}"] = (
        "MeanIoU",
        {**_all, "sparse_y_pred": False},
        lambda: classes(N),
        lambda: shares(N, 4),
    )
    CASES[f"one_hot_iou-{_i}"] = ("OneHotIoU", _some, lambda: one_hot(N), lambda: shares(N, 4))
    CASES[f"one_hot_mean_iou-{_i}"] = (
        "OneHotMeanIoU",
        {**_all, "sparse_y_pred": True},
        lambda: one_hot(N),
        lambda: classes(N),
    )
for _how in (None, "uniform_average", "variance_weighted_average"):
    for _regressors in (0, 2, 1000):
        CASES[f"r2-{_how}-{_regressors}"] = (
            "R2Score",
            {"class_aggregation": _how, "num_regressors": _regressors},
            lambda: normal(N, 3),
            lambda: normal(N, 3),
        )
CASE = pytest.mark.parametrize("case", CASES)


def made(library: Any, case: str) -> Any:
    name, arguments, *_ = CASES[case]
    return getattr(library.metrics, name)(**arguments)


@pytest.mark.parametrize("weighted", (False, True), ids=("plain", "weighted"))
@CASE
def test_values(case: str, weighted: bool) -> None:
    *_, targets, predictions = CASES[case]
    theirs = made(keras, case)
    ours = {backend: made(handmill, case) for backend in ("native", "numpy")}
    for _ in range(3):
        y, p, weights = targets(), predictions(), 2 * shares(N) if weighted else None
        theirs.update_state(y, p, weights)
        want = np.asarray(theirs.result())
        for backend, metric in ours.items():
            with handmill.use_backend(backend):
                metric.update_state(y, p, weights)
                got = metric.result()
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6, err_msg=backend)
            assert np.shape(got) == want.shape
    ours["native"].reset_state()
    assert all(not v.numpy().any() for v in ours["native"].variables)


@CASE
def test_configs(case: str) -> None:
    theirs, ours = made(keras, case), made(handmill, case)
    *_, targets, predictions = CASES[case]
    y, p = targets(), predictions()
    theirs.update_state(y, p)
    want = ours(y, p)
    again = metrics.get(metrics.serialize(ours))
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
    np.testing.assert_array_equal(again(y, p), want)
    if case != "cosine_axis":  # whose `axis` Keras forgets
        np.testing.assert_array_equal(type(ours).from_config(theirs.get_config())(y, p), want)
    if not hasattr(ours, "total"):  # means have sums of their own kind
        assert [v.name for v in ours.variables] == [v.name for v in theirs.variables]


@pytest.mark.parametrize("dtype", ("bfloat16", "float64"))
def test_dtype_of_means_and_sums(dtype: str) -> None:
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    for metric in (metrics.Mean(dtype=dtype), metrics.Sum(dtype=dtype), metrics.Hinge(dtype=dtype)):
        metric.update_state(*(np.array([1.0, 2.5]),) * (1 + isinstance(metric, metrics.Hinge)))
        assert str(metric.result().dtype) == metric.dtype == metric.get_config()["dtype"] == dtype
    model = handmill.Sequential([handmill.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[metrics.MeanAbsoluteError(name="m", dtype=dtype)])
    seen = model.evaluate(normal(8, 2), normal(8, 1), verbose=0, return_dict=True)["m"]
    (metric,) = model.metrics[1].metrics
    assert seen == float(metric.result())
    assert len(metrics.Sum().variables) == 1


def test_arguments_are_attributes() -> None:
    metric = metrics.TopKCategoricalAccuracy(k=2)
    y, p = one_hot(N), shares(N, 4)
    assert metric.k == 2
    metric.k = 3
    assert metric(y, p) == metrics.TopKCategoricalAccuracy(k=3)(y, p)
    assert metrics.SparseTopKCategoricalAccuracy().from_sorted_ids is False


def test_names_are_those_of_keras() -> None:
    for name in ("auc", "AUC", "f1_score", "precision", "true_positives", "msle", "log_cosh_error"):
        theirs, ours = keras.metrics.get(name), metrics.get(name)
        assert type(ours).__name__ == type(theirs).__name__
        assert set(ours.get_config()) == set(theirs.get_config())
    assert metrics.AUC().name.startswith("auc")
    assert metrics.MeanIoU(2).name.startswith("mean_io_u")


FAMILIES: dict[str, Callable[[Any], list[Any]]] = {
    "decisions": lambda m: [
        "AUC",
        m.AUC(curve="PR", name="pr"),
        m.AUC(multi_label=True, name="labels"),
        m.Precision(name="precision"),
        m.Recall(class_id=1, name="recall"),
        m.Precision(top_k=2, name="top"),
        m.TruePositives(thresholds=[0.4, 0.5, 0.6], name="tp"),
        m.SensitivityAtSpecificity(0.6, name="at"),
    ],
    "scores": lambda m: [
        m.F1Score(threshold=0.5),
        m.FBetaScore(average="weighted", beta=2.0),
        m.R2Score(),
        m.PearsonCorrelation(),
        m.OneHotMeanIoU(num_classes=3, name="iou"),
        m.BinaryIoU(name="binary"),
        m.CategoricalHinge(),
        m.CosineSimilarity(),
    ],
}


def network(library: Any, weights: Any, given: list[Any], weighted: list[Any]) -> Any:
    dense = library.layers.Dense(3, activation="sigmoid", name="dense")
    model = library.Sequential([library.Input((4,)), dense])
    model.set_weights(weights)
    model.compile(
        library.optimizers.SGD(0.5),
        "binary_crossentropy",
        metrics=given,
        weighted_metrics=weighted,
    )
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_training(family: str, tmp_path: Path) -> None:
    x, start, weight = normal(60, 4), [normal(4, 3), normal(3)], shares(60)
    y = (x[:, :3] + 0.5 * normal(60, 3) > 0).astype("float32")
    fit = {"batch_size": 20, "epochs": 2, "shuffle": False, "verbose": 0}
    found = {}
    for library in (keras, handmill):
        make = FAMILIES[family]
        weighted = make(library.metrics)[:1] if family == "scores" else []
        model = network(library, start, make(library.metrics), weighted)
        history = model.fit(x, y, sample_weight=weight, validation_data=(x, y), **fit).history
        seen = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
        found[library] = history, seen
    for got, want in zip(found[handmill], found[keras], strict=True):
        assert set(got) == set(want)
        for name in want:
            np.testing.assert_allclose(
                got[name], np.asarray(want[name]), rtol=2e-5, atol=1e-5, err_msg=name
            )
    assert model.profile(x, y, batch_size=20).host_nodes == 0
    model.save(tmp_path / "model.hmill")
    again = handmill.models.load_model(tmp_path / "model.hmill")
    seen = again.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    for name, value in found[handmill][1].items():
        np.testing.assert_array_equal(seen[name], value)
    for change in ("numpy", "eagerly"):
        with handmill.use_backend("numpy" if change == "numpy" else "native"):
            other = network(handmill, start, make(metrics), make(metrics)[: len(weighted)])
            other.run_eagerly = change == "eagerly"
            history = other.fit(x, y, sample_weight=weight, validation_data=(x, y), **fit).history
        for name, values in found[handmill][0].items():
            np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_models_of_equal_structure_count_each_for_itself() -> None:
    """The second one takes the trace of the first, whose metrics are built by then."""
    x, start = normal(30, 4), [normal(4, 3), normal(3)]
    y = bits(30, 3).astype("float32")

    def scores(rows: Any) -> dict[str, Any]:
        given = [metrics.F1Score(name="f"), metrics.AUC(multi_label=True, name="a")]
        model = network(handmill, start, [*given, metrics.R2Score(name="r")], [])
        return model.evaluate(x[rows], y[rows], verbose=0, return_dict=True)

    first, second = scores(slice(0, 15)), scores(slice(15, 30))
    again = scores(slice(0, 15))
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
    assert second["a"] != first["a"]


def test_area_under_the_curve_costs_few_launches() -> None:
    x, start = normal(64, 4), [normal(4, 3), normal(3)]
    y = bits(64, 3).astype("float32")
    plain = network(handmill, start, ["accuracy"], []).profile(x, y, batch_size=32)
    found = network(handmill, start, ["accuracy", "AUC"], []).profile(x, y, batch_size=32)
    assert found.host_nodes == 0
    assert len(found.launches) - len(plain.launches) <= 18


def test_masked_steps_are_left_out_of_means() -> None:
    x, start = normal(10, 5, 4), [normal(4, 3), normal(3)]
    x[0, 3:] = x[2] = 0.0
    y = bits(10, 5, 3).astype("float32")
    seen = []
    for library in (keras, handmill):
        dense = library.layers.Dense(3, activation="sigmoid", name="dense")
        model = library.Sequential([library.Input((5, 4)), library.layers.Masking(), dense])
        model.set_weights(start)
        given = [
            library.metrics.CosineSimilarity(),
            library.metrics.SquaredHinge(),
            library.metrics.PearsonCorrelation(),
        ]
        model.compile("sgd", "mse", metrics=given)
        seen.append(model.evaluate(x, y, verbose=0, return_dict=True))
    for name, value in seen[0].items():
        np.testing.assert_allclose(seen[1][name], value, rtol=1e-5, err_msg=name)


def test_steps_of_any_length_are_counted() -> None:
    """Lengths that only a call knows: as many class numbers as there are steps."""
    model = handmill.Sequential([handmill.Input((None, 4)), layers.Dense(4, activation="softmax")])
    iou = metrics.MeanIoU(4, sparse_y_pred=False, name="iou")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[iou])
    for length in (5, 7):
        x, y = normal(6, length, 4), RNG.integers(0, 4, (6, length))
        want = metrics.MeanIoU(4, sparse_y_pred=False)
        want.update_state(y, model(x))
        got = model.evaluate(x, y, verbose=0, return_dict=True)["iou"]
        assert got == pytest.approx(float(want.result()), rel=1e-6)
    matrix = want.total_cm.numpy()
    assert matrix.dtype == np.int64
    assert matrix.sum() == 42


@pytest.mark.parametrize("kind", (metrics.AUC, metrics.Precision, metrics.F1Score))
def test_metrics_of_bfloat16_predictions(kind: Any) -> None:
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    dense = layers.Dense(3, activation="sigmoid", dtype="mixed_bfloat16")
    model = handmill.Sequential([handmill.Input((4,)), dense])
    model.compile("sgd", "binary_crossentropy", metrics=[kind(name="m")])
    x, y = normal(32, 4), bits(32, 3).astype("float32")
    want = kind()
    want.update_state(y, np.asarray(model(x), "float32"))
    got = model.evaluate(x, y, verbose=0, return_dict=True)["m"]
    np.testing.assert_allclose(got, want.result(), rtol=1e-6)


def test_counts_beyond_float32_stay_exact() -> None:
    """float32 ends at 2^24 when it counts by ones."""
    rows = (1 << 24) + 1000
    segments = np.zeros(rows, "int32")
    segments[:7], segments[7:9], segments[9] = 1, -1, 2
    np.testing.assert_array_equal(total_of_segments(segments, None, 2), [rows - 10, 7])


@pytest.mark.parametrize("thresholds", (None, [0.2, 0.4], [0.0, 0.5, 1.0]))
def test_nan_is_never_above_a_threshold(thresholds: Any) -> None:
    y, p = [1, 1, 0, 0], [math.nan, 0.9, math.nan, 0.1]
    for kind, want in (
        (metrics.TruePositives, 1.0),
        (metrics.FalsePositives, 0.0),
        (metrics.FalseNegatives, 1.0),
        (metrics.TrueNegatives, 2.0),
    ):
        metric = kind(thresholds=thresholds)
        metric.update_state(y, p)
        middle = np.atleast_1d(metric.result())[1 if thresholds else 0]
        assert middle == want


def test_what_is_refused() -> None:
    cases: list[tuple[str, Callable[[], Any]]] = [
        (r"Threshold values must be in \[0, 1\]", lambda: metrics.Precision(thresholds=[0.5, 2])),
        (r"Threshold values must be in \[0, 1\]", lambda: metrics.TrueNegatives(thresholds=-0.1)),
        ('Invalid AUC curve value: "x"', lambda: metrics.AUC(curve="x")),
        ("Invalid AUC summation method", lambda: metrics.AUC(summation_method="x")),
        ("`num_thresholds` must be an integer > 1", lambda: metrics.AUC(num_thresholds=1)),
        ("only when `multi_label` is True", lambda: metrics.AUC(num_labels=3)),
        ("rank 2", lambda: metrics.AUC(multi_label=True).update_state([0, 1], [0.1, 0.2])),
        ("`recall` must be in the range", lambda: metrics.PrecisionAtRecall(1.5)),
        (
            "`num_thresholds` must be an integer > 0",
            lambda: metrics.SensitivityAtSpecificity(0.5, num_thresholds=0),
        ),
        ("Invalid `average` argument", lambda: metrics.F1Score(average="x")),
        ("should be a Python float", lambda: metrics.FBetaScore(beta=2)),
        ("should be > 0", lambda: metrics.FBetaScore(beta=-1.0)),
        ("0 < threshold <= 1", lambda: metrics.F1Score(threshold=1.5)),
        ("FBetaScore expects 2D", lambda: metrics.FBetaScore().update_state([0, 1], [0.1, 0.2])),
        ("no result before its first batch", lambda: metrics.F1Score().result()),
        ("Target class id 4 is out of range", lambda: metrics.IoU(4, [0, 4])),
        ("Target class id -1 is out of range", lambda: metrics.IoU(4, [-1, 2])),
        ("`class_aggregation`", lambda: metrics.R2Score(class_aggregation="x")),
        ("`num_regressors`", lambda: metrics.R2Score(num_regressors=-1)),
        (
            "class_id=3 is out of range: there are 3 classes",
            lambda: metrics.Recall(class_id=3).update_state(bits(4, 3), shares(4, 3)),
        ),
        (
            "When class_id is provided",
            lambda: metrics.Recall(class_id=0).update_state(bits(4), shares(4)),
        ),
        (
            "top_k=4 is out of range",
            lambda: metrics.Precision(top_k=4).update_state(bits(4, 3), shares(4, 3)),
        ),
        (
            r"targets of shape \(4,\) do not fit predictions of shape \(4, 3\)",
            lambda: metrics.Precision().update_state(bits(4), shares(4, 3)),
        ),
        (
            "3 and 4 elements do not fit",
            lambda: metrics.MeanIoU(2).update_state(bits(3), bits(4)),
        ),
    ]
    for text, call in cases:
        with pytest.raises(ValueError, match=text):
            call()


def test_a_metric_keeps_to_the_width_of_its_first_batch() -> None:
    for metric in (metrics.F1Score(), metrics.R2Score(), metrics.AUC(multi_label=True)):
        metric.update_state(bits(4, 3), shares(4, 3))
        before = [v.numpy() for v in metric.variables]
        with pytest.raises(ValueError, match="counts 3"):
            metric.update_state(bits(4, 2), shares(4, 2))
        for variable, value in zip(metric.variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_warnings_of_keras() -> None:
    with pytest.warns(UserWarning, match="weight as `float`"):
        metrics.MeanIoU(2).update_state([0, 1], [0, 1], np.array([0.5, 2.0], "float32"))
    for regressors, text in ((7, "Division by zero"), (9, "More independent predictors")):
        metric = metrics.R2Score(num_regressors=regressors)
        metric.update_state(normal(4, 2), normal(4, 2))
        with pytest.warns(UserWarning, match=text):
            metric.result()
