"""The network and recipe of airbench94 (Jordan, 2024), for any widths.

A frozen 2x2 convolution that whitens patches, three groups of two 3x3 convolutions, label
smoothing, Nesterov momentum with a rate that climbs and falls, a bias rate 64 times higher,
alternating flips, shifts by two pixels, slow weights, and six views of each image when testing.
"""

from __future__ import annotations

import numpy as np

import handmill as keras
from handmill import callbacks, initializers, layers, losses, optimizers, regularizers
from handmill.data import CropAndFlip, Dataset
from handmill.models import predict_views

MEAN = np.array([0.4914, 0.4822, 0.4465], "float32") * 255
STD = np.array([0.2470, 0.2435, 0.2616], "float32") * 255
WHITENING_EPOCHS = 3  # in which the bias of the whitening layer is trained
KERNELS, BETAS = 6.65e-4, 1.04e-5  # penalties: decay 0.0153 for 1024 images, apart from the rates


def whitening_kernel(images: np.ndarray, epsilon: float = 5e-4) -> np.ndarray:
    """A 2x2 kernel of 24 outputs: eigenvectors of patches, scaled, and their negatives."""
    images = (images.astype("float32") - MEAN) / STD
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    scaled = (vectors / np.sqrt(values + epsilon))[:, ::-1]
    return np.concatenate([scaled, -scaled], 1).reshape(2, 2, 3, 24)


def network(widths: tuple[int, int, int], classes: int = 10) -> keras.Sequential:
    """The network; the kernel of its layer "whitening" is to be set."""
    rest = initializers.VarianceScaling(1 / 3, "fan_in", "uniform")

    def convolution(width: int) -> layers.Layer:
        return layers.Conv2D(
            width,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=initializers.Dirac(others=rest.clone()),
            kernel_regularizer=regularizers.L2(KERNELS),
        )

    def normalization() -> list[layers.Layer]:
        return [
            layers.BatchNormalization(
                momentum=0.6, epsilon=1e-12, scale=False, beta_regularizer=regularizers.L2(BETAS)
            ),
            layers.Activation("gelu"),
        ]

    model = keras.Sequential(
        [
            keras.Input((32, 32, 3), dtype="uint8"),
            layers.Normalization(mean=MEAN, variance=STD**2),
            layers.Conv2D(24, 2, name="whitening", bias_regularizer=regularizers.L2(KERNELS)),
            layers.Activation("gelu"),
        ]
    )
    for width in widths:
        model.add(convolution(width))
        model.add(layers.MaxPooling2D(2))
        for layer in normalization():
            model.add(layer)
        model.add(convolution(width))
        for layer in normalization():
            model.add(layer)
    model.add(layers.MaxPooling2D(3))
    model.add(layers.Flatten())
    model.add(
        layers.Dense(
            classes,
            use_bias=False,
            kernel_initializer=rest.clone(),
            kernel_regularizer=regularizers.L2(KERNELS),
        )
    )
    model.add(layers.Rescaling(1 / 9))
    return model


def learn(
    train: tuple[np.ndarray, np.ndarray],
    seed: int,
    widths: tuple[int, int, int],
    epochs: float = 9.9,
    batch: int = 1024,
    rate: float = 1.5,
    verbose: int = 2,
    **network_arguments: int,
) -> keras.Sequential:
    """Trains a network.

    Args:
        train: images (uint8) and class numbers.
        seed: of everything random.
        widths: channels of the three groups.
        epochs: passes over the data; the last may be a part of one.
        batch: images of a step; what is left over at the end of a pass is left out.
        rate: the highest learning rate, for the mean of the losses of a batch.
        verbose: see ``fit``.
        **network_arguments: see :func:`network`.
    """
    keras.utils.set_random_seed(seed)
    images, labels = train
    model = network(widths, **network_arguments)
    whitening = model.get_layer("whitening")
    whitening.kernel.assign(whitening_kernel(images[:: max(len(images) // 5000, 1)]))
    whitening.kernel.trainable = False

    steps = len(images) // batch
    total = round(steps * epochs)
    shape = [0, 0.23 * total, total], [0.2, 1.0, 0.07]

    def descent(highest: float) -> optimizers.Optimizer:
        schedule = optimizers.schedules.PiecewiseLinear(
            shape[0], [highest * factor for factor in shape[1]]
        )
        return optimizers.SGD(schedule, momentum=0.85, nesterov=True)

    optimizer = optimizers.get({".*/beta": descent(64 * rate), ".*": descent(rate)})
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    lookahead = callbacks.Lookahead(5, momentum=0.95**5, power=3, total_steps=total)
    data = Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=seed)
    data = data.batch(batch, drop_remainder=True)
    data = data.map_rows(CropAndFlip(2, "alternating", seed=seed)).prefetch(2)

    done = 0
    while done < total:
        # What is trained follows `trainable` when the model is compiled.
        whitening.bias.trainable = done < WHITENING_EPOCHS * steps
        model.compile(optimizer, loss, metrics=["accuracy"])
        first = done // steps
        last = min(WHITENING_EPOCHS, total // steps) if first < WHITENING_EPOCHS else total // steps
        if last > first:
            model.fit(
                data, initial_epoch=first, epochs=last, callbacks=[lookahead], verbose=verbose
            )
            done = last * steps
        else:
            left = total - done
            model.fit(data, steps_per_epoch=left, callbacks=[lookahead], verbose=verbose)
            done = total
    return model


def accuracy(model: keras.Sequential, test: tuple[np.ndarray, np.ndarray], views: bool) -> float:
    """The fraction of images that are named right, from six views of each or one."""
    images, labels = test
    if views:
        scores = predict_views(model, images, "mirror_and_shift", batch_size=500)
    else:
        scores = model.predict(images, batch_size=500, verbose=0)
    return float(np.mean(scores.argmax(1) == labels))
