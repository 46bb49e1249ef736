"""Models as pictures: ``plot_model`` and ``model_to_dot``."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from handmill import tree
from handmill.inspection.model_picture import Box, Drawing, dot, draw_with_matplotlib, svg
from handmill.layers.core.input_layer import InputLayer
from handmill.layers.op_function import OpFunction
from handmill.layers.operation import OpLayer

_DIRECTIONS = ("TB", "BT", "LR", "RL")
_SPLINES = ("ortho", "curved", "polyline", "spline", "line")


def plot_model(
    model: Any,
    to_file: Any = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """Writes a picture of a model: its layers as boxes, what they hand on as arrows.

    ``.svg`` and ``.dot`` need nothing but handmill. Other formats are drawn by graphviz where it
    is installed, else by matplotlib.

    Args:
        model: a model that is built.
        to_file: the file; its suffix chooses the format.
        show_shapes: whether boxes name the shapes of inputs and outputs.
        show_dtype: whether boxes name the dtype of the output.
        show_layer_names: whether boxes name their layers.
        rankdir: where arrows lead: ``"TB"`` down, ``"LR"`` to the right, ``"BT"``, ``"RL"``.
        expand_nested: whether models inside are drawn with their layers.
        dpi: dots per inch, of formats that have dots.
        show_layer_activations: whether boxes name activations.
        show_trainable: whether boxes say what is trained; frozen ones have a dashed border.
        splines: the form of arrows: ``"ortho"``, ``"curved"``, ``"polyline"``, ``"spline"`` or
            ``"line"``. (matplotlib draws straight lines.)
        **kwargs: none are known; for Keras's error.

    Returns:
        In a notebook what shows the picture there, else None.

    Raises:
        ValueError: for a model that is not built, or an argument that is not one of the above.
        ImportError: if the format needs graphviz or matplotlib, and neither is there.

    Example:
        >>> import handmill, tempfile, pathlib
        >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "model.svg"
        ...     handmill.utils.plot_model(model, path, show_shapes=True)
        ...     path.read_text()[:4]
        '<svg'
    """
    if kwargs.pop("layer_range", None) is not None:
        raise ValueError("Argument `layer_range` is no longer supported.")
    if kwargs:
        raise ValueError(f"Unrecognized keyword arguments: {kwargs}")
    drawing = _checked_drawing(
        model, rankdir, splines, show_shapes, show_dtype, show_layer_names, expand_nested,
        show_layer_activations, show_trainable,
    )  # fmt: skip
    path = Path(to_file)
    suffix = path.suffix.lower() or ".png"
    if suffix == ".svg":
        path.write_text(svg(drawing, rankdir, splines), "utf-8")
    elif suffix == ".dot":
        path.write_text(dot(drawing, rankdir, splines, dpi), "utf-8")
    elif (program := shutil.which("dot")) is not None:
        text = dot(drawing, rankdir, splines, dpi)
        command = [program, f"-T{suffix[1:]}", "-o", str(path)]
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
        if done.returncode:
            problem = done.stderr.decode(errors="replace").strip()
            raise ValueError(f"graphviz could not write {path}: {problem}")
    elif importlib.util.find_spec("matplotlib") is not None:
        draw_with_matplotlib(drawing, rankdir, path, dpi)
    else:
        raise ImportError(
            f"a picture in the format {suffix!r} needs graphviz or matplotlib: pip install "
            "'handmill[plot]'. to_file='model.svg' needs neither."
        )
    return _shown(path, suffix)


def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """Returns a model as a graph of the package pydot.

    Args:
        model: a model that is built.
        show_shapes: as those of :func:`plot_model`, and so are the others.
        show_dtype: see there.
        show_layer_names: see there.
        rankdir: see there.
        expand_nested: see there.
        dpi: see there.
        subgraph: not supported; must be False.
        show_layer_activations: see there.
        show_trainable: see there.
        splines: see there.
        **kwargs: none are known; for Keras's error.

    Raises:
        ImportError: if pydot is missing; ``plot_model(model, "model.dot")`` needs none.
        ValueError: for a model that is not built, or an argument that is not one of the above.
    """
    if kwargs.pop("layer_range", None) is not None:
        raise ValueError("Argument `layer_range` is no longer supported.")
    if kwargs:
        raise ValueError(f"Unrecognized keyword arguments: {kwargs}")
    if subgraph:
        raise ValueError(
            "model_to_dot(subgraph=True) is not supported; expand_nested=True draws the models "
            "inside as clusters"
        )
    drawing = _checked_drawing(
        model, rankdir, splines, show_shapes, show_dtype, show_layer_names, expand_nested,
        show_layer_activations, show_trainable,
    )  # fmt: skip
    try:
        import pydot
    except ImportError as error:
        raise ImportError(
            "model_to_dot needs a package: pip install pydot. plot_model(model, 'model.svg') and "
            "plot_model(model, 'model.dot') need none."
        ) from error
    (found,) = pydot.graph_from_dot_data(dot(drawing, rankdir, splines, dpi))
    return found


def _checked_drawing(model: Any, rankdir: str, splines: str, *show: bool) -> Drawing:
    if rankdir not in _DIRECTIONS:
        raise ValueError(f"rankdir: expected one of {', '.join(_DIRECTIONS)}, got {rankdir!r}")
    if splines not in _SPLINES:
        raise ValueError(f"splines: expected one of {', '.join(_SPLINES)}, got {splines!r}")
    if not model.built:
        raise ValueError(
            "This model has not yet been built. Build the model first by calling `build()` or by "
            "calling the model on a batch of data."
        )
    return _Describer(*show).drawing(model)


class _Describer:
    """Says what stands in the boxes of a picture."""

    def __init__(
        self,
        shapes: bool,
        dtype: bool,
        names: bool,
        expand: bool,
        activations: bool,
        trainable: bool,
    ) -> None:
        self.shapes = shapes
        self.dtype = dtype
        self.names = names
        self.expand = expand
        self.activations = activations
        self.trainable = trainable

    def drawing(self, model: Any) -> Drawing:
        found = Drawing()
        graph = getattr(model, "_graph", None)
        if graph is None:
            found.boxes.append(self.box(model, None))
            return found
        makers: dict[int, int] = {}
        for node in graph.nodes:
            found.boxes.append(self.box(node.operation, node))
            here = len(found.boxes) - 1
            made = (makers[id(t)] for t in node.input_tensors)
            found.edges += [(start, here) for start in dict.fromkeys(made)]
            makers.update((id(t), here) for t in node.output_tensors)
        return found

    def box(self, layer: Any, node: Any) -> Box:
        kind = layer.shown_class
        if isinstance(layer, OpLayer):
            kind = layer._op.name
        lines = [f"{layer.name} ({kind})" if self.names else kind]
        activation = getattr(layer, "activation", None)
        if self.activations and activation is not None:
            name = getattr(activation, "__name__", type(activation).__name__)
            lines.append(f"Activation: {name}")
        if node is not None:
            if self.shapes and node.input_tensors:
                lines.append(f"Input: {_shapes(node.input_tensors)}")
            if self.shapes:
                lines.append(f"Output: {_shapes(node.output_tensors)}")
            if self.dtype:
                found = dict.fromkeys(t.dtype for t in node.output_tensors)
                lines.append(f"Dtype: {', '.join(found)}")
        frozen = bool(layer.weights) and not layer.trainable_weights
        if self.trainable and layer.weights:
            lines.append("Not trained" if frozen else "Trained")
        inside = None
        if _kind(layer) == "model" and self.expand and layer._graph is not None:
            inside = self.drawing(layer)
        return Box(lines, _kind(layer), self.trainable and frozen, inside)


def _kind(layer: Any) -> str:
    from handmill.models.model import Model

    for kind, cls in (("input", InputLayer), ("operation", OpLayer | OpFunction), ("model", Model)):
        if isinstance(layer, cls):
            return kind
    return "layer"


def _shapes(tensors: Any) -> str:
    return ", ".join(str(t.shape) for t in tree.flatten(tensors))


def _shown(path: Path, suffix: str) -> Any:
    """What shows a picture in a notebook."""
    from handmill.callbacks.progbar import in_notebook

    if not in_notebook() or suffix in (".pdf", ".dot"):
        return None
    display = sys.modules["IPython"].display
    return display.SVG(filename=path) if suffix == ".svg" else display.Image(filename=path)
