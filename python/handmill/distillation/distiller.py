"""A model that trains a student on targets and on what a teacher says."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import ops, tree
from handmill.arguments import finite_number
from handmill.distillation.ends import End, ends_of, joined, logits_of
from handmill.distillation.losses import DistillationLoss, loss_function, reduced
from handmill.layers import Dense
from handmill.metrics import Mean
from handmill.models.model import Model
from handmill.models.sequential import Sequential
from handmill.optimizers.masks import hand_on_masks
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object

_ROWS, _TEACHER = "inputs", "teacher"  # of a batch with what the teacher said
_UNKNOWN: Iterable[End] = itertools.repeat(None)


class _Seen:
    """What the student's layers gave when it was called last, for the loss of the same batch."""

    output: Any = None
    features: Mapping[str, Any] | None = None


class Distiller(Model):
    """Trains a student on targets and on the answers of a teacher.

    ``student_loss_weight * loss(y, student) + (1 - student_loss_weight) * sum of weight * loss
    (teacher, student)``. Beyond Keras: samples count by their weights in all terms, penalties of
    the student's layers are added, a final softmax or sigmoid is taken off for
    :class:`LogitsDistillation`, both models run once, in one program, on the same batch, and
    ``cache_teacher=True`` lets the teacher run once in all.

    Args:
        teacher: a trained model; frozen from now on (``teacher.trainable = False``).
        student: the model to train. A copy of the teacher's architecture (``clone_model``) learns
            from it, too.
        distillation_losses: a :class:`DistillationLoss`, or a list of them.
        distillation_loss_weights: their factors; default: 1.
        student_loss_weight: the part of the loss on targets, from 0 to 1.
        name: the name.
        cache_teacher: whether ``fit`` on arrays asks the teacher once for all rows, and not in
            each epoch. Only where rows are the same in each epoch: without augmentation in front.
        **kwargs: of :class:`handmill.Model`.

    Raises:
        ValueError: if the models or arguments do not go together; both shapes are shown.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import distillation, layers
        >>> teacher = handmill.Sequential([handmill.Input((4,)), layers.Dense(3)])
        >>> student = handmill.Sequential([handmill.Input((4,)), layers.Dense(3)])
        >>> distiller = distillation.Distiller(
        ...     teacher, student, distillation.LogitsDistillation(temperature=2.0))
        >>> distiller.compile("adam", "mse")
        >>> x = np.ones((8, 4), "float32")
        >>> history = distiller.fit(x, x[:, :3], verbose=0)
        >>> sorted(history.history)
        ['distillation_loss', 'loss', 'student_loss', 'total_loss']
    """

    def __init__(
        self,
        teacher: Any,
        student: Any,
        distillation_losses: Any,
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        cache_teacher: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        _check_models(teacher, student)
        self.teacher = teacher
        self.student = student
        if isinstance(student_loss_weight, bool) or not isinstance(
            student_loss_weight, int | float
        ):
            raise ValueError(
                f"student_loss_weight must be a number, got {type(student_loss_weight)}"
            )
        if not 0.0 <= student_loss_weight <= 1.0:
            raise ValueError(
                f"student_loss_weight must be between 0.0 and 1.0, got {student_loss_weight}"
            )
        self.student_loss_weight = student_loss_weight
        self.distillation_losses, self.distillation_loss_weights = _losses(
            distillation_losses, distillation_loss_weights
        )
        for loss in self.distillation_losses:
            loss.validate_model_compatibility(teacher, student)
        self.cache_teacher = bool(cache_teacher)
        self._teacher_feature_extractor = _extractor(
            teacher, [loss.teacher_layer_name for loss in self.distillation_losses]
        )
        self._student_feature_extractor = _extractor(
            student, [loss.student_layer_name for loss in self.distillation_losses]
        )
        self.teacher.trainable = False
        self.projections = [self._projection(loss) for loss in self.distillation_losses]
        self.student_loss_tracker = Mean(name="student_loss")
        self.distillation_loss_tracker = Mean(name="distillation_loss")
        self.total_loss_tracker = Mean(name="total_loss")
        self.built = bool(teacher.built and student.built)  # it has no weights but theirs
        self.__dict__["_seen"] = _Seen()
        asks = any(loss.wants_logits for loss in self.distillation_losses)
        self.__dict__["_ends"] = [ends_of(v) if asks else None for v in (teacher, student)]

    def _projection(self, loss: Any) -> Any:
        """What brings the student's features to the teacher's width, None if nothing is needed."""
        if getattr(loss, "projection", None) is None:
            return None
        shapes = []
        for model, layer in (
            (self.teacher, loss.teacher_layer_name),
            (self.student, loss.student_layer_name),
        ):
            found = model.get_layer(layer).output if layer else model.outputs[0]
            shapes.append(tuple(found.shape))
        theirs, own = shapes
        if theirs[1:-1] != own[1:-1]:
            raise ValueError(
                "`projection` changes the last axis only, and the others differ. Features of the "
                f"teacher: {theirs}, of the student: {own}"
            )
        if theirs[-1] == own[-1]:
            return None
        made = Dense(theirs[-1], use_bias=False, name=f"projection_{len(self.name)}")
        made.build(own)
        return made

    def compile(  # type: ignore[override]  # Keras's arguments
        self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Says how the student is trained.

        Args:
            optimizer: of the student, and of projections.
            loss: of the student's outputs and targets: a name, a loss, or a structure of them.
            metrics: a list, of the student's outputs.
            **kwargs: as for :meth:`handmill.Model.compile`.

        Raises:
            ValueError: without a loss, or if ``metrics`` is no list.
        """
        if loss is None:
            raise ValueError("'loss' cannot be `None`.")
        if metrics is not None and not isinstance(metrics, list | tuple):
            raise ValueError(f"metrics must be a list or tuple, got {type(metrics)}")
        self._student_loss = tree.map_structure(loss_function, loss)
        super().compile(optimizer=optimizer, loss=None, metrics=metrics, **kwargs)
        hand_on_masks(self.student, self.optimizer, self.trainable_variables)
        self._compile_config = {**(self._compile_arguments or {}), "loss": loss}

    def get_compile_config(self) -> dict[str, Any] | None:
        """What ``compile`` was given, as plain data."""
        config = super().get_compile_config()
        if config is not None:
            config["loss"] = serialize_keras_object(self._compile_config["loss"])
        return config

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles the distiller as :meth:`get_compile_config` says."""
        found = {key: deserialize_keras_object(value) for key, value in config.items()}
        self.compile(**found)

    def call(  # type: ignore[override]  # of any student
        self, inputs: Any, training: Any = None, **kwargs: Any
    ) -> Any:
        """Returns what the student says; the teacher is asked by the loss."""
        if isinstance(inputs, dict) and set(inputs) == {_ROWS, _TEACHER}:
            inputs = inputs[_ROWS]
        seen = self.__dict__["_seen"]
        if self._student_feature_extractor is None:
            seen.output, seen.features = None, None
            return self.student(inputs, training=training, **kwargs)
        features = self._student_feature_extractor(inputs, training=training, **kwargs)
        seen.output, seen.features = features["final_output"], features
        return seen.output

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the loss on targets and teacher together.

        Args:
            x: inputs (rows, ...).
            y: targets; None: the teacher alone teaches.
            y_pred: what the student said of ``x``; None: it is asked.
            sample_weight: factors of the samples (rows,).
            training: whether the student trains.
        """
        if y_pred is None:
            y_pred = self(x, training=training)
        student_loss: Any = 0.0
        if self.student_loss_weight > 0.0 and y is not None:
            found = tree.map_structure(
                lambda loss, target, output: reduced(loss, target, output, sample_weight),
                self._student_loss,
                y,
                y_pred,
            )
            flat = tree.flatten(found)
            student_loss = ops.sum(ops.stack(flat)) if len(flat) > 1 else flat[0]
        distillation_loss: Any = 0.0
        if self.student_loss_weight < 1.0:
            distillation_loss = self._distance(x, y_pred, sample_weight, training)
        total = ops.add(
            ops.multiply(self.student_loss_weight, student_loss),
            ops.multiply(1.0 - self.student_loss_weight, distillation_loss),
        )
        for penalty in self.student.losses:
            total = ops.add(total, ops.sum(penalty))
        self.student_loss_tracker.update_state(student_loss)
        self.distillation_loss_tracker.update_state(distillation_loss)
        self.total_loss_tracker.update_state(total)
        return total

    def _distance(self, x: Any, y_pred: Any, weight: Any, training: bool) -> Any:
        """How far the student is from the teacher, over all distillation losses."""
        cached = isinstance(x, dict) and set(x) == {_ROWS, _TEACHER}
        theirs = x[_TEACHER] if cached else self._asked(x)
        seen = self.__dict__["_seen"]
        own: Any = {"final_output": y_pred}
        if self._student_feature_extractor is not None:
            if seen.output is not y_pred:
                self(x, training=training)
            own = {**seen.features, "final_output": y_pred}
        total: Any = 0.0
        for loss, factor, projection in zip(
            self.distillation_losses, self.distillation_loss_weights, self.projections, strict=True
        ):
            teacher = theirs[loss.teacher_layer_name or "final_output"]
            student = own[loss.student_layer_name or "final_output"]
            more = {} if weight is None else {"sample_weight": weight}
            if loss.wants_logits:
                teacher, student, binary = self._logits(loss, teacher, student, x)
                if any(tree.flatten(binary)):
                    more["binary"] = binary
            if projection is not None:
                student = projection(student)
            loss.validate_outputs(teacher, student)
            found = loss.compute_loss(teacher, student, **more)
            if len(getattr(found, "shape", ())) > 0:
                raise ValueError(
                    f"Distillation loss {type(loss).__name__} returned a non-scalar loss with "
                    f"shape {found.shape}. The compute_loss method must return a scalar tensor."
                )
            total = ops.add(total, ops.multiply(factor, found))
        return total

    def _logits(self, loss: Any, teacher: Any, student: Any, x: Any) -> tuple[Any, Any, Any]:
        """Outputs without their last softmax or sigmoid, and which are those of yes and no."""
        loss.validate_outputs(teacher, student)
        wanted = tree.flatten(getattr(loss, "loss", None))
        peeled = []
        for role, (outputs, layer) in enumerate(
            ((teacher, loss.teacher_layer_name), (student, loss.student_layer_name))
        ):
            flat = tree.flatten(outputs)
            known = None if layer else self._known_ends(role, x)
            peeled.append([logits_of(*pair) for pair in zip(flat, known or _UNKNOWN, strict=False)])
        if len(wanted) != len(peeled[0]):
            wanted = [loss] * len(peeled[0])
        binary = [
            one is not None and joined(theirs, own) == "sigmoid"
            for one, (_, theirs), (_, own) in zip(wanted, *peeled, strict=True)
        ]
        found = ([value for value, _ in side] for side in peeled)
        teacher, student = (tree.pack_sequence_as(teacher, values) for values in found)
        return teacher, student, tree.pack_sequence_as(teacher, binary)

    def _known_ends(self, role: int, x: Any) -> list[End] | None:
        """What the outputs of the teacher (0) or the student end with, if that can be told."""
        known: list[list[End] | None] = self.__dict__["_ends"]
        if known[role] is None and all(isinstance(v, np.ndarray) for v in tree.flatten(x)):
            known[role] = ends_of((self.teacher, self.student)[role], x)
        return known[role]

    def _asked(self, x: Any) -> Any:
        if self._teacher_feature_extractor is not None:
            return self._teacher_feature_extractor(x, training=False)
        return {"final_output": self.teacher(x, training=False)}

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the student; the arguments are those of :meth:`handmill.Model.fit`.

        With ``cache_teacher=True`` the teacher is asked for all rows before the first epoch.

        Raises:
            TypeError: if its answers are to be kept, and ``x`` is not made of arrays.
        """
        if not self.cache_teacher or self.student_loss_weight == 1.0:
            return super().fit(x, y, *args, **kwargs)
        if not all(isinstance(array, np.ndarray) for array in tree.flatten(x)):
            raise TypeError(
                "cache_teacher=True keeps the teacher's answers row by row, so `x` must be arrays. "
                f"Received: {type(x).__name__}. Leave cache_teacher out"
            )
        self._known_ends(0, x)  # before answers are arrays, which do not tell
        asked = self._teacher_feature_extractor or self.teacher
        answers = asked.predict(x, verbose=0)
        if self._teacher_feature_extractor is None:
            answers = {"final_output": answers}
        return super().fit({_ROWS: x, _TEACHER: answers}, y, *args, **kwargs)

    def reset_metrics(self) -> None:
        """Begins all means anew."""
        super().reset_metrics()
        for tracker in (
            self.student_loss_tracker, self.distillation_loss_tracker, self.total_loss_tracker
        ):  # fmt: skip
            tracker.reset_state()

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {
            "name": self.name,
            "teacher": serialize_keras_object(self.teacher),
            "student": serialize_keras_object(self.student),
            "distillation_losses": [serialize_keras_object(x) for x in self.distillation_losses],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "student_loss_weight": self.student_loss_weight,
        }
        return {**config, "cache_teacher": True} if self.cache_teacher else config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Distiller:
        """Makes a distiller, with both models, from its config."""
        found = dict(config)
        for part in ("teacher", "student"):
            found[part] = deserialize_keras_object(found[part], custom_objects, kind="model")
        found["distillation_losses"] = [
            deserialize_keras_object(loss, custom_objects, kind="distillation loss")
            for loss in found["distillation_losses"]
        ]
        return cls(**found)


def _losses(given: Any, weights: Any) -> tuple[list[Any], list[float]]:
    if given is None:
        raise ValueError(
            "'distillation_losses' cannot be `None`. Provide a distillation loss (e.g., "
            "LogitsDistillation or FeatureDistillation) or a list of distillation losses."
        )
    if not isinstance(given, list | tuple):
        given, weights = [given], [1.0] if weights is None else weights
    if not given or not all(isinstance(x, DistillationLoss) for x in given):
        raise ValueError(
            f"`distillation_losses` must be DistillationLoss objects. Received: {given!r}"
        )
    if weights is None:
        weights = [1.0] * len(given)
    weights = list(weights) if isinstance(weights, list | tuple) else [weights]
    if len(weights) != len(given):
        raise ValueError(
            f"Number of distillation_loss_weights ({len(weights)}) must match number of "
            f"distillation_losses ({len(given)})"
        )
    for weight in weights:
        finite_number("each of `distillation_loss_weights`", weight)
    return list(given), weights


def _check_models(teacher: Any, student: Any) -> None:
    for name, model in (("Teacher", teacher), ("Student", student)):
        if not isinstance(model, Model):
            raise ValueError(f"{name} must be a keras.Model, got {type(model)}")
    if teacher is student:
        raise ValueError(
            "teacher and student are one model, which would learn from itself: pass "
            "models.clone_model(teacher) as the student"
        )
    trained = {id(v) for v in student.trainable_variables}
    if shared := [v.path for v in teacher.variables if id(v) in trained]:
        raise ValueError(
            f"teacher and student share weights that the student would train: {shared[:3]}. Give "
            "the student layers of its own, for example of models.clone_model()"
        )
    for kind in ("input", "output"):
        theirs, own = (getattr(model, f"{kind}s", None) for model in (teacher, student))
        if theirs is None or own is None:
            continue
        theirs, own = tree.flatten(theirs), tree.flatten(own)
        if len(theirs) != len(own):
            raise ValueError(f"the teacher has {len(theirs)} {kind}s, the student {len(own)}")
        for t, s in zip(theirs, own, strict=True):
            pairs = zip(t.shape, s.shape, strict=False)
            if len(t.shape) != len(s.shape) or any(
                a != b for a, b in pairs if a is not None and b is not None
            ):
                raise ValueError(
                    f"Teacher and student {kind} shapes are incompatible. Teacher: {t.shape}, "
                    f"Student: {s.shape}. All dimensions must match."
                )
            if t.dtype != s.dtype:
                raise ValueError(
                    f"Teacher and student {kind} dtypes must match. Teacher: {t.dtype}, Student: "
                    f"{s.dtype}."
                )


def _extractor(model: Any, names: Sequence[str | None]) -> Any:
    wanted = list(dict.fromkeys(name for name in names if name))
    if not wanted:
        return None
    outputs = {"final_output": model.outputs[0] if isinstance(model, Sequential) else model.output}
    outputs.update({name: model.get_layer(name=name).output for name in wanted})
    return Model(model.inputs, outputs, name=f"{model.name}_multi_feature_extractor")
