"""Text continued token by token, by one program for all positions."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__, {"Session": ".session", "continue_prompts": ".continuation"}
)
