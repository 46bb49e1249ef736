"""What a Hugging Face folder says of its tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from handmill.errors import FileFormatError
from handmill.hub.tokenizers.vocabulary_files import (
    checked_merges,
    checked_vocabulary,
    read_json,
    read_merges,
    read_vocabulary_json,
    read_vocabulary_lines,
)
from handmill.saving.atomic_file import write_bytes

CONFIG = "tokenizer_config.json"
_UNLIMITED = 1 << 31  # others write 1e30 where there is no limit


def byte_pair_files(folder: str | os.PathLike[str]) -> tuple[dict[str, int], list[str]]:
    """Returns the vocabulary and the merges of a folder.

    Args:
        folder: with `vocab.json` and `merges.txt`, or with a `tokenizer.json`.

    Raises:
        ValueError: where they are missing, damaged, or ask for what handmill does not do.
    """
    path = Path(folder)
    if (path / "vocab.json").exists() and (path / "merges.txt").exists():
        vocabulary = read_vocabulary_json(path / "vocab.json")
        pairs = read_merges(path / "merges.txt", vocabulary)
    else:
        file = path / "tokenizer.json"
        if not file.exists():
            raise FileFormatError(
                f"{os.fspath(folder)}: no tokenizer there; expected vocab.json and merges.txt, or "
                "tokenizer.json"
            )
        vocabulary, pairs = _byte_pair_json(os.fspath(file), read_json(file))
    return vocabulary, [f"{a} {b}" for a, b in pairs]


def longest_rows(folder: str | os.PathLike[str]) -> int | None:
    """How many tokens a folder says that a row has at most; None where it says nothing."""
    path = Path(folder) / CONFIG
    most = read_json(path).get("model_max_length") if path.exists() else None
    return most if type(most) is int and 0 < most < _UNLIMITED else None


def keep_longest_rows(folder: str | os.PathLike[str], length: int) -> None:
    """Notes it for :func:`longest_rows`, beside what the folder says of its tokenizer."""
    path = Path(folder) / CONFIG
    known = read_json(path) if path.exists() else {}
    write_bytes(path, [json.dumps({**known, "model_max_length": length}, indent=2).encode()])


def is_word_piece(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a vocabulary of word pieces, not one of byte pairs."""
    file = Path(folder, "tokenizer.json")
    if not file.exists():
        return Path(folder, "vocab.txt").exists()
    model = read_json(file).get("model")
    return isinstance(model, dict) and model.get("type") == "WordPiece"


def word_piece_files(folder: str | os.PathLike[str]) -> tuple[list[str], dict[str, Any]]:
    """Returns the vocabulary of a folder and what it says of the arguments of WordPieceTokenizer.

    Args:
        folder: with a `tokenizer.json`, or a `vocab.txt` and perhaps `tokenizer_config.json`;
            without that texts are made lower case.

    Raises:
        ValueError: where they are missing, damaged, or ask for what handmill does not do.
    """
    path = Path(folder)
    file = path / "tokenizer.json"
    if file.exists():
        return _word_piece_json(os.fspath(file), read_json(file))
    if not (path / "vocab.txt").exists():
        raise FileFormatError(
            f"{os.fspath(folder)}: no tokenizer there; expected vocab.txt or tokenizer.json"
        )
    # What no file says is as in Hugging Face's BertTokenizer, whose texts are made lower case.
    config = read_json(path / CONFIG) if (path / CONFIG).exists() else {}
    lowercase = config.get("do_lower_case", True)
    accents = config.get("strip_accents")
    arguments: dict[str, Any] = {
        "lowercase": bool(lowercase),
        "strip_accents": bool(lowercase) if accents is None else bool(accents),
        "split_on_cjk": bool(config.get("tokenize_chinese_chars", True)),
    }
    unknown = config.get("unk_token")
    unknown = unknown.get("content") if isinstance(unknown, dict) else unknown
    if isinstance(unknown, str):
        arguments["oov_token"] = unknown
    return read_vocabulary_lines(path / "vocab.txt"), arguments


def _model(name: str, data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    model = data.get("model")
    if not isinstance(model, dict):
        raise FileFormatError(f"{name}: 'model' is missing")
    found = model.get("type", "BPE" if "merges" in model else None)
    if found != kind:
        raise FileFormatError(f"{name}: its model is {found!r}; expected {kind!r}")
    return model


def _refuse(name: str, part: Mapping[str, Any], what: str, plain: Mapping[str, Any]) -> None:
    """Refuses settings that would give other ids than those of the plain ones."""
    for key, allowed in plain.items():
        value = part.get(key)
        if value is not None and value not in allowed:
            raise FileFormatError(
                f"{name}: {what} has {key}={value!r}, which handmill does not do; it does {allowed}"
            )


def _with_added(name: str, vocabulary: Any, data: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, Any] = dict(checked_vocabulary(vocabulary, f"{name}, 'vocab'"))
    for entry in data.get("added_tokens") or ():
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise FileFormatError(f"{name}: 'added_tokens' holds {entry!r:.60}")
        token, id = entry["content"], cast(int, entry.get("id"))
        if found.setdefault(token, id) != id:
            raise FileFormatError(
                f"{name}: the added token {token!r:.60} has the id {id!r:.60}, but {found[token]} "
                "in the vocabulary"
            )
    return checked_vocabulary(found, name, whole=True)


def _byte_pair_json(
    name: str, data: Mapping[str, Any]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = _model(name, data, "BPE")
    plain = {
        "dropout": [0.0],
        "continuing_subword_prefix": [""],
        "end_of_word_suffix": [""],
        "byte_fallback": [False],
        "ignore_merges": [False],
    }
    _refuse(name, model, "its model", plain)
    cut = data.get("pre_tokenizer")
    if not isinstance(cut, dict):
        raise FileFormatError(f"{name}: 'pre_tokenizer' is missing; expected that of GPT-2")
    _refuse(name, cut, "its pre_tokenizer", {"type": ["ByteLevel"], "use_regex": [True]})
    if data.get("normalizer") is not None:
        raise FileFormatError(f"{name}: it has a normalizer, which handmill does not do")
    vocabulary = _with_added(name, model.get("vocab"), data)
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise FileFormatError(f"{name}: 'merges' is missing")
    pairs = checked_merges(merges, vocabulary, lambda i: f"{name}, merge {i}", whole=True)
    return vocabulary, pairs


def _word_piece_json(name: str, data: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    model = _model(name, data, "WordPiece")
    cut = data.get("pre_tokenizer")
    if not isinstance(cut, dict):
        raise FileFormatError(f"{name}: 'pre_tokenizer' is missing; expected that of BERT")
    _refuse(name, cut, "its pre_tokenizer", {"type": ["BertPreTokenizer"]})
    normal = data.get("normalizer")
    if not isinstance(normal, dict):
        raise FileFormatError(f"{name}: 'normalizer' is missing; expected that of BERT")
    _refuse(name, normal, "its normalizer", {"type": ["BertNormalizer"], "clean_text": [True]})
    lowercase = bool(normal.get("lowercase", True))
    accents = normal.get("strip_accents")
    vocabulary = _with_added(name, model.get("vocab"), data)
    return sorted(vocabulary, key=vocabulary.__getitem__), {
        "lowercase": lowercase,
        "strip_accents": lowercase if accents is None else bool(accents),
        "split_on_cjk": bool(normal.get("handle_chinese_chars", True)),
        "suffix_indicator": model.get("continuing_subword_prefix", "##"),
        "oov_token": model.get("unk_token", "[UNK]"),
        "longest_word": int(model.get("max_input_chars_per_word", 100)),
    }
