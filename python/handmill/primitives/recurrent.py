"""Recurrent layers along whole sequences: simple, GRU and LSTM, and their gradients.

``lstm(z, r, h0, c0, ...)`` and its like go along the steps of ``z`` (batch, time, gates x units),
to which inputs have added all they add: only ``h @ r`` is left to do in each step. Rows of a batch
know nothing of each other. The gradient goes the other way on what forward steps kept, and gives
the slopes of ``z``; those of ``r`` and of what lies before follow by products over all steps.

With ``masked`` there is an operand bool (batch, time): other steps leave the states as they are.
With ``dropout`` there is one (batch, gates x units) of factors, by which h is multiplied before
``h @ r``, for each gate. ``lstm_saved`` and its like give what the
gradient needs, too. The reset gate of ``gru`` acts on ``h @ r`` of the candidate, that of
``gru_before`` on h: the candidate then is made of ``(reset * h) @ r``, which waits for the gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.gradient import pullback
from handmill.ir.graph import current_graph
from handmill.ir.op import EPS32, REGISTRY, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives import channels, emit

GATES = {"simple_rnn": 1, "gru": 3, "gru_before": 3, "lstm": 4}


def _operands(kind: str, attrs: Attrs) -> tuple[str, ...]:
    """The names of the operands, in order."""
    names = ["z", "r", "h0"]
    names += {"gru": ["bias"], "lstm": ["c0"]}.get(kind, [])
    return (*names, *_options(attrs))


def _grad_operands(kind: str, attrs: Attrs) -> tuple[str, ...]:
    names = {
        "simple_rnn": ["r", "y"],
        "gru": ["r", "gates", "cells", "before"],
        "gru_before": ["r", "gates", "before"],
        "lstm": ["r", "gates", "cells", "c0"],
    }[kind]
    names += [name for name in ("dy", "dh", "dc") if attrs[f"has_{name}"]]
    return (*names, *_options(attrs))


def _steps_of(kind: str) -> str:
    """The operand of a gradient that is (batch, time, units)."""
    return {"simple_rnn": "y", "gru_before": "before"}.get(kind, "cells")


def _options(attrs: Attrs) -> list[str]:
    return ["mask"] * attrs["masked"] + ["drop"] * attrs["dropout"]


# --- shapes --------------------------------------------------------------------------------------


def _check(op: str, kind: str, given: dict[str, Spec], batch: Any, time: Any, units: Any) -> None:
    width = GATES[kind] * units
    shapes: dict[str, tuple[Any, ...]] = {
        "z": (batch, time, width),
        "r": (units, width),
        "gates": (batch, time, width),
        "mask": (batch, time),
        "drop": (batch, width),
        "bias": (units,),
        **{name: (batch, units) for name in ("h0", "c0", "dh", "dc")},
        **{name: (batch, time, units) for name in ("y", "cells", "before", "dy")},
    }
    for name, spec in given.items():
        want = shapes[name]
        dtype = "bool" if name == "mask" else given["r"].dtype
        fits = spec.rank == len(want) and all(map(same, spec.shape, want))
        if not fits or spec.dtype != dtype:
            raise shape_error(op, f"{name} of shape {want} and {dtype} was expected", given)


def _infer(kind: str, save: bool, *specs: Spec, backwards: bool, **options: bool) -> Any:
    given = dict(zip(_operands(kind, options), specs, strict=True))
    z, r = given["z"], given["r"]
    if z.rank != 3 or r.rank != 2 or not z.is_float:
        raise shape_error(kind, "z (batch, time, gates) and r were expected", given)
    batch, time, units = z.shape[0], z.shape[1], r.shape[0]
    _check(kind, kind, given, batch, time, units)
    state, steps = Spec((batch, units), z.dtype), Spec((batch, time, units), z.dtype)
    found = [steps, state]
    if kind == "lstm":
        found.append(state)
    if save:
        found += [steps] if kind == "simple_rnn" else [z, steps, steps]
    return tuple(found)


def _grad_infer(kind: str, *specs: Spec, backwards: bool, **options: bool) -> Any:
    given = dict(zip(_grad_operands(kind, options), specs, strict=True))
    r, steps = given["r"], given[_steps_of(kind)]
    if r.rank != 2 or steps.rank != 3:
        raise shape_error(f"{kind}_grad", "r and results of all steps were expected", given)
    batch, time, units = steps.shape[0], steps.shape[1], r.shape[0]
    _check(f"{kind}_grad", kind, given, batch, time, units)
    found = [Spec((batch, time, GATES[kind] * units), r.dtype), Spec((batch, units), r.dtype)]
    if kind == "lstm":
        found.append(found[1])
    if kind == "gru":
        found.append(Spec((batch, time, units), r.dtype))
    return tuple(found)


# --- references ----------------------------------------------------------------------------------


def steps_of(time: int, backwards: bool) -> list[int]:
    """The steps in the order in which they are made."""
    return list(range(time))[::-1] if backwards else list(range(time))


def _sigmoid(x: Array) -> Array:
    return np.asarray(REGISTRY["sigmoid"].reference(x))


def _times(h: Array, drop: Array | None, r: Array, gates: int) -> Array:
    """``h @ r``, for each gate of another h where there are factors."""
    if drop is None:
        return h @ r
    parts = zip(np.split(drop, gates, 1), np.split(r, gates, 1), strict=True)
    return np.concatenate([(h * factor) @ part for factor, part in parts], 1)


def _kept(h: Any, drop: Any) -> Any:
    """What dropout leaves of h for the candidate of a ``gru_before``."""
    return h if drop is None else h * drop[:, 2 * h.shape[1] :]


def _reference(
    kind: str, save: bool, *arrays: Array, backwards: bool, **options: bool
) -> tuple[Array, ...]:
    given: dict[str, Any] = dict(zip(_operands(kind, options), arrays, strict=True))
    z, r, h = given["z"], given["r"], given["h0"]
    gates, units = GATES[kind], r.shape[0]
    mask, drop = given.get("mask"), given.get("drop")
    y = np.zeros((*z.shape[:2], units), z.dtype)
    now: Any = None
    c: Any = given.get("c0")
    kept, cells, before = np.zeros_like(z), np.zeros_like(y), np.zeros_like(y)
    for t in steps_of(z.shape[1], backwards):
        counts = np.ones((len(z), 1), bool) if mask is None else mask[:, t, None]
        inner: Any = _times(h, drop, r, gates)
        before[:, t] = h
        if kind == "simple_rnn":
            found, cell = np.tanh(z[:, t] + inner), y[:, t]
        elif kind == "lstm":
            i, f, g, o = np.split(z[:, t] + inner, 4, 1)
            now = np.concatenate([_sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)], 1)
            i, f, g, o = np.split(now, 4, 1)
            c = np.where(counts, f * c + i * g, c)
            found, cell = o * np.tanh(c), c
        else:
            z_gate, r_gate = (
                _sigmoid(z[:, t, part] + inner[:, part])
                for part in (slice(0, units), slice(units, 2 * units))
            )
            if kind == "gru":
                cell = inner[:, 2 * units :] + given["bias"]
                candidate = r_gate * cell
            else:
                cell = r_gate * _kept(h, drop)
                candidate = cell @ r[:, 2 * units :]
            g = np.tanh(z[:, t, 2 * units :] + candidate)
            now = np.concatenate([z_gate, r_gate, g], 1)
            found, cell = z_gate * h + (1 - z_gate) * g, np.where(counts, cell, 0)
        h = np.where(counts, found, h)
        y[:, t] = h
        if kind != "simple_rnn":
            kept[:, t], cells[:, t] = np.where(counts, now, 0), cell
    results = [y, h] + ([c] if kind == "lstm" else [])
    if save:
        results += [before] if kind == "simple_rnn" else [kept, cells, before]
    return tuple(results)


def _before(steps: Array, first: Array, t: int, backwards: bool) -> Array:
    """What the step before ``t`` left."""
    s = t + 1 if backwards else t - 1
    return np.asarray(first if not 0 <= s < steps.shape[1] else steps[:, s])


def _slopes(
    kind: str, given: dict[str, Any], t: int, backwards: bool, dh: Array, dc: Array
) -> tuple[Array, Array, Array, Array]:
    """Slopes of ``h @ r`` and of z, and what goes past the gates to h and c before."""
    if kind == "simple_rnn":
        d = dh * (1 - given["y"][:, t] ** 2)
        return d, d, np.zeros_like(dh), dc
    if kind == "lstm":
        i, f, g, o = np.split(given["gates"][:, t], 4, 1)
        c = np.tanh(given["cells"][:, t])
        d_o = dh * c * o * (1 - o)
        dc = dc + dh * o * (1 - c**2)
        c_before = _before(given["cells"], given["c0"], t, backwards)
        d_i, d_g = dc * g * i * (1 - i), dc * i * (1 - g**2)
        d = np.concatenate([d_i, dc * c_before * f * (1 - f), d_g, d_o], 1)
        return d, d, np.zeros_like(dh), dc * f
    z, r, g = np.split(given["gates"][:, t], 3, 1)
    h_before = given["before"][:, t]
    d_z, d_g = dh * (h_before - g) * z * (1 - z), dh * (1 - z) * (1 - g**2)
    if kind == "gru_before":
        d_kept = d_g @ given["r"][:, 2 * r.shape[1] :].T
        d_r = d_kept * _kept(h_before, given.get("drop")) * r * (1 - r)
        past = dh * z + _kept(d_kept * r, given.get("drop"))
        of_state = np.concatenate([d_z, d_r, np.zeros_like(d_g)], 1)
        return of_state, np.concatenate([d_z, d_r, d_g], 1), past, dc
    d_r = d_g * given["cells"][:, t] * r * (1 - r)
    return np.concatenate([d_z, d_r, d_g * r], 1), np.concatenate([d_z, d_r, d_g], 1), dh * z, dc


def _grad_reference(
    kind: str, *arrays: Array, backwards: bool, slopes: Any = _slopes, **options: bool
) -> tuple[Array, ...]:
    given: dict[str, Any] = dict(zip(_grad_operands(kind, options), arrays, strict=True))
    r, steps = given["r"], given[_steps_of(kind)]
    gates, units = GATES[kind], r.shape[0]
    batch, time = steps.shape[:2]
    mask, drop = given.get("mask"), given.get("drop")
    zeros = np.zeros((batch, units), r.dtype)
    dh, dc = given.get("dh", zeros), given.get("dc", zeros)
    dz = np.zeros((batch, time, gates * units), r.dtype)
    dq = np.zeros((batch, time, units), r.dtype)
    for t in steps_of(time, not backwards):
        if "dy" in given:
            dh = dh + given["dy"][:, t]
        of_state, of_z, past, dc_before = slopes(kind, given, t, backwards, dh, dc)
        counts = np.ones((batch, 1), bool) if mask is None else mask[:, t, None]
        of_state, dz[:, t] = np.where(counts, of_state, 0), np.where(counts, of_z, 0)
        dq[:, t] = of_state[:, -units:]
        if drop is None:
            back = of_state @ r.T
        else:
            parts = (np.split(x, gates, 1) for x in (of_state, r, drop))
            back = sum(((d @ p.T) * factor for d, p, factor in zip(*parts, strict=True)), zeros)
        dh = np.where(counts, past + back, dh)
        dc = np.where(counts, dc_before, dc)
    return (dz, dh, *([dc] if kind == "lstm" else [dq] if kind == "gru" else []))


# --- bounds --------------------------------------------------------------------------------------


class _Steps:
    """The errors of one step, handed on to the next as its slopes say.

    A product errs by ``2 eps (units + 2)`` of the sum of its terms' magnitudes, a function by a
    few units in the last place; what comes in wrong is multiplied by the largest slopes (1/4 for a
    sigmoid, 1 for tanh) on its way.
    """

    def __init__(self, kind: str, output: int) -> None:
        self.kind, self.output = kind, output

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        kind = self.kind
        given: dict[str, Any] = dict(zip(_operands(kind, attrs), inputs, strict=True))
        saved = _reference(kind, True, *inputs, **attrs)
        z, size, gates = given["z"], np.abs(given["r"]), GATES[kind]
        units = size.shape[0]
        y, eps = saved[0], 4 * EPS32
        mask, drop = given.get("mask"), given.get("drop")
        drop = None if drop is None else np.abs(drop)
        e_h, e_c = np.zeros_like(given["h0"]), np.zeros_like(given["h0"])
        all_h, all_c, all_gates = np.zeros_like(y), np.zeros_like(y), np.zeros_like(z)
        all_before = np.zeros_like(y)
        for t in steps_of(z.shape[1], attrs["backwards"]):
            before = np.abs(_before(y, given["h0"], t, attrs["backwards"]))
            terms = _times(before, drop, size, gates) + np.abs(z[:, t])
            all_before[:, t] = e_h
            if kind == "gru":
                terms[:, 2 * units :] += np.abs(given["bias"])
            e_z = 2 * EPS32 * (units + 4) * terms + _times(e_h, drop, size, gates)
            if kind == "simple_rnn":
                now, new_h, new_c = e_z, e_z + eps, e_c
            elif kind == "lstm":
                i, f, g, o = np.split(e_z, 4, 1)
                i, f, g, o = i / 4 + eps, f / 4 + eps, g + eps, o / 4 + eps
                c = np.abs(saved[4][:, t])
                c_before = np.abs(_before(saved[4], given["c0"], t, attrs["backwards"]))
                new_c = f * c_before + i + g + e_c + eps * (c + c_before + 1)
                new_h = o + new_c + eps
                now = np.concatenate([i, f, g, o], 1)
            elif kind == "gru_before":
                z_, r_, _ = np.split(e_z, 3, 1)
                z_, r_ = z_ / 4 + eps, r_ / 4 + eps
                kernel, cell = size[:, 2 * units :], np.abs(saved[3][:, t])
                new_c = r_ * _kept(before, drop) + _kept(e_h, drop) + eps * cell
                terms = cell @ kernel + np.abs(z[:, t, 2 * units :])
                g = 2 * EPS32 * (units + 4) * terms + new_c @ kernel + eps
                new_h = (z_ + eps) * (before + 1) + e_h + g
                now = np.concatenate([z_, r_, g], 1)
            else:
                z_, r_, q_ = np.split(e_z, 3, 1)
                q = np.abs(saved[3][:, t])
                z_, r_, new_c = z_ / 4 + eps, r_ / 4 + eps, q_ + eps * q
                g = r_ * q + q_ + eps * (1 + q + np.abs(z[:, t, 2 * units :]))
                new_h = (z_ + eps) * (before + 1) + e_h + g
                now = np.concatenate([z_, r_, g], 1)
            counts = np.ones((len(z), 1), bool) if mask is None else mask[:, t, None]
            e_h, e_c = np.where(counts, new_h, e_h), np.where(counts, new_c, e_c)
            all_h[:, t], all_c[:, t], all_gates[:, t] = e_h, e_c, now
        found = [all_h, e_h, *([e_c] if kind == "lstm" else [])]
        found += [all_before] if kind == "simple_rnn" else [all_gates, all_c, all_before]
        return np.asarray(found[self.output])


def _sizes(kind: str, given: dict[str, Any], t: int, backwards: bool, dh: Array, dc: Array) -> Any:
    """As :func:`_slopes`, of magnitudes: no term takes anything from another one."""
    if kind == "simple_rnn":
        d = dh * (1 + given["y"][:, t] ** 2)
        return d, d, np.zeros_like(dh), dc
    if kind == "lstm":
        i, f, g, o = (np.abs(x) for x in np.split(given["gates"][:, t], 4, 1))
        c = np.abs(np.tanh(given["cells"][:, t]))
        dc = dc + dh * o * (1 + c**2)
        c_before = np.abs(_before(given["cells"], given["c0"], t, backwards))
        d = [dc * g * i * (1 + i), dc * c_before * f * (1 + f), dc * i * (1 + g**2)]
        d = np.concatenate([*d, dh * c * o * (1 + o)], 1)
        return d, d, np.zeros_like(dh), dc * f
    z, r, g = (np.abs(x) for x in np.split(given["gates"][:, t], 3, 1))
    h_before = np.abs(given["before"][:, t])
    d_z, d_g = dh * (h_before + g) * z * (1 + z), dh * (1 + z) * (1 + g**2)
    if kind == "gru_before":
        d_kept = d_g @ given["r"][:, 2 * r.shape[1] :].T
        d_r = d_kept * _kept(h_before, given.get("drop")) * r * (1 + r)
        past = dh * z + _kept(d_kept * r, given.get("drop"))
        of_state = np.concatenate([d_z, d_r, np.zeros_like(d_g)], 1)
        return of_state, np.concatenate([d_z, d_r, d_g], 1), past, dc
    d_r = d_g * np.abs(given["cells"][:, t]) * r * (1 + r)
    return np.concatenate([d_z, d_r, d_g * r], 1), np.concatenate([d_z, d_r, d_g], 1), dh * z, dc


class _GradSteps:
    """A step back is linear in what comes from behind: each rounds what its terms add up to.

    Kernels leave slopes below 1e-25 out, since they end where numbers have no full precision.
    """

    def __init__(self, kind: str, output: int) -> None:
        self.kind, self.output = kind, output

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        kind = self.kind
        names = _grad_operands(kind, attrs)
        signed = ("r", "dy", "dh", "dc", "drop")
        sizes = [np.abs(x) if n in signed else x for n, x in zip(names, inputs, strict=True)]
        found = _grad_reference(kind, *sizes, slopes=_sizes, **attrs)[self.output]
        units, time = inputs[0].shape[0], inputs[1].shape[1]
        bound: Array = 2 * EPS32 * (time + 1) * (GATES[kind] * units + 16) * found + 1e-20
        return bound


# --- gradients -----------------------------------------------------------------------------------


def _vjp(kind: str, save: bool, inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    names, states = _operands(kind, attrs), 3 if kind == "lstm" else 2
    if any(dy is not None for dy in dys[states:]):  # of what is kept for a gradient: its gradient
        graph: Any = current_graph()
        start = len(graph.nodes)
        found = _composite(kind, *inputs, **attrs)
        pairs = [(y, dy) for y, dy in zip(found, dys, strict=True) if dy is not None]
        ends, slopes_of = zip(*pairs, strict=True)
        return pullback(graph, ends, slopes_of, inputs, graph.nodes[start:])
    if not save:  # a model that infers: again, with what is needed here
        outputs = apply(SAVED[kind], *inputs, **attrs)
    given = dict(zip(names, inputs, strict=True))
    given["y"], given["before"] = outputs[0], outputs[-1]
    if kind != "simple_rnn":
        given["gates"], given["cells"] = outputs[-3:-1]
    has = dict(zip(("dy", "dh", "dc"), (*dys[:states], None), strict=False))
    given |= has
    attrs |= {f"has_{name}": dy is not None for name, dy in has.items()}
    operands = (given[name] for name in _grad_operands(kind, attrs))
    found = apply(GRADS[kind], *operands, **attrs)
    slopes = {"z": found[0], "h0": found[1]}
    of_state, units = found[0], given["r"].shape[0]
    if kind == "lstm":
        slopes["c0"] = found[2]
    if kind == "gru":
        slopes["bias"] = emit.reduce("sum", found[2], (0, 1))
        of_state = _join([emit.slice_axis(found[0], 2, 0, 2 * units), found[2]], 2)
    drop, before = given.get("drop"), given["before"]
    if kind == "gru_before":
        slopes["r"], of_drop = _of_both_kernels(given, of_state, units)
        slopes |= {} if drop is None else {"drop": of_drop}
        return tuple(slopes.get(name) for name in names)
    slopes["r"] = _of_recurrent_kernel(before, of_state, drop, GATES[kind])
    if drop is not None:
        slopes["drop"] = _of_factors(before, of_state, given["r"], GATES[kind])
    return tuple(slopes.get(name) for name in names)


def _join(parts: list[Any], axis: int) -> Any:
    return apply(REGISTRY["concatenate"], *parts, axis=axis)


def float_vjp(kind: str, inputs: Any, dys: Any, **attrs: Any) -> Any:
    """The gradient for the operands of a layer that has not kept what it needs."""
    return _vjp(kind, False, inputs, None, dys, **attrs)


def _shifted(steps: Any, first: Any, backwards: bool) -> Any:
    """What the step before each one left."""
    batch, time, units = steps.shape
    begin = emit.reshape(first, (batch, 1, units))
    if backwards:
        return emit.slice_axis(_join([steps, begin], 1), 1, 1, time + 1)
    return emit.slice_axis(_join([begin, steps], 1), 1, 0, time)


def _flat(x: Any) -> Any:
    return emit.reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))


def _of_recurrent_kernel(before: Any, of_state: Any, drop: Any, gates: int) -> Any:
    if drop is None:
        return emit.matmul(_flat(before), _flat(of_state), transpose_a=True)
    batch, _, units = before.shape
    found = []
    for g in range(gates):
        factor = emit.reshape(
            emit.slice_axis(drop, 1, g * units, (g + 1) * units), (batch, 1, units)
        )
        part = emit.slice_axis(of_state, 2, g * units, (g + 1) * units)
        kept = _flat(emit.multiply(before, factor))
        found.append(emit.matmul(kept, _flat(part), transpose_a=True))
    return _join(found, 1) if gates > 1 else found[0]


def _of_both_kernels(given: dict[str, Any], of_z: Any, units: int) -> tuple[Any, Any]:
    """Slopes of r and of the factors of a ``gru_before``, whose candidate has an h of its own."""

    def part(x: Any, begin: int, end: int, axis: int) -> Any:
        return emit.slice_axis(x, axis, begin * units, end * units)

    before, drop, r = given["before"], given.get("drop"), given["r"]
    of_gates, of_candidate = part(of_z, 0, 2, 2), part(of_z, 2, 3, 2)
    factors = None if drop is None else part(drop, 0, 2, 1)
    of_r = [
        _of_recurrent_kernel(before, of_gates, factors, 2),
        _of_recurrent_kernel(given["cells"], of_candidate, None, 1),
    ]
    if drop is None:
        return _join(of_r, 1), None
    reset = emit.multiply(before, part(given["gates"], 1, 2, 2))
    of_drop = [
        _of_factors(before, of_gates, part(r, 0, 2, 1), 2),
        _of_factors(reset, of_candidate, part(r, 2, 3, 1), 1),
    ]
    return _join(of_r, 1), _join(of_drop, 1)


def _of_factors(before: Any, of_state: Any, r: Any, gates: int) -> Any:
    batch, time, units = before.shape
    found = []
    for g in range(gates):
        part = emit.slice_axis(of_state, 2, g * units, (g + 1) * units)
        kernel = emit.slice_axis(r, 1, g * units, (g + 1) * units)
        back = emit.matmul(_flat(part), kernel, transpose_b=True)
        terms = emit.multiply(before, emit.reshape(back, (batch, time, units)))
        found.append(emit.reduce("sum", terms, (1,)))
    return _join(found, 1) if gates > 1 else found[0]


def _composite(kind: str, *values: Any, backwards: bool, **options: bool) -> Any:
    """The steps as a scan, with all that ``_saved`` gives."""
    from handmill import ops

    given: dict[str, Any] = dict(zip(_operands(kind, options), values, strict=True))
    r, gates = given["r"], GATES[kind]
    units, drop = r.shape[0], given.get("drop")
    rows = {name: ops.swapaxes(given[name], 0, 1) for name in ("z", "mask") if name in given}

    def step(now: Any, row: Any) -> Any:
        h, c = now
        z, new_c = row["z"], c
        if drop is None:
            inner = ops.matmul(h, r)
        else:
            parts = zip(ops.split(drop, gates, axis=1), ops.split(r, gates, axis=1), strict=True)
            inner = ops.concatenate([ops.matmul(h * f, part) for f, part in parts], axis=1)
        if kind == "simple_rnn":
            new_h, kept, cell = ops.tanh(z + inner), None, None
        elif kind == "lstm":
            i, f, g, o = ops.split(z + inner, 4, axis=1)
            i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
            cell = new_c = f * c + i * g
            new_h, kept = o * ops.tanh(new_c), ops.concatenate([i, f, g, o], axis=1)
        else:
            found = ops.sigmoid(z[:, : 2 * units] + inner[:, : 2 * units])
            if kind == "gru":
                cell = inner[:, 2 * units :] + given["bias"]
                candidate = found[:, units:] * cell
            else:
                cell = found[:, units:] * _kept(h, drop)
                candidate = ops.matmul(cell, r[:, 2 * units :])
            g = ops.tanh(z[:, 2 * units :] + candidate)
            new_h = found[:, :units] * h + (1 - found[:, :units]) * g
            kept = ops.concatenate([found, g], axis=1)
        if "mask" in row:
            counts = ops.expand_dims(row["mask"], 1)
            new_h, new_c = ops.where(counts, new_h, h), ops.where(counts, new_c, c)
            if kind != "simple_rnn":
                kept = ops.where(counts, kept, ops.zeros_like(kept))
                cell = new_c if kind == "lstm" else ops.where(counts, cell, ops.zeros_like(cell))
        saved = () if kind == "simple_rnn" else (kept, cell)
        return (new_h, new_c), (new_h, *saved, h)

    beginning = (given["h0"], given.get("c0", ops.zeros_like(given["h0"])))
    (h, c), found = ops.scan(step, beginning, rows, reverse=backwards)
    y, *saved = (ops.swapaxes(x, 0, 1) for x in found)
    return (y, h, *([c] if kind == "lstm" else []), *saved)


def _grad_composite(kind: str, *values: Any, backwards: bool, **options: bool) -> Any:
    """The steps as a scan, for gradients of gradients."""
    from handmill import ops

    given: dict[str, Any] = dict(zip(_grad_operands(kind, options), values, strict=True))
    r, steps = given["r"], given[_steps_of(kind)]
    gates, units = GATES[kind], r.shape[0]
    drop = given.get("drop")
    zeros = ops.zeros((steps.shape[0], units), dtype=r.dtype)
    rows: dict[str, Any] = {
        name: ops.swapaxes(given[name], 0, 1)
        for name in ("gates", "cells", "y", "before", "dy", "mask")
        if name in given
    }
    if kind == "lstm":
        shifted = _shifted(given["cells"], given["c0"], backwards)
        rows["before"] = ops.swapaxes(shifted, 0, 1)

    def step(now: Any, row: Any) -> Any:
        dh, dc = now
        if "dy" in row:
            dh = dh + row["dy"]
        past, dc_before = ops.zeros_like(dh), dc
        if kind == "simple_rnn":
            of_state = of_z = dh * (1 - row["y"] * row["y"])
        elif kind == "lstm":
            i, f, g, o = ops.split(row["gates"], 4, axis=1)
            c = ops.tanh(row["cells"])
            d_c = dc + dh * o * (1 - c * c)
            parts = [d_c * g * i * (1 - i), d_c * row["before"] * f * (1 - f)]
            parts += [d_c * i * (1 - g * g), dh * c * o * (1 - o)]
            of_state = of_z = ops.concatenate(parts, axis=1)
            dc_before = d_c * f
        else:
            z, reset, g = ops.split(row["gates"], 3, axis=1)
            d_z, d_g = dh * (row["before"] - g) * z * (1 - z), dh * (1 - z) * (1 - g * g)
            past = dh * z
            if kind == "gru":
                d_r = d_g * row["cells"] * reset * (1 - reset)
                of_candidate = d_g * reset
            else:
                d_kept = ops.matmul(d_g, ops.transpose(r[:, 2 * units :]))
                d_r = d_kept * _kept(row["before"], drop) * reset * (1 - reset)
                past = past + _kept(d_kept * reset, drop)
                of_candidate = ops.zeros_like(d_g)
            of_state = ops.concatenate([d_z, d_r, of_candidate], axis=1)
            of_z = ops.concatenate([d_z, d_r, d_g], axis=1)
        if drop is None:
            back = ops.matmul(of_state, ops.transpose(r))
        else:
            back = ops.zeros_like(dh)
            for d, kernel, factor in zip(
                *(ops.split(x, gates, axis=1) for x in (of_state, r, drop)), strict=True
            ):
                back = back + ops.matmul(d, ops.transpose(kernel)) * factor
        after = past + back
        if "mask" in row:
            counts = ops.expand_dims(row["mask"], 1)
            of_state = ops.where(counts, of_state, ops.zeros_like(of_state))
            of_z = ops.where(counts, of_z, ops.zeros_like(of_z))
            after, dc_before = ops.where(counts, after, dh), ops.where(counts, dc_before, dc)
        return (after, dc_before), (of_z, of_state[:, (gates - 1) * units :])

    beginning = (given.get("dh", zeros), given.get("dc", zeros))
    (dh, dc), (dz, dq) = ops.scan(step, beginning, rows, reverse=not backwards)
    found = [ops.swapaxes(dz, 0, 1), dh]
    if kind == "lstm":
        found.append(dc)
    return (*found, ops.swapaxes(dq, 0, 1)) if kind == "gru" else tuple(found)


# --- samples -------------------------------------------------------------------------------------

_CASES: tuple[tuple[str, tuple[int, int, int], str], ...] = (
    ("3x4x5", (3, 4, 5), ""),
    ("2x3x17_backwards", (2, 3, 17), "backwards"),
    ("5x4x6_masked", (5, 4, 6), "masked"),
    ("6x3x4_dropout", (6, 3, 4), "dropout"),
    ("19x3x20_all", (19, 3, 20), "backwards masked dropout"),
    ("1x2x70", (1, 2, 70), ""),
    ("0x3x4", (0, 3, 4), "masked"),
    ("2x0x4", (2, 0, 4), ""),
    ("bench", (64, 100, 128), ""),
)


def _draw(
    rng: np.random.Generator, kind: str, size: tuple[int, int, int], names: Sequence[str]
) -> tuple[Array, ...]:
    batch, time, units = size
    width = GATES[kind] * units
    scale = 1 / np.sqrt(units)
    made: dict[str, Array] = {
        "z": rng.normal(size=(batch, time, width)),
        "r": rng.uniform(-scale, scale, (units, width)),
        "bias": rng.normal(size=units),
        "mask": rng.random((batch, time)) < 0.7,
        "drop": rng.choice((0.0, 1.25), (batch, width)),
        **{name: rng.normal(size=(batch, units)) for name in ("h0", "c0", "dh", "dc")},
        **{name: rng.normal(size=(batch, time, units)) for name in ("cells", "before", "dy")},
        "y": np.tanh(rng.normal(size=(batch, time, units))),
        "gates": rng.uniform(0.1, 0.9, (batch, time, width)),
    }
    found = [made[name] for name in names]
    return tuple(x if x.dtype == bool else x.astype(np.float32) for x in found)


def _samples(kind: str, gradient: bool) -> Iterable[Sample]:
    for name, size, given in _CASES:
        attrs = {key: key in given for key in ("backwards", "masked", "dropout")}
        if gradient:
            attrs |= {"has_dy": "3x4x5" not in name, "has_dh": "17" not in name}
            attrs["has_dc"] = kind == "lstm" and "17" not in name
        names = (_grad_operands if gradient else _operands)(kind, attrs)
        bench = name == "bench"
        make = partial(_draw, kind=kind, size=size, names=names)
        yield Sample(name, make, attrs, smooth=not bench and 0 not in size, bench=bench)


def _native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return all(spec.dtype in ("float32", "bool") for spec in specs)


def _flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
    gates = max((spec for spec in (*inputs, *outputs) if spec.rank == 3), key=lambda s: s.shape[2])
    units = next(spec.shape[0] for spec in inputs if spec.rank == 2)
    count: Any = 2 * gates.shape[0] * gates.shape[1] * gates.shape[2] * units
    return int(count)


def _record(kind: str, save: bool) -> Op:
    saved = 0 if not save else 1 if kind == "simple_rnn" else 3
    count = 2 + (kind == "lstm") + saved
    return register(
        Op(
            f"{kind}_saved" if save else kind,
            infer=partial(_infer, kind, save),
            reference=partial(_reference, kind, save),
            samples=partial(_samples, kind, False),
            bound=tuple(_Steps(kind, i) for i in range(count)),
            vjp=partial(_vjp, kind, save),
            composite=lambda *values, **attrs: _composite(kind, *values, **attrs)[:count],
            channels=channels.stepped,
            kernel="recurrent",
            kernel_attrs=(("kind", kind), ("save", save)),
            native=_native,
            flops=_flops,
            # Gates lie where what made them lay.
            alias=((count - 3, 0),) if saved == 3 else (),
        )
    )


def _grad_record(kind: str) -> Op:
    return register(
        Op(
            f"{kind}_grad",
            infer=partial(_grad_infer, kind),
            reference=partial(_grad_reference, kind),
            samples=partial(_samples, kind, True),
            bound=tuple(_GradSteps(kind, i) for i in range(3 if kind in ("gru", "lstm") else 2)),
            composite=partial(_grad_composite, kind),
            kernel="recurrent_grad",
            kernel_attrs=(("kind", kind),),
            native=_native,
            flops=_flops,
            alias=() if kind == "simple_rnn" else ((0, 1),),
        )
    )


PLAIN = {kind: _record(kind, save=False) for kind in GATES}
"""The operator of each kind, for inference."""
SAVED = {kind: _record(kind, save=True) for kind in GATES}
"""The same operators for training."""
GRADS = {kind: _grad_record(kind) for kind in GATES}
