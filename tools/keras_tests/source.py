"""What Keras's source says about a name, read without importing Keras."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@cache
def folder() -> Path:
    """The folder of the installed package's source (`keras.src`)."""
    spec = importlib.util.find_spec("keras")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("keras is not installed; its tests are what this tool runs")
    return Path(spec.origin).parent / "src"


@cache
def version() -> str:
    """Keras's version."""
    for line in (folder() / "version.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return str(ast.literal_eval(line.partition("=")[2].strip()))
    raise ValueError(f"no version in {folder() / 'version.py'}")


@dataclass
class Module:
    """One file of Keras.

    Attributes:
        exports: name -> the public name under which `keras_export` publishes it.
        imports: name -> (module, name there) for each `from keras.src... import` and `a = b`.
        operations: class of an operation -> (function that calls it, arguments of `__init__`).
        constants: name -> the literal that is assigned to it.
    """

    exports: dict[str, str] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    operations: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    constants: dict[str, str | int | float] = field(default_factory=dict)


def path_of(module: str) -> Path | None:
    """The file of `keras.src.a.b`, None if there is none."""
    place = folder().joinpath(*module.split(".")[2:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def module(name: str) -> Module:
    """What stands in a file of Keras; empty if there is no such file."""
    path = path_of(name)
    found = Module()
    if path is None:
        return found
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = {n.name: n for n in body if isinstance(n, ast.ClassDef)}
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                found.imports[alias.asname or alias.name] = node.module, alias.name
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.imports[target.id] = name, node.value.id
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str | int | float):
                    found.constants[target.id] = node.value.value
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            for public_name in exported(node)[:1]:
                found.exports[node.name] = public_name
        if isinstance(node, ast.FunctionDef):
            for called in ast.walk(node):
                if isinstance(called, ast.Call) and isinstance(called.func, ast.Name):
                    kind = classes.get(called.func.id)
                    if kind is not None and not exported(kind):
                        found.operations.setdefault(kind.name, (node.name, arguments(kind)))
    return found


def exported(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    """The public names that a decorator gives."""
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "keras_export":
            names = ast.literal_eval(decorator.args[0])
            return [names] if isinstance(names, str) else list(names)
    return []


def arguments(kind: ast.ClassDef) -> list[str]:
    """The arguments of a class's `__init__`."""
    for node in kind.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            given = node.args
            return [a.arg for a in [*given.posonlyargs, *given.args, *given.kwonlyargs]][1:]
    return []


def public(name: str, attribute: str) -> str | None:
    """The public name of `attribute` of the module `name`, None if it has none."""
    for _ in range(5):
        here = module(name)
        if attribute in here.exports:
            return here.exports[attribute]
        if attribute not in here.imports:
            return None
        name, attribute = here.imports[attribute]
    return None
