"""``load_onnx``: an ONNX file as a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from handmill.errors import FaultyRuleWarning, FileFormatError, warn_caller
from handmill.exchange.from_onnx import (  # noqa: F401  (fill RULES)
    classical,
    elementwise,
    flow,
    losses,
    movement,
    products,
    resizing,
    sequences,
)
from handmill.exchange.from_onnx.execution import MOST_ELEMENTS, RULES, run
from handmill.exchange.from_onnx.external import reader_of
from handmill.exchange.from_onnx.layer import OnnxGraph
from handmill.exchange.from_onnx.layered import NoLayersError, layered
from handmill.exchange.from_onnx.program import Fetch, Program, program_of, without_unread
from handmill.exchange.from_onnx.simplify import simplified
from handmill.files import read_regular
from handmill.ir.shapes import DTYPES
from handmill.layers.core.input_layer import Input
from handmill.models import Model


def load_onnx(filepath: Any, *, external_data: bool = False, name: str | None = None) -> Any:
    """Reads an ONNX file as a model that predicts, can be trained further, and saved.

    Products, convolutions, recurrences, pools, normalizations, activations and what goes with them
    become the layers that they are, with the weights of the file, so that the model is frozen,
    quantized, pruned and shrunk as any other; a normalization of batches learns on when it is
    trained. What no layer computes are graphs of operators between them (``OnnxGraph``), with
    weights of their own; so is the whole of a model whose matrices are used in several places. All
    floats of a file are weights, but single ones that only multiply, divide or bound. Loops and
    branches whose number of steps and conditions are known are resolved; others run inside the
    program. Images are taken as the file says, channels behind the batch. Nothing of the file is
    executed; what it may hold is limited, and operators that are not known are all named at once.

    Args:
        filepath: the file. Operators of versions 7 to 28 are read.
        external_data: whether weights may lie in other files, beside this one.
        name: of the model; default: what the file is called.

    Returns:
        A functional :class:`handmill.Model` whose inputs are the file's. Sizes that the file leaves
        open may differ from call to call.

    Raises:
        handmill.errors.FileFormatError: if the file is damaged or breaks a limit.
        ValueError: if it uses what is not known, or numbers that only a call gives decide sizes.

    Warns:
        handmill.errors.FaultyRuleWarning: if a layer should have been made of an operator and was
            not, through an error of handmill; the model is right.

    Example:
        >>> import os, tempfile
        >>> import numpy as np
        >>> import handmill as keras
        >>> from handmill.exchange import load_onnx
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.onnx")
        >>> model.export(path, format="onnx")
        >>> again = load_onnx(path)
        >>> x = np.ones((3, 4), "float32")
        >>> bool(np.allclose(again.predict(x, verbose=0), model.predict(x, verbose=0)))
        True

    Source: the operators as https://onnx.ai/onnx/operators describes them.
    """
    path = Path(filepath)
    fetch = reader_of(path.parent) if external_data else None
    return model_of(read_regular(path), str(path), name or path.stem, fetch)


def model_of(data: Any, what: str, name: str | None, fetch: Fetch | None = None) -> Any:
    """Returns the model that the bytes of a file say; see :func:`load_onnx`."""
    program = simplified(without_unread(program_of(data, what, RULES, fetch)), what)
    inputs = []
    for port in program.inputs:
        if port.shape is None:
            raise ValueError(f"{what}: the input {port.name!r} has no shape")
        if port.dtype not in DTYPES:
            raise ValueError(f"{what}: the input {port.name!r} is {port.dtype}, which is not read")
        if math.prod(size for size in port.shape if size is not None) > MOST_ELEMENTS:
            raise ValueError(f"{what}: the input {port.name!r} of shape {port.shape} is too large")
        batch = port.shape[0] if port.shape else None
        shape = tuple(port.shape[1:])
        inputs.append(Input(shape=shape, batch_size=batch, dtype=port.dtype, name=port.name))
    if not inputs:
        raise ValueError(f"{what} has no inputs: it is a constant")
    if not program.outputs:
        raise FileFormatError(f"{what} has no outputs: its graph names none")

    def whole(why: str) -> Any:
        return _model(inputs, OnnxGraph(program, what, why=why)(inputs), name)

    try:
        outputs, faults = layered(program, inputs, what)
        found = _model(inputs, outputs, name)
    except NoLayersError as error:
        return whole(str(error))
    except Exception as error:
        found = whole(str(error))  # where the file is at fault, this says so
        faults = [f"the file as a whole: {error!r}"]
    if faults:
        warn_caller(
            f"{what}: layers could not be made of operators that can be computed, which are now "
            f"graphs of operators; the model is right, this is an error of handmill: "
            + "; ".join(faults),
            FaultyRuleWarning,
        )
    return found


def _model(inputs: list[Any], outputs: list[Any], name: str | None) -> Any:
    return Model(
        inputs if len(inputs) > 1 else inputs[0],
        outputs if len(outputs) > 1 else outputs[0],
        name=name,
    )


def evaluate(program: Program, arrays: Any, what: str = "the graph") -> list[Any]:
    """Computes a program's outputs of arrays at once, without a model; sizes may depend on them.

    Args:
        program: the program.
        arrays: one for each of its inputs.
        what: names it in errors.
    """
    given = {port.name: array for port, array in zip(program.inputs, arrays, strict=False)}
    return run(program, {**program.numbers, **given}, what, evaluating=True)
