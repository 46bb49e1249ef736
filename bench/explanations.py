"""Explanations beside those of shap, lime and captum, for the same networks and numbers.

    python bench/explanations.py [--parts shap,exact,lime,occlusion,gradients,image] [--threads 2]
        [--rounds 7] [--json F]

Milliseconds of a call, ours and the peers' in turns, and the ratio to ours with its 90 % interval.
Peers that are not installed are left out. Predictions alone are listed where they are most of it.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import environment, in_turns, parser, print_rows, rows_of, warn_if_busy, write_json

import handmill
from handmill import config, explanation, layers

Calls = dict[str, Callable[[], Any]]
DRAW = np.random.default_rng(0)


def numbers(*shape: int) -> Any:
    return DRAW.normal(size=shape).astype("float32")


def dense(sizes: Sequence[int], *first: Any) -> Any:
    inner = [layers.Dense(n, "relu") for n in sizes[1:-1]]
    shape = (sizes[0],) if not first else (28, 28)
    last = layers.Dense(sizes[-1], "softmax")
    return handmill.Sequential([handmill.Input(shape), *first, *inner, last])


def convolutional(channels: Sequence[int]) -> Any:
    inner: list[Any] = []
    for count in channels:
        inner += [layers.Conv2D(count, 3, activation="relu"), layers.MaxPooling2D()]
    end = [layers.Flatten(), layers.Dense(10, "softmax")]
    return handmill.Sequential([handmill.Input((32, 32, 3)), *inner, *end])


def of_torch(model: Any, softmax: bool = True) -> Any:
    """The same dense network in torch."""
    import torch

    parts: list[Any] = []
    weights = model.get_weights()
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        parts += [torch.nn.Linear(*kernel.shape), torch.nn.ReLU()]
        parts[-2].weight.data, parts[-2].bias.data = (
            torch.tensor(kernel.T.copy()),
            torch.tensor(bias),
        )
    return torch.nn.Sequential(*parts[:-1], *([torch.nn.Softmax(1)] if softmax else []))


def predicting(model: Any) -> Callable[[Any], Any]:
    return lambda rows: model.predict(
        np.asarray(rows, "float32"), batch_size=min(len(rows), 8192), verbose=0
    )


def shap_part(rounds: int) -> None:
    for background in (100, 10):
        model, x, absent = dense((13, 64, 32, 3)), numbers(1, 13), numbers(background, 13)
        calls: Calls = {
            "ours, regression": lambda m=model, x=x, b=absent: explanation.shap(
                m, x, b, 0, "kernel"
            ),
            "ours, exact": lambda m=model, x=x, b=absent: explanation.shap(m, x, b, 0, "exact"),
        }
        many = numbers(2074 * background, 13)
        alone = predicting(model)
        calls["its predictions alone"] = lambda p=alone, rows=many: p(rows)
        try:
            import shap

            explainer = shap.KernelExplainer(predicting(model), absent)
            calls["shap, over ours"] = lambda e=explainer, x=x: e.shap_values(
                x, l1_reg=False, silent=True
            )
            import torch

            net = of_torch(model)

            def asked(rows: Any, net: Any = net) -> Any:
                with torch.no_grad():
                    return net(torch.from_numpy(np.asarray(rows, "float32"))).numpy()

            other = shap.KernelExplainer(asked, absent)
            calls["shap, over torch"] = lambda e=other, x=x: e.shap_values(
                x, l1_reg=False, silent=True
            )
        except ImportError:
            pass
        show(f"KernelSHAP, 13-64-32-3, {background} background rows", calls, rounds)


def exact_part(rounds: int) -> None:
    for players in (10, 15, 20):
        model, x, absent = dense((players, 64, 32, 3)), numbers(1, players), numbers(1, players)
        explainer = explanation.ShapExplainer(model, absent, "exact")
        many, alone = numbers(1 << players, players), predicting(model)
        calls: Calls = {
            "ours": lambda e=explainer, x=x: e(x, 0),
            "its predictions alone": lambda p=alone, rows=many: p(rows),
        }
        try:
            import shap

            if players < 20:
                masker = shap.maskers.Independent(absent)
                other = shap.explainers.ExactExplainer(predicting(model), masker)
                calls["shap, exact, over ours"] = lambda e=other, x=x: e(x, silent=True)
        except ImportError:
            pass
        show(f"exact Shapley values, {players} players, one background row", calls, rounds)


def lime_part(rounds: int) -> None:
    model, train = dense((20, 16, 2)), numbers(500, 20)
    calls: Calls = {
        "ours": lambda: explanation.lime(model, train[:1], train, target=1, num_features=6)
    }
    picture, x = convolutional((16, 32)), DRAW.random((32, 32, 3))
    segments = (np.arange(32)[:, None] // 5) * 7 + np.arange(32) // 5
    many = numbers(1000, 32, 32, 3)
    of_image: Calls = {
        "ours": lambda: explanation.lime(picture, x[None], target=0, segments=segments),
        "1,000 predictions alone": lambda: picture.predict(many, batch_size=170, verbose=0),
    }
    try:
        from lime.lime_image import LimeImageExplainer
        from lime.lime_tabular import LimeTabularExplainer

        table, image = LimeTabularExplainer(train, random_state=0), LimeImageExplainer()
        calls["lime"] = lambda: table.explain_instance(train[0], predicting(model), num_features=6)
        of_image["lime"] = lambda: image.explain_instance(
            x, predicting(picture), top_labels=1, num_samples=1000,
            segmentation_fn=lambda _: segments,
        )  # fmt: skip
    except ImportError:
        pass
    show("LIME of a table, 5,000 samples, 20 features", calls, rounds)
    show("LIME of an image, 32x32x3, 49 segments, 1,000 samples", of_image, rounds)


def occlusion_part(rounds: int) -> None:
    model, x = dense((784, 512, 256, 10), layers.Flatten()), DRAW.random((1, 28, 28))
    many = numbers(576, 28, 28)
    calls: Calls = {
        "ours": lambda: explanation.occlusion(model, x, 3),
        "576 predictions alone": lambda: model.predict(many, batch_size=576, verbose=0),
    }
    try:
        import torch
        from captum.attr import Occlusion

        net = torch.nn.Sequential(torch.nn.Flatten(), of_torch(model))
        given = torch.tensor(x, dtype=torch.float32)

        def theirs(at_once: int) -> Any:
            with torch.no_grad():
                return Occlusion(net).attribute(
                    given, (5, 5), (1, 1), target=3, perturbations_per_eval=at_once
                )

        calls["captum, 64 windows at once"] = lambda: theirs(64)
        calls["captum"] = lambda: theirs(1)
    except ImportError:
        pass
    show("occlusion, 28x28, windows of 5x5, stride 1", calls, rounds)


def gradients_part(rounds: int) -> None:
    for sizes in ((64, 64, 32, 10), (784, 512, 256, 10)):
        model, x = dense(sizes), DRAW.random((1, sizes[0])).astype("float32")
        calls: Calls = {
            "ours": lambda m=model, x=x: explanation.integrated_gradients(m, x, 3, baseline=0)
        }
        try:
            import torch
            from captum.attr import IntegratedGradients

            other, given = IntegratedGradients(of_torch(model, softmax=False)), torch.tensor(x)
            calls["captum"] = lambda o=other, x=given: o.attribute(x, target=3, n_steps=50)
        except ImportError:
            pass
        show(f"integrated gradients, 50 nodes, {sizes}", calls, rounds)


def image_part(rounds: int) -> None:
    for channels in ((32, 64, 64), (32, 64)):
        model, x = convolutional(channels), DRAW.random((1, 32, 32, 3)).astype("float32")
        calls: Calls = {
            "saliency": lambda m=model, x=x: explanation.saliency(m, x, 3),
            "integrated gradients": lambda m=model, x=x: explanation.integrated_gradients(m, x, 3),
            "Grad-CAM": lambda m=model, x=x: explanation.grad_cam(m, x, 3),
            "occlusion": lambda m=model, x=x: explanation.occlusion(m, x, 3, window=8, strides=4),
        }
        with tempfile.TemporaryDirectory() as folder:

            def drawn(calls: Calls, folder: str = folder) -> None:
                for name, call in calls.items():
                    call().picture(Path(folder) / f"{name}.png")

            every = {"all four, with pictures": lambda c=dict(calls), d=drawn: d(c), **calls}
            show(f"four maps of a 32x32x3 image, convolutions of {channels}", every, rounds)


PARTS = {
    "shap": shap_part,
    "exact": exact_part,
    "lime": lime_part,
    "occlusion": occlusion_part,
    "gradients": gradients_part,
    "image": image_part,
}
REPORT: dict[str, Any] = {}


def show(title: str, calls: Calls, rounds: int) -> None:
    times = in_turns(calls, rounds, least=0.02)
    rows = rows_of(times, next(iter(calls)), unit=1e-3)
    print_rows(title, rows, "ms")
    REPORT[title] = rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--threads", type=int, default=0)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")  # lime draws bars; read where tqdm is imported
    warnings.simplefilter("ignore")
    logging.getLogger("shap").setLevel(50)
    warn_if_busy()
    if chosen.threads:
        config.set_num_threads(chosen.threads)
        try:
            import torch

            torch.set_num_threads(chosen.threads)
        except ImportError:
            pass
    for part in chosen.parts.split(","):
        PARTS[part](2 if chosen.smoke else chosen.rounds)
    write_json(chosen.json, {"environment": environment(chosen.machine), "figures": REPORT})


if __name__ == "__main__":
    main()
