"""Models whose inputs are strings: what takes strings runs before the program."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, models, utils
from handmill.data import Dataset

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")

TEXTS = np.array(["good great film", "bad awful film", "great good", "awful bad bad"] * 8)
LABELS = np.array([1.0, 0.0, 1.0, 0.0] * 8, "float32")


def text_model(**arguments: Any) -> Any:
    vectorize = layers.TextVectorization(output_mode="count", **arguments)
    vectorize.adapt(TEXTS)
    utils.set_random_seed(3)
    model = handmill.Sequential(
        [handmill.Input((), dtype="string"), vectorize, layers.Dense(1, activation="sigmoid")]
    )
    model.compile(handmill.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    return model


def numbers_model(model: Any) -> tuple[Any, np.ndarray]:
    """The same model behind the layer that takes strings, and its inputs."""
    x = model.layers[0](TEXTS)
    utils.set_random_seed(3)
    other = handmill.Sequential(
        [handmill.Input((x.shape[1],)), layers.Dense(1, activation="sigmoid")]
    )
    other.compile(handmill.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    return other, x


class Batches(utils.PyDataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        rows = slice(8 * index, 8 * index + 8)
        return TEXTS[rows], LABELS[rows]


def test_a_model_trains_on_strings_as_on_their_numbers() -> None:
    model = text_model()
    other, x = numbers_model(model)
    how = {"batch_size": 8, "epochs": 3, "validation_split": 0.25, "shuffle": False, "verbose": 0}
    history = model.fit(TEXTS, LABELS, **how)
    want = other.fit(x, LABELS, **how)
    assert history.history == want.history
    assert model.evaluate(TEXTS, LABELS, verbose=0) == other.evaluate(x, LABELS, verbose=0)
    prediction = other.predict(x, verbose=0)
    for found in (
        model.predict(TEXTS, verbose=0),
        model.predict(TEXTS.tolist(), verbose=0),
        model.predict(TEXTS[:, None], verbose=0),
        model(TEXTS),
        model(TEXTS),
        model.predict_on_batch(TEXTS),
        np.concatenate(list(model.predict_iter(TEXTS, batch_size=5))),
    ):
        np.testing.assert_array_equal(found, prediction)
    assert model.train_on_batch(TEXTS, LABELS) == other.train_on_batch(x, LABELS)
    assert handmill.compare(model, TEXTS, LABELS).ok


def test_batches_of_strings() -> None:
    model = text_model()
    other, x = numbers_model(model)
    for data in (Batches(), ((TEXTS[i : i + 8], LABELS[i : i + 8]) for i in range(0, 32, 8))):
        model.fit(data, epochs=1, shuffle=False, verbose=0, validation_data=Batches())
        other.fit(x, LABELS, batch_size=8, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.evaluate(Batches(), verbose=0) == model.evaluate(
        TEXTS, LABELS, batch_size=8, verbose=0
    )


def table() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "city": rng.choice(["rome", "oslo", "lima"], 20),
        "age": rng.uniform(18, 80, 20).astype("float32"),
        "zip": rng.integers(0, 50, 20),
    }


def table_model() -> Any:
    city = handmill.Input((1,), dtype="string", name="city")
    age = handmill.Input((1,), name="age")
    code = handmill.Input((1,), dtype="int64", name="zip")
    parts = [
        layers.StringLookup(vocabulary=["rome", "oslo"], output_mode="one_hot")(city),
        layers.HashedCrossing(7, output_mode="one_hot")([city, code]),
        layers.Discretization([30.0, 60.0], output_mode="one_hot")(age),
        layers.Hashing(5, output_mode="one_hot")(code),
        layers.Normalization(axis=None, mean=50.0, variance=300.0)(age),
    ]
    inputs = {"city": city, "age": age, "zip": code}
    model = handmill.Model(inputs, layers.Dense(1)(layers.Concatenate()(parts)))
    model.compile("sgd", "mse")
    return model


def test_strings_beside_numbers(tmp_path: Any) -> None:
    model, x = table_model(), table()
    y = np.arange(20, dtype="float32") / 20
    model.fit(x, y, epochs=2, verbose=0)
    found = model.predict(x, verbose=0)
    by_hand = np.concatenate(
        [
            model.layers[i](v)
            for i, v in (
                (names(model).index("string_lookup"), x["city"][:, None]),
                (names(model).index("hashed_crossing"), (x["city"][:, None], x["zip"][:, None])),
                (names(model).index("discretization"), x["age"][:, None]),
                (names(model).index("hashing"), x["zip"][:, None]),
                (names(model).index("normalization"), x["age"][:, None]),
            )
        ],
        axis=1,
    )
    kernel, bias = model.get_weights()[-2:]
    np.testing.assert_allclose(found, by_hand @ kernel + bias, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)
    np.testing.assert_array_equal(loaded(x), found)


def test_batches_of_strings_beside_numbers() -> None:
    """However batches are made, they are the rows of the arrays, in order."""
    x, y = table(), np.arange(20, dtype="float32") / 20
    rows = [({k: v[i : i + 8] for k, v in x.items()}, y[i : i + 8]) for i in (0, 8, 16)]
    whole = table_model()
    start = whole.get_weights()
    whole.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for made in (
        lambda x, y: Dataset.from_tensor_slices((x, y)).batch(8),
        lambda x, y: iter(rows),
        lambda x, y: Dataset.from_generator(lambda: rows),
    ):
        model = table_model()
        model.set_weights(start)
        model.fit(made(x, y), shuffle=False, verbose=0)
        for a, b in zip(model.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    for data in (Dataset.from_tensor_slices(x).batch(8), iter([batch for batch, _ in rows])):
        found = whole.predict(data, verbose=0)
        np.testing.assert_array_equal(found, whole.predict(x, batch_size=8, verbose=0))


def names(model: Any) -> list[str]:
    return [handmill.naming.to_snake_case(type(x).__name__) for x in model.layers]


def test_a_frame_is_data_by_columns() -> None:
    pandas = pytest.importorskip("pandas", reason="no pandas")
    model, x = table_model(), table()
    frame = pandas.DataFrame(x)
    np.testing.assert_array_equal(model.predict(frame, verbose=0), model.predict(x, verbose=0))


def test_copies_of_a_model() -> None:
    model = text_model()
    model.fit(TEXTS, LABELS, verbose=0)
    found = model.predict(TEXTS, verbose=0)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict(TEXTS, verbose=0), found)
    for other in (models.clone_model(model), models.model_from_json(model.to_json())):
        other.set_weights(model.get_weights())
        np.testing.assert_array_equal(other(TEXTS), found)


def test_steps_that_python_runs() -> None:
    model, eager = text_model(), text_model()
    eager.compile(handmill.optimizers.Adam(0.1), "binary_crossentropy", run_eagerly=True)
    for each in (model, eager):
        each.fit(TEXTS, LABELS, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        eager.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0), rtol=1e-5
    )


def test_a_model_inside_of_a_model(tmp_path: Any) -> None:
    inner = text_model()
    x = handmill.Input((), dtype="string", name="text")
    outer = handmill.Model(x, layers.Rescaling(2.0)(inner(x)))
    np.testing.assert_array_equal(
        outer.predict(TEXTS, verbose=0), 2 * inner.predict(TEXTS, verbose=0)
    )
    outer.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded(TEXTS), outer(TEXTS))


def test_a_sequential_model_learns_from_data_that_its_input_is_text() -> None:
    vectorize = layers.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=3)
    model = handmill.Sequential([vectorize, layers.Embedding(4, 2), layers.Flatten()])
    assert model.predict(TEXTS[:3, None], verbose=0).shape == (3, 6)
    assert model(TEXTS[:5]).shape == (5, 6)


def test_what_was_learned_later_counts() -> None:
    """A vocabulary that changes after the model has run."""
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    model = handmill.Sequential([handmill.Input((1,), dtype="string"), lookup, layers.Rescaling(1)])
    x = np.array([["a"], ["b"], ["c"]])
    assert model.predict(x, verbose=0).tolist() == [[1], [2], [0]]
    lookup.set_vocabulary(["c", "b", "a"])
    assert model.predict(x, verbose=0).tolist() == [[3], [2], [1]]
    numbers = layers.IntegerLookup(vocabulary=[5, 6])
    model = handmill.Sequential([handmill.Input((1,), dtype="int64"), numbers])
    assert model.predict(np.array([[5], [7]]), verbose=0).tolist() == [[1], [0]]
    numbers.set_vocabulary([7, 6])
    assert model.predict(np.array([[5], [7]]), verbose=0).tolist() == [[0], [1]]


@handmill.saving.register_keras_serializable(package="test")
class OwnModel(handmill.Model):
    """A model of a user whose layers no file describes."""

    def __init__(self, lookup: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lookup = layers.IntegerLookup(vocabulary=[3, 5]) if lookup is None else lookup
        self.dense = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(self.lookup(inputs))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


def test_a_vocabulary_that_a_file_would_lose_is_refused(tmp_path: Any) -> None:
    x = np.array([[3], [7]])
    given = OwnModel()
    given(x)
    given.save(tmp_path / "m.hmill")
    np.testing.assert_array_equal(models.load_model(tmp_path / "m.hmill")(x), given(x))
    lookup = layers.IntegerLookup()
    lookup.adapt(x)
    learned = OwnModel(lookup)
    learned(x)
    with pytest.raises(NotImplementedError, match="has learned a vocabulary"):
        learned.save(tmp_path / "other.hmill")
    assert not (tmp_path / "other.hmill").exists()


@pytest.mark.parametrize(
    ("act", "error", "match"),
    (
        (layers.Dense(1), TypeError, "takes numbers, and its input"),
        (layers.StringLookup(invert=True, vocabulary=["a"]), ValueError, "invert"),
        (lambda x: handmill.Model(x, x), ValueError, "would be strings"),
        (
            lambda x: handmill.Model(
                x, layers.HashedCrossing(3)([x, layers.IntegerLookup()(layers.Hashing(3)(x))])
            ),
            ValueError,
            "only inputs of the model",
        ),
    ),
)
def test_refuses(act: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        act(handmill.Input((1,), dtype="string"))


def test_data_that_do_not_fit() -> None:
    model = table_model()
    before = model.get_weights()
    for x, match in (
        ({"city": ["rome"], "age": [3.0]}, "Missing data for input 'zip'"),
        ([["rome"], [3.0]], "3 inputs"),
        ({**table(), "city": np.full((20, 2), "rome")}, "expects shape"),
    ):
        with pytest.raises(ValueError, match=match):
            model.fit(x, np.zeros(20), verbose=0)
    numbers = handmill.Sequential([handmill.Input((1,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="dtype='string'"):
        numbers.predict(TEXTS, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resumed_with_a_data_set(tmp_path: Path) -> None:
    """The passes of a shuffled data set go on where they were."""

    def data() -> Dataset:
        return Dataset.from_tensor_slices((TEXTS, LABELS)).shuffle(32, seed=5).batch(5)

    whole = text_model()
    whole.fit(data(), epochs=4, verbose=0, resume=tmp_path / "whole.hmill")
    path, batches = tmp_path / "run.hmill", iter(range(12))

    def stop(batch: int, logs: Any) -> None:  # in the middle of the second epoch
        if next(batches, None) is None:
            raise KeyboardInterrupt

    stopping = handmill.callbacks.LambdaCallback(on_train_batch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        text_model().fit(data(), epochs=4, verbose=0, resume=path, callbacks=[stopping])
    again = text_model()
    again.fit(data(), epochs=4, verbose=0, resume=path)
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_endless_data_set_needs_steps() -> None:
    data = Dataset.from_tensor_slices((TEXTS, LABELS)).repeat().batch(5)
    with pytest.raises(ValueError, match="endless"):
        text_model().fit(data, verbose=0)
    history = text_model().fit(data, steps_per_epoch=3, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_values_inside() -> None:
    model = text_model()
    seen = handmill.inspect(model, TEXTS, LABELS)
    found = seen[model.layers[-1].name].value
    np.testing.assert_allclose(found, model.predict(TEXTS, verbose=0), rtol=1e-6)


def test_a_layer_without_a_vocabulary_is_refused_when_it_is_used_not_before() -> None:
    texts, numbers = np.array(["a b", "b"]), np.array([[5], [6]])
    cases = (
        (layers.StringLookup(), texts, ()),
        (layers.TextVectorization(), texts, ()),
        (layers.IntegerLookup(), numbers, (1,)),
    )
    for layer, data, shape in cases:
        with pytest.raises((RuntimeError, ValueError), match=f"{layer.name}.* has no vocabulary"):
            layer(data)
        dtype = "string" if data is texts else "int64"
        model = models.Sequential([handmill.Input(shape, dtype=dtype), layer])
        with pytest.raises((RuntimeError, ValueError), match="has no vocabulary yet"):
            model.predict(data, verbose=0)
        layer.adapt(data)
        assert model.predict(data, verbose=0).min() >= 0
    with pytest.raises(RuntimeError, match="has no vocabulary yet"):
        layers.StringLookup(invert=True)(np.array([0]))
