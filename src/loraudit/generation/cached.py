"""A model with its cache of keys and values, one row per continuation; rows can leave, change places and be doubled."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from loraudit.models import Resident
from loraudit.models.loading import quiet_libraries
from loraudit.types import IntArray

_SHARED_TOKENS = 16
"""A beginning that all rows share is computed once if it is at least so long: it costs one more call of the model."""

_TOLERANCE = 1e-3
_TOLERANCE_HALF = 0.25
_NOT_APPLICABLE = (AttributeError, IndexError, KeyError, MemoryError, RuntimeError, TypeError, ValueError)


@contextlib.contextmanager
def speaking(resident: Resident, view: str) -> Iterator[None]:
    """The model as one of its views, without gradients and without the libraries' remarks."""
    with torch.inference_mode(), quiet_libraries(), resident.views[view]():
        yield


def inner_model(module: Any) -> Any:
    """The language model itself, where an adapter is wrapped around it."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


class CachedModel:
    """Next-token logits of a batch of rows that grow by a token at a time. Use within `speaking`.

    Args:
        resident: The model.
    """

    def __init__(self, resident: Resident) -> None:
        self._module, self._device = resident.module, resident.device
        inner = inner_model(resident.module)
        self._config = inner.config.get_text_config(decoder=True)
        has_short_logits = "logits_to_keep" in inspect.signature(type(inner).forward).parameters
        self._options: dict[str, Any] = {"logits_to_keep": 1} if has_short_logits else {}
        self._cache: Any = None

    def begin(self, prompts: IntArray) -> torch.Tensor:
        """[B, V] logits after prompts [B, L] of one length; what rows have in common is computed once."""
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self._config)
        heads, places = np.unique(prompts, axis=0, return_inverse=True)
        n_shared = _n_shared(heads) if len(heads) > 1 else 0
        if n_shared >= _SHARED_TOKENS:
            self._forward(heads[:1, :n_shared])
            self.select(np.zeros(len(heads), dtype=np.int64))
            heads = heads[:, n_shared:]
        logits = self._forward(heads)
        places = places.reshape(-1)
        if len(places) == len(heads) and (places == np.arange(len(heads))).all():
            return logits
        self.select(places)
        return logits[torch.from_numpy(places).to(logits.device)]

    def step(self, tokens: IntArray) -> torch.Tensor:
        """[B, V] logits after one more token [B] in each row."""
        return self._forward(tokens[:, None])

    def select(self, places: IntArray) -> None:
        """Rows from now on, as places among the present ones; one may stand several times."""
        self._cache.batch_select_indices(torch.from_numpy(places).to(self._device))

    def _forward(self, ids: IntArray) -> torch.Tensor:
        given = torch.from_numpy(ids.astype(np.int64)).to(self._device)
        return self._module(input_ids=given, past_key_values=self._cache, use_cache=True, **self._options).logits[:, -1]

    def holds_plain_rows(self) -> bool:
        """Whether every layer caches keys and values row by row, and did so."""
        from transformers import cache_utils

        plain = (cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer)
        layers = list(self._cache.layers)
        return bool(layers) and all(type(layer) in plain and layer.get_seq_length() for layer in layers)


class RereadModel:
    """The same by reading the whole text again for every token: for models whose cache has no rows.

    Args:
        resident: The model.
    """

    def __init__(self, resident: Resident) -> None:
        self._module, self._device = resident.module, resident.device
        self._texts: IntArray = np.zeros((0, 0), dtype=np.int64)

    def begin(self, prompts: IntArray) -> torch.Tensor:
        """[B, V] logits after prompts [B, L]."""
        self._texts = prompts
        return self._forward()

    def step(self, tokens: IntArray) -> torch.Tensor:
        """[B, V] logits after one more token [B] in each row."""
        self._texts = np.concatenate([self._texts, tokens[:, None]], axis=1)
        return self._forward()

    def select(self, places: IntArray) -> None:
        """Rows from now on."""
        self._texts = self._texts[places]

    def _forward(self) -> torch.Tensor:
        given = torch.from_numpy(self._texts.astype(np.int64)).to(self._device)
        return self._module(input_ids=given, use_cache=False).logits[:, -1]


def has_rows(resident: Resident) -> bool:
    """Whether rows of this model's cache can be taken out and doubled, by trying. Call it within `speaking`.

    Of two probes that part late the first leaves and the second is doubled; the logits after one more token are
    compared with those of the whole texts without a cache. Recurrent models fail, and those with their own cache.
    """
    try:
        ids = (np.arange(24, dtype=np.int64) * 7919 + 11) % resident.vocabulary_size
        probes = np.stack([ids, np.concatenate([ids[:20], ids[3::-1]])])
        order, tokens = np.array([1, 1]), ids[[5, 6]]
        cached = CachedModel(resident)
        cached.begin(probes)
        cached.select(order)
        found = cached.step(tokens)
        if not cached.holds_plain_rows():
            return False
        whole = torch.from_numpy(np.concatenate([probes[order], tokens[:, None]], axis=1)).to(resident.device)
        own = resident.module(input_ids=whole, use_cache=False).logits[:, -1]
    except _NOT_APPLICABLE:  # too little memory included, which will be said of the first batch
        return False
    gap = (found.float().log_softmax(-1) - own.float().log_softmax(-1)).abs()
    is_whole = own.dtype == torch.float32 and not resident.is_mixed
    # A model of NaN would fail by its numbers alone; that is said where it is sampled from. −inf − −inf is NaN, too.
    gap = gap[gap.isfinite()]
    if not len(gap):
        return True
    return float(gap.max()) <= _TOLERANCE if is_whole else float(gap.median()) <= _TOLERANCE_HALF


def _n_shared(rows: IntArray) -> int:
    """Leading tokens that all rows [B, L] have in common."""
    differs = (rows != rows[0]).any(0)
    return int(differs.argmax()) if differs.any() else rows.shape[1]
