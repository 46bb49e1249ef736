"""Estimators for scikit-learn: the networks of ``MLPClassifier`` and ``MLPRegressor``, faster.

Needs scikit-learn 1.6 or newer (``pip install scikit-learn``), which is imported with them.
"""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "HandmillClassifier": "handmill.models.estimators.classifier",
        "HandmillRegressor": "handmill.models.estimators.regressor",
    },
    needs=(("sklearn", "scipy"), "scikit-learn 1.6 or newer: pip install -U scikit-learn"),
)
