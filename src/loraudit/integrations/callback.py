"""Audits at the end of each epoch of a `transformers.Trainer`, on the weights in memory."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from loraudit.auditing.request import power_statement
from loraudit.errors import ConfigError, LorauditError, StoreError, scrubbed
from loraudit.integrations.entry import described, failed_gates, headline_numbers, one_line
from loraudit.integrations.live_audit import LiveAudit, Prepared, prepare
from loraudit.integrations.reference import START_KEY, Reference, find_reference
from loraudit.integrations.request import Records, make_request
from loraudit.models.live import live_resident, undisturbed, whole_module
from loraudit.models.plan import TARGET
from loraudit.spec import EpochAudit, RecordFormat
from loraudit.store import EvidenceStore, open_private_folder, write_atomically

_LOG = logging.getLogger("loraudit")
_HISTORY_FILE = "audits.jsonl"


class AuditCallback(TrainerCallback):
    """Says at the end of each epoch what the model in training gives away about the records it is trained on.

    The model is scored where it is: nothing is saved or loaded, one copy is in memory, and training goes on bit by bit
    as it would without. For a PEFT model the reference is the same weights with the adapter off; for any other it is
    the model as training begins. Figures are those of `loraudit audit` on a checkpoint saved at that step, with the
    same validity gates.

    What can be checked is checked before the first step. An audit that fails later, for lack of memory or because an
    attack fails, is recorded in `history` and warned of, and training goes on.

    Args:
        members: Records trained on: a file or several; or texts, rows of columns (such as a `datasets.Dataset`) or
            records at hand. A list of strings is a list of files if all of them end like one.
        nonmembers: Records of the same kind that are not trained on.
        stop_if: Limits in the words of `--fail-on`; training stops after the epoch in which one comes true.
        base: Model that training started from, a folder or hub name; the reference instead of the one above.
        max_records: At most so many a side, drawn at random by `seed`.
        attacks: Names; all by default.
        headline: The attack that `stop_if` and the log speak of.
        fpr: False-positive rates at which to state the true-positive rate.
        resamples: Of the bootstrap.
        span: "trained" or "all", as in an audit.
        append_eos: End every record with the end-of-text token, if training does.
        max_length: Longest window in tokens.
        seed: Of every random choice.
        folder: Where `audits.jsonl` and evidence of the start are kept; by default `loraudit` in the output folder.
        record_format: Where the text stands in rows.
        log: Receives the headline numbers, such as `trainer.log`, which passes them on to every logger of the
            trainer; by default they are added to the trainer's log history alone.

    Raises:
        ConfigError: The request is malformed, names what does not exist, or holds a limit that cannot be read.

    Attributes:
        history: One entry for each epoch audited.
    """

    def __init__(
        self,
        members: Records,
        nonmembers: Records,
        *,
        stop_if: str | Sequence[str] = (),
        base: str | os.PathLike[str] | None = None,
        max_records: int | None = 500,
        attacks: str | Sequence[str] = (),
        headline: str = "error_zone",
        fpr: float | Sequence[float] | None = None,
        resamples: int = 500,
        span: str = "trained",
        append_eos: bool = False,
        max_length: int | None = None,
        seed: int = 0,
        folder: str | os.PathLike[str] | None = None,
        record_format: RecordFormat | None = None,
        log: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.history: list[EpochAudit] = []
        self._request = make_request(
            members,
            nonmembers,
            stop_if,
            record_format or RecordFormat(),
            max_records=max_records,
            attacks=attacks,
            headline=headline,
            resamples=resamples,
            span=span,
            append_eos=append_eos,
            max_length=max_length,
            seed=seed,
            **({} if fpr is None else {"fpr": fpr}),
        )
        self._base = None if base is None else os.fspath(base)
        self._given_folder = None if folder is None else Path(folder)
        self._log = log
        self._audit: LiveAudit | None = None
        self._known: tuple[weakref.ref[Any], str, Reference] | None = None
        self._reference_words = ""
        self._folder = Path()

    # --- events ---------------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check everything that can be checked, and score the reference.

        Raises:
            ModelError: The weights are spread over processes, or the model is no causal language model.
            ConfigError: There is no tokenizer, or nothing to compare with, or a limit cannot be measured.
            DataError: The records cannot be used, or stand on both sides.
            StoreError: The folder cannot be written.
        """
        del control
        module = whole_module(kwargs["model"])
        if not state.is_world_process_zero:
            return
        self._folder = open_private_folder(self._given_folder or Path(str(args.output_dir)) / "loraudit")
        with undisturbed(module):
            prepared = prepare(self._request, _tokenizer(kwargs), module)
            reference = self._reference_for(prepared, module, state)
            self._audit = LiveAudit(prepared, reference.table)
        self._reference_words = reference.words
        if state.global_step == 0 and reference.start_id is not None:
            state.log_history.append({START_KEY: reference.start_id, "epoch": 0.0, "step": 0})
        self._recall_history(state.global_step)
        _LOG.info("%s", power_statement(prepared.sides, self._request.spec))
        failed = failed_gates(self._audit.rehearsal)
        if failed:
            _LOG.warning(
                "Members and non-members differ by more than training (%s), so the audits of this training show more "
                "than leakage. Draw both sides from one source, at random.",
                "; ".join(f"{name}: {reason}" for name, reason in failed.items()),
            )

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Audit the model as it is; stop the training if a limit comes true."""
        has_stopped = False
        if state.is_world_process_zero and self._audit is not None and not self._is_audited(state.global_step):
            has_stopped = self._audit_now(self._audit, state, control, whole_module(kwargs["model"]))
        if self._request.limits and args.world_size > 1:
            # The other processes wait here: one that trained on alone would wait for this one for ever.
            (has_stopped,) = broadcast_object_list([has_stopped])
        if has_stopped:
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add a training loss that is logged after the audit of its step."""
        del args, control, kwargs
        self._add_loss(state, "training_loss", (logs or {}).get("loss"))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the validation loss, which is evaluated after the audit of its step."""
        del args, control, kwargs
        self._add_loss(state, "validation_loss", (metrics or {}).get("eval_loss"))

    def _reference_for(self, prepared: Prepared, module: Any, state: TrainerState) -> Reference:
        """What the model is compared with; kept between calls of `train`, of which a second finds tuned weights."""
        if self._known is not None:
            known_module, key, reference = self._known
            if known_module() is module and key == prepared.key():
                return reference
        reference = find_reference(
            prepared,
            module,
            base=self._base,
            is_start=state.global_step == 0,
            log_history=state.log_history,
            store=EvidenceStore(self._folder),
        )
        self._known = weakref.ref(module), prepared.key(), reference
        return reference

    # --- one epoch ------------------------------------------------------------------------------------

    def _is_audited(self, step: int) -> bool:
        return bool(self.history) and self.history[-1].step == step

    def _audit_now(self, audit: LiveAudit, state: TrainerState, control: TrainerControl, module: Any) -> bool:
        """Audit, record and report; whether a limit came true."""
        began = time.perf_counter()
        sides = audit.prepared.sides
        entry = EpochAudit(
            epoch=float(state.epoch or 0.0),
            step=state.global_step,
            n_members=len(sides.members.records),
            n_nonmembers=len(sides.nonmembers.records),
            headline=self._request.spec.headline,
            reference=self._reference_words,
            training_loss=self._loss_before(state),
            validation_loss=_last(state, "eval_loss", after=state.global_step - 1),
        )
        try:
            with undisturbed(module):
                target = audit.prepared.score(live_resident(module), TARGET)
                entry = described(entry, audit.judge(target), self._request.limits)
        except Exception as error:  # a day of training is worth more than one audit
            reason = scrubbed(f"{type(error).__name__}: {error}")
            entry = entry.model_copy(update={"error": reason})
            is_bug = not isinstance(error, LorauditError)
            _LOG.warning("The audit after epoch %g failed; training goes on. %s", entry.epoch, reason, exc_info=is_bug)
        self.history.append(entry.model_copy(update={"seconds": round(time.perf_counter() - began, 2)}))
        self._write_history()
        self._report(state, control)
        return bool(entry.exceeded)

    def _report(self, state: TrainerState, control: TrainerControl) -> None:
        entry = self.history[-1]
        if entry.error:
            return
        _LOG.info("%s", one_line(entry, self._request.spec.fpr))
        for outcome in entry.limits:
            if outcome.status == "exceeded":
                _LOG.warning(
                    "Training stops after epoch %g: limit '%s' came true, %s.",
                    entry.epoch,
                    outcome.limit,
                    outcome.reason,
                )
            elif outcome.status == "not_measured":
                _LOG.warning(
                    "Limit '%s' was not checked after epoch %g: %s.", outcome.limit, entry.epoch, outcome.reason
                )
        numbers = headline_numbers(entry, self._request.spec.fpr)
        if self._log is None:
            state.log_history.append({**numbers, "epoch": entry.epoch, "step": entry.step})
            return
        should_log = control.should_log
        self._log(numbers)
        control.should_log = should_log  # logging takes it back, and the epoch's loss would not be logged

    def _loss_before(self, state: TrainerState) -> float | None:
        return _last(state, "loss", after=self.history[-1].step if self.history else -1)

    def _add_loss(self, state: TrainerState, field: str, value: Any) -> None:
        is_missing = self._is_audited(state.global_step) and getattr(self.history[-1], field) is None
        if state.is_world_process_zero and is_missing and isinstance(value, float | int):
            self.history[-1] = self.history[-1].model_copy(update={field: float(value)})
            self._write_history()

    # --- the file of all audits -----------------------------------------------------------------------

    def _recall_history(self, step: int) -> None:
        """What earlier parts of this training recorded; a training that starts anew begins an empty file."""
        self.history = []
        path = self._folder / _HISTORY_FILE
        if step and path.exists():
            try:
                entries = [EpochAudit.model_validate_json(line) for line in path.read_text("utf-8").splitlines()]
            except (OSError, ValueError) as error:
                raise StoreError(
                    f"'{path}' cannot be read ({type(error).__name__}). Expected one audit a line, as this training "
                    "wrote them before. Move it away to go on without them."
                ) from error
            self.history = [entry for entry in entries if entry.step <= step]
        self._write_history()

    def _write_history(self) -> None:
        lines = "".join(f"{entry.model_dump_json()}\n" for entry in self.history)
        try:
            write_atomically(self._folder / _HISTORY_FILE, lines.encode())
        except StoreError as error:
            _LOG.warning("%s", error)


def _tokenizer(kwargs: dict[str, Any]) -> Any:
    """The trainer's tokenizer; of a processor for several kinds of input, the one for text."""
    given = kwargs.get("processing_class")
    given = kwargs.get("tokenizer") if given is None else given  # its name in older versions
    found = given if hasattr(given, "is_fast") else getattr(given, "tokenizer", None)
    if not hasattr(found, "is_fast"):
        what = "has no tokenizer" if given is None else f"was given a {type(given).__name__} in place of a tokenizer"
        raise ConfigError(
            f"The trainer {what}, so records cannot be turned into the model's tokens. Give it the tokenizer that "
            "training uses: Trainer(..., processing_class=tokenizer)"
        )
    return found


def _last(state: TrainerState, key: str, *, after: int) -> float | None:
    """The last value logged under `key` in a step behind `after`."""
    found = [entry[key] for entry in state.log_history if key in entry and entry.get("step", 0) > after]
    return float(found[-1]) if found else None
