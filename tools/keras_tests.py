#!/usr/bin/env python3
"""Run the tests of the installed Keras against handmill, and count.

    python tools/keras_tests.py [FOLDER ...] [--list] [--write-docs]

A folder (or file) is one of keras/src, such as `losses` or `layers/core`. The tests are copied
into a temporary folder; there `keras.src...` means handmill (tools/keras_tests/names.py), and
pytest runs them. Expectations, tolerances and data are Keras's own. What is out of scope stands,
with its reason, in tools/keras_tests/out_of_scope.ini. Without arguments all folders run: this
takes many minutes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]

from keras_tests import scope, source  # noqa: E402  (found through the path above)

PAGE = HERE.parent / "docs" / "keras_tests.md"
FOLDERS = [
    "activations",
    "constraints",
    "initializers",
    "regularizers",
    "losses",
    "metrics",
    "optimizers",
    "random",
    "ops",
    "layers",
]


@dataclass
class Count:
    """What came of the tests of one folder.

    Attributes:
        passed: how many passed.
        failed: test -> message.
        out: reason -> how many are out of scope for it.
        machinery: name that is not public -> how many tests need it.
    """

    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    out: Counter[str] = field(default_factory=Counter)
    machinery: Counter[str] = field(default_factory=Counter)

    @property
    def in_scope(self) -> int:
        return self.passed + len(self.failed)


def copy_tests(folder: str, to: Path) -> None:
    """Copies the test files of a folder."""
    place = source.folder() / folder
    found = [place] if place.is_file() else sorted(place.rglob("*_test.py"))
    if not found:
        raise FileNotFoundError(f"no tests in {place}")
    for path in found:
        target = to / path.relative_to(source.folder())
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")


def run(folder: str, arguments: list[str]) -> Count:
    """Runs the tests of one folder."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        tests = place / "tests" / "of_keras"  # a folder `random` must not hide the module
        copy_tests(folder, tests)
        results = place / "results.json"
        paths = [str(HERE), str(HERE.parent / "python"), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "keras_tests.plugin",
                "--tb=no",
                "--no-header",
                "--import-mode=importlib",
                "--continue-on-collection-errors",
                "-c",
                os.devnull,
                f"--rootdir={place / 'tests'}",
                "-W",
                "ignore",
                *arguments,
                str(tests),
            ],
            cwd=place,
            env={
                **os.environ,
                "KERAS_TESTS_RESULTS": str(results),
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if not results.is_file():
            raise RuntimeError(
                f"pytest did not finish:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return counted(json.loads(results.read_text(encoding="utf-8")))


def counted(results: dict[str, tuple[str, str]]) -> Count:
    """Sorts the results of one run."""
    patterns = scope.read()
    known = set(scope.reasons(patterns))
    count = Count()
    for test, (outcome, why) in results.items():
        if outcome == "passed":
            count.passed += 1
        elif outcome == "skipped":
            count.out[why if why in known else "skipped by Keras's own test"] += 1
        elif reason := scope.reason_of_error(patterns, why):
            count.out[reason] += 1
            if reason == scope.MACHINERY:
                count.machinery[why.removeprefix("AbsentError: ").partition(" ")[0]] += 1
        else:
            count.failed[test] = why.splitlines()[0] if why else ""
    return count


def table(counts: dict[str, Count]) -> list[str]:
    """One line per folder."""
    lines = ["| folder | passed | in scope | | out of scope |", "|---|---:|---:|---:|---:|"]
    for folder, c in counts.items():
        share = f"{100 * c.passed / c.in_scope:.1f} %" if c.in_scope else "-"
        lines.append(
            f"| `{folder}` | {c.passed} | {c.in_scope} | {share} | {sum(c.out.values())} |"
        )
    return lines


def reasons(counts: dict[str, Count]) -> list[str]:
    """How many tests are out of scope for each reason."""
    in_all: Counter[str] = Counter()
    for c in counts.values():
        in_all.update(c.out)
    return [f"- {reason}: {number}" for reason, number in in_all.most_common()]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", default=FOLDERS, help="of keras/src")
    parser.add_argument("--list", action="store_true", help="name the tests that fail")
    parser.add_argument("--write-docs", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--pytest", default="", help="further arguments for pytest")
    options = parser.parse_args(argv)
    counts = {}
    for folder in options.folders:
        counts[folder] = run(folder, options.pytest.split())
        print(table({folder: counts[folder]})[2], flush=True)
        if options.list:
            for test, why in counts[folder].failed.items():
                print(f"    {test}: {why[:200]}")
            for name, number in counts[folder].machinery.most_common():
                print(f"    not public: {name}: {number}")
    print(*reasons(counts), sep="\n")
    if options.write_docs:
        PAGE.write_text(page(counts), encoding="utf-8")
    return 0


def page(counts: dict[str, Count]) -> str:
    """The text of docs/keras_tests.md."""
    lines = [
        "# Keras's own tests",
        "",
        "<!-- Written by tools/keras_tests.py --write-docs; do not edit. -->",
        "",
        f"How many of the unit tests of Keras {source.version()} hold here, names mapped and",
        "expectations Keras's own. `python tools/keras_tests.py FOLDER --list` runs those of one",
        f"folder from the installed package. Last run: {datetime.date.today():%Y-%m-%d}.",
        "",
        *table(counts),
        "",
        "## Out of scope",
        "",
        "The patterns stand in `tools/keras_tests/out_of_scope.ini`; the number of tests that each",
        "reason leaves out:",
        "",
        *reasons(counts),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
