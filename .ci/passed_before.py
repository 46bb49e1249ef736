"""A plugin of pytest: leaves out what passed in an earlier run of the same tree and build.

    python -m pytest -p passed_before --passed-before=REPORT.xml ...

The report is that of ``--junitxml``. What failed or was skipped there runs again.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest


def passed(report: Path) -> set[tuple[str, str]]:
    """Class (the module with dots, then classes of tests) and name of each case that passed."""
    return {
        (case.get("classname", ""), case.get("name", ""))
        for case in ElementTree.parse(report).iter("testcase")
        if not any(child.tag in ("failure", "error", "skipped") for child in case)
    }


def key(item: pytest.Item) -> tuple[str, str]:
    """What the report calls a test."""
    path, *classes, name = item.nodeid.split("[")[0].split("::")
    names = [path.removesuffix(".py").replace("/", "."), *classes]
    return ".".join(names), item.name if "[" in item.nodeid else name


def pytest_addoption(parser: pytest.Parser) -> None:
    """The report to read."""
    parser.addoption("--passed-before", type=Path, required=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what passed."""
    before = passed(config.getoption("passed_before"))
    left_out = [item for item in items if key(item) in before]
    items[:] = [item for item in items if key(item) not in before]
    config.hook.pytest_deselected(items=left_out)
