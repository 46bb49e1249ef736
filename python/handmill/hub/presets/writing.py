"""Models as folders that other libraries read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handmill.hub.presets.folder import CONFIG, TENSORS, folder_of
from handmill.hub.presets.layout import Layout
from handmill.hub.presets.reading import layouts, parts_of
from handmill.ir.op import Array
from handmill.layers.core.low_rank import LowRankLayer
from handmill.layers.layer import all_layers
from handmill.runtime.variable import Variable
from handmill.saving.atomic_file import write_several
from handmill.saving.json_data import to_json
from handmill.saving.tensors import to_tensors


def model_to_folder(model: Any, preset_dir: Any) -> None:
    """Writes a model into a folder; see ``FromPreset.save_to_preset``."""
    layout = _layout_of(model)
    adapted = {
        id(x._table): x for x in all_layers(model) if isinstance(x, LowRankLayer) and x.lora_enabled
    }

    def content(variable: Variable) -> Array:
        layer = adapted.get(id(variable))
        return variable.read() if layer is None else layer.content_to_store(variable)

    tensors = {
        f"{prefix}{part.name}": part.put_together(content)
        for prefix, part in parts_of(model, layout)
    }
    path = Path(preset_dir)
    pieces = {
        path / TENSORS: to_tensors(tensors, {"format": "pt"}),
        path / CONFIG: [to_json(_settings(model, layout), CONFIG)],
    }
    path.mkdir(parents=True, exist_ok=True)
    folder_of(path)
    write_several(pieces)


def _layout_of(model: Any) -> Layout:
    names = {base.__name__ for base in type(model).__mro__}
    for layout in layouts().values():
        if names & {layout.backbone, *layout.tasks}:
            return layout
    raise ValueError(f"{model.describe()} has no layout of Hugging Face's libraries")


def _settings(model: Any, layout: Layout) -> dict[str, Any]:
    names = [base.__name__ for base in type(model).__mro__]
    task = next((layout.tasks[name] for name in names if name in layout.tasks), None)
    return {
        "architectures": [layout.architecture if task is None else task.architecture],
        "model_type": layout.model_type,
        "dtype": "float32",
        **layout.settings(model if task is None else model.backbone),
        **({} if task is None else task.settings(model)),
    }
