"""SimCLR on MNIST: an encoder that has seen no label, judged by a linear probe on 100 of them.

    python examples/mnist_simclr.py [--epochs 5] [--seeds 1] [--data FOLDER]

Each step slants, turns, zooms and shifts 256 digits twice and makes their strokes thicker or
thinner, and a network of two convolutions and a Dense layer learns to find the partner of each
(Chen et al., 2020). Then 100 labels, ten a class, drawn by the seed, train a linear classifier on
the encoder's 256 numbers; beside it stands what the same labels teach on pixels. The recipe was
chosen on the last 10,000 training images.
"""

from __future__ import annotations

import numpy as np
from recipes import frame

import handmill as keras
from handmill import layers, ops, optimizers, selfsup

BATCH = 256


def grown(images, pick):
    """The largest or the least of each pixel and its neighbours to the left and above."""
    for axis in (1, 2):
        images = pick(images, ops.roll(images, 1, axis=axis))
    return images


class RandomThickness(layers.Layer):
    """Makes the strokes of light digits thicker or thinner, by a share that is drawn for each."""

    def __init__(self, most, seed):
        super().__init__()
        self.most = most
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=True):
        if not training:
            return images
        images = ops.cast(images, "float32")
        shape = (images.shape[0], 1, 1, 1)
        share = keras.random.uniform(shape, -self.most, self.most, seed=self.generator)
        thick, thin = grown(images, ops.maximum), grown(images, ops.minimum)
        more = ops.maximum(share, 0.0) * (thick - images)
        return images + more - ops.minimum(share, 0.0) * (thin - images)


def views(seed):
    options = {"fill_mode": "constant", "fill_value": 0.0}
    return [
        layers.RandomShear(0.35, 0.0, seed=seed, **options),
        layers.RandomRotation(0.06, seed=seed + 1, **options),
        layers.RandomZoom((-0.35, 0.35), (-0.35, 0.35), seed=seed + 2, **options),
        layers.RandomTranslation(0.12, 0.12, seed=seed + 3, **options),
        RandomThickness(1.0, seed + 4),
    ]


def normalized(layer):
    return [layer, layers.BatchNormalization(), layers.Activation("relu")]


def learn(data, seed, options):
    (images, _), _ = data
    keras.utils.set_random_seed(seed)
    encoder = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            *normalized(layers.Conv2D(16, 5, strides=2, use_bias=False)),
            *normalized(layers.Conv2D(48, 3, strides=2, use_bias=False)),
            layers.Flatten(),
            *normalized(layers.Dense(256, use_bias=False)),
        ]
    )
    head = selfsup.projection_head(64, hidden=128)
    model = selfsup.SimCLR(encoder, views(seed), head, temperature=options.temperature)
    steps = options.epochs * (len(images) // BATCH)
    model.compile(optimizers.Adam(optimizers.schedules.OneCycle(options.rate, steps)))
    model.label_seed = seed
    model.fit(images[..., None], batch_size=BATCH, epochs=options.epochs, verbose=0)
    return model


def test(model, data, options):
    (images, labels), (test_images, test_labels) = data
    drawn = np.random.default_rng(model.label_seed).permutation(len(images))
    rows = np.concatenate([drawn[labels[drawn] == c][:10] for c in range(10)])
    some, few = images[rows][..., None], labels[rows]
    given = (some, few, test_images[..., None], test_labels)
    probe = selfsup.linear_probe(model.encoder, *given)
    neighbours = selfsup.knn_probe(model.encoder, *given, k=5)
    pixels = selfsup.linear_probe(None, *(a if a.ndim == 1 else a / 255 for a in given))
    return {
        "100 labels": probe.accuracy,
        "5 neighbours among them": neighbours.accuracy,
        "100 labels on pixels": pixels.accuracy,
    }


if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="passes")
    parser.add_argument("--rate", type=float, default=3e-3, help="the largest learning rate")
    parser.add_argument("--temperature", type=float, default=0.5, help="of NT-Xent")
    frame.run("mnist_simclr", parser.parse_args(), frame.mnist, learn, test)
