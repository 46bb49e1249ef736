"""What StringLookup and IntegerLookup share: a vocabulary, learned or given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from handmill import config as process
from handmill import ops
from handmill.arguments import whole_number
from handmill.files import read_regular
from handmill.ir.op import Array
from handmill.layers.preprocessing.adapting import batches_of, check_not_empty, is_array
from handmill.layers.preprocessing.encoding import (
    checked_mode,
    counted,
    encoded,
    encoded_on_host,
    encoded_shape,
    refuse_sparse,
)
from handmill.layers.preprocessing.strings import StringLayer
from handmill.layers.preprocessing.vocabulary import (
    Vocabulary,
    tokens_as_data,
    tokens_of_data,
)
from handmill.layers.symbolic import KerasTensor
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object

_MOST_COLUMNS = 1 << 28
"""Of a row that is filled up with zeros: a gigabyte, so that no file can ask for more."""

MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")
IN_NO_CATEGORY = -1


def no_vocabulary(layer: Any) -> str:
    """Returns the error of a layer that was called before it knows its tokens."""
    return f"{layer.describe()} has no vocabulary yet: call adapt(), or pass `vocabulary`"


class IndexLookup(StringLayer):
    """Base of layers that give tokens their numbers; see StringLookup and IntegerLookup.

    Numbers begin with that of the mask token (``output_mode="int"`` only, if there is one), then
    come those for tokens that are not in the vocabulary, then the vocabulary's.
    """

    _undescribed = frozenset(
        {"input_vocabulary", "input_idf_weights", "_counts", "_stored_weights"}
    )

    def __init__(
        self,
        max_tokens: int | None,
        num_oov_indices: int,
        mask_token: Any,
        oov_token: Any,
        vocabulary_dtype: str,
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        name: str | None = None,
        salt: Any = None,
        **kwargs: Any,
    ) -> None:
        if max_tokens is not None and whole_number("`max_tokens`", max_tokens) <= 1:
            raise ValueError(
                f"If set, `max_tokens` must be greater than 1. Received: max_tokens={max_tokens}"
            )
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError(
                "If pad_to_max_tokens is True, must set `max_tokens`. "
                f"Received: max_tokens={max_tokens}"
            )
        if whole_number("`num_oov_indices`", num_oov_indices) < 0:
            raise ValueError(
                "`num_oov_indices` must be greater than or equal to 0. "
                f"Received: num_oov_indices={num_oov_indices}"
            )
        if oov_method not in ("floormod", "farmhash"):
            raise ValueError(
                "`oov_method` must be 'floormod' or 'farmhash'. "
                f"Received: oov_method={oov_method!r}"
            )
        is_text = vocabulary_dtype == "string"
        if salt is not None and not is_text and oov_method != "farmhash":
            raise ValueError(
                "`salt` can only be used when `oov_method='farmhash'`. "
                f"Received: oov_method={oov_method}"
            )
        output_mode = checked_mode(type(self).__name__, output_mode, MODES)
        if invert and output_mode != "int":
            raise ValueError(
                "`output_mode` must be `'int'` when `invert` is true. "
                f"Received: output_mode={output_mode}"
            )
        if sparse and output_mode == "int":
            raise ValueError(
                "`sparse` may only be true if `output_mode` is `'one_hot'`, `'multi_hot'`, "
                f"`'count'` or `'tf_idf'`. Received: sparse={sparse} and output_mode={output_mode}"
            )
        refuse_sparse(sparse)
        if idf_weights is not None and output_mode != "tf_idf":
            raise ValueError(
                "`idf_weights` should only be set if `output_mode` is `'tf_idf'`. "
                f"Received: idf_weights={idf_weights} and output_mode={output_mode}"
            )
        size = kwargs.pop("vocabulary_size", None)
        given = kwargs.pop("has_input_vocabulary", vocabulary is not None)
        super().__init__(name=name, **kwargs)
        self.invert = invert
        self.max_tokens = max_tokens
        self.num_oov_indices = num_oov_indices
        self.mask_token = mask_token
        self.oov_token = oov_token
        self.output_mode = output_mode
        self.sparse = sparse
        self.pad_to_max_tokens = pad_to_max_tokens
        self.vocabulary_dtype = vocabulary_dtype
        self.oov_method = oov_method
        self.salt = checked_salt(type(self).__name__, salt)
        _check_kind(vocabulary)
        self.input_vocabulary = None if isinstance(vocabulary, str) else _plain(vocabulary)
        self.input_idf_weights = _plain(idf_weights)
        self.idf_weights: Array | None = None
        self._frozen_vocab_size: int | None = size
        self._has_input_vocabulary = given
        self._vocabulary: Vocabulary | None = None
        self._counts = _Counts()
        self._stored_weights: Array | None = None
        if output_mode == "tf_idf" and given and idf_weights is None:
            raise ValueError(
                "When specifying the `vocabulary` argument, in TF-IDF output mode, the "
                "`idf_weights` argument must also be provided."
            )
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    # The vocabulary.

    def _oov_start(self) -> int:
        return 1 if self.mask_token is not None and self.output_mode == "int" else 0

    def _token_start(self) -> int:
        return self._oov_start() + self.num_oov_indices

    def _special_tokens(self) -> list[Any]:
        return [self.mask_token] * self._oov_start() + [self.oov_token] * self.num_oov_indices

    def _tokens_of(self, values: Any) -> list[Any]:
        """Values of a user as a flat list of tokens."""
        raise NotImplementedError

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """Returns the tokens, in the order of their numbers.

        Args:
            include_special_tokens: whether the mask token and those for unknown ones come first.
        """
        known = [] if self._vocabulary is None else list(self._vocabulary.tokens)
        return [*self._special_tokens(), *known] if include_special_tokens else known

    @property
    def is_ready(self) -> bool:
        """Whether there is a vocabulary, if an empty one: it was given, read or learned."""
        return self._vocabulary is not None or self._frozen_vocab_size is not None

    def vocabulary_size(self) -> int:
        """Returns how many numbers there are, those of mask and unknown tokens included."""
        return self._token_start() + (0 if self._vocabulary is None else len(self._vocabulary))

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the tokens, instead of learning them.

        Args:
            vocabulary: tokens, or the path of a text file with one a line. They may begin with the
                mask token and those for unknown ones, as :meth:`get_vocabulary` gives them.
            idf_weights: with ``output_mode="tf_idf"``, a weight for each token.

        Raises:
            ValueError: for a token twice, too many tokens, weights that do not fit; the layer
                stays as it was.
        """
        if self.output_mode == "tf_idf":
            if idf_weights is None:
                raise ValueError("`idf_weights` must be set if output_mode is 'tf_idf'.")
        elif idf_weights is not None:
            raise ValueError(
                "`idf_weights` should only be set if output_mode is `'tf_idf'`. Received: "
                f"output_mode={self.output_mode} and idf_weights={idf_weights}"
            )
        if isinstance(vocabulary, str):
            if self.output_mode == "tf_idf":
                raise ValueError(
                    "output_mode `'tf_idf'` does not support loading a vocabulary from file."
                )
            given = self._tokens_of(_lines_of(vocabulary))
        else:
            _check_kind(vocabulary)
            given = self._tokens_of(vocabulary)
        if not given:
            raise ValueError(f"Cannot set an empty vocabulary. Received: vocabulary={vocabulary}")
        special = self._special_tokens()
        with_special = given[: len(special)] == special
        tokens = given[len(special) :] if with_special else given
        self._check_tokens(tokens, given)
        weights = None
        if self.output_mode == "tf_idf":
            weights = self._padded_weights(idf_weights, len(given), with_special)
        self._take(tokens, weights)

    def _check_tokens(self, tokens: list[Any], given: list[Any]) -> None:
        if len(set(tokens)) != len(tokens):
            repeated = [token for token, count in Counter(tokens).items() if count > 1]
            raise ValueError(
                "The passed vocabulary has at least one repeated term. Please uniquify your "
                f"dataset. The repeated terms are: {repeated[:20]}"
            )
        for what, token, counts in (
            ("mask", self.mask_token, True),
            ("oov", self.oov_token, self.invert),
        ):
            if token is not None and counts and token in tokens:
                name = "OOV" if what == "oov" else what
                raise ValueError(
                    f"Found reserved {name} token at unexpected location in `vocabulary`. Note "
                    "that passed `vocabulary` does not need to include the OOV and mask tokens. "
                    "Either remove all mask and OOV tokens, or include them only at the start of "
                    f"the vocabulary in precisely this order: {self._special_tokens()}. Received: "
                    f"{what}_token={token} at vocabulary index "
                    f"{len(given) - 1 - given[::-1].index(token)}"
                )
        size = self._token_start() + len(tokens)
        if self.max_tokens is not None and size > self.max_tokens:
            raise ValueError(
                "Attempted to set a vocabulary larger than the maximum vocab size. Received "
                f"vocabulary size is {size}; `max_tokens` is {self.max_tokens}."
            )

    def _padded_weights(self, weights: Any, count: int, with_special: bool) -> Array:
        array = np.asarray(weights, np.float64)
        if array.ndim != 1:
            raise ValueError(
                f"TF-IDF data must be a 1-index array. Received: type(idf_weights)={type(weights)}"
            )
        if len(array) != count:
            raise ValueError(
                "`idf_weights` must be the same length as vocabulary. len(idf_weights) is "
                f"{len(array)}; len(vocabulary) is {count}"
            )
        front = 0 if with_special else self._token_start()
        return self._with_back(np.concatenate([np.full(front, array.mean()), array]))

    def _with_back(self, weights: Array) -> Array:
        """Weights of zero for the columns that ``pad_to_max_tokens`` adds."""
        back = (self.max_tokens or 0) - len(weights) if self.pad_to_max_tokens else 0
        if back > _MOST_COLUMNS:
            raise ValueError(
                f"{self.describe()}: max_tokens={self.max_tokens} columns are more than a row can "
                f"have ({_MOST_COLUMNS})"
            )
        return np.pad(weights, (0, back)).astype(process.floatx())

    def _numbered(self, tokens: Sequence[Any]) -> Vocabulary:
        mask = 0 if self.output_mode == "int" else IN_NO_CATEGORY
        others = {} if self.mask_token is None else {self.mask_token: mask}
        return Vocabulary(tokens, self._token_start(), others)

    def _take(self, tokens: Sequence[Any], weights: Array | None) -> None:
        size = self._token_start() + len(tokens)
        fixed = self.output_mode != "int" and not self.pad_to_max_tokens
        if fixed and self._frozen_vocab_size not in (None, size):
            raise RuntimeError(
                f"When using `output_mode={self.output_mode}` and `pad_to_max_tokens=False`, the "
                "vocabulary size cannot be changed after the layer is called. Old vocab size is "
                f"{self._frozen_vocab_size}, new vocab size is {size}"
            )
        self._vocabulary = self._numbered(tokens)
        self.built = True  # so that files hold what was given or learned
        self._frozen_vocab_size = size
        if weights is not None:
            self.idf_weights = weights

    # Learning it.

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learns the vocabulary: the tokens of ``data``, the most frequent first.

        Args:
            data: an array or list of tokens, or a data set or iterable of such batches.
            steps: how many batches at most.

        Raises:
            ValueError: if the layer was given a vocabulary, and for no data.
        """
        self.reset_state()
        rows = 0
        if is_array(data) or isinstance(data, list | tuple):
            array = self._to_learn(data)
            rows = array.size
            if rows:
                self.update_state(array[:, None] if array.ndim == 1 else array)
        else:
            for batch in batches_of(data, steps):
                array = self._to_learn(batch)
                rows += array.size
                self.update_state(array)
        check_not_empty(rows, self.describe())
        self.finalize_state()

    def _to_learn(self, data: Any) -> Array:
        return self._as_array(data)

    def update_state(self, data: Any) -> None:
        """Counts the tokens of a batch; each row is a document.

        Args:
            data: tokens; without rows they are one document.
        """
        array = self._as_array(data)
        rows = array.reshape(1, -1) if array.ndim < 2 else array.reshape(len(array), -1)
        self.count_documents(rows.tolist())

    def count_documents(self, documents: Iterable[list[Any]]) -> None:
        """Counts the tokens of documents, each a list of them, or of bytes in UTF-8."""
        if self._has_input_vocabulary:
            raise ValueError(
                f"Cannot adapt layer '{self.name}' after setting a static vocabulary via "
                "`vocabulary` argument or `set_vocabulary()` method."
            )
        self._counts.add(documents, by_document=self.output_mode == "tf_idf")

    def reset_state(self) -> None:
        """Forgets what :meth:`update_state` counted."""
        if not self._has_input_vocabulary:
            self._counts = _Counts()

    def finalize_state(self) -> None:
        """Makes the vocabulary of what was counted."""
        counts = self._counts
        if self._has_input_vocabulary or not counts.tokens:
            self._frozen_vocab_size = self.vocabulary_size()
            return
        for token in (self.mask_token, self.oov_token):
            counts.tokens.pop(token, None)
        ordered = sorted(((n, t) for t, n in counts.tokens.items()), reverse=True)
        start = self._token_start()
        if self.max_tokens:
            ordered = ordered[: self.max_tokens - start]
        tokens = [token for _, token in ordered]
        weights = None
        if self.output_mode == "tf_idf":
            found = np.asarray([counts.in_documents[t] for t in tokens], np.float64)
            idf = np.log(1 + counts.documents / (1 + found)).astype(np.float32)
            weights = self._with_back(np.concatenate([np.full(start, idf.mean()), idf]))
        self._take(tokens, weights)
        self._counts = _Counts()

    # Computing.

    def _as_array(self, x: Any) -> Array:
        """Data of a user as an array of tokens."""
        raise NotImplementedError

    def _depth(self) -> int:
        if self.pad_to_max_tokens:
            return int(self.max_tokens or 0)
        if self._frozen_vocab_size is None:
            raise RuntimeError(
                f"When using `output_mode={self.output_mode}` and `pad_to_max_tokens=False`, you "
                "must set the layer's vocabulary before calling it. Either pass a `vocabulary` "
                "argument to the layer, or call `adapt` with some sample data."
            )
        return self._frozen_vocab_size

    def _row_dtype(self) -> str:
        return process.floatx()

    def _encoded(self, ids: Any) -> Any:
        """Numbers of tokens in the output mode, in operators."""
        if self.output_mode == "int":
            return ids
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        rows = encoded(ids, mode, self._depth(), self._row_dtype())
        if self.output_mode != "tf_idf":
            return rows
        # A layer from a file of Keras's gets its weights after the model is put together.
        weights = np.float32(np.nan) if self.idf_weights is None else self.idf_weights
        return ops.multiply(rows, weights)

    def encode(self, ids: Array) -> Array:
        """Returns numbers of tokens in the output mode, on the host."""
        if self.output_mode == "int":
            return ids
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        found = encoded_on_host(ids, mode, self._depth(), self._row_dtype())
        return found if self.output_mode != "tf_idf" else found * self.idf_weights

    def encode_rows(self, ids: Array, rows: Array, count: int) -> Array:
        """Returns what each row holds of each token.

        Args:
            ids: numbers of tokens, flat.
            rows: the row of each.
            count: how many rows there are.
        """
        mode = "multi_hot" if self.output_mode == "multi_hot" else "count"
        found = counted(ids, rows, count, self._depth(), mode, self._row_dtype())
        return found if self.output_mode != "tf_idf" else found * self.idf_weights

    def output_spec(self, shape: tuple[Any, ...]) -> KerasTensor:
        """Returns what stands for the output in a model, for tokens of a shape."""
        if self.output_mode == "int":
            return KerasTensor(shape, "int64")
        depth = self.max_tokens if self.pad_to_max_tokens else self._frozen_vocab_size
        shape = encoded_shape(shape, self.output_mode, depth)
        return KerasTensor(shape, self._row_dtype())

    # Description.

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "invert": self.invert,
            "max_tokens": self.max_tokens,
            "num_oov_indices": self.num_oov_indices,
            "oov_token": self.oov_token,
            "mask_token": self.mask_token,
            "output_mode": self.output_mode,
            "sparse": self.sparse,
            "pad_to_max_tokens": self.pad_to_max_tokens,
            "vocabulary_dtype": self.vocabulary_dtype,
            "idf_weights": self.input_idf_weights,
            "vocabulary": self.input_vocabulary,
            "vocabulary_size": self._frozen_vocab_size,
            "oov_method": self.oov_method,
            "salt": self.salt,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a layer from its config.

        Raises:
            ValueError: if it names a file: what is stored never says which files are read.
        """
        refuse_path(cls, config.get("vocabulary"))
        return super().from_config(config)

    def get_build_config(self) -> dict[str, Any] | None:
        """What was learned, or read from a file."""
        if self._vocabulary is None or self.input_vocabulary is not None:
            return None
        found = {"vocabulary": tokens_as_data(self._vocabulary.tokens)}
        if self.idf_weights is not None:
            found["idf_weights"] = serialize_keras_object(self.idf_weights)
        return found

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Takes what :meth:`get_build_config` gave."""
        if "vocabulary" not in config:
            return
        weights = config.get("idf_weights")
        if weights is not None:
            weights = np.asarray(deserialize_keras_object(weights), np.float32)
        tokens = tokens_of_data(config["vocabulary"])
        self._check_tokens(tokens, tokens)
        if self.output_mode == "tf_idf":
            wanted = self._token_start() + len(tokens)
            wanted = int(self.max_tokens or 0) if self.pad_to_max_tokens else wanted
            if weights is None or weights.shape != (wanted,):
                raise ValueError(
                    f"the description of {self.describe()} is damaged: {wanted} idf_weights were "
                    f"expected, found {None if weights is None else weights.shape}"
                )
        self._take(tokens, weights)

    # What files of Keras hold: the vocabulary as a text file, the weights as an array.

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Puts ``idf_weights`` into ``store``, if there are any."""
        super().save_own_variables(store)
        if self.output_mode == "tf_idf" and self.idf_weights is not None:
            store["idf_weights"] = np.asarray(self.idf_weights, np.float32)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Takes back what :meth:`save_own_variables` stored."""
        left = dict(store)
        self._stored_weights = left.pop("idf_weights", None)
        super().load_own_variables(left)

    def save_assets(self, folder: str) -> None:
        """Writes a learned vocabulary to ``vocabulary.txt``, a token a line.

        Tokens with line breaks cannot be written so; Keras then finds no file, which it says.
        """
        if self.input_vocabulary is not None or self._vocabulary is None:
            return
        tokens = [str(token) for token in self._vocabulary.tokens]
        if any(token.splitlines() != [token] for token in tokens):
            return
        text = "\n".join([*map(str, self._special_tokens()), *tokens])
        Path(folder, _ASSET).write_bytes(text.encode("utf-8", "surrogateescape"))

    def load_assets(self, folder: str) -> None:
        """Reads what :meth:`save_assets` wrote, here or in Keras.

        Raises:
            ValueError: for a vocabulary that does not fit; the layer stays as it was.
        """
        file = Path(folder, _ASSET)
        if self.input_vocabulary is not None or self._vocabulary is not None or not file.exists():
            return  # the description of the layer held it
        given = self._tokens_of(_lines_of(str(file)))
        if given == self._special_tokens():
            return  # nothing was learned
        weights = self._stored_weights if self.output_mode == "tf_idf" else None
        self.set_vocabulary(given, weights)


_ASSET = "vocabulary.txt"


class _Counts:
    """How often tokens were seen."""

    def __init__(self) -> None:
        self.tokens: Counter[Any] = Counter()
        self.in_documents: Counter[Any] = Counter()
        self.documents = 0

    def add(self, documents: Iterable[list[Any]], by_document: bool) -> None:
        """Counts the tokens of documents; with ``by_document`` also how many hold each."""
        known = list(documents)
        self.documents += len(known)
        self.tokens.update(_as_strings(Counter(chain.from_iterable(known))))
        if by_document:
            self.in_documents.update(_as_strings(Counter(chain.from_iterable(map(set, known)))))


def _as_strings(counts: Counter[Any]) -> dict[Any, int]:
    """Counts of tokens, bytes among them in UTF-8."""
    return {
        t.decode("utf-8", "surrogateescape") if isinstance(t, bytes) else t: n
        for t, n in counts.items()
    }


def checked_salt(layer: str, salt: Any) -> list[int] | None:
    """Returns the key of a keyed hash.

    Raises:
        ValueError: unless it is None, an integer, or two of them.
    """
    if salt is None:
        return None
    if isinstance(salt, list | tuple) and len(salt) == 2 and all(isinstance(s, int) for s in salt):
        return list(salt)
    if isinstance(salt, int) and not isinstance(salt, bool):
        return [salt, salt]
    raise ValueError(
        f"The `salt` argument for `{layer}` can only be a tuple of size 2 integers, or a single "
        f"integer. Received: salt={salt}."
    )


def as_key(salt: Sequence[int] | None) -> tuple[int, int] | None:
    """Returns what :func:`checked_salt` gave as an attribute of an operator."""
    return None if salt is None else (salt[0], salt[1])


def refuse_path(cls: type, vocabulary: Any) -> None:
    """Refuses a config that names the file of a vocabulary."""
    if isinstance(vocabulary, str):
        raise ValueError(
            f"the config of a {cls.__name__} names a vocabulary file, {vocabulary!r}; stored data "
            "never say which files are read. Make the layer, then call set_vocabulary(path)."
        )


def _check_kind(vocabulary: Any) -> None:
    lists_tokens = hasattr(vocabulary, "__iter__") and not isinstance(vocabulary, dict | bytes)
    if vocabulary is not None and not lists_tokens:
        raise ValueError(
            "`vocabulary` must be a list or array of tokens, or the path of a text file. "
            f"Received: vocabulary={vocabulary!r}"
        )


def _plain(values: Any) -> Any:
    if values is None:
        return None
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    return [v.item() if isinstance(v, np.generic) else v for v in found]


def _lines_of(path: str) -> list[str]:
    try:
        text = read_regular(path).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        raise ValueError(f"Vocabulary file {path} does not exist.") from None
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
