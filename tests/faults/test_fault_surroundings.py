"""Hash seeds, locales, paths and clocks are nobody's business: the numbers stay what they are."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.fault_process import result_of, starter, timeless
from faults.fault_small import request, scores_of

WITHOUT_UNICODE = {"LC_ALL": "C", "PYTHONUTF8": "0"}


def real(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m loraudit …` in a fresh interpreter."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONIOENCODING", "LANG", "LC_ALL"}}
    return subprocess.run(
        [sys.executable, "-m", "loraudit", *map(str, words)],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
    )


# --- row 20: another hash seed -------------------------------------------------------------------------


def test_another_hash_seed_and_a_locale_without_unicode_change_nothing(words, undisturbed, tmp_path):
    """The undisturbed run had the hash seed 0 and the locale of whoever runs the tests."""
    spaced = tmp_path / "with two  spaces"
    spaced.mkdir()
    for name in ("m.jsonl", "n.jsonl"):
        shutil.copy(tmp_path / name, spaced)
    ended = real(spaced, *words, **WITHOUT_UNICODE, PYTHONHASHSEED="4242")
    assert ended.returncode == 0, ended.stderr
    assert "AUC" in ended.stdout
    assert (spaced / "run" / "scores.parquet").read_bytes() == (undisturbed / "run" / "scores.parquet").read_bytes()
    assert timeless(result_of(spaced)) == timeless(result_of(undisturbed))


@pytest.mark.slow
def test_two_fresh_interpreters_with_other_hash_seeds_agree(words, tmp_path):
    for seed in ("1", "31337"):
        (tmp_path / seed).mkdir()
        for name in ("m.jsonl", "n.jsonl"):
            shutil.copy(tmp_path / name, tmp_path / seed)
        ended = real(tmp_path / seed, *words, PYTHONHASHSEED=seed)
        assert ended.returncode == 0, ended.stderr
    one, two = (tmp_path / seed for seed in ("1", "31337"))
    assert (one / "run" / "scores.parquet").read_bytes() == (two / "run" / "scores.parquet").read_bytes()
    assert timeless(result_of(one)) == timeless(result_of(two))


# --- row 27: locale, paths, clock ----------------------------------------------------------------------


def test_paths_may_hold_spaces_and_any_script(full, base, words, undisturbed, tmp_path):
    folder = tmp_path / "Übung 名前 и пробел"
    for model, name in ((full, "ziel é"), (base, "基 礎")):
        shutil.copytree(model, folder / name)
    for name, other in (("m.jsonl", "Mitglieder ß.jsonl"), ("n.jsonl", "andere — n.jsonl")):
        shutil.copy(tmp_path / name, folder / other)
    sides = ("--members", "Mitglieder ß.jsonl", "--nonmembers", "andere — n.jsonl", "--resamples", 100, "-q")
    code, out, err = starter().run(
        folder, "audit", "ziel é", "--base", "基 礎", *sides, "-o", "lauf ü/run", "--store", "lager ö"
    )
    assert code == 0, err
    assert "Report: lauf ü/run/report.html" in out
    result = result_of(folder / "lauf ü")
    assert "Mitglieder ß.jsonl" in str(result["members"]["files"])
    assert result["command"].startswith("loraudit audit 'ziel é' --base '基 礎'")
    ours, theirs = scores_of(folder / "lauf ü"), scores_of(undisturbed)
    for name in set(ours.column_names) - {"id", "source"}:
        assert str(ours.column(name).to_pylist()) == str(theirs.column(name).to_pylist()), name


def test_a_path_that_the_locale_cannot_express_is_refused_in_words(words, tmp_path):
    ended = real(tmp_path, *words, "--store", "lager ö", **WITHOUT_UNICODE)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: ")
    assert "Traceback" not in ended.stderr


def test_a_path_in_a_spec_file_that_the_locale_cannot_express_is_refused_in_words(words, tmp_path):
    spec = {"model": "no-such-model", "members": "m.jsonl", "nonmembers": "n.jsonl", "out": "läufe"}
    (tmp_path / "spec.json").write_text(json.dumps(spec), "utf-8")
    ended = real(tmp_path, "audit", "--spec", "spec.json", **WITHOUT_UNICODE)
    assert "Traceback" not in ended.stderr
    assert ended.returncode in {2, 3, 4, 5}


@pytest.mark.parametrize("words", [("attacks",), ("audit", "--help")], ids=" ".join)
@pytest.mark.parametrize("environment", [WITHOUT_UNICODE, {"PYTHONIOENCODING": "latin-1"}], ids=str)
def test_every_word_can_be_written_where_unicode_cannot(words, environment, tmp_path):
    ended = real(tmp_path, *words, **environment)
    assert ended.returncode == 0, ended.stderr[-200:]


def test_a_finished_run_ends_well_where_its_names_cannot_be_written(full, base, words, tmp_path):
    shutil.copytree(base, tmp_path / "基 礎")
    code, _, err = starter().run(tmp_path, *request(full, "基 礎"), encoding="latin-1")
    assert (tmp_path / "run" / "result.json").exists()
    assert code == 0, err


def test_a_clock_that_jumps_back_makes_no_duration_negative_and_times_are_utc(command, words, monkeypatch, tmp_path):
    class Jumping(datetime.datetime):
        hours = 0

        @classmethod
        def now(cls, tz=None):
            cls.hours += 1
            return super().now(tz) - datetime.timedelta(hours=cls.hours)

    clock, n_asked = time.time, iter(range(1_000_000))
    monkeypatch.setattr(time, "time", lambda: clock() - 3600 * next(n_asked))
    monkeypatch.setattr(datetime, "datetime", Jumping)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        code, _, err = command(*words)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert code == 0, err
    assert Jumping.hours >= 4

    def seconds(value):
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        own = [value["seconds"]] if isinstance(value, dict) and "seconds" in value else []
        return [*own, *(found for part in parts for found in seconds(part))]

    result = result_of(tmp_path)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    durations = [*seconds(result), *seconds(log)]
    assert len(durations) > 20
    assert all(0 <= duration < 600 for duration in durations)
    for said in (result["started"], *(line["time"] for line in log)):
        assert said.endswith("+00:00")
        assert datetime.datetime.fromisoformat(said).utcoffset() == datetime.timedelta(0)
