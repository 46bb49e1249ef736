"""handmill: deep learning on the CPU, from hand-written kernels, with the face of Keras 3.

``import handmill as keras`` runs ordinary Keras code for the supported names (docs/supported.md).
Modules are imported when first used; importing this package costs little more than NumPy.
"""

from __future__ import annotations

from handmill.lazy import lazy_exports

__version__ = "0.1.0"

_MODULES = (
    "activations",
    "applications",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "data",
    "datasets",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "ops",
    "optimizers",
    "plot",
    "preprocessing",
    "random",
    "regularizers",
    "saving",
    "sklearn",
    "tree",
    "utils",
    "wrappers",
)

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **{name: f"handmill.{name}" for name in _MODULES},
        "Sequential": "handmill.models:Sequential",
        "Model": "handmill.models:Model",
        "Input": "handmill.layers:Input",
        "Layer": "handmill.layers:Layer",
        "InputSpec": "handmill.layers:InputSpec",
        "KerasTensor": "handmill.layers:KerasTensor",
        "Initializer": "handmill.initializers:Initializer",
        "Loss": "handmill.losses:Loss",
        "Metric": "handmill.metrics:Metric",
        "Optimizer": "handmill.optimizers:Optimizer",
        "Regularizer": "handmill.regularizers:Regularizer",
        "Variable": "handmill.runtime.variable:Variable",
        "GradientTape": "handmill.runtime.tape:GradientTape",
        "custom_gradient": "handmill.ops:custom_gradient",
        "grad": "handmill.runtime.derivatives:grad",
        "jacobian": "handmill.runtime.derivatives:jacobian",
        "value_and_grad": "handmill.runtime.derivatives:value_and_grad",
        "stop_gradient": "handmill.ops:stop_gradient",
        "Function": "handmill.layers.function:Function",
        "Operation": "handmill.layers.operation:Operation",
        "device": "handmill.devices:device",
        "version": "handmill.naming:version",
        "DTypePolicy": "handmill.dtype_policies:DTypePolicy",
        "FloatDTypePolicy": "handmill.dtype_policies:FloatDTypePolicy",
        "name_scope": "handmill.naming:name_scope",
        "use_backend": "handmill.config:use_backend",
        "compare": "handmill.inspection.comparison:compare",
        "inspect": "handmill.inspection.values:inspect",
        "install_as_keras": "handmill.as_keras:install_as_keras",
        "TrainingWarning": "handmill.errors:TrainingWarning",
        "KerasDifferenceWarning": "handmill.errors:KerasDifferenceWarning",
    },
)
