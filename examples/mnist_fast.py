"""MNIST to 99 % in seconds: a small convolutional network, a pass or two, one cycle of the rate.

    python examples/mnist_fast.py [--epochs 1.4] [--seeds 10] [--peer torch] [--data FOLDER]

The recipe of tuomaso/train_mnist_fast: Adam with short memories (0.7, 0.9), a rate that climbs to
0.01 and falls to nearly 0, batches of 256, weights that start as torch starts them.
"""

from __future__ import annotations

from recipes import frame

import handmill as keras
from handmill import layers, optimizers
from handmill.data import Dataset

BATCH = 256


def started(inputs):
    """Initializers of a layer whose outputs have so many inputs."""
    limit = inputs**-0.5
    uniform = keras.initializers.RandomUniform(-limit, limit)
    return {"kernel_initializer": uniform, "bias_initializer": uniform.clone()}


def learn(data, seed, options):
    (images, labels), _ = data
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(24, 5, **started(25)),
            layers.MaxPooling2D(),
            layers.Activation("relu"),
            layers.Conv2D(32, 3, **started(216)),
            layers.MaxPooling2D(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dense(256, activation="relu", **started(800)),
            layers.Dense(10, **started(256)),
        ]
    )
    steps = round(options.epochs * len(images) / BATCH)
    rate = optimizers.schedules.OneCycle(0.01, steps)
    model.compile(
        optimizers.Adam(rate, beta_1=0.7, beta_2=0.9, epsilon=1e-8),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rows = Dataset.from_tensor_slices((images[..., None], labels)).shuffle(len(images), seed=seed)
    model.fit(rows.repeat().batch(BATCH), steps_per_epoch=steps, verbose=0)
    return model


def test(model, data, options):
    _, (images, labels) = data
    found = model.predict(images[..., None], batch_size=500, verbose=0).argmax(1)
    return {"test accuracy": float((found == labels).mean())}


if __name__ == "__main__":
    parser = frame.arguments(__doc__, seeds=10)
    parser.add_argument("--epochs", type=float, default=1.4, help="passes, also parts of one")
    frame.run("mnist_fast", parser.parse_args(), frame.mnist, learn, test)
