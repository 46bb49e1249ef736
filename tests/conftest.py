"""Fixtures that several files share."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

DATA = Path(os.environ.get("HANDMILL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds CIFAR-10 as files: train/<class>/*.jpg and test/<class>/*.jpg."""
    packed = DATA / "cifar10_jpeg.tar.gz"
    if not packed.is_file():
        pytest.skip(f"no {packed}")
    folder = tmp_path_factory.mktemp("cifar10")
    with tarfile.open(packed) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:
            tar.extractall(folder)
    (train,) = folder.rglob("train")
    return train.parent
