"""vLLM in place of the model itself, once it has said the same as the model.

Written against vLLM's documented interface (`LLM`, `SamplingParams`, `LoRARequest`, prompts as `prompt_token_ids`) and
run against a stand-in for it only: no machine with vLLM was at hand. The check before the first sample is what guards
against a difference; whoever runs it on a real one first should look at that.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.errors import ConfigError, MissingExtra
from loraudit.generation.agreement import top_two_margins
from loraudit.generation.decodings import GREEDY, Sampling
from loraudit.generation.sampling import sample
from loraudit.models import Resident
from loraudit.types import IntArray

PROBE_TOKENS = 32
"""New tokens by which the two are compared."""

_NEAR_TIE = {"fp32": 1e-3, "bf16": 0.25, "fp16": 0.1}
"""Margins, in nats, that other kernels may turn round; chosen, not measured."""

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class VllmEngine:
    """Continues prompts by vLLM; get one from `open_vllm`. The draws are its own, the same for the same seed.

    Args:
        model: A `vllm.LLM`.
        params: `vllm.SamplingParams`.
        adapter: A `vllm.lora.request.LoRARequest`, or None.
    """

    def __init__(self, model: Any, params: Any, adapter: Any) -> None:
        self._model, self._params, self._adapter = model, params, adapter

    def __call__(
        self, prompts: Sequence[IntArray], sampling: Sampling, seeds: Sequence[int], end_ids: Sequence[int]
    ) -> list[IntArray]:
        """Continuations of [B] prompts, each drawn by its seed.

        Raises:
            ConfigError: The temperature decays, which vLLM cannot do.
        """
        if sampling.first_temperature is not None:
            raise ConfigError(
                f"Decoding '{sampling.name}' is not possible with vLLM. Expected a constant temperature. Sample "
                "without vLLM."
            )
        # In releases that differ in the number for "all tokens", leaving it out means that.
        top_k = {"top_k": sampling.top_k} if sampling.top_k else {}
        params = [
            self._params(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.new_tokens,
                stop_token_ids=[int(i) for i in end_ids],
                ignore_eos=True,  # the end tokens are those asked for, and no others that come with the model
                repetition_penalty=1.0,
                detokenize=False,
                seed=seed,
                **top_k,
            )
            for seed in seeds
        ]
        given = [{"prompt_token_ids": [int(i) for i in prompt]} for prompt in prompts]
        outputs = self._model.generate(given, params, lora_request=self._adapter, use_tqdm=False)
        return [np.array(output.outputs[0].token_ids, dtype=np.int32) for output in outputs]


def open_vllm(
    checkpoint: str,
    resident: Resident,
    probe: Sequence[Sequence[int]],
    *,
    precision: str,
    adapter: Path | None = None,
    adapter_rank: int = 16,
    view: str = "target",
    seed: int = 0,
    **options: Any,
) -> VllmEngine:
    """An engine for `sample` that has continued a probe as the model itself does.

    Args:
        checkpoint: Folder or hub name of the model, or of the base of `adapter`.
        resident: The same model as it is audited.
        probe: Prompts, some of those that will be sampled from.
        precision: fp32, bf16 or fp16, that of `resident`.
        adapter: Folder of a LoRA adapter.
        adapter_rank: Its rank.
        view: The view of `resident` that it stands for.
        seed: Of vLLM itself.
        **options: More for `vllm.LLM`, such as `gpu_memory_utilization`, which must leave room for the resident model.

    Raises:
        MissingExtra: vLLM is not installed.
        ConfigError: There is no probe, or the two greedy continuations of a prompt part at a token that is no near-tie.
        ModelError: As `sample`.
        EnvironmentFault: As `sample`.
    """
    try:
        vllm = importlib.import_module("vllm")
    except ImportError:
        raise MissingExtra("Sampling with vLLM", "vllm") from None
    if not probe:
        raise ConfigError("The probe for vLLM is empty. Expected at least one prompt to compare it with the model by.")
    lora = {} if adapter is None else {"enable_lora": True, "max_lora_rank": adapter_rank}
    model = vllm.LLM(
        model=checkpoint, dtype=_DTYPES[precision], seed=seed, skip_tokenizer_init=True, trust_remote_code=False,
        **lora, **options,
    )  # fmt: skip
    request = None
    if adapter is not None:
        request = importlib.import_module("vllm.lora.request").LoRARequest("target", 1, str(adapter))
    engine = VllmEngine(model, vllm.SamplingParams, request)
    _refuse_other_words(engine, resident, probe, view, _NEAR_TIE[precision])
    return engine


def _refuse_other_words(
    engine: VllmEngine, resident: Resident, probe: Sequence[Sequence[int]], view: str, near_tie: float
) -> None:
    greedy = Sampling(PROBE_TOKENS, temperature=GREEDY)
    own = sample(resident, probe, greedy, seed=0, view=view)
    other = sample(resident, probe, greedy, seed=0, view=view, engine=engine)
    for place, (mine, its) in enumerate(zip(own, other, strict=True)):
        n = min(len(mine), len(its))
        parts = np.flatnonzero(mine[:n] != its[:n])
        if not len(parts) and len(mine) == len(its):
            continue
        first = int(parts[0]) if len(parts) else n
        margin = float("nan")
        if first < len(mine):
            margin = float(top_two_margins(resident, view, probe[place], mine[: first + 1])[first])
        if not margin <= near_tie:
            raise ConfigError(
                f"vLLM continues prompt {place} of the probe otherwise than the model itself: token {first} differs, "
                f"where the two most likely ones are {margin:.3g} nats apart. Expected the same tokens but for "
                f"near-ties of at most {near_tie:g} nats. Check that vLLM was given the same checkpoint, adapter "
                "and precision, or sample without vLLM."
            )
