"""Estimators for scikit-learn: the networks of ``MLPClassifier`` and ``MLPRegressor``, faster.

Needs scikit-learn 1.6 or newer (``pip install scikit-learn``), which is imported with them.
"""

from __future__ import annotations

from typing import Any

from handmill.lazy import lazy_exports

_load, __dir__ = lazy_exports(
    __name__,
    {
        "HandmillClassifier": "handmill.models.estimators.classifier",
        "HandmillRegressor": "handmill.models.estimators.regressor",
    },
)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
            raise
        raise ImportError(
            "handmill.sklearn needs scikit-learn 1.6 or newer: pip install -U scikit-learn"
        ) from error
