"""Models of any kind as estimators of scikit-learn, under Keras's names.

Needs scikit-learn 1.6 or newer (``pip install scikit-learn``), which is imported with them. Dense
networks by scikit-learn's own parameters are in :mod:`handmill.sklearn`.
"""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    dict.fromkeys(
        ("SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"),
        "handmill.models.estimators.wrappers",
    ),
    needs=(("sklearn", "scipy"), "scikit-learn 1.6 or newer: pip install -U scikit-learn"),
)
