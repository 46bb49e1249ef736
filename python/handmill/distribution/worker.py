"""What ``handmill launch`` starts on each rank: a script, which notes where it is on a board."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from handmill.distribution.board import Board
from handmill.distribution.ranks import ranks


def main() -> None:
    """Runs ``python -m handmill.distribution.worker BOARD SCRIPT ...``."""
    board, script = sys.argv[1:3]
    found = ranks()
    found.board = Board(Path(board), found.size)
    found.board.note(found.rank, "the start")
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
