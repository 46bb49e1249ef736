"""Data sets: real ones that ship with handmill, and readers of files the user has."""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "boston_housing": ".boston_housing",
        "california_housing": ".california_housing",
        "cifar10": ".cifar10",
        "cifar100": ".cifar100",
        "digits": ".digits",
        "fashion_mnist": ".fashion_mnist",
        "imdb": ".imdb",
        "mnist": ".mnist",
        "reuters": ".reuters",
    },
)
