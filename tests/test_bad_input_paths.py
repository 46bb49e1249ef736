"""Bad input on every way that data take: a named error before anything changes, or a result.

`test_bad_input.py` does the same for arrays given to a model.
"""

from __future__ import annotations

import gc
import math
import threading

import numpy as np
import pytest

import handmill as hm
from handmill import layers, losses, metrics, models, ops
from handmill.data import Dataset
from handmill.errors import RowError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
Y = RNG.integers(0, 3, 32)


def make_model():
    hm.utils.set_random_seed(3)
    model = models.Sequential([layers.Input((4,)), layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def bits_of(model):
    return [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]


class Batches(hm.utils.PyDataset):
    def __init__(self, x, y, **options):
        super().__init__(**options)
        self.batch = x, y

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.batch


class Loader:
    """What a loader of torch looks like: it can be iterated over again and again."""

    def __init__(self, x, y):
        self.batch = x, y

    def __iter__(self):
        yield self.batch
        yield self.batch


WAYS = {
    "generator": lambda m, x, y: m.fit(iter([(x, y)]), verbose=0),
    "PyDataset": lambda m, x, y: m.fit(Batches(x, y), verbose=0),
    "workers": lambda m, x, y: m.fit(Batches(x, y, workers=2), verbose=0),
    "loader": lambda m, x, y: m.fit(Loader(x, y), verbose=0),
    "slices": lambda m, x, y: m.fit(Dataset.from_tensor_slices((x, y)).batch(8), verbose=0),
    "tensors": lambda m, x, y: m.fit(Dataset.from_tensors((x, y)), verbose=0),
    "made": lambda m, x, y: m.fit(Dataset.from_generator(lambda: [(x, y)]), verbose=0),
    "map": lambda m, x, y: m.fit(Dataset.range(2).map(lambda _: (x, y)).prefetch(1), verbose=0),
    "cache": lambda m, x, y: m.fit(
        Dataset.from_tensor_slices((x, y)).map(lambda *row: row).batch(8).cache(), verbose=0
    ),
    "dict": lambda m, x, y: m.fit({m.inputs[0].name: x}, y, verbose=0),
    "validation": lambda m, x, y: m.fit(X, Y, validation_data=(x, y), verbose=0),
    "split": lambda m, x, y: m.fit(x, y, validation_split=0.5, verbose=0),
    "batch": lambda m, x, y: m.train_on_batch(x, y),
    "evaluate": lambda m, x, y: m.evaluate(iter([(x, y)]), verbose=0),
    "predict": lambda m, x, y: m.predict(iter([(x, y)]), verbose=0),
    "call": lambda m, x, y: m(x),
}

DATA = {
    "objects": (X.astype(object), Y, "objects?|numbers"),
    "strings": (X.astype(str), Y, "<U32"),
    "dates": (X.astype("M8[s]"), Y, r"datetime64\[s\]"),
    "complex": (X.astype(complex), Y, "complex128"),
    "structured": (np.zeros((32, 4), [("a", "f4")]), Y, "numbers"),
    "masked": (np.ma.array(X, mask=X > -9), Y, "masked"),
    "ragged": ([[1.0, 2.0], [1.0]] * 16, Y, "row 0 has 2 entries, row 1 has 1|different shapes"),
    "wrong rank": (X[:, :, None, None], Y, "shape"),
    "no columns": (X[:, :0], Y, "shape"),
    "scalar": (np.float32(1), Y, "rank|shape|scalar"),
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("way", WAYS)
def test_data_that_cannot_be_used_change_nothing(way, data):
    x, y, words = DATA[data]
    model = make_model()
    before = bits_of(model)
    with pytest.raises((ValueError, TypeError), match=words):
        WAYS[way](model, x, y)
    assert bits_of(model)[: len(before)] == before  # slots may have been made, of zeros
    assert math.isfinite(model.fit(X, Y, verbose=0).history["loss"][0])


# Labels and indices.


@pytest.mark.parametrize("bad", (3, -1, 1 << 40, 0.5, np.nan, np.inf))
@pytest.mark.parametrize("way", [w for w in WAYS if w not in ("predict", "call", "split")])
def test_labels_out_of_range(way, bad):
    y = Y.astype(np.float64 if isinstance(bad, float) else np.int64)
    y[5] = bad
    model = make_model()
    before = bits_of(model)
    with pytest.raises(RowError, match=r"is not an integer from 0 to 2 \(first at row 5\)|row 5"):
        WAYS[way](model, X, y)
    assert bits_of(model)[: len(before)] == before


IDS = {
    "negative": np.full((32, 2), -1),
    "too large": np.full((32, 2), 10),
    "beyond int32": np.full((32, 2), 1 << 40),
    "uint64": np.full((32, 2), (1 << 64) - 1, np.uint64),
    "small uint64": np.full((32, 2), 10, np.uint64),
    "uint8": np.full((32, 2), 255, np.uint8),
    "NaN": np.full((32, 2), np.nan),
    "infinite": np.full((32, 2), np.inf, "float32"),
    "fractions": np.full((32, 2), 0.5),
}


def embedding(sparse_rows):
    hm.utils.set_random_seed(1)
    layer = layers.Embedding(10, 3, sparse_rows=sparse_rows)
    model = models.Sequential([layers.Input((2,)), layer, layers.Flatten(), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("sparse_rows", (False, True))
def test_ids_out_of_range(ids, sparse_rows):
    x, y = IDS[ids], np.zeros((32, 1), "float32")
    model = embedding(sparse_rows)
    before = bits_of(model)
    for way in ("generator", "PyDataset", "slices", "map", "batch", "evaluate", "predict", "call"):
        with pytest.raises((RowError, OverflowError), match=r"from 0 to 9|does not fit into int64"):
            WAYS[way](model, x, y)
    assert bits_of(model)[: len(before)] == before
    ids_of_all = np.arange(32, dtype=np.uint64).reshape(16, 2) % np.uint64(10)
    assert math.isfinite(model.fit(ids_of_all, y[:16], verbose=0).history["loss"][0])


@pytest.mark.parametrize("dtype", ("float64", "float32", "float16"))
@pytest.mark.parametrize("wrong", (0.5, np.nan, np.inf, -1.0, 4.0))
def test_numbers_of_any_float_that_name_nothing(dtype, wrong):
    """Called on arrays, layers and functions look at what was given, not at a rounded int32."""
    ids, p = np.array([3.0, wrong], dtype), np.full((2, 4), 0.25, "float32")
    whole = models.Sequential([layers.Input((2,), dtype="int32"), layers.Embedding(4, 2)])
    calls = (
        layers.Embedding(4, 2),
        lambda x: whole(x[None]),
        lambda x: ops.sparse_categorical_crossentropy(x, p),
        lambda x: hm.losses.SparseCategoricalCrossentropy()(x, p),
        lambda x: hm.metrics.SparseCategoricalCrossentropy()(x, p),
    )
    for call in calls:
        text = r"is not an integer from 0 to 3(, at place 1 of its row)? \(first at row [01]\)"
        with pytest.raises(RowError, match=text):
            call(ids)
        assert np.isfinite(call(np.array([3.0, 1.0], dtype))).all()


# What operators, variables and layers are called on.


def made(kind, *args, **kwargs):
    """A call of a new layer."""

    def call(x):
        return kind(*args, **kwargs)(x)

    return call


TAKERS = {
    "ops": lambda x: ops.add(x, 1),
    "sum": ops.sum,
    "image": lambda x: ops.image.resize(x, (2, 2)),
    "scan": lambda x: ops.scan(lambda c, row: (c + row, c), np.float32(0), x),
    "Variable": hm.Variable,
    "Dense": made(layers.Dense, 2),
    "Rescaling": made(layers.Rescaling, 2.0),
    "Hashing": made(layers.Hashing, 3),
    "IntegerLookup": made(layers.IntegerLookup, vocabulary=[1]),
    "Normalization": made(layers.Normalization, mean=0.0, variance=1.0),
    "adapt": lambda x: layers.Normalization().adapt(x),
    "adapt bins": lambda x: layers.Discretization(num_bins=2).adapt(x),
    "AUC": lambda x: metrics.AUC().update_state(x, np.zeros((3, 4))),
    "loss": lambda x: losses.MeanSquaredError()(np.zeros((3, 4)), x),
    "gradient": lambda x: hm.optimizers.SGD().apply([x], [hm.Variable(np.zeros((3, 4)))]),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_entries_that_are_masked_are_not_read(taker):
    x = np.ma.array(np.ones((3, 4), "float32"), mask=np.eye(3, 4))
    with pytest.raises(ValueError, match="masked array with masked entries"):
        TAKERS[taker](x)
    with hm.use_backend("numpy"), pytest.raises(ValueError, match="masked entries"):
        TAKERS[taker](x)


def test_texts_that_are_masked_are_not_read():
    texts = np.ma.array(["a", "b"], mask=[False, True])
    for call in (layers.StringLookup(vocabulary=["a"]), layers.StringLookup().adapt):
        with pytest.raises(ValueError, match="masked entries"):
            call(texts)
    for data in (np.ma.array([1, 2], mask=[0, 1]), (texts,), {"a": texts}):
        with pytest.raises(ValueError, match="masked entries"):
            list(Dataset.from_tensor_slices(data))
        with pytest.raises(ValueError, match="masked entries"):
            list(Dataset.from_generator(lambda data=data: [data]))


def test_arrays_without_masked_entries_are_arrays():
    x = np.ma.array(np.ones((3, 4), "float32"))
    np.testing.assert_array_equal(ops.add(x, 1), np.full((3, 4), 2.0))
    assert [e.tolist() for e in Dataset.from_tensor_slices(x)] == [[1.0] * 4] * 3


@pytest.mark.parametrize("taker", [t for t in TAKERS if t not in ("adapt", "adapt bins", "scan")])
@pytest.mark.parametrize(
    ("x", "words"),
    (
        ([[1, 2], [3]], "row 0 has 2 entries, row 1 has 1"),
        ([[[1], [2]], [[3], [4, 5]]], "row 0 has 1 entries, row 1 has 2"),
        ([1, [2]], "numbers and lists beside each other"),
    ),
)
def test_ragged_lists(taker, x, words):
    with pytest.raises(ValueError, match=words):
        TAKERS[taker](x)


SCALAR = np.float32(1)


@pytest.mark.parametrize(
    "call",
    (
        lambda: layers.Reshape((1,))(SCALAR),
        lambda: losses.SparseCategoricalCrossentropy()(SCALAR, SCALAR),
        lambda: losses.CategoricalGeneralizedCrossEntropy()(SCALAR, SCALAR),
        lambda: metrics.SparseCategoricalAccuracy().update_state(SCALAR, SCALAR),
        lambda: metrics.SparseTopKCategoricalAccuracy(2).update_state(SCALAR, SCALAR),
        lambda: layers.Add()([{"a": 1}, {"a": 1}]),
    ),
)
def test_scalars_have_no_axis_of_classes(call):
    with pytest.raises(ValueError, match=r"axis|shape|expected|array"):
        call()


@pytest.mark.parametrize(
    ("curve", "label", "area"), (("ROC", 0, 0.0), ("ROC", 1, 0.0), ("PR", 0, 0.0), ("PR", 1, 1.0))
)
def test_a_class_that_is_absent(curve, label, area):
    """The areas are those of Keras: a rate of no cases is 0."""
    metric = metrics.AUC(curve=curve)
    metric.update_state(np.full(6, label, "float32"), np.linspace(0.1, 0.9, 6, dtype="float32"))
    np.testing.assert_allclose(metric.result(), area, atol=1e-6)


# Arguments.


def rows():
    return Dataset.from_tensor_slices((np.arange(12).reshape(6, 2), np.arange(6)))


NO_COUNTS = (2.5, "3", np.nan, [1], np.zeros(2))
VERBS = ("take", "skip", "repeat", "prefetch", "batch", "padded_batch", "shuffle", "enumerate")


@pytest.mark.parametrize("value", NO_COUNTS, ids=str)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("made", (False, True))
def test_counts_of_data_sets(verb, value, made):
    data = rows().filter(lambda *row: True) if made else rows()
    with pytest.raises(ValueError, match=f"{verb}|batch_size|buffer_size"):
        getattr(data, verb)(value)


def differs():
    yield np.zeros(2)
    yield np.zeros(2), 1


def test_remedies_are_named():
    for call, words in (
        (lambda: make_model().fit(Dataset.from_tensor_slices((X, Y[:, None]))), r"\.batch\("),
        (lambda: layers.Dense(2)(layers.Input((3, None))), "the last dimension .* must be known"),
        (lambda: hm.backend.mean, r"use handmill\.ops\.mean"),
    ):
        with pytest.raises((ValueError, AttributeError), match=words):
            call()


@pytest.mark.parametrize(
    ("call", "words"),
    (
        (lambda: rows().map(3), "map: expected a function"),
        (lambda: rows().filter(None), "filter: expected a function"),
        (lambda: rows().map(lambda *r: r, num_parallel_calls="a"), "num_parallel_calls"),
        (lambda: rows().map(lambda *r: r, num_parallel_calls=2.5), "num_parallel_calls"),
        (lambda: rows().shuffle(3, seed="a"), "seed"),
        (lambda: rows().enumerate(1 << 63), "int64"),
        (lambda: Dataset.range("3"), "range"),
        (lambda: Dataset.range(0, 5, 0), "the step must not be 0"),
        (lambda: Dataset.range(1 << 70), "int64"),
        (Dataset.zip, "expected data sets"),
        (lambda: list(Dataset.from_generator(lambda: 3)), "returns an iterable; it returned 3"),
        (lambda: list(Dataset.from_generator(differs).batch(2)), "nested"),
        (lambda: hm.utils.timeseries_dataset_from_array(X, None, "2"), "sequence_length"),
        (lambda: hm.utils.timeseries_dataset_from_array(X, None, 2.5), "sequence_length"),
        (lambda: hm.utils.timeseries_dataset_from_array(X, 3, 2), "targets"),
        (lambda: hm.utils.timeseries_dataset_from_array(X, "abc", 2), "targets"),
    ),
)
def test_arguments_of_data_sets(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


@pytest.mark.parametrize(
    ("arguments", "words"),
    (
        ({"verbose": None}, "`verbose` must be"),
        ({"verbose": "loud"}, "`verbose` must be"),
        ({"shuffle": "rows"}, "`shuffle` must be a bool or 'batch'"),
        ({"steps_per_epoch": "3"}, "positive integer"),
        ({"steps_per_epoch": np.nan}, "positive integer"),
        ({"validation_data": (X, Y), "validation_steps": "a"}, "positive integer"),
        ({"validation_data": (X, Y), "validation_batch_size": 0}, "positive integer"),
        ({"class_weight": {0.5: 1.0, 1: 2.0}}, "by class number"),
        ({"class_weight": {0: 1.0, "0": 2.0}}, "by class number"),
    ),
)
def test_arguments_of_fit(arguments, words):
    model = make_model()
    before = bits_of(model)
    with pytest.raises(ValueError, match=words):
        model.fit(X, Y, **{"verbose": 0, **arguments})
    assert bits_of(model)[: len(before)] == before


@pytest.mark.parametrize(
    ("call", "words"),
    (
        (lambda: metrics.MeanIoU(1 << 40), "total_confusion_matrix|elements"),
        (lambda: metrics.MeanIoU(0), "`num_classes`"),
        (lambda: metrics.MeanIoU("3"), "`num_classes`"),
        (lambda: metrics.MeanIoU(2.5), "`num_classes`"),
        (lambda: metrics.IoU(2, []), "`target_class_ids`"),
        (lambda: metrics.IoU(2, "a"), "`target_class_ids`"),
        (lambda: metrics.IoU(2, [0.5]), "`target_class_ids`"),
        (lambda: metrics.AUC(num_thresholds="3"), "`num_thresholds`"),
        (lambda: metrics.AUC(num_thresholds=2.5), "`num_thresholds`"),
        (lambda: metrics.AUC(thresholds=["a"]), "`thresholds`"),
        (lambda: metrics.AUC(multi_label=True, num_labels=-1), "`num_labels`"),
        (lambda: metrics.Precision(thresholds="a"), "Threshold values"),
        (lambda: metrics.BinaryAccuracy(threshold="a"), "`threshold`"),
        (lambda: metrics.TopKCategoricalAccuracy(k="a"), "`k`"),
        (lambda: metrics.SparseTopKCategoricalAccuracy(k=-1), "`k`"),
        (lambda: metrics.MeanMetricWrapper(None), "`fn`"),
        (lambda: hm.random.normal(None), "`shape`"),
        (lambda: hm.random.uniform((2.5, 3)), "`shape`"),
        (lambda: hm.random.truncated_normal("23"), "`shape`"),
        (lambda: hm.random.normal(np.ones((2, 2), int)), "`shape`"),
        (lambda: ops.image.resize(X[None, ..., None], 3), "`size`"),
        (lambda: ops.image.resize(X[None, ..., None], "ab"), "`size`"),
        (lambda: ops.image.gaussian_blur(X[None, ..., None], 3), "`kernel_size`"),
        (lambda: ops.image.gaussian_blur(X[None, ..., None], (3, 3), "ab"), "`sigma`"),
        (lambda: ops.image.elastic_transform(X[None, ..., None], alpha="a"), "`alpha`"),
        (lambda: ops.image.pad_images(X[None, ..., None], "a", 0, 0, 0), "`top_padding`"),
    ),
)
def test_arguments_of_metrics_draws_and_images(call, words):
    with pytest.raises((ValueError, TypeError, MemoryError), match=words):
        call()


# Two fits, fits inside of fits, and threads.


def within(model, act, way):
    """Fits a model; ``act`` is called on it in the middle."""

    def generator():
        yield X, Y
        act(model)
        yield X, Y

    class Acts(hm.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            act(model)

    class Acting(Batches):
        def __getitem__(self, index):
            act(model)
            return X, Y

    if way == "callback":
        return model.fit(X, Y, verbose=0, callbacks=[Acts()])
    data = {
        "generator": generator,
        "map": lambda: Dataset.range(2).map(lambda _: (act(model), (X, Y))[1]),
        "PyDataset": lambda: Acting(X, Y),
        "workers": lambda: Acting(X, Y, workers=2),
    }[way]()
    return model.fit(data, verbose=0)


INSIDE = ("callback", "generator", "map", "PyDataset", "workers")


@pytest.mark.parametrize("way", INSIDE)
def test_fit_inside_fit_is_refused(way):
    model = make_model()
    with pytest.raises(RuntimeError, match="while fit\\(\\) of the same model is running"):
        within(model, lambda m: m.fit(X, Y, verbose=0), way)
    assert math.isfinite(model.fit(X, Y, verbose=0).history["loss"][0])


@pytest.mark.parametrize("way", INSIDE)
def test_what_may_be_done_inside_fit_changes_nothing(way, tmp_path):
    def act(model):
        model.evaluate(X, Y, verbose=0)
        model.predict(X, verbose=0)
        model.save(tmp_path / f"{way}.hmill")

    model = make_model()
    within(model, act, way)
    twin = make_model()
    within(twin, lambda m: None, way)
    assert bits_of(model) == bits_of(twin)


def test_two_fits_at_once_of_one_model():
    model, found = make_model(), []
    started, ended = threading.Event(), threading.Event()

    class Waits(hm.callbacks.Callback):
        def on_train_begin(self, logs=None):
            started.set()
            assert ended.wait(20)

    def other():
        assert started.wait(20)
        try:
            model.fit(rows().batch(2), verbose=0)
        except RuntimeError as error:
            found.append(str(error))
        ended.set()

    thread = threading.Thread(target=other)
    thread.start()
    model.fit(X, Y, verbose=0, callbacks=[Waits()])
    thread.join()
    assert len(found) == 1
    assert "of the same model is running" in found[0]
    twin = make_model()
    twin.fit(X, Y, verbose=0)
    assert bits_of(model) == bits_of(twin)


@pytest.mark.filterwarnings("ignore::handmill.errors.TrainingWarning")
@pytest.mark.parametrize("way", ("slices", "PyDataset", "generator"))
def test_arrays_that_another_thread_writes_while_they_are_learned_from(way):
    """Which numbers count is open; that they are numbers of the array is not, nor that it ends."""
    x, model, stop = X.repeat(64, axis=0), make_model(), threading.Event()
    y = Y.repeat(64)

    def writes():
        while not stop.is_set():
            x[...] = -x

    thread = threading.Thread(target=writes)
    thread.start()
    try:
        for _ in range(3):
            WAYS[way](model, x, y)
    finally:
        stop.set()
        thread.join()
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_threads_end_where_their_start_is_interrupted(monkeypatch):
    started = []

    class Interrupted(threading.Thread):
        def start(self):
            super().start()
            started.append(self)
            if len(started) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr("handmill.data.prefetch.threading.Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(Dataset.range(100).map(lambda x: x, num_parallel_calls=2))
    monkeypatch.undo()
    gc.collect()
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)


# Feature spaces, callbacks, the editor, tensors of others.


@pytest.mark.parametrize(
    ("data", "words"),
    (
        ({"a": np.arange(6.0)}, "no data for 'b'"),
        (np.arange(6), "batches that are dicts"),
        (({"a": np.arange(6.0), "b": np.array(list("xyxyxy"))}, np.arange(6)), "leave targets out"),
        ({"a": np.array(list("xyxyxy")), "b": np.array(list("xyxyxy"))}, "takes numbers"),
        ({"a": np.full(6, np.nan), "b": np.array(list("xyxyxy"))}, "cannot learn from nan"),
        ({"a": np.arange(6.0), "b": np.array([None] * 6, object)}, "missing value"),
    ),
)
def test_data_of_feature_spaces(data, words):
    kinds = {"a": "float_normalized", "b": "string_categorical"}
    space = hm.utils.FeatureSpace(kinds, output_mode="concat")
    with pytest.raises(ValueError, match=words):
        space.adapt(Dataset.from_tensor_slices(data).batch(2))
    space = hm.utils.FeatureSpace(kinds, output_mode="concat")
    good = {"a": np.arange(6.0), "b": np.array(list("xyxyxy"))}
    space.adapt(good)
    assert np.asarray(space(good)).shape == (6, 4)


def test_feature_spaces_are_told_features():
    with pytest.raises(ValueError, match="`features` must be a dict"):
        hm.utils.FeatureSpace(["a"])


@pytest.mark.parametrize(
    ("make", "words"),
    (
        (lambda p: hm.callbacks.ModelCheckpoint(f"{p}/{{epoch:zz}}.hmill"), "Failed to format"),
        (lambda p: hm.callbacks.ModelCheckpoint(f"{p}/{{epoch.hmill"), "Failed to format"),
        (lambda p: hm.callbacks.ModelCheckpoint(f"{p}/{{}}.hmill"), "Failed to format"),
        (lambda p: hm.callbacks.ModelCheckpoint(f"{p}/{{epoch.no}}.hmill"), "Failed to format"),
        (lambda p: hm.callbacks.EarlyStopping("loss", min_delta="a"), "`min_delta`"),
        (lambda p: hm.callbacks.EarlyStopping(3), "`monitor`"),
        (lambda p: hm.callbacks.LearningRateScheduler(3), "`schedule`"),
        (lambda p: hm.callbacks.TensorBoard(p, histogram_freq="a"), "`histogram_freq`"),
        (lambda p: hm.callbacks.CSVLogger(p / "x.csv", separator="ab"), "`separator`"),
    ),
)
def test_arguments_of_callbacks(make, words, tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match=words):
        model.fit(X, Y, verbose=0, callbacks=[make(tmp_path)])
    assert math.isfinite(model.fit(X, Y, verbose=0).history["loss"][0])


@pytest.mark.parametrize(
    ("call", "words"),
    (
        (lambda e: e.rename_object(None, "a"), "is a text"),
        (lambda e: e.rename_object("layers/dense", 3), "one part of a path"),
        (lambda e: e.rename_object("layers/dense", ".."), "one part of a path"),
        (lambda e: e.add_object(None, {}), "is a text"),
        (lambda e: e.add_object("../x", {"0": np.ones(2)}), "not found"),
        (lambda e: e.add_object("layers/x", {"0": [[1], [1, 2]]}), "row 0 has 1 entries"),
        (lambda e: e.add_object("layers/x", {"0": np.ma.array([1], mask=[1])}), "masked"),
        (lambda e: e.add_object("layers/x", {"0": np.zeros(2, "M8[s]")}), "array of numbers"),
        (lambda e: e.delete_object(None), "is a text"),
        (lambda e: e.compare(None), "expected a model"),
    ),
)
def test_what_the_editor_is_told(call, words, tmp_path, capsys):
    pytest.importorskip("h5py")
    model = make_model()
    model.save_weights(tmp_path / "m.weights.h5")
    editor = hm.saving.KerasFileEditor(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match=words):
        call(editor)
    assert editor.compare(model)["status"] == "success"


class Elsewhere:
    """A tensor that lies where NumPy cannot read it."""

    shape, dtype, requires_grad = (32, 4), "float32", False

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **options):
        raise BufferError("on a GPU")


class Watched:
    """A tensor of a library that keeps gradients: NumPy gets it detached."""

    shape, dtype, requires_grad = (32, 4), "float32", True

    def detach(self):
        return X

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("detach it first")

    def __dlpack__(self, **options):
        raise BufferError("detach it first")


TENSORS = {
    "fit": lambda x: np.float32(make_model().fit(x, Y, verbose=0).history["loss"][0]),
    "slices": lambda x: next(iter(Dataset.from_tensor_slices((x, Y)).batch(32)))[0],
    "made": lambda x: next(iter(Dataset.from_generator(lambda: [x]))),
    "ops": lambda x: ops.add(x, 1),
    "call": lambda x: called(make_model(), x),
    "adapt": lambda x: adapted(layers.Normalization(), x).mean,
    "bins": lambda x: adapted(layers.Discretization(num_bins=3), x)(X),
}


def called(model, x):
    return model(x)


def adapted(layer, x):
    layer.adapt(x)
    return layer


@pytest.mark.parametrize("way", TENSORS)
def test_tensors_of_other_libraries(way):
    with pytest.raises(ValueError, match=r"cannot be read by NumPy: on a GPU\n  hint: .*x.cpu\(\)"):
        TENSORS[way](Elsewhere())
    np.testing.assert_array_equal(TENSORS[way](Watched()), TENSORS[way](X))


def test_batches_that_processes_cannot_send():
    data = Unsendable(X, Y, workers=1, use_multiprocessing=True)
    with pytest.raises(RuntimeError, match=r"__getitem__\(\d\) returned a batch that cannot be"):
        make_model().fit(data, verbose=0)


class Unsendable(Batches):
    def __getitem__(self, index):
        return threading.Lock(), Y


@pytest.mark.parametrize(
    ("layer", "arguments", "words"),
    (
        ("Discretization", {"num_bins": "a"}, "num_bins"),
        ("Discretization", {"num_bins": 2, "epsilon": "a"}, "epsilon"),
        ("Discretization", {"bin_boundaries": ["a"]}, "bin_boundaries"),
        ("Hashing", {"num_bins": "a"}, "num_bins"),
        ("Hashing", {"num_bins": 2.5}, "num_bins"),
        ("HashedCrossing", {"num_bins": "a"}, "num_bins"),
        ("CategoryEncoding", {"num_tokens": "a"}, "num_tokens"),
        ("StringLookup", {"num_oov_indices": "a"}, "num_oov_indices"),
        ("StringLookup", {"max_tokens": "a"}, "max_tokens"),
        ("StringLookup", {"encoding": "no such"}, "encoding"),
        ("IntegerLookup", {"mask_token": "a"}, "mask_token"),
        ("TextVectorization", {"ngrams": 0}, "ngrams"),
        ("TextVectorization", {"ngrams": (2, 0)}, "ngrams"),
        ("TextVectorization", {"output_sequence_length": -1}, "output_sequence_length"),
        ("TextVectorization", {"encoding": "no such"}, "encoding"),
        ("Normalization", {"mean": "a", "variance": 1.0}, "mean"),
        ("Normalization", {"mean": 0.0, "variance": -1.0}, "must not be negative"),
        ("Normalization", {"axis": "a"}, "axis"),
        ("Rescaling", {"scale": "a"}, "scale"),
        ("Rescaling", {"scale": None}, "scale"),
        ("Rescaling", {"scale": 1.0, "offset": [None]}, "offset"),
    ),
)
def test_arguments_of_preprocessing(layer, arguments, words):
    with pytest.raises(ValueError, match=words):
        getattr(layers, layer)(**arguments)


def test_no_bins_learn_nothing():
    with pytest.raises(ValueError, match="`num_bins=0`"):
        layers.Discretization(num_bins=0).adapt(X)
