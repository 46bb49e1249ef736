"""Training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handmill import random
from handmill.callbacks.callback import History
from handmill.callbacks.callback_list import CallbackList
from handmill.ir.op import Array
from handmill.models.data_adapters import (
    Run,
    check_rows,
    make_data,
    split_validation,
    unpack,
    weights_of_classes,
)
from handmill.models.layout import Layout, split
from handmill.models.objective import Objective
from handmill.models.prediction import Predicting
from handmill.models.steps import Step, outputs_of
from handmill.models.training_checks import TrainingChecks, warn_of_augmented_evaluation


class Trainer(Predicting):
    """What models add to layers: ``compile``, ``fit``, ``evaluate``, ``predict``."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer: Any = None
        self.objective: Any = None
        self.history: History | None = None
        self.stop_training = False
        self.stop_evaluating = False
        self._compile_arguments: dict[str, Any] | None = None
        self._steps: dict[Any, Step] = {}
        self._metric_lists: tuple[Any, tuple[list[Any], list[Any]]] | None = None
        self._shuffle: list[int] | None = None
        self._fitting = False

    # Compiling.

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Chooses how the model is trained and measured.

        Args:
            optimizer: a name or an optimizer.
            loss: a name, a loss or a function; for several outputs a list, or a dict by name.
            metrics: names, metrics or functions; for several outputs a list of lists, or a dict.
            loss_weights: factors of the losses of several outputs.
            weighted_metrics: as ``metrics``; sample weights count for them.
            run_eagerly: accepted for Keras; steps always run as programs.
            steps_per_execution: accepted for Keras; as many steps as callbacks allow run at once.
            jit_compile: accepted for Keras.
            auto_scale_loss: accepted for Keras.

        Raises:
            ValueError: for unknown names; the message lists the known ones.
        """
        from handmill import optimizers

        made = optimizers.get(optimizer)
        objective = Objective(loss, loss_weights, metrics, weighted_metrics)
        self.optimizer = made
        self.objective = objective
        self._compile_arguments = {
            "optimizer": optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile is True or jit_compile == "auto",
        }
        self._steps = {}
        self._metric_lists = None
        self.stop_training = False

    @property
    def compiled(self) -> bool:
        """Whether ``compile`` was called."""
        return vars(self).get("objective") is not None

    def _compiled_objective(self, method: str) -> Objective:
        if self.objective is None:
            raise ValueError(
                f"You must call `compile()` before calling `{method}()`. For example "
                "model.compile('adam', 'mse')."
            )
        return self.objective  # type: ignore[no-any-return]

    @property
    def loss(self) -> Any:
        """The loss, as ``compile`` was given it (or as one-hot labels settled it)."""
        return self.objective.loss if self.objective is not None else None

    def get_compile_config(self) -> dict[str, Any] | None:
        """What ``compile`` was given, as plain data."""
        from handmill.saving.objects import serialize_keras_object

        if self._compile_arguments is None:
            return None
        arguments = {**self._compile_arguments, "optimizer": self.optimizer}
        arguments["loss"] = self.objective.loss
        return {key: serialize_keras_object(value) for key, value in arguments.items()}

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles the model as :meth:`get_compile_config` says."""
        from handmill import optimizers
        from handmill.losses.registry import TABLE as LOSSES
        from handmill.metrics.registry import TABLE as METRICS
        from handmill.saving.objects import deserialize_keras_object

        def revive(value: Any, table: Mapping[str, Any]) -> Any:
            if isinstance(value, dict) and "class_name" in value:
                return deserialize_keras_object(value, module_objects=table)
            if isinstance(value, dict):
                return {key: revive(item, table) for key, item in value.items()}
            return [revive(v, table) for v in value] if isinstance(value, list) else value

        self.compile(
            optimizers.deserialize(config["optimizer"]),
            revive(config.get("loss"), LOSSES),
            revive(config.get("metrics"), METRICS),
            config.get("loss_weights"),
            revive(config.get("weighted_metrics"), METRICS),
        )

    # Steps.

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the total loss of a batch; part of the step. Subclasses may override it.

        Args:
            x: inputs.
            y: targets.
            y_pred: what the model returned.
            sample_weight: factors of the samples.
            training: whether this is a training step.
        """
        from handmill import ops

        objective = self._compiled_objective("compute_loss")
        targets, predictions, weights = self._prepared(y, y_pred, sample_weight)
        total = objective.total(targets, predictions, weights)
        for loss in self.losses:  # type: ignore[attr-defined]
            if not isinstance(loss, float):
                loss = ops.sum(loss) if len(loss.shape) else loss
            total = loss if total is None else ops.add(total, loss)
        if total is None:
            raise ValueError("No loss to compute. Provide a `loss` argument in `compile()`.")
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Takes a batch into account in the metrics; part of the step. Subclasses may override."""
        targets, predictions, weights = self._prepared(y, y_pred, sample_weight)
        self.objective.update_metrics(targets, predictions, weights)

    def _prepared(self, y: Any, y_pred: Any, weight: Any) -> tuple[list[Any], list[Any], list[Any]]:
        targets, predictions, weights, names = outputs_of(self, y, y_pred, weight)
        self.objective.build(targets, predictions, names)
        return targets, predictions, weights

    def _step(self, layout: Layout, training: bool) -> Step:
        key = (layout.key, training)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = Step(self, layout, training)
        return step

    def _train_step(self, layout: Layout) -> Step:
        return self._step(layout, True)

    def _test_step(self, layout: Layout) -> Step:
        return self._step(layout, False)

    def step_to_compare(self, x: Any, y: Any = None) -> tuple[Any, list[Array]]:
        """Returns the program that ``handmill.compare`` checks, and a batch for it."""
        x, y, _ = (x, y, None) if y is not None else (x, None, None)
        layout, arrays = split(x, y, None)
        check_rows(layout, arrays)
        arrays = [np.ascontiguousarray(a[:32]) for a in arrays]
        if y is not None and self.objective is not None:
            return self._train_step(layout).function, arrays
        return self._predictor(layout).function, arrays[: layout.counts[0]]

    def profile(self, x: Any, y: Any = None, batch_size: int = 32) -> Any:
        """Measures each step of the training plan, or of the inference plan without ``y``.

        The model runs for about a second, and is left as it was: weights, optimizer and metrics.
        Peak and bandwidth of the machine are measured the first time (another second).

        Args:
            x: inputs, as for ``fit``: one batch at least. More rows show the gathering of batches
                from memory, which is a step of training.
            y: targets, as for ``fit``; the model must be compiled.
            batch_size: rows of a batch.

        Returns:
            A :class:`handmill.inspection.profiling.Profile`. Printed, it is a table: kernel,
            instruction set level, FLOP, bytes, microseconds and distance from the roofline of each
            step. ``to_dict()`` and ``to_json()`` hold the same.

        Raises:
            ValueError: for data that do not fit, or fewer rows than ``batch_size``.
            RuntimeError: where NumPy runs everything: there are no kernels to measure.

        Example:
            >>> import numpy as np, handmill
            >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
            >>> found = model.profile(np.ones((32, 4), "float32"))
            >>> found.steps[0].kernel, found.host_steps
            ('matmul', 0)
        """
        from handmill import config
        from handmill.inspection.profiling import profile_program

        if config.backend() != "native":
            raise RuntimeError(
                "profile() measures kernels, but the backend is 'numpy'. Leave "
                "use_backend('numpy') or unset HANDMILL_BACKEND; without kernels, install a build "
                "that has them."
            )
        if y is not None:
            objective = self._compiled_objective("profile")
            if objective.one_hot is not None:
                y = objective.one_hot.check(y)
        layout, arrays = split(x, y, None)
        check_rows(layout, arrays)
        if y is not None:
            return profile_program(self._train_step(layout).function, arrays, batch_size, True)
        inputs = arrays[: layout.counts[0]]
        return profile_program(self._predictor(layout).function, inputs, batch_size, False)

    def _order(self, count: int) -> Array:
        """A new order of ``count`` rows; the sequence follows from the seed of the model."""
        if self._shuffle is None:
            self._shuffle = [random.next_host_seed(), 0]
        seed, calls = self._shuffle
        self._shuffle[1] = calls + 1
        return random.permutation(seed, calls, count)

    # Metrics.

    @property
    def metrics(self) -> list[Any]:
        """The loss, compiled metrics, losses of the outputs, and metrics among the attributes."""
        compiled = self.objective.metrics if self.objective is not None else []
        return [*compiled, *super().metrics]  # type: ignore[misc]

    @property
    def metrics_names(self) -> list[str]:
        """The names of :attr:`metrics`."""
        return [m.name for m in self.metrics]

    def reset_metrics(self) -> None:
        """Starts all metrics again."""
        for metric in self._all_metrics()[0]:
            metric.reset_state()

    def _all_metrics(self) -> tuple[list[Any], list[Any]]:
        """All metrics, and those among the attributes; found once the step is traced."""
        objective = self.objective
        built_for = None if objective is None or not objective.built else objective.built_for
        if self._metric_lists is not None and self._metric_lists[0] is built_for:
            return self._metric_lists[1]
        found = (self.metrics, super().metrics)  # type: ignore[misc]
        self._metric_lists = None if built_for is None else (built_for, found)
        return found

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the current numbers by name."""
        results = self.objective.results() if self.objective is not None else {}
        for metric in self._all_metrics()[1]:
            value = metric.result()
            results.update(
                {k: float(v) for k, v in value.items()}
                if isinstance(value, dict)
                else {metric.name: float(value)}
            )
        return results

    def current_logs(self) -> dict[str, Any]:
        """Returns the current numbers, for callbacks."""
        return self.get_metrics_result()

    # Training.

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> History:
        """Trains the model.

        Args:
            x: inputs: an array, a list or dict of arrays, or something that makes batches: a
                generator, a PyDataset, an image iterator.
            y: targets, with arrays.
            batch_size: rows of a batch; default 32.
            epochs: the number of the last epoch.
            verbose: 0 silent, 1 a progress line, 2 a line an epoch.
            callbacks: callbacks.
            validation_split: fraction of the rows, taken from the end, to validate on.
            validation_data: ``(x, y)``, ``(x, y, sample_weight)`` or something that makes batches.
            shuffle: whether each epoch has an order of its own; ``"batch"`` keeps batches whole.
            class_weight: factors of the samples' weights by class number.
            sample_weight: a factor for each sample.
            initial_epoch: the epoch to start with, from 0.
            steps_per_epoch: steps of an epoch; the next one goes on where it stopped.
            validation_steps: steps of a validation.
            validation_batch_size: rows of a batch in validation; default: ``batch_size``.
            validation_freq: epochs between validations, or a list of epochs (from 1).

        Returns:
            A History: ``.history`` holds the numbers of each epoch by name.

        Raises:
            ValueError: for data that do not fit; weights are as they were.
        """
        objective = self._compiled_objective("fit")
        if self._fitting:
            raise RuntimeError(
                f"fit() was called on {type(self).__name__} {self.name!r} "  # type: ignore[attr-defined]
                "while fit() of the same model is running"
            )
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_validation(
                x, y, sample_weight, validation_split
            )
        check = None
        if objective.one_hot is not None:
            objective.one_hot.declare(x)
            check = objective.one_hot.check
        data = make_data(
            x,
            y,
            sample_weight,
            batch_size,
            steps_per_epoch,
            shuffle,
            class_weight,
            self._order,
            check,
        )
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks,
                add_history=True,
                add_progbar=verbose != 0,
                model=self,
                verbose=verbose,
                epochs=epochs,
                steps=data.num_batches,
            )
        validation = None
        if validation_data is not None:
            validation = self._validation_data(
                validation_data, validation_batch_size or batch_size, validation_steps, check
            )
        checks = TrainingChecks(self, x)
        run = Run(self, "train", callbacks, self._train_step, self._stops_training)
        self.stop_training = False
        self._fitting = True
        finished = False
        logs: dict[str, Any] = {}
        try:
            callbacks.begin("train")
            for epoch in range(initial_epoch, epochs):
                self.reset_metrics()
                checks.start_epoch(run, epoch == initial_epoch)
                callbacks.on_epoch_begin(epoch, None)
                done = data.run_epoch(run)
                if not done:
                    if epoch == initial_epoch:
                        raise ValueError("fit() received no batch: the data set gave none")
                    break
                logs = self.get_metrics_result()
                checks.end_epoch(run, done, logs, data, first=epoch == initial_epoch)
                if validation is not None and _validates(epoch, validation_freq):
                    results = self._evaluate(validation, callbacks)
                    logs.update({f"val_{name}": value for name, value in results.items()})
                callbacks.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
            finished = True
        finally:
            self._fitting = False
            if self.optimizer.use_ema and epochs > initial_epoch:
                self.optimizer.finalize_variable_values(
                    self.trainable_variables  # type: ignore[attr-defined]
                )
            if finished:
                callbacks.end("train", logs)
        return self.history  # type: ignore[return-value]

    def _stops_training(self) -> bool:
        return self.stop_training

    def _stops_evaluating(self) -> bool:
        return self.stop_evaluating

    def _validation_data(self, data: Any, batch_size: int | None, steps: Any, check: Any) -> Any:
        x, y, weight = unpack(data) if isinstance(data, list | tuple) else (data, None, None)
        return make_data(x, y, weight, batch_size, steps, False, None, None, check)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Measures the model.

        Args:
            x: inputs, as for :meth:`fit`.
            y: targets, with arrays.
            batch_size: rows of a batch; default 32.
            verbose: 0 silent, 1 a progress line, 2 one line.
            sample_weight: a factor for each sample.
            steps: steps at most.
            callbacks: callbacks.
            return_dict: whether numbers are returned by name.
            **kwargs: none are known; for Keras's error.

        Returns:
            The loss, or a list of the loss and the metrics, or a dict.
        """
        objective = self._compiled_objective("evaluate")
        if kwargs:
            raise ValueError(f"Arguments not recognized: {kwargs}")
        check = None
        if objective.one_hot is not None:
            objective.one_hot.declare(x)
            check = objective.one_hot.check
        data = make_data(x, y, sample_weight, batch_size, steps, False, None, None, check)
        if hasattr(x, "augments"):
            warn_of_augmented_evaluation(self, x)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks,
                add_progbar=verbose != 0,
                model=self if callbacks else None,
                verbose=verbose,
                epochs=1,
                steps=data.num_batches,
            )
        logs = self._evaluate(data, callbacks)
        if not logs:
            raise ValueError("evaluate() received no batch: the data set gave none")
        return logs if return_dict else _in_order(logs)

    def _evaluate(self, data: Any, callbacks: CallbackList) -> dict[str, Any]:
        """Returns the numbers by name; none if there was no batch."""
        run = Run(self, "test", callbacks, self._test_step, self._stops_evaluating)
        self.stop_evaluating = False
        callbacks.begin("test")
        self.reset_metrics()
        logs = self.get_metrics_result() if data.run_epoch(run) else {}
        callbacks.end("test", logs)
        return logs

    # Single batches.

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Makes one training step.

        Args:
            x: inputs: an array, or a list or dict of arrays.
            y: targets.
            sample_weight: a factor for each sample.
            class_weight: factors of the samples' weights by class number.
            return_dict: whether numbers are returned by name.

        Returns:
            The loss, or a list of the loss and the metrics, of this batch.
        """
        self._compiled_objective("train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Arguments `sample_weight` and `class_weight` cannot be specified at the same "
                    "time."
                )
            sample_weight = weights_of_classes(y, class_weight, None)
        return self._one_batch(x, y, sample_weight, True, return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Measures the model on one batch; as :meth:`train_on_batch`, without an update."""
        self._compiled_objective("test_on_batch")
        return self._one_batch(x, y, sample_weight, False, return_dict)

    def _one_batch(self, x: Any, y: Any, weight: Any, training: bool, return_dict: bool) -> Any:
        one_hot = self.objective.one_hot
        if one_hot is not None and y is not None:
            y = one_hot.check(y)
        layout, arrays = split(x, y, weight)
        check_rows(layout, arrays)
        self.reset_metrics()
        self._step(layout, training).function(*arrays)
        logs = self.get_metrics_result()
        return logs if return_dict else _in_order(logs)

    # Names of Keras 2.

    def fit_generator(
        self,
        generator: Any,
        steps_per_epoch: int | None = None,
        epochs: int = 1,
        verbose: Any = 1,
        callbacks: Any = None,
        validation_data: Any = None,
        validation_steps: int | None = None,
        validation_freq: Any = 1,
        class_weight: Mapping[Any, float] | None = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        shuffle: bool = True,
        initial_epoch: int = 0,
    ) -> History:
        """The older name of :meth:`fit` for generators."""
        _older_name("fit_generator", "fit")
        return self.fit(
            generator,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_data=validation_data,
            validation_steps=validation_steps,
            validation_freq=validation_freq,
            class_weight=class_weight,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
        )

    def evaluate_generator(
        self,
        generator: Any,
        steps: int | None = None,
        callbacks: Any = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        verbose: Any = 0,
    ) -> Any:
        """The older name of :meth:`evaluate` for generators."""
        _older_name("evaluate_generator", "evaluate")
        return self.evaluate(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    def predict_generator(
        self,
        generator: Any,
        steps: int | None = None,
        callbacks: Any = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        verbose: Any = 0,
    ) -> Any:
        """The older name of :meth:`predict` for generators."""
        _older_name("predict_generator", "predict")
        return self.predict(generator, steps=steps, callbacks=callbacks, verbose=verbose)


def _older_name(old: str, new: str) -> None:
    import warnings

    from handmill import config

    if config.strict_keras():
        raise AttributeError(f"Keras 3 has no Model.{old}; use Model.{new}, which takes generators")
    warnings.warn(
        f"`Model.{old}` is the older name of `Model.{new}`, which takes generators.",
        DeprecationWarning,
        stacklevel=3,
    )


def _in_order(logs: dict[str, Any]) -> Any:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _validates(epoch: int, freq: Any) -> bool:
    if isinstance(freq, int):
        return (epoch + 1) % freq == 0
    return epoch + 1 in freq
