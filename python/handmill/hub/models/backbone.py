"""What all backbones share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handmill import dtype_policies
from handmill.arguments import whole_number
from handmill.errors import FileFormatError
from handmill.hub.models.preset import FromPreset
from handmill.ir.shapes import numpy_dtype
from handmill.layers.core.low_rank import LowRankLayer
from handmill.layers.layer import all_layers
from handmill.models.model import Model
from handmill.runtime.memory import FEW_BYTES, check_room, in_gigabytes

_LORA_SUFFIX = ".lora.safetensors"


def block_weights(hidden_dim: int, intermediate_dim: int) -> int:
    """How many weights a block of GPT-2 or BERT has: attention, two layers, two normalizations."""
    return hidden_dim * (4 * hidden_dim + 2 * intermediate_dim + 9) + intermediate_dim


def check_size(title: str, dtype: Any, count: Callable[..., int], **sizes: Any) -> None:
    """Refuses a model whose weights nobody can have here, before the first of them is made.

    Args:
        title: what the error calls it.
        dtype: that of its layers.
        count: sizes -> how many weights it has.
        **sizes: those that decide it; others than ``num_layers`` are left to the layers to refuse
            where they are no whole numbers.

    Raises:
        ValueError: for a number of layers that is none.
        MemoryError: if there is less memory than the weights need.
    """
    whole_number("num_layers", sizes["num_layers"], 0)
    if not all(isinstance(n, int | np.integer) for n in sizes.values()):
        return
    weights = count(**{name: int(n) for name, n in sizes.items()})
    width = numpy_dtype(dtype_policies.get(dtype).variable_dtype).itemsize
    if weights * width <= FEW_BYTES:
        return
    given = ", ".join(f"{name}={n}" for name, n in sizes.items())
    half = "" if width < 4 else 'dtype="bfloat16" needs half of it. '
    check_room(
        weights * width,
        f"{title} with {given} has {weights:,} weights, which need {in_gigabytes(weights * width)}",
        f"{half}Or choose a smaller model: fewer layers, or narrower ones",
    )


class Backbone(FromPreset, Model):
    """A model that makes vectors of tokens, without what is made of them for a task.

    Backbones are made of tensors, like any functional model; what they were made with is in
    attributes of the same names.
    """

    token_embedding: Any
    vocabulary_size: int

    def default_lora_layer_names(self) -> list[str]:
        """Names of the layers that :meth:`enable_lora` adapts: what makes queries and values."""
        return ["query_dense", "value_dense", "query", "value"]

    def enable_lora(self, rank: int, target_layer_names: Sequence[str] | None = None) -> None:
        """Freezes the backbone, and adapts layers of it by products of two small tables (LoRA).

        Only these tables are trained, so slots of the optimizer and :meth:`save_lora_weights` are
        small. Files in other forms, ``save_to_preset`` too, hold the sums. A model around it has
        to be compiled again. KerasHub trains the biases of the adapted layers, too.

        Args:
            rank: how many columns the first, and rows the second table has.
            target_layer_names: names of the layers; default: :meth:`default_lora_layer_names`.

        Raises:
            ValueError: if there is no such layer, or LoRA is on.

        Example:
            >>> from handmill.hub.models import GPT2Backbone
            >>> model = GPT2Backbone(20, 1, 2, 8, 16, max_sequence_length=12)
            >>> model.enable_lora(1)
            >>> [weight.shape for weight in model.trainable_weights]
            [(8, 2, 1), (1, 4), (8, 2, 1), (1, 4)]
        """
        rank = whole_number("rank", rank, 1)
        names = target_layer_names or self.default_lora_layer_names()
        chosen = [x for x in all_layers(self) if x.name in names and isinstance(x, LowRankLayer)]
        if not chosen:
            raise ValueError(
                f"{self.describe()} has no layers with the names {list(names)} that could be "
                "adapted: Dense, EinsumDense and Embedding can"
            )
        if adapted := [x.path for x in chosen if x.lora_enabled]:
            raise ValueError(f"{self.describe()}: LoRA is on already in {adapted}")
        for layer in all_layers(self):
            # A layer is not trained inside of one that is not: only variables are frozen.
            for variable in layer._own_variables():
                variable.trainable = False
        for layer in chosen:
            layer.enable_lora(rank)

    def _adapted(self) -> list[LowRankLayer]:
        return [x for x in all_layers(self) if isinstance(x, LowRankLayer) and x.lora_enabled]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data, and which layers are adapted."""
        config = super().get_config()
        if adapted := self._adapted():
            names = sorted({layer.name for layer in adapted})
            config["lora"] = {"rank": adapted[0].lora_rank, "layers": names}
        return config

    get_config.collects_arguments = True  # type: ignore[attr-defined]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Makes a backbone from its config, with new weights.

        Args:
            config: what :meth:`get_config` returned.
            custom_objects: name -> class of the user's.
        """
        arguments = dict(config)
        lora = arguments.pop("lora", None)
        made = super().from_config(arguments, custom_objects)
        if lora is not None:
            made.enable_lora(lora["rank"], lora["layers"])
        return made

    def _lora_variables(self) -> dict[str, Any]:
        adapted = self._adapted()
        if not adapted:
            raise ValueError(
                f"There are no lora-enabled layers in {self.describe()}. Call "
                "`.enable_lora(rank)` first."
            )
        return {v.path: v for x in adapted for v, _ in x.merged_variables()}

    def save_lora_weights(self, filepath: Any) -> None:
        """Writes the small tables that :meth:`enable_lora` made, and nothing else.

        Args:
            filepath: a path that ends in ``.lora.safetensors``.

        Raises:
            ValueError: for another suffix, or if LoRA is off.
        """
        from handmill.saving.atomic_file import write_bytes
        from handmill.saving.tensors import to_tensors

        path = _lora_path(filepath)
        tensors = {name: v.numpy() for name, v in self._lora_variables().items()}
        write_bytes(path, to_tensors(tensors))

    def load_lora_weights(self, filepath: Any) -> None:
        """Reads what :meth:`save_lora_weights` wrote; LoRA is on afterwards.

        Args:
            filepath: the file.

        Raises:
            ValueError: if it does not fit; nothing is changed then.
        """
        from handmill.saving.model_file import read_tensors

        path = _lora_path(filepath)
        tensors = read_tensors(path)
        if not self._adapted():
            ranks = {a.shape[-1] for name, a in tensors.items() if name.endswith("_a")}
            names = {name.split("/")[-2] for name in tensors if "/" in name}
            if len(ranks) != 1:
                raise FileFormatError(f"{path} holds no tables of LoRA of one rank")
            self.enable_lora(ranks.pop(), sorted(names))
        own = self._lora_variables()
        wanted = {name: v.shape for name, v in own.items()}
        found = {name: a.shape for name, a in tensors.items()}
        if wanted != found:
            differing = sorted(
                n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n)
            )
            raise ValueError(
                f"{path} does not fit {self.describe()}: "
                + "; ".join(
                    f"{n} is {found.get(n, 'missing')}, expected {wanted.get(n, 'nothing')}"
                    for n in differing[:12]
                )
            )
        for name, variable in own.items():
            variable.assign(tensors[name])


def _lora_path(filepath: Any) -> Path:
    path = Path(filepath)
    if not path.name.endswith(_LORA_SUFFIX):
        raise ValueError(f"The filename must end in `{_LORA_SUFFIX}`. Received: {filepath}")
    return path
