"""Named values that a program is run with."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class Config:
    """A dict whose entries are attributes too, and that can be frozen.

    Args:
        **kwargs: the first entries.

    Example:
        >>> config = Config(learning_rate=0.1)
        >>> config.epochs = 3
        >>> config["epochs"], config.to_json()
        (3, '{"learning_rate": 0.1, "epochs": 3}')
        >>> config.freeze()
        >>> config.epochs = 4
        Traceback (most recent call last):
        ...
        ValueError: Cannot mutate attribute(s) because the config is frozen.
    """

    _config: dict[str, Any]
    _frozen: bool

    def __init__(self, **kwargs: Any) -> None:
        vars(self).update(_config=kwargs, _frozen=False)

    @property
    def frozen(self) -> bool:
        """Whether entries cannot be changed."""
        return self._frozen

    def freeze(self) -> None:
        """Refuses changes from now on."""
        vars(self)["_frozen"] = True

    def unfreeze(self) -> None:
        """Lets entries be changed again."""
        vars(self)["_frozen"] = False

    def _changing(self) -> dict[str, Any]:
        if self._frozen:
            raise ValueError("Cannot mutate attribute(s) because the config is frozen.")
        return self._config

    def as_dict(self) -> dict[str, Any]:
        """The entries in a dict of its own."""
        return dict(self._config)

    def to_json(self) -> str:
        """The entries as JSON."""
        return json.dumps(self._config)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._config.keys()

    def values(self) -> ValuesView[Any]:
        """The values."""
        return self._config.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values."""
        return self._config.items()

    def pop(self, *args: Any) -> Any:
        """Takes an entry out, as that of a dict."""
        return self._changing().pop(*args)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Adds and replaces entries, as that of a dict."""
        self._changing().update(*args, **kwargs)

    def get(self, keyname: str, value: Any = None) -> Any:
        """An entry, or ``value`` if there is none of that name."""
        return self._config.get(keyname, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(
                f"{name!r} is a method or property of Config; write config[{name!r}] = ..."
            )
        self._changing()[name] = value

    def __getattr__(self, name: str) -> Any:
        entries = vars(self).get("_config", {})
        if name in entries:
            return entries[name]
        text = f"Unknown attribute: '{name}'."
        import difflib

        if near := difflib.get_close_matches(name, entries, n=1, cutoff=0.7):
            text += f" Did you mean '{near[0]}'?"
        raise AttributeError(text)

    def __setitem__(self, key: str, item: Any) -> None:
        self._changing()[key] = item

    def __getitem__(self, key: str) -> Any:
        return self._config[key]

    def __delitem__(self, key: str) -> None:
        del self._changing()[key]

    def __delattr__(self, name: str) -> None:
        del self._changing()[name]

    def __contains__(self, item: object) -> bool:
        return item in self._config

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._config))

    def __len__(self) -> int:
        return len(self._config)

    def __repr__(self) -> str:
        return f"<Config {self._config}>"
