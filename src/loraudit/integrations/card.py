"""An audit as a section of a model's public page: between marks, so that the next audit replaces it and nothing else.

What is on the page of a model everybody reads. The section therefore names no folder, file, column or id: of the
command only its numbers, its switches and the names of attacks are shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import yaml

from loraudit.errors import ConfigError
from loraudit.integrations.shareable import Places
from loraudit.membership import ATTACKS
from loraudit.models.locate import is_hub_name
from loraudit.policy import verdict_of
from loraudit.report import render_model_card
from loraudit.spec import AuditResult, AuditSpec

BEGIN = "<!-- loraudit: begin (this section is replaced by the next audit) -->"
END = "<!-- loraudit: end -->"
TASK_NAME = "Membership inference (loraudit)"
_BEGIN = re.compile(r"<!-- loraudit: begin[^\n]*?-->")
_HEADER = re.compile(r"\A(\s*---[ \t]*\r?\n)(.*?)(^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE)
_INDEX = "model-index"


def card_section(result: AuditResult, repository: str) -> str:
    """The section, without marks.

    Args:
        result: Of a finished audit.
        repository: `OWNER/NAME` of the model whose page it is for, which stands in the place of what was audited.
    """
    places = Places.of(result.spec, result.command)
    reference = result.reference
    shown = result.model_copy(
        update={
            "target": result.target.model_copy(update={"name": repository}),
            "reference": reference and reference.model_copy(update={"name": _public_name(reference.name)}),
            "command": _public_command(result.spec, repository),
        }
    )
    section = places.out_of(render_model_card(shown))
    return _BEGIN.sub("", section).replace(END, "").strip() + "\n"


def with_section(card: str, section: str) -> str:
    """A card with the section between marks, where they stand or at the end; all else is as it was.

    Args:
        card: Text of README.md; may be empty.
        section: Without marks.

    Raises:
        ConfigError: The marks in the card do not fit together.
    """
    begins, ends = list(_BEGIN.finditer(card)), [found.start() for found in re.finditer(re.escape(END), card)]
    break_ = "\r\n" if "\r\n" in card else "\n"
    marked = break_.join([BEGIN, *section.strip().splitlines(), END])
    if not begins and not ends:
        gap = "" if not card else break_ if card.endswith("\n") else 2 * break_
        return f"{card}{gap}{marked}{break_}"
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0].end():
        raise ConfigError(
            f"The model card has {len(begins)} marks that begin loraudit's section and {len(ends)} that end it. "
            f"Expected one '{BEGIN}' before one '{END}', or neither. Mend the card by hand, then push again."
        )
    return card[: begins[0].start()] + marked + card[ends[0] + len(END) :]


def eval_result(result: AuditResult) -> dict[str, Any] | None:
    """The headline as an entry of `model-index`; None where it may not be quoted as a number.

    That is so where a validity gate failed or none was tried, a part of the audit failed, or the AUC has no interval.
    """
    verdict = verdict_of(result)
    area = result.membership.attack(result.membership.headline).findings.get("auc")
    if result.validity is None or result.validity.failed or verdict.is_partial:
        return None
    if area is None or area.value is None or area.lower is None or area.upper is None:
        return None
    percent = f"{100 * area.confidence:g} %"
    numbers = {
        "membership_auc": ("AUC of telling training records from others (0.5 is guessing)", area.value),
        "membership_auc_lower": (f"Lower end of its {percent} interval", area.lower),
        "membership_auc_upper": (f"Upper end of its {percent} interval", area.upper),
    }
    return {
        "task": {"type": "text-generation", "name": TASK_NAME},
        "dataset": {
            "type": "private",
            "name": "Training records and others of their kind",
            "args": {"n_members": area.n_members, "n_nonmembers": area.n_nonmembers},
        },
        "metrics": [{"type": kind, "name": name, "value": round(value, 4)} for kind, (name, value) in numbers.items()],
    }


def with_eval_result(card: str, entry: Mapping[str, Any] | None, *, model: str) -> tuple[str, str | None]:
    """A card whose `model-index` holds this entry instead of an earlier one of loraudit; all else is as it was.

    Args:
        card: Text of README.md.
        entry: As `eval_result` gives it; None takes an earlier one away.
        model: Name of the model, where the card has no `model-index` yet.

    Returns:
        The card, and why its header was left alone; None where it was not.
    """
    header = _HEADER.match(card)
    written = header[2] if header else ""
    try:
        held = yaml.safe_load(written) or {}
    except yaml.YAMLError:
        return card, "its header cannot be parsed"
    if not isinstance(held, dict):
        return card, "its header is no table of keys"
    wanted = _with_entry(held.get(_INDEX), entry, model)
    if wanted == held.get(_INDEX, []):
        return card, None
    if wanted is None or not _is_model_index(wanted):
        return card, "its model-index is not in the hub's form"
    break_ = "\r\n" if "\r\n" in card else "\n"
    block = yaml.safe_dump({_INDEX: wanted}, sort_keys=False, allow_unicode=True) if wanted else ""
    changed = _with_block(written, block.replace("\n", break_))
    expected = {name: value for name, value in held.items() if name != _INDEX} | ({_INDEX: wanted} if wanted else {})
    try:
        is_as_wanted = (yaml.safe_load(changed) or {}) == expected
    except yaml.YAMLError:
        is_as_wanted = False
    if not is_as_wanted:
        return card, "its header is written in a way that cannot be changed in one place"
    if header is None:
        return f"---{break_}{changed}---{break_}{break_ if card else ''}{card}", None
    return card[: header.start(2)] + changed + card[header.end(2) :], None


def _with_entry(index: Any, entry: Mapping[str, Any] | None, model: str) -> list[Any] | None:
    """A `model-index` with the entry in the place of an earlier one; None where it is in no known form."""
    if index is None:
        return [{"name": model, "results": [dict(entry)]}] if entry is not None else []
    if not isinstance(index, list) or not all(isinstance(one, dict) for one in index) or not index:
        return None
    if not all(isinstance(one.get("results"), list) for one in index):
        return None
    kept = [{**one, "results": [found for found in one["results"] if not _is_ours(found)]} for one in index]
    if entry is not None:
        kept[0]["results"].append(dict(entry))
    return [one for one, before in zip(kept, index, strict=True) if one["results"] or not before["results"]]


def _is_ours(found: Any) -> bool:
    task = found.get("task") if isinstance(found, dict) else None
    return isinstance(task, dict) and task.get("name") == TASK_NAME


def _is_model_index(index: list[Any]) -> bool:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    try:
        return not index or bool(model_index_to_eval_results(index))
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _with_block(header: str, block: str) -> str:
    """A header whose lines of `model-index` are others; comments around them stay."""
    lines = header.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if re.match(rf"{_INDEX}\s*:", line)]
    if not starts:
        gap = "" if not header or header.endswith("\n") else "\n"
        return header + gap + block
    end = starts[0] + 1
    while end < len(lines) and lines[end][:1] in " \t#-\r\n":
        end += 1
    while lines[end - 1][:1] in "#\r\n" and end - 1 > starts[0]:  # what stands before the next key belongs to that
        end -= 1
    return "".join([*lines[: starts[0]], block, *lines[end:]])


def _public_name(name: str) -> str:
    return name if is_hub_name(name) and "/" in name else "a model that is not named here"


def _public_command(spec: AuditSpec, repository: str) -> str:
    """The command that asked for it, with `…` for whatever could say more than how it was measured."""
    words = ["loraudit", "audit", repository]
    for name, field in AuditSpec.model_fields.items():
        value = getattr(spec, name)
        if name in {"model", *AuditSpec.how_not_what} or (not field.is_required() and value == field.default):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
            continue
        choices = _choices(field.annotation)
        for one in value if isinstance(value, tuple) else (value,):
            is_public = isinstance(one, int | float) or one in choices or one in ATTACKS
            words += [flag, str(one) if is_public else "…"]
    return " ".join(words)


def _choices(annotation: Any) -> set[Any]:
    """Words that a field is limited to."""
    found = {choice for choice in get_args(annotation) if isinstance(choice, str)}
    return found | {word for one in get_args(annotation) if not isinstance(one, str) for word in _choices(one)}
