"""Models for a task: what stands around a backbone, and takes texts where it can."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handmill.data.batches import unpack_x_y_sample_weight
from handmill.hub.models.preset import FromPreset
from handmill.hub.tokenizers.folders import keep_longest_rows, longest_rows
from handmill.models.compile_config import revived_compile_config
from handmill.models.model import Model


def check_backbone(title: str, backbone: Any, *needed: str) -> None:
    """Refuses what is no backbone for a task.

    Args:
        title: the class of the task.
        backbone: what it was given.
        *needed: attributes that the task uses.

    Raises:
        ValueError: naming those that it lacks.
    """
    if missing := [name for name in needed if not hasattr(backbone, name)]:
        raise ValueError(
            f"{title} cannot stand on {backbone!r}, which has no {', no '.join(missing)}: "
            "`backbone` is a model such as those that from_preset gives it"
        )


class Task(FromPreset, Model):
    """A model around a backbone.

    With a preprocessor, ``fit``, ``evaluate`` and ``predict`` take texts as well as tokens: a list
    of strings, or a tuple of such lists. Texts are made tokens once, before the first step.
    """

    backbone: Any
    preprocessor: Any

    _preprocessor_name: str
    """The preprocessor that belongs to the task, for vocabularies in folders."""
    _vocabulary_files: tuple[frozenset[str], ...]
    """What a folder with a vocabulary holds: one of these sets of files."""

    @classmethod
    def from_preset(cls, preset: Any, load_weights: bool = True, **kwargs: Any) -> Any:
        """Reads a model from a folder; see ``Backbone.from_preset``.

        Where the folder holds the vocabulary of a tokenizer, the model takes texts, too.

        Args:
            preset: the path of the folder.
            load_weights: whether its weights are read; else they are drawn.
            **kwargs: arguments of the class that take the place of what the folder says;
                ``preprocessor=None`` for a model of tokens alone.

        Raises:
            FileNotFoundError: if there is no such folder, or it lacks a file.
            ValueError: naming what does not fit.
        """
        model = super().from_preset(preset, load_weights, **kwargs)
        if "preprocessor" not in kwargs:
            model.preprocessor = model._preprocessor_of(Path(preset))
        return model

    def _preprocessor_of(self, folder: Path) -> Any:
        """The preprocessor for the vocabulary in a folder; None where there is none."""
        files = {path.name for path in folder.iterdir()}
        if not any(needed <= files for needed in self._vocabulary_files):
            return None
        room = importlib.import_module("handmill.hub.preprocessing")
        made = getattr(room, self._preprocessor_name)
        most = getattr(self.backbone, "max_sequence_length", None) or 1024
        length = min(most, longest_rows(folder) or most)
        found = made.from_preset(folder, sequence_length=length)
        words, known = found.tokenizer.vocabulary_size(), self.backbone.vocabulary_size
        if words > known:
            raise ValueError(
                f"the vocabulary in {folder} has {words} tokens, but {self.describe()} knows only "
                f"{known}: it belongs to another model. Pass `preprocessor=None` to leave it out"
            )
        return found

    def save_to_preset(self, preset_dir: Any) -> None:
        """Writes a folder in the layout of Hugging Face's libraries, with the vocabulary.

        Args:
            preset_dir: the path of the folder, which is made.

        Raises:
            ValueError: for a model whose settings that layout cannot say.
        """
        super().save_to_preset(preset_dir)
        if self.preprocessor is not None:
            self.preprocessor.tokenizer.save_assets(preset_dir)
            if length := getattr(self.preprocessor, "sequence_length", None):
                keep_longest_rows(preset_dir, length)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data: with the preprocessor that the model has now."""
        from handmill.saving.objects import serialize_keras_object

        config = super().get_config()
        return {**config, "preprocessor": serialize_keras_object(self.preprocessor)}

    get_config.collects_arguments = True  # type: ignore[attr-defined]

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles the model as ``get_compile_config`` says."""
        self.compile(**revived_compile_config(config))

    def _tokens(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        """Data for a step: texts as tokens, with the labels that they have of themselves."""
        if isinstance(x, str):
            raise ValueError(
                f"a list of texts was expected; of one text pass [text]. Received: {x!r:.60}"
            )
        if self.preprocessor is None or not _are_texts(x):
            return x, y, sample_weight
        return unpack_x_y_sample_weight(self.preprocessor(x, y, sample_weight))

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains; see ``Model.fit``.

        Args:
            x: texts, tokens, or what ``Model.fit`` takes.
            y: labels.
            *args: further arguments of ``Model.fit``.
            **kwargs: further arguments of ``Model.fit``.
        """
        x, y, kwargs["sample_weight"] = self._tokens(x, y, kwargs.get("sample_weight"))
        if kwargs.get("validation_data") is not None:
            parts = kwargs["validation_data"]
            parts = self._tokens(*parts) if isinstance(parts, tuple | list) else parts
            kwargs["validation_data"] = parts
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measures; see ``Model.evaluate``.

        Args:
            x: texts, tokens, or what ``Model.evaluate`` takes.
            y: labels.
            *args: further arguments of ``Model.evaluate``.
            **kwargs: further arguments of ``Model.evaluate``.
        """
        x, y, kwargs["sample_weight"] = self._tokens(x, y, kwargs.get("sample_weight"))
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Computes outputs; see ``Model.predict``.

        Args:
            x: texts, tokens, or what ``Model.predict`` takes.
            *args: further arguments of ``Model.predict``.
            **kwargs: further arguments of ``Model.predict``.
        """
        return super().predict(self._tokens(x)[0], *args, **kwargs)


class MaskedLM(Task):
    """A model that gives logits of the tokens that were masked.

    ``MaskedLM.from_preset(folder)`` gives the class for the model in the folder.
    """


class TextClassifier(Task):
    """A model that gives scores of classes for texts.

    ``TextClassifier.from_preset(folder)`` gives the class for the model in the folder.
    """


def _are_texts(x: Any) -> bool:
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "US" or (x.dtype.kind == "O" and all(isinstance(v, str) for v in x))
    if isinstance(x, tuple):
        return bool(x) and all(_are_texts(part) for part in x)
    return isinstance(x, list) and bool(x) and all(isinstance(v, str) for v in x)
