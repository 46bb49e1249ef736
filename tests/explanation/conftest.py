"""Initial weights that are the same in each run."""

from __future__ import annotations

import pytest

import handmill


@pytest.fixture(autouse=True)
def seeded() -> None:
    handmill.utils.set_random_seed(0)
