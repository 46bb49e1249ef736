"""A monitor of health inside the training step: readings at every so-many-th step, in the plan.

Two of ``every`` steps are run by a program of their own (``MonitoredStep`` in models/steps.py) that
trains as the others do and holds a switch: at the first of them one branch computes the numbers of
:mod:`handmill.inspection.health` for the batch, before the update, and keeps some elements of each
kernel; at the second another measures how far the update has moved them. A switch in all steps
would cost a tiny network 4 % where nothing is due; a program beside costs nothing there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.inspection.health import HealthProgram
from handmill.inspection.non_finite import Snapshot
from handmill.ir.op import Array
from handmill.layers.layer import all_layers
from handmill.runtime.structure import Walk
from handmill.runtime.variable import Variable

_OF_A_LAYER = 6
_SAMPLED = 256
"""Elements of a kernel by which an update is measured."""
_READ, _MEASURED = np.array([1, 0], np.float32), np.array([0, 1], np.float32)


class Monitor:
    """What a training step computes about its health.

    Args:
        model: a compiled model whose step is traced.
        every: steps from one reading to the next.

    Attributes:
        entries: kind, number of the layer and units of each number.
        before: the state of the model at :meth:`begin`.
        done: steps since a reading was begun.
        was_due: whether a step was due since :meth:`begin`.
    """

    def __init__(self, model: Any, every: int) -> None:
        self.model = model
        self.every = every
        kernels = [v for v in model.trainable_variables if len(v.shape) >= 2]
        size = _OF_A_LAYER * sum(1 for _ in all_layers(model)) + 3 * len(kernels)
        self.phase = Variable.of_zeros((), "int32", "phase", "health/phase")
        self.counts = Variable.of_zeros((2,), "float32", "counts", "health/counts")
        self.sums = Variable.of_zeros((size,), "float32", "sums", "health/sums")
        self.largest = Variable.of_zeros((size,), "float32", "largest", "health/largest")
        taken = sum(_sampled(v)[1] for v in kernels)
        self.samples = Variable.of_zeros((taken,), "float32", "samples", "health/samples")
        self.entries: tuple[tuple[str, int, int], ...] = ()
        self.before: Snapshot | None = None
        self.done = 0
        self.was_due = True
        self._of_updates: Array | None = None

    def describe_structure(self, walk: Walk) -> None:
        """Says what programs depend on; no other model shares them."""
        walk.is_shared = False
        walk.add(type(self))
        for variable in (self.phase, self.counts, self.sums, self.largest, self.samples):
            walk.visit(variable)

    def trace(self, layout: Any, values: Any) -> None:
        """Adds the switch to the step that is being traced."""
        phase = self.phase.value
        program = HealthProgram(self.model, layout)
        held = self.counts, self.sums, self.largest, self.samples
        state = [variable.value for variable in held]

        def read(counts: Any, sums: Any, largest: Any, samples: Any) -> Any:
            vector, entries = program.moments(values)
            kernels = program.kernels()
            most = self.sums.shape[0] - len(kernels)
            if len(entries) > most:  # layers that are called again and again
                vector, entries = vector[:most], entries[:most]
            names = [("update", number, 0) for number, _ in kernels]
            self.entries = (*entries, *names)
            vector = self._placed([vector], len(entries))
            kept = [_taken(v) for _, v in kernels]
            now = ops.concatenate(kept) if kept else samples
            return counts + _READ, sums + vector, ops.maximum(largest, vector), now

        def measure(counts: Any, sums: Any, largest: Any, samples: Any) -> Any:
            kernels = program.kernels()
            start, ratios = 0, []
            for _, variable in kernels:
                now = _taken(variable)
                before = samples[start : start + _sampled(variable)[1]]
                start += _sampled(variable)[1]
                norm = ops.sqrt(ops.sum(ops.square(before))) + 1e-30
                ratios.append(ops.sqrt(ops.sum(ops.square(now - before))) / norm)
            if ratios:
                first = len(self.entries) - len(ratios)
                vector = self._placed([ops.zeros((first,)), ops.stack(ratios)], len(self.entries))
                sums, largest = sums + vector, ops.maximum(largest, vector)
            return counts + _MEASURED, sums, largest, samples

        after = ops.switch(phase, [read, measure], *state)
        for variable, value in zip(held, after, strict=True):
            variable.assign(value)
        self.phase.assign(1 - phase)

    def _placed(self, parts: list[Any], filled: int) -> Any:
        """The parts at the beginning of a vector as long as the state."""
        rest = self.sums.shape[0] - filled
        return ops.concatenate([*parts, ops.zeros((rest,))] if rest else parts)

    def restart(self) -> None:
        """Makes the next step due."""
        self.phase.state.zero()
        self.before = None  # the model may hold other variables than at the last training
        self.done = 0
        self.was_due = True

    def begin(self) -> None:
        """Starts new means, and keeps what the steps to come depend on."""
        if self.was_due:
            for variable in (self.counts, self.sums, self.largest):
                variable.state.zero()
            self.was_due = False
        if self.before is None:
            self.before = Snapshot(self.model)
        else:
            self.before.take_again()

    def read(self) -> tuple[Array, Array] | None:
        """Means and largest numbers since :meth:`begin`, in the order of :attr:`entries`.

        None if no step was due.
        """
        if not self.was_due:
            return None
        count, moved = self.counts.read()
        if not count or not self.entries:
            return None
        size = len(self.entries)
        if self._of_updates is None or len(self._of_updates) != size:
            self._of_updates = np.array([kind == "update" for kind, _, _ in self.entries])
        counts: Array = np.where(self._of_updates, max(moved, 1), count)
        means: Array = self.sums.read()[:size] / counts
        return means, self.largest.read()[:size].copy()


def _sampled(variable: Any) -> tuple[int, int]:
    """From element to element of a sample, and how many there are."""
    size = int(np.prod(variable.shape))
    stride = max(1, size // _SAMPLED)
    return stride, -(-size // stride)


def _taken(variable: Any) -> Any:
    stride, _ = _sampled(variable)
    flat = ops.reshape(ops.cast(variable.value, "float32"), (-1,))
    return flat[::stride] if stride > 1 else flat
