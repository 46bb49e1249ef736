"""``handmill.diagnose``: faults are named, and the model stays as it was, bit by bit."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, naming, random
from handmill.cli import main
from handmill.datasets import digits
from handmill.strategy import trial_checks
from handmill.strategy.findings import Report

EPOCHS = 6


def data() -> tuple[Any, Any, Any, Any]:
    (x, y), (x_val, y_val) = digits.load_data()
    scale = np.float32(16)
    return x.reshape(-1, 64) / scale, y, x_val.reshape(-1, 64) / scale, y_val


def net(units: int = 32, rate: float = 0.01, activation: str = "relu", seed: int = 0) -> Any:
    handmill.utils.set_random_seed(seed)
    model = handmill.Sequential(
        [
            handmill.Input((64,)),
            layers.Dense(units, activation),
            layers.Dense(10, "softmax"),
        ]
    )
    model.compile(handmill.optimizers.Adam(rate), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def fit(model: Any, *data: Any, **arguments: Any) -> None:
    """Trains without a word: ``fit`` warns of some faults too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", handmill.TrainingWarning)
        model.fit(*data, verbose=0, **arguments)


def state(model: Any) -> Any:
    """All that a diagnosis may not change."""
    held = [*model.variables, *model.optimizer.variables]
    held += [v for metric in model.metrics for v in metric.variables]
    content = [(v.path, v.numpy().tobytes(), v.trainable) for v in held]
    own = model.history, model._shuffle and list(model._shuffle), model.stop_training
    around = random.state(), dict(naming._counts), np.random.get_state()[1].tobytes()  # noqa: NPY002
    return content, own, around


def ids(report: Report) -> set[str]:
    return {finding.id for finding in report.at_least("warning")}


@pytest.fixture(scope="module")
def clean() -> tuple[Any, Report]:
    x, y, x_val, y_val = data()
    model = net()
    fit(model, x, y, epochs=EPOCHS)
    return model, handmill.diagnose(model, x, y, (x_val, y_val), seeds=3)


def test_a_good_model_has_no_warning(clean: Any) -> None:
    _, report = clean
    assert report.ok, str(report)
    assert report["overfit.batch"].level == "ok"
    assert report["fit.gap"].interval[0] < report["fit.gap"].value < report["fit.gap"].interval[1]
    assert 0 < report.numbers["validation_error"] < report.numbers["baselines"]["constant"]
    assert report.translated("zh").findings == report.findings
    json.loads(report.to_json())


@pytest.mark.slow
def test_the_model_and_what_is_around_it_stay_as_they_were() -> None:
    x, y, x_val, y_val = data()

    def trained(diagnosed: bool) -> Any:
        handmill.utils.set_random_seed(1)
        inside = handmill.Sequential([layers.Dense(16), layers.BatchNormalization(), layers.ReLU()])
        model = handmill.Sequential(
            [handmill.Input((64,)), inside, layers.Dropout(0.2), layers.Dense(10, "softmax")]
        )
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        fit(model, x[:320], y[:320], epochs=3)
        if diagnosed:
            before = state(model)
            handmill.diagnose(
                model, x[:320], y[:320], (x_val[:64], y_val[:64]), seeds=3, experiments=True
            )
            assert state(model) == before
        fit(model, x[:320], y[:320], epochs=1)
        return model

    for one, other in zip(trained(True).get_weights(), trained(False).get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("error", (KeyboardInterrupt, RuntimeError))
def test_an_error_inside_leaves_everything_too(error: Any, monkeypatch: Any) -> None:
    x, y, x_val, y_val = data()
    model = net()
    fit(model, x[:64], y[:64])

    def stop(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(trial_checks, "noise", stop)
    before = state(model)
    with pytest.raises(error):
        handmill.diagnose(model, x[:64], y[:64], (x_val, y_val), seeds=3)
    assert state(model) == before


@pytest.mark.slow
def test_dead_units_and_a_single_class_are_named() -> None:
    x, y, x_val, y_val = data()
    model = net()
    weights = model.get_weights()
    weights[1][:] = -100
    model.set_weights(weights)
    fit(model, x[:320], y[:320])
    report = handmill.diagnose(model, x[:320], y[:320], (x_val, y_val), seeds=3)
    assert {"units.dead", "one.class", "base.constant"} <= ids(report)
    assert report["units.dead"].value == 1.0
    assert report["units.dead"].text() == (
        "layer 'dense': 100% of 32 ReLU units gave 0 for each of 320 rows"
    ).replace("'dense'", repr(model.layers[0].name))


@pytest.mark.slow
def test_labels_of_other_rows_are_named() -> None:
    x, y, x_val, y_val = data()
    y = y[np.random.default_rng(0).permutation(len(y))]
    model = net(8)
    fit(model, x, y, batch_size=128, epochs=2)
    report = handmill.diagnose(model, x, y, (x_val, y_val), seeds=3)
    assert report["shuffle.labels"].level == "error"
    assert report["shuffle.labels"].value > 0.05


def test_a_bottleneck_and_too_few_epochs_are_named() -> None:
    x, y, x_val, y_val = data()
    model = net(3)
    fit(model, x, y, epochs=EPOCHS)
    report = handmill.diagnose(model, x, y, (x_val, y_val), seeds=4)
    assert {"base.knn", "capacity.up"} <= ids(report)
    low, high = report["capacity.up"].interval
    assert 0 < low < report["capacity.up"].value < high
    model = net(rate=0.002)
    fit(model, x, y, epochs=1)
    assert "steps.more" in ids(handmill.diagnose(model, x, y, (x_val, y_val), seeds=4))


@pytest.mark.slow
def test_wrong_labels_are_named_with_their_rows() -> None:
    x, y, x_val, y_val = data()
    generator = np.random.default_rng(0)
    flipped = generator.random(len(y)) < 0.1
    y = np.where(flipped, (y + generator.integers(1, 10, len(y))) % 10, y)
    model = net()
    fit(model, x, y, epochs=3)
    finding = handmill.diagnose(model, x, y, (x_val, y_val), seeds=3)["labels.noise"]
    assert np.mean(flipped[list(finding.rows)]) > 0.9
    assert len(finding.rows) > 0.8 * flipped.sum()


def test_overfitting_is_what_copies_do_on_rows_that_did_not_choose_the_epoch() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 20)).astype("float32")
    y = ((x[:, 0] + generator.normal(size=400)) > 0).astype("int32")  # much of y is chance
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [handmill.Input((20,)), layers.Dense(64, "relu"), layers.Dense(2, "softmax")]
    )
    model.compile(handmill.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    fit(model, x[:100], y[:100], epochs=30)
    report = handmill.diagnose(model, x[:100], y[:100], (x[100:], y[100:]), seeds=4)
    finding = report["overfits"]
    assert finding.interval[0] > 0.1
    assert finding.facts["best"] < 20


def test_rows_that_are_mixed_are_named() -> None:
    handmill.utils.set_random_seed(0)
    inputs = handmill.Input((4,))
    mixed = layers.Lambda(lambda t: t - handmill.ops.mean(t, axis=0, keepdims=True))(inputs)
    model = handmill.Model(inputs, layers.Dense(1)(mixed))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    report = handmill.diagnose(model, x, x[:, :1])
    assert report["wiring.batch"].level == "error"
    assert {"not.trained", "validation.none"} <= {f.id for f in report}


@pytest.mark.slow
def test_gradients_that_vanish_and_units_at_their_ends_are_named() -> None:
    x, y, _, _ = data()
    handmill.utils.set_random_seed(0)
    deep = [layers.Dense(16, "sigmoid") for _ in range(8)]
    model = handmill.Sequential([handmill.Input((64,)), *deep, layers.Dense(10, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    report = handmill.diagnose(model, x[:200], y[:200])
    assert report["gradient.vanishes"].value < 1e-3
    model = net(activation="tanh")
    report = handmill.diagnose(model, x[:200] * 1000, y[:200])
    assert {"units.saturated", "init.loss"} & ids(report) == {"units.saturated"}


@pytest.mark.slow
def test_steps_that_are_too_large_are_named() -> None:
    x, y, x_val, y_val = data()
    model = net(rate=0.3)
    fit(model, x, y, epochs=EPOCHS)
    begun = time.process_time()
    # The budget is one of wall time, of which a busy machine takes its part.
    report = handmill.diagnose(model, x, y, (x_val, y_val), seeds=3, budget=600)
    assert time.process_time() - begun < 10  # the budget that is the default
    assert "rate.high" in ids(report)


@pytest.mark.slow
def test_numbers_binary_labels_and_several_inputs_are_diagnosed() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 4)).astype("float32")
    y = (x @ np.ones((4, 1), "float32")) + 0.1
    handmill.utils.set_random_seed(0)
    inputs = [handmill.Input((4,)), handmill.Input((4,))]
    hidden = layers.Dense(8, "relu")(layers.Concatenate()(inputs))
    both = handmill.Model(inputs, layers.Dense(1)(hidden))
    both.compile(handmill.optimizers.Adam(0.01), "mse")
    fit(both, [x[:200], x[:200]], y[:200], epochs=20)
    report = handmill.diagnose(
        both, [x[:200], x[:200]], y[:200], ([x[200:], x[200:]], y[200:]), seeds=3
    )
    assert "fit.gap" in report
    for loss, last, targets in (("mse", None, y), ("binary_crossentropy", "sigmoid", y > 0)):
        model = handmill.Sequential([handmill.Input((4,)), layers.Dense(1, last)])
        model.compile(handmill.optimizers.Adam(0.05), loss)
        t = targets.astype("float32")
        fit(model, x[:200], t[:200], epochs=20)
        report = handmill.diagnose(model, x[:200], t[:200], (x[200:], t[200:]), seeds=3)
        assert "base.linear" not in ids(report)
        assert report.numbers["validation_error"] < report.numbers["baselines"]["constant"]


def test_a_model_that_cannot_be_made_anew_is_read_only() -> None:
    class Own(handmill.Model):
        def __init__(self, secret: object) -> None:
            super().__init__()
            self.secret = secret
            self.dense = layers.Dense(2, "softmax")

        def call(self, x: Any) -> Any:
            return self.dense(x)

    handmill.utils.set_random_seed(0)
    model = Own(object())
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    fit(model, x, y)
    before = state(model)[0]
    report = handmill.diagnose(model, x, y, (x, y))
    assert report["copy.none"].level == "note"
    assert "overfit.batch" not in report
    assert state(model)[0] == before


def test_few_validation_rows_cannot_tell() -> None:
    x, y, x_val, y_val = data()
    model = net()
    fit(model, x[:320], y[:320])
    report = handmill.diagnose(model, x[:320], y[:320], (x_val[:20], y_val[:20]), seeds=3)
    assert report["validation.few"].text() == (
        "20 validation rows are fewer than 50: cannot tell over- from underfitting, an error rate "
        "is known to +-22% only"
    )
    assert "fit.gap" not in report


def test_numbers_that_are_not_finite_are_found_first() -> None:
    x, y, x_val, y_val = data()
    model = net()
    x = x.copy()
    x[7, 3] = np.nan
    report = handmill.diagnose(model, x, y, (x_val, y_val))
    assert [f.line() for f in report] == [
        "error values.nonfinite: 1 values of training are NaN or infinite, first in row 7 at "
        "x[:, 3]. x = numpy.nan_to_num(x), or leave the rows out"
    ]
    with pytest.raises(handmill.strategy.FindingError, match="first in row 7"):
        report.raise_if()


def test_targets_that_are_all_alike_are_said_first() -> None:
    x, y, _, _ = data()
    report = handmill.diagnose(net(), x, np.full_like(y, 3))
    assert [f.line() for f in report] == [
        "error labels.constant: all 1438 targets of training are 3: there is nothing to learn. "
        "collect rows of another class"
    ]


def test_bad_arguments_are_refused_with_what_was_expected() -> None:
    x, y, _, _ = data()
    model = net()
    loose = handmill.Sequential([handmill.Input((64,)), layers.Dense(10)])
    two = handmill.Model(inputs := handmill.Input((64,)), [layers.Dense(1)(inputs)] * 2)
    two.compile("sgd", ["mse", "mse"])
    for given, kind, text in (
        ((loose, x, y), ValueError, "diagnose() needs a compiled model"),
        ((model, x, y[:-1]), ValueError, "must have equally many rows. Received: x of shape (1438"),
        ((model, x[:0], y[:0]), ValueError, "x, y: expected at least one row, received none"),
        ((model, x, None), ValueError, "x, y: expected inputs and targets"),
        ((model, iter([x]), y), TypeError, "x, y: expected arrays, received list_iterator"),
        ((model, x, y, x), TypeError, "validation_data: expected (x, y), received ndarray"),
        ((two, x, y), ValueError, "expected a model of one output and one loss"),
    ):
        with pytest.raises(kind) as caught:
            handmill.diagnose(*given)
        assert text in str(caught.value)
    with pytest.raises(ValueError, match="seeds"):
        handmill.diagnose(model, x, y, seeds=2)
    with pytest.raises(ValueError, match="expected 'en' \\(English\\) or 'zh'"):
        handmill.diagnose(model, x, y, language="de")
    with pytest.raises(ValueError, match="budget"):
        handmill.diagnose(model, x, y, budget=float("nan"))
    with pytest.raises(ValueError, match="`budget` must be seconds, 0 or more"):
        handmill.diagnose(model, x, y, budget=-1)


def test_a_budget_that_is_too_small_is_said() -> None:
    x, y, x_val, y_val = data()
    model = net()
    fit(model, x, y, epochs=2)
    report = handmill.diagnose(model, x, y, (x_val, y_val), budget=1e-6)
    assert "some copies were not trained" in report["budget"].text()
    assert "labels.noise" not in report


@pytest.mark.slow
def test_the_command_line_prints_a_report(tmp_path: Path, capsys: Any) -> None:
    x, y, x_val, y_val = data()
    model = net()
    fit(model, x, y, epochs=EPOCHS)
    file, arrays = str(tmp_path / "digits.hmill"), str(tmp_path / "digits.npz")
    model.save(file)
    np.savez(arrays, x=x, y=y, x_val=x_val, y_val=y_val)
    content = Path(file).read_bytes()
    assert main(["diagnose", file, arrays, "--seeds", "3"]) == 0
    assert "ok overfit.batch: 32 rows alone are learnt by heart" in capsys.readouterr().out
    np.savez(arrays, x=x * 1000, y=y)
    assert main(["diagnose", file, arrays, "--seeds", "3", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {"init.loss", "validation.none"} <= {f["id"] for f in told["findings"]}
    assert Path(file).read_bytes() == content
    np.savez(arrays, x=x, labels=y)
    np.save(tmp_path / "x.npy", x)
    for given, text in (
        ((file, arrays), "expected arrays x and y, and for validation x_val and y_val; it holds: "),
        ((file, str(tmp_path / "x.npy")), "expected an .npz file of several arrays"),
        ((file, str(tmp_path / "absent.npz")), "absent.npz"),
        ((str(tmp_path / "absent.hmill"), arrays), "absent.hmill"),
    ):
        assert main(["diagnose", *given]) == 2
        assert text in capsys.readouterr().err
