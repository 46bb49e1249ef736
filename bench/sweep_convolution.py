"""Times the convolutions of ResNet-18 and MobileNetV2, forward and both gradients, beside torch.

    python bench/sweep_convolution.py [--threads 1] [--only forward,backward-data] [--json F]

Every distinct layer of both networks at 224x224, batch 8, channels last, float32, of six families:
first layers, 3x3, strided 3x3, 1x1, strided 1x1, depthwise. torch's images and kernels are
channels_last, its gradients those that autograd calls. How: sweeps.py. --only takes kinds of passes
or names such as 3x3/2:64>128@56 (window/stride:channels>filters@rows). --families chooses families,
--batch another batch. With --json the rows of shapes that were timed replace those in the file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sweeps import Job, planned, serve, sweep, sweep_parser

PEERS = ("torch",)
BATCH = 8
FORWARD, DATA, WEIGHTS = KINDS = ("forward", "backward-data", "backward-weights")


class Convolution(NamedTuple):
    """A layer of square images and windows, and the pass over it."""

    kind: str
    size: int
    channels: int
    filters: int
    window: int
    stride: int = 1
    depthwise: bool = False
    batch: int = BATCH

    @property
    def group(self) -> str:
        return self.kind

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(self)[1:]

    @property
    def family(self) -> str:
        strided = "/2" if self.stride > 1 else ""
        if self.channels == 3:
            return "first"
        return "depthwise" if self.depthwise else f"{self.window}x{self.window}{strided}"

    @property
    def name(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        what = f"dw{self.channels}" if self.depthwise else f"{self.channels}>{self.filters}"
        batch = "" if self.batch == BATCH else f"*{self.batch}"
        layer = f"{self.window}x{self.window}{stride}:{what}@{self.size}{batch}"
        return f"{layer} {self.kind}"

    @property
    def padding(self) -> int:
        return self.window // 2

    @property
    def groups(self) -> int:
        return self.channels if self.depthwise else 1

    @property
    def output(self) -> int:
        return (self.size + 2 * self.padding - self.window) // self.stride + 1

    @property
    def flops(self) -> float:
        each = self.window**2 * self.channels // self.groups
        return 2.0 * self.batch * self.output**2 * self.filters * each


RESNET_18 = (
    (224, 3, 64, 7, 2),
    (56, 64, 64, 3), (56, 64, 128, 3, 2), (56, 64, 128, 1, 2),
    (28, 128, 128, 3), (28, 128, 256, 3, 2), (28, 128, 256, 1, 2),
    (14, 256, 256, 3), (14, 256, 512, 3, 2), (14, 256, 512, 1, 2),
    (7, 512, 512, 3),
)  # fmt: skip
MOBILENET_V2 = (
    (224, 3, 32, 3, 2),
    (112, 32, 16, 1), (112, 16, 96, 1),
    (56, 96, 24, 1), (56, 24, 144, 1), (56, 144, 24, 1),
    (28, 144, 32, 1), (28, 32, 192, 1), (28, 192, 32, 1),
    (14, 192, 64, 1), (14, 64, 384, 1), (14, 384, 64, 1),
    (14, 384, 96, 1), (14, 96, 576, 1), (14, 576, 96, 1),
    (7, 576, 160, 1), (7, 160, 960, 1), (7, 960, 160, 1), (7, 960, 320, 1), (7, 320, 1280, 1),
    (112, 32, 32, 3, 1, True), (112, 96, 96, 3, 2, True),
    (56, 144, 144, 3, 1, True), (56, 144, 144, 3, 2, True),
    (28, 192, 192, 3, 1, True), (28, 192, 192, 3, 2, True),
    (14, 384, 384, 3, 1, True), (14, 576, 576, 3, 1, True), (14, 576, 576, 3, 2, True),
    (7, 960, 960, 3, 1, True),
)  # fmt: skip


def convolutions(batch: int) -> list[Convolution]:
    """All passes of all layers; images themselves have no gradient."""
    return [
        Convolution(kind, *layer, batch=batch)
        for kind in KINDS
        for layer in (*RESNET_18, *MOBILENET_V2)
        if layer[1] != 3 or kind != DATA
    ]


def operands(p: Convolution) -> tuple[Any, Any, Any]:
    """x, w and dy, channels last."""
    numbers = np.random.default_rng(0).standard_normal(65521).astype(np.float32)
    kernel = (p.channels, 1) if p.depthwise else (p.channels, p.filters)
    return (
        np.resize(numbers, (p.batch, p.size, p.size, p.channels)),
        np.resize(numbers, (p.window, p.window, *kernel)),
        np.resize(numbers, (p.batch, p.output, p.output, p.filters)),
    )


def handmill_job(p: Convolution) -> Job:
    from handmill import ops
    from handmill.ir.gradient import gradients
    from handmill.ir.trace import current_graph
    from handmill.runtime.function import TracedFunction

    convolve = ops.depthwise_conv if p.depthwise else ops.conv

    def forward(x: Any, w: Any) -> Any:
        return convolve(x, w, strides=p.stride, padding="same")

    def gradient(x: Any, w: Any, dy: Any) -> Any:
        graph = current_graph()
        assert graph is not None
        return gradients(graph, forward(x, w), [w if p.kind == WEIGHTS else x], dy)[0]

    x, w, dy = operands(p)
    if p.kind == FORWARD:
        traced, arguments = TracedFunction(forward, "forward", batched=False), [x, w]
    else:
        traced, arguments = TracedFunction(gradient, p.kind, batched=False), [x, w, dy]
    return planned(traced, traced.native, arguments)


def torch_job(p: Convolution) -> Job:
    """Padded evenly, where ours has the odd row behind: the same work."""
    import torch

    def channels_last(array: Any, order: tuple[int, ...]) -> Any:
        moved = torch.from_numpy(array.transpose(order))
        return moved.contiguous(memory_format=torch.channels_last)

    x, w, dy = operands(p)
    x, dy = (channels_last(a, (0, 3, 1, 2)) for a in (x, dy))
    w = channels_last(w, (2, 3, 0, 1) if p.depthwise else (3, 2, 0, 1))
    how = ([p.stride] * 2, [p.padding] * 2, [1, 1])
    if p.kind == FORWARD:
        return Job(torch.conv2d, [x, w, None, *how, p.groups])
    wanted = [p.kind == DATA, p.kind == WEIGHTS, False]
    backward = torch.ops.aten.convolution_backward
    return Job(backward, [dy, x, w, None, *how, False, [0, 0], p.groups, wanted])


JOBS: dict[str, Callable[[Convolution], Job]] = {"handmill": handmill_job, "torch": torch_job}


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        library = sys.argv[2]
        serve(library, lambda case: JOBS[library](Convolution(*case)))
        return
    arguments = sweep_parser(__doc__, PEERS, "avx512")
    arguments.add_argument("--families", default="", help="such as first,3x3/2,depthwise")
    arguments.add_argument("--batch", type=int, default=BATCH)
    options = arguments.parse_args()
    cases = convolutions(options.batch)
    families = {name for name in options.families.split(",") if name}
    chosen = [p for p in cases if not families or p.family in families]
    sweep(__file__, options, cases, chosen)


if __name__ == "__main__":
    main()
