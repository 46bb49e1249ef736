"""LeCun's network of 1989, trained as then: one digit a step, 23 passes, in seconds.

    python examples/lecun_1989.py [--passes 23] [--seeds 1] [--peer torch] [--data FOLDER]

The paper read 7,291 digits of postcards; here as many of MNIST are made as small as those were
(16 x 16), as in Karpathy's reproduction (2022), which missed 4.1 % of 2,007 test digits; the paper,
5.0 %, after three days on a SUN-4/260. Sharing weights, but not biases, between positions; tanh to
the last layer; targets -1 and 1; mean squared error; a rate of 0.03 and no momentum.
"""

from __future__ import annotations

import numpy as np
from recipes import frame

import handmill as keras
from handmill import initializers, layers, ops


class PositionBias(layers.Layer):
    """Adds a bias for each position and plane."""

    def build(self, input_shape):
        self.bias = self.add_weight(input_shape[1:], "zeros", name="bias")

    def call(self, inputs):
        return inputs + self.bias


class EightOfTwelve(layers.Layer):
    """A convolution of 5x5 and stride 2 from 12 to 12 planes, each of which sees eight.

    The first four see the first eight, the next four the last eight, the last four the others. One
    convolution with a kernel of zeros where nothing is connected takes a fraction of the time that
    three with their slices take, and gives the same.
    """

    def build(self, input_shape):
        self.kernel = self.add_weight((5, 5, 12, 12), uniform(200), name="kernel")
        sees = np.ones((3, 3), "float32") - np.eye(3, dtype="float32")[::-1]
        self.connected = np.kron(sees[:, [0, 2, 1]], np.ones((4, 4), "float32"))

    def call(self, inputs):
        return ops.conv(inputs, self.kernel * self.connected, 2)


def around(images):
    """Two pixels of background on each side."""
    return ops.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=-1.0)


def uniform(inputs):
    limit = 2.4 / inputs**0.5
    return initializers.RandomUniform(-limit, limit)


def network():
    digits = keras.Input((16, 16, 1))
    planes = layers.Conv2D(12, 5, 2, use_bias=False, kernel_initializer=uniform(25))(around(digits))
    planes = around(layers.Activation("tanh")(PositionBias()(planes)))
    planes = layers.Activation("tanh")(PositionBias()(EightOfTwelve()(planes)))
    hidden = layers.Dense(30, "tanh", kernel_initializer=uniform(192))(layers.Flatten()(planes))
    outputs = layers.Dense(
        10, "tanh", kernel_initializer=uniform(30), bias_initializer=initializers.Constant(-1.0)
    )(hidden)
    return keras.Model(digits, outputs)


def load(options):
    """7,291 and 2,007 digits of MNIST at 16 x 16, from -1 to 1."""
    rng = np.random.default_rng(1337)
    found = []
    for (images, labels), count in zip(frame.mnist(options), (7291, 2007), strict=True):
        rows = rng.permutation(len(images))[:count]
        small = ops.image.resize(images[rows, ..., None].astype("float32"), (16, 16))
        found.append((np.asarray(small) / 127.5 - 1, labels[rows]))
    return found


def learn(data, seed, options):
    (digits, labels), _ = data
    keras.utils.set_random_seed(seed)
    model = network()
    model.compile(keras.optimizers.SGD(0.03), "mean_squared_error")
    targets = np.where(np.arange(10) == labels[:, None], 1, -1).astype("float32")
    model.fit(digits, targets, batch_size=1, epochs=options.passes, shuffle=False, verbose=0)
    return model


def test(model, data, options):
    found = {}
    for (digits, labels), part in zip(data, ("training", "test"), strict=True):
        right = model.predict(digits, batch_size=500, verbose=0).argmax(1) == labels
        found[f"{part} accuracy"] = float(right.mean())
    return found


if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("--passes", type=int, default=23)
    frame.run("lecun_1989", parser.parse_args(), load, learn, test)
