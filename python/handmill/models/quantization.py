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
from handmill.models.trainer import Trainer
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
        kept = "1 layer keeps" if len(left) == 1 else f"{len(left)} layers keep"
        return f"{kept} float weights, which {self.mode} does not cover: {shown}"

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
VECTORS = "one number for each feature, such as normalizations have: not worth bytes"
FILTERED = "filtered out"
ALREADY = "already quantized"
INSIDE = "inside another layer, where files hold no config"
UNTRAINED = "left out, as it was not trained for it; a second `quantize` takes it too"


def quantize(
    model: Any, mode: Any, config: Any, filters: Any, verbose: Any, type_check: bool
) -> QuantizationReport:
    """Quantizes the layers of a model in place; see :meth:`Model.quantize`."""
    resolved = resolved_config(mode, config)
    refuse_unready(model, "quantized")
    report = QuantizationReport(resolved.mode, bytes_before=weight_bytes(model))
    exact = resolved if isinstance(config, quantizers.QuantizationConfig) else None
    configs = trained_configs(model, resolved.mode, exact)
    if configs and filters is None:
        filters, untrained = configs.__contains__, UNTRAINED
    else:
        untrained = FILTERED
    chosen = chosen_layers(model, resolved, filters, type_check, report, configs, untrained)
    static = {
        layer: values
        for layer, values in chosen.items()
        if isinstance(configs.get(layer, resolved), quantizers.Int8StaticQuantizationConfig)
    }
    if static:
        _quantize_by_data(model, static, resolved, configs, report)
    for layer, values in chosen.items():
        if layer not in static:
            own = configs.get(layer, resolved)
            layer.quantize_to(own, values)
            report.quantized.append((layer.path or layer.name, own.mode, _scheme(own)))
    if report.quantized:
        forget(model)
    report.bytes_after = weight_bytes(model)
    if verbose:
        say(report.render())
    elif (warning := report.summary_warning()) is not None:
        warn_caller(warning, UserWarning)
    return report


def refuse_unready(model: Any, verb: str) -> None:
    """Refuses models that are not built, or are trained at the moment.

    Raises:
        RuntimeError: while ``fit`` runs.
        TypeError: for what is no model.
        ValueError: if it is not built.
    """
    needs_model(model)
    if model.__dict__.get("_fitting"):
        raise RuntimeError(
            f"model {model.name!r} cannot be {verb} while it is trained: its steps hold the "
            f"weights as they are. Have it {verb} before or after `fit`."
        )
    if not model.built:
        raise ValueError(
            f"Cannot quantize a model that isn't yet built: {model.name!r}. Call it on data, or "
            "give it an Input, before."
        )


def needs_model(model: Any) -> None:
    """Raises a TypeError for what is no model."""
    if not isinstance(model, Trainer):
        raise TypeError(f"a model is needed. Received: {model!r:.100} ({type(model).__name__})")


def trained_configs(model: Any, mode: str, config: Any) -> dict[Any, Any]:
    """How the layers that were trained for it will be quantized.

    Args:
        model: a model.
        mode: the mode that is asked for.
        config: the configuration that is asked for; None: any of that mode.

    Raises:
        ValueError: if a layer was trained for another one.
    """
    found = {}
    for layer in dict.fromkeys(all_layers(model)):
        aware = getattr(layer, "quantize_aware", None)
        if aware is None:
            continue
        if aware.mode != mode or (config is not None and not _same(config, aware.config)):
            asked = mode if config is None else _described(config)
            raise ValueError(
                f"layer {layer.name!r} was trained for {_described(aware.config)}, and cannot be "
                f"quantized to {asked}: `model.quantize({aware.mode!r})` takes what was trained; "
                "`compress.strip_quantize_aware(model)` makes it an ordinary float model."
            )
        found[layer] = aware.config
    return found


def _same(a: Any, b: Any) -> bool:
    """Whether two configurations make the same integers, if ranges of inputs are the same."""
    return type(a) is type(b) and _described(a) == _described(b)


def _described(config: Any) -> str:
    own = {k: v for k, v in config.get_config().items() if k not in ("observer", "num_samples")}
    words = [
        f"{name}={value['config'] if isinstance(value, dict) else value}"
        for name, value in own.items()
        if value is not None
    ]
    return f"{type(config).__name__}({', '.join(words)})"


def _quantize_by_data(
    model: Any,
    chosen: dict[Any, dict[str, Array]],
    config: Any,
    configs: dict[Any, Any],
    report: QuantizationReport,
) -> None:
    """Quantizes with steps of inputs that training found, or that calibration decides."""
    trained = {v: _trained_format(v) for v in chosen if v in configs and v.ranges()}
    watched = [layer for layer in chosen if layer._has_inputs and layer not in trained]
    by_observer: dict[str, Any] = {"": {}}
    held: list[Any] = []
    if watched:
        by_observer, held = calibration.formats(model, watched, config)
    elif trained and getattr(config, "calibration_data", None) is not None:
        raise ValueError(
            "`calibration_data` was given, but training found the ranges of all inputs. Leave it "
            "out; or give it to `compress.quantize_aware`, where training begins."
        )
    want = [outputs_of(model, batch) for batch in held] if len(by_observer) > 1 else []
    reached = next(iter(by_observer.values()))
    for layer in watched:
        if layer not in reached:
            report.skipped.append((layer.path or layer.name, "not reached by the data"))
            del chosen[layer]
    for layer, values in chosen.items():
        layer.quantize_to(configs.get(layer, config), values)

    def use(layer: Any, found: Any) -> None:
        layer.inputs_scale.assign(found.step)
        layer.inputs_zero.assign(found.zero)

    for layer, found in trained.items():
        use(layer, found)
    observer = choose_observer(model, by_observer, held, want, use)
    for layer in chosen:
        inputs = f"inputs by calibration ({observer})" if layer in reached else "looked up"
        if layer in trained:
            inputs = "inputs by training"
        scheme = f"weights of 8 bits, one scale an output; {inputs}"
        report.quantized.append((layer.path or layer.name, "int8", scheme))


def choose_observer(model: Any, by_observer: dict[str, Any], held: Any, want: Any, use: Any) -> str:
    """Uses the formats of that observer whose outputs are nearest to what is wanted."""

    def error(observer: str) -> float:
        for layer, found in by_observer[observer].items():
            use(layer, found)
        pairs = zip(held, want, strict=False)
        return sum(float(np.square(outputs_of(model, x) - y).sum()) for x, y in pairs)

    errors = {observer: error(observer) for observer in by_observer}
    observer = min(errors, key=errors.__getitem__)
    error(observer)
    return observer


def _trained_format(layer: Any) -> calibration.Format:
    """The format of inputs whose range training found.

    Raises:
        ValueError: if there is none, or it is not finite.
    """
    bounds, seen = (np.asarray(v.numpy()) for v in layer.ranges())
    if seen < 0:
        raise ValueError(
            f"layer {layer.name!r} has seen no inputs yet: train the model, which finds their "
            "range, or give `calibration_data` to `compress.quantize_aware`"
        )
    low, high = (float(v) for v in bounds)
    if not (np.isfinite(bounds).all() and low <= high):
        raise ValueError(
            f"the inputs of layer {layer.name!r} have the range [{low}, {high}]; two finite "
            "numbers in order were expected. Train on from weights that were saved before."
        )
    if low == high:
        warn_caller(
            f"the inputs of layer {layer.name!r} were {low} in all steps of the training: such a "
            "range says little about other data",
            UserWarning,
        )
    return calibration.format_of(low, high)


def outputs_of(model: Any, batch: Any) -> Array:
    """What a model says of a batch, as one row of numbers."""
    found = tree.flatten(model(batch, training=False))
    return np.concatenate([np.asarray(y, np.float32).ravel() for y in found])


def chosen_layers(
    model: Any,
    config: Any,
    filters: Any,
    type_check: bool,
    report: QuantizationReport,
    configs: dict[Any, Any],
    left_out: str = FILTERED,
) -> dict[Any, dict[str, Array]]:
    """The layers to quantize and their integers: each is checked before the first is changed.

    Args:
        model: a built model.
        config: how.
        filters: which.
        type_check: whether subclasses are refused.
        report: notes the others, with reasons.
        configs: how layers are quantized for which ``config`` does not count.
        left_out: the reason for those that ``filters`` do not choose.
    """
    chosen: dict[Any, dict[str, Array]] = {}
    inner = {id(part) for layer in all_layers(model) for part in all_inside(layer)}
    for layer in dict.fromkeys(all_layers(model)):
        if layer is model or any(True for _ in layer._flatten_layers()) or not layer.weights:
            continue
        path, own = layer.path or layer.name, configs.get(layer, config)
        if layer.quantization_mode is not None:
            policy = layer.dtype_policy.of_path(layer.path).name
            report.skipped.append((path, f"{ALREADY}: {policy}"))
        elif not is_selected(layer, filters):
            report.skipped.append((path, left_out))
        elif not hasattr(layer, "_check_quantizable"):
            has_matrix = any(len(v.shape) > 1 for v in layer._own_variables())
            report.skipped.append((path, NO_SUPPORT if has_matrix else VECTORS))
        elif id(layer) in inner and not _is_default(own):
            report.skipped.append((path, INSIDE))
        else:
            try:
                chosen[layer] = layer._check_quantizable(own, type_check)
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


def forget_programs(model: Any) -> None:
    """Drops the compiled steps of a model."""
    model.train_function = model.test_function = model.predict_function = None


def forget(model: Any) -> None:
    """Drops the compiled steps of a model, and what its optimizer keeps of weights that are gone.

    A compiled model is compiled again, with an optimizer of the same class and settings, which goes
    on where the former one was: its iterations, its learning rate, its slots of what is left.
    """
    forget_programs(model)
    optimizer, arguments = getattr(model, "optimizer", None), model._compile_arguments
    if optimizer is None or not optimizer.built or arguments is None:
        return
    left = model.trainable_variables
    # What this method was given, not what an override of it (of a Distiller, say) takes.
    Trainer.compile(model, **{**arguments, "optimizer": of_what_is_left(optimizer, left)})
    if left:
        model.optimizer.build(left)
        take_state(model.optimizer, optimizer)
