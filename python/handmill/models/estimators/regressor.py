"""The regressor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from handmill.ir.op import Array
from handmill.models.estimators.base import BasePerceptron


class HandmillRegressor(RegressorMixin, BasePerceptron):  # type: ignore[misc]
    """A multi-layer perceptron that minimizes the squared error: ``MLPRegressor``, faster.

    Names, defaults and meaning of the parameters are those of
    ``sklearn.neural_network.MLPRegressor``, and the same ``random_state`` gives the same initial
    weights and the same batches. What differs is what differs in
    :class:`~handmill.sklearn.HandmillClassifier`, where the other parameters and attributes are
    described; ``validation_scores_`` holds R2 scores here.

    Args:
        loss: ``"squared_error"``, or ``"poisson"``: half the deviance, with predictions
            ``exp(z)`` and targets of at least 0.
        hidden_layer_sizes: units of each hidden layer.
        activation: ``"identity"``, ``"logistic"``, ``"tanh"`` or ``"relu"``.
        solver: ``"adam"``, ``"sgd"``, or ``"lbfgs"``: all rows at once, for small data.
        alpha: strength of the L2 penalty, which is divided by the rows of the batch.
        batch_size: rows of a step; ``"auto"``: 200, or all if there are fewer.
        learning_rate: of ``"sgd"``: ``"constant"``, ``"invscaling"`` or ``"adaptive"``.
        learning_rate_init: the first learning rate.
        power_t: exponent of ``"invscaling"``.
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

    Raises:
        ValueError: for parameters or data that do not fit.

    Example:
        >>> from handmill.sklearn import HandmillRegressor
        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 400)[:, None]
        >>> model = HandmillRegressor(max_iter=1000, learning_rate_init=0.01, random_state=0)
        >>> model.fit(X, X[:, 0] ** 2).score(X, X[:, 0] ** 2) > 0.99
        True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BasePerceptron._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        self.loss = loss
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

    _numeric_y = True

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Trains the network; returns the estimator.

        Args:
            X: array or sparse matrix (rows, features).
            y: numbers (rows,) or (rows, targets).
            sample_weight: a weight for each row.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(BasePerceptron._has_batches)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Makes one epoch with these rows; returns the estimator.

        Args:
            X: array or sparse matrix (rows, features).
            y: targets, as for :meth:`fit`.
            sample_weight: a weight for each row.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _encode(self, y: Any, is_first: bool) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        with np.errstate(over="ignore"):
            targets = np.asarray(y, np.float32, order="C").reshape(len(y), -1)
        if not np.isfinite(targets).all():
            raise ValueError("y has a value too large for dtype('float32'); scale the targets")
        if self.loss == "poisson" and (targets < 0).any():
            raise ValueError("loss='poisson' needs targets of at least 0, but y has negative ones")
        return targets

    def _num_outputs(self, targets: Array) -> int:
        return int(targets.shape[1])

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _decode(self, outputs: Array) -> Any:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _score(self, y: Any, outputs: Array, sample_weight: Array | None) -> float:
        return float(r2_score(y, outputs, sample_weight=sample_weight))

    def _stratification(self, targets: Array) -> Array | None:
        return None
