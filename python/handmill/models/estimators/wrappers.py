"""Models of any kind as estimators of scikit-learn; imported as ``handmill.wrappers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from handmill.ir.op import Array
from handmill.models.cloning import clone_model
from handmill.models.estimators.base import unchanged_by_errors
from handmill.models.model import Model


class _Wrapper(BaseEstimator):  # type: ignore[misc]
    """What the three share: a model, or a function that makes one from the data.

    Args:
        model: a compiled :class:`handmill.Model`, of which each fit trains a copy; or a function
            that returns one, called as ``model(X=..., y=..., **model_kwargs)`` with the targets
            as the network learns them.
        warm_start: whether ``fit`` goes on with the model that the fit before left.
        model_kwargs: further arguments of ``model``, where it is a function.
        fit_kwargs: arguments of ``Model.fit``; those given to ``fit`` come before them.

    Attributes:
        model_: the trained model.
        history_: the :class:`~handmill.callbacks.History` of the last fit.
        n_features_in_: features.
    """

    model_: Any
    history_: Any

    def __init__(
        self,
        model: Any,
        warm_start: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs

    def fit(self, X: Any, y: Any, **kwargs: Any) -> Any:
        """Trains the model; returns the estimator.

        Args:
            X: array (rows, features).
            y: targets, one for each row.
            **kwargs: arguments of ``Model.fit``.

        Raises:
            ValueError: if the data do not fit each other.
            RuntimeError: if the model is not compiled with a loss and an optimizer.
        """
        with unchanged_by_errors(self):
            X, y = validate_data(self, X, y, multi_output=True, ensure_min_samples=1)
            goes_on = self.warm_start and hasattr(self, "model_")
            targets = self._encoded(y, goes_on)
            model = self.model_ if goes_on else self._new_model(X, targets)
            self.history_ = model.fit(X, targets, **{**(self.fit_kwargs or {}), **kwargs})
            self.model_ = model
        return self

    def _new_model(self, X: Array, targets: Array) -> Any:
        if isinstance(self.model, Model):
            if self.model_kwargs:
                raise ValueError(
                    f"model_kwargs={self.model_kwargs!r} are arguments of a function that makes "
                    "the model, but model is a Model already"
                )
            model = clone_model(self.model)
            if self.model.compiled:
                model.compile_from_config(self.model.get_compile_config())
        elif not callable(self.model):
            raise TypeError(
                f"model must be a Model or a function that makes one, got {self.model!r}"
            )
        else:
            if not isinstance(self.model_kwargs, dict | None):
                raise TypeError(f"model_kwargs must be a dict, got {self.model_kwargs!r}")
            model = self.model(X=X, y=targets, **(self.model_kwargs or {}))
        if not isinstance(model, Model):
            raise TypeError(f"model must be a Model or a function that makes one, got {model!r}")
        if not model.compiled or model.loss is None or model.optimizer is None:
            raise RuntimeError(
                "Given model needs to be compiled, and have a loss and an optimizer."
            )
        return model

    def _encoded(self, y: Array, goes_on: bool) -> Array:
        """Returns targets as the network learns them, two-dimensional."""
        if type_of_target(y) == "unknown":
            raise ValueError(f"Unknown label type for y: numbers are needed, got {y!r}")
        self._target_is_flat = y.ndim == 1
        return y.reshape(-1, 1) if y.ndim == 1 else y

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False)
        outputs: Array = self.model_.predict(X, verbose=0)
        return outputs

    def _decoded(self, outputs: Array) -> Array:
        is_flat = self._target_is_flat and outputs.shape[1:] == (1,)
        return outputs[:, 0] if is_flat else outputs

    def predict(self, X: Any) -> Array:
        """Returns a prediction for each row of ``X`` (rows, features)."""
        return self._decoded(self._outputs(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags


class SKLearnClassifier(ClassifierMixin, _Wrapper):  # type: ignore[misc]
    """Keras's wrapper of a model as a classifier of scikit-learn.

    The network learns one-hot rows, one column a class: its last layer has a unit a class, and
    its loss is one for such targets.

    Args:
        model: a compiled :class:`handmill.Model`, of which each fit trains a copy; or a function
            that returns one, called as ``model(X=..., y=..., **model_kwargs)`` with one-hot ``y``.
        warm_start: whether ``fit`` goes on with the model that the fit before left.
        model_kwargs: further arguments of ``model``, where it is a function.
        fit_kwargs: arguments of ``Model.fit``; those given to ``fit`` come before them.

    Attributes:
        model_: the trained model.
        history_: the :class:`~handmill.callbacks.History` of the last fit.
        classes_: the classes, sorted.

    Example:
        >>> import numpy as np
        >>> import handmill
        >>> from handmill.wrappers import SKLearnClassifier
        >>> def network(X, y, units):
        ...     stack = [handmill.Input(X.shape[1:]), handmill.layers.Dense(units, "tanh"),
        ...              handmill.layers.Dense(y.shape[1], "softmax")]
        ...     model = handmill.Sequential(stack)
        ...     model.compile("adam", "categorical_crossentropy")
        ...     return model
        >>> handmill.utils.set_random_seed(0)
        >>> X = np.linspace(-1, 1, 90)[:, None]
        >>> y = np.where(X[:, 0] > 0, "up", "down")
        >>> wrapped = SKLearnClassifier(network, model_kwargs={"units": 8})
        >>> wrapped.fit(X, y, epochs=60, verbose=0).score(X, y) > 0.9
        True
    """

    classes_: Array

    def decision_function(self, X: Any) -> Array:
        """Returns the outputs of the network (rows, classes)."""
        return self._outputs(X)

    def _encoded(self, y: Array, goes_on: bool) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind not in ("binary", "multiclass"):
            raise ValueError(
                f"Only binary and multiclass target types are supported. Target type: {kind}"
            )
        flat = y.reshape(-1)
        classes = np.unique(flat)
        if goes_on:
            if unknown := sorted(set(classes.tolist()) - set(self.classes_.tolist())):
                raise ValueError(
                    f"y holds classes {unknown} that are not among those the model began with, "
                    f"{self.classes_.tolist()}; call fit with warm_start=False"
                )
            classes = self.classes_
        elif len(classes) == 1:
            raise ValueError(
                "Classifier can't train when only one class is present. "
                f"y holds nothing but {classes[0]!r}."
            )
        self.classes_ = classes
        self._target_is_flat = y.ndim == 1
        one_hot: Array = (flat[:, None] == classes).astype("float32")
        return one_hot

    def _decoded(self, outputs: Array) -> Array:
        if outputs.ndim != 2 or outputs.shape[1] != len(self.classes_):
            raise ValueError(
                f"the model gives outputs of shape {outputs.shape}, but there are "
                f"{len(self.classes_)} classes: its last layer needs a unit for each"
            )
        labels: Array = self.classes_[np.argmax(outputs, axis=1)]
        return labels if self._target_is_flat else labels[:, None]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags


class SKLearnRegressor(RegressorMixin, _Wrapper):  # type: ignore[misc]
    """Keras's wrapper of a model as a regressor of scikit-learn.

    Args:
        model: a compiled :class:`handmill.Model`, of which each fit trains a copy; or a function
            that returns one, called as ``model(X=..., y=..., **model_kwargs)``, ``y`` being
            (rows, targets).
        warm_start: whether ``fit`` goes on with the model that the fit before left.
        model_kwargs: further arguments of ``model``, where it is a function.
        fit_kwargs: arguments of ``Model.fit``; those given to ``fit`` come before them.

    Attributes:
        model_: the trained model.
        history_: the :class:`~handmill.callbacks.History` of the last fit.

    Example:
        >>> import numpy as np
        >>> import handmill
        >>> from handmill.wrappers import SKLearnRegressor
        >>> model = handmill.Sequential([handmill.Input((1,)), handmill.layers.Dense(1)])
        >>> model.compile(handmill.optimizers.Adam(0.1), "mse")
        >>> X = np.linspace(-1, 1, 64)[:, None]
        >>> wrapped = SKLearnRegressor(model, fit_kwargs={"epochs": 60, "verbose": 0})
        >>> wrapped.fit(X, 2 * X[:, 0] + 1).score(X, 2 * X[:, 0] + 1) > 0.9
        True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


class SKLearnTransformer(TransformerMixin, _Wrapper):  # type: ignore[misc]
    """Keras's wrapper of a model as a step that turns rows into other rows.

    Args:
        model: a compiled :class:`handmill.Model`, of which each fit trains a copy; or a function
            that returns one, called as ``model(X=..., y=..., **model_kwargs)``, ``y`` being
            (rows, targets).
        warm_start: whether ``fit`` goes on with the model that the fit before left.
        model_kwargs: further arguments of ``model``, where it is a function.
        fit_kwargs: arguments of ``Model.fit``; those given to ``fit`` come before them.

    Attributes:
        model_: the trained model.
        history_: the :class:`~handmill.callbacks.History` of the last fit.

    Example:
        >>> import numpy as np
        >>> import handmill
        >>> from handmill.wrappers import SKLearnTransformer
        >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(2)])
        >>> model.compile("adam", "mse")
        >>> X = np.ones((8, 4))
        >>> SKLearnTransformer(model).fit(X, X[:, :2], verbose=0).transform(X).shape
        (8, 2)
    """

    def transform(self, X: Any) -> Array:
        """Returns the outputs of the network for the rows of ``X`` (rows, features)."""
        return self._outputs(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
