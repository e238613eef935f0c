"""Prompts × model → continuations, token ids from beginning to end.

Prompts are slices of token ids and continuations are ids too: nothing is decoded and tokenised again, which would
give the model other tokens than those it said.

Names are loaded when they are first used: reading the words of a decoding takes no deep-learning library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.generation.agreement import Agreement as Agreement
    from loraudit.generation.agreement import Disagreement as Disagreement
    from loraudit.generation.agreement import greedy_agreement as greedy_agreement
    from loraudit.generation.constrained import near_verbatim_masses as near_verbatim_masses
    from loraudit.generation.decodings import GREEDY as GREEDY
    from loraudit.generation.decodings import PRESETS as PRESETS
    from loraudit.generation.decodings import Sampling as Sampling
    from loraudit.generation.decodings import parse_decoding as parse_decoding
    from loraudit.generation.drawing import draw_token as draw_token
    from loraudit.generation.sampling import BATCH_SIZE as BATCH_SIZE
    from loraudit.generation.sampling import Engine as Engine
    from loraudit.generation.sampling import sample as sample
    from loraudit.generation.vllm_engine import open_vllm as open_vllm

_WHERE = {
    "BATCH_SIZE": "sampling",
    "GREEDY": "decodings",
    "PRESETS": "decodings",
    "Agreement": "agreement",
    "Disagreement": "agreement",
    "Engine": "sampling",
    "Sampling": "decodings",
    "draw_token": "drawing",
    "greedy_agreement": "agreement",
    "near_verbatim_masses": "constrained",
    "open_vllm": "vllm_engine",
    "parse_decoding": "decodings",
    "sample": "sampling",
}

__all__ = [
    "BATCH_SIZE",
    "GREEDY",
    "PRESETS",
    "Agreement",
    "Disagreement",
    "Engine",
    "Sampling",
    "draw_token",
    "greedy_agreement",
    "near_verbatim_masses",
    "open_vllm",
    "parse_decoding",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"loraudit.generation.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'loraudit.generation' has no attribute {name!r}")
