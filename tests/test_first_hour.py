"""What a new user meets in the first hour: mistakes with data, layers and arguments, by path.

Each row is a mistake and the words that its error must hold: what happened, and the remedy. What
``fit`` can see from the start it must see before any weight changes.
"""

from __future__ import annotations

import os
import pathlib
import warnings
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import layers, models
from handmill.data import Dataset, PyDataset
from handmill.errors import RowError, ShapeError, TrainingWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = RNG.integers(0, 3, 64)
BAD = np.where(np.arange(64) == 41, 7, Y)
ROWS = Dataset.from_tensor_slices


def make_model(
    units: int = 3, activation: Any = "softmax", loss: Any = "sparse_categorical_crossentropy"
) -> Any:
    hm.utils.set_random_seed(1)
    model = models.Sequential(
        [layers.Input((6,)), layers.Dense(units, activation=activation, name="out")], name="net"
    )
    model.compile("adam", loss)
    return model


def bits_of(model: Any) -> list[bytes]:
    return [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]


class Batches(PyDataset):
    def __init__(self, make: Any, batches: Any = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.make = make
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def good(index: int) -> Any:
    return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]


def with_one(bad: Any, at: int = 6) -> Any:
    """Batches of which one is bad."""
    return (bad if i == at else good(i) for i in range(8))


# Labels and validation data that fit() can see from the start.

SEEN_BEFORE = {
    "arrays": lambda: {"x": X, "y": BAD, "batch_size": 8},
    "lists": lambda: {"x": X.tolist(), "y": BAD.tolist(), "batch_size": 8},
    "floats": lambda: {"x": X, "y": np.where(BAD == 7, np.nan, BAD), "batch_size": 8},
    "columns": lambda: {"x": X, "y": BAD[:, None], "batch_size": 8},
    "data set": lambda: {"x": ROWS((X, BAD)).shuffle(64).batch(8)},
    "part of a data set": lambda: {"x": ROWS((X, BAD)).skip(30).take(20).batch(8)},
}


@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize("make", SEEN_BEFORE.values(), ids=SEEN_BEFORE)
def test_labels_of_later_batches_are_looked_at_before_the_first(make: Any, backend: str) -> None:
    model = make_model()
    before = bits_of(model)
    words = r"is not an integer from 0 to 2 \(first at row 41\)"
    with hm.use_backend(backend), pytest.raises(RowError, match=words):
        model.fit(**make(), verbose=0)
    assert bits_of(model)[: len(before)] == before


def test_rows_that_a_data_set_leaves_out_may_be_bad() -> None:
    model = make_model()
    model.fit(ROWS((X, BAD)).take(40).batch(8), verbose=0)
    model.fit(ROWS((X, BAD)).batch(8).repeat(), steps_per_epoch=5, verbose=0)
    assert int(np.asarray(model.optimizer.iterations)) == 10


@pytest.mark.parametrize("sparse_rows", (False, True))
@pytest.mark.parametrize("bad", (-1, 10, 2**32 + 1, 2**40, np.nan, np.inf, 0.5))
def test_indices_are_looked_at_as_they_were_given(bad: float, sparse_rows: bool) -> None:
    ids = np.zeros((32, 2), "float32" if isinstance(bad, float) else "int64")
    ids[9, 1] = bad
    model = models.Sequential(
        [
            layers.Input((2,), dtype="int32"),
            layers.Embedding(10, 3, sparse_rows=sparse_rows),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    before = bits_of(model)
    with pytest.raises(RowError, match=r"embedding index .* \(first at row 9\)"):
        model.fit(ids, np.zeros(32), batch_size=4, shuffle=False, verbose=0)
    assert bits_of(model)[: len(before)] == before
    with pytest.raises(RowError, match=r"embedding index .* \(first at row 9\)"):
        model.predict(ids, batch_size=4, verbose=0)


VALIDATION = {
    "arrays": lambda: (X[:, :3], Y),
    "labels": lambda: (X, BAD),
    "no targets": lambda: X,
    "lengths": lambda: (X, Y[:5]),
    "texts": lambda: (X.astype(str), Y),
    "four": lambda: (X, Y, Y, Y),
    "data set of rows": lambda: ROWS((X[:, :3], Y)).batch(8),
    "data set, not batched": lambda: ROWS((X, Y)),
    "data set of a function": lambda: ROWS((X, Y)).map(lambda x, y: (x[:3], y)).batch(8),
    "generator": lambda: ((X[:8, :3], Y[:8]) for _ in range(2)),
    "generator of targets": lambda: ((X[:8], np.zeros((8, 2))) for _ in range(2)),
    "PyDataset": lambda: Batches(lambda i: (X[:8, :3], Y[:8])),
}


@pytest.mark.parametrize("make", VALIDATION.values(), ids=VALIDATION)
def test_validation_data_are_looked_at_before_training(make: Any) -> None:
    model = make_model()
    before = bits_of(model)
    with pytest.raises(ValueError, match="in the validation data: "):
        model.fit(X, Y, validation_data=make(), verbose=0)
    assert bits_of(model)[: len(before)] == before


def test_looking_at_validation_data_takes_nothing_from_them() -> None:
    """A generator gives each batch once, and a function of a data set may draw."""
    asked: list[int] = []

    def batch(index: int) -> Any:
        asked.append(index)
        return good(index)

    model = make_model()
    history = model.fit(
        X, Y, epochs=2, validation_data=(batch(i) for i in range(4)), validation_steps=2, verbose=0
    ).history
    assert asked == [0, 1, 2, 3]
    twin = make_model()
    parts = [(X[:16], Y[:16]), (X[16:32], Y[16:32])]
    for part, value in zip(parts, history["val_loss"], strict=True):
        twin.fit(X, Y, verbose=0)
        assert twin.evaluate(*part, batch_size=8, verbose=0) == pytest.approx(value, rel=1e-6)
    asked.clear()
    model.fit(X, Y, epochs=2, validation_data=Batches(batch, 2), verbose=0)
    assert asked == [0, 1, 0, 1]
    drawn = ROWS(X[:8]).map(lambda x: (x + hm.random.normal((6,)), Y[0])).batch(4)
    hm.utils.set_random_seed(5)
    model.fit(X, Y, validation_data=drawn, verbose=0, validation_freq=2)
    first = hm.random.normal((2,))
    hm.utils.set_random_seed(5)
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(hm.random.normal((2,)), first)


def test_the_step_of_validation_is_traced_once() -> None:
    traced: list[int] = []

    def loss(y_true: Any, y_pred: Any) -> Any:
        traced.append(1)
        return hm.ops.mean((hm.ops.cast(y_true, "float32")[:, None] - y_pred) ** 2, axis=-1)

    model = make_model()
    model.compile("sgd", loss)
    model.fit(X, Y, validation_data=(X, Y), epochs=3, batch_size=16, verbose=0)
    assert len(traced) == 2  # training, and validation


# Data by the path on which they come.

WRONG_DATA = {
    "a function": (lambda: {"x": good}, "Unrecognized data type.*pass what the function makes"),
    "a file": (lambda: {"x": "data.csv", "y": Y}, "Unrecognized data type.*read the file first"),
    "a path": (lambda: {"x": pathlib.Path("data.csv")}, "Unrecognized.*read the file first"),
    "a set": (lambda: {"x": {1, 2}}, "Unrecognized data type.*no order"),
    "a number": (lambda: {"x": 3.0, "y": Y}, "Unrecognized data type"),
    "texts as labels": (lambda: {"x": X, "y": ["a", "b"] * 32}, "numpy.unique"),
    "dates": (lambda: {"x": np.zeros((64, 6), "M8[D]"), "y": Y}, "datetime64.*are days"),
    "durations": (lambda: {"x": np.zeros((64, 6), "m8[s]"), "y": Y}, "are seconds"),
    "complex": (lambda: {"x": X + 1j, "y": Y}, "complex64.*x.real and x.imag"),
    "fields": (lambda: {"x": np.zeros(64, [("a", "f4")]), "y": Y}, "structured_to_unstructured"),
    "mixed": (lambda: {"x": np.array([[1, "a"]] * 64, object), "y": Y}, "of type int, str"),
    "ragged": (lambda: {"x": [[1.0, 2.0], [3.0]], "y": [0, 1]}, "row 0 has 2 .* row 1 has 1"),
    "short weights": (lambda: {"x": X, "y": Y, "sample_weight": np.ones(5)}, "'sample_weight' si"),
    "wide weights": (
        lambda: {"x": X, "y": Y, "sample_weight": np.ones((64, 3))},
        "sample weights of shape .None, 3. do not fit losses of shape .None,.",
    ),
    "weights by name": (lambda: {"x": X, "y": Y, "sample_weight": "balanced"}, "factor for each"),
    "short, with classes": (
        lambda: {"x": X, "y": Y, "sample_weight": np.ones(5), "class_weight": {0: 2.0}},
        "'sample_weight' sizes: 5",
    ),
    "class weights by name": (lambda: {"x": X, "y": Y, "class_weight": "balanced"}, "bincount"),
    "a list of class weights": (lambda: {"x": X, "y": Y, "class_weight": [1, 2]}, "must be a dict"),
    "named classes": (lambda: {"x": X, "y": Y, "class_weight": {"a": 1}}, "by class number"),
    "class weights alone": (lambda: {"x": X, "class_weight": {0: 1.0}}, "needs targets"),
    "not batched": (lambda: {"x": ROWS((X, Y))}, r"single samples.*\.batch\(32\)"),
    "no rows": (lambda: {"x": ROWS((X[:0], Y[:0])).batch(8)}, "Dataset has no batches"),
    "targets beside": (lambda: {"x": ROWS((X, Y)).batch(8), "y": Y}, "`x` as a Dataset, `y`"),
    "a split of a data set": (
        lambda: {"x": ROWS((X, Y)).batch(8), "validation_split": 0.2},
        "in the input: Dataset.*split_dataset",
    ),
    "a map without return": (
        lambda: {"x": ROWS((X, Y)).map(lambda x, y: None).batch(8)},
        r"map: <lambda>\(\) returned None",
    ),
    "kinds": (
        lambda: {"x": ROWS(np.arange(4)).map(lambda i: "a" if i else 1.0).batch(4)},
        "element 1 of a batch is a str",
    ),
    "batch: no targets": (lambda: {"x": with_one(X[:8])}, "in batch 6 .*needs targets"),
    "batch: names": (lambda: {"x": with_one(({"z": X[:8]}, Y[:8]))}, "in batch 6 .*Missing data"),
    "batch: width": (lambda: {"x": with_one((X[:8, :5], Y[:8]))}, "in batch 6 .*expected shape"),
    "batch: lengths": (lambda: {"x": with_one((X[:8], Y[:5]))}, "in batch 6 .*'y' sizes: 5"),
    "batch: label": (lambda: {"x": with_one((X[:8], Y[:8] + 7))}, r"in batch 6 .*row 0\)"),
    "batch: texts": (lambda: {"x": with_one((X[:8], ["a"] * 8))}, "in batch 6 .*numpy.unique"),
    "batch: empty": (lambda: {"x": with_one((X[:0], Y[:0]))}, "in batch 6 .*non-empty"),
    "batch: one sample": (lambda: {"x": zip(X, Y, strict=True)}, "a row for each of its samples"),
    "length None": (lambda: {"x": Batches(good, None)}, "__len__.* must return the number of bat"),
    "a worker stops": (
        lambda: {"x": Batches(lambda i: next(iter(())), workers=2)},
        r"Batches.__getitem__\(\d\) raised StopIteration",
    ),
    "epochs": (lambda: {"x": X, "y": Y, "epochs": 2.5}, "`epochs` must be an integer"),
    "first epoch": (lambda: {"x": X, "y": Y, "initial_epoch": -1}, "`initial_epoch` must be"),
    "frequency": (lambda: {"x": X, "y": Y, "validation_freq": 0}, "`validation_freq` must be"),
    "verbose": (lambda: {"x": X, "y": Y, "verbose": "loud"}, "`verbose` must be 0"),
}


@pytest.mark.parametrize(("make", "words"), WRONG_DATA.values(), ids=WRONG_DATA)
def test_wrong_data_are_named_with_their_remedy(make: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match=f"(?s){words}"):
        make_model().fit(**{"verbose": 0, **make()})


def test_what_has_no_effect_is_said_to_have_none() -> None:
    with pytest.warns(UserWarning, match="batch_size=4 has no effect: a Dataset makes"):
        make_model().fit(ROWS((X, Y)).batch(8), batch_size=4, verbose=0)
    model = make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.warns(UserWarning, match="workers=3 has no effect"):
            model.fit_generator(iter([good(0)]), workers=3, verbose=0)


class _Lost(PyDataset):
    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return good(index)


def test_data_sets_that_forget_their_base() -> None:
    with pytest.warns(UserWarning, match=r"_Lost did not call super\(\).__init__"):
        history = make_model().fit(_Lost(), verbose=0).history
    assert history == make_model().fit(Batches(good, 2), verbose=0).history


@pytest.mark.parametrize("workers", ("2", -1, 2.5, True))
def test_workers_are_numbers(workers: Any) -> None:
    with pytest.raises(ValueError, match="`workers` of a PyDataset must be a whole number"):
        Batches(good, workers=workers)


def _die(index: int) -> Any:
    return good(index) if index != 1 else os._exit(3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the batches are made of functions here")
def test_a_process_that_dies_is_no_wait_for_ever() -> None:
    data = Batches(_die, 2, workers=1, use_multiprocessing=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, Python 3.12
        warnings.simplefilter("ignore", RuntimeWarning)  # the same, where JAX is imported
        with pytest.raises(RuntimeError, match=r"died \(exit code 3\) before batch 1 was made"):
            make_model().fit(data, verbose=0)


# Labels that only look one-hot.


def test_labels_that_look_one_hot_and_are_class_numbers() -> None:
    """Two steps with a class each: [0, 1] and [1, 0] are no one-hot rows, nor is [1, 1]."""
    labels = np.array([[0, 1], [1, 0]] * 32)
    labels[40] = 1, 1
    model = models.Sequential([layers.Input((2, 3)), layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = RNG.normal(size=(64, 2, 3)).astype("float32")
    model.fit(x, labels, verbose=0)
    for start in (0, 32):
        model.train_on_batch(x[start : start + 16], labels[start : start + 16])


# Models of texts.


def text_model() -> Any:
    inputs = layers.Input((1,), dtype="string")
    x = layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(inputs)
    model = models.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


WORDS = np.array(["red", "green", "blue", "red"] * 4)
GAPS = np.where(np.arange(16) == 9, None, WORDS.astype(object))
WRONG_TEXTS = {
    "numbers": (lambda: np.arange(16), "takes strings.*entry 0 is a int"),
    "gap": (lambda: GAPS, r"entry 9 is a missing value \(None\)"),
    "gap in a data set": (
        lambda: ROWS((GAPS, Y[:16])).batch(4),
        r"in batch 2 .*entry 1 is a missing value",
    ),
    "width": (lambda: np.stack([WORDS, WORDS], 1), "expects shape=.None, 1., found shape=.16, 2."),
    "ragged": (lambda: [["a"], ["b", "c"]] * 8, "rows of the list differ in length"),
    "names": (lambda: {"z": WORDS}, "Missing data for input"),
}


@pytest.mark.parametrize(("make", "words"), WRONG_TEXTS.values(), ids=WRONG_TEXTS)
def test_wrong_texts(make: Any, words: str) -> None:
    x = make()
    y = None if isinstance(x, Dataset) else Y[:16]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        text_model().fit(x, y, verbose=0)


def test_one_text_is_a_list_of_one() -> None:
    with pytest.raises(ValueError, match="a list of one"):
        text_model().predict("red", verbose=0)


# Layers that learn from data.

ADAPTING = {
    "Normalization": layers.Normalization,
    "Discretization": lambda: layers.Discretization(num_bins=3),
    "StringLookup": layers.StringLookup,
    "IntegerLookup": layers.IntegerLookup,
    "TextVectorization": layers.TextVectorization,
}
NOTHING = {
    "list": lambda: [],
    "array": lambda: np.zeros((0, 3)),
    "batches": lambda: iter(()),
    "data set": lambda: ROWS(np.zeros((0, 3))).batch(2),
}


@pytest.mark.parametrize("kind", ADAPTING)
@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING)
def test_nobody_learns_from_nothing(kind: str, make: Any) -> None:
    with pytest.raises(ValueError, match=r"no data|no batches|without rows"):
        ADAPTING[kind]().adapt(make())


NUMBERS = ("Normalization", "Discretization", "IntegerLookup")
NO_NUMBERS = {
    "NaN": (np.array([[1.0], [np.nan]]), r"cannot learn from nan.*first row 1\)", NUMBERS),
    "infinity": (np.array([[np.inf]]), "cannot learn from inf", ("Normalization", "IntegerLookup")),
    "a half": (np.array([[0.5]]), "not whole", ("IntegerLookup",)),
    "texts": (np.array(["a"]), "takes .*numbers.*dtype <U1", NUMBERS),
    "dates": (np.array(["2020-01-01"], "M8[D]"), "dtype datetime64", NUMBERS),
    "complex": (np.array([1j]), "dtype complex128", NUMBERS),
    "objects": (np.array([1, "a", None], object), "dtype object", NUMBERS),
    "ragged": ([[1, 2], [3]], "rows of different lengths", ("IntegerLookup",)),
}


@pytest.mark.parametrize(("data", "words", "kinds"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_nobody_learns_from_what_is_no_number(data: Any, words: str, kinds: Any) -> None:
    for kind in kinds:
        with pytest.raises(ValueError, match=words):
            ADAPTING[kind]().adapt(data)


@pytest.mark.parametrize("kind", ("Normalization", "Discretization", "StringLookup"))
@pytest.mark.parametrize("data", (None, 3.0, {"a": [1]}))
def test_nobody_learns_from_what_gives_no_batches(kind: str, data: Any) -> None:
    with pytest.raises(TypeError, match="Unsupported data type"):
        ADAPTING[kind]().adapt(data)


@pytest.mark.parametrize("vocabulary", (3, {"a": 1}, b"a"))
def test_vocabularies_are_lists(vocabulary: Any) -> None:
    for make in (layers.StringLookup, layers.TextVectorization):
        with pytest.raises(ValueError, match="`vocabulary` must be a list or array of tokens"):
            make(vocabulary=vocabulary)
    with pytest.raises(ValueError, match=r"1\.5 is no whole number"):
        layers.IntegerLookup(vocabulary=[1.5])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_files_that_are_none(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), str(tmp_path), "/dev/zero"):
        with pytest.raises(OSError, match="not a regular file"):
            layers.StringLookup(vocabulary=path)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text("hi")
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    given = {"follow_links": True, "verbose": False, "batch_size": 8}
    found = hm.utils.text_dataset_from_directory(tmp_path, **given)
    assert len(found.file_paths) == 3  # of the loop, what lies in b
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        hm.utils.text_dataset_from_directory(tmp_path, **{**given, "batch_size": 0})


# Layers, losses and metrics of users.


class _NoReturn(layers.Layer):
    def call(self, inputs: Any) -> None:
        pass


class _NoSuper(layers.Layer):
    def __init__(self) -> None:
        self.size = 3

    def call(self, inputs: Any) -> Any:
        return inputs


class _OldOrder(layers.Layer):
    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight("w", (3,))

    def call(self, inputs: Any) -> Any:
        return inputs


class _Writes(layers.Layer):
    def call(self, inputs: Any) -> Any:
        inputs[0] = 1
        return inputs


WRONG_LAYERS = {
    _NoReturn: r"call\(\) returned None.*return",
    _NoSuper: "forgot to call `super",
    _OldOrder: r"the first argument is `shape`.*name='w'",
    _Writes: "cannot be written into.*slice_update",
}


@pytest.mark.parametrize(("kind", "words"), WRONG_LAYERS.items())
def test_wrong_layers(kind: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError), match=words):
        kind()(layers.Input((6,)))


def test_build_that_builds_nothing_inside() -> None:
    class Outer(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs)

    with pytest.warns(UserWarning, match="layers inside of it are not built"):
        Outer().build((None, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Outer()(X).shape == (64, 2)


class _LostMetric(hm.metrics.Metric):
    def __init__(self) -> None:
        pass


class _LostLoss(hm.losses.Loss):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("loss", "metric", "words"),
    (
        (lambda y, p: None, None, "the loss .* returned None"),
        (lambda y, p: "a", None, "the loss .* returned 'a'"),
        ("mse", lambda y, p: None, "the metric .* returned None"),
        (_LostLoss(), None, "loss _LostLoss did not call super"),
        ("mse", _LostMetric(), "metric _LostMetric did not call super"),
    ),
)
def test_wrong_losses_and_metrics(loss: Any, metric: Any, words: str) -> None:
    model = make_model()
    model.compile("sgd", loss, metrics=[metric] if metric else None)
    with pytest.raises((TypeError, RuntimeError), match=words):
        model.fit(X, np.eye(3)[Y], verbose=0)


FITS = {
    "one unit": (3, "sigmoid", "binary_crossentropy", Y, r"Dense\(1, activation='sigmoid'\)"),
    "numbers": (3, "softmax", "categorical_crossentropy", Y, "sparse_categorical_crossentropy"),
    "units": (3, None, "mse", X[:, :2], "as many units"),
}


@pytest.mark.parametrize(("units", "activation", "loss", "y", "words"), FITS.values(), ids=FITS)
def test_losses_that_do_not_fit(units: int, activation: Any, loss: str, y: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=f"(?s){words}"):
        make_model(units, activation, loss).fit(X, y, verbose=0)


def test_flatten_is_missing() -> None:
    model = models.Sequential([layers.Input((2, 3)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"Flatten\(\) missing"):
        model.fit(np.zeros((4, 2, 3)), Y[:4], verbose=0)


def test_training_that_is_hardly_meant_is_warned_of() -> None:
    with pytest.warns(TrainingWarning, match=r"targets of shape \(None, 2\) do not have the shape"):
        make_model(1, None, "mse").fit(X, X[:, :2], verbose=0)
    loss = hm.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.warns(TrainingWarning, match="ends with softmax, whose results are no logits"):
        make_model(loss=loss).fit(X, Y, verbose=0)


@pytest.mark.parametrize("patience", ("3", None, True))
def test_patience_is_a_number(patience: Any) -> None:
    for kind in (hm.callbacks.EarlyStopping, hm.callbacks.ReduceLROnPlateau):
        with pytest.raises(ValueError, match="`patience` must be a number of epochs"):
            kind("loss", patience=patience)
    with pytest.raises(TypeError, match="`on_epoch_end` must be a function"):
        hm.callbacks.LambdaCallback(on_epoch_end=3)


@pytest.mark.parametrize("dtype", (None, "int32", "int64"))
def test_large_whole_numbers_stay_different_on_their_way_into_a_layer(dtype: Any) -> None:
    """Inputs are float32 unless they say something else, which holds numbers up to 2^24."""
    numbers = np.array([[2**24 + 1], [2**24]])
    for layer in (layers.Hashing(1000), layers.IntegerLookup(vocabulary=numbers.ravel())):
        inputs = layers.Input((1,), **({"dtype": dtype} if dtype else {}))
        found = models.Model(inputs, layer(inputs)).predict(numbers, verbose=0)
        np.testing.assert_array_equal(found, layer(numbers))
        assert found[0] != found[1]


@pytest.mark.parametrize("data", ([None], np.array([None]), ["a", None], np.array([1, None])))
def test_nothing_is_hashed(data: Any) -> None:
    with pytest.raises(ValueError, match=r"takes strings.*missing value|takes strings.*is a int"):
        layers.Hashing(5)(data)


def test_classes_without_a_weight_count_once() -> None:
    weights = np.where(Y == 1, 3.0, 1.0)
    for data in ({"x": X, "y": Y}, {"x": ROWS((X, Y)).batch(32)}):
        plain = make_model().fit(X, Y, sample_weight=weights, shuffle=False, verbose=0).history
        found = make_model().fit(**data, class_weight={1: 3}, shuffle=False, verbose=0).history
        assert found == plain
