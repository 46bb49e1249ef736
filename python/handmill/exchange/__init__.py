"""Models and weights from and for other libraries: ONNX, C, torch, scikit-learn."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "export_weights": ".torch_names",
        "load_onnx": ".from_onnx.file",
        "load_torch_weights": ".torch_names",
        "model_from_sklearn": ".sklearn_networks",
    },
)
