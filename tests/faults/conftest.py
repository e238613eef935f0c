"""Shared by the fault tests: the command in this process, and what every refusal must look like."""

from __future__ import annotations

import json

import pytest

from faults.fault_small import request, undisturbed_small, write_sides


@pytest.fixture
def audit(command, tmp_path):
    """Run a quick audit into `tmp_path / "run"`: exit code and standard error."""

    def run(model, members, nonmembers, *words):
        code, _, err = command(
            "audit", model, "--members", members, "--nonmembers", nonmembers, *words,
            "--attacks", "error_zone", "--resamples", 100, "-q", "-o", tmp_path / "run",
        )  # fmt: skip
        return code, err

    return run


@pytest.fixture
def finished(audit, tmp_path):
    """Run a quick audit that is to finish: `result.json` and the text of `report.html`."""

    def run(*words, code=0):
        found, err = audit(*words)
        assert found == code, err
        assert "Traceback" not in err
        result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
        return result, (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    return run


@pytest.fixture
def refused(audit, tmp_path):
    """Run a quick audit that is to be refused with `code` and nothing left that looks like a result: its message."""

    def run(code, *words):
        found, err = audit(*words)
        assert found == code, err
        assert err.startswith("Error: ")
        assert "Traceback" not in err
        left = {path.name for path in (tmp_path / "run").glob("*")}
        assert left <= {"spec.json", "log.jsonl"}, f"a refused audit left {left}"
        return err.removeprefix("Error: ")

    return run


@pytest.fixture
def words(full, base, texts, tmp_path):
    """A request whose records stand in the working folder."""
    write_sides(texts, tmp_path)
    return request(full, base)


@pytest.fixture
def undisturbed(full, base, texts, tmp_path_factory):
    """Working folder of a run of `words` that nothing happens to."""
    return undisturbed_small(full, base, texts, tmp_path_factory)
