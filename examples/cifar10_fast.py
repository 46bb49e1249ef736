"""CIFAR-10 from JPEG files to 90 % in minutes: a narrow network, trained as airbench94 is.

    python examples/cifar10_fast.py [--widths 32 64 128] [--epochs 9.9] [--seeds 1] [--data FOLDER]

The recipe stands in recipes/airbench.py. The time is a matter of the widths: a training step of 32,
64, 128 takes a sixth of what the full 64, 256, 256 takes (cifar10_airbench94.py).
"""

from __future__ import annotations

from recipes import airbench, frame


def learn(data, seed, options):
    train, _ = data
    epochs, batch = (5, 64) if options.quick else (options.epochs, options.batch)
    return airbench.learn(train, seed, tuple(options.widths), epochs, batch, options.rate)


def test(model, data, options):
    _, images = data
    return {
        "test accuracy": airbench.accuracy(model, images, views=False),
        "test accuracy of six views": airbench.accuracy(model, images, views=True),
    }


def main(name, text, widths):
    parser = frame.arguments(text)
    parser.add_argument("--widths", type=int, nargs=3, default=widths, help="channels of groups")
    parser.add_argument("--epochs", type=float, default=9.9, help="passes, also parts of one")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=1.5, help="the highest learning rate")
    frame.run(name, parser.parse_args(), frame.cifar10, learn, test)


if __name__ == "__main__":
    main("cifar10_fast", __doc__, [32, 64, 128])
