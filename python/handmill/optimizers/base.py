"""The base class of optimizers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import config, ops
from handmill.errors import warn_caller
from handmill.ir.arrays import array_of
from handmill.ir.graph import current_graph, outside_graph
from handmill.ir.op import Op
from handmill.ir.trace import apply
from handmill.naming import auto_name
from handmill.optimizers.applied import Applied, with_gradients
from handmill.optimizers.exclusions import EXCLUDED, checked_exclusions
from handmill.optimizers.masks import (
    MASKED,
    build_masks,
    checked_positions,
    keep_zeros,
    masks_config,
)
from handmill.optimizers.schedules import InverseTimeDecay, LearningRateSchedule
from handmill.optimizers.slots import add_zeros, has_methods_of
from handmill.optimizers.sparse_rows import gradients_of_rows, updated
from handmill.optimizers.stateless import stateless_apply
from handmill.primitives.cast import INCREMENT
from handmill.primitives.reduce import SUM_OF_SQUARES
from handmill.runtime.memory import Account
from handmill.runtime.structure import Walk, describe_watched
from handmill.runtime.variable import Variable, zeros
from handmill.runtime.watch import Watched, is_ours
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object
from handmill.saving.stored_variables import StoredVariables

_KEEPS_LESS = (
    "Choose one that keeps less (SGD without momentum nothing, Adafactor little), or train fewer "
    "weights"
)
_NOT_READ = frozenset({"_variables"})  # our optimizers have each of them under another name


class Optimizer(StoredVariables, Watched):
    """Base class: turns gradients into updates of variables.

    An update is traced as part of the training step. Subclasses define ``update_step``.

    Args:
        learning_rate: a number, a LearningRateSchedule, or a function without arguments that
            returns a number; a function is asked while the step is traced.
        weight_decay: each update first shrinks variables by ``weight_decay * learning_rate``.
        clipnorm: largest norm of the gradient of one variable.
        clipvalue: largest absolute value in a gradient.
        global_clipnorm: largest norm of all gradients together.
        use_ema: whether a running mean of the variables is kept; it replaces them after ``fit``.
        ema_momentum: weight of the old running mean at each update.
        ema_overwrite_frequency: updates after which variables are set to the running mean.
        loss_scale_factor: the loss is multiplied by it before gradients are taken.
        gradient_accumulation_steps: update once in so many steps, with the mean gradient.
        name: default: the class name in snake case.
        **kwargs: the older names ``lr`` and ``decay``.

    Raises:
        ValueError: for arguments that do not fit, as Keras does.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        learning_rate = _older_names(learning_rate, kwargs)
        if kwargs:
            raise ValueError(f"Argument(s) not recognized: {kwargs}")
        if gradient_accumulation_steps is not None and gradient_accumulation_steps < 2:
            raise ValueError(
                "`gradient_accumulation_steps` must be an integer >= 2. Received: "
                f"gradient_accumulation_steps={gradient_accumulation_steps}"
            )
        if use_ema and not 0 <= ema_momentum <= 1:
            raise ValueError(
                f"`ema_momentum` must be in the range [0, 1]. Received: ema_momentum={ema_momentum}"
            )
        frequency = ema_overwrite_frequency
        if use_ema and frequency and (not isinstance(frequency, int) or frequency < 1):
            raise ValueError(
                "`ema_overwrite_frequency` must be an integer >= 1 or None. Received: "
                f"ema_overwrite_frequency={frequency}"
            )
        if sum(a is not None for a in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                "Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. Received: "
                f"clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
            )
        self._start(
            name=name or auto_name(type(self).__name__),
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            built=False,
            _variables=[],
            _trainable_variables=[],
            _index={},
            _excluded=[],
            _excluded_names=[],
            _masks={},
            _masked=[],
            _model_variables_moving_average=[],
            _accumulated_gradients=[],
            _update_when=None,
            _rows={},
            _eager=None,
        )
        self._iterations = self._track(
            Variable(np.zeros((), np.int64), trainable=False, name="iteration")
        )
        if _is_computed(learning_rate):
            self._learning_rate = learning_rate
        else:
            self._learning_rate = self._track(
                Variable(
                    np.asarray(_checked_rate(learning_rate), np.float32),
                    trainable=False,
                    name="learning_rate",
                )
            )

    name: str
    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    built: bool
    _variables: list[Variable]
    _trainable_variables: list[Variable]
    _index: dict[int, int]
    _excluded: list[Any]  # variables; from files: their paths or positions
    _excluded_names: list[str]
    _masks: dict[int, Variable]  # of pruned variables, by position
    _masked: list[int]  # their positions, known before there are variables
    _model_variables_moving_average: list[Variable]
    _accumulated_gradients: list[Variable]
    _update_when: Any
    _rows: dict[int, Any]  # of tables: the rows of their gradients, while a step is traced
    _eager: Any
    _learning_rate: Any

    _unwatched = frozenset(
        {"name", "learning_rate", "lr", "_index", "_eager"}
        | {"_update_when", "_rows", "_alpha", "_decay"}
    )

    def describe_structure(self, walk: Walk) -> None:
        """Adds to a description what the optimizer depends on (runtime/structure.py)."""
        describe_watched(walk, self, _NOT_READ if is_ours(type(self)) else frozenset())
        if self._excluded or self._excluded_names:  # which variables they are, names may tell
            walk.add(*((v.path, v.name) for v in self._trainable_variables))

    def _track(self, variable: Variable) -> Variable:
        variable.__dict__["path"] = f"{self.name}/{variable.name}"
        self._variables.append(variable)
        return variable

    # State.

    @property
    def variables(self) -> list[Variable]:
        """All state: iterations, learning rate, then what ``build`` made."""
        return list(self._variables)

    def variables_to_store(self) -> list[Variable]:
        """All state, in the order in which files hold it."""
        return self.variables

    @property
    def iterations(self) -> Any:
        """The number of updates made: with accumulation fewer than steps."""
        count = self.gradient_accumulation_steps
        if not count:
            return self._iterations
        if current_graph() is None:
            return np.asarray(self._iterations.read() // count)
        rounds = ops.divide(ops.cast(self._iterations.value, "float64"), float(count))
        return ops.cast(ops.floor(rounds), "int64")

    @property
    def learning_rate(self) -> Any:
        """The current learning rate."""
        if isinstance(self._learning_rate, LearningRateSchedule):
            return self._learning_rate(self._iterations)
        if isinstance(self._learning_rate, Variable):
            return self._learning_rate
        return self._learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if _is_computed(value):
            if isinstance(self._learning_rate, Variable):
                rate = self._learning_rate
                self._variables = [v for v in self._variables if v is not rate]
            self._learning_rate = value
        elif isinstance(self._learning_rate, LearningRateSchedule):
            raise TypeError(
                "This optimizer was created with a `LearningRateSchedule` object as its "
                "`learning_rate` constructor argument, hence its learning rate is not settable. "
                "If you need the learning rate to be settable, you should instantiate the "
                "optimizer with a float `learning_rate` argument."
            )
        elif isinstance(self._learning_rate, Variable):
            self._learning_rate.assign(np.float32(_checked_rate(value)))
        else:
            raise TypeError(
                "the learning rate of this optimizer is a function, so it cannot be set to "
                f"{value!r}: set it to another function, or make the optimizer with a number"
            )

    @property
    def lr(self) -> Any:
        """The older name of :attr:`learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the state for ``variables``. Called once, by the first step."""
        if self.built:
            return
        self._trainable_variables = list(variables)
        self._index = {id(v): i for i, v in enumerate(variables)}
        made = len(self._variables)
        what = f"what optimizer {self.name!r} keeps of {len(variables)} weights"
        try:
            with Account(what, _KEEPS_LESS):
                if self.use_ema:
                    self._model_variables_moving_average = self.add_optimizer_variables(
                        variables, "average"
                    )
                if self.gradient_accumulation_steps:
                    self._accumulated_gradients = self.add_optimizer_variables(
                        variables, "gradient_accumulator"
                    )
                self.build_slots(list(variables))
        except MemoryError:
            self._variables = self._variables[:made]
            raise
        build_masks(self)
        self.built = True

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the slots of the algorithm; subclasses override."""

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: str | None = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable of the optimizer's state."""
        if initializer == "zeros":
            made: Any = zeros
        else:
            from handmill import initializers

            made = initializers.get(initializer)
        return self._track(Variable(made, tuple(shape), dtype, trainable=False, name=name))

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Makes a variable of the shape and dtype of another."""
        path = reference_variable.path.replace("/", "_")
        return self.add_variable(
            reference_variable.shape,
            initializer,
            reference_variable.dtype,
            name=f"{path}_{name or 'var'}",
        )

    def add_optimizer_variables(
        self, trainable_variables: Sequence[Variable], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """Makes one variable, or several named ones, for each trainable variable.

        Args:
            trainable_variables: the variables.
            name: a name, or a list of names.
            initializer: of all of them, or a list with one for each name.

        Returns:
            A list; a tuple of lists for a list of names.

        Raises:
            ValueError: if there are not as many initializers as names.
        """
        names = [name] if isinstance(name, str) else list(name)
        several = isinstance(initializer, list | tuple)
        initializers = list(initializer) if several else [initializer] * len(names)
        if len(names) != len(initializers):
            raise ValueError(
                "The number of provided names must match the number of provided initializers. "
                f"Received name={name!r}, initializer={initializer!r}"
            )
        found: tuple[list[Variable], ...] = tuple([] for _ in names)
        if initializers.count("zeros") == len(names) and has_methods_of(type(self), Optimizer):
            self._variables += tuple(add_zeros(found, trainable_variables, names, self.name))
            return found[0] if isinstance(name, str) else found
        for variable in trainable_variables:
            for slots, slot_name, made in zip(found, names, initializers, strict=True):
                slots.append(self.add_variable_from_reference(variable, slot_name, made))
        return found[0] if isinstance(name, str) else found

    def slot(self, slots: Sequence[Variable], variable: Variable) -> Variable:
        """Returns the slot that belongs to ``variable``."""
        return slots[self._get_variable_index(variable)]

    def _get_variable_index(self, variable: Variable) -> int:
        """The place of ``variable`` among those the optimizer was built with."""
        return self._index[id(variable)]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replaces the state; arrays in the order of :attr:`variables`."""
        if not self.built:
            raise ValueError(
                "You are calling `set_weights()` on an optimizer that has not yet been built. "
                "Please call `optimizer.build(trainable_variables)` to create the optimizer "
                "weights before calling `set_weights()`."
            )
        variables = self.variables
        if len(weights) != len(variables):
            raise ValueError(
                f"optimizer {self.name!r} has {len(variables)} variables, got {len(weights)} arrays"
            )
        for variable, array in zip(variables, weights, strict=True):
            if variable.shape != np.shape(array):
                raise ValueError(
                    f"Optimizer variable {variable.path} has shape {variable.shape} not "
                    f"compatible with provided weight shape {np.shape(array)}."
                )
        for variable, array in zip(variables, weights, strict=True):
            variable.assign(array)

    # Updates.

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """Makes a step from pairs (gradient, variable); returns the number of steps."""
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self._iterations

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Makes a step.

        Args:
            grads: one gradient, or None, for each variable.
            trainable_variables: default: those given at the first step.

        Raises:
            ValueError: if no variable has a gradient, or a variable is unknown.
        """
        grads = list(grads)
        if not grads:
            return
        variables = self._variables_for(grads, trainable_variables)
        if current_graph() is None:
            self._apply_to_arrays(grads, variables)
        else:
            self._apply_to_values(grads, variables)

    def _apply_to_values(self, grads: list[Any], variables: list[Variable]) -> None:
        """Makes a step a part of the program that is being traced."""
        pairs = with_gradients(grads, variables)
        self.step_of_some([g for g, _ in pairs], [v for _, v in pairs])

    def stateless_apply(
        self,
        optimizer_variables: Sequence[Any],
        grads: Sequence[Any],
        trainable_variables: Sequence[Any],
    ) -> tuple[list[Any], list[Any]]:
        """Returns what a step makes of values, and changes no variable.

        Args:
            optimizer_variables: a value for each of :attr:`variables`.
            grads: one gradient, or None, for each trainable variable.
            trainable_variables: a value for each variable that the optimizer was built with.

        Returns:
            The new values of the trainable variables, and those of :attr:`variables`.

        Raises:
            ValueError: if the optimizer is not built, or the lists do not fit.
        """
        return stateless_apply(self, optimizer_variables, grads, trainable_variables)

    def _variables_for(self, grads: list[Any], variables: Any) -> list[Variable]:
        if variables is None:
            if not self.built:
                raise ValueError(
                    "When passing `grads` without `variables`, the optimizer must already be "
                    "built on a list of variables. Call `optimizer.build(trainable_variables)` "
                    "first. "
                )
            if len(grads) != len(self._trainable_variables):
                raise ValueError(
                    f"Received a list of {len(grads)} gradients, but the optimizer is tracking "
                    f"{len(self._trainable_variables)} trainable variables."
                )
            return self._trainable_variables
        found = list(variables)
        if not self.built:  # a build() of a user's need not ask
            with outside_graph():  # of a step, which would assign again what it assigns
                self.build(found)
        for variable in found:
            if id(variable) not in self._index:
                raise ValueError(
                    f"Unknown variable: {variable}. This optimizer can only be called for the "
                    "variables it was originally built with. When working with a new set of "
                    "variables, you should recreate a new optimizer instance."
                )
        return found

    def forget_programs(self) -> None:
        """Lets go of the programs that :meth:`apply` has made for arrays."""
        self._eager = None

    def _apply_to_arrays(self, grads: list[Any], variables: list[Variable]) -> None:
        from handmill.runtime.function import TracedFunction

        key = tuple((id(v), g is not None) for g, v in zip(grads, variables, strict=True))
        if self._eager is None or self._eager[0] != key:

            def step(*values: Any) -> tuple[()]:
                given = iter(values)
                self.apply([None if g is None else next(given) for g in grads], variables)
                return ()

            subject = Applied(self, variables)
            self._eager = (key, TracedFunction(step, self.name, batched=False, subject=subject))
        pairs = zip(grads, variables, strict=True)
        self._eager[1](*(_gradient_of(v, g) for g, v in pairs if g is not None))

    def step_of_some(self, grads: list[Any], variables: list[Variable]) -> None:
        """Makes a step of some variables, or of none, a part of the program that is traced."""
        grads, self._rows = gradients_of_rows(self, grads, variables)
        if self.loss_scale_factor is not None:
            grads = [ops.divide(g, float(self.loss_scale_factor)) for g in grads]
        self._update_when = None
        if self.gradient_accumulation_steps:
            grads = self._accumulated(grads, variables)
        grads = self._clip_gradients(grads)
        rate = self.learning_rate
        rate = rate.value if isinstance(rate, Variable) else ops.cast(rate, "float32")
        self.begin_step(rate)
        for gradient, variable in zip(grads, variables, strict=True):
            gradient = ops.cast(gradient, variable.dtype)  # scaled and clipped in float32
            decay = self.decay_of(variable)
            if decay is not None and not self.decays_itself:
                shrink = ops.multiply(rate, float(decay))
                value = variable.value
                self.assign(variable, ops.subtract(value, ops.multiply(value, shrink)))
            self.update_step(gradient, variable, rate)
        self.end_step()
        self._update_when, self._rows = None, {}
        if self.use_ema:
            self._average(self._trainable_variables)
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable.value))
        if self._masks:
            keep_zeros(self, variables)
        self._iterations.assign(apply(INCREMENT, self._iterations.value))

    decays_itself = False
    """Whether ``update_step`` applies the weight decay."""

    def begin_step(self, learning_rate: Any) -> None:
        """Computes what all variables share in a step; subclasses override."""

    def end_step(self) -> None:
        """Lets go of what :meth:`begin_step` computed; subclasses override."""

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable and its slots; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} must define update_step()")

    def updates_rows(self) -> bool:
        """Whether ``update_step`` leaves all to :meth:`run_update`: rows alone can be updated."""
        return False

    def run_update(
        self, update: Op, written: Sequence[Variable], gradient: Any, *numbers: Any, **attrs: Any
    ) -> None:
        """Updates a variable and its slots by one operator.

        Args:
            update: from :mod:`handmill.primitives.optimizer`.
            written: the variable, then the slots, as the operator takes and gives them.
            gradient: as ``update_step`` received it.
            *numbers: the other operands.
            **attrs: the attributes.
        """
        values = [v.value for v in written]
        at = self._rows.get(id(written[0]))
        found = updated(update, values, gradient, at, numbers, attrs)
        for variable, value in zip(written, found, strict=True):
            self.assign(variable, value)

    def assign(self, variable: Variable, value: Any) -> None:
        """Writes a variable, unless this step only accumulates gradients."""
        if self._update_when is not None:
            value = ops.where(self._update_when, value, variable.value)
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Adds to a variable; see :meth:`assign`."""
        self.assign(variable, ops.add(variable.value, value))

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtracts from a variable; see :meth:`assign`."""
        self.assign(variable, ops.subtract(variable.value, value))

    def step_number(self) -> Any:
        """The number of this update as float32, from 1."""
        steps = ops.cast(self._iterations.value, "float32")
        if self.gradient_accumulation_steps:
            steps = ops.floor(ops.divide(steps, float(self.gradient_accumulation_steps)))
        return ops.add(steps, 1.0)

    def _every(self, count: int, number: Any) -> Any:
        """Whether ``number`` (float32, whole) is a multiple of ``count``."""
        rounds = ops.floor(ops.divide(number, float(count)))
        return ops.equal(ops.multiply(rounds, float(count)), number)

    def _accumulated(self, grads: list[Any], variables: list[Variable]) -> list[Any]:
        count = int(self.gradient_accumulation_steps or 1)
        number = ops.add(ops.cast(self._iterations.value, "float32"), 1.0)
        when = self._every(count, number)
        means = []
        for gradient, variable in zip(grads, variables, strict=True):
            sums = self.slot(self._accumulated_gradients, variable)
            total = ops.add(sums.value, gradient)
            sums.assign(ops.where(when, ops.multiply(total, 0.0), total))
            means.append(ops.divide(total, float(count)))
        self._update_when = when
        return means

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if self.clipnorm and self.clipnorm > 0:
            limit = float(self.clipnorm)
            return [
                ops.multiply(g, ops.divide(limit, ops.maximum(ops.sqrt(_squares(g)), limit)))
                for g in grads
            ]
        if self.global_clipnorm and self.global_clipnorm > 0:
            limit = float(self.global_clipnorm)
            total = _squares(grads[0])
            for gradient in grads[1:]:
                total = ops.add(total, _squares(gradient))
            norm = ops.sqrt(total)
            factor = ops.multiply(ops.minimum(ops.divide(1.0, norm), 1.0 / limit), limit)
            factor = ops.add(factor, ops.subtract(norm, norm))  # NaN where the norm is infinite
            return [ops.multiply(g, factor) for g in grads]
        if self.clipvalue and self.clipvalue > 0:
            limit = float(self.clipvalue)
            return [ops.clip(g, -limit, limit) for g in grads]
        return grads

    def exclude_from_weight_decay(
        self, var_list: Sequence[Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exempts variables from weight decay; to be called before the first step.

        Args:
            var_list: variables.
            var_names: parts of names of variables, such as ``"bias"``.
        """
        if self.built:
            raise ValueError(
                "`exclude_from_weight_decay()` can only be configured before the optimizer is "
                "built."
            )
        self._excluded = list(var_list or ())
        self._excluded_names = sorted(set(var_names or ()))

    def decay_of(self, variable: Variable) -> float | None:
        """The weight decay of ``variable``; None where it does not decay."""
        return None if self._is_excluded(variable) else self.weight_decay

    def _is_excluded(self, variable: Variable) -> bool:
        position = self._index.get(id(variable), -1)
        for item in self._excluded:
            if item is variable or (
                isinstance(item, int | str) and item in (position, variable.path)
            ):
                return True
        return any(re.search(name, variable.name) for name in self._excluded_names)

    def _average(self, variables: list[Variable]) -> None:
        """Moves the running means, in each step: those that only accumulate gradients too."""
        number = self.step_number()
        first = ops.cast(ops.equal(number, 1.0), "float32")
        keep = ops.multiply(ops.subtract(1.0, first), float(self.ema_momentum))
        for variable in variables:
            average = self.slot(self._model_variables_moving_average, variable)
            mixed = ops.add(
                ops.multiply(keep, average.value),
                ops.multiply(ops.subtract(1.0, keep), variable.value),
            )
            self.assign(average, mixed)
            if self.ema_overwrite_frequency:
                when = self._every(self.ema_overwrite_frequency, number)
                self.assign(variable, ops.where(when, average.value, variable.value))

    @property
    def finalizes(self) -> bool:
        """Whether :meth:`finalize_variable_values` may change anything."""
        return self.use_ema or not is_ours(type(self))

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Sets variables to their running means, if there are any; ``fit`` does so at its end.

        Before the first step there are none: a ``fit`` that fails at once changes nothing.
        """
        if self.use_ema and self.built and self._iterations.read() > 0:
            for variable in var_list:
                if id(variable) in self._index:
                    variable.assign(
                        self.slot(self._model_variables_moving_average, variable).read()
                    )

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: everything but programs and identities."""
        return {**vars(self), "_eager": None, "_index": {}}

    def __setstate__(self, found: dict[str, Any]) -> None:
        vars(self).update(found)
        self._index = {id(v): i for i, v in enumerate(self._trainable_variables)}

    def scale_loss(self, loss: Any) -> Any:
        """Returns the loss from which gradients are taken."""
        factor = self.loss_scale_factor
        return loss if factor is None else ops.multiply(loss, float(factor))

    # Description.

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        rate = self._learning_rate
        return {
            **self._excluded_config(),
            **masks_config(self),
            "name": self.name,
            "learning_rate": float(rate.read())
            if isinstance(rate, Variable)
            else serialize_keras_object(rate),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    def _excluded_config(self) -> dict[str, Any]:
        """Which variables do not decay: their positions, or what is known before ``build``."""
        if not self._excluded and not self._excluded_names:
            return {}
        if self.built:
            rows = enumerate(self._trainable_variables)
            found: dict[str, Any] = {"variables": [i for i, v in rows if self._is_excluded(v)]}
            return {EXCLUDED: {**found, "names": []}}
        listed = [v.path if isinstance(v, Variable) else v for v in self._excluded]
        return {EXCLUDED: {"variables": listed, "names": self._excluded_names}}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes an optimizer from its config."""
        arguments = dict(config)
        if isinstance(arguments.get("learning_rate"), dict):
            arguments["learning_rate"] = deserialize_keras_object(
                arguments["learning_rate"], custom_objects, kind="learning rate schedule"
            )
        excluded = arguments.pop(EXCLUDED, None)
        masked = checked_positions(arguments.pop(MASKED, None))
        made = cls(**arguments)
        made._masked = masked
        if excluded is not None:
            made._excluded, made._excluded_names = checked_exclusions(excluded)
        return made

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def _gradient_of(variable: Variable, gradient: Any) -> Any:
    """A gradient as an array: float32, or float64 as the variable is."""
    is_double = variable.dtype == "float64"
    return array_of(gradient, np.float64 if is_double else np.float32)


def _squares(gradient: Any) -> Any:
    return apply(SUM_OF_SQUARES, gradient)


def _is_computed(rate: Any) -> bool:
    """Whether a learning rate is a schedule or another function."""
    return callable(rate) and not isinstance(rate, Variable | type)


def _checked_rate(rate: Any) -> float:
    if isinstance(rate, Variable):
        rate = rate.read()
    if isinstance(rate, np.ndarray) and rate.shape == ():
        rate = rate.item()
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number):
        raise ValueError(
            "Argument `learning_rate` should be float, or an instance of LearningRateSchedule. "
            f"Received instead: learning_rate={rate!r}"
        )
    return float(rate)


def _older_names(learning_rate: Any, kwargs: dict[str, Any]) -> Any:
    """Takes ``lr`` and ``decay`` out of ``kwargs``; returns the learning rate that they mean."""
    if config.strict_keras():
        if kwargs.pop("decay", None) is not None:
            warn_caller("Argument `decay` is no longer supported and will be ignored.")
        return learning_rate
    if "lr" in kwargs:
        learning_rate = kwargs.pop("lr")
        warn_caller(
            "The argument `lr` is the older name of `learning_rate`; it is used as the learning "
            "rate (Keras 2.11 to 2.15 ignored it silently).",
            DeprecationWarning,
        )
    decay = kwargs.pop("decay", None)
    if decay:
        warn_caller(
            "The argument `decay` is deprecated; it becomes InverseTimeDecay(learning_rate, "
            f"decay_steps=1, decay_rate={decay}), which is what it used to mean.",
            DeprecationWarning,
        )
        learning_rate = InverseTimeDecay(_checked_rate(learning_rate), 1, decay)
    return learning_rate
