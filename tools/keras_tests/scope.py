"""Which of Keras's tests are out of scope or fail, and why: the patterns of two files."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

FILE = Path(__file__).with_name("out_of_scope.ini")
FAILING = Path(__file__).with_name("failing.ini")
MACHINERY = "machinery that is no public name"
NOT_PUBLIC = re.compile(r"AbsentError: \S+ is no public name")


@dataclass(frozen=True)
class Pattern:
    """A reason with the tests it holds for.

    Attributes:
        reason: why these tests are out of scope.
        tests: patterns of `folder/file_test.py::Class::test`.
        errors: regular expressions, found in the message of what fails for this reason.
    """

    reason: str
    tests: tuple[str, ...]
    errors: tuple[str, ...]


def read(path: Path = FILE) -> list[Pattern]:
    """Reads the data file."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read_string(path.read_text(encoding="utf-8"))
    return [
        Pattern(
            reason,
            tuple(parser[reason].get("tests", "").split()),
            tuple(filter(None, parser[reason].get("errors", "").splitlines())),
        )
        for reason in parser.sections()
    ]


def reason_of_test(patterns: list[Pattern], test: str) -> str | None:
    """Why a test is out of scope by its name, None if it is not."""
    return next((p.reason for p in patterns if any(fnmatchcase(test, t) for t in p.tests)), None)


def reason_of_error(patterns: list[Pattern], error: str) -> str | None:
    """Why a test that failed so is out of scope, None if it is not."""
    if NOT_PUBLIC.match(error):
        return MACHINERY
    return next((p.reason for p in patterns if any(re.search(e, error) for e in p.errors)), None)


def private_name(error: str) -> str:
    """The name that is not public, of a message that led to `MACHINERY`."""
    kind, _, text = error.partition(": ")
    return text.partition(" is no public name")[0] if kind == "AbsentError" else text


def reasons(patterns: list[Pattern]) -> Iterator[str]:
    """The reasons in the order of the file."""
    return (p.reason for p in patterns)
