"""Training, evaluation and prediction."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from handmill import config, random, tree
from handmill.callbacks.backup import BackupAndRestore
from handmill.callbacks.callback import History
from handmill.callbacks.callback_list import CallbackList
from handmill.data.batches import unpack_x_y_sample_weight
from handmill.errors import clean_traceback, warn_caller
from handmill.ir.graph import current_graph
from handmill.ir.op import Array
from handmill.layers.arguments import unique
from handmill.metrics.reduction import batch_size_of, plain_means
from handmill.models import loop
from handmill.models.checked_arguments import check_epochs, checked_class_weight, checked_count
from handmill.models.compile_config import revived_compile_config
from handmill.models.data_adapters import (
    check_rows,
    is_arrays,
    make_data,
    split_validation,
    weights_of_classes,
)
from handmill.models.distributed import CURRENT, warn_of_copies
from handmill.models.first_look import in_validation
from handmill.models.frozen import cached
from handmill.models.inner_metrics import in_order, metrics_among_attributes
from handmill.models.layout import Layout, split
from handmill.models.objective import CompileMetrics, Objective, loss_of
from handmill.models.older_names import OlderNames, in_order_of_keras3
from handmill.models.outputs import outputs_of
from handmill.models.portions import Given
from handmill.models.prediction import Predicting
from handmill.models.row_numbers import row_generators, with_numbers
from handmill.models.steps import (
    EagerStep,
    FunctionStep,
    MonitoredStep,
    Step,
    StepFunction,
    TracedStep,
    as_numbers,
    is_overridden,
    note_loss,
    results_come_later,
)
from handmill.models.training_checks import TrainingChecks, warn_of_evaluated
from handmill.optimizers.masks import hand_on_masks
from handmill.runtime import watch
from handmill.runtime.tape import GradientTape

_WHOLE = nullcontext()  # of a fit that caches nothing


class Trainer(Predicting, OlderNames):
    """What models add to layers: ``compile``, ``fit``, ``evaluate``, ``predict``."""

    _logits_checked = False
    _trained: Any = (None, -1)  # the variables that the last compile() lets train, watch.now then
    _trains_without_targets = False
    _health_monitor: Any = None  # what a training step computes besides (callbacks.HealthMonitor)

    def __init__(self) -> None:
        super().__init__()
        self.optimizer: Any = None
        self.objective: Any = None
        self.history: History | None = None
        self.stop_training = False
        self.stop_evaluating = False
        self.steps_per_execution = 1
        self.train_function: Any = None
        self.test_function: Any = None
        self._compile_arguments: dict[str, Any] | None = None
        self._steps: dict[Any, Step] = {}
        self._all_metrics: tuple[int, list[Any], list[Any]] | None = None
        self._row_generators: tuple[int, list[Any]] | None = None
        self._shuffle: list[int] | None = None
        self._fitting = 0  # the thread in which fit runs

    # Compiling.

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Chooses how the model is trained and measured.

        Args:
            optimizer: a name or an optimizer; what the former one keeps at zero (pruned weights) it
                keeps at zero, too; or optimizers by patterns of the paths of variables,
                such as ``{".*/bias": SGD(0.1), ".*": Adam()}`` (``optimizers.get``). None for a
                model that is only evaluated, or whose ``train_step`` has its own.
            loss: a name, a loss or a function; for several outputs a list, or a dict by name.
            loss_weights: factors of the losses of several outputs. Metrics in this place, where
                Keras 2 had them, are metrics.
            metrics: names, metrics or functions; for several outputs a list of lists, or a dict.
            weighted_metrics: as ``metrics``; sample weights count for them.
            run_eagerly: whether Python runs each step, layer and metric on the arrays of every
                batch, where any function of NumPy may be used; slow. Default: a step is traced
                once and runs as one program.
            steps_per_execution: steps between two calls of callbacks that watch batches; where
                none does, as many as fit into about 50 ms run at once anyway.
            jit_compile: accepted for Keras.
            auto_scale_loss: accepted for Keras.

        Raises:
            ValueError: for unknown names; the message lists the known ones.
        """
        from handmill import optimizers

        made = optimizers.get(optimizer)
        steps = checked_count("steps_per_execution", steps_per_execution)
        loss_weights, metrics = in_order_of_keras3(loss_weights, metrics)
        objective = Objective(loss, loss_weights, metrics, weighted_metrics, self._prepared)
        hand_on_masks(self, made)
        self.optimizer = made
        self.objective = objective
        self.run_eagerly = bool(run_eagerly)
        self.steps_per_execution = steps
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
        self.train_function = self.test_function = self.predict_function = None
        self._all_metrics = None
        self._trained = (None, -1)
        self.stop_training = False

    @property
    def run_eagerly(self) -> bool:
        """Whether Python runs each step on the arrays of every batch."""
        return self._run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._run_eagerly = bool(value)
        self._steps = {}
        self._predictors = {}

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
        trains = method in ("fit", "train_on_batch")
        if trains and self.optimizer is None and type(self).train_step is Trainer.train_step:
            raise ValueError(
                f"{method}() needs an optimizer, but compile() was given optimizer=None: the model "
                "can be evaluated, not trained. For example model.compile('adam', 'mse')."
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
        if type(self).compile is not Trainer.compile:
            warn_caller(
                "`compile()` was not called as part of model loading because the model's "
                "`compile()` method is custom. All subclassed Models that have `compile()` "
                "overridden should also override `get_compile_config()` and "
                "`compile_from_config(config)`. Alternatively, you can call `compile()` manually "
                "after loading.",
                UserWarning,
            )
            return

        self.compile(**revived_compile_config(config))

    # Steps. Subclasses may override each of these.

    def train_step(self, data: Any) -> Any:
        """Trains on one batch; ``fit`` and ``train_on_batch`` run it.

        Made of functions of ``handmill.ops``, layers, losses, metrics and optimizers it is traced
        once and becomes one program; what it assigns to variables is part of the program. With
        ``compile(run_eagerly=True)`` Python runs it on the arrays of every batch.

        Args:
            data: a batch: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``;
                ``utils.unpack_x_y_sample_weight`` takes it apart.

        Returns:
            A dict of numbers by name, for callbacks and the History.

        Example:
            >>> import handmill
            >>> class TwiceTheLoss(handmill.Sequential):
            ...     def train_step(self, data):
            ...         x, y, weight = handmill.utils.unpack_x_y_sample_weight(data)
            ...         with handmill.GradientTape() as tape:
            ...             y_pred = self(x, training=True)
            ...             loss = 2.0 * self.compute_loss(x, y, y_pred, weight)
            ...         variables = self.trainable_variables
            ...         self.optimizer.apply(tape.gradient(loss, variables), variables)
            ...         return {"twice": loss}
            >>> import numpy as np
            >>> model = TwiceTheLoss([handmill.Input((2,)), handmill.layers.Dense(1)])
            >>> model.compile("sgd", "mse")
            >>> x = np.ones((4, 2), "float32")
            >>> list(model.fit(x, x[:, :1], verbose=0).history)
            ['twice']
        """
        gradients, variables, found = self._differentiated(data)
        if variables:
            self.optimizer.apply(gradients, variables)
        return self._measured(*found)

    def _differentiated(self, data: Any, share: Any = None) -> tuple[list[Any], list[Any], Any]:
        """The gradients of a batch, their variables, and what :meth:`_measured` takes.

        Args:
            data: a batch, or a part of one.
            share: a factor of the loss: how much of the batch the part is.
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        with GradientTape() as tape:
            y_pred = self(x, training=True)  # type: ignore[operator]
            loss = loss_of(self, x, y, y_pred, sample_weight, True)
            if isinstance(loss, int | float | np.number):
                raise ValueError(
                    "No loss to compute. Provide a `loss` argument in `compile()`, or add a loss "
                    "with `add_loss()`."
                )
            scaled = self.optimizer.scale_loss(loss)
            if share is not None:
                scaled = scaled * share
        variables = self.trainable_variables  # type: ignore[attr-defined]
        gradients = tape.gradient(scaled, variables) if variables else []
        return gradients, variables, (x, y, y_pred, sample_weight, loss)

    def test_step(self, data: Any) -> Any:
        """Measures the model on one batch; ``evaluate`` and ``test_on_batch`` run it.

        Args:
            data: a batch, as for :meth:`train_step`.

        Returns:
            A dict of numbers by name.
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)  # type: ignore[operator]
        loss = loss_of(self, x, y, y_pred, sample_weight, False)
        return self._measured(x, y, y_pred, sample_weight, loss)

    def _measured(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, loss: Any) -> Any:
        note_loss(loss)
        rows = next(leaf for leaf in tree.flatten(x) if leaf is not None)
        self.objective.tracker.update_state(loss, sample_weight=batch_size_of(rows))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def make_train_function(self, force: bool = False) -> Any:
        """Returns what ``fit`` calls for each step: it takes an iterator of batches.

        An override sets ``train_function`` to a function that takes an iterator of batches, makes
        a step and returns a dict of numbers by name; it is then called by Python for each step.

        Args:
            force: whether the step is traced anew.
        """
        if self.train_function is None or force:
            self._steps = {k: step for k, step in self._steps.items() if step.phase != "train"}
            self.train_function = StepFunction(self, "train")
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """Returns what ``evaluate`` calls for each step; see :meth:`make_train_function`."""
        if self.test_function is None or force:
            self._steps = {k: step for k, step in self._steps.items() if step.phase != "test"}
            self.test_function = StepFunction(self, "test")
        return self.test_function

    def _make_function(self, phase: str) -> None:
        if phase == "train":
            self.make_train_function()
        else:
            self.make_test_function()

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
        """Takes a batch into account in the metrics; part of the step. Subclasses may override it.

        Args:
            x: inputs.
            y: targets.
            y_pred: what the model returned.
            sample_weight: factors of the samples.

        Returns:
            The current numbers by name: those of :meth:`get_metrics_result`.
        """
        objective = self.objective
        # Without metrics targets need not fit: compute_loss may take outputs apart.
        if objective.loss_metrics or objective.weighted_metrics or not objective.built:
            targets, predictions, weights = self._prepared(y, y_pred, sample_weight)
            objective.update_metrics(targets, predictions, weights)
        return self.get_metrics_result()

    def _prepared(self, y: Any, y_pred: Any, weight: Any) -> tuple[list[Any], list[Any], list[Any]]:
        objective = self.objective
        targets, predictions, weights, names = outputs_of(self, y, y_pred, weight, objective.loss)
        nesting = tree.pack_sequence_as(y_pred, list(range(len(names))))
        objective.build(targets, predictions, names, nesting)
        return targets, predictions, weights

    def _step(self, layout: Layout, phase: str, may_be_own: bool = True) -> Step:
        """Returns the step of a phase for a layout of data.

        Args:
            layout: how the arrays of a batch lie.
            phase: ``"train"`` or ``"test"``.
            may_be_own: whether ``train_function`` or ``test_function`` of the model decides.
        """
        function = getattr(self, f"{phase}_function") if may_be_own else None
        is_own = function is not None and type(function) is not StepFunction
        monitor = self._health_monitor if phase == "train" else None
        shared = CURRENT.distribution
        key = (layout.key, phase, is_own, monitor if shared is None else shared)
        step: Step | None = self._steps.get(key)
        if step is None:
            if shared is not None:
                step = shared.step(self, layout, phase, is_own)
            elif is_own:
                step = FunctionStep(self, layout, phase, function)
            elif self.run_eagerly:
                step = EagerStep(self, layout, phase)
            else:
                step = self._steps.get((*key[:3], None)) or TracedStep(self, layout, phase)
            if shared is None and monitor is not None and type(step) is TracedStep:
                step = MonitoredStep(step, monitor)
            self._steps[key] = step
        return step

    def _step_of(self, phase: str) -> Callable[[Layout], Step]:
        """Gives the step of a phase for a layout of data."""
        self._make_function(phase)
        return functools.partial(self._step, phase=phase)

    def step_to_compare(self, x: Any, y: Any = None) -> tuple[Any, list[Array]]:
        """Returns the program that ``handmill.compare`` checks, and a batch for it."""
        x = self._as_numbers(x)
        layout, arrays = split(x, y, None)
        check_rows(layout, arrays)
        arrays = [np.ascontiguousarray(a[:32]) for a in arrays]
        if y is not None and self.objective is not None:
            layout, arrays = with_numbers(self, layout, arrays)
            return self._step(layout, "train").function, arrays
        return self._predictor(layout).function, arrays[: layout.counts[0]]

    def profile(self, x: Any, y: Any = None, batch_size: int = 32) -> Any:
        """Measures each step of the training plan, or of the inference plan without ``y``.

        The model runs for about a second, and is left as it was: weights, optimizer and metrics.
        Peak and bandwidth of the machine are measured the first time (another second).

        Args:
            x: inputs, as for ``fit``: one batch at least. More rows show the gathering of batches
                from memory, which is a step of training.
            y: targets, as for ``fit``; the model must be compiled. One that learns without them
                (:mod:`handmill.selfsup`) is measured in training where it is compiled.
            batch_size: rows of a batch.

        Returns:
            A :class:`handmill.inspection.profiling.Profile`. Printed, it is a table: kernel,
            instruction set level, FLOP, bytes, microseconds and distance from the roofline of each
            launch. ``to_dict()`` and ``to_json()`` hold the same.

        Raises:
            ValueError: for data that do not fit, or fewer rows than ``batch_size``.
            RuntimeError: where NumPy runs everything: there are no kernels to measure.

        Example:
            >>> import numpy as np, handmill
            >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
            >>> found = model.profile(np.ones((32, 4), "float32"))
            >>> found.launches[0].kernel, found.host_nodes
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
        layout, arrays = split(self._as_numbers(x), y, None)
        check_rows(layout, arrays)
        if y is not None or (self._trains_without_targets and self.compiled):
            layout, arrays = with_numbers(self, layout, arrays)
            return profile_program(self._step(layout, "train").function, arrays, batch_size, True)
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
        """The loss, the compiled metrics as one, losses of the outputs, metrics among attributes.

        Attributes of the model and of the layers inside; those of inner models stay out.
        """
        found = list(self.objective.metrics) if self.objective is not None else []
        return unique(found + metrics_among_attributes(self, Trainer))  # type: ignore[arg-type]

    @property
    def metrics_names(self) -> list[str]:
        """The names of :attr:`metrics`."""
        return [m.name for m in self.metrics]

    def reset_metrics(self) -> None:
        """Starts all metrics again."""
        for metric in self._metrics_now()[1]:
            metric.reset_state()

    def _metrics_now(self) -> tuple[list[Any], list[Any]]:
        """All metrics, and those that they are made of.

        Looked for after changes once the step is traced, unless the property is overridden.
        """
        objective, now = self.objective, watch.now
        is_built = objective is not None and objective.built
        known = self._all_metrics
        if known is not None and is_built and known[0] == now:
            return known[1:]
        found = self.metrics
        inner: list[Any] = []
        for metric in found:
            inner += metric.metrics if isinstance(metric, CompileMetrics) else [metric]
        if is_built and not is_overridden(self, "metrics"):
            self._all_metrics = now, found, inner
        return found, inner

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the current numbers by name: the results of :attr:`metrics`."""
        if results_come_later(self):
            return {}
        is_traced = current_graph() is not None
        whole, inner = self._metrics_now()
        if not is_traced and self.objective is not None and len(self.objective.names) == 1:
            means = plain_means(inner)
            if means is not None:
                return means
        found: dict[str, Any] = {}
        for metric in whole:
            value = metric.result()
            if isinstance(value, dict):
                found.update(value)
            else:
                found[metric.name] = value
        return found if is_traced else as_numbers(found)

    # Training.

    @clean_traceback
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
        resume: Any = None,
        cache_frozen: bool | int = False,
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
            shuffle: whether each epoch has an order of its own; ``"batch"`` keeps the rows of a
                batch together and changes their order inside it.
            class_weight: factors of the samples' weights by class number.
            sample_weight: a factor for each sample.
            initial_epoch: the epoch to start with, from 0.
            steps_per_epoch: steps of an epoch; the next one goes on where it stopped.
            validation_steps: steps of a validation.
            validation_batch_size: rows of a batch in validation; default: ``batch_size``.
            validation_freq: epochs between validations, or a list of epochs (from 1).
            resume: a path that ends in ``.hmill``: the state of the run is written there after
                each epoch, and if the file is there, the run goes on from it. A run that was ended
                at any moment then gives the same bits as one that was not.
            cache_frozen: whether what the frozen layers at the beginning give for arrays is
                computed once, and the others are trained on it: True, or the number of bytes that
                it may need (True: 2 GiB). They must not learn, and do the same in training as in
                inference. It is handmill's addition to Keras, as ``resume`` is.

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
        with (
            cached(self, cache_frozen, batch_size, verbose) if cache_frozen is not False else _WHOLE
        ):
            check_epochs(epochs, initial_epoch, validation_freq)
            limit = config.max_epochs()
            if limit is not None and limit < epochs:
                warn_caller(f"Limiting epochs to {limit}", UserWarning)
                epochs = limit
            if validation_data is not None and self._host is not None:
                validation_data = self._host.of_validation(validation_data)
            x = self._as_numbers(x)
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
                numbered=bool(row_generators(self)),
                may_differ=y is None and is_overridden(self, "train_step"),
            )
            if CURRENT.distribution is None:
                if not CURRENT.has_looked:
                    warn_of_copies()
            else:
                callbacks, verbose = CURRENT.distribution.of_rank(callbacks, verbose)
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
                sizes = validation_batch_size, batch_size
                validation = self._validation_data(validation_data, sizes, validation_steps, check)
            resumption = _resumption(resume, callbacks)
            checks = TrainingChecks(self, x)
            numbers = range(initial_epoch, epochs)
            self._fitting = threading.get_ident()
            try:
                loop.fit(
                    self, data, callbacks, numbers, checks, validation, validation_freq, resumption
                )
            finally:
                self._fitting = 0
                if self._health_monitor is not None:
                    self._health_monitor = None
            return self.history  # type: ignore[return-value]

    def _validation_data(
        self, data: Any, sizes: tuple[int | None, int | None], steps: Any, check: Any
    ) -> Any:
        with in_validation():
            x, y, weight = unpack_x_y_sample_weight(data)
            size = sizes[0] if sizes[0] is not None or not is_arrays(x) else sizes[1]
            return make_data(x, y, weight, size, steps, False, None, None, check)

    @clean_traceback
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
        if CURRENT.distribution is not None:
            callbacks, verbose = CURRENT.distribution.of_rank(callbacks, verbose)
        check = None
        if objective.one_hot is not None:
            objective.one_hot.declare(x)
            check = objective.one_hot.check
        x = self._as_numbers(x)
        data = make_data(x, y, sample_weight, batch_size, steps, False, None, None, check)
        warn_of_evaluated(self, x)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks,
                add_progbar=verbose != 0,
                model=self if callbacks else None,
                verbose=verbose,
                epochs=1,
                steps=data.num_batches,
            )
        logs = loop.evaluate(self, data, callbacks)
        if not logs:
            raise ValueError("evaluate() received no batch: the data set gave none")
        return logs if return_dict else in_order(self._metrics_now()[1], logs)

    # Single batches.

    @clean_traceback
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
            sample_weight = weights_of_classes(y, checked_class_weight(class_weight), None)
        return self._one_batch(x, y, sample_weight, "train", return_dict)

    @clean_traceback
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Measures the model on one batch; as :meth:`train_on_batch`, without an update."""
        self._compiled_objective("test_on_batch")
        return self._one_batch(x, y, sample_weight, "test", return_dict)

    def _one_batch(self, x: Any, y: Any, weight: Any, phase: str, return_dict: bool) -> Any:
        self._make_function(phase)
        self.reset_metrics()
        logs = self._run_batch(phase, x, y, weight)
        return logs if return_dict else in_order(self._metrics_now()[1], logs)

    def _run_batch(
        self, phase: str, x: Any, y: Any, weight: Any, may_be_own: bool = True
    ) -> dict[str, Any]:
        """Runs one step; returns numbers by name."""
        one_hot = self.objective.one_hot
        if one_hot is not None and y is not None:
            y = one_hot.check(y)
        layout, arrays = split(self._as_numbers(x), y, weight)
        check_rows(layout, arrays)
        step = self._step(layout, phase, may_be_own)
        step.run(Given(layout, arrays), 1)
        return step.logs()


def _resumption(resume: Any, callbacks: CallbackList) -> Any:
    """What ``fit(resume=...)`` and BackupAndRestore mean; imported only where there is one."""
    backups = [c for c in callbacks.callbacks if isinstance(c, BackupAndRestore)]
    if resume is None and not backups:
        return None
    from handmill.models.resumption import resumption_of

    return resumption_of(resume, backups)
