"""What classifier and regressor share: parameters, ``fit``, prediction, pickles."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from handmill.ir.op import Array
from handmill.models.estimators import lbfgs
from handmill.models.estimators.network import ROWS_AT_ONCE, Architecture, Network
from handmill.models.estimators.training import CALLER_OF_FIT, Progress, Rows, Training


@contextmanager
def unchanged_by_errors(estimator: Any) -> Iterator[None]:
    """Leaves an estimator as it was if the ``with`` block fails; fits replace, never edit."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


_LEARNED = ("coefs_", "intercepts_", "_optimizer_state")

_OF_EPOCHS = ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_")


class BasePerceptron(BaseEstimator, ABC):  # type: ignore[misc]
    """A dense network behind the interface of ``sklearn.neural_network``."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
    }

    # What the two estimators define.

    @abstractmethod
    def _encode(self, y: Any, is_first: bool) -> Array:
        """Returns validated targets as the network learns them; sets what describes them."""

    @abstractmethod
    def _num_outputs(self, targets: Array) -> int:
        """The units of the last layer."""

    @abstractmethod
    def _decode(self, outputs: Array) -> Any:
        """Returns what ``predict`` gives for the outputs of the network."""

    @abstractmethod
    def _score(self, y: Any, outputs: Array, sample_weight: Array | None) -> float:
        """Returns the score of the outputs on held-out data."""

    @abstractmethod
    def _stratification(self, targets: Array) -> Array | None:
        """Returns the groups that the held-out data keep the proportions of."""

    _numeric_y = False
    _learning_rate: float
    _optimizer_state: list[Array]
    _progress: Progress

    # Training.

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Any:
        with unchanged_by_errors(self):
            self._train(X, y, sample_weight, incremental)
        return self

    def _train(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        is_first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=self._numeric_y,
            dtype=np.float32,
            order="C",
            reset=is_first,
        )
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=np.float32)
            if not np.sum(weight):
                raise ValueError("sample_weight sums to 0: there is nothing to learn from")
        targets = self._encode(y, is_first)
        random_state = check_random_state(self.random_state)
        units = (X.shape[1], *_sizes(self.hidden_layer_sizes), self._num_outputs(targets))
        if is_first:
            self.n_outputs_ = units[-1]
            self.n_layers_ = len(units)
            self.out_activation_ = self._output_activation()
            weights = self._initial_weights(units, random_state)
            progress = Progress()
        else:
            self._check_layers(units)
            weights = self._weights()
            progress = copy.deepcopy(self._progress)
        parts, held_out = [X, targets, weight], None
        if self.solver == "lbfgs":
            self._run_lbfgs(parts, weights, progress)
            return
        if self.early_stopping:
            parts, held_out = self._hold_out(parts, y, random_state)
        self._run(parts, held_out, weights, progress, random_state, incremental)

    def _run(
        self,
        parts: list[Any],
        held_out: Any,
        weights: list[Array],
        progress: Progress,
        random_state: Any,
        incremental: bool,
    ) -> None:
        x, *others = (a for a in parts if a is not None)
        rows = Rows(x, others, self._batch_rows(x.shape[0]))
        state = (getattr(self, "_optimizer_state", None) or None) if incremental else None
        rate = self.learning_rate_init if state is None else self._learning_rate
        network = Network(self._architecture(weights))
        network.set_weights(weights)
        network.start(state, self.alpha)
        training = Training(self, network, progress, rate, random_state)
        score = None if held_out is None else self._score_on(network, *held_out)
        stopped = training.run(rows, 1 if incremental else self.max_iter, score)
        learned = training.best_weights or network.get_weights()
        self._keep(learned, network.optimizer_state(), progress)
        self._learning_rate = training.learning_rate
        self.n_iter_ = training.epochs
        self.t_ = progress.rows_seen
        self.loss_curve_ = progress.loss_curve
        self.loss_ = progress.loss_curve[-1]
        early = self.early_stopping
        self.best_loss_ = None if early else progress.best_loss
        self.validation_scores_ = progress.scores if early else None
        self.best_validation_score_ = progress.best_score if early else None
        if not stopped and not incremental:
            training.warn_of_limit()

    def _run_lbfgs(self, parts: list[Any], weights: list[Array], progress: Progress) -> None:
        x, *others = (a for a in parts if a is not None)
        network = Network(self._architecture(weights))
        network.set_weights(weights)
        network.start_gradients(self.alpha)
        x = np.ascontiguousarray(x.toarray() if issparse(x) else x)
        self.n_iter_, self.loss_ = lbfgs.fit(network, x, others, self)
        self._keep(network.get_weights(), [], progress)
        self.t_ = progress.rows_seen
        for name in _OF_EPOCHS:  # of an earlier fit with another solver
            self.__dict__.pop(name, None)

    def _keep(self, learned: list[Array], state: list[Array], progress: Progress) -> None:
        if not all(np.isfinite(w).all() for w in learned):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        self.coefs_, self.intercepts_ = learned[::2], learned[1::2]
        self._optimizer_state, self._progress = state, progress

    def _has_batches(self) -> bool:
        """For scikit-learn's ``available_if``: whether the solver can take a part of the rows."""
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers ('adam', 'sgd'). "
                "lbfgs is not stochastic: it takes all rows at once, with fit."
            )
        return True

    def _initial_weights(self, units: Sequence[int], random_state: Any) -> list[Array]:
        """Draws kernels and biases as scikit-learn does (Glorot and Bengio, 2010)."""
        factor = 2.0 if self.activation == "logistic" else 6.0
        weights = []
        for inputs, outputs in pairwise(units):
            bound = np.sqrt(factor / (inputs + outputs))
            for shape in ((inputs, outputs), outputs):
                weights.append(random_state.uniform(-bound, bound, shape).astype(np.float32))
        return weights

    def _check_layers(self, units: tuple[int, ...]) -> None:
        begun = _units(self._weights())
        if units != begun:
            raise ValueError(
                f"training goes on with the layers it began with, {begun} units, but "
                f"parameters and data now ask for {units}; call fit with warm_start=False"
            )

    def _hold_out(self, parts: list[Any], y: Any, random_state: Any) -> tuple[list[Any], Any]:
        """Returns the data to train on, and features, targets and weights to validate on."""
        X, targets, weight = parts
        given = [X, targets, y] if weight is None else [X, targets, y, weight]
        found = train_test_split(
            *given,
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=self._stratification(targets),
        )
        x_train, x_held, t_train, _, _, y_held = found[:6]
        weight_train, weight_held = found[6:] or (None, None)
        if x_held.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return [x_train, t_train, weight_train], (x_held, y_held, weight_held)

    def _score_on(
        self, network: Network, x: Any, y: Any, weight: Array | None
    ) -> Callable[[], float]:
        def score() -> float:
            outputs = _outputs(network, x)
            return self._score(y, outputs, weight) if np.isfinite(outputs).all() else np.nan

        return score

    def _batch_rows(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(
                f"batch_size={self.batch_size} is larger than the {rows} samples to train on; "
                "all of them make one batch",
                stacklevel=CALLER_OF_FIT,
            )
        return int(min(self.batch_size, rows))

    # The network.

    @abstractmethod
    def _output_activation(self) -> str:
        """The activation of the last layer, by scikit-learn's name."""

    def _weights(self) -> list[Array]:
        pairs = zip(self.coefs_, self.intercepts_, strict=True)
        return [array for pair in pairs for array in pair]

    def _architecture(self, weights: list[Array]) -> Architecture:
        solver: tuple[Any, ...]
        if self.solver == "lbfgs":
            solver = ("lbfgs",)
        elif self.solver == "adam":
            solver = ("adam", float(self.beta_1), float(self.beta_2), float(self.epsilon))
        else:
            solver = ("sgd", float(self.momentum), bool(self.nesterovs_momentum))
        return Architecture(
            _units(weights), self.activation, self.out_activation_, solver, bool(self.alpha)
        )

    # Prediction.

    def _predicted(self, X: Any) -> Array:
        """Returns the outputs (rows, outputs) of the fitted network."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, order="C", reset=False)
        weights = self._weights()
        network = Network(self._architecture(weights))
        network.set_weights(weights)
        return _outputs(network, X)

    def predict(self, X: Any) -> Any:
        """Returns a prediction for each row of ``X``.

        Args:
            X: array or sparse matrix (rows, features).
        """
        return self._decode(self._predicted(X))

    # The network by itself.

    def to_model(self) -> Any:
        """Returns the network as a compiled :class:`handmill.Model` with copies of its weights.

        Its outputs are those that :meth:`predict` starts from. Training it goes on with the
        optimizer where ``fit`` ended, but without the penalty ``alpha``.
        """
        from handmill.models.estimators.export import to_model

        check_is_fitted(self)
        weights = self._weights()
        return to_model(self._architecture(weights), weights, self._optimizer_state)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the network as the content of a ``.hmill`` file."""
        state = dict(super().__getstate__())
        if "coefs_" in state:
            from handmill.models.estimators.export import to_bytes

            weights = self._weights()
            optimizer_state = state["_optimizer_state"]
            state["_hmill"] = to_bytes(self._architecture(weights), weights, optimizer_state)
            for name in _LEARNED:
                del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        content = state.pop("_hmill", None)
        if content is not None:
            from handmill.models.estimators.export import from_bytes

            weights, optimizer_state = from_bytes(content)
            state.update(zip(_LEARNED, (weights[::2], weights[1::2], optimizer_state), strict=True))
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _units(weights: list[Array]) -> tuple[int, ...]:
    """Features, then the units of each layer, of kernels and biases in turns."""
    return (*(len(kernel) for kernel in weights[::2]), len(weights[-1]))


def _sizes(hidden_layer_sizes: Any) -> list[int]:
    sizes = hidden_layer_sizes if np.iterable(hidden_layer_sizes) else [hidden_layer_sizes]
    found = [int(n) for n in sizes]
    if any(n <= 0 for n in found):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {found}.")
    return found


def _outputs(network: Network, x: Any) -> Array:
    if not issparse(x):
        return network.predict(x)
    starts = range(0, x.shape[0], ROWS_AT_ONCE)
    return np.concatenate([network.predict(x[i : i + ROWS_AT_ONCE].toarray()) for i in starts])
