"""Networks as estimators of scikit-learn; imported as ``handmill.sklearn``."""
