"""``handmill generate``: a text continued by a model from a folder."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder, the prompt, and how tokens are chosen."""
    parser.add_argument("folder", help="config.json, model.safetensors and a vocabulary")
    parser.add_argument("prompt", help="the beginning of the text")
    parser.add_argument("--max-length", type=int, default=128, metavar="N",
                        help="tokens at most, with the prompt (default: 128)")  # fmt: skip
    parser.add_argument("--sampler", default="top_k", metavar="NAME",
                        help="greedy, random, top_k (default), top_p, beam")  # fmt: skip
    parser.add_argument("--temperature", type=float, default=1.0,
                        help="below 1 for less surprise; 0 for none (default: 1)")  # fmt: skip
    parser.add_argument("--seed", type=int, help="the same seed, the same text")
    parser.add_argument("--truncate", choices=("left", "right"),
                        help="the side of a prompt that is cut off if it is too long")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Writes the text as it comes; status 2 if it cannot be made."""
    from handmill.hub import samplers
    from handmill.hub.models import CausalLM

    try:
        sampler = samplers.get(options.sampler)
        sampler = type(sampler).from_config(
            {**sampler.get_config(), "temperature": options.temperature}
        )
        model = CausalLM.from_preset(options.folder)
        most = model.max_sequence_length
        length = options.max_length if most is None else min(options.max_length, most)
        model.compile(sampler=sampler)
        shown = [options.prompt]  # once it is known that there is something to say

        def show(row: int, new: str) -> None:
            print(*shown, new, sep="", end="", flush=True)
            shown.clear()

        model.generate(
            options.prompt,
            max_length=length,
            seed=options.seed,
            callback=show,
            truncate=options.truncate,
        )
    except BrokenPipeError:
        raise
    except (OSError, ValueError, TypeError, MemoryError) as error:
        print(f"handmill generate: {error}", file=sys.stderr)
        return 2
    print(*shown, sep="")
    return 0
