"""The instruction set levels on which tests run."""

from __future__ import annotations

from typing import Any

import pytest

from handmill import config


def levels(none: str = "no kernels") -> list[Any]:
    """The first and the last level as parameters; those between run with the slow tests.

    Args:
        none: what stands for the levels of a build without kernels.
    """
    found = list(config.available_isas()) or [none]
    between = found[1:-1]
    return [pytest.param(x, marks=pytest.mark.slow) if x in between else x for x in found]
