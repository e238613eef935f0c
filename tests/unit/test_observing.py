"""A model that is looked at while it is trained is trained as if nobody looked, and no moment goes unseen."""

from __future__ import annotations

import contextlib
import random

import pytest
import torch

from loraudit.execution import Interrupted
from loraudit.finetuning import ResidentBase, finetune, identity_of
from loraudit.finetuning.base import make_trainable
from loraudit.models import locate
from loraudit.spec import Recipe
from small_tuning import Crash, CrashAt, StopAt, contents, logits_of, rows, save_gpt2

RECIPE = Recipe(method="lora", rank=2, epochs=2, batch_size=4, learning_rate=1e-2, dropout=0.2, targets=("q_proj",))


@pytest.fixture(scope="module")
def records(texts):
    return rows(texts[:16], words=5)


class Watcher:
    """Writes down what it sees, and disturbs whatever it can reach."""

    def __init__(self) -> None:
        self.seen: dict[int, torch.Tensor] = {}
        self.epochs: dict[int, float] = {}

    def __call__(self, module, moment) -> None:
        assert not module.training
        assert not torch.is_grad_enabled()
        self.seen[moment.step] = logits_of(module)
        self.epochs[moment.step] = moment.epoch
        torch.rand(3)
        module.train()


def test_it_sees_the_base_and_every_moment_asked_for(base, records, tmp_path):
    watcher = Watcher()
    model = finetune(str(base), records, RECIPE, tmp_path / "m", observe=watcher, observe_at=(0.5, 0.75))
    assert sorted(watcher.seen) == [0, 2, 3, 4, 8]
    assert [watcher.epochs[step] for step in (0, 2, 3)] == [0, 0.5, 0.75]
    assert [moment.step for moment in model.moments] == [0, 2, 3, 4, 8]
    assert not any(moment.checkpoint for moment in model.moments)
    assert not (tmp_path / "m" / "training" / "checkpoints").exists()
    assert not torch.equal(watcher.seen[0], watcher.seen[8])


def test_the_weights_are_those_of_a_training_nobody_looked_at(base, records, tmp_path, tokenizer):
    dropped = save_gpt2(tmp_path / "gpt2", tokenizer, dropout=0.3)
    for model, recipe in ((base, RECIPE), (dropped, Recipe(method="full", epochs=1, batch_size=4))):
        finetune(str(model), records, recipe, tmp_path / "a", observe_at=(0.5,))
        finetune(str(model), records, recipe, tmp_path / "b", observe=Watcher(), observe_at=(0.5,))
        ours, plain = (contents(tmp_path / name) for name in ("b", "a"))
        assert ours == plain


def test_a_run_that_dies_anywhere_is_seen_at_every_moment_and_as_a_fresh_one(base, records, tmp_path):
    fresh = Watcher()
    finetune(str(base), records, RECIPE, tmp_path / "fresh", observe=fresh, observe_at=(0.5,))
    rng, watcher, n_deaths = random.Random(3), Watcher(), 0
    for _ in range(50):
        n = rng.randint(1, 3)
        how = {"stop": StopAt(n)} if rng.random() < 0.5 else {"progress": CrashAt(n)}
        with contextlib.suppress(Interrupted, Crash):
            finetune(str(base), records, RECIPE, tmp_path / "m", observe=watcher, observe_at=(0.5,), **how)
            break
        n_deaths += 1
    assert n_deaths >= 2
    assert sorted(watcher.seen) == sorted(fresh.seen)
    for step, logits in fresh.seen.items():
        assert torch.equal(watcher.seen[step], logits)
    assert contents(tmp_path / "m") == contents(tmp_path / "fresh")


def test_other_moments_are_another_run(base, records, tmp_path):
    asked = {"observe_at": (0.5,)}
    assert identity_of(str(base), records, RECIPE) != identity_of(str(base), records, RECIPE, **asked)
    finetune(str(base), records, RECIPE, tmp_path / "m")
    watcher = Watcher()
    finetune(str(base), records, RECIPE, tmp_path / "m", observe=watcher, **asked)
    assert 2 in watcher.seen
    again = Watcher()
    finetune(str(base), records, RECIPE, tmp_path / "m", observe=again, **asked)
    assert again.seen == {}


def test_a_resident_base_may_keep_the_hash_and_not_the_weights(base):
    source = locate(str(base))
    for keeps in (True, False):
        resident = ResidentBase(keeps_weights=keeps)
        trained = make_trainable(source, RECIPE, "cpu", (), None, resident)
        before = trained.module.get_base_model().model
        resident.give_back(trained.module, source, RECIPE, "cpu")
        assert (resident.take(source, "cpu").model is before) == keeps
        assert resident.fingerprint(source) == resident.fingerprint(source)
