"""The Python API says what the command line says."""

import loraudit
from loraudit.spec import make_audit_spec


def test_audit_returns_a_run_that_shows_itself(adapter, record_files, tmp_path):
    run = loraudit.audit(
        str(adapter),
        members=str(record_files[0]),
        nonmembers=str(record_files[1]),
        resamples=100,
        out=str(tmp_path / "run"),
    )
    finding = run.result.membership.attack("error_zone").findings["auc"]
    assert finding.lower <= finding.value <= finding.upper
    page = run._repr_html_()
    assert page.startswith("<iframe sandbox srcdoc=")
    assert "<script" not in page
    assert "AUC" in repr(run)
    assert loraudit.read_run(tmp_path / "run").result == run.result


def test_the_saved_spec_is_complete_and_can_be_run_again(adapter, record_files, tmp_path):
    import json

    run = loraudit.audit(
        str(adapter), members=str(record_files[0]), nonmembers=str(record_files[1]), out=str(tmp_path / "run")
    )
    saved = json.loads((tmp_path / "run" / "spec.json").read_text())
    assert make_audit_spec(saved) == run.result.spec
    assert set(saved) == {"schema_version", *loraudit.AuditSpec.model_fields}


def test_names_not_in_the_public_list_are_refused():
    import pytest

    with pytest.raises(AttributeError, match="has no attribute 'secret'"):
        loraudit.secret  # noqa: B018
