"""``python -m handmill``."""

from __future__ import annotations

import sys

from handmill.cli import main

sys.exit(main())
