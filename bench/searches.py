#!/usr/bin/env python3
"""A search over settings of the digits' network: handmill.tune beside optuna over torch.

    python bench/searches.py [--rounds 7] [--trials 200] [--peer] [--json F]

Both try the same number of configurations of units, rate and activation with Adam, 9 epochs at
most, and end the worse ones early (optuna: TPE and its SuccessiveHalvingPruner with the same
factor). Ours also trains its five finalists under eight more seeds, which the seconds hold, and its
accuracy is the mean of those; optuna's is the highest that one training had. In turns in one
process, torch with one thread, which is its best here. --peer needs torch and optuna.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import environment, parser, write_json

import handmill
from handmill import layers
from handmill.cli.demo_command import digits
from handmill.strategy import Float, Int, hold_out

EPOCHS, BATCH, ETA = 9, 32, 3
ACTIVATIONS = ("relu", "tanh", "sigmoid")


def build(units: int, rate: float, activation: str) -> Any:
    model = handmill.Sequential(
        [handmill.Input((64,)), layers.Dense(units, activation), layers.Dense(10, "softmax")]
    )
    optimizer = handmill.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def ours(data: Any, trials: int, seed: int) -> float:
    x, y, held = data
    space = {
        "units": Int(8, 64, log=True),
        "rate": Float(1e-4, 0.3, log=True),
        "activation": list(ACTIVATIONS),
    }
    found = handmill.tune(
        build, space, x, y, trials=trials, epochs=EPOCHS, eta=ETA, batch_size=BATCH,
        validation_data=held, seed=1000 * seed,
    )  # fmt: skip
    return float(np.nanmax(found.comparison().means))


def theirs(data: Any, trials: int, seed: int) -> float:
    import optuna
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    x, y, (x_held, y_held) = data
    x, y, x_held, y_held = (
        torch.from_numpy(np.ascontiguousarray(a)) for a in (x, y, x_held, y_held)
    )
    kinds = dict(zip(ACTIVATIONS, (nn.ReLU, nn.Tanh, nn.Sigmoid), strict=True))

    def objective(trial: Any) -> float:
        units = trial.suggest_int("units", 8, 64, log=True)
        rate = trial.suggest_float("rate", 1e-4, 0.3, log=True)
        kind = kinds[trial.suggest_categorical("activation", list(kinds))]
        model = nn.Sequential(nn.Linear(64, units), kind(), nn.Linear(units, 10))
        optimizer = torch.optim.Adam(model.parameters(), rate, eps=1e-7, fused=True)
        criterion = nn.CrossEntropyLoss()
        accuracy = 0.0
        for epoch in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                criterion(model(x.index_select(0, rows)), y.index_select(0, rows)).backward()
                optimizer.step()
            with torch.inference_mode():
                accuracy = (model(x_held).argmax(1) == y_held).float().mean().item()
            trial.report(accuracy, epoch + 1)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=ETA),
    )
    study.optimize(objective, n_trials=trials)
    return float(study.best_value)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--trials", type=int, default=200)
    options.add_argument("--peer", action="store_true", help="optuna over torch, too")
    asked = options.parse_args()
    rounds, trials = (1, 8) if asked.smoke else (asked.rounds, asked.trials)
    (x, y), _ = digits()
    x, y, _, held = hold_out(x, y)
    sides = {"handmill": ours, **({"optuna over torch": theirs} if asked.peer else {})}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    best: dict[str, list[float]] = {name: [] for name in sides}
    for seed in range(rounds + 1):  # the first one warms up
        for name, run in sides.items():
            start = time.perf_counter()
            score = run((x, y, held), trials if seed else 4, seed)
            if seed:
                seconds[name].append(time.perf_counter() - start)
                best[name].append(score)
    for name in sides:
        print(
            f"{name}: {trials} trials in {np.median(seconds[name]):.2f} s (median of {rounds}), "
            f"accuracy of the best as it says {np.mean(best[name]):.4f}"
        )
    if asked.peer:
        ratios = np.array(seconds["optuna over torch"]) / np.array(seconds["handmill"])
        low, high = np.quantile(ratios, (0.05, 0.95))
        print(f"ratio {np.median(ratios):.1f} [{low:.1f}, {high:.1f}]")
    if asked.json:
        report = {**environment(asked.machine), "trials": trials, "seconds": seconds, "best": best}
        write_json(asked.json, report)


if __name__ == "__main__":
    main()
