"""Making the reference of an audit: samples of the target, or public records, and the base tuned on them.

A reference is tuned once and kept in the evidence store. Samples are kept apart from it, so that another recipe does
not draw them again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loraudit.auditing.preparation import requested_tokenizer
from loraudit.auditing.references.wanted import MARK, TEMPERATURE, TOP_P, WantedReference, public_records
from loraudit.data import Encoded, encode, token_record
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.execution import Progress, StopRequest
from loraudit.models import ModelPlan, Numerics, resolve_devices, with_reference
from loraudit.models.numerics import BALANCED, device_kind
from loraudit.spec import AuditSpec
from loraudit.store import Lock, open_private_folder, write_atomically
from loraudit.types import Record

if TYPE_CHECKING:
    from loraudit.finetuning import ResidentBase


class Workshop:
    """What references that are made one after the other share: the base, the tokenizer, records as tokens."""

    def __init__(self) -> None:
        self._base: ResidentBase | None = None
        self._tokenizer: Any = None
        self._tokenised: dict[str, Record] = {}

    @property
    def base(self) -> ResidentBase:
        """The base in memory."""
        from loraudit.finetuning import ResidentBase

        self._base = self._base or ResidentBase()
        return self._base

    def release(self) -> None:
        """Let the base go: nothing is to be made for a while."""
        self._base = None

    def tokenizer(self, spec: AuditSpec, plan: ModelPlan) -> Any:
        """That of the audit's target."""
        if self._tokenizer is None:
            self._tokenizer = requested_tokenizer(spec, plan)
        return self._tokenizer

    def records(self, wanted: WantedReference, tokenizer: Any) -> list[Record]:
        """As `public_records`; a record that several references are made of is tokenised once."""
        data = wanted.data.records if wanted.data else ()
        new = [record for record in data if record.id not in self._tokenised]
        tokenised = public_records(wanted, tokenizer, new)
        self._tokenised |= {record.id: made for record, made in zip(new, tokenised, strict=True)}
        return [self._tokenised[record.id] for record in data]


def make_reference(
    wanted: WantedReference,
    spec: AuditSpec,
    *,
    progress: Progress,
    stop: StopRequest | None,
    workshop: Workshop | None = None,
    checkpoint_epochs: tuple[float, ...] = (),
) -> ModelPlan:
    """The target with its reference, which is made unless it was made before.

    Samples are kept batch by batch; tuning that is stopped goes on from its last saved state.

    Args:
        wanted: What to make.
        spec: The audit.
        progress: Told how far it is.
        stop: Asked between batches and steps.
        workshop: Of several references of one target, one recipe and one kind of data.
        checkpoint_epochs: After which weights are kept too; they do not change the final ones.

    Raises:
        ConfigError: The reference cannot be tuned on this device.
        DataError: No token to train on.
        ModelError: The target cannot be sampled from, or tuning fails.
        Interrupted: A stop was asked for.
        StoreError: The store cannot be written, or another run is making this reference.
    """
    known = wanted.kept(spec)
    if known is not None:
        progress.say(f"Reference: {known.reference.name if known.reference else ''} (made before)")
        return known
    devices = resolve_devices(spec.device)
    if devices == [BALANCED]:
        raise ConfigError(
            "A reference cannot be tuned on --device balanced. Make it once with a single device, such as "
            "--device cuda:0; later audits find it."
        )
    open_private_folder(wanted.root / "references")
    folder = open_private_folder(wanted.folder)
    with Lock(folder):
        if (known := wanted.kept(spec)) is not None:  # by another run, since it was looked for
            return known
        write_atomically(folder / "question.json", (json.dumps(wanted.question, indent=2) + "\n").encode())
        if (folder / MARK).exists():
            progress.say("The kept reference does not have the weights it was made with; it is made again.")
            shutil.rmtree(folder / "model", ignore_errors=True)
            (folder / MARK).unlink()
        began = time.perf_counter()
        workshop = workshop or Workshop()
        tokenizer = workshop.tokenizer(spec, wanted.plan)
        if wanted.n_samples:
            records = _samples(wanted, devices, spec.seed, tokenizer, progress, stop)
        else:
            records = workshop.records(wanted, tokenizer)
        facts = _tuned(wanted, records, folder / "model", devices[0], workshop, checkpoint_epochs, progress, stop)
        facts |= {"made_on": devices[0], "seconds": round(time.perf_counter() - began, 1)}
        made = wanted.planned(spec)
        mark = {"fingerprint": made.target.fingerprint, "question": wanted.question, "facts": facts}
        write_atomically(folder / MARK, (json.dumps(mark, indent=2) + "\n").encode())
    return with_reference(wanted.plan, made, wanted.summary(facts))


def _prompts(wanted: WantedReference, tokenizer: Any, seed: int) -> list[tuple[int, ...]]:
    """One prompt per sample: the first tokens of records, drawn at random or each used in turn; or one token."""
    if wanted.data is None:
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if first is None:
            raise ConfigError(
                "The tokenizer has neither a beginning-of-text nor an end-of-text token to sample from. Give records "
                "to take prompts from with --reference-data."
            )
        return [(int(first),)] * wanted.n_samples
    encoded = encode(wanted.data.records, tokenizer, span="all")
    beginnings = [tuple(int(i) for i in item.ids[: wanted.prompt_tokens]) for item in encoded if len(item.ids)]
    if not beginnings:
        raise DataError("No record of --reference-data has a token to begin a prompt with. Give longer records.")
    order = np.random.default_rng([seed, 0]).permutation(len(beginnings))
    return [beginnings[order[i % len(order)]] for i in range(wanted.n_samples)]


def _samples(
    wanted: WantedReference,
    devices: Sequence[str],
    seed: int,
    tokenizer: Any,
    progress: Progress,
    stop: StopRequest | None,
) -> list[Record]:
    """Samples of the target as the tokens it said, prompts included."""
    from loraudit.generation import BATCH_SIZE, Sampling, sample

    kind = device_kind(list(devices))
    prompts = _prompts(wanted, tokenizer, seed)
    open_private_folder(wanted.root / "samples")
    continuations = sample(
        lambda: wanted.plan.load_target(Numerics(kind, wanted.precision), devices[0]),
        prompts,
        Sampling(wanted.new_tokens, TEMPERATURE, TOP_P),
        seed=seed,
        end_ids=() if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),),
        batch_size=BATCH_SIZE.get(kind, 64),
        kept=wanted.samples_folder,
        progress=progress,
        stop=stop,
    )
    records: list[Record] = []
    for number, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True), start=1):
        ids = np.concatenate([np.array(prompt, dtype=np.int32), continuation])
        item = Encoded(ids, np.ones(len(ids), dtype=bool))
        records.append(token_record(item, source="samples of the target", line=number))
    return records


def _tuned(
    wanted: WantedReference,
    records: Sequence[Record],
    out: Path,
    device: str,
    workshop: Workshop,
    checkpoint_epochs: tuple[float, ...],
    progress: Progress,
    stop: StopRequest | None,
) -> dict[str, Any]:
    """Tune the base on these records; the facts are for the report."""
    from loraudit.finetuning import finetune

    _refuse_unknown_ids(wanted, records)
    progress.say(f"Tuning the reference on {len(records):,} {'samples' if wanted.n_samples else 'records'}")
    trained = finetune(
        wanted.base_folder,
        records,
        wanted.recipe.model_copy(update={"checkpoint_epochs": checkpoint_epochs}),
        out,
        device=device,
        progress=progress,
        stop=stop,
        resident=workshop.base,
    )
    n_tokens = sum(len(record.tokens.ids) for record in records if record.tokens)
    return {"n_tokens": n_tokens, "training_losses": [round(loss, 4) for loss in trained.training_losses]}


def _refuse_unknown_ids(wanted: WantedReference, records: Sequence[Record]) -> None:
    config = wanted.plan.base_source.config if wanted.plan.base_source else {}
    n_known = {**(config.get("text_config") or {}), **config}.get("vocab_size")
    largest = max((max(record.tokens.ids, default=0) for record in records if record.tokens), default=0)
    if isinstance(n_known, int) and largest >= n_known:
        raise ModelError(
            f"The tokens of target '{wanted.plan.target.name}' go up to id {largest}, but its base knows {n_known}: "
            "the embedding grew in training. Expected a target with the vocabulary of its base; use --reference base "
            "or attacks that look at the target alone."
        )
