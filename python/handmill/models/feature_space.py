"""Tables as inputs: a type for each column, and one object that encodes them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import layers, tree
from handmill.ir.op import Array
from handmill.layers.preprocessing.adapting import batches_of
from handmill.layers.symbolic import KerasTensor
from handmill.models.model import Model
from handmill.naming import auto_name
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class Cross:
    """Several features as one: see :meth:`FeatureSpace.cross`."""

    def __init__(
        self, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"
    ) -> None:
        _check_mode(output_mode, ("int", "one_hot"))
        self.feature_names = tuple(feature_names)
        self.crossing_dim = crossing_dim
        self.output_mode = output_mode

    @property
    def name(self) -> str:
        """The names of the features, joined."""
        return "_X_".join(self.feature_names)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "feature_names": list(self.feature_names),
            "crossing_dim": self.crossing_dim,
            "output_mode": self.output_mode,
        }


class Feature:
    """One feature: see :meth:`FeatureSpace.feature`."""

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str) -> None:
        _check_mode(output_mode, ("int", "one_hot", "float"))
        self.dtype = dtype
        if isinstance(preprocessor, Mapping):
            preprocessor = deserialize_keras_object(dict(preprocessor), kind="layer")
        self.preprocessor = preprocessor
        self.output_mode = output_mode

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "dtype": self.dtype,
            "preprocessor": serialize_keras_object(self.preprocessor),
            "output_mode": self.output_mode,
        }


def _check_mode(mode: str, allowed: tuple[str, ...]) -> None:
    if mode not in allowed:
        raise ValueError(
            "Invalid value for argument `output_mode`. Expected one of "
            f"{set(allowed)}. Received: output_mode={mode}"
        )


class FeatureSpace(Model):
    """Encodes the columns of a table: numbers scaled or sorted into bins, categories as one-hot.

    It is called on a dict of columns (or on one row), in the ``map`` of a data set for example; or
    it is the beginning of a model: :meth:`get_inputs` and :meth:`get_encoded_features`.

    Args:
        features: name of a column -> its type: ``"float"``, ``"float_normalized"``,
            ``"float_rescaled"``, ``"float_discretized"``, ``"integer_categorical"``,
            ``"string_categorical"``, ``"integer_hashed"``, ``"string_hashed"``, or what the class
            methods of these names return, which take arguments.
        output_mode: ``"concat"``: one row of numbers; ``"dict"``: each feature by its name.
        crosses: features that are combined as well, such as ``[("city", "job")]``.
        crossing_dim: how many bins the combinations have.
        hashing_dim: how many bins hashed features have.
        num_discretization_bins: how many bins discretized features have.
        name: its name.

    Raises:
        ValueError: without features, for an unknown type, or a cross of unknown features.

    Example:
        >>> from handmill.utils import FeatureSpace
        >>> space = FeatureSpace({"age": "float_normalized", "city": "string_categorical"})
        >>> space.adapt({"age": [20.0, 40.0], "city": ["rome", "oslo"]})
        >>> space({"age": [20.0, 30.0], "city": ["rome", "lima"]})
        array([[-1.,  0.,  1.,  0.],
               [ 0.,  1.,  0.,  0.]], dtype=float32)
    """

    def __init__(
        self,
        features: Mapping[str, Any],
        output_mode: str = "concat",
        crosses: Iterable[Any] | None = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if not features:
            raise ValueError("The `features` argument cannot be None or empty.")
        if not isinstance(features, Mapping):
            raise ValueError(
                "`features` must be a dict of a feature for each name, such as {'age': 'float'}. "
                f"Received: features={features!r}"
            )
        self.crossing_dim = crossing_dim
        self.hashing_dim = hashing_dim
        self.num_discretization_bins = num_discretization_bins
        self.features = {key: self._feature(key, value) for key, value in features.items()}
        self.crosses = [self._cross(value) for value in crosses or ()]
        _check_mode(output_mode, ("dict", "concat"))
        self.output_mode = output_mode
        self.preprocessors = {key: f.preprocessor for key, f in self.features.items()}
        self.crossers = {
            cross.name: layers.HashedCrossing(cross.crossing_dim, name=cross.name)
            for cross in self.crosses
        }
        self._is_adapted = False

    # Kinds of features.

    @classmethod
    def cross(
        cls, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"
    ) -> Cross:
        """Several features as one, by the hash of their combination.

        Args:
            feature_names: the features.
            crossing_dim: how many bins there are.
            output_mode: ``"one_hot"`` or ``"int"``.
        """
        return Cross(feature_names, crossing_dim, output_mode=output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Any, output_mode: str) -> Feature:
        """A feature with a layer of yours.

        Args:
            dtype: of the column.
            preprocessor: the layer.
            output_mode: what becomes of its result: ``"float"``, ``"one_hot"`` or ``"int"``.
        """
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:
        """Numbers as they are."""
        layer = layers.Identity(name=_named(name, "float"))
        return Feature("float32", layer, "float")

    @classmethod
    def float_rescaled(
        cls, scale: Any = 1.0, offset: Any = 0.0, name: str | None = None
    ) -> Feature:
        """Numbers times ``scale`` plus ``offset``."""
        layer = layers.Rescaling(scale=scale, offset=offset, name=_named(name, "float_rescaled"))
        return Feature("float32", layer, "float")

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Numbers of mean 0 and variance 1."""
        layer = layers.Normalization(axis=-1, name=_named(name, "float_normalized"))
        return Feature("float32", layer, "float")

    @classmethod
    def float_discretized(
        cls,
        num_bins: int,
        bin_boundaries: Any = None,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Numbers by their bin.

        Raises:
            ValueError: if ``bin_boundaries`` do not make ``num_bins`` bins.
        """
        if bin_boundaries is not None and num_bins not in (None, len(bin_boundaries) + 1):
            raise ValueError(
                f"float_discretized: {len(bin_boundaries)} `bin_boundaries` make "
                f"{len(bin_boundaries) + 1} bins. Received: num_bins={num_bins}"
            )
        layer = layers.Discretization(
            num_bins=None if bin_boundaries is not None else num_bins,
            bin_boundaries=bin_boundaries,
            name=_named(name, "float_discretized"),
        )
        return Feature("float32", layer, output_mode)

    @classmethod
    def integer_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Whole numbers as categories."""
        layer = layers.IntegerLookup(
            name=_named(name, "integer_categorical"),
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
        )
        return Feature("int32", layer, output_mode)

    @classmethod
    def string_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Strings as categories."""
        layer = layers.StringLookup(
            name=_named(name, "string_categorical"),
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
        )
        return Feature("string", layer, output_mode)

    @classmethod
    def string_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """Strings by their hash."""
        layer = layers.Hashing(name=_named(name, "string_hashed"), num_bins=num_bins)
        return Feature("string", layer, output_mode)

    @classmethod
    def integer_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """Whole numbers by their hash."""
        layer = layers.Hashing(name=_named(name, "integer_hashed"), num_bins=num_bins)
        return Feature("int32", layer, output_mode)

    def _feature(self, name: str, value: Any) -> Feature:
        if isinstance(value, Feature):
            return value
        if isinstance(value, Mapping):
            return Feature(**value["config"])
        arguments = {
            "float_discretized": (self.num_discretization_bins,),
            "integer_hashed": (self.hashing_dim,),
            "string_hashed": (self.hashing_dim,),
        }
        if value not in _TYPES:
            raise ValueError(f"Invalid feature type: {value}. Expected one of {_TYPES}")
        made: Feature = getattr(self, value)(*arguments.get(value, ()), name=name)
        return made

    def _cross(self, value: Any) -> Cross:
        if isinstance(value, Cross):
            return value
        if isinstance(value, Mapping):
            return Cross(**value["config"])
        if not self.crossing_dim:
            raise ValueError(
                "When specifying `crosses`, the argument `crossing_dim` (dimensionality of the "
                "crossing space) should be specified as well."
            )
        if not set(value) <= set(self.features):
            raise ValueError(
                "All features referenced in the `crosses` argument should be present in the "
                f"`features` dict. Received unknown features: {value}"
            )
        return Cross(value, crossing_dim=self.crossing_dim)

    # Learning.

    def _to_adapt(self) -> list[str]:
        """The features whose layers have something to learn."""
        found = []
        for name, layer in self.preprocessors.items():
            given = getattr(layer, "input_mean", None) is not None
            given |= getattr(layer, "_has_input_vocabulary", False)
            given |= isinstance(layer, layers.Discretization) and layer.num_bins is None
            if hasattr(layer, "adapt") and not given:
                found.append(name)
        return found

    def adapt(self, dataset: Any) -> None:
        """Lets each layer learn from its column.

        Args:
            dataset: a dict or frame of columns, or a data set or iterable of such dicts, batches
                or single rows. Layers go over it one after the other.

        Raises:
            ValueError: for other data.
        """
        columns = _columns_of(dataset)
        if columns is None:
            if not hasattr(dataset, "__iter__") and not hasattr(dataset, "__getitem__"):
                raise ValueError(
                    "`adapt()` can only be called on a data set or a dict of arrays/lists. "
                    f"Received instead: {dataset} (of type {type(dataset)})"
                )
            if iter(dataset) is dataset:  # it can be gone through only once
                dataset = list(dataset)
        for name in self._to_adapt():
            if columns is not None:
                batches = _pieces(np.asarray(_column(columns, name)))
            else:
                batches = _batched(_column(batch, name) for batch in batches_of(dataset))
            self.preprocessors[name].adapt(batches)
        self._is_adapted = True
        self._make_graph()

    # The graph.

    def get_inputs(self) -> dict[str, KerasTensor]:
        """Returns the symbolic columns, by their names: the inputs of a model."""
        self._check_if_built()
        found: dict[str, KerasTensor] = self.input
        return found

    def get_encoded_features(self) -> Any:
        """Returns the symbolic encoding: what comes next in a model takes it."""
        self._check_if_built()
        return self.output

    def _check_if_built(self) -> None:
        if self._graph is not None:
            return
        if not self._is_adapted and self._to_adapt():
            raise ValueError(
                "You need to call `.adapt(dataset)` on the FeatureSpace before you can start using "
                "it."
            )
        self._is_adapted = True
        self._make_graph()

    def _make_graph(self) -> None:
        inputs = {
            name: layers.Input(shape=(1,), dtype=feature.dtype, name=name)
            for name, feature in self.features.items()
        }
        found = {name: self.preprocessors[name](x) for name, x in inputs.items()}
        specs: dict[str, Any] = {name: self.features[name] for name in sorted(found)}
        for cross in sorted(self.crosses, key=lambda c: c.name):
            parts = [found[name] for name in cross.feature_names]
            found[cross.name] = self.crossers[cross.name](parts)
            specs[cross.name] = cross
        encoded = {}
        for name, spec in specs.items():
            layer = self.crossers.get(name) or self.preprocessors[name]
            encoded[name] = self._encoded(name, spec, layer, found[name])
        outputs: Any = encoded
        if self.output_mode == "concat":
            parts = list(encoded.values())
            outputs = layers.Concatenate(axis=-1)(parts) if len(parts) > 1 else parts[0]
        self._set_graph(inputs, outputs)

    def _encoded(self, name: str, spec: Any, layer: Any, x: KerasTensor) -> KerasTensor:
        if spec.output_mode == "one_hot":
            if not x.dtype.startswith("int"):
                raise ValueError(
                    f"Feature '{name}' has `output_mode='one_hot'`. Thus its preprocessor should "
                    f"return an integer dtype. Instead it returns a {x.dtype} dtype."
                )
            encoder = layers.CategoryEncoding(
                num_tokens=_categories(name, layer), output_mode="multi_hot"
            )
            x = encoder(x)
        if self.output_mode == "concat" and x.dtype.startswith("int"):
            raise ValueError(
                f"Cannot concatenate features because feature '{name}' has not been encoded (it "
                f"has dtype {x.dtype}). Consider using `output_mode='dict'`."
            )
        return x

    def __call__(self, data: Any, **kwargs: Any) -> Any:
        """Encodes a dict of columns, or of the values of one row."""
        self._check_if_built()
        columns = _columns_of(data)
        if columns is None:
            raise ValueError(
                "A FeatureSpace can only be called with a dict. "
                f"Received: data={data} (of type {type(data)})"
            )
        if set(columns) != set(self.features):
            raise ValueError(
                f"The columns of the data must be those of the FeatureSpace, "
                f"{sorted(self.features)}. Received: {sorted(columns)}"
            )
        if any(isinstance(x, KerasTensor) for x in columns.values()):
            return super().__call__(columns, **kwargs)
        arrays = {name: _as_column(x) for name, x in columns.items()}
        found = super().__call__(arrays, **kwargs)
        if all(np.ndim(x) == 0 for x in columns.values()):
            return tree.map_structure(lambda y: y[0], found)
        return found

    # Files.

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Writes it to a ``.hmill`` file, which ``models.load_model`` reads."""
        self._check_if_built()
        super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "features": serialize_keras_object(self.features),
            "output_mode": self.output_mode,
            "crosses": serialize_keras_object(list(self.crosses)),
            "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Makes it from its config."""
        from handmill.saving.objects import CustomObjectScope

        with CustomObjectScope(custom_objects or {}):
            return cls(**config)

    def get_build_config(self) -> dict[str, Any] | None:
        """What its layers have learned, by feature."""
        return {name: layer.get_build_config() for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Takes what :meth:`get_build_config` gave."""
        for name, own in config.items():
            if own and not self.preprocessors[name].built:
                self.preprocessors[name].build_from_config(own)
        self._is_adapted = True
        self._make_graph()


_TYPES = (
    *("float", "float_normalized", "float_rescaled", "float_discretized"),
    *("integer_categorical", "string_categorical", "integer_hashed", "string_hashed"),
)


def _named(name: str | None, kind: str) -> str:
    return f"{name or auto_name(kind)}_preprocessor"


def _categories(name: str, layer: Any) -> Any:
    """How many numbers the layer of a feature gives."""
    if isinstance(layer, layers.IntegerLookup | layers.StringLookup):
        return layer.vocabulary_size()
    if isinstance(layer, layers.CategoryEncoding):
        return layer.num_tokens
    if isinstance(layer, layers.Discretization):
        return layer.num_bins or len(layer.bin_boundaries or ()) + 1
    if isinstance(layer, layers.HashedCrossing | layers.Hashing):
        return layer.num_bins
    raise ValueError(
        f"Feature '{name}' has `output_mode='one_hot'`. However it isn't a standard feature and "
        "the dimensionality of its output space is not known, thus it cannot be one-hot encoded. "
        "Try using `output_mode='int'`."
    )


def _columns_of(data: Any) -> dict[str, Any] | None:
    """A dict or frame as a dict of columns; None for other data."""
    if isinstance(data, Mapping):
        return dict(data)
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return {name: data[name].to_numpy() for name in data.columns}
    return None


def _as_column(x: Any) -> Array:
    array = np.asarray(x)
    return array.reshape(1, 1) if array.ndim == 0 else array[:, None] if array.ndim == 1 else array


_PIECE = 32
"""Rows that layers learn from at a time, as in Keras: the bins that are found depend on it."""


def _column(batch: Any, name: str) -> Any:
    """The data of one feature.

    Raises:
        ValueError: for a batch that is no dict, or has no such feature.
    """
    if not isinstance(batch, Mapping):
        raise ValueError(
            "`adapt()` takes batches that are dicts of the features. Received a batch of type "
            f"{type(batch).__name__}; leave targets out with dataset.map(lambda x, y: x)"
        )
    if name not in batch:
        raise ValueError(f"`adapt()` received no data for {name!r}. Received: {sorted(batch)}")
    return batch[name]


def _pieces(column: Array) -> Iterator[Array]:
    column = _as_column(column)
    return (column[i : i + _PIECE] for i in range(0, len(column), _PIECE))


def _batched(values: Iterator[Any]) -> Iterator[Array]:
    """Batches as columns; single values are put together first."""
    alone: list[Any] = []
    for value in values:
        array = np.asarray(value)
        if array.ndim:
            yield _as_column(array)
            continue
        alone.append(array.item())
        if len(alone) == _PIECE:
            yield _as_column(np.asarray(alone))
            alone = []
    if alone:
        yield _as_column(np.asarray(alone))
