"""What would stop an audit, found in seconds: the machine, the model, the records."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loraudit.auditing.preparation import requested_models, requested_tokenizer, requested_window
from loraudit.auditing.references.wanted import estimate_work, requested_reference
from loraudit.auditing.request import Sides, chosen_attacks, load_data, power_statement
from loraudit.data import RecordSet, encode, fetch_files, load_records
from loraudit.errors import EXIT_INTERNAL, ConfigError, EnvironmentFault, LorauditError
from loraudit.membership import ATTACKS
from loraudit.models import ModelPlan, plan_models, resolve_devices
from loraudit.models.fingerprint import check_headers
from loraudit.review.checks import Check
from loraudit.spec import AuditSpec, RecordFormat, make_audit_spec
from loraudit.store import user_secret

_SCARCE_BYTES = 2**30
_TRIED_RECORDS = 50
_REQUIREMENT = re.compile(r"^([\w.-]+)\s*(?:>=\s*([\d.]+))?")


def examine_environment(folder: Path) -> list[Check]:
    """Checks of the machine: packages, device, memory, disk, account and hub.

    Args:
        folder: Where runs would be written.
    """
    return [
        Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _packages(),
        _attempt("device", lambda: ", ".join(resolve_devices("auto"))),
        _memory(),
        _disk(folder),
        _attempt("account secret", lambda: f"{len(user_secret())} bytes, readable by you alone"),
        _hub(),
        _plugins(),
    ]


def examine_request(values: Mapping[str, Any]) -> list[Check]:
    """Checks of model and records, as far as they are given; weights are hashed but not loaded.

    Args:
        values: Keys of an `AuditSpec`; model, members and nonmembers may be missing.
    """
    sides = [name for name in ("members", "nonmembers") if values.get(name)]
    if values.get("model") and len(sides) == 2:
        return list(_whole_request(values))
    checks: list[Check] = []
    if values.get("model"):
        known = {name: values[name] for name in ("base", "offline", "allow_other_base") if name in values}
        check, plan = _attempt_for("model", lambda: _whole(plan_models(str(values["model"]), **known)))
        checks += [check, *(_about_models(plan) if plan else ())]
    layout = RecordFormat.model_validate({n: v for n, v in values.items() if n in RecordFormat.model_fields})
    for name in sides:
        paths = [str(path) for path in values[name]]
        check, records = _attempt_for(name, lambda paths=paths: _records(paths, layout, bool(values.get("offline"))))
        checks.append(check if records is None else Check(name, "ok", f"{len(records.records):,} usable records"))
    return checks


def _whole_request(values: Mapping[str, Any]) -> Iterator[Check]:
    check, spec = _attempt_for("request", lambda: make_audit_spec(values))
    yield check
    if spec is None:
        return
    yield _attempt("names and files", lambda: f"{len(chosen_attacks(spec))} attacks, headline {spec.headline}")
    check, sides = _attempt_for("records", lambda: load_data(spec))
    if sides is not None:
        yield Check(
            "records", "ok", f"{len(sides.members.records):,} members, {len(sides.nonmembers.records):,} non-members"
        )
        yield Check("power", "ok", power_statement(sides, spec))
    else:
        yield check
    check, plan = _attempt_for("model", lambda: _whole(requested_models(spec, None)))
    yield check
    if plan is not None:
        yield from _about_models(plan)
        yield _attempt("window", lambda: "{} tokens, {} new in each further one".format(*requested_window(spec, plan)))
        if sides is not None and spec.reference != "base":
            yield _attempt("reference", lambda: _reference(spec, plan, sides))
        if sides is not None:
            yield _attempt("tokens", lambda: _tokens(spec, plan, sides))


def _records(paths: Sequence[str], layout: RecordFormat, offline: bool) -> RecordSet:
    fetch_files(paths, offline=offline)
    return load_records(paths, layout)


def _whole(plan: ModelPlan) -> ModelPlan:
    """The plan, if no weight file it names was cut off."""
    for folder in plan.folders:
        check_headers(folder)
    return plan


def _about_models(plan: ModelPlan) -> Iterator[Check]:
    base = "none known; give --base" if plan.reference is None else plan.reference.name
    yield Check("target", "ok", f"{plan.target.kind}, {plan.n_parameters:,} parameters in memory; base: {base}")
    yield from (Check("base", "warning", warning) for warning in plan.warnings)


def _reference(spec: AuditSpec, plan: ModelPlan, sides: Sides) -> str:
    """Whether the reference is there, or what it takes to make it."""
    wanted = requested_reference(spec, plan, sides)
    if wanted is None or wanted.kept(spec) is not None:
        return f"{spec.reference}, made before"
    return f"{spec.reference}, still to be made: {estimate_work(wanted, spec).words}"


def _tokens(spec: AuditSpec, plan: ModelPlan, sides: Sides) -> str:
    """Tokenise some records of each side as training did."""
    tried = [*sides.members.records[:_TRIED_RECORDS], *sides.nonmembers.records[:_TRIED_RECORDS]]
    encoded = encode(tried, requested_tokenizer(spec, plan), span=spec.span, append_eos=spec.append_eos)
    audited = [int(item.is_audited[1:].sum()) for item in encoded]
    if not any(audited):
        raise ConfigError(f"None of {len(tried)} records has a token to audit. Expected some; try --span all.")
    return f"{sum(audited) / len(audited):,.0f} audited tokens a record on average, of {len(tried)} tried"


def _packages() -> Check:
    missing: list[str] = []
    for line in importlib.metadata.requires("loraudit") or ():
        found = _REQUIREMENT.match(line)
        if found is None or "extra ==" in line:
            continue
        name, floor = found[1], found[2]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{name} is not installed")
            continue
        if floor and _numbers(version) < _numbers(floor):
            missing.append(f"{name} {version} is older than {floor}")
    if missing:
        detail = f"{'; '.join(missing)}. Run: pip install --upgrade loraudit"
        return Check("packages", "failed", detail, EnvironmentFault.exit_code)
    shown = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "peft"))
    return Check("packages", "ok", shown)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3])


def _memory() -> Check:
    try:
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Check("memory", "skipped", "this system does not say")
    return Check("memory", "ok", f"{n_bytes / 2**30:.1f} GiB, {os.cpu_count()} processors")


def _disk(folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / 2**30:.1f} GiB free at '{existing}'"
    if free >= _SCARCE_BYTES:
        return Check("disk", "ok", detail)
    return Check("disk", "warning", f"{detail}. Free space, or name another folder with --out and --store")


def _hub() -> Check:
    has_token = (
        bool(os.environ.get("HF_TOKEN"))
        or Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"), "token").exists()
    )
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "ON", "YES"}
    words = "offline (HF_HUB_OFFLINE)" if offline else "asked only for hub names"
    return Check("hub", "ok", f"{words}; {'a token is set' if has_token else 'no token'}")


def _plugins() -> Check:
    n = len(ATTACKS)
    if ATTACKS.broken:
        problems = "; ".join(f"{origin}: {reason}" for origin, reason in ATTACKS.broken.items())
        return Check("attacks", "warning", f"{n} can be used; could not be loaded: {problems}")
    return Check("attacks", "ok", f"{n} can be used")


def _attempt(name: str, look: Callable[[], str]) -> Check:
    check, words = _attempt_for(name, look)
    return check if words is None else Check(name, "ok", words)


def _attempt_for(name: str, look: Callable[[], Any]) -> tuple[Check, Any]:
    """What `look` finds, and a check that says whether it found anything."""
    try:
        return Check(name, "ok", "as expected"), look()
    except LorauditError as error:
        return Check(name, "failed", str(error), error.exit_code), None
    except Exception as error:  # a doctor reports what it cannot explain, and goes on
        return Check(name, "failed", f"{type(error).__name__}: {error}", EXIT_INTERNAL), None


def default_folder(values: Mapping[str, Any]) -> Path:
    """Where the run would be written, as far as the request says."""
    return Path(str(values["out"])) if values.get("out") else Path("runs")
