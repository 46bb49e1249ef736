"""The instruction set levels on which tests run."""

from __future__ import annotations

from typing import Any

import pytest

from handmill import config


def levels(none: str = "no kernels") -> list[Any]:
    """The level that this machine uses as a parameter; those below it run with the slow tests.

    Args:
        none: what stands for the levels of a build without kernels.
    """
    found = list(config.available_isas()) or [none]
    return [*(pytest.param(x, marks=pytest.mark.slow) for x in found[:-1]), found[-1]]
