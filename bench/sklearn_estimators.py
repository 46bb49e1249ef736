"""Times fit against fit: our estimators and those of scikit-learn, in alternated processes.

    python bench/sklearn_estimators.py [--cases "iris;digits"] [--kind again|first] [--rounds 9]
                                       [--json F]

Same data, settings and epochs. ``again``: the process has fitted this architecture before, as in
a grid search or cross-validation; ``first``: every fit of ours traces and plans its program anew.
Prints the median time of a fit and the ratio of medians with its 90 % interval (bootstrap over
rounds). Never run two of these at once, or anything else beside one.
"""

from __future__ import annotations

import os
import sys

from common import HERE, environment, parser, warn_if_busy, write_json
from peers import ATTEMPTS
from sklearn_worker import CASES

from handmill.inspection.benchmarks.peers import Worker, line_of, measure


class FitWorker(Worker):
    command = (sys.executable, str(HERE / "sklearn_worker.py"))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--kind", choices=("again", "first"), default="again")
    arguments.add_argument("--cases", default=";".join(CASES), help="names, with ; between")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--seconds", type=float, default=0.1, help="of a round")
    options = arguments.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 2, 0.01
    wanted = options.cases.split(";")
    if unknown := set(wanted) - set(CASES):
        arguments.error(f"unknown cases {sorted(unknown)}; known: {'; '.join(CASES)}")

    warn_if_busy()
    report = environment(options.machine)
    report["kind"], report["rows"] = options.kind, {}
    for name in wanted:
        print(f"{name}, {CASES[name].epochs} epochs, {options.kind}:")
        rows = measure(
            name, options.kind, ["handmill", "scikit-learn"], "", options.rounds, options.seconds,
            1 if options.smoke else ATTEMPTS, FitWorker,
        )  # fmt: skip
        for library, row in rows.items():
            print(line_of(library, row), flush=True)
        report["rows"][name] = rows
    report["load_after"] = round(os.getloadavg()[0], 2)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
