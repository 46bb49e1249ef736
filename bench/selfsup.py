"""Losses and steps of learning without labels beside eager torch, in turns in one process.

    PYTHONPATH=python python bench/selfsup.py [nt_xent | step] [--rounds 9]

``nt_xent``: value and gradient of the loss of 2 x 512 and 2 x 4096 embeddings of 128 numbers;
torch computes the whole matrix, masks its diagonal and takes the cross-entropy. ``step``: SimCLR on
MNIST, 784-512-128 with a head of 128-64, 256 rows, two views each: ours turns, slants, zooms and
shifts in four layers whose functions of places are composed, torch composes the matrices too, and
both sample once; Adam, torch's fused.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
import torch

import handmill as hm
from handmill import layers, optimizers, selfsup

STEPS = 20


def nt_xent_of_torch(za, zb, temperature):
    z = torch.nn.functional.normalize(torch.cat([za, zb]), dim=1)
    s = z @ z.T / temperature
    s.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(z)).roll(len(za))
    return torch.nn.functional.cross_entropy(s, partner)


def losses(rows, steps):
    rng = np.random.default_rng(0)
    za, zb = (rng.normal(size=(rows, 128)).astype("float32") for _ in range(2))

    class Gradient(hm.Model):
        """The gradient of the loss as a program: assigned, so that nothing of it is dropped."""

        def __init__(self):
            super().__init__()
            self.pair = [self.add_weight((rows, 128), "zeros") for _ in range(2)]
            self.found = [self.add_weight((rows, 128), "zeros", trainable=False) for _ in range(2)]
            for weight, value in zip(self.pair, (za, zb), strict=True):
                weight.assign(value)

        def train_step(self, data):
            with hm.GradientTape() as tape:
                loss = selfsup.nt_xent(*self.pair, 0.5)
            for place, gradient in zip(self.found, tape.gradient(loss, self.pair), strict=True):
                place.assign(gradient)
            return {"loss": loss}

    model = Gradient()
    model.compile("sgd")
    one = np.zeros((steps, 1), "float32")
    pair = [torch.tensor(z, requires_grad=True) for z in (za, zb)]

    def ours():
        model.fit(one, batch_size=1, verbose=0)

    def theirs():
        for _ in range(steps):
            for z in pair:
                z.grad = None
            nt_xent_of_torch(*pair, 0.5).backward()

    ours()
    theirs()
    for place, z in zip(model.found, pair, strict=True):
        np.testing.assert_allclose(place.numpy(), z.grad.numpy(), atol=1e-5 * z.grad.abs().max())
    return ours, theirs


def views():
    options = {"fill_mode": "constant", "fill_value": 0.0}
    return [
        layers.RandomShear(0.2, 0.0, seed=1, **options),
        layers.RandomRotation(0.06, seed=2, **options),
        layers.RandomZoom((-0.2, 0.2), (-0.2, 0.2), seed=3, **options),
        layers.RandomTranslation(0.12, 0.12, seed=4, **options),
    ]


def simclr():
    rows = np.random.default_rng(0).integers(0, 256, (STEPS * 256, 28, 28, 1)).astype("uint8")
    hm.utils.set_random_seed(0)
    encoder = hm.Sequential(
        [
            hm.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(128, activation="relu"),
        ]
    )
    head = selfsup.projection_head(64, hidden=128)
    model = selfsup.SimCLR(encoder, views(), head, temperature=0.2)
    model.compile(optimizers.Adam(1e-3))

    images = torch.tensor(rows[..., 0])
    parts = []
    for a, b in ((784, 512), (512, 128), (128, 128), (128, 64)):
        parts += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    net = torch.nn.Sequential(*parts[:-1])
    adam = torch.optim.Adam(net.parameters(), 1e-3, fused=True)

    def view(x):
        count = len(x)
        u = torch.rand(7, count) * 2 - 1
        angle, slant = u[0] * 0.06 * 2 * np.pi, u[1] * 0.2
        zoom_x, zoom_y = 1 + 0.2 * u[2], 1 + 0.2 * u[3]
        cos, sin = torch.cos(angle), torch.sin(angle)
        matrix = torch.stack(
            [
                torch.stack([zoom_x * cos, slant - sin, 0.24 * u[4]], 1),
                torch.stack([sin, zoom_y * cos, 0.24 * u[5]], 1),
            ],
            1,
        )
        grid = torch.nn.functional.affine_grid(matrix, (count, 1, 28, 28), align_corners=False)
        return torch.nn.functional.grid_sample(x, grid, align_corners=False)

    def ours():
        model.fit(rows, batch_size=256, verbose=0)

    def theirs():
        order = torch.randperm(len(images))
        for i in range(STEPS):
            x = images[order[256 * i : 256 * (i + 1)]].float().unsqueeze(1)
            both = torch.cat([view(x), view(x)]).flatten(1) / 255
            z = net(both)
            loss = nt_xent_of_torch(z[:256], z[256:], 0.2)
            adam.zero_grad()
            loss.backward()
            adam.step()

    return ours, theirs


def compare(name, ours, theirs, rounds, steps):
    for _ in range(2):
        ours()
        theirs()
    times = []
    for _ in range(rounds):
        pair = []
        for run in (ours, theirs):
            time.sleep(0.01)  # threads of the other that spin come to rest
            begin = time.perf_counter()
            run()
            pair.append((time.perf_counter() - begin) / steps * 1e3)
        times.append(pair)
    own, other = (statistics.median(t[i] for t in times) for i in (0, 1))
    rng = np.random.default_rng(0)
    drawn = np.array(times)[rng.integers(0, rounds, (2000, rounds))]
    low, high = np.quantile(np.divide(*np.median(drawn, axis=1).T[::-1]), (0.05, 0.95))
    print(f"{name}: {own:.3f} ms, torch {other:.3f} ms: {other / own:.2f}x [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["nt_xent", "step"])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    warnings.simplefilter("ignore", hm.TrainingWarning)  # noise has nothing to be told apart by
    torch.set_num_threads(hm.config.num_threads())
    if options.what != "step":
        for size, count in ((512, STEPS), (4096, 1)):
            name = f"NT-Xent and gradient, 2 x {size}"
            compare(name, *losses(size, count), options.rounds, count)
    if options.what != "nt_xent":
        compare("SimCLR step, MNIST, 256 rows", *simclr(), options.rounds, STEPS)
