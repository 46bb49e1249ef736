"""Writes the pages of the API reference: one a public module, from what it exports."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import make_supported  # in tools/

HIDDEN = {"backend", "tree"}
"""Public modules of Keras's that are for those who extend Keras itself."""


def write_pages(folder: Path) -> None:
    """Writes ``index.md`` and a page for each public module; removes pages of former ones."""
    folder.mkdir(exist_ok=True)
    described: dict[int, str] = {}
    found = {}
    for name, place in sorted(_modules().items(), key=_inner_first):
        names = _names(name, place)
        if names:
            found[name] = _page(_full(name), place, names, described)
    pages = {f"{_file(name)}.md": text for name, text in found.items()}
    pages["index.md"] = _index(sorted(found))
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != text:  # Sphinx reads only what changed
            path.write_text(text, "utf-8")


def _modules() -> dict[str, ModuleType]:
    names = {*make_supported.public_names(), *make_supported.OWN, "tree"} - HIDDEN
    places = {name: make_supported.module_of(name) for name in names}
    return {name: place for name, place in places.items() if place is not None}


def _names(name: str, place: ModuleType) -> list[str]:
    here, _ = make_supported.public_names().get(name, ([], []))
    own = make_supported.OWN.get(name, "").split()
    return sorted({n for n in (*here, *own) if not inspect.ismodule(getattr(place, n))})


def _inner_first(item: tuple[str, ModuleType]) -> tuple[bool, str]:
    """handmill itself last: what it exports from inner modules is described there."""
    return item[0] == "", item[0]


def _page(full: str, place: ModuleType, names: list[str], described: dict[int, str]) -> str:
    lines = [f"# {full}", "", (inspect.getdoc(place) or "").partition("\n")[0], ""]
    lines += ["```{eval-rst}", f".. currentmodule:: {full}", ""]
    for attribute in names:
        value = getattr(place, attribute)
        name = f"{full}.{attribute}"
        first = described.setdefault(id(value), name) if callable(value) else name
        if first != name:
            lines += [f".. py:data:: {attribute}", "", f"   Another name of :obj:`{first}`.", ""]
            continue
        lines += [*_directive(attribute, value), ""]
    return "\n".join([*lines, "```", ""])


def _directive(attribute: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        members = [
            name
            for name, member in vars(value).items()
            if not name.startswith("_") and callable(member) and inspect.getdoc(member)
        ]
        lines = [f".. autoclass:: {attribute}"]
        return [*lines, f"   :members: {', '.join(members)}"] if members else lines
    if callable(value):
        return [f".. autofunction:: {attribute}"]
    return [f".. autodata:: {attribute}", "   :no-value:"]


def _index(names: list[str]) -> str:
    lines = [
        "# API reference",
        "",
        "Every public name, with its arguments, from its docstring.",
        "",
    ]
    lines += ["```{toctree}", ":maxdepth: 1", "", *map(_file, names), "```", ""]
    return "\n".join(lines)


def _full(name: str) -> str:
    return f"handmill.{name}" if name else "handmill"


def _file(name: str) -> str:
    return _full(name)
