"""What a LoRA adapter's file adds to each weight, read without its base."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.errors import ModelError
from loraudit.models.loading import AGAIN, stored_tensors_of
from loraudit.models.locate import ADAPTER_CONFIG, Source
from loraudit.poisoning.spectra import Update

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(?:\.(?P<rest>.+))?")
_MAGNITUDE = ".lora_magnitude_vector"
_REWRITE_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
_OTHER_FORMULAS = {
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "target_parameters": "LoRA on stacked parameters (target_parameters)",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "a mixture of adapters (Arrow)",
}
_MERGE = "Merge it into its base with merge_and_unload(), save it, and scan that checkpoint with --base."


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """The tensors of an adapter.

    Attributes:
        updates: What it adds to which weight, in the order of the file.
        others: Shape by name of tensors that are none: whole modules saved with the adapter, biases, single tokens.
        folders_beside: Other adapters in folders of this one.
        is_dora: Whether rows are rescaled after the addition.
    """

    updates: list[Update]
    others: dict[str, tuple[int, ...]]
    folders_beside: list[str]
    is_dora: bool


def adapters_within(folder: Path) -> list[str]:
    """Names of folders directly in this one that hold an adapter each, as PEFT saves several."""
    try:
        return sorted(file.parent.name for file in folder.glob(f"*/{ADAPTER_CONFIG}"))
    except OSError:
        return []


def read_updates(source: Source) -> AdapterFile:
    """The updates of a LoRA adapter.

    Raises:
        ModelError: It is no LoRA, is damaged or incomplete, or what it adds does not follow from its file alone.
    """
    config = source.config
    _refuse_other_kinds(source, config)
    path, tensors = stored_tensors_of(source)
    factors: dict[str, dict[str, Any]] = {}
    names_inside: set[str] = set()
    others: dict[str, tuple[int, ...]] = {}
    for name, tensor in tensors.items():
        key = name.removeprefix(_PREFIX)
        matched = _FACTOR.fullmatch(key)
        if key.removesuffix(".weight").endswith(_MAGNITUDE):
            factors.setdefault(key.removesuffix(".weight").removesuffix(_MAGNITUDE), {})["magnitude"] = tensor
        elif matched and (matched["rest"] or "weight").endswith("weight"):
            inside = (matched["rest"] or "").removesuffix("weight").rstrip(".")
            names_inside.update([inside] if inside else [])
            part = factors.setdefault(matched["module"], {})
            part[matched["factor"]] = tensor
            part["is_embedding"] = bool(matched["embedding"])
        else:
            others[key] = tuple(tensor.shape)
    if names_inside:
        raise ModelError(
            f"Adapter file '{path}' names adapters inside ({', '.join(sorted(names_inside))}). Expected one without a "
            "name, as save_pretrained() writes it. Save each into a folder of its own."
        )
    if not factors:
        raise ModelError(f"Adapter file '{path}' holds no lora_A and lora_B. Expected a LoRA adapter. {AGAIN}")
    updates = [_update(path, module, parts, config) for module, parts in factors.items()]
    is_dora = any(update.magnitude is not None for update in updates)
    return AdapterFile(updates, others, adapters_within(source.folder), is_dora)


def _refuse_other_kinds(source: Source, config: Mapping[str, Any]) -> None:
    kind = str(config.get("peft_type"))
    if kind != "LORA":
        raise ModelError(f"Adapter '{source.name}' is of the kind {kind}, whose spectra are not read. {_MERGE}")
    other = next((words for key, words in _OTHER_FORMULAS.items() if config.get(key)), None)
    if other is not None:
        raise ModelError(f"Adapter '{source.name}' uses {other}, whose change is not s·B·A. {_MERGE}")
    init = str(config.get("init_lora_weights")).lower()
    if init.startswith(_REWRITE_THE_BASE):
        raise ModelError(
            f"Adapter '{source.name}' began by rewriting its base (init_lora_weights = {init!r}), so its file does not "
            "hold its whole change. Save it with path_initial_model_for_weight_conversion, or merge it with "
            "merge_and_unload() and scan that checkpoint with --base."
        )


def _update(path: Path, module: str, parts: Mapping[str, Any], config: Mapping[str, Any]) -> Update:
    lacking = [f"lora_{factor}" for factor in "AB" if factor not in parts]
    if lacking:
        raise ModelError(f"Adapter file '{path}' lacks {' and '.join(lacking)} of module '{module}'. {AGAIN}")
    for name in ("A", "B", "magnitude"):
        if name in parts and not bool(parts[name].isfinite().all()):
            raise ModelError(
                f"Adapter file '{path}' has NaN or infinite values in '{name}' of module '{module}'. Its training "
                "diverged or the file is damaged; scan an earlier checkpoint."
            )
    a, b = (parts[factor].double().numpy() for factor in "AB")
    if a.ndim < 2 or b.ndim < 2 or math.prod(b.shape[1:]) != len(a) or 0 in (*a.shape, *b.shape):
        raise ModelError(
            f"Adapter file '{path}' holds lora_A {list(a.shape)} and lora_B {list(b.shape)} for module '{module}'. "
            f"Expected [r, in] and [out, r] (a grouped convolution is not read). {AGAIN}"
        )
    return Update(
        module,
        a.reshape(len(a), -1),
        b.reshape(len(b), -1),
        _scale(path, module, len(a), config),
        is_transposed=bool(parts["is_embedding"] or config.get("fan_in_fan_out")),
        magnitude=np.ravel(parts["magnitude"].double().numpy()) if "magnitude" in parts else None,
    )


def _scale(path: Path, module: str, rank: int, config: Mapping[str, Any]) -> float:
    """α / r or α / √r, with the α that the configuration's pattern has for this module."""
    patterns: Mapping[str, Any] = config.get("alpha_pattern") or {}
    own = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), None)
    alpha = config.get("lora_alpha") if own is None else patterns[own]
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelError(
            f"'{path.with_name(ADAPTER_CONFIG)}' states no lora_alpha for module '{module}'. Expected a number. {AGAIN}"
        )
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
