"""What a fine-tuned language model gives away about the records it was tuned on.

>>> import loraudit
>>> run = loraudit.audit("my-adapter", members="train.jsonl", nonmembers="heldout.jsonl")  # doctest: +SKIP
>>> run.result.membership.attack("error_zone").findings["auc"].value  # doctest: +SKIP
0.913
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.auditing import AuditRun as AuditRun
    from loraudit.auditing import run_audit as run_audit
    from loraudit.errors import LorauditError as LorauditError
    from loraudit.membership import ATTACKS as ATTACKS
    from loraudit.membership import Attack as Attack
    from loraudit.membership import attack as attack
    from loraudit.membership import per_record as per_record
    from loraudit.spec import AuditSpec as AuditSpec
    from loraudit.store import read_run as read_run
    from loraudit.types import Views as Views

_WHERE = {
    "ATTACKS": "loraudit.membership",
    "Attack": "loraudit.membership",
    "AuditRun": "loraudit.auditing",
    "AuditSpec": "loraudit.spec",
    "LorauditError": "loraudit.errors",
    "Views": "loraudit.types",
    "attack": "loraudit.membership",
    "per_record": "loraudit.membership",
    "read_run": "loraudit.store",
    "run_audit": "loraudit.auditing",
}

__all__ = [  # noqa: RUF022 - sorted as people read, whatever the case
    "Attack",
    "attack",
    "ATTACKS",
    "audit",
    "AuditRun",
    "AuditSpec",
    "LorauditError",
    "per_record",
    "read_run",
    "run_audit",
    "Views",
]


def audit(model: str, *, members: str | Sequence[str], nonmembers: str | Sequence[str], **options: Any) -> AuditRun:
    """Audit the membership leakage of a fine-tuned model; the same as `loraudit audit`.

    Args:
        model: Checkpoint or PEFT adapter, folder or hub name.
        members: File or files of records it was tuned on.
        nonmembers: File or files of records of the same kind that it was not.
        **options: Any other key of `AuditSpec`, which are the flags of the command line.

    Returns:
        The finished run; shows its report in a notebook.

    Raises:
        LorauditError: With what is wrong and what to do.
    """
    from loraudit.auditing import run_audit
    from loraudit.spec import make_audit_spec

    return run_audit(make_audit_spec({"model": model, "members": members, "nonmembers": nonmembers, **options}))


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'loraudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
