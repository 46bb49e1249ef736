#!/usr/bin/env python3
"""Write docs/supported.md: which public names of Keras handmill has, and with what arguments.

    python tools/make_supported.py [--check]

The names come from handmill's own exports, held against the list in handmill/keras_names.py.
Arguments are compared where Keras is installed; without it that part of the page stays as it is.
--check writes nothing and exits 1 if the page is not current.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "supported.md"
ARGUMENTS = "## Arguments\n"

OWN_ROOMS = (
    "audio",
    "compress",
    "exchange",
    "explanation",
    "hub",
    "hub.layers",
    "hub.models",
    "hub.preprocessing",
    "hub.samplers",
    "hub.tokenizers",
    "selfsup",
    "serving",
    "strategy",
)
"""Modules that Keras lacks."""

OWN = {
    "": (
        "check_data compare diagnose explain inspect install_as_keras train_many try_all tune "
        "use_backend TrainingWarning "
        "KerasDifferenceWarning"
    ),
    "applications": "ResNet18 ResNet34 resnet18",
    "callbacks": "HealthMonitor Lookahead Prune",
    "config": (
        "available_isas has_kernels image_decoder isa num_threads set_image_decoder set_isa "
        "set_num_threads set_strict_keras strict_keras"
    ),
    "datasets": "digits",
    "distribution": "DisagreementError RankLostError rank step_cost",
    "initializers": "Dirac",
    "layers": (
        "ModalityDropout RandomGain RandomNoise RandomShift SpecAugment "
        "recurrent_weights_from_torch"
    ),
    "models": "predict_views",
    "optimizers.schedules": "OneCycle PiecewiseLinear",
    "plot": (
        "activation_maps augmentations comparison confusion_matrix filters gradient_histograms "
        "history images learning_curve misclassified precision_recall_curve roc_curve "
        "weight_histograms"
    ),
    "quantizers": "Int8StaticQuantizationConfig QuantizeAwareConfig",
    "preprocessing.image": (
        "DataFrameIterator DirectoryIterator ImageDataGenerator Iterator NumpyArrayIterator"
    ),
    **{room: " ".join(dir(importlib.import_module(f"handmill.{room}"))) for room in OWN_ROOMS},
}
"""Public names that Keras 3 lacks: module -> names."""

OUT_OF_SCOPE = {
    "": {
        "StatelessScope SymbolicScope": (
            "parts of Keras's own machinery; `stateless_call`, `stateless_apply` and the "
            "`stateless_*` of metrics do what they are for"
        ),
        "RematScope remat": "computing activations again saves memory of accelerators",
    },
    "callbacks": {"OrbaxCheckpoint": "files of JAX's Orbax"},
    "distribution": {
        "LayoutMap ModelParallel distribute_tensor": "models that are cut over devices",
    },
    "layers": {
        "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper": "layers of other frameworks",
    },
}
"""Names of Keras that will not come: module -> names -> reason."""


@dataclass(frozen=True)
class Difference:
    """How the arguments of one name differ from Keras's.

    Attributes:
        name: such as ``"layers.Dense"``.
        lacking: Keras's arguments that handmill lacks.
        extra: handmill's arguments that Keras lacks.
        defaults: ``argument=ours (Keras: theirs)``.
        order: whether the arguments in common stand in another order.
    """

    name: str
    lacking: tuple[str, ...]
    extra: tuple[str, ...]
    defaults: tuple[str, ...]
    order: bool

    def __bool__(self) -> bool:
        return bool(self.lacking or self.extra or self.defaults or self.order)


def module_of(name: str, root: str = "handmill") -> ModuleType | None:
    """The public module, None if there is none."""
    try:
        return importlib.import_module(f"{root}.{name}" if name else root)
    except ModuleNotFoundError:
        return None


def public_names() -> dict[str, tuple[list[str], list[str]]]:
    """Module -> (names of Keras that are here, names that are not)."""
    from handmill.keras_names import KERAS_NAMES

    found = {}
    for module, names in KERAS_NAMES.items():
        place = module_of(module)
        # A name that needs another library is here without it, too.
        listed = dir(place) if place is not None else []
        here = [n for n in names.split() if n in listed or hasattr(place, n)]
        found[module] = here, [n for n in names.split() if n not in here]
    return found


def keras() -> ModuleType | None:
    """Keras, where it is installed."""
    if importlib.util.find_spec("keras") is None:
        return None
    os.environ.setdefault("KERAS_BACKEND", "jax" if importlib.util.find_spec("jax") else "numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("keras")


def differences() -> list[Difference]:
    """The names whose arguments differ from Keras's."""
    if keras() is None:
        raise ModuleNotFoundError("comparing arguments needs keras")
    found = []
    for module, (here, _) in public_names().items():
        ours, theirs = module_of(module), module_of(module, "keras")
        for name in here:
            mine, other = getattr(ours, name), getattr(theirs, name, None)
            if callable(mine) and callable(other):
                found.append(compare(f"{module}.{name}".lstrip("."), mine, other))
    return [difference for difference in found if difference]


def compare(name: str, mine: Any, other: Any) -> Difference:
    """Holds two signatures against each other."""
    ours, theirs = arguments(mine), arguments(other)
    common = [n for n in ours if n in theirs]
    return Difference(
        name,
        # What Keras collects in **kwargs of its base classes is named in ours, and the reverse.
        tuple(n for n in theirs if n not in ours and n not in accepted_by_kwargs(mine)),
        tuple(n for n in ours if n not in theirs and n not in accepted_by_kwargs(other)),
        tuple(
            f"{n}={ours[n]!r} (Keras: {theirs[n]!r})"
            for n in common
            if not same_default(ours[n], theirs[n])
        ),
        common != [n for n in theirs if n in common],
    )


def arguments(function: Any) -> dict[str, Any]:
    """Argument -> default, without *args and **kwargs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p.default for p in parameters if p.kind not in variable}


def accepted_by_kwargs(function: Any) -> set[str]:
    """The arguments that a class passes on to its bases with **kwargs."""
    names: set[str] = set()
    if inspect.isclass(function):
        for base in function.__mro__:
            if "__init__" in vars(base) and base is not object:
                parameters = inspect.signature(base.__init__).parameters.values()
                names.update(p.name for p in parameters)
                if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
                    break
    return names


def same_default(ours: Any, theirs: Any) -> bool:
    """Whether two defaults mean the same; one number for all axes is a tuple of it."""
    if type(ours) is int and isinstance(theirs, tuple):
        return all(same_default(ours, part) for part in theirs)
    if inspect.isclass(ours) or callable(ours):
        return getattr(ours, "__name__", 1) == getattr(theirs, "__name__", 2)
    if type(ours).__module__ == "builtins" and type(ours) is not object:
        both = (list(v) if isinstance(v, tuple) else v for v in (ours, theirs))
        return bool(next(both) == next(both))
    return type(ours).__name__ == type(theirs).__name__


def page() -> str:
    """The text of docs/supported.md."""
    from handmill.keras_names import KERAS_VERSION

    listed = public_names()
    lines = [
        "# Supported names",
        "",
        "<!-- Written by tools/make_supported.py; do not edit. -->",
        "",
        f"The public names of Keras {KERAS_VERSION} that handmill has, module by module, and those",
        "it lacks so far. `handmill check SCRIPT.py` looks a script over; importing a name that is",
        "not here raises an ImportError that says so. What works differently on purpose is in",
        "[differences.md](differences.md).",
        "",
        "| module | here | of Keras's |",
        "|---|---:|---:|",
    ]
    for module, (here, lacking) in listed.items():
        lines.append(f"| `{shown(module)}` | {len(here)} | {len(here) + len(lacking)} |")
    here_in_all = sum(len(here) for here, _ in listed.values())
    in_all = sum(len(here) + len(lacking) for here, lacking in listed.values())
    lines += [f"| in all | {here_in_all} | {in_all} |", ""]
    for module, (here, lacking) in listed.items():
        lines += [f"## {shown(module)}", ""]
        if here:
            lines += [f"Here: {joined(here)}", ""]
        if own := OWN.get(module):
            lines += [f"Here, not in Keras 3: {joined(own.split())}", ""]
        reasons = OUT_OF_SCOPE.get(module, {})
        left_out = {n for names in reasons for n in names.split()}
        if later := [n for n in lacking if n not in left_out]:
            lines += [f"Not here yet: {joined(later)}", ""]
        if reasons:
            parts = [f"{joined(names.split())} ({why})" for names, why in reasons.items()]
            lines += [f"Out of scope: {'; '.join(parts)}", ""]
    return "\n".join([*lines, *operators_part()]) + "\n" + arguments_part()


def operators_part() -> list[str]:
    """What the functions of ops run on, by the records."""
    sys.path.insert(0, str(Path(__file__).parent))
    from operator_kinds import KINDS, kinds

    lines = ["## How the functions of keras.ops run", ""]
    for kind, names in kinds().items():
        lines += [f"{KINDS[kind]} {joined(names)}", ""]
    return lines


def arguments_part() -> str:
    """The part about arguments; from the page itself where Keras is not installed."""
    if keras() is None:
        return ARGUMENTS + PAGE.read_text(encoding="utf-8").partition(ARGUMENTS)[2]
    lines = [ARGUMENTS, "Names whose arguments are not exactly Keras's; all others are.", ""]
    lines += ["| name | lacks | has besides | other default |", "|---|---|---|---|"]
    for d in differences():
        columns = (joined(d.lacking), joined(d.extra), joined(d.defaults))
        lines.append(f"| `{d.name}` | " + " | ".join(columns) + " |")
    return "\n".join(lines) + "\n"


def shown(module: str) -> str:
    """A module's name as users write it."""
    return f"keras.{module}" if module else "keras"


def joined(names: Any) -> str:
    """Names in code quotes."""
    return ", ".join(f"`{name}`" for name in names)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args(argv)
    text = page()
    if options.check:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        if not current:
            print(f"{PAGE.name} is not current; run python tools/make_supported.py")
        return 0 if current else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
