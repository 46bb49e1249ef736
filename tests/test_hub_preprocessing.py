"""Packers, masks and preprocessors: NumPy arrays in and out, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from handmill import hub

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]


def test_start_end_packer_packs_cuts_and_fills_up():
    packer = hub.layers.StartEndPacker(5, 1, 2, pad_value=9, return_padding_mask=True)
    tokens, mask = packer([[5, 6, 7, 8, 5], [5]])
    assert tokens.tolist() == [[1, 5, 6, 7, 2], [1, 5, 2, 9, 9]]
    assert mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    one = packer(np.array([5]), sequence_length=3, add_end_value=False)[0]
    assert one.tolist() == [1, 5, 9]
    several = hub.layers.StartEndPacker(6, start_value=[1, 1], end_value=[2], padding_side="left")
    assert several([7]).tolist() == [0, 0, 1, 1, 7, 2]
    texts = hub.layers.StartEndPacker(4, "[S]", pad_value="[P]")(["a", "b"])
    assert texts.tolist() == ["[S]", "a", "b", "[P]"]
    assert hub.layers.StartEndPacker(**packer.get_config())([5])[0].tolist() == [1, 5, 2, 9, 9]


def test_multi_segment_packer_shares_the_room():
    first, second = [1, 2, 3, 4, 5, 6], [11, 12, 13]
    packer = hub.layers.MultiSegmentPacker(9, 101, 102)
    tokens, segments = packer((first, second))
    assert tokens.tolist() == [101, 1, 2, 3, 102, 11, 12, 13, 102]
    assert segments.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    packer = hub.layers.MultiSegmentPacker(9, 101, 102, truncate="waterfall")
    assert packer((first, second))[0].tolist() == [101, 1, 2, 3, 4, 5, 6, 102, 102]
    batch, numbers = packer(([[1], [2, 3]], [[4], [5]]))
    assert batch.tolist() == [
        [101, 1, 102, 4, 102, 0, 0, 0, 0],
        [101, 2, 3, 102, 5, 102, 0, 0, 0],
    ]
    assert numbers[0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert packer(np.array([1, 2]))[0].tolist() == [101, 1, 2, 102, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="different numbers of rows"):
        packer(([[1], [2]], [[3]]))


def test_masks_hide_the_share_that_was_asked_for():
    tokens = np.tile(np.arange(1, 101), (50, 1))
    generator = hub.layers.MaskedLMMaskGenerator(
        1000, 0.2, 999, unselectable_token_ids=[5, 6], seed=1
    )
    found = generator(tokens)
    positions, ids = found["mask_positions"], found["mask_ids"]
    assert positions.shape == (50, 20)  # 0.2 of 98, rounded up
    np.testing.assert_array_equal(ids, np.take_along_axis(tokens, positions, 1))
    assert not np.isin(ids, [5, 6]).any()
    assert (np.diff(positions, axis=1) > 0).all()
    hidden = np.take_along_axis(found["token_ids"], positions, 1)
    shares = [(hidden == 999).mean(), (hidden == ids).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1], atol=4 * np.sqrt(0.16 / 1000))
    untouched = np.ones(tokens.shape, bool)
    np.put_along_axis(untouched, positions, False, 1)
    np.testing.assert_array_equal(found["token_ids"][untouched], tokens[untouched])
    again = hub.layers.MaskedLMMaskGenerator(**generator.get_config())
    np.testing.assert_array_equal(again(tokens)["token_ids"], found["token_ids"])
    assert (again(tokens)["token_ids"] != found["token_ids"]).any()


@pytest.mark.parametrize(
    ("make", "match"),
    (
        (lambda: hub.layers.StartEndPacker(0), "sequence_length"),
        (lambda: hub.layers.StartEndPacker(4)([[1], 2]), "mixed"),
        (lambda: hub.layers.StartEndPacker(4, padding_side="top"), "padding_side"),
        (lambda: hub.layers.MultiSegmentPacker(2, 1, 2)(([1], [2])), "leaves no room"),
        (lambda: hub.layers.MultiSegmentPacker(9, 1, 2, truncate="x"), "truncate"),
        (lambda: hub.layers.MaskedLMMaskGenerator(9, 1.5, 3), "from 0 to 1"),
        (lambda: hub.layers.MaskedLMMaskGenerator(9, 0.5, 9), "below"),
        (lambda: hub.layers.MaskedLMMaskGenerator(9, 0.5, 3, None, [0], 0.8, 0.3), "at most 1"),
    ),
)
def test_what_cannot_be_packed_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_causal_preprocessor_makes_the_next_token_the_label():
    tokenizer = hub.tokenizers.train_byte_pair(["a"], 257, special_tokens=["<|endoftext|>"])
    config = tokenizer.get_config()
    tokenizer = hub.models.GPT2Tokenizer(config["vocabulary"], config["merges"])
    preprocessor = hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=5)
    x, y, weights = preprocessor(["ab", "abcdefgh"])
    a, end = tokenizer.token_to_id("a"), 256
    assert x["token_ids"].tolist() == [[end, a, a + 1, end, 0], [end, *range(a, a + 4)]]
    assert y.tolist() == [[a, a + 1, end, 0, 0], [*range(a, a + 4), end]]
    assert weights.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert x["padding_mask"].dtype == bool
    prompt = preprocessor.generate_preprocess("ab")
    assert prompt["token_ids"].tolist() == [end, a, a + 1, 0, 0]
    assert preprocessor.generate_postprocess(prompt) == "ab"


def test_bert_preprocessors():
    tokenizer = hub.models.BertTokenizer(WORDS)
    classify = hub.models.BertTextClassifierPreprocessor(tokenizer, 8)
    x, y = classify((["a b", "c"], ["d", "e f"]), np.array([0, 1]))
    assert x["token_ids"].tolist() == [[2, 5, 6, 3, 8, 3, 0, 0], [2, 7, 3, 9, 10, 3, 0, 0]]
    assert x["segment_ids"].tolist()[0] == [0, 0, 0, 0, 1, 1, 0, 0]
    assert x["padding_mask"].sum(axis=1).tolist() == [6, 6]
    assert y.tolist() == [0, 1]
    mask = hub.models.BertMaskedLMPreprocessor(
        tokenizer, 8, mask_selection_rate=0.5, mask_selection_length=3, seed=1
    )
    x, y, weights = mask(["a b c d", "e"])
    assert weights.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert (y[weights > 0] >= 5).all()
    assert (x["mask_positions"][weights > 0] > 0).all()  # never [CLS]
