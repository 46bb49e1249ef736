"""Small folders in the layout of Hugging Face's libraries, and what their models compute."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handmill.saving.tensors import to_tensors

Tensors = dict[str, np.ndarray[Any, Any]]

GPT2 = {
    "model_type": "gpt2", "vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2,
    "n_positions": 12, "n_inner": None, "activation_function": "gelu_new", "use_cache": True,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "layer_norm_epsilon": 1e-5,
}  # fmt: skip
BERT = {
    "model_type": "bert", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 12,
    "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
CONFIGS = {"gpt2": GPT2, "bert": BERT, "llama": LLAMA}


def shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Names without a prefix, and shapes, as transformers writes them."""
    found: dict[str, tuple[int, ...]] = {}
    if family == "gpt2":
        found |= {"wte.weight": (11, 8), "wpe.weight": (12, 8)}
        for i in range(2):
            h = f"h.{i}."
            for name, rows, columns in (
                ("attn.c_attn", 8, 24), ("attn.c_proj", 8, 8), ("mlp.c_fc", 8, 32),
                ("mlp.c_proj", 32, 8),
            ):  # fmt: skip
                found |= {f"{h}{name}.weight": (rows, columns), f"{h}{name}.bias": (columns,)}
            for name in ("ln_1", "ln_2"):
                found |= {f"{h}{name}.weight": (8,), f"{h}{name}.bias": (8,)}
        return found | {"ln_f.weight": (8,), "ln_f.bias": (8,)}
    if family == "bert":
        for name, rows in (("word", 11), ("position", 12), ("token_type", 2)):
            found[f"embeddings.{name}_embeddings.weight"] = (rows, 8)
        norms, layers = ["embeddings.LayerNorm"], [("pooler.dense", 8, 8)]
        for i in range(2):
            h = f"encoder.layer.{i}."
            norms += [f"{h}attention.output.LayerNorm", f"{h}output.LayerNorm"]
            layers += [(f"{h}attention.self.{r}", 8, 8) for r in ("query", "key", "value")]
            layers += [(f"{h}attention.output.dense", 8, 8), (f"{h}intermediate.dense", 12, 8)]
            layers += [(f"{h}output.dense", 8, 12)]
        for name, rows, columns in layers:
            found |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
        for name in norms:
            found |= {f"{name}.weight": (8,), f"{name}.bias": (8,)}
        return found
    found["embed_tokens.weight"] = (11, 16)
    for i in range(2):
        h = f"layers.{i}."
        found |= {f"{h}input_layernorm.weight": (16,), f"{h}post_attention_layernorm.weight": (16,)}
        for name, rows, columns in (
            ("self_attn.q_proj", 16, 16), ("self_attn.k_proj", 8, 16), ("self_attn.v_proj", 8, 16),
            ("self_attn.o_proj", 16, 16), ("mlp.gate_proj", 12, 16), ("mlp.up_proj", 12, 16),
            ("mlp.down_proj", 16, 12),
        ):  # fmt: skip
            found[f"{h}{name}.weight"] = (rows, columns)
    return found | {"norm.weight": (16,)}


def drawn(wanted: Mapping[str, tuple[int, ...]], seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(0, 0.3, shape) + (name.endswith("weight") and len(shape) == 1)).astype(
            "float32"
        )
        for name, shape in wanted.items()
    }


def write(folder: Path, config: Mapping[str, Any], tensors: Tensors, shards: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        (folder / "model.safetensors").write_bytes(b"".join(to_tensors(tensors, {"format": "pt"})))
        return folder
    places: dict[str, str] = {}
    for n in range(shards):
        name = f"model-{n + 1:05}-of-{shards:05}.safetensors"
        own = {key: tensors[key] for key in list(tensors)[n::shards]}
        (folder / name).write_bytes(b"".join(to_tensors(own, {"format": "pt"})))
        places |= dict.fromkeys(own, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {f"{prefix}{name}": array for name, array in tensors.items()}


# The formulas, in float64.

_erf = np.vectorize(math.erf)


def _gelu(x: Any, exact: bool) -> Any:
    if exact:
        return x * 0.5 * (1 + _erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _norm(t: Tensors, name: str, x: Any, epsilon: float) -> Any:
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    return x * t[f"{name}.weight"] + t[f"{name}.bias"]


def _attention(q: Any, k: Any, v: Any, allowed: Any) -> Any:
    """Of (B, T, N, H) each; allowed (B, T, T)."""
    scores = np.einsum("btnh,bsnh->bnts", q, k) / math.sqrt(q.shape[-1])
    scores = np.where(allowed[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bnts,bsnh->btnh", weights, v).reshape(*q.shape[:2], -1)


def _heads(x: Any, count: int) -> Any:
    return x.reshape(*x.shape[:2], count, -1)


def _allowed(mask: Any, causal: bool) -> Any:
    length = mask.shape[1]
    allowed = np.broadcast_to(mask[:, None].astype(bool), (len(mask), length, length))
    return allowed & np.tri(length, dtype=bool) if causal else allowed


def gpt2(t: Tensors, ids: Any, mask: Any, epsilon: float = 1e-5) -> Any:
    t = {name: a.astype("float64") for name, a in t.items()}
    x = t["wte.weight"][ids] + t["wpe.weight"][: ids.shape[1]]
    for i in range(2):
        h = f"h.{i}."
        y = _norm(t, f"{h}ln_1", x, epsilon)
        y = y @ t[f"{h}attn.c_attn.weight"] + t[f"{h}attn.c_attn.bias"]
        y = _attention(*(_heads(z, 2) for z in np.split(y, 3, -1)), _allowed(mask, True))
        x = x + y @ t[f"{h}attn.c_proj.weight"] + t[f"{h}attn.c_proj.bias"]
        y = _norm(t, f"{h}ln_2", x, epsilon)
        y = _gelu(y @ t[f"{h}mlp.c_fc.weight"] + t[f"{h}mlp.c_fc.bias"], exact=False)
        x = x + y @ t[f"{h}mlp.c_proj.weight"] + t[f"{h}mlp.c_proj.bias"]
    x = _norm(t, "ln_f", x, epsilon)
    return x @ t.get("lm_head.weight", t["wte.weight"]).T


def bert(t: Tensors, ids: Any, mask: Any, segments: Any) -> tuple[Any, Any]:
    t = {name: a.astype("float64") for name, a in t.items()}

    def dense(name: str, x: Any) -> Any:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    x = t["embeddings.word_embeddings.weight"][ids]
    x = x + t["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = x + t["embeddings.token_type_embeddings.weight"][segments]
    x = _norm(t, "embeddings.LayerNorm", x, 1e-12)
    for i in range(2):
        h = f"encoder.layer.{i}."
        parts = (_heads(dense(f"{h}attention.self.{r}", x), 2) for r in ("query", "key", "value"))
        y = dense(f"{h}attention.output.dense", _attention(*parts, _allowed(mask, False)))
        x = _norm(t, f"{h}attention.output.LayerNorm", x + y, 1e-12)
        y = dense(f"{h}output.dense", _gelu(dense(f"{h}intermediate.dense", x), exact=True))
        x = _norm(t, f"{h}output.LayerNorm", x + y, 1e-12)
    return x, np.tanh(dense("pooler.dense", x[:, 0]))


def llama(t: Tensors, ids: Any, mask: Any) -> Any:
    t = {name: a.astype("float64") for name, a in t.items()}

    def norm(name: str, x: Any) -> Any:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * t[f"{name}.weight"]

    def turned(x: Any) -> Any:
        half = x.shape[-1] // 2
        rates = 10000.0 ** (-np.arange(half) / half)
        angles = np.arange(x.shape[1])[:, None, None] * rates
        a, b = x[..., :half], x[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)

    x = t["embed_tokens.weight"][ids]
    for i in range(2):
        h = f"layers.{i}."
        y = norm(f"{h}input_layernorm", x)
        q, k, v = (y @ t[f"{h}self_attn.{c}_proj.weight"].T for c in "qkv")
        k, v = turned(_heads(k, 2)), _heads(v, 2)
        k, v = (np.repeat(z, 2, axis=2) for z in (k, v))
        y = _attention(turned(_heads(q, 4)), k, v, _allowed(mask, True))
        x = x + y @ t[f"{h}self_attn.o_proj.weight"].T
        y = norm(f"{h}post_attention_layernorm", x)
        gate = y @ t[f"{h}mlp.gate_proj.weight"].T
        y = gate / (1 + np.exp(-gate)) * (y @ t[f"{h}mlp.up_proj.weight"].T)
        x = x + y @ t[f"{h}mlp.down_proj.weight"].T
    x = norm("norm", x)
    return x @ t.get("lm_head.weight", t["embed_tokens.weight"]).T
