"""Models that compare two views of each row by a loss alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from handmill import ops
from handmill.selfsup import contrastive, redundancy
from handmill.selfsup.base import LearnsViews
from handmill.selfsup.embeddings import positive


class SimCLR(LearnsViews):
    """SimCLR: two views of a row find each other among all views of the batch (:func:`nt_xent`).

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings. Default: ``projection_head()``.
        temperature: of the loss.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer, a temperature that is not above 0.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
        >>> encoder = handmill.Sequential([layers.Dense(16, activation="relu")])
        >>> model = selfsup.SimCLR(encoder, layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> losses = model.fit(x, batch_size=64, epochs=5, verbose=0).history["loss"]
        >>> losses[-1] < losses[0]
        True
        >>> model.encoder.predict(x, verbose=0).shape
        (256, 16)
    """

    HEAD: ClassVar[Mapping[str, Any] | None] = {}

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        temperature: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augmentation, projector, **kwargs)
        self.temperature = positive("SimCLR", "temperature", temperature)

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first."""
        za, zb = self.embed_together(views, training)
        return contrastive.nt_xent(za, zb, self.temperature), za


class SupCon(LearnsViews):
    """SupCon: views find all views of their class (:func:`sup_con`); the one that takes labels.

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings. Default: ``projection_head()``.
        temperature: of the loss.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: as for :class:`SimCLR`.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> model = selfsup.SupCon(layers.Dense(16), layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> len(model.fit(x, np.arange(64) % 3, batch_size=32, verbose=0).epoch)
        1
    """

    NEEDS_LABELS = True
    HEAD: ClassVar[Mapping[str, Any] | None] = {}

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        temperature: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augmentation, projector, **kwargs)
        self.temperature = positive("SupCon", "temperature", temperature)

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first."""
        z = ops.stack(self.embed_together(views, training), axis=1)
        return contrastive.sup_con(z, y, self.temperature), z[:, 0]


class TripletModel(LearnsViews):
    """Two views of a row are nearer to each other than to the nearest others (:func:`triplet`).

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings, which are made unit rows. Default: ``projection_head()``.
        margin: of the loss.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: as for :class:`SimCLR`.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> model = selfsup.TripletModel(layers.Dense(16), layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> len(model.fit(x, batch_size=32, verbose=0).epoch)
        1
    """

    HEAD: ClassVar[Mapping[str, Any] | None] = {}

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        margin: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augmentation, projector, **kwargs)
        self.margin = positive("TripletModel", "margin", margin)

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first."""
        za, zb = (ops.normalize(z, axis=-1) for z in self.embed_together(views, training))
        return contrastive.triplet(za, zb, margin=self.margin), za


class BarlowTwins(LearnsViews):
    """Barlow Twins: dimensions agree between views and differ from each other.

    See :func:`barlow_twins`.

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings. Default: ``projection_head(batch_norm=True)``.
        lambda_param: the factor of what dimensions have in common.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer, a factor that is not above 0.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> model = selfsup.BarlowTwins(layers.Dense(16), layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> len(model.fit(x, batch_size=32, verbose=0).epoch)
        1
    """

    HEAD: ClassVar[Mapping[str, Any] | None] = {"batch_norm": True}

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        lambda_param: float = 5e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augmentation, projector, **kwargs)
        self.lambda_param = positive("BarlowTwins", "lambda_param", lambda_param)

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first."""
        za, zb = (self.embed(view, training) for view in views)
        return redundancy.barlow_twins(za, zb, self.lambda_param), za


class VICReg(LearnsViews):
    """VICReg: views agree, dimensions vary, no two together (:func:`vicreg`).

    Args:
        encoder: a layer or model: rows -> features (B, F).
        augmentation: what makes a view of a batch, a layer or a list of them.
        projector: features -> embeddings. Default: ``projection_head(batch_norm=True)``.
        lambda_param: the factor of what differs between the views.
        mu_param: of variances below 1.
        nu_param: of covariances.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer, factors that are not above 0.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> model = selfsup.VICReg(layers.Dense(16), layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> len(model.fit(x, batch_size=32, verbose=0).epoch)
        1
    """

    HEAD: ClassVar[Mapping[str, Any] | None] = {"batch_norm": True}

    def __init__(
        self,
        encoder: Any,
        augmentation: Any = None,
        projector: Any = None,
        lambda_param: float = 25.0,
        mu_param: float = 25.0,
        nu_param: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augmentation, projector, **kwargs)
        self.lambda_param = positive("VICReg", "lambda_param", lambda_param)
        self.mu_param = positive("VICReg", "mu_param", mu_param)
        self.nu_param = positive("VICReg", "nu_param", nu_param)

    def compare(self, views: Sequence[Any], y: Any, training: bool) -> tuple[Any, Any]:
        """The loss of two views, and the embeddings of the first."""
        za, zb = (self.embed(view, training) for view in views)
        return redundancy.vicreg(za, zb, self.lambda_param, self.mu_param, self.nu_param), za
