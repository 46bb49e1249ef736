"""Optimizers and learning rate schedules."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Adagrad": ".algorithms",
        "Adam": ".algorithms",
        "AdamW": ".algorithms",
        "Optimizer": ".base",
        "RMSprop": ".algorithms",
        "SGD": ".algorithms",
        "deserialize": ".registry",
        "get": ".registry",
        "schedules": ".schedules",
        "serialize": ".registry",
    },
)
