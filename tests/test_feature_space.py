"""FeatureSpace: a table encoded column by column, alone and as the beginning of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, models
from handmill.utils import FeatureSpace

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")

ROWS = 40
RNG = np.random.default_rng(0)
TABLE: dict[str, Any] = {
    "age": RNG.uniform(18, 80, ROWS).astype("float32"),
    "fare": RNG.exponential(30, ROWS).astype("float32"),
    "city": RNG.choice(["rome", "oslo", "lima"], ROWS),
    "zip": RNG.integers(0, 5, ROWS),
    "id": RNG.integers(0, 1000, ROWS),
    "raw": RNG.normal(size=ROWS).astype("float32"),
}


def space(**arguments: Any) -> Any:
    return FeatureSpace(
        {
            "age": "float_normalized",
            "fare": FeatureSpace.float_discretized(num_bins=4),
            "city": "string_categorical",
            "zip": "integer_categorical",
            "id": FeatureSpace.integer_hashed(num_bins=8),
            "raw": "float",
        },
        crosses=[("city", "zip")],
        crossing_dim=10,
        **arguments,
    )


def by_hand(adapted: Any) -> dict[str, np.ndarray]:
    """The encoding of each feature, by layers called one after the other."""
    found = {name: adapted.preprocessors[name](column[:, None]) for name, column in TABLE.items()}
    crossed = layers.HashedCrossing(10)((found["city"], found["zip"]))
    sizes = {"fare": 4, "city": 4, "zip": 6, "id": 8}
    rows = {n: np.eye(sizes[n])[x[:, 0]] if n in sizes else x for n, x in found.items()}
    return rows | {"city_X_zip": np.eye(10)[crossed[:, 0]]}


def test_encodes_as_its_layers_do() -> None:
    adapted = space()
    adapted.adapt(TABLE)
    rows = by_hand(adapted)
    names = [*sorted(TABLE), "city_X_zip"]
    want = np.concatenate([rows[name] for name in names], axis=1)
    np.testing.assert_array_equal(adapted(TABLE), want)
    row = {name: column[3] for name, column in TABLE.items()}
    np.testing.assert_array_equal(adapted(row), want[3])
    separate = space(output_mode="dict")
    separate.adapt(TABLE)
    found = separate(TABLE)
    assert sorted(found) == sorted(names)
    for name in names:
        np.testing.assert_array_equal(found[name], rows[name])


@pytest.mark.parametrize("kind", ("batches", "rows", "iterator", "frame"))
def test_adapts_to_what_gives_the_same_rows(kind: str) -> None:
    rows = [{name: column[i] for name, column in TABLE.items()} for i in range(ROWS)]
    parts = (slice(0, 32), slice(32, ROWS))
    batches = [{name: column[part] for name, column in TABLE.items()} for part in parts]
    if kind == "frame":
        data = pytest.importorskip("pandas", reason="no pandas").DataFrame(TABLE)
    else:
        data = {"batches": batches, "rows": rows, "iterator": iter(rows)}[kind]
    one, other = space(), space()
    one.adapt(TABLE)
    other.adapt(data)
    np.testing.assert_allclose(other(TABLE), one(TABLE), rtol=1e-6)


def test_is_the_beginning_of_a_model_and_travels_in_files(tmp_path: Any) -> None:
    adapted = space()
    adapted.adapt(TABLE)
    encoded = adapted.get_encoded_features()
    trained = handmill.Model(encoded, layers.Dense(1)(encoded))
    trained.compile("sgd", "mse")
    trained.fit(adapted(TABLE), TABLE["raw"], verbose=0)
    whole = handmill.Model(adapted.get_inputs(), trained(encoded))
    want = trained.predict(adapted(TABLE), verbose=0)
    np.testing.assert_array_equal(whole.predict(TABLE, verbose=0), want)
    for name, model in (("space", adapted), ("whole", whole)):
        model.save(tmp_path / f"{name}.hmill")
        loaded = models.load_model(tmp_path / f"{name}.hmill")
        loaded.save(tmp_path / "again.hmill")
        loaded = models.load_model(tmp_path / "again.hmill")
        np.testing.assert_array_equal(loaded(TABLE), model(TABLE))


def test_a_layer_of_the_user() -> None:
    text = layers.TextVectorization(output_mode="tf_idf")
    found = FeatureSpace(
        {"text": FeatureSpace.feature("string", text, "float")}, output_mode="concat"
    )
    found.adapt({"text": ["1st string", "2nd string", "3rd string"]})
    assert found({"text": ["1st string", "x", "string"]}).shape == (3, 5)


@pytest.mark.parametrize(
    ("act", "match"),
    (
        (lambda: FeatureSpace({}), "cannot be None or empty"),
        (lambda: FeatureSpace({"a": "number"}), "Invalid feature type"),
        (lambda: FeatureSpace({"a": "float"}, crosses=[("a", "b")]), "should be present in"),
        (lambda: FeatureSpace({"a": "float"}, output_mode="rows"), "`output_mode`"),
        (lambda: FeatureSpace({"a": "float"}, crosses=["a"], crossing_dim=0), "`crossing_dim`"),
        (lambda: space()(TABLE), "You need to call `.adapt"),
        (lambda: space().get_inputs(), "You need to call `.adapt"),
        (lambda: space().adapt(3), "can only be called on"),
        (lambda: FeatureSpace({"a": "float"})({"b": [1.0]}), "columns of the data"),
        (lambda: FeatureSpace({"a": "float"})([1.0]), "called with a dict"),
        (
            lambda: FeatureSpace({"a": FeatureSpace.integer_hashed(3, "int")})({"a": [1]}),
            "has not been encoded",
        ),
    ),
)
def test_refuses(act: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        act()


def test_crosses_are_layers_of_their_own() -> None:
    adapted = FeatureSpace(
        {"a": "integer_categorical", "b": "integer_categorical"},
        crosses=[FeatureSpace.cross(("a", "b"), crossing_dim=5, output_mode="int")],
        output_mode="dict",
    )
    table = {"a": np.array([1, 2, 1]), "b": np.array([3, 3, 4])}
    adapted.adapt(table)
    crosser = adapted.crossers["a_X_b"]
    codes = [adapted.preprocessors[name](table[name][:, None]) for name in "ab"]
    np.testing.assert_array_equal(adapted(table)["a_X_b"], crosser(codes))


def test_bins_are_as_many_as_their_boundaries_make() -> None:
    feature = FeatureSpace.float_discretized(3, bin_boundaries=[0.0, 1.0])
    np.testing.assert_array_equal(feature.preprocessor([-1.0, 0.5, 2.0]), [0, 1, 2])
    with pytest.raises(ValueError, match=r"make 3 bins\. Received: num_bins=4"):
        FeatureSpace.float_discretized(4, bin_boundaries=[0.0, 1.0])
