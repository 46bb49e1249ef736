"""What a student is compared with: the teacher's outputs, or the features of one of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill import losses, ops, tree
from handmill.distillation.ends import ends_of, joined
from handmill.errors import ShapeError, warn_caller
from handmill.losses import KLDivergence
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


def loss_function(given: Any) -> Any:
    """The loss that a name or config means; None stays None."""
    found = losses.get(given) if isinstance(given, str | Mapping) else given
    return KLDivergence() if found is losses.kl_divergence else found


def reduced(function: Any, target: Any, output: Any, weight: Any) -> Any:
    """The mean loss of a batch; samples count by their weights, if there are any."""
    if isinstance(function, losses.Loss):
        found = function(target, output, sample_weight=weight)
    else:
        found = function(target, output)
        if weight is not None:
            shape = (*weight.shape, *(1,) * (len(found.shape) - len(weight.shape)))
            found = ops.multiply(found, ops.reshape(ops.cast(weight, found.dtype), shape))
    return ops.mean(found)


class DistillationLoss:
    """Base class: how far a student is from its teacher.

    Subclasses define ``compute_loss``; it returns a scalar. If it takes ``sample_weight`` (as all
    here do), it is given the factors of the samples where ``fit`` has them.

    Example:
        >>> from handmill import distillation, ops
        >>> class Widest(distillation.DistillationLoss):
        ...     def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        ...         return ops.max(ops.abs(teacher_outputs - student_outputs))
        >>> Widest().validate_outputs([1], [2])
    """

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None
    wants_logits = False
    """Whether a final softmax or sigmoid is taken off before outputs are compared.

    Where one of the models ends with a sigmoid, ``compute_loss`` is given ``binary``: a bool for
    each output, nested as they are.
    """

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Returns the loss.

        Args:
            teacher_outputs: what the teacher, or a layer of it, gave: (rows, ...), or a structure.
            student_outputs: what the student gave.
            **kwargs: ``sample_weight`` (rows,), if there are weights; ``binary``, see
                ``wants_logits``.
        """
        raise NotImplementedError("Subclasses must implement compute_loss")

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Refuses outputs that cannot be compared.

        Raises:
            ValueError: if they are nested differently.
        """
        tree.assert_same_structure(teacher_outputs, student_outputs)

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Refuses models whose outputs cannot be compared.

        Raises:
            ValueError: if so.
        """


def _at_least_one(loss: Any, text: str) -> None:
    if all(one is None for one in tree.flatten(loss)):
        raise ValueError(text)


def _summed(found: Any) -> Any:
    flat = tree.flatten(found)
    return ops.sum(ops.stack(flat)) if len(flat) > 1 else ops.add(flat[0], 0.0)


class LogitsDistillation(DistillationLoss):
    """Compares the logits of both models, softened by a temperature (Hinton et al., 2015).

    With ``"kl_divergence"``: ``T ** 2 * mean KL(softmax(t / T) || softmax(s / T))``; any other loss
    is that of ``t / T`` and ``s / T``. A final softmax of a model is taken off before; Keras takes
    it for logits. So is a sigmoid: its outputs are labels by themselves, and the divergence is the
    mean over them of ``KL(sigmoid(t / T) || sigmoid(s / T))``, of yes and no. Where one of the
    models ends with logits, they count as the other's; softmax and sigmoid do not go together.
    (Keras 3.15 takes the name ``"kl_divergence"``, its default, for another loss, KL of ``t / T``
    and ``s / T`` themselves; the formula is what its object ``KLDivergence()`` gives there.)

    Args:
        temperature: T, positive.
        loss: a name, a loss, or a structure of them like the outputs; None leaves an output out.

    Raises:
        ValueError: for arguments out of range, as Keras does.

    Example:
        >>> import numpy as np
        >>> from handmill.distillation import LogitsDistillation
        >>> t, s = np.array([[1.0, 0.0]], "float32"), np.array([[0.0, 0.0]], "float32")
        >>> round(float(LogitsDistillation(temperature=2.0).compute_loss(t, s)), 4)
        0.1212
    """

    wants_logits = True

    def __init__(self, temperature: float = 3.0, loss: Any = "kl_divergence") -> None:
        self.loss = tree.map_structure(loss_function, loss)
        _at_least_one(self.loss, "At least one loss must be non-`None`.")
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise ValueError(f"temperature must be a number, got {type(temperature)}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be positive. Received: {temperature}")
        self.temperature = temperature

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Returns the loss of logits (rows, ..., classes); see :class:`DistillationLoss`."""
        weight = kwargs.get("sample_weight")

        def one(function: Any, teacher: Any, student: Any, is_binary: bool) -> Any:
            if function is None:
                return 0.0
            t, s = (ops.divide(x, self.temperature) for x in (teacher, student))
            if isinstance(function, KLDivergence):
                factors = weight
                if is_binary:  # yes and no are two classes, with logits x and 0
                    t, s = (ops.stack([x, ops.zeros_like(x)], axis=-1) for x in (t, s))
                    if weight is not None:
                        axes = range(len(weight.shape), len(s.shape) - 1)
                        factors = ops.expand_dims(weight, tuple(axes))
                t, s = (ops.softmax(x, axis=-1) for x in (t, s))
                return ops.multiply(reduced(function, t, s, factors), self.temperature**2)
            return reduced(function, t, s, weight)

        binary = kwargs.get("binary")
        if binary is None:
            binary = tree.map_structure(lambda _: False, student_outputs)
        outputs = teacher_outputs, student_outputs
        return _summed(tree.map_structure(one, self.loss, *outputs, binary))

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Refuses softmax beside sigmoid; warns of one number, whose softmax teaches nothing."""
        taught, own = ends_of(teacher), ends_of(student)
        if taught is None or own is None:  # told when they are called
            return
        outputs = tree.flatten(getattr(student, "outputs", None) or [])
        for output, kind, *ends in zip(outputs, tree.flatten(self.loss), taught, own, strict=False):
            if kind is None or joined(*ends) == "sigmoid":
                continue
            if isinstance(kind, KLDivergence) and output.shape[-1] == 1:
                warn_caller(
                    "LogitsDistillation compares softmaxes of outputs of one number, which are 1 "
                    "whatever the models say: nothing is learnt from the teacher. Let both models "
                    "end with a sigmoid if the number is one of yes or no, pass loss='mse', or "
                    "give both an output for each class"
                )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"temperature": self.temperature, "loss": serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LogitsDistillation:
        """Makes it from its config."""
        return cls(**{**config, "loss": _losses_from(config["loss"])})


class FeatureDistillation(DistillationLoss):
    """Compares what layers of both models give (FitNets, Romero et al., 2015).

    Args:
        loss: a name, a loss, or a structure of them like the outputs; None leaves an output out.
        teacher_layer_name: the layer of the teacher; None: its output.
        student_layer_name: the layer of the student; None: its output.
        projection: ``"auto"``: where the last axes differ, what the student gives is multiplied by
            a matrix, which is trained with it and belongs to the Distiller, not to the student;
            None, as in Keras: they must agree.

    Raises:
        ValueError: if no loss is given, or for another ``projection``.

    Example:
        >>> import numpy as np
        >>> from handmill.distillation import FeatureDistillation
        >>> x = np.ones((2, 3), "float32")
        >>> float(FeatureDistillation("mae").compute_loss(x, x - 2))
        2.0
    """

    def __init__(
        self,
        loss: Any = "mse",
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        projection: str | None = None,
    ) -> None:
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        self.loss = tree.map_structure(loss_function, loss)
        _at_least_one(
            self.loss,
            "The `loss` argument in `FeatureDistillation` must contain at least one non-`None` "
            "value.",
        )
        if projection not in (None, "auto"):
            raise ValueError(f"`projection` must be None or 'auto'. Received: {projection!r}")
        self.projection = projection

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Refuses names of layers that a model does not have, or cannot show."""
        if self.teacher_layer_name is None and self.student_layer_name is None:
            return
        hidden = [
            name
            for name, model in (("teacher", teacher), ("student", student))
            if getattr(model, "inputs", None) is None
        ]
        if hidden:
            raise ValueError(
                "FeatureDistillation with names of layers needs functional or sequential models; "
                f"the {' and '.join(hidden)} has a call() of its own. Leave the names out (the "
                "outputs are compared then), or use LogitsDistillation"
            )
        for name, model, layer in (
            ("teacher", teacher, self.teacher_layer_name),
            ("student", student, self.student_layer_name),
        ):
            if layer is not None:
                try:
                    model.get_layer(name=layer)
                except ValueError as error:
                    raise ValueError(f"In {name} model: {error}") from None

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Refuses features that are nested differently from one another or from the losses."""
        super().validate_outputs(teacher_outputs, student_outputs)
        try:
            tree.assert_same_structure(self.loss, teacher_outputs)
        except ValueError as error:
            raise ValueError(
                f"Loss structure mismatch: the losses are nested as {self.loss!r}, the outputs "
                f"are not: {error}"
            ) from None

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Returns the loss of features (rows, ...); see :class:`DistillationLoss`."""
        weight = kwargs.get("sample_weight")

        def one(function: Any, teacher: Any, student: Any) -> Any:
            if function is None:
                return 0.0
            try:
                return reduced(function, teacher, student, weight)
            except ShapeError:
                shapes = f"the teacher's {teacher.shape}, the student's {student.shape}"
                raise ShapeError(
                    f"the features to compare have other shapes, {shapes}: where the last axis "
                    "alone differs, FeatureDistillation(projection='auto') learns a matrix between "
                    "them; otherwise choose other layers"
                ) from None

        return _summed(tree.map_structure(one, self.loss, teacher_outputs, student_outputs))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {
            "loss": serialize_keras_object(self.loss),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
        }
        return config if self.projection is None else {**config, "projection": self.projection}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FeatureDistillation:
        """Makes it from its config."""
        return cls(**{**config, "loss": _losses_from(config["loss"])})


def _losses_from(config: Any) -> Any:
    return deserialize_keras_object(config, kind="loss")
