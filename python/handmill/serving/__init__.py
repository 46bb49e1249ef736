"""A model behind HTTP: what ``handmill serve`` runs, an ASGI application for any server."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__, {"Application": ".application", "Limits": ".application"}
)
