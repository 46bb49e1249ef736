"""The hand-written stub of the core names what the module has, no more and no less."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import handmill

_core = pytest.importorskip("handmill._core", reason="a build without kernels")


def names_in(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def public(names: object) -> set[str]:
    return {n for n in names if not n.startswith("_")}  # type: ignore[attr-defined]


def test_the_stub_matches_the_module():
    source = Path(handmill.__file__).with_name("_core.pyi").read_text(encoding="utf-8")
    stub = names_in(ast.parse(source).body)
    assert public(stub) == public(dir(_core))
    for name, node in stub.items():
        if isinstance(node, ast.ClassDef):
            declared = public(names_in(node.body))
            assert declared == public(vars(getattr(_core, name))), name
