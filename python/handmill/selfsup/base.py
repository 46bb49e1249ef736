"""What models that learn without labels share: an encoder, views, a step, a look at collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from handmill import ops, optimizers, tree
from handmill.arguments import whole_number
from handmill.data.batches import unpack_x_y_sample_weight
from handmill.data.pipeline.dataset import Dataset
from handmill.ir.graph import outside_graph
from handmill.layers.core.identity import Identity
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.pipeline import Pipeline
from handmill.layers.symbolic import KerasTensor
from handmill.metrics.reduction import Mean
from handmill.models.data_adapters import is_arrays
from handmill.models.model import Model
from handmill.models.steps import note_loss
from handmill.primitives.operands import dtype_of, shape_of
from handmill.runtime.tape import GradientTape
from handmill.selfsup.collapsed import CollapseWatch, spread_of
from handmill.selfsup.heads import projection_head

_SAMPLE = 512


class Unlabelled(Model):
    """A model whose step has a loss of its own, made of rows alone.

    Subclasses say how they are built, what the loss of a batch is, and which numbers they count.
    """

    _trains_without_targets = True

    def _build_for(self, rows: Any) -> None:
        """Calls the layers on a symbolic tensor of rows, so that they have weights."""
        raise NotImplementedError

    def _loss_of(self, data: Any, training: bool) -> tuple[Any, Any, Any]:
        """Rows of a batch, its loss, and what :meth:`_count` counts."""
        raise NotImplementedError

    def _count(self, found: Any) -> None:
        """Updates metrics beside the loss."""

    def after_update(self) -> None:
        """What a step assigns when the optimizer has done its part."""

    def build(self, input_shape: Any) -> None:
        """Builds the layers, for rows of this shape."""
        self._build_for(KerasTensor(tuple(input_shape), "float32"))
        self.built = True
        self._build_shapes = tuple(input_shape)

    def _built_for(self, x: Any) -> None:
        """Builds outside of the step that is being traced."""
        if not self.built:
            shape: Any = (None, *shape_of(x)[1:])
            with outside_graph():
                self._build_for(KerasTensor(shape, dtype_of(x)))
            self.built = True
            self._build_shapes = shape

    def compile(  # type: ignore[override]
        self, optimizer: Any = "adam", **kwargs: Any
    ) -> None:
        """Chooses the optimizer; the loss is the model's own.

        Args:
            optimizer: as for ``Model.compile``.
            **kwargs: other arguments of ``Model.compile``.

        Raises:
            ValueError: for a loss or metrics, which there are no targets for.
        """
        about_targets = ("loss", "loss_weights", "metrics", "weighted_metrics")
        if given := [name for name in about_targets if kwargs.get(name) is not None]:
            raise ValueError(
                f"{type(self).__name__}.compile() takes no {', '.join(given)}: the model has its "
                "loss, and there are no targets. Measure what was learnt with "
                "selfsup.linear_probe or selfsup.knn_probe."
            )
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles the model as ``get_compile_config`` says."""
        kept = ("run_eagerly", "steps_per_execution")
        self.compile(
            optimizers.get(config["optimizer"]), **{k: config[k] for k in kept if k in config}
        )

    def train_step(self, data: Any) -> Any:
        """Trains on one batch."""
        with GradientTape() as tape:
            x, loss, found = self._loss_of(data, True)
            loss = self._with_penalties(loss)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.after_update()
        return self._counted(x, loss, found)

    def test_step(self, data: Any) -> Any:
        """Computes the loss of one batch."""
        x, loss, found = self._loss_of(data, False)
        return self._counted(x, self._with_penalties(loss), found)

    def _with_penalties(self, loss: Any) -> Any:
        for penalty in self.losses:
            if not isinstance(penalty, float):
                loss = ops.add(loss, ops.sum(penalty))
        return loss

    def _counted(self, x: Any, loss: Any, found: Any) -> Any:
        note_loss(loss)
        rows = shape_of(tree.flatten(x)[0])[0]
        self.objective.tracker.update_state(loss, sample_weight=ops.cast(rows, "float32"))
        self._count(found)
        return {metric.name: metric.result() for metric in self.metrics}

    def rows_alone(self, data: Any) -> Any:
        """The rows of a batch that has neither labels nor weights.

        Raises:
            ValueError: if it has.
        """
        x, y, weight = unpack_x_y_sample_weight(data)
        if y is not None or weight is not None:
            raise ValueError(
                f"{type(self).__name__} learns without labels: call fit(x), without y or weights; "
                "the rows are all it needs"
            )
        return x


class LearnsViews(Unlabelled):
    """A model whose loss compares embeddings of several views of each row.

    Called, it gives what its encoder gives: no view is drawn, no head stands behind.

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them; it is called once a
            view, with ``training=True``. Image layers draw by row, epoch and view, whatever batch
            a row comes in; those of a list that turn, move, zoom, shear and mirror sample once
            (``layers.Pipeline(list, sample_once=True)``). Default: views are the rows themselves.
        projector: a layer: features -> embeddings that the loss compares. Default: see ``HEAD``.
        **kwargs: those of a model, such as ``name``.
    """

    VIEWS = 2
    """How many views of a batch a step makes."""
    NEEDS_LABELS = False
    HEAD: ClassVar[Mapping[str, Any] | None] = None
    """Arguments of the ``projection_head`` that stands where no projector is given, or None: then
    features are compared."""

    def __init__(
        self, encoder: Any, augmentation: Any = None, projector: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        kind = type(self).__name__
        self.encoder = checked_layer(kind, "encoder", encoder)
        self.augmentation = augmentation_of(kind, augmentation)
        if projector is None:
            projector = Identity() if self.HEAD is None else projection_head(**self.HEAD)
        self.projector = checked_layer(kind, "projector", projector)
        self.spread = Mean(name="spread")

    # What subclasses say.

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of some views of a batch, and embeddings of the first.

        Args:
            views: as many batches of inputs as the method asks for.
            y: labels, where the method has some.
            training: whether this is a training step.
        """
        raise NotImplementedError

    # Layers.

    def _build_for(self, rows: Any) -> None:
        self.projector(self.encoder(rows))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The features of rows as they are."""
        return self.encoder(inputs, training=training)

    def embed(self, x: Any, training: bool) -> Any:
        """The embeddings of a view."""
        return self.projector(self.encoder(x, training=training), training=training)

    def embed_together(self, views: Sequence[Any], training: bool) -> list[Any]:
        """The embeddings of several views, computed as one batch: that is faster.

        BatchNormalization then sees all views at once, as in SimCLR.
        """
        joined = tree.map_structure(lambda *parts: ops.concatenate(parts, axis=0), *views)
        z = self.embed(joined, training)
        rows = shape_of(tree.flatten(views[0])[0])[0]
        return [z[i * rows : (i + 1) * rows] for i in range(len(views))]

    def project(self, x: Any) -> Any:
        """The embeddings of arrays, of rows as they are, in inference mode: for a look at collapse.

        Args:
            x: rows.

        Returns:
            An array (N, D).
        """
        return np.asarray(self.projector(self.encoder(x, training=False), training=False))

    # Training.

    def fit(  # type: ignore[override]
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Trains on rows; see ``Model.fit``.

        Of arrays, the rest of rows that fills no batch is left out, another one each epoch: losses
        over batches of different sizes cannot be averaged. After the first epoch a
        ``TrainingWarning`` says if embeddings have collapsed.

        Args:
            x: rows, without labels; or what makes batches.
            y: labels, for methods that use them.
            batch_size: rows of a batch; default 32.
            epochs: how many.
            verbose: as for ``Model.fit``.
            callbacks: callbacks.
            **kwargs: other arguments of ``Model.fit``.

        Returns:
            A History of ``loss`` and ``spread`` (``Collapse.spread`` of the batches).

        Raises:
            ValueError: for labels that the method does not use, or without those that it does.
        """
        kind = type(self).__name__
        if is_arrays(x) and (y is not None) != self.NEEDS_LABELS:
            raise ValueError(
                f"{kind}.fit() needs labels: fit(x, y)."
                if self.NEEDS_LABELS
                else f"{kind} learns without labels: call fit(x), without y."
            )
        if kwargs.get("sample_weight") is not None or kwargs.get("class_weight") is not None:
            raise ValueError(f"{kind}: weights of samples have no meaning for pairs of them")
        kwargs.update(epochs=epochs, verbose=verbose, callbacks=callbacks)
        if not is_arrays(x):
            return super().fit(x, y, batch_size, **kwargs)
        leaves = tree.flatten(x)
        rows = len(leaves[0])
        if rows > 1:
            sample = tree.map_structure(lambda a: np.asarray(a[:_SAMPLE]), x)
            kwargs["callbacks"] = [*listed(callbacks), CollapseWatch(sample)]
        size = 32 if batch_size is None else whole_number("batch_size", batch_size, 1)
        if kwargs.get("validation_split") or rows % size == 0 or rows < size:
            return super().fit(x, y, batch_size, **kwargs)
        data = Dataset.from_tensor_slices(x if y is None else (x, y))
        if kwargs.pop("shuffle", True):
            data = data.shuffle(rows)
        return super().fit(data.batch(size, drop_remainder=True), **kwargs)

    def _loss_of(self, data: Any, training: bool) -> tuple[Any, Any, Any]:
        x, y, _ = unpack_x_y_sample_weight(data)
        self._built_for(x)
        views = [self.augmentation(x, training=True) for _ in range(self.VIEWS)]
        for view in views:
            for one, row in zip(tree.flatten(view), tree.flatten(x), strict=False):
                if tuple(shape_of(one)[1:]) != tuple(shape_of(row)[1:]):
                    raise ValueError(
                        f"{type(self).__name__}: the augmentation made views of shape "
                        f"{shape_of(one)} of rows of shape {shape_of(row)}; it must keep the shape"
                    )
        loss, z = self.compare(views, y, training)
        return x, loss, z

    def _count(self, found: Any) -> None:
        self.spread.update_state(spread_of(found))


def checked_layer(kind: str, name: str, layer: Any) -> Any:
    """Refuses what is no layer."""
    if not isinstance(layer, Layer):
        raise ValueError(
            f"{kind}: `{name}` must be a layer or model. Received: {layer!r} (of type "
            f"{type(layer).__name__})"
        )
    return layer


def augmentation_of(kind: str, given: Any) -> Any:
    """One layer of what may be a layer, a list of them or None."""
    if given is None:
        return Identity()
    return (
        Pipeline(given, sample_once=True)
        if isinstance(given, list | tuple)
        else checked_layer(kind, "augmentation", given)
    )


def listed(callbacks: Any) -> list[Any]:
    """Callbacks as ``fit`` takes them, as a list."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
