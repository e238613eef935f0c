"""Models made and scored in a row are those made and scored one at a time, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from loraudit.finetuning import ResidentBase, finetune
from loraudit.finetuning import base as base_module
from loraudit.models import Numerics, load_tokenizer, plan_models, plan_together
from loraudit.models.loading import load_checkpoint
from loraudit.models.swapping import JointPlan
from loraudit.scoring import ScoringOptions, gather_evidence
from loraudit.spec import Recipe
from loraudit.store import EvidenceStore
from small_tuning import rows, weights

LORA = Recipe(method="lora", epochs=1, batch_size=4, learning_rate=1e-2, rank=4, dropout=0.1)
OTHERS = {
    "lora": LORA,
    "another seed": LORA.model_copy(update={"seed": 5}),
    "full": Recipe(method="full", epochs=1, batch_size=4, learning_rate=3e-3),
    "dora": LORA.model_copy(update={"dora": True}),
    "pissa": LORA.model_copy(update={"init": "pissa", "dropout": 0.0}),
    "gaussian": LORA.model_copy(update={"init": "gaussian", "rslora": True}),
    "lora again": LORA,
}
OPTIONS = ScoringOptions(["cpu"], Numerics("cpu", "fp32"), 64, 32)


@pytest.fixture(scope="module")
def in_a_row(base, texts, tmp_path_factory):
    """Each recipe on one resident base, and how often the base was read from disk."""
    folder, loads = tmp_path_factory.mktemp("row"), []

    def counted(*args, **options):
        loads.append(args[0])
        return load_checkpoint(*args, **options)

    resident = ResidentBase()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_module, "load_checkpoint", counted)
        made = {
            name: finetune(str(base), rows(texts[:12]), recipe, folder / name, resident=resident)
            for name, recipe in OTHERS.items()
        }
    return made, len(loads)


@pytest.mark.parametrize("name", OTHERS)
def test_a_resident_base_changes_no_weight(name, in_a_row, base, texts, tmp_path):
    made, _ = in_a_row
    alone = finetune(str(base), rows(texts[:12]), OTHERS[name], tmp_path / "alone")
    one, two = weights(made[name].path), weights(alone.path)
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert made[name].facts["made_from"] == alone.facts["made_from"]


def test_the_base_is_read_again_only_after_runs_that_may_have_changed_it(in_a_row):
    _, n_loads = in_a_row
    assert n_loads == 3, "for the first, after full tuning, and after PiSSA"


def test_adapters_are_swapped_on_one_copy_and_say_what_they_say_alone(in_a_row, base, texts, tmp_path):
    made, _ = in_a_row
    plans = {name: plan_models(str(made[name].path), base=str(base), alone=True) for name in OTHERS}
    together = plan_together(plans, plans["lora"].tokenizer_fingerprint)
    assert isinstance(together, JointPlan)
    stages = [views for views, _ in together.stages]
    assert ("lora", "another seed", "lora again") in stages
    assert len(stages) == 5
    records = rows(texts[:10])
    tokenizer = load_tokenizer(base)
    joint = gather_evidence(together, records, OPTIONS, EvidenceStore(tmp_path / "a"), tokenizer=lambda: tokenizer)
    assert any("one copy for 3 models" in mode for mode in joint.modes)
    for name, plan in plans.items():
        alone = gather_evidence(
            plan, records, OPTIONS, EvidenceStore(tmp_path / "b"), tokenizer=lambda: tokenizer, views=["target"]
        )
        for column, values in alone.tables["target"].columns.items():
            np.testing.assert_array_equal(joint.tables[name].columns[column], values)
    first, other = (joint.tables[name].columns["log_prob"] for name in ("lora", "another seed"))
    assert not np.array_equal(first, other)
    cached = gather_evidence(together, records, OPTIONS, EvidenceStore(tmp_path / "a"), tokenizer=lambda: tokenizer)
    assert cached.n_scored == 0
