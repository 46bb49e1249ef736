"""Models from folders of Hugging Face's libraries, and back."""

from __future__ import annotations

from typing import Any


class FromPreset:
    """What backbones and tasks have for folders with config.json and model.safetensors."""

    @classmethod
    def from_preset(cls, preset: Any, load_weights: bool = True, **kwargs: Any) -> Any:
        """Reads a model from a folder on this machine, in the layout of Hugging Face's libraries.

        The folder has ``config.json``, ``model.safetensors`` or shards with their index, and for
        tasks on strings the files of a vocabulary. Nothing is downloaded. Names of tensors are
        those of the library, all with its prefix (such as ``transformer.``) or all without.

        Args:
            preset: the path of the folder.
            load_weights: whether its weights are read; else they are drawn.
            **kwargs: arguments of the class that take the place of what the folder says, such as
                ``dropout``, ``dtype``, ``num_classes`` or ``preprocessor``.

        Raises:
            FileNotFoundError: if there is no such folder, or it lacks a file.
            ValueError: naming all tensors that are missing, left over or of another shape, or what
                the config asks for that this class is not.
        """
        from handmill.hub.presets.reading import model_from_folder

        return model_from_folder(cls, preset, load_weights, kwargs)

    def save_to_preset(self, preset_dir: Any) -> None:
        """Writes a folder in the layout of Hugging Face's libraries, which they read, too.

        Tensors are written in float32; tables that LoRA adapts with what is added to them.

        Args:
            preset_dir: the path of the folder, which is made.

        Raises:
            ValueError: for a model whose settings that layout cannot say.
        """
        from handmill.hub.presets.writing import model_to_folder

        model_to_folder(self, preset_dir)
