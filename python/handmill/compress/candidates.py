"""What can be made of a model to be smaller or faster: each a copy, with the call that makes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from handmill.compress.clustering import cluster
from handmill.compress.factorizing import factorize_report
from handmill.compress.pruning import prune
from handmill.compress.rebuilding import cloned
from handmill.compress.shrinking import shrink


class Candidate(NamedTuple):
    """A way to make a model smaller.

    Attributes:
        name: short.
        call: the code that makes it of ``model``.
        make: makes it; a ValueError says why it cannot be.
        trains: whether it needs to be trained on to be judged.
    """

    name: str
    call: str
    make: Callable[[Any], Any]
    trains: bool = False


def candidates() -> Iterator[Candidate]:
    """The ways that there are, the cheapest to try first."""
    yield Candidate("bfloat16", 'copy with dtype="mixed_bfloat16"', _bfloat16)
    for mode in ("int8", "int4"):
        yield Candidate(mode, f'model.quantize("{mode}")', partial(_quantized, mode=mode))
    for percent in (25, 50, 75):
        yield Candidate(
            f"shrink {percent} %",
            f"compress.shrink(model, {percent / 100:g})",
            partial(shrink, ratio=percent / 100),
            True,
        )
    for energy in (0.99, 0.9):
        yield Candidate(
            f"low rank {energy:.0%}",
            f"compress.factorize(model, energy={energy:g})",
            partial(_factorized, energy=energy),
            True,
        )
    yield Candidate(
        "blocks 75 %", 'compress.prune(model, 0.75, "block")', lambda m: _pruned(m, "block"), True
    )
    yield Candidate("16 numbers", "compress.cluster(model, 16)", _clustered)


def copied(model: Any, change: Callable[[dict[str, Any]], None] | None = None) -> Any:
    """A copy with the same weights and optimizer, whose layers' arguments may be changed."""

    def anew(layer: Any) -> Any:
        config = json.loads(json.dumps(layer.get_config()))
        if change is not None:
            change(config)
        made = type(layer).from_config(config)
        if hasattr(layer, "get_vocabulary"):
            made.build_from_config(json.loads(json.dumps(layer.get_build_config())) or {})
        return made

    made = cloned(model, anew)
    for new, old in zip(made.weights, model.weights, strict=True):
        new.assign(old.numpy())
    optimizer = getattr(model, "optimizer", None)
    if made.compiled and optimizer is not None and optimizer.built:
        if not made.optimizer.built:
            made.optimizer.build(made.trainable_variables)
        for new, old in zip(made.optimizer.variables, optimizer.variables, strict=True):
            new.assign(old.numpy())
    return made


def _bfloat16(model: Any) -> Any:
    def change(config: dict[str, Any]) -> None:
        if "dtype" in config:
            config["dtype"] = "mixed_bfloat16"

    return copied(model, change)


def _quantized(model: Any, mode: str) -> Any:
    made = copied(model)
    made.quantize(mode)
    return made


def _factorized(model: Any, energy: float) -> Any:
    report = factorize_report(model, energy=energy)
    if all(why for *_, why in report.rows):
        raise ValueError("; ".join(f"{name} {why}" for name, _, _, why in report.rows))
    return report.model


def _pruned(model: Any, granularity: str) -> Any:
    made = copied(model)
    prune(made, 0.75, granularity)
    return made


def _clustered(model: Any) -> Any:
    made = copied(model)
    cluster(made, 16)
    return made
