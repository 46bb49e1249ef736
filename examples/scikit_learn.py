"""A search over pipelines with scikit-learn: python examples/scikit_learn.py

Needs scikit-learn. Searches the hidden layers and the penalty of a network for the wine data, in
two processes, then saves the best network as a model of handmill.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import handmill
from handmill.sklearn import HandmillClassifier

x, y = load_wine(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, stratify=y, random_state=0)

pipeline = make_pipeline(
    StandardScaler(),
    HandmillClassifier(max_iter=500, learning_rate_init=0.01, random_state=0),
)
search = GridSearchCV(
    pipeline,
    {
        "handmillclassifier__hidden_layer_sizes": [(8,), (32,), (32, 16)],
        "handmillclassifier__alpha": [1e-4, 1.0],
    },
    n_jobs=2,
)
search.fit(x_train, y_train)
print("best parameters:", search.best_params_)
print(f"test accuracy {search.score(x_test, y_test):.3f}")

scaler, classifier = search.best_estimator_
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "wine.hmill"
    classifier.to_model().save(path)
    model = handmill.models.load_model(path)
probabilities = model.predict(scaler.transform(x_test).astype("float32"), verbose=0)
same = np.array_equal(probabilities, search.predict_proba(x_test))
print("probabilities of the saved model:", "the same bits" if same else "different")
