"""Estimators for scikit-learn: networks by its own parameters, faster, and a search with seeds.

Needs scikit-learn 1.6 or newer (``pip install scikit-learn``), which is imported with them.
"""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "HandmillClassifier": "handmill.models.estimators.classifier",
        "HandmillRegressor": "handmill.models.estimators.regressor",
        "HandmillSearchCV": "handmill.models.estimators.search",
    },
    needs=(("sklearn", "scipy"), "scikit-learn 1.6 or newer: pip install -U scikit-learn"),
)
