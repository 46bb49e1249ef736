"""Models: Sequential, functional and subclassed; loading them from files."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Functional": ".model",
        "Model": ".model",
        "Sequential": ".sequential",
        "clone_model": ".cloning",
        "load_model": "handmill.saving.model_file",
        "model_from_json": ".cloning",
        "predict_views": ".views",
        "save_model": "handmill.saving.model_file",
    },
)
