"""scikit-learn's own checks of estimators."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from handmill.sklearn import HandmillClassifier, HandmillRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([HandmillClassifier(max_iter=100), HandmillRegressor(max_iter=100)])
def test_estimator(estimator, check) -> None:
    check(estimator)
