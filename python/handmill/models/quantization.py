"""Whole models whose weights become integers, and what was and was not quantized."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handmill import quantizers, tree
from handmill.console import say
from handmill.errors import warn_caller
from handmill.ir.op import Array
from handmill.layers.layer import all_layers
from handmill.layers.quantizable import all_inside, is_selected, resolved_config
from handmill.models import calibration
from handmill.optimizers.narrowing import of_what_is_left, take_state


@dataclass
class QuantizationReport:
    """What :meth:`Model.quantize` did with each layer that has weights.

    Attributes:
        mode: ``"int8"`` or ``"int4"``.
        quantized: path, mode and scheme of each layer that was quantized.
        skipped: path and reason of each other one.
        errors: path and message of layers that could not be quantized; such a call raises.
        bytes_before: of all weights, before.
        bytes_after: of all weights, now.
    """

    mode: str
    quantized: list[tuple[str, str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0

    def summary_warning(self) -> str | None:
        """A sentence on layers that stayed as they were because they cannot be quantized."""
        left = [path for path, reason in self.skipped if reason.startswith(NO_SUPPORT)]
        if not left:
            return None
        shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        return f"{len(left)} layers keep float weights, as {self.mode} does not cover them: {shown}"

    def render(self) -> str:
        """The report as text."""
        lines = [
            f"{self.mode}: {len(self.quantized)} layers quantized, {len(self.skipped)} skipped, "
            f"weights {self.bytes_before:,} -> {self.bytes_after:,} bytes"
        ]
        lines += [f"  {path}: {mode}, {scheme}" for path, mode, scheme in self.quantized]
        lines += [f"  {path}: {reason}" for path, reason in self.skipped]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


NO_SUPPORT = "no quantize support"
FILTERED = "filtered out"
ALREADY = "already quantized"


def quantize(
    model: Any, mode: Any, config: Any, filters: Any, verbose: Any, type_check: bool
) -> QuantizationReport:
    """Quantizes the layers of a model in place; see :meth:`Model.quantize`."""
    resolved = resolved_config(mode, config)
    if model.__dict__.get("_fitting"):
        raise RuntimeError(
            f"model {model.name!r} cannot be quantized while it is trained: its optimizer holds "
            "the weights that would go. Quantize it after `fit`."
        )
    if not model.built:
        raise ValueError(
            f"Cannot quantize a model that isn't yet built: {model.name!r}. Call it on data, or "
            "give it an Input, before."
        )
    report = QuantizationReport(resolved.mode, bytes_before=weight_bytes(model))
    chosen = _chosen(model, resolved, filters, type_check, report)
    if isinstance(resolved, quantizers.Int8StaticQuantizationConfig):
        _quantize_by_data(model, chosen, resolved, report)
    else:
        for layer, values in chosen.items():
            layer.quantize_to(resolved, values)
            report.quantized.append((layer.path or layer.name, resolved.mode, _scheme(resolved)))
    if report.quantized:
        forget(model)
    report.bytes_after = weight_bytes(model)
    if verbose:
        say(report.render())
    elif (warning := report.summary_warning()) is not None:
        warn_caller(warning, UserWarning)
    return report


def _quantize_by_data(
    model: Any, chosen: dict[Any, dict[str, Array]], config: Any, report: QuantizationReport
) -> None:
    """Quantizes with steps of inputs that calibration decides."""
    watched = [layer for layer in chosen if layer._has_inputs]
    by_observer, held = calibration.formats(model, watched, config)
    want = [_outputs(model, batch) for batch in held] if len(by_observer) > 1 else []
    observer = next(iter(by_observer))
    reached = by_observer[observer]
    for layer in watched:
        if layer not in reached:
            report.skipped.append((layer.path or layer.name, "not reached by the data"))
            del chosen[layer]
    for layer, values in chosen.items():
        layer.quantize_to(config, values)

    def use(observer: str) -> float:
        layer: Any
        for layer, found in by_observer[observer].items():
            layer.inputs_scale.assign(found.step)
            layer.inputs_zero.assign(found.zero)
        pairs = zip(held, want, strict=False)
        return sum(float(np.square(_outputs(model, x) - y).sum()) for x, y in pairs)

    errors = {observer: use(observer) for observer in by_observer}
    observer = min(errors, key=errors.__getitem__)
    use(observer)
    for layer in chosen:
        inputs = f"inputs by calibration ({observer})" if layer in reached else "looked up"
        scheme = f"weights of 8 bits, one scale an output; {inputs}"
        report.quantized.append((layer.path or layer.name, config.mode, scheme))


def _outputs(model: Any, batch: Any) -> Array:
    found = tree.flatten(model(batch, training=False))
    return np.concatenate([np.asarray(y, np.float32).ravel() for y in found])


def _chosen(
    model: Any, config: Any, filters: Any, type_check: bool, report: QuantizationReport
) -> dict[Any, dict[str, Array]]:
    """The layers to quantize and their integers: each is checked before the first is changed."""
    chosen: dict[Any, dict[str, Array]] = {}
    inner = {id(part) for layer in all_layers(model) for part in all_inside(layer)}
    for layer in dict.fromkeys(all_layers(model)):
        if layer is model or any(True for _ in layer._flatten_layers()) or not layer.weights:
            continue
        path = layer.path or layer.name
        if layer.quantization_mode is not None:
            report.skipped.append((path, ALREADY))
        elif not is_selected(layer, filters):
            report.skipped.append((path, FILTERED))
        elif not hasattr(layer, "_check_quantizable"):
            report.skipped.append((path, NO_SUPPORT))
        elif id(layer) in inner and not _is_default(config):
            report.skipped.append((path, "inside another layer, where files hold no config"))
        else:
            try:
                chosen[layer] = layer._check_quantizable(config, type_check)
            except NotImplementedError as error:
                report.skipped.append((path, f"{NO_SUPPORT}: {error}"))
    return chosen


def _is_default(config: Any) -> bool:
    """Whether the mode alone says how layers compute."""
    if config.mode == "int4":
        return config.weight_quantizer is None
    same = quantizers.Int8QuantizationConfig().get_config()
    return type(config) is quantizers.Int8QuantizationConfig and config.get_config() == same


def _scheme(config: Any) -> str:
    rows = "rows at run time" if config.activation_quantizer is not None else "float inputs"
    if config.mode == "int4":
        block = config.block_size
        weights = "one scale an output" if block in (None, -1) else f"groups of {block} inputs"
        return f"weights of 4 bits, {weights}; {rows}"
    return f"weights of 8 bits, one scale an output; {rows}"


def weight_bytes(model: Any) -> int:
    """The bytes of all weights of a model."""
    return sum(int(v.numpy().nbytes) for v in model.weights)


def forget(model: Any) -> None:
    """Drops the compiled steps of a model, and what its optimizer keeps of weights that are gone.

    A compiled model is compiled again, with an optimizer of the same class and settings, which goes
    on where the former one was: its iterations, its learning rate, its slots of what is left.
    """
    model.train_function = model.test_function = model.predict_function = None
    optimizer, arguments = getattr(model, "optimizer", None), model._compile_arguments
    if optimizer is None or not optimizer.built or arguments is None:
        return
    left = model.trainable_variables
    model.compile(**{**arguments, "optimizer": of_what_is_left(optimizer, left)})
    if left:
        model.optimizer.build(left)
        take_state(model.optimizer, optimizer)
