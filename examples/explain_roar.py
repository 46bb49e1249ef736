"""ROAR: which explanation finds the pixels that a network needs? Remove them and train again.

    python examples/explain_roar.py [--seeds 5] [--epochs 15]

For each method the pixels that it ranks highest in every image, 10 to 90 % of them, are replaced by
their mean over all images, in training and test alike; networks are then trained anew under several
seeds. The better the method, the lower the accuracy that is left. A random order of pixels is what
to beat. (Hooker, Erhan, Kindermans, Kim, 2019.) Where most is removed, the shape of what is left
tells the class, too: read the columns on the left first.
"""

import argparse
import time

import numpy as np

import handmill as keras
from handmill import explanation, layers

parser = argparse.ArgumentParser()
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--epochs", type=int, default=15)
arguments = parser.parse_args()

(x, y), (x_test, y_test) = keras.datasets.digits.load_data()
x, x_test = (np.float32(1 / 16) * images.reshape(-1, 64) for images in (x, x_test))
everywhere = np.concatenate([x, x_test])
mean = x.mean(0)


def build(units=32):
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(units, "relu"), layers.Dense(10, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return model


keras.utils.set_random_seed(0)
model = build()
model.fit(x, y, epochs=arguments.epochs, verbose=0)

began = time.perf_counter()
importance = {
    "a random order": np.random.default_rng(0).random(everywhere.shape),
    "the brightest pixels": everywhere,
    "saliency": explanation.saliency(model, everywhere).values,
    "integrated gradients": explanation.integrated_gradients(model, everywhere, baseline=0).values,
    "taking one pixel away": explanation.feature_ablation(model, everywhere, mean).values,
}
print(f"explained {len(everywhere)} images in {time.perf_counter() - began:.1f} s")

fractions = (0.1, 0.3, 0.5, 0.7, 0.9)
print(f"{'test accuracy without':24}" + "".join(f"{f:>8.0%}" for f in fractions))
began = time.perf_counter()
for name, values in importance.items():
    ranks = np.argsort(np.argsort(-values, axis=1), axis=1)
    left = []
    for fraction in fractions:
        kept = np.where(ranks < round(64 * fraction), mean, everywhere)
        runs = keras.train_many(
            build,
            [{}],
            kept[: len(x)],
            y,
            seeds=arguments.seeds,
            epochs=arguments.epochs,
            validation_data=(kept[len(x) :], y_test),
        )
        left.append(runs.scores("val_accuracy").mean())
    print(f"{name:24}" + "".join(f"{a:8.3f}" for a in left))
count = len(importance) * len(fractions) * arguments.seeds
print(f"{count} trainings in {time.perf_counter() - began:.1f} s")
