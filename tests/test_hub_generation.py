"""Generation: one program for all positions, whose tokens depend on nothing but their own row."""

from __future__ import annotations

import itertools
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import config, hub, ops
from handmill.cli import main
from handmill.hub.generation import continue_prompts
from handmill.hub.generation.session import Session
from handmill.runtime.function import TracedFunction

PROMPTS = [[3, 1, 4], [7], [9, 9, 9, 2, 5, 6]]


def small_model(seed: int = 1, vocabulary: int = 50, places: int = 40) -> hub.models.GPT2CausalLM:
    handmill.utils.set_random_seed(seed)
    backbone = hub.models.GPT2Backbone(vocabulary, 2, 2, 16, 32, max_sequence_length=places)
    model = hub.models.GPT2CausalLM(backbone)
    for weight in model.weights:  # so that the likeliest token is not always the one before
        if len(weight.shape) > 1:
            weight.assign(np.asarray(weight) * 12.0)
    return model


@pytest.fixture(scope="module")
def model():
    return small_model()


def rows(found) -> list[list[int]]:
    return [row.tolist() for row in found]


def whole_logits(model, tokens):
    ids = np.array([tokens])
    return np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))[0]


def likeliest(model, prompt, length):
    tokens = list(prompt)
    while len(tokens) < length:
        tokens.append(int(np.argmax(whole_logits(model, tokens)[-1])))
    return tokens


# --- the same tokens ---


@pytest.mark.slow
def test_greedy_text_is_that_of_the_model_called_anew_for_each_token(model):
    found = rows(continue_prompts(model, PROMPTS, 20))
    assert found == [likeliest(model, prompt, 20) for prompt in PROMPTS]
    assert len(set(map(tuple, found))) == 3
    with handmill.use_backend("numpy"):
        assert rows(continue_prompts(small_model(), PROMPTS[:2], 12)) == [r[:12] for r in found[:2]]


@pytest.mark.parametrize("isa", config.available_isas())
def test_steps_have_the_bits_of_the_whole_text(model, isa):
    text = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]])

    def whole(tokens):
        cache = [(np.zeros(s, "f"), np.zeros(s, "f")) for s in model.cache_shapes(1, 40)]
        return model.call_with_cache(ops.transpose(tokens), cache, 0)[0]

    config.set_isa(isa)
    wanted = TracedFunction(whole, rows_alone=True)(np.ascontiguousarray(text.T))
    session = Session(model, 1, 40)
    session.begin([text[0, :1]], 40, np.zeros((1, 2), np.int64), (1, 1, 1), ())
    for i in range(text.shape[1]):
        session.tokens.assign(np.pad(text, ((0, 0), (0, 29))).astype(np.int32))
        session.position.assign(np.array([i], np.int32))
        np.testing.assert_array_equal(session.step_logits()[0], wanted[0, i])


@pytest.mark.parametrize("name", ("greedy", "random", "top_k", "top_p"))
def test_a_row_has_the_tokens_that_it_has_alone(model, name):
    sampler = hub.samplers.get(name)
    together = rows(continue_prompts(model, PROMPTS, 24, sampler=sampler, seed=5))
    alone = [rows(continue_prompts(model, [p], 24, sampler=sampler, seed=5))[0] for p in PROMPTS]
    assert together == alone


@pytest.mark.alone
def test_threads_change_no_token(model):
    before = config.num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 7):
            config.set_num_threads(threads)
            found.append(rows(continue_prompts(model, PROMPTS, 24, sampler="random", seed=2)))
    finally:
        config.set_num_threads(before)
    assert found[1:] == found[:-1]


def test_equal_prompts_draw_different_tokens(model):
    sampler = hub.samplers.RandomSampler(seed=3, temperature=2.0)
    first, second = rows(continue_prompts(model, [PROMPTS[0]] * 2, 24, sampler=sampler))
    assert first != second
    assert first == rows(continue_prompts(model, PROMPTS, 24, sampler=sampler))[0]


def test_one_program_serves_all_positions_and_lengths(model):
    continue_prompts(model, PROMPTS, 20)
    session = model._programs["generation"]
    for length, sampler in ((5, "top_k"), (9, "random"), (13, "greedy")):
        continue_prompts(model, [p + [1] * length for p in PROMPTS], 39, sampler=sampler)
    assert model._programs["generation"] is session
    assert len(session._step._bound) == len(session._read._bound) == 1


def test_a_callback_may_generate_itself(model):
    inner: list[list[int]] = []

    def callback(row, tokens):
        inner[:] = rows(continue_prompts(model, [PROMPTS[1]] * 3, 20))

    outer = rows(continue_prompts(model, PROMPTS, 20, callback=callback))
    assert inner == rows(continue_prompts(model, [PROMPTS[1]] * 3, 20))
    assert outer == rows(continue_prompts(model, PROMPTS, 20))


def test_weights_that_change_change_the_text():
    model = small_model(2)
    before = rows(continue_prompts(model, PROMPTS, 20))
    model.set_weights(small_model(3).get_weights())
    after = rows(continue_prompts(model, PROMPTS, 20))
    assert after == rows(continue_prompts(small_model(3), PROMPTS, 20)) != before


# --- samplers ---


def test_temperature_0_is_greedy_and_k_is_clipped(model):
    greedy = rows(continue_prompts(model, PROMPTS, 20))
    cold = hub.samplers.RandomSampler(temperature=0)
    assert rows(continue_prompts(model, PROMPTS, 20, sampler=cold)) == greedy
    one = hub.samplers.TopKSampler(k=1, seed=4)
    assert rows(continue_prompts(model, PROMPTS, 20, sampler=one)) == greedy
    many = hub.samplers.TopKSampler(k=10_000, seed=4)
    every = hub.samplers.RandomSampler(seed=4)
    assert rows(continue_prompts(model, PROMPTS, 20, sampler=many)) == rows(
        continue_prompts(model, PROMPTS, 20, sampler=every)
    )


def frequencies(sampler, probabilities, count=4000):
    tokens = sampler.get_next_token(np.tile(np.array(probabilities, "f"), (count, 1)))
    return np.bincount(tokens, minlength=len(probabilities)) / count


def test_samplers_draw_with_the_probabilities_that_they_keep():
    p = [0.1, 0.4, 0.3, 0.2]
    close = {"atol": 4 * np.sqrt(0.25 / 4000)}
    np.testing.assert_allclose(frequencies(hub.samplers.RandomSampler(seed=1), p), p, **close)
    top_2 = hub.samplers.TopKSampler(2, seed=1)
    np.testing.assert_allclose(frequencies(top_2, p), [0, 4 / 7, 3 / 7, 0], **close)
    # 0.4 and 0.3 before 0.2 come to 0.7: the third is the one with which 0.75 is exceeded.
    top_p = hub.samplers.TopPSampler(0.75, seed=1)
    np.testing.assert_allclose(frequencies(top_p, p), [0, 4 / 9, 3 / 9, 2 / 9], **close)
    both = hub.samplers.TopPSampler(0.95, k=2, seed=1)
    np.testing.assert_allclose(frequencies(both, p), [0, 4 / 7, 3 / 7, 0], **close)
    ties = hub.samplers.TopKSampler(2, seed=1)
    assert frequencies(ties, [0.2] * 5)[2:].sum() == 0  # of equal ones the lower count


def test_samplers_have_names_and_configurations():
    for sampler in (
        hub.samplers.TopPSampler(0.9, k=4, seed=1, temperature=0.7),
        hub.samplers.TopKSampler(3),
        hub.samplers.BeamSampler(2, return_all_beams=True),
        hub.samplers.GreedySampler(),
    ):
        again = hub.samplers.deserialize(hub.samplers.serialize(sampler))
        assert type(again) is type(sampler)
        assert again.get_config() == sampler.get_config()
    with pytest.raises(ValueError, match="Did you mean 'greedy'"):
        hub.samplers.get("gredy")


@pytest.mark.parametrize(
    ("make", "match"),
    (
        (lambda: hub.samplers.RandomSampler(temperature=-1), "0 or more"),
        (lambda: hub.samplers.RandomSampler(temperature=float("nan")), "finite"),
        (lambda: hub.samplers.TopKSampler(0), "k must be a whole number of 1"),
        (lambda: hub.samplers.TopPSampler(0.0), "above 0"),
        (lambda: hub.samplers.TopPSampler(1.5), "at most 1"),
        (lambda: hub.samplers.BeamSampler(0), "num_beams"),
        (lambda: hub.samplers.TopKSampler(seed=1.5), "seed"),
    ),
)
def test_samplers_refuse_what_they_cannot_do(make, match):
    with pytest.raises(ValueError, match=match):
        make()


class SecondLikeliest(hub.samplers.Sampler):
    def get_next_token(self, probabilities):
        return ops.top_k(probabilities, k=2)[1][:, 1]


def test_a_sampler_of_ones_own_becomes_part_of_the_program(model):
    (found,) = rows(continue_prompts(model, [[3, 1]], 8, sampler=SecondLikeliest()))
    for i in range(2, 8):
        assert found[i] == np.argsort(-whole_logits(model, found[:i])[-1])[1]


def test_samplers_fill_up_a_prompt_as_in_keras_hub(model):
    def step(prompt, cache, index):
        return whole_logits(model, prompt[0, :index].tolist())[-1:], None, cache

    prompt = np.array([[3, 1, 4, 0, 0, 0, 0, 0]])
    found = hub.samplers.GreedySampler()(step, prompt, index=3)
    assert found[0].tolist() == likeliest(model, [3, 1, 4], 8)
    stopped = hub.samplers.GreedySampler()(step, prompt, index=3, stop_token_ids=[found[0, 3]])
    assert stopped[0, 4:].tolist() == [0, 0, 0, 0]


def log_probability(model, tokens, begin):
    logits = whole_logits(model, tokens).astype(np.float64)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return sum(logits[i - 1, tokens[i]] for i in range(begin, len(tokens)))


def test_beams_find_the_likeliest_text():
    model = small_model(4, vocabulary=5)
    sampler = hub.samplers.BeamSampler(num_beams=25)  # all texts of two tokens
    (found,) = rows(continue_prompts(model, [[1, 2]], 5, sampler=sampler))
    texts = [[1, 2, *rest] for rest in itertools.product(range(5), repeat=3)]
    assert found == max(texts, key=lambda text: log_probability(model, text, 2))
    (one,) = rows(continue_prompts(model, [[1, 2]], 12, sampler=hub.samplers.BeamSampler(1)))
    assert one == likeliest(model, [1, 2], 12)


def test_more_beams_than_texts():
    """All texts there are, likeliest first; what no text is left for has no probability."""
    logits = np.log(np.array([[0.5, 0.2, 0.3]]))
    sampler = hub.samplers.BeamSampler(5, return_all_beams=True)
    tokens, scores = sampler(
        lambda prompt, cache, index: (np.repeat(logits, len(prompt), 0), None, cache),
        np.zeros((1, 2), "int32"),
        index=1,
    )
    assert tokens[0, :3].tolist() == [[0, 0], [0, 2], [0, 1]]
    np.testing.assert_allclose(np.exp(scores[0]), [0.5, 0.3, 0.2, 0, 0], rtol=1e-6)


def test_a_search_tells_what_it_found(model):
    told = []
    model.compile(sampler="beam")
    found = model.generate(PROMPTS, max_length=9, callback=lambda *new: told.append(new))
    assert [row for row, _ in told] == [0, 1, 2]
    for (_, new), row, prompt in zip(told, found, PROMPTS, strict=True):
        np.testing.assert_array_equal([*prompt, *new], row)
    model.compile(sampler=hub.samplers.BeamSampler(3, return_all_beams=True))
    with pytest.raises(ValueError, match="likeliest beam alone"):
        model.generate(PROMPTS, max_length=9)


@pytest.mark.parametrize("side", ("left", "right"))
@pytest.mark.parametrize("sampler", ("greedy", "beam"))
def test_a_prompt_that_was_cut_is_left_out_as_it_was_cut(model, side, sampler):
    model.compile(sampler=sampler)
    prompt = list(range(1, 46))
    options = {"max_length": 30, "truncate": side}
    (whole,) = model.generate([prompt], **options)
    (new,) = model.generate([prompt], **options, strip_prompt=True)
    assert whole.tolist() == [*(prompt[-29:] if side == "left" else prompt[:29]), *new]
    assert len(new) == 1


def copying_beams(model, prompt, length, beams):
    """The search with caches that are copied whenever beams change places."""
    cache = [(np.zeros(s, "f"), np.zeros(s, "f")) for s in model.cache_shapes(beams, length)]
    text = np.zeros((1, length), np.int32)
    text[0, : len(prompt)] = prompt
    for i in range(len(prompt) - 1):
        _, _, cache = model.call_with_cache(np.full((beams, 1), prompt[i], np.int32), cache, i)

    def step(tokens, cache, index):
        logits, _, cache = model.call_with_cache(tokens[:, index - 1 : index], cache, index - 1)
        return np.asarray(logits)[:, 0], None, cache

    search = hub.samplers.BeamSampler(beams)
    found = hub.samplers.beam_sampler.BeamSearch(text, beams, search.temperature, None)
    changes = 0
    for index in range(len(prompt), length):
        logits, _, cache = step(found.tokens, cache, index)
        parents = found.extend(logits, index, np.zeros(1, bool))
        cache = [tuple(np.asarray(x)[parents] for x in pair) for pair in cache]
        changes += not np.array_equal(parents, np.arange(beams))
    return found.result(False)[0].tolist(), changes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("gpt2", "llama"))
def test_beams_that_change_places_read_what_copies_hold(kind):
    model = small_model(4)
    if kind == "llama":
        handmill.utils.set_random_seed(3)
        model = hub.models.LlamaCausalLM(
            hub.models.LlamaBackbone(50, 2, 4, 16, 32, 2, max_sequence_length=40)
        )
        for weight in model.weights:
            if len(weight.shape) > 1:
                weight.assign(np.asarray(weight) * 3.0)
    for prompt in PROMPTS:
        sampler = hub.samplers.BeamSampler(num_beams=4)
        (found,) = rows(continue_prompts(model, [prompt], 24, sampler=sampler))
        wanted, changes = copying_beams(model, prompt, 24, 4)
        assert found == wanted
        assert changes > 3


def test_a_search_reads_its_prompt_once(model):
    """The first row alone is read; logits have the bits that a prompt for each beam gives."""
    prompt, beams = PROMPTS[0], 3
    logits = []
    for is_search in (True, False):
        session = Session(model, beams, 40, is_search=is_search)
        read = []
        inner = session._read
        session._read = lambda tokens, read=read, inner=inner: read.append(tokens) or inner(tokens)
        begun = [prompt] if is_search else [prompt] * beams
        session.begin(begun, 40, np.zeros((beams, 2), np.int64), (1, 1, 1), ())
        logits.append(session.step_logits())
        assert [x.shape for x in read] == [(len(prompt) - 1, len(begun))]
        keys = session.cache[-1][0].numpy()[:, : len(prompt) - 1]
        assert keys.any((1, 2, 3)).tolist() == ([True, False, False] if is_search else [True] * 3)
    np.testing.assert_array_equal(*logits)


def test_beams_copy_no_cache(model):
    continue_prompts(model, PROMPTS, 24, sampler=hub.samplers.BeamSampler(3))
    session = model._programs["generation"]
    keys = session.cache[0][0].numpy()
    lies = session.lies.numpy()
    session.take_rows(np.array([2, 2, 0]), 7)
    np.testing.assert_array_equal(session.cache[0][0].numpy(), keys)
    np.testing.assert_array_equal(session.lies.numpy()[:, :7], lies[[2, 2, 0], :7])
    np.testing.assert_array_equal(session.lies.numpy()[:, 7:].T, [[0, 1, 2]] * 33)


def resident_megabytes():
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096 / 2**20


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_caches_take_the_memory_of_what_was_written():
    """Places that no text has reached were never touched: 512 MB of cache stay a few."""
    handmill.utils.set_random_seed(1)
    model = hub.models.LlamaCausalLM(hub.models.LlamaBackbone(50, 2, 4, 256, 64, 4))
    session = Session(model, 1, 131072)
    assert sum(np.prod(v.shape) for pair in session.cache for v in pair) * 4 == 512 * 2**20
    before = resident_megabytes()
    session.begin([np.arange(9)], 131072, np.zeros((1, 2), np.int64), (1, 1, 1), ())
    assert session.go_on(20, 60.0) == 20
    assert resident_megabytes() - before < 100


# --- ends ---


def test_only_generated_tokens_stop(model):
    free = rows(continue_prompts(model, PROMPTS, 20))
    stop = free[2][8]
    found = rows(continue_prompts(model, [*PROMPTS, [stop, 3]], 20, stop_token_ids=[stop]))
    for prompt, row, end in zip(PROMPTS, free, found, strict=False):
        places = [i for i in range(len(prompt), 20) if row[i] == stop]
        assert end == (row[: places[0] + 1] if places else row)
    assert len(found[3]) > 2


def test_a_prompt_of_full_length_is_returned_with_a_warning(model):
    with pytest.warns(UserWarning, match="nothing was generated"):
        assert rows(continue_prompts(model, [[1, 2, 3]], 3)) == [[1, 2, 3]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(r) for r in continue_prompts(model, [[1, 2, 3, 4, 5], [1]], 4)] == [5, 4]
        assert continue_prompts(model, [], 4) == []


def test_a_callback_is_told_each_token_once(model):
    told: dict[int, list[int]] = {0: [], 1: [], 2: []}
    found = continue_prompts(
        model, PROMPTS, 20, sampler="top_k", seed=1, callback=lambda r, t: told[r].extend(t)
    )
    assert [[*p, *told[i]] for i, p in enumerate(PROMPTS)] == rows(found)


@pytest.mark.parametrize(
    ("prompts", "kwargs", "match"),
    (
        ([[1], []], {}, "prompt 1 has no tokens"),
        ([[1, 50]], {}, "prompt 0 has the token 50 at position 1, but the model knows 0 to 49"),
        ([[1.5]], {}, "whole numbers"),
        ([[1] * 40], {}, "prompt 0 has 40 tokens, and the model has 40 places"),
        ([[1]], {"max_length": 41}, "more than the 40 places"),
        ([[1]], {"max_length": 0}, "max_length"),
        ([[1]], {"truncate": "middle"}, "'left', 'right' or None"),
        ([[1]], {"stop_token_ids": range(17)}, "16 stop tokens"),
        ([[1]], {"stop_token_ids": [3, 50]}, r"knows 0 to 49. Received: \[3, 50\]"),
        ([[1]], {"stop_token_ids": [-1]}, "stop tokens are tokens of the model"),
        ([[1]], {"seed": "a"}, "`seed` must be a whole number"),
        ([[1]], {"sampler": 3}, "sampler identifier"),
    ),
)
def test_what_cannot_be_continued_is_refused(model, prompts, kwargs, match):
    with pytest.raises(ValueError, match=match):
        continue_prompts(model, prompts, **{"max_length": 20, **kwargs})


def test_prompts_are_cut_on_the_side_that_is_asked_for(model):
    long = [i % 50 for i in range(60)]
    left = rows(continue_prompts(model, [long], 40, truncate="left"))[0]
    right = rows(continue_prompts(model, [long], 40, truncate="right"))[0]
    assert left[:39] == long[-39:]
    assert right[:39] == long[:39]
    assert len(left) == len(right) == 40


def test_logits_of_nan_name_row_and_position():
    model = small_model(5)
    table = np.array(model.backbone.token_embedding.embeddings)
    table[7] = np.nan
    model.backbone.token_embedding.embeddings.assign(table)
    with pytest.raises(ValueError, match="position 2 of row 0"):
        continue_prompts(model, [[3, 1], [2, 2]], 8)


# --- texts ---


@pytest.fixture(scope="module")
def talker():
    handmill.utils.set_random_seed(6)
    tokenizer = hub.tokenizers.train_byte_pair(
        ["to be or not to be"], 280, special_tokens=["<|endoftext|>"]
    ).get_config()
    tokenizer = hub.models.GPT2Tokenizer(tokenizer["vocabulary"], tokenizer["merges"])
    backbone = hub.models.GPT2Backbone(
        tokenizer.vocabulary_size(), 1, 2, 16, 32, max_sequence_length=32
    )
    preprocessor = hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=32)
    model = hub.models.GPT2CausalLM(backbone, preprocessor)
    model.compile(sampler=hub.samplers.TopKSampler(5, seed=1))
    return model


def test_generate_takes_and_gives_texts(talker):
    one = talker.generate("to be", max_length=16)
    assert isinstance(one, str)
    assert one.startswith("to be")
    both = talker.generate(["to be", "or"], max_length=16)
    assert both[0] == one
    rest = talker.generate("to be", max_length=16, strip_prompt=True)
    assert one == "to be" + rest
    pieces: list[str] = []
    talker.generate("to be", max_length=16, callback=lambda row, text: pieces.append(text))
    assert "".join(pieces) == rest
    assert isinstance(talker.generate("", max_length=8), str)  # begins with the start token


def test_generate_takes_and_gives_tokens(talker):
    found = talker.generate(
        {"token_ids": np.array([[5, 6, 0, 0]]), "padding_mask": np.array([[1, 1, 0, 0]])}
    )
    assert found["token_ids"].shape == (1, 4)
    assert found["token_ids"][0, :2].tolist() == [5, 6]
    assert talker.generate([5, 6], max_length=4, stop_token_ids=None).shape == (4,)
    with pytest.raises(ValueError, match="filled up on the right"):
        talker.generate({"token_ids": np.array([[0, 5]]), "padding_mask": np.array([[0, 1]])})
    bare = hub.models.GPT2CausalLM(talker.backbone)
    with pytest.raises(ValueError, match="has no preprocessor"):
        bare.generate("text", max_length=4)


def test_texts_can_be_learned():
    tokenizer = hub.tokenizers.train_byte_pair(["a b"], 257, special_tokens=["<|endoftext|>"])
    words = tokenizer.get_config()
    tokenizer = hub.models.GPT2Tokenizer(words["vocabulary"], words["merges"])
    handmill.utils.set_random_seed(1)
    backbone = hub.models.GPT2Backbone(257, 1, 2, 16, 32, dropout=0.0, max_sequence_length=16)
    preprocessor = hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=16)
    model = hub.models.GPT2CausalLM(backbone, preprocessor)
    model.compile(handmill.optimizers.Adam(0.03), sampler="greedy")
    texts = ["abcd", "xyz"] * 8
    model.fit(texts, epochs=40, verbose=0)
    assert model.generate(["a", "x"], max_length=16) == ["abcd", "xyz"]
    tokens, labels, weights = preprocessor(texts)
    by_hand = model.evaluate(tokens, labels, sample_weight=weights.astype("f"), verbose=0)
    assert model.evaluate(texts, verbose=0) == by_hand


@pytest.mark.slow
def test_generate_on_the_command_line(talker, tmp_path, capsys):
    talker.save_to_preset(tmp_path / "model")
    again = hub.models.CausalLM.from_preset(tmp_path / "model")
    again.compile(sampler=hub.samplers.TopPSampler(temperature=0.8))
    wanted = again.generate("to be", max_length=16, seed=3)
    folder = str(tmp_path / "model")
    options = ["--max-length", "16", "--sampler", "top_p", "--temperature", "0.8", "--seed", "3"]
    assert main(["generate", folder, "to be", *options]) == 0
    assert capsys.readouterr().out == f"{wanted}\n"
    for arguments, message in (
        ([folder, "to be", "--sampler", "best"], "no sampler is called 'best'"),
        ([folder, "to be", "--temperature", "-1"], "0 or more"),
        ([folder, "to be " * 40], "has 32 places"),
        ([str(tmp_path / "none"), "a"], "no folder on this machine"),
    ):
        assert main(["generate", *arguments]) == 2
        assert message in capsys.readouterr().err


SCRIPT = """
import numpy as np
import handmill as keras
import handmill.hub as keras_hub

keras.utils.set_random_seed(1)
vocab = keras_hub.tokenizers.compute_word_piece_vocabulary(
    texts, vocabulary_size=60, lowercase=True, reserved_tokens=["[PAD]", "[UNK]", "[BOS]"]
)
tokenizer = keras_hub.tokenizers.WordPieceTokenizer(
    vocabulary=vocab, sequence_length=16, lowercase=True
)
start_packer = keras_hub.layers.StartEndPacker(
    sequence_length=16, start_value=tokenizer.token_to_id("[BOS]")
)
labels = tokenizer(texts)
features = start_packer(labels)

inputs = keras.layers.Input(shape=(None,), dtype="int32")
x = keras_hub.layers.TokenAndPositionEmbedding(
    vocabulary_size=len(vocab), sequence_length=16, embedding_dim=16, mask_zero=True
)(inputs)
for _ in range(2):
    x = keras_hub.layers.TransformerDecoder(num_heads=2, intermediate_dim=32)(x)
outputs = keras.layers.Dense(len(vocab))(x)
model = keras.Model(inputs=inputs, outputs=outputs)
model.compile(
    optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
)
model.fit(np.array(features), np.array(labels), epochs=1, verbose=0)

def next(prompt, cache, index):
    logits = model(prompt)[:, index - 1, :]
    hidden_states = None
    return logits, hidden_states, cache

prompt_tokens = start_packer(tokenizer([""]))
for sampler in (
    keras_hub.samplers.GreedySampler(),
    keras_hub.samplers.BeamSampler(num_beams=3),
    keras_hub.samplers.RandomSampler(),
    keras_hub.samplers.TopKSampler(k=5),
    keras_hub.samplers.TopPSampler(p=0.5),
):
    output_tokens = sampler(next=next, prompt=prompt_tokens, index=1)
    written.append(tokenizer.detokenize(output_tokens))

backbone = keras_hub.models.GPT2Backbone(
    vocabulary_size=len(vocab), num_layers=1, num_heads=2, hidden_dim=16,
    intermediate_dim=32, max_sequence_length=16,
)
gpt2_lm = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
gpt2_lm.compile(
    optimizer=keras.optimizers.Adam(1e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    sampler="greedy",
)
x = {"token_ids": features, "padding_mask": (features != 0).astype("int32")}
gpt2_lm.fit(x=x, y=labels, batch_size=2, verbose=0)
prompt = {"token_ids": np.array([[2, 5, 0, 0, 0]]), "padding_mask": np.array([[1, 1, 0, 0, 0]])}
written.append(gpt2_lm.generate(prompt))
"""


def test_an_ordinary_script_of_keras_hub_runs():
    found: list = []
    texts = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog", "the end"]
    exec(SCRIPT, {"texts": texts, "written": found})
    assert len(found) == 6
    assert all(isinstance(text[0], str) for text in found[:5])
    assert found[5]["token_ids"].shape == (1, 5)
    assert found[5]["padding_mask"].all()
