"""Fails where a test was skipped for a reason that .ci/allowed_skips.txt does not list.

    python .ci/check_skips.py PYTEST_LOG

The log is that of pytest with ``-rs``. A skip that nobody expects is a test that no longer runs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SKIPPED = re.compile(r"^SKIPPED \[\d+\] (?P<file>[^:]+?)(?::\d+)?: (?P<reason>.*)$", re.M)


def allowed() -> list[tuple[str, re.Pattern[str]]]:
    """The file and the beginning of the reason of each skip that is listed."""
    lines = (Path(__file__).parent / "allowed_skips.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(": ", 1) for line in lines if line.strip() and not line.startswith("#")]
    return [(file, re.compile(reason)) for file, reason in rows]


def unexpected(log: str) -> list[str]:
    """The skips of a log that are not listed."""
    known = allowed()
    return [
        found[0]
        for found in SKIPPED.finditer(log)
        if not any(
            f"/{found['file']}".endswith(f"/{file}") and reason.match(found["reason"])
            for file, reason in known
        )
    ]


def main(path: str) -> int:
    """Prints the skips that are not listed; returns the exit status."""
    log = Path(path).read_text(encoding="utf-8", errors="replace")
    if not re.search(r"\b\d+ passed", log):
        print(f"{path} is not the log of a run of pytest")
        return 1
    found = unexpected(log)
    for line in found:
        print(f"not in .ci/allowed_skips.txt: {line}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
