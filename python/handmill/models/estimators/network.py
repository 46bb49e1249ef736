"""The network of an estimator: variables, and the programs of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import handmill
from handmill import activations, layers, ops, optimizers
from handmill.ir.op import Array
from handmill.ir.trace import apply
from handmill.metrics.reduction import batch_size_of
from handmill.primitives.reduce import SUM_OF_SQUARES
from handmill.runtime.feed import Feed
from handmill.runtime.function import TracedFunction, gradients
from handmill.runtime.variable import Variable, zeros

ACTIVATIONS = {
    "identity": "linear",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
    "exp": "exponential",
}
"""scikit-learn's name of an activation -> ours."""

ROWS_AT_ONCE = 1024
"""Rows of a prediction step: its activations stay in the caches, and its memory bounded."""

REMEMBERED = 16
"""Steps whose losses a network remembers."""

_ZERO = np.zeros((), np.float32)


@dataclass(frozen=True)
class Architecture:
    """All that the programs of a network depend on; two equal ones can share them.

    Attributes:
        units: features, units of the hidden layers, outputs.
        activation: that of the hidden layers, by scikit-learn's name.
        output: that of the last layer, which also tells the loss.
        solver: ``("adam", beta_1, beta_2, epsilon)``, ``("sgd", momentum, nesterov)`` or
            ``("lbfgs",)``.
        has_penalty: whether weights are penalized.
    """

    units: tuple[int, ...]
    activation: str
    output: str
    solver: tuple[Any, ...]
    has_penalty: bool


def make_model(architecture: Architecture, kernel_initializer: Any = "zeros") -> Any:
    """Returns the layers as a model whose outputs are what the estimator predicts from.

    Args:
        architecture: what it is made of.
        kernel_initializer: for the weights.
    """
    features, *hidden, outputs = architecture.units
    stack: list[Any] = [handmill.Input((features,), dtype="float32", name="features")]
    for number, units in enumerate(hidden):
        activation = ACTIVATIONS[architecture.activation]
        stack.append(_dense(units, activation, kernel_initializer, f"hidden_{number}"))
    stack.append(_dense(outputs, "linear", kernel_initializer, "outputs"))
    output = ACTIVATIONS[architecture.output]
    stack.append(layers.Activation(output, dtype="float32", name="predictions"))
    return handmill.Sequential(stack, name="perceptron")


def _dense(units: int, activation: str, kernel_initializer: Any, name: str) -> Any:
    return layers.Dense(
        units,
        activation=activation,
        kernel_initializer=kernel_initializer,
        dtype="float32",
        name=name,
    )


def make_optimizer(architecture: Architecture, learning_rate: float) -> Any:
    """Returns the optimizer of the solver; L-BFGS, which knows no batches, leaves it to Adam."""
    kind, *numbers = architecture.solver
    if kind == "lbfgs":
        return optimizers.Adam(learning_rate or 0.001, name="adam")
    if kind == "adam":
        beta_1, beta_2, epsilon = numbers
        return optimizers.Adam(learning_rate, beta_1, beta_2, epsilon, name="adam")
    momentum, nesterov = numbers
    return optimizers.SGD(learning_rate, momentum, nesterov, name="sgd")


class Network:
    """The variables of one fit, and the programs that train them and predict from them.

    Programs are traced once for an architecture (runtime/structure.py) and serve every network of
    it: weights, the state of the optimizer, learning rate and penalty are variables. Making one
    takes some 100 us.

    Args:
        architecture: what it is made of.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.weights: list[Variable] = []
        for inputs, outputs in pairwise(architecture.units):
            for shape in ((inputs, outputs), (outputs,)):
                self.weights.append(Variable(zeros, shape))
        self._predict = TracedFunction(
            self._predict_step, "predict_step", subject=_Subject(self._parts_of_prediction)
        )

    def start(self, state: Sequence[Array] | None, alpha: float) -> None:
        """Makes what training needs.

        Args:
            state: of the optimizer, as :meth:`optimizer_state` returned it; None: a new one.
            alpha: the factor of the penalty.
        """
        self.optimizer = make_optimizer(self.architecture, 0.0)
        self.optimizer.build(self.weights)
        if state is not None:
            self.optimizer.set_weights(state)
        self._alpha = Variable(np.float32(alpha), trainable=False, name="alpha")
        self._loss_sum = Variable(_ZERO, trainable=False, name="loss_sum")
        self._losses = Variable(np.zeros(REMEMBERED, np.float32), trainable=False, name="losses")
        self._train = TracedFunction(
            self._train_step, "train_step", subject=_Subject(self._parts_of_training)
        )

    def start_gradients(self, alpha: float) -> None:
        """Makes what :meth:`loss_and_gradients` needs.

        Args:
            alpha: the factor of the penalty.
        """
        self._alpha = Variable(np.float32(alpha), trainable=False, name="alpha")
        self._gradients = TracedFunction(
            self._gradient_step, "gradient_step", subject=_Subject(self._parts_of_gradients)
        )

    def loss_and_gradients(self, x: Array, others: Sequence[Array]) -> list[Array]:
        """Returns the loss over all rows, and its gradient by each weight; changes nothing.

        Args:
            x: contiguous float32 features.
            others: targets, and sample weights where there are some.
        """
        return list(self._gradients(x, *others))

    def _parts_of_prediction(self) -> tuple[Any, ...]:
        a = self.architecture
        return "predict", a.activation, a.output, tuple(self.weights)

    def _parts_of_training(self) -> tuple[Any, ...]:
        """All else, the settings of the optimizer too, follows from the architecture."""
        own = self._alpha, self._loss_sum, self._losses
        return "train", self.architecture, (*self.weights, *self.optimizer.variables, *own)

    def _parts_of_gradients(self) -> tuple[Any, ...]:
        return "gradients", self.architecture, (*self.weights, self._alpha)

    def set_weights(self, arrays: Sequence[Array]) -> None:
        """Sets kernel and bias of each layer, in turns."""
        for variable, array in zip(self.weights, arrays, strict=True):
            variable.assign(array)

    def get_weights(self) -> list[Array]:
        """Returns copies of kernel and bias of each layer, in turns."""
        return [v.numpy() for v in self.weights]

    def optimizer_state(self) -> list[Array]:
        """Returns copies of the optimizer's variables."""
        return [v.numpy() for v in self.optimizer.variables]

    def train_pass(self, feed: Feed, batch_size: int) -> float:
        """Makes a step with each batch of ``feed``; returns the sum of the losses of its rows."""
        self._loss_sum.state.write(_ZERO)
        feed.position, left = 0, feed.rows
        while left:
            size = min(batch_size, left)
            left -= size * self._train.run_fed(feed, size, left // size)
        return float(self._loss_sum)

    def train_steps(self, feed: Feed, batch_size: int, steps: int) -> list[float]:
        """Makes steps with batches of ``feed``, REMEMBERED at most; returns the loss of each."""
        feed.position = done = 0
        while done < steps:
            done += self._train.run_fed(feed, batch_size, steps - done)
        return self._losses.numpy()[-steps:].tolist()  # type: ignore[no-any-return]

    def predict(self, x: Array) -> Array:
        """Returns the outputs (rows, outputs) for contiguous float32 rows."""
        if len(x) <= ROWS_AT_ONCE:
            return self._predict(x)  # type: ignore[no-any-return]
        starts = range(0, len(x), ROWS_AT_ONCE)
        return np.concatenate([self._predict(x[i : i + ROWS_AT_ONCE]) for i in starts])

    def _logits(self, x: Any) -> Any:
        activation = activations.get(ACTIVATIONS[self.architecture.activation])
        stack = list(zip(self.weights[::2], self.weights[1::2], strict=True))
        for kernel, bias in stack[:-1]:
            x = activation(ops.add(ops.matmul(x, kernel), bias))
        kernel, bias = stack[-1]
        return ops.add(ops.matmul(x, kernel), bias)

    def _predict_step(self, x: Any) -> Any:
        return activations.get(ACTIVATIONS[self.architecture.output])(self._logits(x))

    def _objective(self, x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
        """The loss that is reported, and the one whose gradient is followed."""
        logits = self._logits(x)
        loss_of_rows, scale = _losses(self.architecture, y, logits)
        rows = batch_size_of(x)
        if sample_weight is None:
            per_weight = ops.divide(1.0, rows)
        else:
            loss_of_rows = ops.multiply(loss_of_rows, sample_weight)
            total = ops.sum(sample_weight)
            per_weight = ops.where(ops.equal(total, 0.0), 0.0, ops.divide(1.0, total))
        loss = ops.multiply(ops.sum(loss_of_rows), per_weight)
        reported, minimized = ops.multiply(loss, scale), loss
        if self.architecture.has_penalty:
            squares = [apply(SUM_OF_SQUARES, v.value) for v in self.weights[::2]]
            total_squares = squares[0]
            for square in squares[1:]:
                total_squares = ops.add(total_squares, square)
            factor = ops.multiply(ops.multiply(self._alpha.value, 0.5), per_weight)
            penalty = ops.multiply(total_squares, factor)
            reported, minimized = ops.add(reported, penalty), ops.add(minimized, penalty)
        return reported, minimized

    def _gradient_step(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        reported, minimized = self._objective(x, y, sample_weight)
        return reported, *gradients(minimized, self.weights)

    def _train_step(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[()]:
        reported, minimized = self._objective(x, y, sample_weight)
        rows = batch_size_of(x)
        self.optimizer.apply(gradients(minimized, self.weights), self.weights)
        self._loss_sum.assign(ops.add(self._loss_sum.value, ops.multiply(reported, rows)))
        latest = ops.reshape(reported, (1,))
        self._losses.assign(ops.concatenate([self._losses.value[1:], latest]))
        return ()


def _losses(architecture: Architecture, y: Any, logits: Any) -> tuple[Any, float]:
    """The loss of each row, and the factor by which scikit-learn reports it.

    With several regression targets, scikit-learn follows the gradient of the sum over the
    targets, and reports the mean.
    """
    if architecture.output == "softmax":
        return ops.sparse_categorical_crossentropy(y, logits, from_logits=True), 1.0
    if architecture.output == "logistic":
        return ops.sum(ops.binary_crossentropy(y, logits, from_logits=True), axis=-1), 1.0
    if architecture.output == "identity":
        half = ops.multiply(ops.square(ops.subtract(y, logits)), 0.5)
        return ops.sum(half, axis=-1), 1.0 / architecture.units[-1]
    # Half the Poisson deviance with the mean exp(z): y log(y / exp(z)) - y + exp(z); 0 log 0 = 0.
    log_y = ops.log(ops.maximum(y, float(np.finfo(np.float32).tiny)))
    surprise = ops.multiply(y, ops.subtract(log_y, logits))
    return ops.sum(ops.add(ops.subtract(surprise, y), ops.exp(logits)), axis=-1), 1.0


class _Subject:
    """What a program of a network depends on; a trace makes nothing beside its program."""

    ignores_trainable = False

    def __init__(self, parts: Callable[[], tuple[Any, ...]]) -> None:
        self.parts = parts

    def memo(self, before: Any) -> None:
        """Nothing."""

    def prepare(self, memo: None, before: Any) -> tuple[()]:
        """There is nothing to make."""
        return ()
