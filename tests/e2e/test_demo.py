"""The demo's parts, small; `make demo` runs it whole."""

import pytest

from loraudit import demo
from loraudit.finetuning import tune


@pytest.mark.slow
def test_the_demo_compares_four_methods(tmp_path):
    shown = demo.run_demo(tmp_path / "demo")
    match = shown.result.match("epochs")
    gap = next(d for d in match.differences if (d.first, d.second) == ("full", "lora:4"))
    assert gap.metrics["auc"].lower > 0
    assert (shown.path / "report.html").exists()


def test_a_small_demo_runs_through_and_again_from_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "N_PER_SIDE", 12)
    monkeypatch.setattr(demo, "N_VALIDATION", 4)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "METHODS", demo.METHODS[1:3])
    first = demo.run_demo(tmp_path / "demo")
    assert [arm.name for arm in first.result.arms] == ["head", "lora:4"]
    monkeypatch.setattr(tune, "train", lambda _: pytest.fail("tuned again"))
    second = demo.run_demo(tmp_path / "demo")
    assert second.result.matches == first.result.matches
