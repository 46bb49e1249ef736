"""Fonts that have the characters of a text, for matplotlib."""

from __future__ import annotations

import functools
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

from handmill.errors import warn_caller

_DEFAULT = "DejaVu Sans"  # comes with matplotlib

# Tried first for characters of East Asia: upright and even; then whatever is installed.
_PREFERRED = ("Noto Sans CJK", "Noto Sans", "Source Han Sans", "WenQuanYi", "PingFang", "YaHei",
              "SimHei", "Hiragino", "Yu Gothic", "IPAexGothic", "Malgun", "Droid Sans Fallback",
              "Arial Unicode")  # fmt: skip


def fonts_for(texts: Iterable[str]) -> list[str]:
    """Names of fonts that have all characters of ``texts`` together, matplotlib's own first.

    Where no installed font has a character, a warning says what to install.
    """
    missing = {c for text in texts for c in text if not c.isspace() and c.isprintable()}
    found = [_DEFAULT]
    missing -= _characters(_default_path())
    if not missing:
        return found
    for name, path in _installed():
        has = missing & _characters(path)
        if has:
            found.append(name)
            missing -= has
        if not missing:
            break
    if missing:
        shown = "".join(sorted(missing)[:8])
        wide = any(unicodedata.east_asian_width(c) in "WF" for c in missing)
        package = "fonts-noto-cjk (Noto Sans CJK)" if wide else "a font of that script (Noto)"
        warn_caller(
            f"no installed font has {shown!r}: empty boxes will stand for it. Install {package}, "
            "then delete matplotlib's font cache (matplotlib.get_cachedir())",
        )
    return found


def write_figure(figure: Any, path: Any, dpi: Any) -> None:
    """Writes a figure whose characters :func:`fonts_for` has seen."""
    with warnings.catch_warnings():  # matplotlib's, one a character, say the same again
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(path, dpi=dpi)


def _default_path() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont(_DEFAULT))


@functools.cache
def _installed() -> list[tuple[str, str]]:
    """Names and files of the fonts of this machine, preferred ones first."""
    from matplotlib import font_manager

    fonts = {
        entry.name: entry.fname
        for entry in reversed(font_manager.fontManager.ttflist)
        if not entry.name.startswith("Last Resort")  # which has a box for every character
    }

    def rank(name: str) -> tuple[int, str]:
        places = [i for i, start in enumerate(_PREFERRED) if start in name]
        return (places[0] if places else len(_PREFERRED), name)

    return [(name, fonts[name]) for name in sorted(fonts, key=rank)]


@functools.lru_cache(256)
def _characters(path: str) -> frozenset[str]:
    """The characters that a font file has; none for a file that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font: Any = FT2Font(path)
        return frozenset(map(chr, font.get_charmap()))
    except (RuntimeError, OSError, ValueError):
        return frozenset()
