"""SimCLR on CIFAR-10, from JPEG files: an encoder that has seen no label, judged by neighbours.

    python examples/cifar10_simclr.py [--epochs 5] [--seeds 1] [--data FOLDER]

Each step makes two views of each image (a part of it, perhaps mirrored, in other colours), and a
network of four convolutions learns to find the partner of each (Chen et al., 2020). The labels of
all training images then vote, by the 200 nearest ones, on each test image; beside it stands what
the pixels of the nearest images say.
"""

from __future__ import annotations

from recipes import frame

import handmill as keras
from handmill import layers, optimizers, selfsup


def views(seed):
    return [
        layers.RandomFlip("horizontal", seed=seed),
        layers.RandomZoom((-0.6, 0.0), seed=seed + 1),
        layers.RandomTranslation(0.25, 0.25, seed=seed + 2),
        layers.RandomColorJitter(
            (0, 255),
            brightness_factor=0.3,
            contrast_factor=0.4,
            saturation_factor=(0.2, 0.8),
            hue_factor=0.08,
            seed=seed + 3,
        ),
        layers.RandomGrayscale(0.2, seed=seed + 4),
    ]


def convolution(width, size, strides):
    return [
        layers.Conv2D(width, size, strides, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
    ]


def network():
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Rescaling(1 / 64, -2),
            *convolution(32, 4, 2),
            *convolution(64, 3, 1),
            layers.MaxPooling2D(),
            *convolution(128, 3, 1),
            layers.MaxPooling2D(),
            *convolution(256, 3, 1),
            layers.GlobalAveragePooling2D(),
        ]
    )


def learn(data, seed, options):
    (images, _), _ = data
    keras.utils.set_random_seed(seed)
    head = selfsup.projection_head(128, hidden=256, batch_norm=True)
    model = selfsup.SimCLR(network(), views(seed), head, temperature=options.temperature)
    batch = 100 if options.quick else options.batch
    steps = options.epochs * (len(images) // batch)
    model.compile(optimizers.Adam(optimizers.schedules.OneCycle(options.rate, steps)))
    model.fit(images, batch_size=batch, epochs=options.epochs, verbose=0)
    return model


def test(model, data, options):
    (images, labels), (test_images, test_labels) = data
    given = (images, labels, test_images, test_labels)
    found = {"200 neighbours": selfsup.knn_probe(model.encoder, *given).accuracy}
    if options.pixels:
        found["200 neighbours by pixels"] = selfsup.knn_probe(None, *given).accuracy
    return found


if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="passes")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=3e-3, help="the largest learning rate")
    parser.add_argument("--temperature", type=float, default=0.2, help="of NT-Xent")
    parser.add_argument("--pixels", action="store_true", help="neighbours by pixels, too")
    frame.run("cifar10_simclr", parser.parse_args(), frame.cifar10, learn, test)
