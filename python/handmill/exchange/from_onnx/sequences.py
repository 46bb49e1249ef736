"""ONNX's recurrent layers and attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.elementwise import like
from handmill.exchange.from_onnx.execution import Call, Unreadable, rule
from handmill.exchange.messages import DTYPES
from handmill.ir.dims import is_symbolic_dim

_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "affine": lambda x, a=1.0, b=0.0: x * a + b,
    "elu": lambda x, a=1.0, b=0.0: ops.elu(x, alpha=a),
    "hardsigmoid": lambda x, a=0.2, b=0.5: ops.clip(x * a + b, 0.0, 1.0),
    "leakyrelu": lambda x, a=0.01, b=0.0: ops.leaky_relu(x, negative_slope=a),
    "relu": lambda x, a=0.0, b=0.0: ops.relu(x),
    "scaledtanh": lambda x, a=1.0, b=1.0: ops.tanh(x * b) * a,
    "sigmoid": lambda x, a=0.0, b=0.0: ops.sigmoid(x),
    "softplus": lambda x, a=0.0, b=0.0: ops.softplus(x),
    "softsign": lambda x, a=0.0, b=0.0: ops.softsign(x),
    "tanh": lambda x, a=0.0, b=0.0: ops.tanh(x),
    "thresholdedrelu": lambda x, a=1.0, b=0.0: ops.where(ops.greater(x, a), x, ops.zeros_like(x)),
}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def _functions(call: Call, directions: int) -> list[list[Callable[..., Any]]]:
    kind = call.step.op
    names = call.attr("activations", _DEFAULTS[kind] * directions)
    alphas, betas = list(call.attr("activation_alpha", [])), list(call.attr("activation_beta", []))
    each = len(_DEFAULTS[kind])
    found = []
    for name in names:
        function = _ACTIVATIONS.get(name.lower())
        if function is None:
            raise Unreadable(f"the activation {name!r} is not read")
        parameters = {}
        if name.lower() in ("affine", "elu", "hardsigmoid", "leakyrelu", "scaledtanh",
                            "thresholdedrelu") and alphas:  # fmt: skip
            parameters["a"] = alphas.pop(0)
        if name.lower() in ("affine", "hardsigmoid", "scaledtanh") and betas:
            parameters["b"] = betas.pop(0)
        found.append(lambda x, f=function, p=parameters: f(x, **p))
    if len(found) != each * directions:
        raise Unreadable(f"{len(found)} activations for {directions} directions")
    return [found[i * each : (i + 1) * each] for i in range(directions)]


@rule("RNN", "GRU", "LSTM")
def recurrence(
    call: Call,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lengths: Any = None,
    h0: Any = None,
    c0: Any = None,
    p: Any = None,
) -> Any:
    """Steps along sequences, in one direction or both."""
    kind = call.step.op
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(
        call.attr("direction", "forward")
    )
    if directions is None:
        raise Unreadable(f"the direction {call.attr('direction')!r} is not read")
    if call.attr("clip", 0.0):
        raise Unreadable("clip is not read")
    units = call.attr("hidden_size", int(r.shape[-1]))
    if int(r.shape[-1]) != units or int(w.shape[0]) != len(directions):
        raise Unreadable(f"weights of shape {w.shape} and {r.shape}, hidden_size {units}")
    by_row = bool(call.attr("layout", 0))
    if by_row:
        x = ops.swapaxes(x, 0, 1)
        h0, c0 = (None if s is None else ops.swapaxes(s, 0, 1) for s in (h0, c0))
    functions = _functions(call, len(directions))
    ys, hs, cs = [], [], []
    for d, backwards in enumerate(directions):
        part = [None if v is None else v[d] for v in (w, r, b, h0, c0, p)]
        y, h, c = _direction(call, kind, x, part, lengths, units, functions[d], backwards)
        ys.append(y)
        hs.append(h)
        cs.append(c)
    y = ops.stack(ys, axis=1)  # (time, directions, batch, units)
    h = ops.stack(hs, axis=0)
    c = ops.stack(cs, axis=0)
    if by_row:
        y, h, c = ops.transpose(y, (2, 0, 1, 3)), ops.swapaxes(h, 0, 1), ops.swapaxes(c, 0, 1)
    return (y, h, c) if kind == "LSTM" else (y, h)


def _direction(
    call: Call,
    kind: str,
    x: Any,
    part: list[Any],
    lengths: Any,
    units: int,
    functions: list[Callable[..., Any]],
    backwards: bool,
) -> tuple[Any, Any, Any]:
    w, r, b, h0, c0, p = part
    time, batch = x.shape[0], x.shape[1]
    gates = _GATES[kind]
    zeros = ops.broadcast_to(like(x, 0), (batch, units))
    z = ops.matmul(x, ops.transpose(w))
    before_reset = kind == "GRU" and bool(call.attr("linear_before_reset", 0))
    rb: Any = like(x, 0)
    if b is not None:
        z = z + b[: gates * units]
        rb = b[gates * units :]
        if not before_reset:
            z = z + rb
    counts = None
    if lengths is not None:
        if is_symbolic_dim(time):
            raise Unreadable("sequence_lens where a call decides the number of steps")
        call.room([time, batch])
        places = np.arange(int(time), dtype="int32")[:, None]
        counts = ops.less(places, ops.cast(lengths, "int32"))
    turned = ops.transpose(r)
    f, g, h_function = (*functions, *functions, *functions)[:3]

    def step(state: Any, row: Any) -> Any:
        h, c = state
        now = row["z"]
        new_c = c
        if kind == "RNN":
            new_h = f(now + ops.matmul(h, turned))
        elif kind == "LSTM":
            i, o, forget, cell = ops.split(now + ops.matmul(h, turned), 4, axis=1)
            if p is not None:
                i, forget = i + p[:units] * c, forget + p[2 * units :] * c
            i, forget = f(i), f(forget)
            if call.attr("input_forget", 0):
                forget = 1.0 - i
            new_c = forget * c + i * g(cell)
            if p is not None:
                o = o + p[units : 2 * units] * new_c
            new_h = f(o) * h_function(new_c)
        else:
            zz, rr = ops.split(
                f(
                    now[:, : 2 * units]
                    + ops.matmul(h, turned[:, : 2 * units])
                    + (rb[: 2 * units] if before_reset and b is not None else 0.0)
                ),
                2,
                axis=1,
            )
            if before_reset:
                inner = ops.matmul(h, turned[:, 2 * units :])
                inner = rr * (inner + rb[2 * units :] if b is not None else inner)
            else:
                inner = ops.matmul(rr * h, turned[:, 2 * units :])
            new_h = (1.0 - zz) * g(now[:, 2 * units :] + inner) + zz * h
        if "counts" in row:
            seen = ops.expand_dims(row["counts"], 1)
            out = ops.where(seen, new_h, ops.zeros_like(new_h))
            return (ops.where(seen, new_h, h), ops.where(seen, new_c, c)), out
        return (new_h, new_c), new_h

    rows = {"z": z} if counts is None else {"z": z, "counts": counts}
    first = (zeros if h0 is None else h0, zeros if c0 is None else c0)
    (h, c), y = ops.scan(step, first, rows, reverse=backwards)
    return y, h, c


# --- attention -----------------------------------------------------------------------------------


@rule("Attention")
def attention(
    call: Call,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    past_k: Any = None,
    past_v: Any = None,
    lengths: Any = None,
) -> Any:
    """Averages of values by the softmax of scores; heads apart, or side by side."""
    flat = len(q.shape) == 3
    heads, kv_heads = call.attr("q_num_heads", 0), call.attr("kv_num_heads", 0)
    if flat:
        if heads < 1 or kv_heads < 1:
            raise Unreadable("q_num_heads and kv_num_heads are needed with three axes")
        q = _heads(q, heads)
        k, v = _heads(k, kv_heads), _heads(v, kv_heads)
    past = 0
    if past_k is not None and past_v is not None:
        past = int(past_k.shape[2])
        k, v = ops.concatenate([past_k, k], axis=2), ops.concatenate([past_v, v], axis=2)
    present = k, v
    heads, kv_heads = int(q.shape[1]), int(k.shape[1])
    if kv_heads < 1 or heads % kv_heads:
        raise Unreadable(f"{heads} heads of queries share {kv_heads} of keys")
    if heads != kv_heads:
        k, v = (ops.repeat(x, heads // kv_heads, axis=1) for x in (k, v))
    scale = call.attr("scale", 0.0) or 1 / math.sqrt(int(q.shape[-1]))
    root = like(q, math.sqrt(scale))
    scores = ops.matmul(q * root, ops.swapaxes(k * root, 2, 3))
    mode, steps = call.attr("qk_matmul_output_mode", 0), [scores]
    total, queries = k.shape[2], q.shape[2]
    call.room([total, queries])
    bias: Any = None
    if mask is not None:
        missing = int(total) - int(mask.shape[-1])
        boolean = str(mask.dtype) == "bool"
        if missing > 0:
            pairs = [(0, 0)] * (len(mask.shape) - 1) + [(0, missing)]
            mask = ops.pad(mask, pairs, constant_values=False if boolean else -np.inf)
        none = ops.cast(like(q, 0), q.dtype)
        bias = ops.where(mask, none, like(q, -np.inf)) if boolean else ops.cast(mask, q.dtype)
    if call.attr("is_causal", 0):
        offset = past
        rows = np.arange(int(queries))[:, None] + offset
        seen: Any = np.arange(int(total)) <= rows
        if lengths is not None and past_k is None:
            starts = ops.reshape(ops.cast(lengths, "int32"), (-1, 1, 1, 1)) - int(queries)
            columns = np.arange(int(total), dtype="int32")
            seen = ops.less_equal(columns, np.arange(int(queries), dtype="int32")[:, None] + starts)
        hidden = ops.where(seen, like(q, 0), like(q, -np.inf))
        bias = hidden if bias is None else bias + hidden
    if lengths is not None:
        there = ops.less(
            np.arange(int(total), dtype="int32"),
            ops.reshape(ops.cast(lengths, "int32"), (-1, 1, 1, 1)),
        )
        hidden = ops.where(there, like(q, 0), like(q, -np.inf))
        bias = hidden if bias is None else bias + hidden
    left, right = call.attr("left_window_size", -1), call.attr("right_window_size", -1)
    if left >= 0 or right >= 0:
        if lengths is not None and past_k is None:
            raise Unreadable("a window together with nonpad_kv_seqlen is not read")
        apart = np.arange(int(total)) - (np.arange(int(queries))[:, None] + past)
        near = (apart >= -left if left >= 0 else True) & (apart <= right if right >= 0 else True)
        hidden = ops.where(near, like(q, 0), like(q, -np.inf))
        bias = hidden if bias is None else bias + hidden
    if (cap := call.attr("softcap", 0.0)) > 0:
        capped = ops.tanh(scores / like(q, cap)) * like(q, cap)
    else:
        capped = scores
    biased = capped if bias is None else capped + bias
    # A query that sees nothing has no weights, not NaN.
    top = ops.max(biased, axis=-1, keepdims=True)
    blind = ops.equal(top, like(q, -np.inf))
    weights = ops.softmax(ops.where(blind, ops.zeros_like(biased), biased), axis=-1)
    weights = ops.where(blind, ops.zeros_like(weights), weights)
    steps += [capped, biased, weights]
    y = ops.matmul(weights, v)
    if flat:
        batch, count = y.shape[0], y.shape[2]
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (batch, count, heads * int(y.shape[3])))
    if not 0 <= mode < len(steps):
        raise Unreadable(f"qk_matmul_output_mode {mode}")
    return y, *present, steps[mode]


def _heads(x: Any, heads: int) -> Any:
    batch, steps, width = x.shape
    if width % heads:
        raise Unreadable(f"{width} entries in {heads} heads")
    return ops.transpose(ops.reshape(x, (batch, steps, heads, width // heads)), (0, 2, 1, 3))


@rule("RotaryEmbedding")
def rotary_embedding(call: Call, x: Any, cos: Any, sin: Any, places: Any = None) -> Any:
    """Pairs of entries turned by angles."""
    flat = len(x.shape) == 3
    heads = call.attr("num_heads", 0)
    given = (
        ops.transpose(_heads(x, heads), (0, 2, 1, 3)) if flat else ops.transpose(x, (0, 2, 1, 3))
    )
    width = int(given.shape[-1])
    turned = call.attr("rotary_embedding_dim", 0) or width
    part, rest = given[..., :turned], given[..., turned:]
    if places is not None:
        cos, sin = ops.take(cos, places, axis=0), ops.take(sin, places, axis=0)
    cos, sin = (ops.expand_dims(v[..., : turned // 2], 2) for v in (cos, sin))
    if call.attr("interleaved", 0):
        a, b = part[..., 0::2], part[..., 1::2]
        pairs = ops.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
        found = ops.reshape(pairs, part.shape)
    else:
        a, b = part[..., : turned // 2], part[..., turned // 2 :]
        found = ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    found = ops.concatenate([found, rest], axis=-1) if turned < width else found
    return ops.reshape(found, x.shape) if flat else ops.transpose(found, (0, 2, 1, 3))


# --- windows of signals --------------------------------------------------------------------------


@rule("HannWindow", "HammingWindow", "BlackmanWindow")
def window(call: Call, size: Any) -> Any:
    """A weight for each place of a window."""
    count = int(call.known(size, "size").reshape(-1)[0])
    call.room([count])
    parts = {
        "HannWindow": (0.5, 0.5, 0.0),
        "HammingWindow": (25 / 46, 1 - 25 / 46, 0.0),
        "BlackmanWindow": (0.42, 0.5, 0.08),
    }[call.step.op]
    divisor = count if call.attr("periodic", 1) else count - 1
    angle = 2 * np.pi * np.arange(count) / max(divisor, 1)
    found = parts[0] - parts[1] * np.cos(angle) + parts[2] * np.cos(2 * angle)
    return found.astype(DTYPES.get(call.attr("output_datatype", 1), "float32"))
