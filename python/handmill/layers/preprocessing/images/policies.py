"""Several random changes, chosen at random."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from handmill import ops, random
from handmill.arguments import whole_number
from handmill.ir.graph import current_graph
from handmill.layers.preprocessing.images.affine import (
    RandomRotation,
    RandomShear,
    RandomTranslation,
)
from handmill.layers.preprocessing.images.arguments import checked_range, is_number
from handmill.layers.preprocessing.images.base import BaseImagePreprocessingLayer
from handmill.layers.preprocessing.images.colors import RandomColorDegeneration
from handmill.layers.preprocessing.images.detail import RandomSharpness
from handmill.layers.preprocessing.images.histograms import AutoContrast, Equalization
from handmill.layers.preprocessing.images.light import (
    RandomBrightness,
    RandomContrast,
    RandomPosterization,
    Solarization,
)


class PolicyLayer(BaseImagePreprocessingLayer):
    """Holds the layers that are chosen from.

    Args:
        names: of those that there are, in the order of their numbers.
        value_range: the least and the largest value of a pixel.
        factor: how much they change.
        interpolation: "nearest" or "bilinear".
        seed: an integer, or None.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.
    """

    _FACTOR_BOUNDS = (0, 1)
    _names: tuple[str, ...]

    def __init__(
        self,
        names: tuple[str, ...],
        value_range: Any,
        factor: Any,
        interpolation: str,
        seed: int | None,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.value_range = checked_range(value_range)
        self._set_factor(factor)
        self.interpolation = interpolation
        self._set_seed(seed)
        self._names = names
        common: dict[str, Any] = {"data_format": self.data_format, "dtype": self.dtype_policy}
        moving = {"interpolation": interpolation, "seed": seed, **common}
        ranged = {"value_range": value_range, **common}
        drawn = {"seed": seed, **ranged}
        f = self.factor
        bits = max(1, int(8 * f[1]))
        makers: dict[str, Callable[[], Any]] = {
            "random_shear": lambda: RandomShear(x_factor=f, y_factor=f, **moving),
            "random_translation": lambda: RandomTranslation(f, f, **moving),
            "random_rotation": lambda: RandomRotation(f, **moving),
            "random_brightness": lambda: RandomBrightness(f, **drawn),
            "random_color_degeneration": lambda: RandomColorDegeneration(f, **drawn),
            "random_contrast": lambda: RandomContrast(f, **drawn),
            "random_sharpness": lambda: RandomSharpness(f, **drawn),
            "random_posterization": lambda: RandomPosterization(bits, **drawn),
            "solarization": lambda: Solarization(f, f, **drawn),
            "auto_contrast": lambda: AutoContrast(**ranged),
            "equalization": lambda: Equalization(**ranged),
        }
        for name in names:
            setattr(self, name, makers[name]())

    def build(self, input_shape: Any) -> None:
        """Builds the layers."""
        for name in self._names:
            getattr(self, name).build(input_shape)

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Refuses boxes.

        Raises:
            NotImplementedError: always.
        """
        return super().transform_bounding_boxes(bounding_boxes, transformation, training)

    def _chosen(self, kind: str, x: Any, number: Any, drawn: Any, extra: int = 0) -> Any:
        """What one layer makes of images or masks.

        Args:
            kind: "transform_images" or "transform_segmentation_masks".
            x: the images or masks.
            number: which layer; past the last one, none.
            drawn: what was drawn for each, by name.
            extra: how many numbers past the last one there are.
        """
        branches: list[Callable[[Any], Any]] = [
            partial(self._applied, kind, name, drawn[name]) for name in self._names
        ]
        branches += [_as_it_is] * extra
        return ops.switch(number, branches, x)

    def _applied(self, kind: str, name: str, drawn: Any, x: Any) -> Any:
        found = getattr(getattr(self, name), kind)(x, drawn)
        return ops.cast(found, str(x.dtype))


def _as_it_is(x: Any) -> Any:
    return x


_MOVING = ("random_shear", "random_translation", "random_rotation")
_LIGHT = ("random_brightness", "random_color_degeneration", "random_contrast", "random_sharpness")
_VALUES = ("random_posterization", "solarization", "auto_contrast", "equalization")


class RandAugment(PolicyLayer):
    """Changes images by layers that are drawn for each batch, while training.

    Args:
        value_range: the least and the largest value of a pixel.
        num_ops: how many layers are drawn, one after the other.
        factor: how much they change, from 0 to 1: up to that, or two numbers for from one to the
            other.
        interpolation: "nearest" or "bilinear".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandAugment(seed=1)(ops.ones((2, 8, 8, 3))).shape
        (2, 8, 8, 3)

    References:
        - [Cubuk et al., 2019](https://arxiv.org/abs/1909.13719)
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        num_ops: int = 2,
        factor: Any = 0.5,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        names = (*_MOVING, *_LIGHT, *_VALUES)
        super().__init__(names, value_range, factor, interpolation, seed, data_format, **kwargs)
        self.num_ops = whole_number("`num_ops`", num_ops, least=0)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws numbers of layers, and what each of all layers does."""
        if not training:
            return None
        draws = self._draws(seed)
        chosen = draws.integers((self.num_ops,), 0, len(self._names))
        drawn = {
            name: getattr(self, name).get_random_transformation(data, seed=draws.split())
            for name in self._names
        }
        return {"transforms": drawn, "layer_idxes": chosen}

    def _augmented(self, kind: str, x: Any, transformation: Any) -> Any:
        for number in ops.unstack(transformation["layer_idxes"], self.num_ops):
            x = self._chosen(kind, x, number, transformation["transforms"])
        return x

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Changes images."""
        images = ops.cast(images, self.compute_dtype)
        return self._augmented("transform_images", images, transformation) if training else images

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Moves masks with the images."""
        if not training:
            return segmentation_masks
        return self._augmented("transform_segmentation_masks", segmentation_masks, transformation)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "value_range": self.value_range,
            "num_ops": self.num_ops,
            "factor": self.factor,
            "interpolation": self.interpolation,
            "seed": self.seed,
        }


class AugMix(PolicyLayer):
    """Blends images with several chains of random changes of them, while training.

    Args:
        value_range: the least and the largest value of a pixel; what is beyond is cut off.
        num_chains: how many chains are blended.
        chain_depth: how many layers a chain has at most.
        factor: how much they change, from 0 to 1: up to that, or two numbers for from one to the
            other.
        alpha: of the distributions of the shares of the chains (Dirichlet) and of the image
            itself (Beta).
        all_ops: whether brightness, contrast, colour and sharpness are among the changes, which
            also serve as corruptions in benchmarks.
        interpolation: "nearest" or "bilinear".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from handmill import layers, ops
        >>> layers.AugMix(seed=1)(ops.ones((2, 8, 8, 3))).shape
        (2, 8, 8, 3)

    References:
        - [Hendrycks et al., 2019](https://arxiv.org/abs/1912.02781)
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        num_chains: int = 3,
        chain_depth: int = 3,
        factor: Any = 0.3,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        names = (*_MOVING, *_VALUES, *(_LIGHT if all_ops else ()))
        super().__init__(names, value_range, factor, interpolation, seed, data_format, **kwargs)
        self.num_chains = whole_number("`num_chains`", num_chains, least=1)
        self.chain_depth = whole_number("`chain_depth`", chain_depth, least=0)
        if not is_number(alpha) or not alpha > 0:
            raise ValueError(f"`alpha` must be a number above 0. Received: alpha={alpha}")
        self.alpha = alpha
        self.all_ops = all_ops

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws shares, and for each link of each chain a layer and what it does."""
        if not training:
            return None
        draws = self._draws(seed)
        shares = random.gamma((self.num_chains,), self.alpha, "float32", draws.next())
        own = random.beta((), self.alpha, self.alpha, "float32", draws.next())
        chains = []
        for _ in range(self.num_chains):
            numbers = [draws.integers((), 0, len(self._names) + 1) for _ in range(self.chain_depth)]
            chains.append([self._link(data, number, draws) for number in numbers])
        return {
            "chain_mixing_weights": ops.divide(shares, ops.sum(shares)),
            "weight_sample": own,
            "chain_transforms": [[link for link in chain if link] for chain in chains],
        }

    def _link(self, data: Any, number: Any, draws: Any) -> dict[str, Any] | None:
        """One layer of a chain and what it does; in a program all layers, and which one counts."""
        if current_graph() is not None:
            drawn = {
                name: getattr(self, name).get_random_transformation(data, seed=draws.split())
                for name in self._names
            }
            return {"layer_number": number, "transformations": drawn}
        if int(number) == len(self._names):
            return None
        name = self._names[int(number)]
        drawn = getattr(self, name).get_random_transformation(data, seed=draws.split())
        return {"layer_name": name, "transformation": drawn}

    def _blended(self, kind: str, x: Any, transformation: Any) -> Any:
        dtype = self.compute_dtype
        shares = ops.cast(transformation["chain_mixing_weights"], dtype)
        blend: Any = 0.0
        for share, chain in zip(
            ops.unstack(shares, self.num_chains), transformation["chain_transforms"], strict=True
        ):
            changed = x
            for link in chain:
                if "layer_name" in link:
                    drawn = link["transformation"]
                    changed = self._applied(kind, link["layer_name"], drawn, changed)
                else:
                    number, drawn = link["layer_number"], link["transformations"]
                    changed = self._chosen(kind, changed, number, drawn, extra=1)
            blend = ops.add(blend, ops.multiply(ops.cast(changed, dtype), share))
        own = ops.cast(transformation["weight_sample"], dtype)
        return ops.add(
            ops.multiply(own, ops.cast(x, dtype)), ops.multiply(ops.subtract(1.0, own), blend)
        )

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        """Blends images with chains of changes."""
        images = ops.cast(images, self.compute_dtype)
        if not training:
            return images
        return ops.clip(
            self._blended("transform_images", images, transformation), *sorted(self.value_range)
        )

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Blends masks as the images are blended."""
        if not training:
            return segmentation_masks
        return self._blended("transform_segmentation_masks", segmentation_masks, transformation)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "value_range": self.value_range,
            "num_chains": self.num_chains,
            "chain_depth": self.chain_depth,
            "factor": self.factor,
            "alpha": self.alpha,
            "all_ops": self.all_ops,
            "interpolation": self.interpolation,
            "seed": self.seed,
        }
