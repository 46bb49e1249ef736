"""Models whose views look for targets that do not learn: SimSiam, BYOL, MoCo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from handmill import ops, random
from handmill.arguments import whole_number
from handmill.ir.dims import at_least
from handmill.primitives.operands import shape_of
from handmill.selfsup.base import LearnsViews, checked_layer
from handmill.selfsup.contrastive import info_nce
from handmill.selfsup.embeddings import positive, unit
from handmill.selfsup.heads import prediction_head, projection_head
from handmill.selfsup.momentum import MomentumCopy
from handmill.selfsup.redundancy import negative_cosine


class Predicts(LearnsViews):
    """Two views, and a predictor that says from the embeddings of one what the other gives.

    For the arguments see :class:`SimSiam`.
    """

    HEAD: ClassVar[Mapping[str, Any] | None] = {"batch_norm": True}

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        predictor: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augmentation, projector, **kwargs)
        self.predictor = (
            prediction_head()
            if predictor is None
            else checked_layer(type(self).__name__, "predictor", predictor)
        )

    def _build_for(self, rows: Any) -> None:
        z = self.projector(self.encoder(rows))
        predicted = self.predictor(z)
        if tuple(shape_of(predicted)[1:]) != tuple(shape_of(z)[1:]):
            raise ValueError(
                f"{type(self).__name__}: the projector gives embeddings of shape "
                f"{tuple(shape_of(z)[1:])}, the predictor {tuple(shape_of(predicted)[1:])}; they "
                "are compared, so both must be alike: predictor=selfsup.prediction_head("
                f"{shape_of(z)[-1]})"
            )

    def _predicted(self, views: Sequence[Any], training: bool) -> tuple[list[Any], list[Any]]:
        """Embeddings of the views, and what is predicted from each."""
        found = [self.embed(view, training) for view in views]
        return found, [self.predictor(z, training=training) for z in found]


class HasSlowCopy(LearnsViews):
    """Views beside which a slow copy of encoder and projector goes along, updated in the step."""

    def _copy_slowly(self, momentum: float) -> None:
        self.targets = [MomentumCopy(layer, momentum) for layer in (self.encoder, self.projector)]

    def _start_targets(self, rows: Any) -> None:
        """Gives the copies, whose originals are built, the weights of these."""
        self.targets[0].start(self.encoder, rows.shape)
        self.targets[1].start(self.projector, self.encoder(rows).shape)

    def _target(self, view: Any) -> Any:
        """What the copies give for a view."""
        return self.targets[1](self.targets[0](view))

    def after_update(self) -> None:
        """Lets the copies follow."""
        for target, layer in zip(self.targets, (self.encoder, self.projector), strict=True):
            target.follow(layer)


class SimSiam(Predicts):
    """SimSiam: a predictor says from one view what the other gives, which is taken as it is.

    The loss is the mean of :func:`negative_cosine` both ways. What keeps it from collapsing are the
    predictor, that no gradient goes through targets, and BatchNormalization in the heads.

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings. Default: ``projection_head(batch_norm=True)``.
        predictor: embeddings -> embeddings. Default: ``prediction_head()``; its width must be that
            of the projector.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> model = selfsup.SimSiam(layers.Dense(16), layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> len(model.fit(x, batch_size=32, verbose=0).epoch)
        1
    """

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first."""
        (za, zb), (pa, pb) = self._predicted(views, training)
        loss = ops.add(negative_cosine(pa, zb), negative_cosine(pb, za))
        return ops.multiply(loss, 0.5), za


class BYOL(Predicts, HasSlowCopy):
    """BYOL: a predictor says from one view what a slow copy of the network gives for the other.

    The loss is ``2 - 2 cos``, both ways. The copy (:class:`MomentumCopy`) follows encoder and
    projector after each update, inside the step.

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings. Default: ``projection_head(batch_norm=True)``.
        predictor: as for :class:`SimSiam`.
        momentum: how much of the copy stays in each step.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer, a momentum out of range.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> model = selfsup.BYOL(layers.Dense(16), layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> len(model.fit(x, batch_size=32, verbose=0).epoch)
        1
    """

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        predictor: Any = None,
        momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augmentation, projector, predictor, **kwargs)
        self._copy_slowly(momentum)

    def _build_for(self, rows: Any) -> None:
        super()._build_for(rows)
        self._start_targets(rows)

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first."""
        (za, _), (pa, pb) = self._predicted(views, training)
        ta, tb = (self._target(view) for view in views)
        return ops.add(ops.add(negative_cosine(pa, tb), negative_cosine(pb, ta)), 2.0), za


class MoCo(HasSlowCopy):
    """MoCo: a view finds what a slow copy gives for the other one among a queue of older ones.

    Negatives are the last ``queue_size`` embeddings of the copy, from as many steps as it takes: so
    there may be many with small batches. The queue is a ring, written in the step.

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings (B, width). Default: ``projection_head(width)``.
        queue_size: embeddings in the queue, at least those of a batch.
        width: dimensions of the embeddings.
        momentum: how much of the copy stays in each step.
        temperature: of the loss (:func:`info_nce`).
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer, numbers out of range; in ``fit`` for a batch that the
            queue cannot hold, or a projector of another width.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> model = selfsup.MoCo(layers.Dense(16), layers.GaussianNoise(0.3), queue_size=48)
        >>> model.compile("adam")
        >>> len(model.fit(x, batch_size=32, verbose=0).epoch)
        1
    """

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        queue_size: int = 4096,
        width: int = 128,
        momentum: float = 0.99,
        temperature: float = 0.1,
        **kwargs: Any,
    ) -> None:
        width = whole_number("MoCo: `width`", width, 1)
        projector = projection_head(width) if projector is None else projector
        super().__init__(encoder, augmentation, projector, **kwargs)
        self.queue_size = whole_number("MoCo: `queue_size`", queue_size, 1)
        self.width = width
        self.temperature = positive("MoCo", "temperature", temperature)
        self._copy_slowly(momentum)
        # Random directions: as if the copy had seen that many rows.
        self.queue = self.add_weight(
            shape=(self.queue_size, width), initializer=_directions, trainable=False, name="queue"
        )
        self.position = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="position"
        )

    def _build_for(self, rows: Any) -> None:
        z = self.projector(self.encoder(rows))
        if z.shape[-1] != self.width:
            raise ValueError(
                f"MoCo: the projector gives {z.shape[-1]} dimensions, but width={self.width}"
            )
        self._start_targets(rows)

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first; the second enters the queue."""
        za = self.embed(views[0], training)
        keys = unit(self._target(views[1]))
        rows = shape_of(keys)[0]
        if not at_least(self.queue_size, rows):
            raise ValueError(
                f"MoCo: a queue of {self.queue_size} cannot hold a batch of {rows}. Make "
                "queue_size larger or batch_size smaller"
            )
        loss = info_nce(za, keys, self.temperature, ops.stop_gradient(ops.multiply(self.queue, 1)))
        if training:
            self._push(keys, rows)
        return loss, za

    def _push(self, keys: Any, rows: Any) -> None:
        """Writes keys over the oldest rows of the ring."""
        size, position = self.queue_size, self.position
        age = ops.subtract(ops.arange(size), position)  # of each place, from the oldest on
        age = ops.where(ops.less(age, 0), ops.add(age, size), age)
        newest = ops.take(keys, ops.minimum(age, rows - 1), axis=0)
        is_new = ops.expand_dims(ops.less(age, rows), 1)
        self.queue.assign(ops.where(is_new, newest, self.queue))
        after = ops.add(position, rows)
        wrapped = ops.subtract(after, size)
        self.position.assign(ops.where(ops.less(wrapped, 0), after, wrapped))


def _directions(shape: Any, dtype: Any = None) -> Any:
    drawn = np.asarray(random.normal(shape, dtype="float32"))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
