"""A training step of GPT-2 (124 M weights, B 4, T 64, AdamW) beside eager torch, in turns.

    PYTHONPATH=python python bench/gpt2_step.py [--rounds 7] [--threads 2] [--clock wall]

Random weights, no dropout, the cross-entropy of the next token. ``--clock cpu`` reads the time of
the processors that the process had, for one thread on a machine with others; ``--ours`` leaves
torch out and prints what is resident.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

import handmill as hm
from handmill.hub.models import GPT2Backbone, GPT2CausalLM

V, LAYERS, HEADS, C = 50257, 12, 12, 768
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def ours(x, y):
    model = GPT2CausalLM(GPT2Backbone(V, LAYERS, HEADS, C, 4 * C, dropout=0.0))
    model.compile(hm.optimizers.AdamW(1e-4), weighted_metrics=None)
    inputs = {"token_ids": x, "padding_mask": np.ones_like(x)}
    return lambda: model.train_on_batch(inputs, y)


def theirs(x, y):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    x, y = (torch.tensor(ids).long() for ids in (x, y))

    def step():
        logits = model(x).logits.reshape(-1, V)
        loss = torch.nn.functional.cross_entropy(logits, y.reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--ours", action="store_true")
    options = parser.parse_args()
    hm.config.set_num_threads(options.threads)
    ids = np.random.default_rng(0).integers(0, V, (options.rows, options.length + 1), "int32")
    steps = {"ours": ours(ids[:, :-1], ids[:, 1:])}
    if not options.ours:
        import torch

        torch.set_num_threads(options.threads)
        steps["torch"] = theirs(ids[:, :-1], ids[:, 1:])
    clock = CLOCKS[options.clock]
    times = {name: [] for name in steps}
    for number in range(options.rounds + 2):
        for name, step in steps.items():
            began = clock()
            step()
            if number > 1:
                times[name].append(clock() - began)
    for name, found in times.items():
        print(f"{name}: {np.median(found):.3f} s a step ({options.clock}), least {min(found):.3f}")
    if options.ours:
        print(
            f"resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"
        )
        return
    a, b = np.array(times["ours"]), np.array(times["torch"])
    drawn = np.random.default_rng(0).integers(0, len(a), (4000, len(a)))
    low, high = np.quantile(np.median(b[drawn], axis=1) / np.median(a[drawn], axis=1), (0.05, 0.95))
    print(f"torch / ours {np.median(b) / np.median(a):.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
