"""The spine of `loraudit scan`: an adapter becomes spectra, probes and a result."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
import shlex
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loraudit.errors import EXIT_LIMIT_EXCEEDED, EXIT_OK, ConfigError, LorauditError, StoreError, scrubbed
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.models.fingerprint import fingerprint
from loraudit.models.locate import Source
from loraudit.models.plan import summary_of
from loraudit.models.recorded import prove_base
from loraudit.policy import check_scan_limits, read_policy, read_scan_limits
from loraudit.report import render_sarif, render_scan_html, render_scan_markdown, write_page
from loraudit.scanning.behaving import Behaviour, probe
from loraudit.scanning.request import located_base, located_target, requested_battery, run_path, weights_file
from loraudit.scanning.weights import Weights, compare_modules, read_adapter, read_checkpoint
from loraudit.scanning.words import does_not_show, heading_of, sentence_of
from loraudit.spec import ModelSummary, ScanResult, ScanSpec
from loraudit.store import RunFolder, write_atomically

_LIBRARIES = ("loraudit", "torch", "transformers", "peft", "safetensors", "numpy", "scipy")
_OTHER_TASKS = frozenset({"SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"})


class ScanRun(NamedTuple):
    """A finished scan.

    Attributes:
        path: Its folder.
        result: `result.json`.
    """

    path: Path
    result: ScanResult


def run_scan(
    spec: ScanSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> ScanRun:
    """Scan an adapter, or a checkpoint beside its base; the same request again gives the same result.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between modules and batches.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request, the model or the machine do not allow it.
        Interrupted: A stop was asked for.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    check_request(spec)
    battery = requested_battery(spec.probes)
    target = located_target(spec)
    base, no_base = located_base(spec, target)
    folder = RunFolder(run_path(spec), spec)
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            summaries, warnings = _summaries(spec, target, base)
            weights = _weights(target, base, progress, stop)
            reason = _no_probes(spec, target, no_base)
            behaviour = None if reason or base is None else probe(spec, target, base, battery, progress, stop)
            result = _result(
                spec,
                summaries,
                weights,
                behaviour,
                reason,
                warnings=warnings,
                spec_hash=folder.hash,
                command=command or f"loraudit scan --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                weights_file=weights_file(target),
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
            )
            _write(folder, result)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return ScanRun(folder.path, result)


def check_request(spec: ScanSpec) -> None:
    """Refuse what is wrong with the request itself; all of it is said at once.

    Raises:
        ConfigError: Anything is.
    """
    problems: list[str] = []
    try:
        _limits(spec)
    except ConfigError as error:
        problems.append(str(error))
    if spec.no_probes and spec.probes is not None:
        problems.append("'probes' has no effect with --no-probes. Leave one of them out.")
    if spec.sarif is not None and not Path(spec.sarif).parent.is_dir():
        problems.append(f"Folder of --sarif '{spec.sarif}' does not exist. Make it, or name another file.")
    if problems:
        raise ConfigError("\n".join(problems))


def _limits(spec: ScanSpec) -> list[str]:
    limits = [*spec.fail_on, *(read_policy(spec.policy) if spec.policy else [])]
    read_scan_limits(limits)
    return limits


def _summaries(
    spec: ScanSpec, target: Source, base: Source | None
) -> tuple[tuple[ModelSummary, ModelSummary | None], list[str]]:
    """Target and base as the report names them, and what must be said of whether they belong together."""
    kind = "checkpoint" if target.kind == "checkpoint" else "adapter"
    facts = {
        name: target.config[name]
        for name in ("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules")
        if target.kind == "adapter" and name in target.config
    }
    summary = summary_of(target, kind, fingerprint(target.folder), **facts)
    warnings = ["Pickled weights were allowed (--allow-pickle)."] if spec.allow_pickle else []
    if base is None:
        return (summary, None), warnings
    digest = fingerprint(base.folder)
    recorded = target.config.get("base_model_name_or_path") or None
    how, found = prove_base(target, base, spec.base, recorded, digest, allow_other_base=spec.allow_other_base)
    return (summary, summary_of(base, "base", digest, evidence=how)), [*warnings, *found]


def _weights(target: Source, base: Source | None, progress: Progress, stop: StopRequest | None) -> Weights:
    if target.kind == "checkpoint" and base is not None:
        return read_checkpoint(target, base, progress, stop)
    return read_adapter(target, base, progress, stop)


def _no_probes(spec: ScanSpec, target: Source, no_base: str | None) -> str | None:
    """Why no model is run; None where one is."""
    if spec.no_probes:
        return "--no-probes was given."
    task = target.config.get("task_type")
    if task in _OTHER_TASKS:
        return f"the adapter is one for {task}, and probes are for CAUSAL_LM and SEQ_CLS."
    return no_base


def _result(
    spec: ScanSpec,
    summaries: tuple[ModelSummary, ModelSummary | None],
    weights: Weights,
    behaviour: Behaviour | None,
    reason: str | None,
    *,
    warnings: list[str],
    **facts: Any,
) -> ScanResult:
    rng = np.random.default_rng(spec.seed)
    compared = compare_modules(weights.changed, level=spec.level, factor=spec.factor, rng=rng)
    probes = behaviour.probes if behaviour else []
    limits = check_scan_limits(_limits(spec), compared.modules, probes)
    is_exceeded = any(limit.status != "holds" for limit in limits)
    more = [*weights.warnings, *(behaviour.warnings if behaviour else [])]
    return ScanResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        heading=heading_of(compared.modules, probes, were_probed=behaviour is not None),
        sentence=sentence_of(compared.modules, compared.families, probes, reason, spec.factor),
        does_not_show=does_not_show(
            len(weights.skipped),
            were_probed=behaviour is not None,
            is_classifier=behaviour is not None and behaviour.task == "classification",
        ),
        target=summaries[0],
        reference=summaries[1],
        modules=compared.modules,
        families=compared.families,
        skipped=weights.skipped,
        n_tests=compared.n_tests,
        task=behaviour.task if behaviour else None,
        overall_shift=behaviour.overall_shift if behaviour else None,
        probes=probes,
        probes_reason=reason,
        limits=limits,
        exit_code=EXIT_LIMIT_EXCEEDED if is_exceeded else EXIT_OK,
        versions=_versions(),
        numerics=behaviour.numerics if behaviour else {},
        warnings=list(dict.fromkeys([*warnings, *more])),
        **facts,
    )


def _write(folder: RunFolder, result: ScanResult) -> None:
    kept = ScanResult.model_validate_json(scrubbed(result.model_dump_json()))
    folder.reopen()
    write_page(folder.path, render_scan_html(kept))
    write_atomically(folder.path / "report.md", render_scan_markdown(kept).encode("utf-8", errors="replace"))
    if kept.spec.sarif is not None:
        write_atomically(Path(kept.spec.sarif), render_sarif(kept).encode("utf-8", errors="replace"))
    folder.write_result(kept)
    folder.log("finished", seconds=kept.seconds, exit_code=kept.exit_code)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    return found | {library: importlib.metadata.version(library) for library in _LIBRARIES}
