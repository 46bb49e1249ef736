"""The plugin of pytest that runs a copy of Keras's tests and writes down what came of each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (gives NumPy the dtype "bfloat16", which tests name)
import pytest

from keras_tests import names, scope

names.install()
sys.modules["conftest"] = sys.modules[__name__]  # which Keras's tests import

RESULTS: dict[str, tuple[str, str]] = {}
PATTERNS = scope.read()


def skip_if_backend(backend: str, why: str) -> Callable[[Any], Any]:
    """What Keras's conftest.py offers to tests."""
    return pytest.mark.skipif(backend == "handmill", reason=why)


def key(nodeid: str) -> str:
    """`losses/losses_test.py::Class::test`, as patterns are written."""
    return nodeid.partition("of_keras/")[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if why := scope.reason_of_test(PATTERNS, key(item.nodeid)):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if call.excinfo is not None and report.outcome == "failed":
        report.user_properties.append(("error", f"{call.excinfo.typename}: {call.excinfo.value}"))


def pytest_runtest_logreport(report: Any) -> None:
    if report.when != "call" and report.outcome == "passed":
        return
    why = ""
    if report.outcome == "skipped":
        why = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        why = why.removeprefix("Skipped: ")
    elif report.outcome == "failed":
        why = dict(report.user_properties).get("error", "")
    RESULTS[key(report.nodeid)] = report.outcome, why


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        lines = str(report.longrepr).strip().splitlines()
        RESULTS[key(report.nodeid)] = "failed", lines[-1] if lines else "not imported"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # one of several processes, whose results the first one has
    Path(os.environ["KERAS_TESTS_RESULTS"]).write_text(json.dumps(RESULTS), encoding="utf-8")
