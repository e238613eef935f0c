"""Audits of a real pretrained model on real text; needs public data sets (docs/data.md)."""

import json
import os
from pathlib import Path

import pytest

import loraudit
from loraudit.data import load_records, read_rows
from loraudit.finetuning import finetune
from loraudit.spec import Recipe, RecordFormat

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("LORAUDIT_DATA")
    if not folder:
        pytest.skip("LORAUDIT_DATA names no folder with the data sets of docs/data.md")
    return Path(folder)


@pytest.fixture(scope="module")
def reviews(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviews")
    rows = [row["text"] for _, row in read_rows(str(data / "imdb" / "reviews.jsonl.xz")).rows[:800]]
    paths = folder / "members.jsonl", folder / "nonmembers.jsonl"
    for path, texts in zip(paths, (rows[:400], rows[400:]), strict=True):
        path.write_text("".join(json.dumps({"text": " ".join(t.split()[:60])}) + "\n" for t in texts))
    return paths


@pytest.mark.parametrize(("method", "rate", "least"), [("full", 3e-3, 0.6), ("lora", 1e-2, 0.5)], ids=["full", "lora"])
def test_targets_tuned_on_reviews_leak_and_the_audit_sees_it(method, rate, least, data, reviews, tmp_path):
    base = str(data / "models" / "tinystories-656k")
    members = load_records([str(reviews[0])], RecordFormat()).records
    finetune(base, members, Recipe(method=method, epochs=6, learning_rate=rate), tmp_path / "target")
    run = loraudit.audit(
        str(tmp_path / "target"),
        base=base,
        members=str(reviews[0]),
        nonmembers=str(reviews[1]),
        out=str(tmp_path / "run"),
    )
    finding = run.result.membership.attack("error_zone").findings["auc"]
    assert finding.lower > least
    assert run.result.target.kind == {"full": "checkpoint", "lora": "adapter"}[method]
