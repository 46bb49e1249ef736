"""Byte-pair merges learned from texts."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from handmill.arguments import whole_number
from handmill.hub.tokenizers.byte_pair_tokenizer import BytePairTokenizer
from handmill.hub.tokenizers.byte_symbols import SYMBOLS, to_symbols
from handmill.hub.tokenizers.tokenizer import checked_text
from handmill.hub.tokenizers.words import gpt2_words


def train_byte_pair(
    texts: Iterable[str],
    vocabulary_size: int,
    special_tokens: Sequence[str] = (),
    min_frequency: int = 2,
) -> BytePairTokenizer:
    """Learns a byte-pair tokenizer from texts.

    The pair of tokens that follow one another most often within words becomes a token, again and
    again; of pairs that are equally frequent the one with the smaller ids, so that equal texts
    always give equal tokenizers.

    Args:
        texts: an iterable of texts.
        vocabulary_size: the number of tokens: the 256 bytes, what is learned, special ones. There
            may be fewer, where no pair is frequent enough.
        special_tokens: tokens at the end of the vocabulary, which texts do not hold.
        min_frequency: how often a pair must be seen.

    Returns:
        The tokenizer; the arguments for a GPT2Tokenizer are in its ``get_config()``.

    Example:
        >>> from handmill import hub
        >>> tokenizer = hub.tokenizers.train_byte_pair(["see the sea", "the seas"], 262)
        >>> [tokenizer.id_to_token(i) for i in tokenizer("the seas")]
        ['the', 'Ġsea', 's']

    Source: Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword
    units", ACL 2016.
    """
    least = 256 + len(special_tokens)
    size = whole_number("vocabulary_size", vocabulary_size, least)
    if isinstance(texts, str):
        raise ValueError("`texts` must be an iterable of texts, such as [text]. Received: a text")
    counts: Counter[str] = Counter()
    for i, text in enumerate(texts):
        counts.update(gpt2_words(checked_text(text, i)))
    tokens = sorted(SYMBOLS.values())
    number = {token: id for id, token in enumerate(tokens)}
    words = [[number[c] for c in to_symbols(word.encode())] for word in counts]
    merges = _learned(
        words, list(counts.values()), tokens, size - len(special_tokens), min_frequency
    )
    vocabulary = {token: id for id, token in enumerate((*tokens, *special_tokens))}
    return BytePairTokenizer(vocabulary, [f"{a} {b}" for a, b in merges])


def _learned(
    words: list[list[int]], counts: list[int], tokens: list[str], size: int, min_frequency: int
) -> list[tuple[str, str]]:
    """Adds tokens, up to ``size``; returns the merges. Changes ``words`` and ``tokens``."""
    seen: defaultdict[tuple[int, int], int] = defaultdict(int)
    where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        for pair in itertools.pairwise(word):
            seen[pair] += counts[i]
            where[pair].add(i)
    heap = [(-count, pair) for pair, count in seen.items()]
    heapq.heapify(heap)
    known = set(tokens)
    merges: list[tuple[str, str]] = []
    while heap and len(tokens) < size:
        count, pair = heapq.heappop(heap)
        if -count != seen.get(pair, 0):
            continue
        if -count < max(min_frequency, 1):
            break
        a, b = tokens[pair[0]], tokens[pair[1]]
        if a + b in known:  # made of other halves before: a second merge with the same result
            joined = tokens.index(a + b)
        else:
            joined = len(tokens)
            tokens.append(a + b)
            known.add(a + b)
        merges.append((a, b))
        changed: set[tuple[int, int]] = set()
        for i in sorted(where.pop(pair)):
            old = words[i]
            new = _joined(old, pair, joined)
            for before in itertools.pairwise(old):
                seen[before] -= counts[i]
                changed.add(before)
            for after in itertools.pairwise(new):
                seen[after] += counts[i]
                where[after].add(i)
                changed.add(after)
            words[i] = new
        seen.pop(pair, None)
        for other in sorted(changed):
            if seen.get(other, 0) > 0:
                heapq.heappush(heap, (-seen[other], other))
    return merges


def _joined(word: list[int], pair: tuple[int, int], joined: int) -> list[int]:
    found: list[int] = []
    i = 0
    while i < len(word):
        if i + 1 < len(word) and word[i] == pair[0] and word[i + 1] == pair[1]:
            found.append(joined)
            i += 2
        else:
            found.append(word[i])
            i += 1
    return found
