"""Training that knows of the quantization behind it: weights and inputs are rounded all along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import quantizers
from handmill.errors import warn_caller
from handmill.layers.layer import all_layers
from handmill.layers.quantizable import all_inside, resolved_config
from handmill.models import calibration
from handmill.models.quantization import (
    INSIDE,
    QuantizationReport,
    choose_observer,
    chosen_layers,
    forget_programs,
    needs_model,
    outputs_of,
    refuse_unready,
)

_ALREADY = "already trained for it"
_AFTER_TRAINING = "quantized after training only"


@dataclass(frozen=True)
class QuantizationAwareness:
    """What :func:`quantize_aware` did.

    Attributes:
        mode: ``"int8"`` or ``"int4"``.
        simulated: the paths of the layers that now compute as they will when quantized.
        skipped: (path, reason) of the other layers with weights.
    """

    mode: str
    simulated: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        head = f"{self.mode}: {len(self.simulated)} layers simulate it, {len(self.skipped)} do not"
        rows = [f"  {path}" for path in self.simulated]
        return "\n".join([head, *rows, *(f"  {path}: {why}" for path, why in self.skipped)])


def quantize_aware(
    model: Any,
    mode: str | None = None,
    config: Any = None,
    filters: Any = None,
    momentum: float = 0.99,
    freeze_after: int | None = None,
) -> QuantizationAwareness:
    """Lets a model compute as it will once it is quantized, and be trained so.

    From now on each step, and each call, rounds weights, and for 8 bits inputs of layers, as
    :meth:`Model.quantize` will; the weights stay float32 and are trained. Gradients go through
    rounding as if it were not there, but not to numbers beyond their range (the straight-through
    estimator: Bengio et al. 2013, arXiv:1308.3432; Jacob et al., CVPR 2018). Train the model, then
    call ``model.quantize(mode)``: it makes the integers that training rounded to.

    Args:
        model: a built model; its weights stay as they are.
        mode: ``"int8"`` or ``"int4"``; default: that of ``config``.
        config: how it will be quantized. With an ``Int8StaticQuantizationConfig`` training finds
            the ranges of the inputs, convolutions included, as averages of the batches' ends that
            move; its ``calibration_data`` say where they begin, and may be left out.
        filters: which layers, as of :meth:`Model.quantize`; default: all that it covers.
        momentum: of the ranges of inputs: each batch moves them by ``1 - momentum`` of the way.
            Over several processes it is the mean of the shards' ends.
        freeze_after: after how many training steps the ranges stay, for the rest to be learned
            with fixed ones; 0: those of ``calibration_data`` stay from the start. None: never.

    Returns:
        A :class:`QuantizationAwareness`: the layers that simulate it, and the others with reasons.

    Raises:
        ValueError: if the model is not built, weights are not finite, no layer is left to
            simulate, one simulates something else, or an argument is out of range; nothing is
            changed then.
        RuntimeError: while the model is trained.
        TypeError: for what is no model.

    Example:
        >>> import handmill, numpy as np
        >>> layer = handmill.layers.Dense(4, name="out")
        >>> model = handmill.Sequential([handmill.Input((8,)), layer], name="net")
        >>> model.compile("adam", "mse")
        >>> print(handmill.compress.quantize_aware(model, "int4"))
        int4: 1 layers simulate it, 0 do not
          net/out
        >>> x = np.ones((32, 8), "float32")
        >>> history = model.fit(x, x[:, :4], verbose=0)
        >>> simulated = model.predict(x, verbose=0)
        >>> report = model.quantize("int4")
        >>> bool(np.allclose(model.predict(x, verbose=0), simulated))
        True
    """
    resolved = resolved_config(mode, config)
    aware = quantizers.QuantizeAwareConfig(resolved, momentum, freeze_after)
    refuse_unready(model, "made to simulate quantization")
    static = isinstance(resolved, quantizers.Int8StaticQuantizationConfig)
    data = getattr(resolved, "calibration_data", None)
    if not static and (momentum != 0.99 or freeze_after is not None):
        raise ValueError(
            "`momentum` and `freeze_after` are of ranges of inputs, which only "
            f"`Int8StaticQuantizationConfig` has. Received: {type(resolved).__name__}"
        )
    if freeze_after == 0 and data is None:
        raise ValueError(
            "`freeze_after=0` leaves ranges as `calibration_data` give them, but there are none: "
            "give `Int8StaticQuantizationConfig(calibration_data)`, or let training find them"
        )
    report = QuantizationReport(resolved.mode)
    chosen = list(chosen_layers(model, resolved, filters, True, report, {}))
    inner = {id(part) for layer in all_layers(model) for part in all_inside(layer)}
    new: list[Any] = []
    for layer in chosen:
        path, other = layer.path or layer.name, getattr(layer, "quantize_aware", None)
        if not hasattr(layer, "simulate"):
            report.skipped.append((path, _AFTER_TRAINING))
        elif id(layer) in inner:
            report.skipped.append((path, INSIDE))
        elif other is None:
            new.append(layer)
        elif other.get_config() == aware.get_config():
            report.skipped.append((path, _ALREADY))
        else:
            raise ValueError(
                f"layer {layer.name!r} simulates {other.get_config()}; call "
                "`compress.strip_quantize_aware(model)` before you choose another way, or leave "
                "the layer out by `filters`"
            )
    if not new:
        reasons = "; ".join(f"{path}: {why}" for path, why in report.skipped) or "no weights"
        raise ValueError(f"model {model.name!r} has no layer left to simulate: {reasons}")
    found = _calibrated(model, new, resolved) if data is not None else None
    for layer in new:
        layer.simulate(aware)
    if found is not None:
        _begin_with(model, new, *found)
    forget_programs(model)
    paths = tuple(layer.path or layer.name for layer in new)
    return QuantizationAwareness(resolved.mode, paths, tuple(report.skipped))


def strip_quantize_aware(model: Any) -> None:
    """Lets a model compute with its float weights again, without rounding.

    Files then hold nothing that Keras does not know.

    Args:
        model: a model.

    Raises:
        RuntimeError: while the model is trained.

    Example:
        >>> import handmill
        >>> model = handmill.Sequential([handmill.Input((8,)), handmill.layers.Dense(4)])
        >>> report = handmill.compress.quantize_aware(model, "int8")
        >>> handmill.compress.strip_quantize_aware(model)
        >>> "quantize_aware" in model.layers[0].get_config()
        False
    """
    refuse_unready(model, "stripped")
    layer: Any
    for layer in dict.fromkeys(all_layers(model)):
        if getattr(layer, "quantize_aware", None) is not None:
            layer.simulate(None)
    forget_programs(model)


def refuse_adapted(model: Any, verb: str) -> None:
    """Refuses models that simulate quantization or have LoRA, where layers would be made anew.

    Raises:
        TypeError: for what is no model.
        ValueError: if a layer does.
    """
    needs_model(model)
    every = dict.fromkeys(all_layers(model))
    names = [v.name for v in every if getattr(v, "quantize_aware", None) is not None]
    if names:
        raise ValueError(
            f"layers {names[:5]} of model {model.name!r} simulate quantization: {verb} the float "
            "model before `compress.quantize_aware`, or call `compress.strip_quantize_aware(model)`"
        )
    names = [v.name for v in every if getattr(v, "lora_enabled", False)]
    if names:
        raise ValueError(
            f"layers {names[:5]} of model {model.name!r} are adapted by LoRA: {verb} the model "
            "before `enable_lora`"
        )


def _calibrated(model: Any, layers: Any, config: Any) -> tuple[dict[str, Any], Any, Any]:
    """What each observer makes of the inputs, and what the float model says of rows kept apart."""
    watched = [layer for layer in layers if layer._has_inputs]
    by_observer, held = calibration.formats(model, watched, config)
    want = [outputs_of(model, batch) for batch in held] if len(by_observer) > 1 else []
    return by_observer, held, want


def _begin_with(model: Any, layers: Any, by_observer: Any, held: Any, want: Any) -> None:
    """Lets ranges begin where those of the best observer are."""

    def use(layer: Any, found: calibration.Format) -> None:
        low, high = -found.zero * found.step, (255 - found.zero) * found.step
        bounds, seen = layer.ranges()
        bounds.assign(np.array([low, high], np.float32))
        seen.assign(np.int32(0))

    choose_observer(model, by_observer, held, want, use)
    reached = next(iter(by_observer.values()))
    missing = [layer.name for layer in layers if layer.ranges() and layer not in reached]
    if missing:
        warn_caller(
            f"calibration: {missing[:5]} were not reached by the data; their ranges begin with the "
            "first batch of the training",
            UserWarning,
        )
