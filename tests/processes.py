"""The surroundings of processes that tests start."""

from __future__ import annotations

import os
from pathlib import Path


def environment(**variables: str) -> dict[str, str]:
    """Those of this process, for one that is started in another folder.

    Entries of ``PYTHONPATH`` may be relative to the folder that pytest was started in; they become
    absolute, and none is added: where the package is installed, that one is tested.
    """
    found = dict(os.environ)
    if "PYTHONPATH" in found:
        entries = found["PYTHONPATH"].split(os.pathsep)
        found["PYTHONPATH"] = os.pathsep.join(str(Path(e).resolve()) for e in entries)
    return {**found, **variables}
