"""Learns to add: "23+471" becomes "494 ", one character after the other, by two LSTM layers.

    python examples/addition_seq2seq.py [--epochs 30] [--pairs 50000] [--seed 0]

Keras's example "Sequence to sequence learning for performing number addition" (Jessica Yung and
others): numbers of three digits, questions reversed, 205,324 weights. The first layer reads the
question into one vector, which the second gets at each step of the answer.

Seed 0: 98.3 % of the characters and 94.2 % of 5,000 sums that were never learned from are right,
after 220 s of processor time on one core (AMD EPYC, Zen 3).
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import handmill
from handmill import layers

SYMBOLS = "0123456789+ "
DIGITS = 3
QUESTION, ANSWER = 2 * DIGITS + 1, DIGITS + 1


def one_hot(texts: list[str]) -> np.ndarray:
    """Texts of one length: an array (texts, length, symbols)."""
    places = np.array([[SYMBOLS.index(c) for c in text] for text in texts])
    return np.eye(len(SYMBOLS), dtype="float32")[places]


def pairs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Different questions (a + b and b + a count once) and their answers.

    Args:
        count: how many.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    seen: set[tuple[int, int]] = set()
    questions, answers = [], []
    while len(questions) < count:
        digits = rng.integers(1, DIGITS + 1, 2)
        a, b = (int(rng.integers(0, 10**n)) for n in digits)
        key = (min(a, b), max(a, b))
        if key in seen:
            continue
        seen.add(key)
        questions.append(f"{a}+{b}".ljust(QUESTION)[::-1])
        answers.append(str(a + b).ljust(ANSWER))
    return one_hot(questions), one_hot(answers)


def network() -> handmill.Model:
    """One layer that reads, one that writes."""
    return handmill.Sequential(
        [
            handmill.Input((QUESTION, len(SYMBOLS))),
            layers.LSTM(128),
            layers.RepeatVector(ANSWER),
            layers.LSTM(128, return_sequences=True),
            layers.Dense(len(SYMBOLS), activation="softmax"),
        ]
    )


def main() -> None:
    """Trains, and shows some sums."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--epochs", type=int, default=30)
    arguments.add_argument("--pairs", type=int, default=50_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    handmill.utils.set_random_seed(options.seed)
    x, y = pairs(options.pairs, options.seed)
    held_out = len(x) // 10
    model = network()
    model.compile("adam", "categorical_crossentropy", ["accuracy"])
    begin = time.perf_counter()
    history = model.fit(
        x[held_out:],
        y[held_out:],
        batch_size=32,
        epochs=options.epochs,
        validation_data=(x[:held_out], y[:held_out]),
        verbose=2,
    ).history
    seconds = time.perf_counter() - begin
    found = model.predict(x[:held_out], verbose=0).argmax(-1)
    right = (found == y[:held_out].argmax(-1)).all(1)
    for i in range(5):
        question = "".join(SYMBOLS[c] for c in x[i].argmax(-1))[::-1].strip()
        print(question, "=", "".join(SYMBOLS[c] for c in found[i]), "" if right[i] else "(wrong)")
    print(
        f"characters right {history['val_accuracy'][-1]:.4f}, sums right {right.mean():.4f}, "
        f"{model.count_params():,} weights, {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
