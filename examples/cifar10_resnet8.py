"""CIFAR-10 from JPEG files by the smallest residual network in use, ResNet-8 of MLPerf Tiny.

    python examples/cifar10_resnet8.py [--epochs 40] [--seeds 1] [--peer torch] [--data FOLDER]

78,666 weights. MLPerf trains it for 500 passes with Adam; here one cycle of the rate with Nesterov
momentum does in 40, with crops shifted by up to four pixels and flips.
"""

from __future__ import annotations

import numpy as np
from recipes import frame

import handmill as keras
from handmill import layers, optimizers, regularizers
from handmill.data import CropAndFlip, Dataset

MEAN = np.array([0.4914, 0.4822, 0.4465], "float32") * 255
VARIANCE = (np.array([0.2470, 0.2435, 0.2616], "float32") * 255) ** 2


def convolution(width, size=3, strides=1):
    return layers.Conv2D(
        width,
        size,
        strides,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=regularizers.L2(1e-4),
    )


def network():
    images = keras.Input((32, 32, 3), dtype="uint8")
    x = layers.Normalization(mean=MEAN, variance=VARIANCE)(images)
    x = layers.ReLU()(layers.BatchNormalization()(convolution(16)(x)))
    for width, strides in ((16, 1), (32, 2), (64, 2)):
        y = layers.ReLU()(layers.BatchNormalization()(convolution(width, 3, strides)(x)))
        y = layers.BatchNormalization()(convolution(width)(y))
        if strides > 1:
            x = convolution(width, 1, strides)(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10, kernel_initializer="he_normal")(x))


def learn(data, seed, options):
    (images, labels), _ = data
    keras.utils.set_random_seed(seed)
    epochs = 5 if options.quick else options.epochs
    rate = optimizers.schedules.OneCycle(
        options.rate, epochs * -(-len(images) // 128), final_div_factor=1000
    )
    model = network()
    model.compile(
        optimizers.SGD(rate, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    data = Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=seed).batch(128)
    model.fit(
        data.map_rows(CropAndFlip(4, "alternating", seed=seed)).prefetch(2),
        epochs=epochs,
        verbose=2,
    )
    return model


def test(model, data, options):
    _, (images, labels) = data
    found = model.predict(images, batch_size=500, verbose=0).argmax(1)
    mirrored = keras.models.predict_views(model, images, "mirror", batch_size=500).argmax(1)
    return {
        "test accuracy": float(np.mean(found == labels)),
        "test accuracy with mirror images": float(np.mean(mirrored == labels)),
    }


if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.2, help="the highest learning rate")
    frame.run("cifar10_resnet8", parser.parse_args(), frame.cifar10, learn, test)
