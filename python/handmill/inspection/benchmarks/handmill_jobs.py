"""handmill as one of the libraries."""

from __future__ import annotations

from typing import Any

from handmill.inspection.benchmarks.job import SHUFFLE_SEED, Job, calls, largest
from handmill.inspection.benchmarks.networks import (
    NORMALIZATION_EPSILON,
    NORMALIZATION_MOMENTUM,
    Activation,
    Convolution,
    Dense,
    Depthwise,
    Flatten,
    GlobalAverage,
    Layer,
    MaxPooling,
    Network,
    Normalization,
    Residual,
    Windows,
)
from handmill.inspection.benchmarks.workloads import MOMENTUM, WEIGHT_DECAY, Workload


def make_model(w: Workload) -> Any:
    """The workload's model, compiled, with the weights that all libraries start from."""
    import handmill

    return compiled_model(handmill, w)


def compiled_model(library: Any, w: Workload) -> Any:
    """The model in handmill or Keras, which have the same names; seeds the library."""
    library.utils.set_random_seed(SHUFFLE_SEED)
    made: list[Any] = []
    if any(isinstance(layer, Residual) for layer in w.network):
        x = library.Input(w.input_shape)
        model = library.Model(x, _outputs(library, w.network, x, made))
    else:
        made = [_layer(library, layer) for layer in w.network]
        model = library.Sequential([library.Input(w.input_shape), *made])
    weighted = (layer for layer in made if layer.weights)
    for layer, arrays in zip(weighted, w.weights(), strict=True):
        layer.set_weights(list(arrays))
    optimizers, rate = library.optimizers, w.learning_rate
    optimizer = {
        "adam": lambda: optimizers.Adam(rate),
        "adamw": lambda: optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY),
        "momentum": lambda: optimizers.SGD(rate, momentum=MOMENTUM),
        "rmsprop": lambda: optimizers.RMSprop(rate),
        "adagrad": lambda: optimizers.Adagrad(rate),
    }[w.optimizer]()
    model.compile(optimizer, _loss(library, w))
    return model


def _loss(library: Any, w: Workload) -> Any:
    if w.output_activation == "linear" and w.loss != "mse":
        names = {
            "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
            "binary_crossentropy": "BinaryCrossentropy",
        }
        return getattr(library.losses, names[w.loss])(from_logits=True)
    return w.loss


def _outputs(library: Any, network: Network, x: Any, made: list[Any]) -> Any:
    """What the network makes of ``x``; its layers are appended to ``made``."""
    for layer in network:
        if isinstance(layer, Residual):
            branch = _outputs(library, layer.branch, x, made)
            x = library.layers.Add()([branch, _outputs(library, layer.shortcut, x, made)])
        else:
            made.append(_layer(library, layer))
            x = made[-1](x)
    return x


def _layer(library: Any, layer: Layer) -> Any:
    layers = library.layers
    windows: dict[str, Any] = {}
    if isinstance(layer, Windows):
        windows = {"strides": layer.strides, "padding": layer.padding}
    if isinstance(layer, Dense):
        return layers.Dense(layer.units, activation=layer.activation)
    if isinstance(layer, Convolution):
        return layers.Conv2D(
            layer.filters, layer.size, activation=layer.activation, use_bias=layer.bias, **windows
        )
    if isinstance(layer, Depthwise):
        return layers.DepthwiseConv2D(layer.size, use_bias=False, **windows)
    if isinstance(layer, MaxPooling):
        return layers.MaxPooling2D(layer.size, **windows)
    if isinstance(layer, Normalization):
        return layers.BatchNormalization(
            momentum=NORMALIZATION_MOMENTUM, epsilon=NORMALIZATION_EPSILON
        )
    if isinstance(layer, Activation):
        return layers.Activation(layer.name)
    return {Flatten: layers.Flatten, GlobalAverage: layers.GlobalAveragePooling2D}[type(layer)]()


def train(w: Workload) -> Job:
    """As many epochs as asked for, in one call of ``fit``."""
    x, y = w.data()
    model = make_model(w)

    def run(steps: int) -> None:
        model.fit(x, y, batch_size=w.batch, epochs=steps // w.steps_per_epoch, verbose=0)

    def roofline() -> float:
        return float(model.profile(x, y, w.batch).roofline_seconds * 1e6)

    return Job(
        {"fit": run}, lambda: model.evaluate(x, y, verbose=0), w.steps_per_epoch, roofline
    )  # fmt: skip


def fit(w: Workload, epochs: int) -> Job:
    """Calls of ``fit``, of a few epochs each."""
    return fit_calls(make_model(w), w, epochs)


def fit_calls(model: Any, w: Workload, epochs: int) -> Job:
    """The same for any model with Keras's ``fit``."""
    x, y = w.data()
    unit = epochs * w.steps_per_epoch

    def run(steps: int) -> None:
        for _ in range(steps // unit):
            model.fit(x, y, batch_size=w.batch, epochs=epochs, verbose=0)

    return Job({"fit": run}, lambda: model.evaluate(x, y, verbose=0), unit)


def call(w: Workload, batch: int) -> Job:
    """``model(x)``."""
    model, x = make_model(w), w.inputs(batch)

    def roofline() -> float:
        return float(model.profile(x, batch_size=batch).roofline_seconds * 1e6)

    return Job(
        {"model(x)": calls(lambda: model(x))}, largest(lambda: model(x)), roofline=roofline
    )  # fmt: skip


def predict(w: Workload, batch: int) -> Job:
    """``model.predict``."""
    model, x = make_model(w), w.inputs(batch)

    def run() -> Any:
        return model.predict(x, batch_size=batch, verbose=0)

    return Job({"predict": calls(run)}, largest(run))
