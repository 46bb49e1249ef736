"""Optimizers and learning rate schedules."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Adadelta": ".adadelta",
        "Adafactor": ".adafactor",
        "Adagrad": ".algorithms",
        "Adam": ".algorithms",
        "AdamW": ".algorithms",
        "Adamax": ".adamax",
        "Ftrl": ".ftrl",
        "Lamb": ".lamb",
        "Lion": ".lion",
        "LossScaleOptimizer": ".loss_scale",
        "MultiOptimizer": ".multi",
        "Muon": ".muon",
        "Nadam": ".nadam",
        "Optimizer": ".base",
        "OptimizerMap": ".multi",
        "RMSprop": ".algorithms",
        "SGD": ".algorithms",
        "ScheduleFreeAdamW": ".schedule_free",
        "deserialize": ".registry",
        "get": ".registry",
        "schedules": ".schedules",
        "serialize": ".registry",
    },
)
