"""Frames as arrays beside NumPy's own copy of them, and TextVectorization in MB/s.

    python bench/tables_and_texts.py [--rows 1000000] [--threads 1] [--rounds 9] [--json F]

Frames of 30 columns: what ``fit`` does with a frame before it trains, rows one after the other in
memory, beside ``to_numpy(dtype="float32", copy=True)``, which may leave columns so: ms, and the
ratio with its 90 % interval. Texts: made words of Zipf's law.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    environment,
    in_turns,
    parser,
    print_rows,
    rows_of,
    warn_if_busy,
    write_json,
)

from handmill import config, layers
from handmill.models.layout import as_data

COLUMNS = 30
MIXED = ("float64", "float32", "int64", "int32", "bool")


def frames(rows: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 100, (rows, COLUMNS))
    found: dict[str, Any] = {}
    for kind in ("float64", "float32", "int64", "mixed"):
        kinds = MIXED if kind == "mixed" else (kind,)
        columns = {f"c{i}": table[:, i].astype(kinds[i % len(kinds)]) for i in range(COLUMNS)}
        try:
            import pandas

            found[f"pandas, {kind}"] = pandas.DataFrame(columns)
            if kind != "mixed":
                found[f"pandas, {kind}, one block"] = pandas.DataFrame(table.astype(kind))
        except ImportError:
            pass
        try:
            import polars

            found[f"polars, {kind}"] = polars.DataFrame(columns)
        except ImportError:
            pass
    return found


def to_numpy(frame: Any) -> Any:
    if hasattr(frame, "iloc"):
        return frame.to_numpy(dtype=np.float32, copy=True)
    return frame.to_numpy().astype(np.float32, copy=False)  # which is a copy already


def texts(count: int) -> Any:
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, (20_000, 12)).astype(np.uint8)
    lengths = rng.integers(2, 12, 20_000)
    words = [letters[i, :n].tobytes().decode() for i, n in enumerate(lengths)]
    chosen = rng.zipf(1.3, (count, 60)) % len(words)
    return np.array([" ".join(words[j] for j in row).capitalize() + "." for row in chosen])


def vectorizers(data: Any) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    for mode, extra in (
        ("int", {"output_sequence_length": 64}),
        ("multi_hot", {"max_tokens": 2000}),
        ("tf_idf", {"max_tokens": 2000}),
    ):
        layer = layers.TextVectorization(output_mode=mode, **extra)
        layer.adapt(data)
        found[f"call, {mode}"] = lambda layer=layer: layer(data)
    found["adapt"] = lambda: layers.TextVectorization().adapt(data)
    bigrams = layers.TextVectorization(ngrams=2, output_sequence_length=128)
    bigrams.adapt(data)
    found["call, int, ngrams=2"] = lambda: bigrams(data)
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--texts", type=int, default=5_000)
    arguments.add_argument("--threads", type=int, default=0, help="default: as many as there are")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--only", default="frames,texts")
    options = arguments.parse_args()
    warn_if_busy()
    if options.threads:
        config.set_num_threads(options.threads)
    rounds = 2 if options.smoke else options.rounds
    report: dict[str, Any] = {**environment(options.machine), "rows": {}}
    if "frames" in options.only:
        for name, frame in frames(4000 if options.smoke else options.rows).items():
            calls = {
                "to_numpy(float32)": lambda frame=frame: to_numpy(frame),
                name: lambda frame=frame: as_data(frame, "x"),
            }
            rows = rows_of(in_turns(calls, rounds), "to_numpy(float32)", 1e-3)
            print_rows(name, rows, "ms")
            report["rows"][name] = rows
    if "texts" in options.only:
        data = texts(50 if options.smoke else options.texts)
        size = sum(len(text.encode()) for text in data) / 1e6
        report["rows"]["texts"] = []
        for name, times in in_turns(vectorizers(data), rounds).items():
            rate = size / float(np.median(times))
            print(f"TextVectorization, {name:24s} {rate:8.2f} MB/s (target 1)")
            report["rows"]["texts"].append({"name": name, "mb_per_second": rate})
    write_json(options.json, report)


if __name__ == "__main__":
    main()
