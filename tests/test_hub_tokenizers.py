"""Tokenizers: the ids of their definitions, round trips, damaged files, and streams."""

from __future__ import annotations

import itertools
import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from handmill import hub
from handmill.hub.tokenizers.bert_words import bert_words
from handmill.hub.tokenizers.merges import _merged_by_heap, merged
from handmill.hub.tokenizers.words import gpt2_words

TEXTS = [
    "see the sea by the seas",
    "the seaside, 1984's 's! naïve café 日本語 🙂",
    "  two  spaces\n\n",
]


@pytest.fixture(scope="module")
def byte_pair():
    return hub.tokenizers.train_byte_pair(TEXTS, 290)


BERT = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "##aff",
    "##able",
    "the",
    "cafe",
    ",",
    "日",
]


def word_piece(**kwargs):
    return hub.tokenizers.WordPieceTokenizer(BERT, **kwargs)


# --- words ---


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("Hello world's 12345", ["Hello", " world", "'s", " 12345"]),
        ("it'S we'll", ["it", "'", "S", " we", "'ll"]),
        ("a  b\n\n c ", ["a", " ", " b", "\n\n", " c", " "]),
        ("x½² Ⅷ一", ["x", "½²", " Ⅷ", "一"]),
        ("é!? \u3000z", ["é", "!?", " ", "\u3000", "z"]),
        ("\x1c\x1d", ["\x1c\x1d"]),  # white space to Python, not to Unicode
        ("", []),
    ),
)
def test_words_are_those_of_gpt2(text, words):
    assert gpt2_words(text) == words


def slow_words(text: str) -> list[str]:
    """GPT-2's pattern, character by character."""
    spaces = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | set(
        map(chr, range(0x2000, 0x200B))
    )

    def kind(c: str) -> str:
        if c in spaces:
            return "s"
        return {"L": "l", "N": "n"}.get(unicodedata.category(c)[0], "o")

    found, i = [], 0
    while i < len(text):
        short = next(
            (e for e in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if text.startswith(e, i)), ""
        )
        if short:
            found.append(short)
            i += len(short)
            continue
        begin = i + 1 if text[i] == " " and i + 1 < len(text) and kind(text[i + 1]) != "s" else i
        if kind(text[begin]) != "s":
            end = begin
            while end < len(text) and kind(text[end]) == kind(text[begin]):
                end += 1
        else:
            end = begin
            while end < len(text) and kind(text[end]) == "s":
                end += 1
            if end < len(text) and end - begin > 1:
                end -= 1
        found.append(text[i:end])
        i = end
    return found


def random_text(rng: random.Random) -> str:
    pieces = (
        "a",
        "B",
        "é",
        "日",
        "1",
        "½",
        "一",
        " ",
        "  ",
        "\n",
        "\u2003",
        "'s",
        "'re",
        "!",
        "🙂",
        "\x1c",
        "\u0301",
    )
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(12)))


def test_words_are_those_of_the_pattern_read_slowly():
    rng = random.Random(0)
    for _ in range(2000):
        text = random_text(rng)
        assert gpt2_words(text) == slow_words(text), ascii(text)


# --- byte pairs ---


def plain_merges(ids: list[int], merges) -> list[int]:
    """Joins the pair of the lowest rank that stands most to the left, until there is none."""
    while True:
        pairs = [(merges[p][0], i) for i, p in enumerate(itertools.pairwise(ids)) if p in merges]
        if not pairs:
            return ids
        _, i = min(pairs)
        ids = [*ids[:i], merges[ids[i], ids[i + 1]][1], *ids[i + 2 :]]


def test_both_ways_of_merging_join_the_same_pairs():
    rng = random.Random(1)
    for _ in range(300):
        merges, size = {}, 4
        for rank in range(12):
            merges.setdefault((rng.randrange(size), rng.randrange(size)), (rank, size))
            size += 1
        ids = [rng.randrange(4) for _ in range(rng.randrange(1, 40))]
        wanted = plain_merges(ids, merges)
        assert merged(list(ids), merges) == wanted
        assert _merged_by_heap(list(ids), merges) == wanted


def test_byte_pair_round_trips(byte_pair):
    rng = random.Random(2)
    for text in [*TEXTS, "\x00\x7f", "👩‍👩‍👧", *[random_text(rng) for _ in range(200)]]:
        ids = byte_pair(text)
        assert byte_pair.detokenize(ids) == text
        stream = byte_pair.stream()
        assert "".join(map(stream.add, ids)) + stream.finish() == text


def test_byte_pair_equals_the_packages(byte_pair):
    tokenizers = pytest.importorskip("tokenizers")
    config = byte_pair.get_config()
    merges = [tuple(m.split(" ")) for m in config["merges"]]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=config["vocabulary"], merges=merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    wrapped = hub.tokenizers.PackageTokenizer(theirs)
    rng = random.Random(3)
    for text in [*TEXTS, *[random_text(rng) for _ in range(1000)]]:
        assert byte_pair.encode(text) == theirs.encode(text).ids == wrapped.encode(text), ascii(
            text
        )
        stream = wrapped.stream()
        assert "".join(map(stream.add, wrapped(text))) + stream.finish() == text


def test_training_learns_the_most_frequent_pairs_first():
    tokenizer = hub.tokenizers.train_byte_pair(["ab ab ab abc"] * 2, 259)
    assert tokenizer.get_config()["merges"] == ["a b", "Ġ ab", "Ġab c"]
    few = hub.tokenizers.train_byte_pair(["xy"], 300, special_tokens=["<|endoftext|>"])
    assert few.vocabulary_size() == 257
    assert few.token_to_id("<|endoftext|>") == 256


def test_a_long_word_takes_n_log_n(byte_pair):
    ids = byte_pair.encode("the" * 20_000)
    assert byte_pair.decode(ids) == "the" * 20_000


def test_special_tokens_are_text_unless_asked_for():
    words = hub.tokenizers.train_byte_pair(
        TEXTS, 260, special_tokens=["<|endoftext|>"]
    ).get_config()
    plain = hub.tokenizers.GPT2Tokenizer(words["vocabulary"], words["merges"])
    text = "the<|endoftext|>sea"
    assert plain.end_token_id not in plain(text)
    special = hub.tokenizers.GPT2Tokenizer(
        words["vocabulary"], words["merges"], special_tokens_in_strings=True
    )
    assert list(special(text)).count(special.end_token_id) == 1
    assert plain.detokenize(plain(text)) == special.detokenize(special(text)) == text


def test_merges_may_lead_through_tokens_without_an_id():
    vocabulary = {"butter": 1, "fly": 2}  # the example of KerasHub
    merges = ["b u", "t t", "e r", "bu tt", "butt er", "f l", "fl y"]
    tokenizer = hub.tokenizers.BytePairTokenizer(vocabulary, merges, sequence_length=5)
    np.testing.assert_array_equal(tokenizer("butterfly"), [1, 2, 0, 0, 0])
    with pytest.raises(ValueError, match="no token 'x'"):
        tokenizer("x")


# --- word pieces ---


def test_word_pieces_are_the_longest_from_the_left():
    tokenizer = word_piece(lowercase=True, strip_accents=True)
    tokens = [tokenizer.id_to_token(i) for i in tokenizer("The UNAFFABLE café,日unaffablex")]
    assert tokens == ["the", "un", "##aff", "##able", "cafe", ",", "日", "[UNK]"]
    assert tokenizer.detokenize(tokenizer("unaffable the")) == "unaffable the"
    assert list(word_piece()("x" * 101)) == [1]
    strings = word_piece(dtype="string")("the un")
    assert strings.tolist() == ["the", "un"]


def test_word_pieces_equal_the_package():
    tokenizers = pytest.importorskip("tokenizers")
    ours = hub.tokenizers.BertTokenizer(BERT, lowercase=True)
    theirs = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({w: i for i, w in enumerate(BERT)}, unk_token="[UNK]")
    )
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    rng = random.Random(4)
    pieces = [
        "un",
        "aff",
        "able",
        " ",
        "the",
        "café",
        "日",
        ",",
        "\u200b",
        "é",
        "\n",
        "—",
        "🙂",
        "\ufffd",
    ]
    for _ in range(1000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(10)))
        assert ours.encode(text) == theirs.encode(text).ids, ascii(text)


def test_letters_are_made_small_one_by_one_and_private_ones_dropped():
    """As `tokenizers` does: Python's ``lower`` ends a Greek word with another sigma."""
    for strip in (False, True):
        assert bert_words("ΑΣ ΣΑΣ!a\ue000b", True, strip, True) == ["ασ", "σασ", "!", "ab"]
    assert bert_words("ΑΣ ς\U000f4e11", False, False, True) == ["ΑΣ", "ς"]


def any_text(rng: random.Random) -> str:
    """Characters that all versions of Unicode in use agree on, words, and what cuts them."""
    pieces = (
        "'s",
        " ",
        "\n",
        "\x0b",
        "\x1c",
        "\xa0",
        "\u200b",
        "\ufffd",
        "ΑΣ",
        "İ",
        "e\u0301",
        "12",
    )

    def one() -> str:
        if rng.random() < 0.4:
            return rng.choice(pieces)
        while True:
            c = chr(rng.randrange(rng.choice((0x80, 0x600, 0x3100, 0x110000))))
            kind = unicodedata.ucd_3_2_0.category(c)
            if kind not in ("Cn", "Cs") and kind == unicodedata.category(c):
                return c

    return "".join(one() for _ in range(rng.randrange(20)))


@pytest.mark.slow
def test_words_of_any_text_are_those_of_the_package():
    tokenizers = pytest.importorskip("tokenizers")
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bert = tokenizers.pre_tokenizers.BertPreTokenizer()
    rng = random.Random(5)
    for i in range(4000):
        text, low, strip = any_text(rng), bool(i & 1), bool(i & 2)
        cut = [text[a:b] for _, (a, b) in byte_level.pre_tokenize_str(text)]
        assert gpt2_words(text) == cut, ascii(text)
        normal = tokenizers.normalizers.BertNormalizer(strip_accents=strip, lowercase=low)
        words = [w for w, _ in bert.pre_tokenize_str(normal.normalize_str(text))]
        assert bert_words(text, low, strip, True) == words, ascii(text)


def test_learned_word_pieces_cover_their_texts():
    vocabulary = hub.tokenizers.compute_word_piece_vocabulary(TEXTS, 60, lowercase=True)
    assert len(vocabulary) <= 60
    assert len(set(vocabulary)) == len(vocabulary)
    tokenizer = hub.tokenizers.WordPieceTokenizer(vocabulary, lowercase=True)
    for text in TEXTS:
        assert tokenizer.token_to_id("[UNK]") not in tokenizer(text)
    assert vocabulary == hub.tokenizers.compute_word_piece_vocabulary(TEXTS, 60, lowercase=True)


# --- bytes, code points, batches ---


def test_bytes_and_code_points():
    tokenizer = hub.tokenizers.ByteTokenizer(lowercase=False)
    assert list(tokenizer("é")) == [0xC3, 0xA9]
    assert tokenizer.detokenize([0xC3]) == "\ufffd"
    strict = hub.tokenizers.ByteTokenizer(errors="ignore")
    assert strict.detokenize([104, 0xC3]) == "h"
    unicode = hub.tokenizers.UnicodeCodepointTokenizer(
        vocabulary_size=100, normalization_form="NFD"
    )
    assert list(unicode("aé")) == [97, 99, 99]  # e and its accent lie beyond


def test_batches_have_one_length_or_are_lists(byte_pair):
    rows = byte_pair(["the", "the sea"])
    assert isinstance(rows, list)
    assert [len(r) for r in rows] == [len(byte_pair("the")), 2]
    config = {**byte_pair.get_config(), "sequence_length": 6}
    wide = hub.tokenizers.BytePairTokenizer(**config)(np.array(["the", "the sea"]))
    assert wide.shape == (2, 6)
    assert wide.dtype == np.int32
    assert wide[0, 1:].tolist() == [0] * 5
    assert byte_pair.detokenize(rows) == ["the", "the sea"]
    assert byte_pair("").shape == (0,)
    assert byte_pair.detokenize([]) == ""


@pytest.mark.parametrize(
    ("call", "match"),
    (
        (lambda t: t(3), "takes texts"),
        (lambda t: t(["a", None]), "at index 1"),
        (lambda t: t([["a"], ["b"]]), "flat list"),
        (lambda t: t("a\ud800"), "lone surrogate"),
        (lambda t: t.detokenize([0.5]), "whole numbers"),
        (lambda t: t.detokenize([1, 99999]), "position 1 is outside"),
        (lambda t: t.detokenize([[1], [-1]]), "of row 1"),
        (lambda t: t.id_to_token(-1), "in range"),
        (lambda t: t.token_to_id("nope"), "not in the vocabulary"),
    ),
)
def test_what_is_no_text_is_refused(byte_pair, call, match):
    with pytest.raises(ValueError, match=match):
        call(byte_pair)


# --- files ---


def write(folder: Path, vocabulary, merges) -> tuple[Path, Path]:
    vocab, lines = folder / "vocab.json", folder / "merges.txt"
    vocab.write_bytes(
        vocabulary if isinstance(vocabulary, bytes) else json.dumps(vocabulary).encode()
    )
    lines.write_bytes(merges)
    return vocab, lines


@pytest.mark.parametrize(
    ("call", "match"),
    (
        (lambda t: t.encode(5), "takes texts .str.. Received: int 5"),
        (lambda t: t.encode(None), "takes texts"),
        (lambda t: t.encode(["a"]), "Received: list"),
        (lambda t: t.encode("a\ud800"), "lone surrogate, .* at position 1"),
        (lambda t: t.decode([1 << 21]), "at position 0 is outside the vocabulary"),
        (lambda t: t.decode([1, -1]), "id -1 at position 1 is outside"),
        (lambda t: t.decode([1.5]), "whole numbers"),
        (lambda t: t.decode([[1, 2], [3, 4]]), r"detokenize\(\) takes several. Received: shape"),
    ),
)
def test_one_text_and_its_ids_are_checked_alike(byte_pair, call, match):
    pieces = hub.tokenizers.WordPieceTokenizer(["[UNK]", "a", "##b"])
    for tokenizer in (
        byte_pair,
        pieces,
        hub.tokenizers.ByteTokenizer(),
        hub.tokenizers.UnicodeCodepointTokenizer(),
    ):
        with pytest.raises(ValueError, match=match):
            call(tokenizer)
        assert tokenizer.encode(b"a") == tokenizer.encode("a")
        assert tokenizer.decode([]) == ""


def test_texts_to_learn_from_are_named_where_they_are_none():
    with pytest.raises(ValueError, match="Received at index 1: int 3"):
        hub.tokenizers.train_byte_pair(["a", 3], 300)
    with pytest.raises(ValueError, match="lone surrogate"):
        hub.tokenizers.train_byte_pair(["a\ud800"], 300)
    with pytest.raises(ValueError, match="Received at index 0: NoneType None"):
        hub.tokenizers.compute_word_piece_vocabulary([None], 20)


def test_saved_vocabularies_are_read_again(tmp_path, byte_pair):
    assert byte_pair.save_assets(tmp_path) == ["vocab.json", "merges.txt"]
    again = hub.tokenizers.BytePairTokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert again.encode(TEXTS[1]) == byte_pair.encode(TEXTS[1])
    marked = b"\xef\xbb\xbf" + (tmp_path / "merges.txt").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "merges.txt").write_bytes(marked)
    third = hub.tokenizers.BytePairTokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert third.get_config() == byte_pair.get_config()
    word_piece().save_assets(tmp_path)
    assert hub.tokenizers.WordPieceTokenizer(tmp_path / "vocab.txt").get_vocabulary() == BERT


def test_a_folder_that_says_nothing_is_as_hugging_face_has_it(tmp_path):
    """Lower case without a word to the contrary; what was saved says it, and the unknown token."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    read = hub.tokenizers.BertTokenizer.from_preset
    assert read(tmp_path)("A a \u00c1").tolist() == [6, 6, 6]
    assert read(tmp_path, lowercase=False, strip_accents=False)("A a").tolist() == [5, 6]
    (tmp_path / "tokenizer_config.json").write_text('{"unk_token": {"content": "a"}}')
    assert read(tmp_path).oov_token == "a"
    hub.tokenizers.BertTokenizer(words, oov_token="[MASK]").save_assets(tmp_path)
    again = read(tmp_path)
    assert (again("A a b").tolist(), again.oov_token) == ([5, 6, 4], "[MASK]")


def test_tokenizer_json_of_hugging_face(tmp_path, byte_pair):
    config = byte_pair.get_config()
    data = {
        "added_tokens": [
            {"id": byte_pair.vocabulary_size(), "content": "<|endoftext|>", "special": True}
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": config["vocabulary"], "merges": config["merges"]},
    }
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(data))
    found = hub.tokenizers.GPT2Tokenizer.from_preset(tmp_path)
    assert found.encode(TEXTS[0]) == byte_pair.encode(TEXTS[0])
    assert found.end_token_id == byte_pair.vocabulary_size()
    data["model"]["byte_fallback"] = True
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="byte_fallback=True"):
        hub.tokenizers.GPT2Tokenizer.from_preset(tmp_path)
    pieces = {
        "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "vocab": {w: i for i, w in enumerate(BERT)}},
    }
    file.write_text(json.dumps(pieces))
    bert = hub.tokenizers.BertTokenizer.from_preset(tmp_path)
    assert bert.lowercase
    assert bert.strip_accents
    assert list(bert("CAFÉ")) == [9]


@pytest.mark.parametrize(
    ("vocabulary", "merges", "match"),
    (
        ({"a": 0, "b": 0}, b"", "'a' and 'b' have the same id, 0"),
        ({"a": 0, "b": 2}, b"", "no token has the id 1"),
        ({"a": 0, "b": -1}, b"", "the id of 'b' is -1"),
        (b'{"a": 0,\n "b": 1,\n "a": 2}', b"", "line 3: 'a' stands there twice"),
        (b'{"a": 0\n, oops}', b"", "line 2, column"),
        (b"[1]", b"", "expected an object"),
        (b'{"a": "\xff"}', b"", "line 1: no UTF-8"),
        ({"a": 0, "b": 1, "ab": 2}, b"#version: 0.2\na b\na b c\n", "line 3: expected two tokens"),
        (
            {"a": 0, "b": 1, "ab": 2},
            b"a b\na b\n",
            "line 2: the merge 'a b' stands already at .*line 1",
        ),
        ({"a": 0, "b": 1}, b"a b\n", "line 1: .* needs the token 'ab'"),
        ({"a": 0, "b": 1}, b"a z\n", "line 1: .* needs the token 'z'"),
    ),
)
def test_faults_of_files_are_named(tmp_path, vocabulary, merges, match):
    vocab, lines = write(tmp_path, vocabulary, merges)
    with pytest.raises(ValueError, match=match) as error:
        hub.tokenizers.BytePairTokenizer(str(vocab), str(lines))
    assert ".json" in str(error.value) or "merges.txt" in str(error.value)


@pytest.mark.parametrize(
    ("content", "match"),
    (
        (b"[UNK]\na\na\n", "line 3: the token 'a' stands already at .*line 2"),
        (b"[UNK]\n\na\n", "line 2: expected a token, found ''"),
        (b"", "there is no token"),
        (b"a\n", r"Cannot find '\[UNK\]'"),
    ),
)
def test_faults_of_vocab_txt_are_named(tmp_path, content, match):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        hub.tokenizers.WordPieceTokenizer(tmp_path / "vocab.txt")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        hub.tokenizers.BytePairTokenizer(str(tmp_path / "none.json"), [])
    with pytest.raises(ValueError, match="no tokenizer there"):
        hub.tokenizers.GPT2Tokenizer.from_preset(tmp_path)


def test_a_stream_takes_whole_ids():
    stream = hub.tokenizers.StreamingDetokenizer(hub.tokenizers.ByteTokenizer())
    for id in (1.5, -1, "a"):
        with pytest.raises(ValueError, match="`id` must be a whole number of 0 or more"):
            stream.add(id)
    assert stream.add(np.int32(97)) == "a"
