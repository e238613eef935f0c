"""The demo's parts, small; `make demo` runs it whole."""

import dataclasses

import pytest

from loraudit import demo


@pytest.mark.slow
def test_the_demo_shows_the_gap_between_full_tuning_and_lora(tmp_path):
    shown = demo.run_demo(tmp_path / "demo")
    assert shown.gap.interval.lower > 0
    assert (tmp_path / "demo" / "audit-lora-seed0" / "report.html").exists()


def test_a_small_demo_runs_through_and_again_from_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "N_PER_SIDE", 12)
    monkeypatch.setattr(demo, "N_VALIDATION", 4)
    recipes = {name: recipe.model_copy(update={"epochs": 1}) for name, recipe in demo.RECIPES.items()}
    monkeypatch.setattr(demo, "RECIPES", recipes)
    first = demo.run_demo(tmp_path / "demo")
    assert set(first.runs) == {"full", "lora"}
    monkeypatch.setattr(demo, "finetune", lambda *_, **__: pytest.fail("tuned again"))
    second = demo.run_demo(tmp_path / "demo")
    assert second.gap == first.gap
    assert [dataclasses.asdict(t) for t in second.trained.values()] == [
        dataclasses.asdict(t) for t in first.trained.values()
    ]
    assert all(run.result.scoring["records_scored"] == 0 for run in second.runs.values())
