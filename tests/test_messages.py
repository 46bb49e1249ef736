"""Errors and warnings say what is wrong and what to do."""

from __future__ import annotations

import io
import os
import sys
import warnings

import numpy as np
import pytest

import handmill as hm
from handmill import layers, models
from handmill.errors import TrainingWarning
from handmill.keras_names import KERAS_NAMES

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")


def net():
    return models.Sequential([layers.Input((3,)), layers.Dense(2, activation="softmax")])


def compiled():
    model = net()
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("arguments", "name"),
    (({"loss": "of_next_year"}, "losses.of_next_year"), ({"loss": "NextYear"}, "losses.NextYear")),
)
def test_names_that_keras_has(arguments, name, monkeypatch):
    known = KERAS_NAMES["losses"]  # handmill has them all
    monkeypatch.setitem(KERAS_NAMES, "losses", f"{known} of_next_year NextYear")
    with pytest.raises(ValueError, match=f"Keras has {name}; handmill has not yet"):
        net().compile(**{"optimizer": "sgd", "loss": "mse", **arguments})


def test_names_that_nobody_has():
    with pytest.raises(ValueError, match="Did you mean 'accuracy'") as caught:
        net().compile("sgd", "mse", metrics=["acuracy"])
    assert "Keras has" not in str(caught.value)


@pytest.mark.parametrize("inputs", ([], {}))
def test_models_without_inputs_or_outputs(inputs):
    x = layers.Input((3,))
    with pytest.raises(ValueError, match="at least one of its `outputs`"):
        models.Model(x, inputs)
    with pytest.raises(ValueError, match="at least one of its `inputs`"):
        models.Model(inputs, x)


def test_loading_words_the_suffix_as_loading(tmp_path):
    with pytest.raises(ValueError, match=r"File format not supported.*`\.hmill` or `\.keras`"):
        models.load_model(tmp_path / "m.pkl")
    with pytest.raises(ValueError, match="load_weights"):
        models.load_model(tmp_path / "m.weights.hmill")
    with pytest.raises(ValueError, match="extension for saving"):
        net().save(tmp_path / "m.weights.h5")


@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_rows_that_are_not_finite_are_named(value):
    x = X.copy()
    x[17, 1] = value
    x[23] = np.nan
    kind = "NaN" if np.isnan(value) else "infinity"
    with pytest.warns(
        TrainingWarning, match=f"2 of 40 rows of the data are not finite: row 17 has {kind}"
    ):
        compiled().fit(x, np.zeros(40, "int32"), batch_size=8, verbose=0)


# Frames. These columns behave as those of pandas do, so that the tests run without it too.


class Kind:
    def __init__(self, kind):
        self.kind = kind


class Frame:
    """What handmill reads of a DataFrame whose columns NumPy would make objects of."""

    def __init__(self, columns):
        self.columns = columns
        there = [np.asarray([v for v in c if v is not None]) for c in columns]
        self.dtypes = [Kind(column.dtype.kind) for column in there]

    @property
    def shape(self):
        return len(self.columns[0]), len(self.columns)

    def __len__(self):
        return len(self.columns[0])

    def __array__(self, dtype=None, copy=None):
        return np.array(self.columns, object).T

    def isna(self):
        return Frame([[v is None for v in c] for c in self.columns])

    def to_numpy(self, dtype=None, na_value=None):
        if dtype is None:
            return np.array(self.columns).T
        return np.array([[na_value if v is None else v for v in c] for c in self.columns], dtype).T


@pytest.mark.parametrize(
    ("columns", "dtype"),
    (
        (([1.5, 2.5], [True, False]), "float32"),
        (([1, 2], [True, False]), "int64"),
        (([1, None], [True, False]), "float32"),
        (([False, True], [True, False]), "bool"),
    ),
)
def test_frames_of_numbers_and_bools(columns, dtype):
    from handmill.models.layout import split

    _, (array,) = split(Frame([list(c) for c in columns]), None, None)
    assert array.dtype == dtype
    want = [[np.nan if v is None else v for v in c] for c in columns]
    np.testing.assert_array_equal(array, np.array(want, "float64").T)


def test_frames_of_other_things_are_refused():
    with pytest.raises(ValueError, match="must hold numbers"):
        compiled().predict(Frame([["a", "b"], [1, 2], [1, 2]]), verbose=0)


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1] > 0, "c": pandas.array([1] * 40, "Int64")})
    labels = pandas.Series([0, 1] * 20, dtype="Int64")
    model = compiled()
    model.fit(frame, labels, verbose=0)
    plain = np.stack([X[:, 0], X[:, 1] > 0, np.ones(40)], 1).astype("float32")
    np.testing.assert_array_equal(model.predict(frame, verbose=0), model.predict(plain, verbose=0))


def test_image_functions_of_utils():
    assert hm.utils.img_to_array is hm.preprocessing.image.img_to_array
    assert hm.utils.load_img is hm.preprocessing.image.load_img


@pytest.mark.parametrize("encoding", ("ascii", "latin-1", "utf-8"))
def test_summary_on_outputs_of_other_encodings(monkeypatch, encoding):
    model = models.Sequential([layers.Input((3,)), layers.Dense(2, name="größe")], name="net")
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    model.summary()
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert ("┃" if encoding == "utf-8" else "| Layer (type)") in text
    assert len({len(line) for line in text.splitlines()[1:3]}) == 1


def test_without_a_standard_output(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    model = compiled()
    model.fit(X, np.zeros(40, "int32"), verbose=1)
    model.evaluate(X, np.zeros(40, "int32"), verbose=1)
    model.summary()


@pytest.mark.parametrize("columns", (0, 30, 80))
def test_the_last_line_of_an_epoch_is_whole(monkeypatch, columns):
    """Also on a terminal narrower than the line, or one that says it has no columns."""
    from handmill.callbacks import progbar

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

        def fileno(self):
            return 1

    monkeypatch.setattr("os.get_terminal_size", lambda *a: os.terminal_size((columns, 24)))
    stream = Terminal()
    bar = progbar.Progbar(10, stream=stream, interval=0)
    logs = {f"val_metric_{i}": 0.5 for i in range(8)}
    bar.show(5, logs, finalize=False)
    bar.show(10, logs, finalize=True)
    last = stream.getvalue().splitlines()[-1].rpartition("\r")[2]
    assert last.startswith("10/10 ━━━")
    assert last.endswith("val_metric_7: 0.5000")
    assert "5/10" in stream.getvalue()


def test_sorting_without_an_axis_sorts_all():
    x = np.array([[3, 1], [2, 5]], "int32")
    np.testing.assert_array_equal(hm.ops.sort(x, axis=None), [1, 2, 3, 5])
    np.testing.assert_array_equal(hm.ops.argsort(x, axis=None), [1, 2, 0, 3])


def test_softmax_of_one_unit_warns():
    """As Keras does: the result is 1 whatever comes in, and nothing is learned."""
    text = r"axis has size 1, .* Did you mean sigmoid"
    with pytest.warns(UserWarning, match=text) as found:
        model = hm.Sequential([hm.Input((4,)), hm.layers.Dense(1, activation="softmax")])
    assert {w.filename for w in found} == {__file__}
    with pytest.warns(UserWarning, match=text):
        np.testing.assert_array_equal(hm.ops.softmax(np.zeros((1, 4), "float32"), axis=0), 1.0)
    assert model.output_shape == (None, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hm.ops.softmax(np.zeros((1, 4), "float32"))
        hm.Sequential([hm.Input((4,)), hm.layers.Dense(2, activation="softmax")])
