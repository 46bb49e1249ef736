"""WordPiece vocabularies learned from texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from handmill.arguments import whole_number
from handmill.hub.tokenizers.bert_words import bert_words
from handmill.hub.tokenizers.tokenizer import checked_text

_ROUNDS = 4
_MOST_CHARACTERS = 50


def compute_word_piece_vocabulary(
    data: Iterable[str],
    vocabulary_size: int,
    vocabulary_output_file: str | None = None,
    lowercase: bool = False,
    strip_accents: bool = False,
    split: bool = True,
    split_on_cjk: bool = True,
    suffix_indicator: str = "##",
    reserved_tokens: Sequence[str] = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"),
) -> list[str]:
    """Learns a vocabulary for :class:`WordPieceTokenizer` from texts.

    All characters are tokens; to them pieces of words are added that texts hold often. A count of
    pieces is made from how the words are cut by the vocabulary of the round before; a piece counts
    only what no longer piece takes; the threshold is the one that gives the size that is asked for.

    Args:
        data: texts.
        vocabulary_size: the most tokens, reserved ones included.
        vocabulary_output_file: where the tokens are written, one a line. Default: nowhere.
        lowercase: whether texts are made lower case.
        strip_accents: whether accents are dropped.
        split: whether texts are cut into words; else each text is a word.
        split_on_cjk: whether each CJK ideograph is a word.
        suffix_indicator: what pieces that do not begin a word begin with.
        reserved_tokens: the first tokens.

    Returns:
        The tokens: reserved ones, characters, pieces by falling count.

    Raises:
        ValueError: if the size does not hold the reserved tokens.

    Example:
        >>> from handmill import hub
        >>> found = hub.tokenizers.compute_word_piece_vocabulary(["bat sat pat mat rat"] * 3, 14)
        >>> found[:5], "##at" in found
        (['[PAD]', '[CLS]', '[SEP]', '[UNK]', '[MASK]'], True)

    Source: the top-down algorithm of "Fast WordPiece tokenization" (Song et al., EMNLP 2021) as
    TensorFlow Text describes it; the function of the same name in KerasHub.
    """
    size = whole_number("vocabulary_size", vocabulary_size, len(reserved_tokens) + 1)
    if isinstance(data, str):
        raise ValueError("`data` must be an iterable of texts. Received: one text")
    counts: Counter[str] = Counter()
    for i, value in enumerate(data):
        text = checked_text(value, i)
        words = bert_words(text, lowercase, strip_accents, split_on_cjk) if split else [text]
        counts.update(word for word in words if 0 < len(word) <= _MOST_CHARACTERS)
    characters = _characters(counts, suffix_indicator, size - len(reserved_tokens))
    room = size - len(reserved_tokens) - len(characters)
    low, high = 1, max(counts.values(), default=1) * _MOST_CHARACTERS + 1
    best: list[str] = []
    while low < high:
        middle = (low + high) // 2
        found = _pieces(counts, middle, characters, suffix_indicator)
        if len(found) <= room:
            best, high = found, middle
        else:
            low = middle + 1
    reserved = list(reserved_tokens)
    tokens = [*reserved, *(t for t in (*characters, *best) if t not in set(reserved))]
    if vocabulary_output_file is not None:
        from pathlib import Path

        from handmill.saving.atomic_file import write_bytes

        content = "".join(f"{token}\n" for token in tokens).encode()
        write_bytes(Path(vocabulary_output_file), [content])
    return tokens


def _characters(counts: Counter[str], mark: str, most: int) -> list[str]:
    """All characters, as beginnings and as suffixes; the most frequent where there are too many."""
    found: Counter[str] = Counter()
    for word, count in counts.items():
        found[word[0]] += count
        for c in word[1:]:
            found[mark + c] += count
    kept = sorted(found, key=lambda token: (-found[token], token))[:most]
    return sorted(kept)


def _pieces(counts: Counter[str], threshold: int, characters: list[str], mark: str) -> list[str]:
    """Pieces of two characters or more that are counted at least ``threshold`` times."""
    vocabulary: set[str] = set()
    kept: dict[str, int] = {}
    for round_ in range(_ROUNDS):
        seen: defaultdict[str, int] = defaultdict(int)
        for word, count in counts.items():
            if count < threshold and round_ == 0 and len(word) == 1:
                continue
            for begin in _cuts(word, vocabulary | set(characters), mark, round_):
                prefix = mark if begin else ""
                for end in range(begin + 1, len(word) + 1):
                    seen[prefix + word[begin:end]] += count
        kept = {}
        by_length = sorted(seen, key=lambda t: (-_length(t, mark), t))
        for piece in by_length:
            count = seen[piece]
            if count < threshold:
                continue
            if _length(piece, mark) > 1:
                kept[piece] = count
            prefix = mark if piece.startswith(mark) else ""
            body = piece[len(prefix) :]
            for end in range(1, len(body)):  # shorter ones count only what this one leaves
                shorter = prefix + body[:end]
                seen[shorter] -= count
        new = set(kept)
        if new == vocabulary:
            break
        vocabulary = new
    return sorted(kept, key=lambda token: (-kept[token], token))


def _length(piece: str, mark: str) -> int:
    return len(piece) - (len(mark) if piece.startswith(mark) else 0)


def _cuts(word: str, vocabulary: set[str], mark: str, round_: int) -> list[int]:
    """Where pieces of a word begin; everywhere in the first round."""
    if round_ == 0:
        return list(range(len(word)))
    begins: list[int] = []
    begin = 0
    while begin < len(word):
        begins.append(begin)
        prefix = mark if begin else ""
        end = len(word)
        while end > begin + 1 and prefix + word[begin:end] not in vocabulary:
            end -= 1
        begin = end
    return begins
