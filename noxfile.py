"""Developer sessions: `nox -l` lists them, `nox -s tests lint` runs some."""

from __future__ import annotations

import os
import subprocess

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "tests"]
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


def gcc_file(name: str) -> str:
    """Where GCC keeps one of its libraries."""
    command = (os.environ.get("CXX", "g++"), f"-print-file-name={name}")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite with the peers as oracles."""
    session.install(".[test]", *group("peers"))
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS)
def minimal(session: nox.Session) -> None:
    """The test suite with nothing but the required and the test dependencies."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def pure(session: nox.Session) -> None:
    """The build without a compiler: the NumPy executor only."""
    session.install(".", "-C", "wheel.cmake=false")
    session.run("python", "-m", "handmill", "info")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy --strict and clang-format, as CI runs them."""
    session.install("numpy", "tqdm", "safetensors", *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "--strict")
    listed = session.run("git", "ls-files", "csrc/*.h", "csrc/*.cpp", external=True, silent=True)
    session.run("clang-format", "--dry-run", "--Werror", *listed.split())


@nox.session
def asan(session: nox.Session) -> None:
    """The op tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer."""
    session.install(
        ".[test]", "-C", "cmake.define.HM_SANITIZE=ON", "-C", "cmake.build-type=RelWithDebInfo",
        "-C", "install.strip=false",
    )  # fmt: skip
    environment = {
        # The C++ library comes along so that the sanitizer can wrap its throw function.
        "LD_PRELOAD": f"{gcc_file('libasan.so')} {gcc_file('libstdc++.so')}",
        # The interpreter itself keeps memory until the process ends; what cannot be allocated is
        # a std::bad_alloc, which tests look for, and no reason to abort.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }
    session.run("python", "-m", "pytest", *(session.posargs or ["tests"]), env=environment)


@nox.session
def ulp_full(session: nox.Session) -> None:
    """SIMD mathematics against float64 on every bit pattern of float32."""
    session.install(".[test]")
    session.run(
        "pytest", "tests/test_math_ulp.py", "--timeout=0", *session.posargs,
        env={"HANDMILL_ULP_FULL": "1"},
    )  # fmt: skip


@nox.session
def long(session: nox.Session) -> None:
    """What takes minutes: each byte of hostile files, 200 kills of training, scripts in Keras."""
    session.install(".[test]", *group("peers"))
    session.run("pytest", "-m", "long", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Every registered op against the measured ceilings, then whole models."""
    session.install(".")
    session.run("python", "bench/run_ops.py", *session.posargs)
    session.run("python", "bench/run_models.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, and the examples in docstrings and pages, executed."""
    session.install(".[test]", *group("docs"))
    session.run("sphinx-build", "-W", "-q", "docs", "docs/_build/html")
    session.run("pytest", "tests/test_docs.py", *session.posargs)
