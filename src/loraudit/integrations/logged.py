"""A finished run as loggers are given it: figures, what was asked, what was found in words, and which files."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from loraudit.integrations.figures import AnyResult, Figures, figures_of
from loraudit.integrations.shareable import Places, asked, short
from loraudit.policy import verdict_of
from loraudit.spec import AuditResult, CellResult, StudyResult
from loraudit.store import read_canaries, read_contrast, read_forecast, read_robustness, read_run, read_scan
from loraudit.store.finished_runs import read_result

_LOGGED = "a study, audit, contrast, robustness run, forecast, scan or search for canaries"
_READERS = {
    "canaries": read_canaries,
    "contrast": read_contrast,
    "robustness": read_robustness,
    "forecast": read_forecast,
    "scan": read_scan,
}
_FILES = ("report.html", "result.json")
_UNDEFINED_SHOWN = 20
_LONGEST_NOTE = 4000


@dataclass(frozen=True, slots=True)
class Logged:
    """What leaves this machine of one run.

    No text, id, score or identity of a record is in it, and of folders only last names.

    Attributes:
        key: The same for every run of the same request, in the same study: what finds the entry again.
        name: For people.
        kind: The command, or "study".
        metrics: Numbers by name; all finite.
        params: Fields of the request that make it what it is.
        tags: Facts about the run, each under `loraudit.…`.
        note: What was found, in words.
        times: Start and end, in milliseconds since 1970.
        has_failed: A cell of a study that has no result.
        undefined: Figures without a finite value, by name.
        files: What is sent on request: the report and the result.
        withheld: Files that are not, and why.
        cells: Of a study, those that were carried out.
    """

    key: str
    name: str
    kind: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    note: str
    times: tuple[int, int]
    has_failed: bool = False
    undefined: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    withheld: tuple[str, ...] = ()
    cells: tuple[Logged, ...] = ()

    def walk(self) -> Iterator[Logged]:
        """The run, then its cells."""
        yield self
        yield from self.cells


def logged(path: Path) -> Logged:
    """A finished run or study as loggers are given it.

    Args:
        path: Run folder of an audit, contrast, robustness run, forecast, scan, search for canaries, or study.

    Raises:
        ConfigError: It holds no finished run, or one of a newer version.
        StoreError: A file of it is damaged.
    """
    study = read_result(path, "study", StudyResult)
    if study is not None:
        return _study(path, study)
    kind, result = _read(path)
    return _run(path, kind, result)


def _read(path: Path) -> tuple[str, AnyResult]:
    for kind, reader in _READERS.items():
        result = reader(path)
        if result is not None:
            return kind, result
    return "audit", read_run(path, expected=_LOGGED).result


def _run(path: Path, kind: str, result: AnyResult) -> Logged:
    places = Places.of(result.spec, path, result.command)
    figures = figures_of(kind, result)
    heading, sentence, found_tags = _said(result)
    holds_text = bool(getattr(result.spec, "include_text", False))
    key = f"{kind}-{result.spec_hash[:12]}"
    return Logged(
        key=key,
        name=key,
        kind=kind,
        metrics={**figures.metrics, "seconds": result.seconds},
        params=asked(result.spec, places),
        tags={
            **_facts(kind, result.loraudit, result.spec_hash, result.started),
            **_counted(figures),
            "loraudit.heading": short(places.out_of(heading)),
            **found_tags,
        },
        note=short(places.out_of(f"{heading}. {sentence}"), _LONGEST_NOTE),
        times=_times(result.started, result.seconds),
        undefined=figures.undefined,
        files=() if holds_text else tuple(path / name for name in _FILES if (path / name).is_file()),
        withheld=tuple(f"{name}: the run was asked to show text" for name in _FILES) if holds_text else (),
    )


def _study(path: Path, study: StudyResult) -> Logged:
    places = Places.of(study.spec, path, study.command)
    key = f"study-{study.spec_hash[:12]}"
    counts = {status: sum(c.status == status for c in study.cells) for status in ("ok", "failed", "absent")}
    return Logged(
        key=key,
        name=short(places.out_of(study.spec.name), 200),
        kind="study",
        metrics={
            **{f"cells.n_{status}": float(n) for status, n in counts.items()},
            "findings.n": float(study.n_findings),
            "regressions.n": float(len(study.regressions)),
            "seconds": study.seconds,
        },
        params=asked(study.spec, places),
        tags={
            **_facts("study", study.loraudit, study.spec_hash, study.started),
            "loraudit.heading": short(places.out_of(study.heading)),
        },
        note=short(places.out_of(f"{study.heading}. {study.sentence}"), _LONGEST_NOTE),
        times=_times(study.started, study.seconds),
        files=tuple(path / name for name in _FILES if (path / name).is_file()),
        cells=tuple(_cell(path, key, cell, places, study) for cell in study.cells if cell.status in {"ok", "failed"}),
    )


def _cell(study_path: Path, study_key: str, cell: CellResult, places: Places, study: StudyResult) -> Logged:
    labels = {axis: short(str(places.value(label))) for axis, label in cell.labels.items()}
    of_cell = {"loraudit.cell": cell.id, "loraudit.grid": short(cell.grid)}
    axes = {f"axis.{axis}": label for axis, label in labels.items()}
    name = short(f"{cell.grid}: {', '.join(labels.values())}" if labels else cell.grid, 200)
    key = f"{study_key}/{cell.kind}-{cell.id}"
    if cell.status == "ok":
        run = _run(*_folder_of(study_path, cell))
        return replace(run, key=key, name=name, params={**run.params, **axes}, tags={**run.tags, **of_cell})
    error = short(places.out_of((cell.error or "").split("\n", 1)[0]))
    facts = _facts(cell.kind, cell.loraudit or study.loraudit, cell.id, study.started)
    return Logged(
        key=key,
        name=name,
        kind=cell.kind,
        metrics={},
        params=axes,
        tags={**facts, **of_cell, "loraudit.error": error},
        note=error,
        times=_times(study.started, cell.seconds or 0.0),
        has_failed=True,
    )


def _folder_of(study: Path, cell: CellResult) -> tuple[Path, str, AnyResult]:
    """The folder of a cell and what it holds; it lies within the study's, whatever the file says."""
    folder = study / cell.folder
    if not folder.resolve().is_relative_to(study.resolve()):
        from loraudit.errors import StoreError

        raise StoreError(
            f"Cell '{cell.id}' of study '{study}' lies in '{cell.folder}', outside of it. Expected a folder within the "
            "study's. Run the study again; finished cells are kept."
        )
    return folder, *_read(folder)


def _said(result: AnyResult) -> tuple[str, str, dict[str, str]]:
    """Heading, sentence and what else a reader must know before believing a number."""
    if not isinstance(result, AuditResult):
        return result.heading, result.sentence, _gates(getattr(result, "validity", None))
    verdict = verdict_of(result)
    validity = f" {verdict.validity}" if verdict.validity else ""
    tags = {"loraudit.level": verdict.level, "loraudit.exit_code": str(verdict.exit_code)}
    return verdict.heading, verdict.sentence + validity, tags | _gates(result.validity)


def _gates(validity: object) -> dict[str, str]:
    failed = getattr(validity, "failed", [])
    return {"loraudit.failed_gates": short(", ".join(gate.name for gate in failed))} if failed else {}


def _facts(kind: str, version: str, spec_hash: str, started: str) -> dict[str, str]:
    return {
        "loraudit.kind": kind,
        "loraudit.version": version,
        "loraudit.spec_hash": spec_hash,
        "loraudit.started": started,
    }


def _counted(figures: Figures) -> dict[str, str]:
    tags = {
        "loraudit.n_findings": str(figures.n_findings),
        "loraudit.n_undefined": str(len(figures.undefined)),
        "loraudit.n_withheld": str(figures.n_withheld),
    }
    if figures.undefined:
        shown = ", ".join(figures.undefined[:_UNDEFINED_SHOWN])
        more = len(figures.undefined) - _UNDEFINED_SHOWN
        tags["loraudit.undefined"] = short(f"{shown} and {more} more" if more > 0 else shown, _LONGEST_NOTE)
    return tags


def _times(started: str, seconds: float) -> tuple[int, int]:
    """The run's own times, so that sending it twice says the same."""
    try:
        at = datetime.datetime.fromisoformat(started)
    except ValueError:
        at = datetime.datetime.fromtimestamp(0, datetime.UTC)
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    began = int(at.timestamp() * 1000)
    return began, began + int(1000 * seconds)
