"""Teaching a small model with a large one: Keras's names, with what they leave out."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DistillationLoss": ".losses",
        "Distiller": ".distiller",
        "FeatureDistillation": ".losses",
        "LogitsDistillation": ".losses",
    },
)
