"""The documentation site: `sphinx-build -W docs docs/_build/html`.

The pages of the API reference are written from handmill's docstrings at each build, into
docs/api/ (ignored by git). The examples of pages and docstrings are run by tests/test_docs.py.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]

from api_pages import write_pages  # noqa: E402  (found through the path above)

project = "handmill"
author = "The handmill developers"
copyright = "2026, the handmill developers"
release = importlib.import_module("handmill").__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"handmill {release}"
html_static_path: list[str] = []

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository; a test follows them

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

write_pages(HERE / "api")
