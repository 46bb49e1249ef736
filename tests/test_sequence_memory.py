"""What long sequences take: no matrix of all pairs of places, and GPT-2's shapes in 4 GB."""

import subprocess
import sys

import numpy as np
import pytest

import handmill
from handmill.hub.models import GPT2Backbone, GPT2CausalLM
from processes import environment

STEP = """
import resource
import numpy as np
import handmill
from handmill.hub.models import GPT2Backbone, GPT2CausalLM

handmill.config.set_num_threads(2)
ids = np.random.default_rng(0).integers(0, 50257, (1, 1025), "int32")
model = GPT2CausalLM(GPT2Backbone(50257, 12, 12, 768, 3072, dropout=0.0))
assert model.count_params() > 124_000_000
model.compile(handmill.optimizers.AdamW(1e-4), weighted_metrics=None)
inputs = {"token_ids": ids[:, :-1], "padding_mask": np.ones((1, 1024), "int32")}
for _ in range(2):
    assert np.isfinite(model.train_on_batch(inputs, ids[:, 1:]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dropout", (0.0, 0.1))
def test_memory_of_a_training_step_is_linear_in_its_length(dropout):
    """A matrix of 4 heads and 4096 places would take 256 MB; four times the length of 1024 does."""
    model = GPT2CausalLM(GPT2Backbone(50, 2, 4, 32, 64, dropout, max_sequence_length=4096))
    model.compile(handmill.optimizers.AdamW(1e-4), weighted_metrics=None)
    held = []
    for length in (1024, 4096):
        ids = np.zeros((1, length), "int32")
        mask = np.ones_like(ids)
        program, _ = model.step_to_compare({"token_ids": ids, "padding_mask": mask}, ids)
        held.append(program.plan(ids, mask, ids).arena_bytes)
    assert held[1] < 4.1 * held[0] < 2**26


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kilobytes are Linux's unit")
def test_gpt2_trains_at_its_full_length_in_4_gigabytes():
    """124 M weights, one row of 1024 tokens, AdamW: weights, moments and all."""
    found = subprocess.run(
        [sys.executable, "-c", STEP], env=environment(), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) < 4.0
