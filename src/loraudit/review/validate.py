"""Check a request without carrying it out."""

from __future__ import annotations

from pathlib import Path

from loraudit.auditing.request import chosen_attacks
from loraudit.spec import AuditSpec, make_audit_spec, read_spec_file


def validate_spec(path: Path) -> AuditSpec:
    """The request a file holds, resolved, after form, names, files and limits were checked. No model is touched.

    Raises:
        ConfigError: Every problem.
    """
    spec = make_audit_spec(read_spec_file(path))
    chosen_attacks(spec)
    return spec
