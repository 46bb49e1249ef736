#!/usr/bin/env python3
"""Run the tests of the installed Keras against handmill, and count.

    python tools/keras_tests.py [FOLDER ...] [--list] [--write-docs] [--jobs N]

A folder (or file) is one of keras/src, such as `losses` or `layers/core`. The tests are copied
into a temporary folder; there `keras.src...` means handmill (tools/keras_tests/names.py), and
pytest runs them. Expectations, tolerances and data are Keras's own. What is out of scope stands,
with its reason, in tools/keras_tests/out_of_scope.ini; why tests in scope may fail, in failing.ini.
Without arguments all folders run: this takes many minutes. `--write-docs` renews the lines of the
folders that ran, each as soon as it has run; other lines stay as they are.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parent / "python"))  # where handmill is not installed

from keras_tests import scope, source  # noqa: E402  (found through the path above)
from keras_tests.rewrites import rewritten  # noqa: E402

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
    "callbacks",
    "models",
    "trainers",
    "saving",
    "utils",
    "dtype_policies",
    "tree",
    "datasets",
    "backend/common",
    "wrappers",
    "distillation",
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
        file = path.relative_to(source.folder()).as_posix()
        target.write_text(rewritten(file, path.read_text(encoding="utf-8")), encoding="utf-8")


def run(folder: str, jobs: int = 1) -> Count:
    """Runs the tests of one folder, in some processes."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        tests = place / "tests" / "of_keras"  # a folder `random` must not hide the module
        copy_tests(folder, tests)
        results = place / "results.json"
        installed = importlib.util.find_spec("handmill")
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        if installed is not None and str(HERE.parent / "python") in (installed.origin or ""):
            paths.insert(1, str(HERE.parent / "python"))
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
                *(("-n", str(jobs)) if jobs > 1 else ()),
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
        elif reason := scope.reason_of_test(patterns, test) or scope.reason_of_error(patterns, why):
            count.out[reason] += 1
            if reason == scope.MACHINERY:
                count.machinery[scope.private_name(why)] += 1
        else:
            count.failed[test] = why.splitlines()[0] if why else ""
    return count


def line(folder: str, count: Count) -> str:
    """The line of a folder in the table, with today's date."""
    share = f"{100 * count.passed / count.in_scope:.1f} %" if count.in_scope else "-"
    out = sum(count.out.values())
    today = f"{datetime.date.today():%Y-%m-%d}"
    return f"| `{folder}` | {count.passed} | {count.in_scope} | {share} | {out} | {today} |"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", default=FOLDERS, help="of keras/src")
    parser.add_argument("--list", action="store_true", help="name the tests that fail")
    parser.add_argument("--write-docs", action="store_true", help=f"renew lines of {PAGE.name}")
    parser.add_argument("--jobs", type=int, default=1, help="processes (with pytest-xdist)")
    options = parser.parse_args(argv)
    out: Counter[str] = Counter()
    known = scope.read(scope.FAILING)
    for folder in options.folders:
        count = run(folder, options.jobs)
        out += count.out
        print(line(folder, count), flush=True)
        if options.list:
            for test, why in count.failed.items():
                reason = scope.reason_of_test(known, test)
                print(f"    {test}: {f'({reason})' if reason else why[:200]}")
            for name, number in count.machinery.most_common():
                print(f"    not public: {name}: {number}")
        if options.write_docs:
            PAGE.write_text(page(folder, count), encoding="utf-8")
    print(*(f"- {reason}: {number}" for reason, number in out.most_common()), sep="\n")
    return 0


PAGE_TEXT = """\
# Keras's own tests

<!-- Written by tools/keras_tests.py --write-docs; do not edit. -->

How many of the unit tests of Keras {version} hold here. Names are mapped to handmill's
(`tools/keras_tests/names.py` and `stand_ins.py`); data, expectations and tolerances are Keras's
own. Tests that run over number types run over those that handmill has; every layer is tried with
`mixed_bfloat16` where Keras tries `mixed_float16`; other lines that are not run as they stand are
in `rewrites.py`. `python tools/keras_tests.py FOLDER --list` runs the tests of one folder of the
installed package and names those that fail.

{table}

## Out of scope

- {reasons}
- skipped by Keras's own test (written for some backends only, or for sparse tensors)

Which tests these are: `tools/keras_tests/out_of_scope.ini`. A test that needs a name of Keras's
source that is not exported, or a private attribute, counts as machinery.

## What fails, and why

{failing}
"""


def page(folder: str, count: Count) -> str:
    """The text of docs/keras_tests.md with a new line for a folder; the others stay."""
    version = source.version()
    lines = {}
    if PAGE.is_file() and f"tests of Keras {version} " in (text := PAGE.read_text("utf-8")):
        lines = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}
    lines[folder] = line(folder, count)
    known = [name for name in FOLDERS if name in lines]
    return PAGE_TEXT.format(
        version=version,
        table="\n".join(
            [
                "| folder | passed | in scope | | out of scope | counted |",
                "|---|---:|---:|---:|---:|---|",
                *(lines[n] for n in [*known, *(n for n in lines if n not in known)]),
            ]
        ),
        reasons="\n- ".join(scope.reasons(scope.read())),
        failing="\n".join(
            f"- {p.reason}: {', '.join(f'`{t}`' for t in p.tests)}"
            for p in scope.read(scope.FAILING)
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
