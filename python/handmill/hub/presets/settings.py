"""What config.json of a folder may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from handmill.hub.layers.activations import gelu_approximate

# What does not change what a model computes from its weights.
_INERT = """
_attn_implementation _name_or_path architectures auto_map bos_token_id
chunk_size_feed_forward classifier_dropout decoder_start_token_id directionality dtype
eos_token_id finetuning_task gradient_checkpointing id2label initializer_range label2id
language model_type n_ctx name num_labels output_attentions output_hidden_states
output_past pad_token_id pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
pooler_size_per_head pooler_type prefix pretraining_tp problem_type return_dict
sep_token_id summary_activation summary_first_dropout summary_proj_to_labels
summary_type summary_use_proj task_specific_params tie_encoder_decoder tokenizer_class
torch_dtype torchscript transformers_version use_bfloat16 use_cache
"""

ACTIVATIONS: Mapping[str, Any] = {
    "gelu": "gelu",
    "gelu_new": gelu_approximate,
    "gelu_pytorch_tanh": gelu_approximate,
    "gelu_fast": gelu_approximate,
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""What Hugging Face calls an activation -> the argument of layers."""


class Settings:
    """The entries of a ``config.json``, each of which must be asked for or known to be inert.

    Args:
        data: the entries.
        name: what errors call the file.
    """

    def __init__(self, data: Mapping[str, Any], name: str) -> None:
        self.data = data
        self.name = name
        self._asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """An entry as it is; the default where it is missing or null."""
        self._asked.add(key)
        value = self.data.get(key)
        return default if value is None else value

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer.

        Raises:
            ValueError: for anything else, or where it is missing and has no default.
        """
        value = self.get(key, default)
        if type(value) is not int or value <= 0:
            raise ValueError(
                f"{self.name}: {key!r} must be a positive integer. Received: {value!r}"
            )
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number that is not negative.

        Raises:
            ValueError: for anything else.
        """
        value = self.get(key, default)
        if type(value) not in (int, float) or not 0 <= value < float("inf"):
            raise ValueError(f"{self.name}: {key!r} must be a number. Received: {value!r}")
        return float(value)

    def activation(self, key: str, default: str) -> Any:
        """An activation.

        Raises:
            ValueError: for one that is not known.
        """
        value = self.get(key, default)
        if value not in ACTIVATIONS:
            raise ValueError(
                f"{self.name}: {key}={value!r} is no activation that is known here: "
                f"{', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[value]

    def one_dropout(self, given: bool, **defaults: float) -> float:
        """The rate that several entries agree on.

        Args:
            given: whether the caller says what it is, so that it does not matter.
            **defaults: the entries, and what they are where they are missing.

        Raises:
            ValueError: if they differ.
        """
        found = {key: self.number(key, default) for key, default in defaults.items()}
        if len(set(found.values())) > 1 and not given:
            raise ValueError(
                f"{self.name}: the rates {found} differ, and a model here has one for all; pass "
                "`dropout=...` to from_preset"
            )
        return next(iter(found.values()))

    def refuse(self, **fixed: Any) -> None:
        """Refuses entries that ask for what a model here does not do.

        Args:
            **fixed: the entries, and the only value that each may have.

        Raises:
            ValueError: naming them.
        """
        other = {k: self.data[k] for k in fixed if self.get(k, fixed[k]) != fixed[k]}
        if other:
            wanted = {k: fixed[k] for k in other}
            raise ValueError(
                f"{self.name} asks for {other}, which this model does not do; supported: {wanted}"
            )

    def finish(self, inert: Iterable[str] = ()) -> None:
        """Refuses what nobody asked for.

        Args:
            inert: further entries that change nothing.

        Raises:
            ValueError: naming them.
        """
        known = {*_INERT.split(), *self._asked, *inert}
        if unknown := {
            k: v for k, v in self.data.items() if k not in known and v not in (None, False, {}, [])
        }:
            raise ValueError(
                f"{self.name} has entries that are not known here, so that the model might compute "
                f"something else: {unknown}. Remove those that change nothing"
            )


_NAMES = {
    "gelu": "gelu",
    "gelu_approximate": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "tanh": "tanh",
}
"""Name of a function here -> what Hugging Face calls it."""


def activation_name(function: Any) -> str:
    """What Hugging Face calls an activation.

    Raises:
        ValueError: if it has no name there.
    """
    name = getattr(function, "__name__", str(function))
    if name not in _NAMES:
        raise ValueError(
            f"the activation {name!r} has no name in a config.json; known: {', '.join(_NAMES)}"
        )
    return _NAMES[name]
