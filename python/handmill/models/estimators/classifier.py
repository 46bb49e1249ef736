"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
)

from handmill.ir.op import Array
from handmill.models.estimators.base import BasePerceptron, unchanged_by_errors


class HandmillClassifier(ClassifierMixin, BasePerceptron):  # type: ignore[misc]
    """A multi-layer perceptron that minimizes the log-loss: ``MLPClassifier``, faster.

    Names, defaults and meaning of the parameters are those of
    ``sklearn.neural_network.MLPClassifier``, and the same ``random_state`` gives the same initial
    weights and the same batches. What differs: numbers are float32; one class alone has one column
    of probabilities; an error in ``fit`` leaves a fitted estimator as it was; pickles hold the
    network in the format of ``.hmill`` files.

    Args:
        hidden_layer_sizes: units of each hidden layer.
        activation: ``"identity"``, ``"logistic"``, ``"tanh"`` or ``"relu"``.
        solver: ``"adam"``, ``"sgd"``, or ``"lbfgs"``: all rows at once, for small data.
        alpha: strength of the L2 penalty, which is divided by the rows of the batch.
        batch_size: rows of a step; ``"auto"``: 200, or all if there are fewer.
        learning_rate: of ``"sgd"``: ``"constant"``, ``"invscaling"`` (divided by ``t**power_t``,
            ``t`` being the rows seen) or ``"adaptive"`` (divided by 5 when training stops
            improving).
        learning_rate_init: the first learning rate.
        power_t: see ``learning_rate``.
        max_iter: epochs at most.
        shuffle: whether each epoch has an order of its own.
        random_state: seed or generator for weights, held-out rows and orders.
        tol: by how much the loss (with ``early_stopping``: the score) must improve.
        verbose: whether each epoch prints a line.
        warm_start: whether ``fit`` goes on with the weights it finds.
        momentum: of ``"sgd"``.
        nesterovs_momentum: whether the gradient is taken ahead, of ``"sgd"``.
        early_stopping: whether a part of the rows is held out, and the weights with the best
            score on it are kept.
        validation_fraction: how large that part is.
        beta_1: weight of the old mean of gradients, of ``"adam"``.
        beta_2: weight of the old mean of squared gradients, of ``"adam"``.
        epsilon: added to the square root of the latter.
        n_iter_no_change: training stops after more epochs than this without improvement.
        max_fun: of ``"lbfgs"``: evaluations of loss and gradient at most.

    Attributes:
        classes_: the classes, sorted.
        coefs_: the kernel (inputs, outputs) of each layer.
        intercepts_: the bias of each layer.
        loss_: the loss of the last epoch, penalty included.
        loss_curve_: the loss of each epoch.
        best_loss_: the least of them; None with ``early_stopping``.
        validation_scores_: with ``early_stopping``, the accuracy after each epoch.
        best_validation_score_: the best of them.
        n_iter_: epochs of the last call.
        t_: rows seen.
        n_features_in_: features.
        n_layers_: layers, input and output included.
        n_outputs_: units of the last layer.
        out_activation_: ``"softmax"``, or ``"logistic"`` for two classes and for labels.

    Raises:
        ValueError: for parameters or data that do not fit.

    Example:
        >>> from handmill.sklearn import HandmillClassifier
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> HandmillClassifier(max_iter=500, random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = dict(BasePerceptron._parameter_constraints)

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Trains the network; returns the estimator.

        Args:
            X: array or sparse matrix (rows, features).
            y: class labels (rows,), or 0 and 1 for each label (rows, labels).
            sample_weight: a weight for each row.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(BasePerceptron._has_batches)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Makes one epoch with these rows; returns the estimator.

        Args:
            X: array or sparse matrix (rows, features).
            y: targets, as for :meth:`fit`.
            sample_weight: a weight for each row.
            classes: all classes that will ever come; needed in the first call.
        """
        with unchanged_by_errors(self):
            if _check_partial_fit_first_call(self, classes):
                self._set_kind(type_of_target(y, input_name="y"))
            return self._fit(X, y, sample_weight, incremental=True)

    def predict_proba(self, X: Any) -> Array:
        """Returns the probabilities (rows, classes) in the order of ``classes_``, as float32.

        Args:
            X: array or sparse matrix (rows, features).
        """
        outputs = self._predicted(X)
        if self._kind != "binary":
            return outputs
        if len(self.classes_) == 1:
            return np.ones_like(outputs)
        return np.hstack([1 - outputs, outputs])

    def predict_log_proba(self, X: Any) -> Array:
        """Returns the logarithms of :meth:`predict_proba`.

        Args:
            X: array or sparse matrix (rows, features).
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _set_kind(self, kind: str) -> None:
        if kind == "multilabel-indicator":
            self._kind = kind
        else:
            self._kind = "multiclass" if len(self.classes_) > 2 else "binary"

    def _encode(self, y: Any, is_first: bool) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        kind = _kind_of(y)
        if kind == "multilabel-indicator":
            return self._encode_labels(y, is_first)
        found = np.unique(y)
        if is_first and not self._has_classes_to_come():
            self.classes_ = found
            self._set_kind(kind)
        self._check_classes(found)
        numbers = np.searchsorted(self.classes_, y)
        if self._kind == "multiclass":
            return np.asarray(numbers, np.int32)
        return np.asarray(numbers, np.float32)[:, None]

    def _encode_labels(self, y: Any, is_first: bool) -> Array:
        labels = np.asarray(y.toarray() if issparse(y) else y, np.float32, order="C")
        if is_first and not self._has_classes_to_come():
            self.classes_ = np.arange(labels.shape[1])
            self._set_kind("multilabel-indicator")
        if self._kind != "multilabel-indicator" or labels.shape[1] != len(self.classes_):
            raise ValueError(
                f"`y` has {labels.shape[1]} labels, but training began with {self._kind} targets "
                f"and {len(self.classes_)} classes"
            )
        return labels

    def _has_classes_to_come(self) -> bool:
        """Whether ``partial_fit`` was given the classes of an estimator that has no weights."""
        return hasattr(self, "classes_") and not hasattr(self, "coefs_")

    def _check_classes(self, found: Array) -> None:
        if self._kind == "multilabel-indicator":
            raise ValueError("`y` has one column of classes, but training began with labels")
        if unknown := np.setdiff1d(found, self.classes_).tolist():
            raise ValueError(
                f"`y` has classes not in `self.classes_`: {unknown}. `self.classes_` has "
                f"{self.classes_}."
            )
        if self.warm_start and len(found) < len(self.classes_) and hasattr(self, "coefs_"):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {found}"
            )

    def _num_outputs(self, targets: Array) -> int:
        return len(self.classes_) if self._kind == "multiclass" else int(targets.shape[1])

    def _output_activation(self) -> str:
        return "softmax" if self._kind == "multiclass" else "logistic"

    def _decode(self, outputs: Array) -> Any:
        if self._kind == "multilabel-indicator":
            return (outputs > 0.5).astype(np.int64)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(outputs))
        if self._kind == "binary":
            return self.classes_[(outputs[:, 0] > 0.5).astype(np.intp)]
        return self.classes_[np.argmax(outputs, axis=1)]

    def _score(self, y: Any, outputs: Array, sample_weight: Array | None) -> float:
        found = self._decode(outputs)
        hits = np.all(found == y, axis=1) if found.ndim == 2 else found == y
        return float(np.average(hits, weights=sample_weight))

    def _stratification(self, targets: Array) -> Array | None:
        # scikit-learn stratifies two classes only; with its split come its scores.
        return targets if self._kind == "binary" else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _kind_of(y: Any) -> str:
    """What ``sklearn.utils.multiclass.type_of_target`` says; at once for a column of integers.

    Raises:
        ValueError: for what is neither classes nor labels.
    """
    if y.ndim == 1 and y.dtype.kind in "biu":
        return "multiclass"
    kind: str = type_of_target(y, input_name="y")
    if kind == "multiclass-multioutput":
        raise ValueError(
            "y has several columns of classes, which is not supported; for labels that are each "
            "there or not, give 0 and 1"
        )
    if kind not in ("binary", "multiclass", "multilabel-indicator"):
        check_classification_targets(y)
    return kind
