"""Whether onnxruntime computes from a file what the model computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import tree
from handmill.errors import warn_caller
from handmill.exchange.inference_graph import signature_of
from handmill.ir.dims import is_symbolic_dim

_ROWS = (3, 1)
_SIZE = 8
"""What stands for sizes that a call decides."""
_TOLERANCE = 1e-4
EXACT_SUMS = "session.x64quantprecision"
"""The setting of onnxruntime that has CPUs without VNNI multiply bytes exactly.

There it adds two products of uint8 and int8 in 16 bits by default, which saturate: a convolution is
off by a tenth of its largest entry (microsoft/onnxruntime#6004, #14642). Elsewhere it does nothing.
"""


def check_against_runtime(
    model: Any, content: bytes, input_signature: Any, inputs_as_nchw: bool
) -> None:
    """Runs onnxruntime and the model on random rows.

    Args:
        model: the model.
        content: what the file will hold.
        input_signature: as ``export`` got it.
        inputs_as_nchw: as ``export`` got it.

    Raises:
        ImportError: if onnxruntime is not installed.
        ValueError: if outputs differ by more than 1e-4 of the largest, also with exact sums of
            bytes and operator by operator; where only those make them equal, there is a warning
            that says so.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("export(verify=True) needs onnxruntime: pip install onnxruntime") from (
            error
        )

    def apart(exact: bool = False, joined: bool = True) -> str | None:
        options = onnxruntime.SessionOptions()
        if exact:
            options.add_session_config_entry(EXACT_SUMS, "1")
        if not joined:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        runtime = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return _difference(model, runtime, input_signature, inputs_as_nchw)

    found = apart()
    if found is None:
        return
    if apart(exact=True) is None:
        warn_caller(
            "This CPU has no VNNI, so onnxruntime's products of bytes saturate by default and its "
            f"numbers are not the model's ({found}). The file is right: set "
            f"options.add_session_config_entry({EXACT_SUMS!r}, '1') in sessions on such CPUs."
        )
        return
    if apart(joined=False) is None:
        warn_caller(
            "Operator by operator onnxruntime computes what the model computes. Where it joins "
            "products of bytes with the rounding behind them, it rounds some bytes to the next "
            f"one, or saturates ({found}; with {EXACT_SUMS!r} set to '1': {apart(exact=True)}). "
            "The file is right; compare the accuracy of the session that you will use."
        )
        return
    raise ValueError(
        f"onnxruntime computes another result than the model: {found}; nothing was written"
    )


def _difference(model: Any, session: Any, input_signature: Any, inputs_as_nchw: bool) -> str | None:
    """What of a session's results on random rows is not the model's, or None."""
    structure, specs, _ = signature_of(model, input_signature)
    rng = np.random.default_rng(0)
    for rows in _ROWS:
        given = []
        for spec in specs:
            sizes = [_SIZE if is_symbolic_dim(size) else int(size) for size in spec.shape[1:]]
            shape = (rows, *sizes)
            drawn = rng.random(shape) if spec.is_float else rng.integers(0, 2, shape)
            given.append(drawn.astype(spec.dtype))
        turned = [
            np.moveaxis(x, -1, 1) if inputs_as_nchw and 3 <= x.ndim <= 5 and x.dtype.kind == "f"
            else x
            for x in given
        ]  # fmt: skip
        feed = {i.name: x for i, x in zip(session.get_inputs(), turned, strict=True)}
        found = session.run(None, feed)
        wanted = tree.flatten(model(tree.pack_sequence_as(structure, given), training=False))
        for info, a, b in zip(session.get_outputs(), found, wanted, strict=True):
            largest = float(np.max(np.abs(b), initial=0.0))
            apart = float(np.max(np.abs(a - np.asarray(b)), initial=0.0))
            if not apart <= _TOLERANCE * max(largest, 1e-30):
                return (
                    f"the largest difference in {info.name!r} is {apart:.3g}, the largest entry "
                    f"{largest:.3g}"
                )
    return None
