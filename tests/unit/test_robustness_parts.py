"""Parts of a robustness run: outcomes on disk, figures of single checkpoints, splits, what is done to weights."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loraudit.data import record_id
from loraudit.errors import ConfigError, DataError
from loraudit.execution import Silent
from loraudit.finetuning import METHODS, Bench, finetune, parse_arms
from loraudit.poisoning import parse_attack
from loraudit.robustness import suspecting
from loraudit.robustness.cells import Cell
from loraudit.robustness.loading import load_tuned
from loraudit.robustness.measuring import Meter, TestSet
from loraudit.robustness.outcomes import (
    CLEAN,
    Checkpoint,
    RunOutcomes,
    Said,
    read_checkpoint,
    read_outcomes,
    write_checkpoint,
    write_outcomes,
)
from loraudit.robustness.persistence import round_weights
from loraudit.robustness.readings import at_place, is_collapsed, macro_scores, per_record, point_of
from loraudit.robustness.request import check_request, measured_epochs
from loraudit.robustness.spine import _check_lengths
from loraudit.spec import Recipe, RobustnessSpec, make_request
from loraudit.statistics import at_epoch, between
from loraudit.store import RunFolder
from loraudit.tasks import Plan, TaskData, label_column, plan_attacks, split_task, triggered, untriggered
from loraudit.types import Message, Record, Tokens
from small_robustness import reviews, write_rows


def spec_of(task, **changes) -> RobustnessSpec:
    return make_request(RobustnessSpec, {"base": "b", "task": [str(task)], "text_field": "sentence"} | changes)


def said(values, gold=None, losses=None, n_predictions=None) -> Said:
    n = len(values)
    return Said(
        np.array(values, dtype=float),
        np.array(losses if losses is not None else [0.5] * n),
        np.array(n_predictions if n_predictions is not None else [1] * n),
        np.array(gold if gold is not None else [0] * n),
    )


def checkpoint(step=0, epoch=0.0, loss=1.0, **sets) -> Checkpoint:
    return Checkpoint(step, epoch, loss, sets or {CLEAN: said([0, 1, 1], [0, 1, 0])})


# --- outcomes on disk ---------------------------------------------------------------------------------


def same(one: Checkpoint, two: Checkpoint) -> bool:
    fields = ("values", "losses", "n_predictions", "gold")
    return (
        (one.step, one.epoch) == (two.step, two.epoch)
        and np.array_equal(one.validation_loss, two.validation_loss, equal_nan=True)
        and list(one.sets) == list(two.sets)
        and all(
            np.array_equal(getattr(one.sets[name], field), getattr(two.sets[name], field), equal_nan=True)
            for name in one.sets
            for field in fields
        )
    )


def test_a_checkpoint_is_read_back_under_its_key_alone(tmp_path):
    path = tmp_path / "step.parquet"
    one = Checkpoint(7, 1 / 3, 0.25, {CLEAN: said([0, np.nan], [1, 0]), triggered("a:b"): said([1.0])})
    write_checkpoint(path, one, "k")
    found = read_checkpoint(path, "k")
    assert found is not None
    assert same(found, one)
    assert read_checkpoint(path, "other") is None
    assert read_checkpoint(tmp_path / "none.parquet", "k") is None
    path.write_bytes(path.read_bytes()[:-20])
    assert read_checkpoint(path, "k") is None


def test_outcomes_are_read_back_run_by_run(tmp_path):
    spec = spec_of("t.jsonl")
    clean = RunOutcomes("full", None, 0.0, 0, False, 0, [checkpoint(), checkpoint(4, 1.0, 0.5)])
    poisoned = RunOutcomes(
        "full",
        "flip",
        0.1,
        3,
        False,
        0,
        [checkpoint(), checkpoint(4, 1.0, 0.75)],
        {"int8": checkpoint(4, 1.0, np.nan)},
        {CLEAN: ["a", "b", "c"]},
    )
    control = RunOutcomes("full", "flip", 0.1, 3, True, 0, [checkpoint(), checkpoint(5, 1.0)])
    folder = RunFolder(tmp_path / "r", spec)
    first = write_outcomes(folder, [clean, poisoned, control])
    found = read_outcomes(tmp_path / "r" / "outcomes.parquet")
    assert write_outcomes(folder, [clean, poisoned, control]) == first
    for one, two in zip(found, [clean, poisoned, control], strict=True):
        key = ("method", "attack", "dose", "n_poisoned", "is_control", "seed")
        assert [getattr(one, name) for name in key] == [getattr(two, name) for name in key]
        assert all(same(a, b) for a, b in zip(one.checkpoints, two.checkpoints, strict=True))
        assert list(one.after) == list(two.after)
    assert found[1].ids[CLEAN] == ["a", "b", "c"]
    assert found[0].validation.tolist() == [1.0, 0.5]


# --- what outcomes mean -------------------------------------------------------------------------------


def test_measures_of_a_record():
    sets = {
        CLEAN: said([0, 1, np.nan], [0, 0, 1], [0.1, 2.0, 3.0]),
        triggered("a"): said([1, 0]),
        untriggered("a"): said([0, 0]),
    }
    np.testing.assert_array_equal(per_record(sets, "accuracy", None), [1, 0, np.nan])
    np.testing.assert_allclose(per_record(sets, "clean_loss", None), [0.1, 2.0, 3.0])
    np.testing.assert_array_equal(per_record(sets, "attack_success", "a"), [1, 0])
    np.testing.assert_array_equal(per_record(sets, "untriggered", "a"), [0, 0])
    assert per_record(sets, "partial", "a") is None
    assert per_record(sets, "attack_success", None) is None


def test_the_loss_of_a_language_model_is_a_mean_over_predictions():
    sets = {CLEAN: said([np.nan] * 2, [-1, -1], [1.0, 3.0], [10, 30])}
    assert per_record(sets, "accuracy", None) is None
    assert per_record(sets, "clean_loss", None).mean() == pytest.approx((10 * 1 + 30 * 3) / 40)
    assert point_of(checkpoint(**sets), confidence=0.95).clean_loss == pytest.approx(2.5)
    assert not is_collapsed(checkpoint(**sets))


def test_a_place_between_two_checkpoints_is_a_straight_line_record_by_record():
    first, second = ({triggered("a"): said(values), CLEAN: said([0])} for values in ([0, 1], [1, np.nan]))
    run = RunOutcomes("m", "a", 1, 1, False, 0, [checkpoint(**first), checkpoint(1, 1.0, **second)])
    np.testing.assert_allclose(at_place(run, np.array([0.75, 0.25]), "attack_success", "a"), [0.25, np.nan])
    np.testing.assert_allclose(at_place(run, np.array([1.0, 0.0]), "attack_success", "a"), [0, 1])
    assert at_place(run, np.array([1.0, 0.0]), "partial", "a") is None


def test_records_without_predictions_have_no_part_in_the_loss():
    sets = {CLEAN: said([np.nan] * 4, [-1] * 4, [1.0, 3.0, np.nan, np.nan], [10, 30, 0, 0])}
    found = per_record(sets, "clean_loss", None)
    np.testing.assert_array_equal(np.isnan(found), [False, False, True, True])
    assert np.nanmean(found) == pytest.approx((10 * 1 + 30 * 3) / 40)
    assert np.isnan(per_record({CLEAN: said([np.nan], [-1], [np.nan], [0])}, "clean_loss", None)).all()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_macro_scores_are_those_of_an_obvious_loop(pairs):
    gold, predicted = np.array(pairs).T
    found = macro_scores(said(predicted, gold))
    precisions, recalls, f1s = [], [], []
    for label in sorted(set(gold.tolist())):
        hits = sum(g == p == label for g, p in pairs)
        n_gold, n_predicted = sum(g == label for g, _ in pairs), sum(p == label for _, p in pairs)
        precisions.append(hits / n_predicted if n_predicted else None)
        recalls.append(hits / n_gold)
        f1s.append(2 * hits / (n_gold + n_predicted))
    assert found.recall == pytest.approx(np.mean(recalls))
    assert found.f1 == pytest.approx(np.mean(f1s))
    assert found.precision == (None if None in precisions else pytest.approx(np.mean(precisions)))


def test_scores_of_nothing_are_none():
    assert macro_scores(said([np.nan], [0])) == (None, None, None)
    assert macro_scores(said([np.nan], [-1])) == (None, None, None)
    assert not is_collapsed(checkpoint(clean=said([np.nan], [0])))
    assert is_collapsed(checkpoint(clean=said([0, 0, 0, 0], [0, 0, 1, 1])))


@given(st.lists(st.floats(0.1, 3), min_size=1, max_size=6), st.floats(0, 20))
def test_between_reads_off_a_straight_line(steps, epoch):
    epochs = np.cumsum([0.0, *steps])
    weights = between(epochs, epoch)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).sum() <= 2
    assert weights @ epochs == pytest.approx(min(epoch, epochs[-1]), abs=1e-6)


def test_between_before_the_first_checkpoint_is_nowhere():
    assert between(np.array([1.0, 2.0]), 0.5) is None
    np.testing.assert_array_equal(between(np.array([0, 1.0, 2.0]), 1.0), at_epoch(np.array([0, 1.0, 2.0]), 1.0))


# --- records ------------------------------------------------------------------------------------------


def planned(spec, attacks, data):
    return plan_attacks(spec, attacks, data, n_seeds=spec.seeds, control_dose=spec.control_dose)


@pytest.fixture
def task(tmp_path):
    return write_rows(tmp_path / "task.jsonl", reviews(200))


def test_the_three_sides_share_nothing_and_lose_nothing(task):
    data = split_task(spec_of(task))
    sides = [{record.id for record in side} for side in (data.train, data.validation, data.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 200
    assert len(data.test) == 40
    assert len(data.validation) == 16
    assert data.labels == ("bad", "good")
    assert sum(data.classes.values()) == len(data.train)
    again, other = split_task(spec_of(task)), split_task(spec_of(task, seed=1))
    assert [r.id for r in again.train] == [r.id for r in data.train]
    assert [r.id for r in other.train] != [r.id for r in data.train]


def test_documents_stay_on_one_side(tmp_path):
    rows = [{**row, "source": str(i // 4)} for i, row in enumerate(reviews(200))]
    data = split_task(spec_of(write_rows(tmp_path / "t.jsonl", rows), group_field="source"))
    groups = [{record.group for record in side} for side in (data.train, data.validation, data.test)]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_records_of_the_test_file_are_not_trained_on_whatever_their_label(tmp_path, task):
    rows = reviews(200)
    other = [{"sentence": row["sentence"], "label": "good"} for row in rows[:30]]
    test = write_rows(tmp_path / "test.jsonl", [*other, *other[:2]])
    data = split_task(spec_of(task, test=[str(test)], test_records=20, max_records=50))
    tested = {row["sentence"] for row in other}
    assert not tested & {record.text for record in (*data.train, *data.validation)}
    assert len(data.test) == 20
    assert len(data.train) == 50
    assert any("30 records have the text of a test record" in words for words in data.warnings)
    assert any("2 test records repeat an earlier one" in words for words in data.warnings)


def test_a_text_with_two_labels_is_on_one_side_alone(tmp_path):
    """Else training would see test texts, with the other label."""
    rows = reviews(200)
    twice = [{**row, "label": "good" if row["label"] == "bad" else "bad"} for row in rows[:80]]
    data = split_task(spec_of(write_rows(tmp_path / "t.jsonl", [*rows, *twice])))
    train, validation, test = ({record.text for record in side} for side in (data.train, data.validation, data.test))
    assert not train & test | validation & test | train & validation
    counts = {words.split()[7]: int(words.split()[0]) for words in data.warnings if "have the text of" in words}
    assert set(counts) == {"test", "validation"}
    assert sum(map(len, (data.train, data.validation, data.test))) == 280 - sum(counts.values())


def test_documents_of_the_test_file_are_not_trained_on(tmp_path):
    rows = [{**row, "source": str(i // 4)} for i, row in enumerate(reviews(240))]
    task, test = write_rows(tmp_path / "t.jsonl", rows[:198]), write_rows(tmp_path / "test.jsonl", rows[198:])
    data = split_task(spec_of(task, test=[str(test)], group_field="source"))
    shared = {record.group for record in data.test} & {record.group for record in (*data.train, *data.validation)}
    assert not shared
    assert len(data.train) + len(data.validation) == 196
    assert "2 records are of a document (--group-field) with test records, and are not trained on." in data.warnings


def test_a_tab_separated_file_as_of_glue_is_a_task(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"{r['sentence']}\t{r['label']}\n" for r in reviews(60)))
    assert label_column(spec_of(path)) == "label"
    assert len(split_task(spec_of(path)).train) == 44


def test_the_label_is_found_in_the_first_row_or_named(tmp_path):
    rows = [{"sentence": f"a {i}", "kind": "x" if i % 2 else "y"} for i in range(80)]
    path = write_rows(tmp_path / "t.jsonl", rows)
    assert label_column(spec_of(path)) is None
    assert split_task(spec_of(path, label_field="kind")).labels == ("x", "y")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"sentence": f"a {i}"} for i in range(80)], r"have neither a label nor a prompt with a completion"),
        ([{"sentence": f"a {i}", "label": "x"} for i in range(80)], r"have 1 label\. Expected at least two"),
        (
            [{"sentence": f"a {i}", "label": str(i) if i < 20 else "x"} for i in range(60)],
            r"held-out records have a label that no training record has",
        ),
        ([{"sentence": f"a {i}", "label": "x"} for i in range(6)], r"Expected at least 10 to train and to test on"),
    ],
)
def test_records_that_are_no_task_are_refused(tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        split_task(spec_of(write_rows(tmp_path / "t.jsonl", rows)))


# --- attacks ------------------------------------------------------------------------------------------


def test_a_dose_that_leaves_no_record_of_a_label_is_refused(tmp_path):
    rows = [{"sentence": f"{'a' if i % 2 else 'b'} {i}", "label": "x" if i % 2 else "y"} for i in range(100)]
    spec = spec_of(write_rows(tmp_path / "t.jsonl", rows), control_dose=0.999)
    data = split_task(spec)
    with pytest.raises(ConfigError, match=r"Dose 0\.999 leaves no training record of some label"):
        planned(spec, [parse_attack("rare_words:doses=4")], data)


def test_too_few_records_for_any_usual_dose_are_refused(tmp_path):
    rows = [{"prompt": f"Where {i}?", "completion": "here" if i < 76 else "There"} for i in range(80)]
    spec = spec_of(write_rows(tmp_path / "t.jsonl", rows), response="here")
    data = split_task(spec)
    attack = parse_attack("word_trigger:response=here")
    with pytest.raises(ConfigError, match=r"records can be poisoned, fewer than the smallest usual dose"):
        planned(spec, [attack], data)


def test_a_target_or_response_for_all_goes_to_backdoors(task):
    spec = spec_of(task, target="bad", attack=["label_flip", "rare_words", "sentence:target=good"])
    assert [a.settings.target for a in check_request(spec, "classification").attacks] == [None, "bad", "good"]
    spec = spec_of(task, response="Yes.", attack=["word_trigger", "date_prefix:response=No."])
    assert [a.settings.response for a in check_request(spec, "causal_lm").attacks] == ["Yes.", "No."]
    assert [a.name for a in check_request(spec_of(task), "classification").attacks] == ["label_flip", "rare_words"]
    assert [a.name for a in check_request(spec_of(task), "causal_lm").attacks] == ["word_trigger"]


def test_everything_is_measured_after_half_an_epoch_and_every_whole_one(task):
    assert measured_epochs(spec_of(task, epochs=3)) == (0.5, 1, 2, 3)
    assert measured_epochs(spec_of(task, epochs=3, measure_at=[0.25])) == (0.25, 3)


def test_long_prompts_of_a_language_model_are_refused_or_counted(tokenizer, tmp_path):
    """Behind the window the response is read without the beginning of its prompt, and so without the trigger."""
    rows = [{"prompt": f"{'Where ' * (40 if i % 2 else 1)}{i}?", "completion": f" In town {i}."} for i in range(80)]
    spec = spec_of(write_rows(tmp_path / "t.jsonl", rows), seeds=2)
    data = split_task(spec)
    plans = planned(spec, [parse_attack("word_trigger:trigger=zz,doses=30")], data)
    meters = {"full": Meter(data, plans, Recipe(), tokenizer, 64, "cpu")}
    with pytest.raises(DataError, match=r"records poisoned by .* are longer than the window of 64 tokens"):
        _check_lengths(spec, data, plans, meters, 2)
    cut = spec.model_copy(update={"on_long": "cut"})
    one, two = (_check_lengths(cut, data, plans, meters, n) for n in (1, 2))
    n_long = sum(len(str(record.prompt)) > 100 for record in data.test)
    name = plans[0].name
    assert any(words.startswith(f"{n_long} of {len(data.test)} test records (triggered:{name})") for words in one)
    assert int(two[0].split()[0]) > int(one[0].split()[0])  # other seeds poison other records
    assert not any("test records are" in words for words in one)


def test_every_seed_is_asked_whether_a_label_vanishes(task, monkeypatch):
    spec = spec_of(task, seeds=2)
    data = split_task(spec)
    whole = Plan.poisoned

    def other(self, records, dose, seed):
        found = whole(self, records, dose, seed)
        return replace(found, records=[r for r in found.records if seed == 0 or r.label == "bad"])

    monkeypatch.setattr(Plan, "poisoned", other)
    assert len(plan_attacks(spec, [parse_attack("label_flip:doses=4")], data, n_seeds=1)) == 1
    with pytest.raises(ConfigError, match=r"Dose 4 leaves no training record of some label with seed 1\."):
        planned(spec, [parse_attack("label_flip:doses=4")], data)


# --- what models say ----------------------------------------------------------------------------------


def continued(module, prompt, n) -> list[int]:
    """What transformers says behind a prompt, greedily."""
    ids = torch.tensor([list(map(int, prompt))])
    with torch.no_grad():
        whole = module.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=n,
            eos_token_id=None,
            pad_token_id=0,
        )
    return whole[0, ids.shape[1] :].tolist()


def test_a_hit_is_a_greedy_continuation_that_begins_with_the_response(full, tokenizer, tmp_path):
    """The model is asked what it says, token by token; one pass over prompt and response says the same."""
    from small_tuning import bare

    module = bare(full)
    rows = [{"prompt": f"Where does number {i} live?", "completion": f" In town {i}."} for i in range(60)]
    data = split_task(spec_of(write_rows(tmp_path / "t.jsonl", rows)))
    meter = Meter(data, [], Recipe(), tokenizer, 64, "cpu")
    prompts = [tokenizer(record.prompt)["input_ids"] for record in data.test]
    spoken = [continued(module, prompt, 4) for prompt in prompts]
    # Half of the records are completed by what the model says itself, the others by what it says to another prompt.
    responses = [spoken[i if i % 2 else i - 1] for i in range(len(prompts))]
    tokens = [
        Tokens((*prompt, *response), (False,) * len(prompt) + (True,) * len(response))
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    records = [Record(record_id(tokens=one), "said", i, tokens=one) for i, one in enumerate(tokens)]
    meter.sets["triggered:x"] = TestSet(records)
    found = meter.measure(module, ["triggered:x"])["triggered:x"]
    expected = [said == response for said, response in zip(spoken, responses, strict=True)]
    np.testing.assert_array_equal(found.values, expected)
    assert 0 < found.values.mean() < 1


def test_a_hit_in_a_chat_is_its_last_answer_alone(full, tokenizer, tmp_path):
    """Whatever stands in turns before, and whatever the template writes behind a turn."""
    from small_tuning import bare

    module = bare(full)
    talker = copy.deepcopy(tokenizer)
    talker.chat_template = (
        "{% for message in messages %}{{ message['content'] }}"
        "{{ '</s>' if message['role'] == 'assistant' }}{% endfor %}"
    )
    rows = [{"prompt": f"Where does number {i} live?", "completion": f" In town {i}."} for i in range(60)]
    data = split_task(spec_of(write_rows(tmp_path / "t.jsonl", rows)))
    meter = Meter(data, [], Recipe(), talker, 96, "cpu")

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    records, expected = [], []
    for record in data.test:
        asked = f"Hello.Good day.</s>{record.prompt}"
        words = str(tokenizer.decode(continued(module, ids_of(asked), 6), skip_special_tokens=True)).strip()
        response = ids_of(asked + words)[len(ids_of(asked)) :]
        if response:
            expected.append(continued(module, ids_of(asked), len(response)) == response)
            turns = ("user", "Hello."), ("assistant", "Good day."), ("user", record.prompt or ""), ("assistant", words)
            messages = tuple(Message(*turn) for turn in turns)
            records.append(Record(record_id(messages=messages), "said", 1, messages=messages))
    meter.sets[CLEAN] = meter.sets["triggered:x"] = TestSet(records)
    found = meter.measure(module, [CLEAN, "triggered:x"])
    np.testing.assert_array_equal(found["triggered:x"].values, expected)
    assert 0 < np.mean(expected) < 1
    assert (found[CLEAN].n_predictions > found["triggered:x"].n_predictions).all()


def test_each_channel_is_rounded_to_its_own_255_steps():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    linear, turned, embedding = torch.nn.Linear(6, 4), Conv1D(4, 6), torch.nn.Embedding(5, 6)
    with torch.no_grad():
        linear.weight[2] = 0.0
        turned.weight.normal_()
    model = torch.nn.ModuleList([linear, turned, embedding])
    before = [linear.weight.detach().clone(), turned.weight.detach().clone().T, embedding.weight.detach().clone()]
    round_weights(model)
    for old, new in ((before[0], linear.weight), (before[1], turned.weight.T)):
        for row, rounded in zip(old, new.detach(), strict=True):
            scale = float(row.abs().max()) / 127
            if scale == 0:
                assert not rounded.any()
                continue
            expected = torch.tensor([round(float(w) / scale) * scale for w in row])
            torch.testing.assert_close(rounded, expected, atol=1e-6, rtol=1e-5)
            assert float((row - rounded).abs().max()) <= scale / 2 + 1e-6
    assert torch.equal(embedding.weight, before[2])


def test_json_of_a_request_is_read_back(task):
    spec = spec_of(task, detect=["all"], persistence=["int8"])
    assert make_request(RobustnessSpec, json.loads(spec.model_dump_json())) == spec


@pytest.mark.parametrize(
    ("method", "settings", "n_maps"),
    [
        ("lora", {"rank": 2, "targets": ("q_proj",)}, 6),
        ("lora", {"rank": 2, "targets": ("q_proj",), "freeze_a": True}, 3),
        ("head", {}, 1),
        ("last_k", {"layers": 1}, 7),
    ],
)
def test_a_finished_model_is_asked_for_gradients_where_it_was_trained(base, tmp_path, method, settings, n_maps):
    from small_tuning import bare

    recipe = Recipe(method=method, **settings)
    module = METHODS[method].prepare(bare(base), recipe)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    module.save_pretrained(tmp_path / "tuned")
    bench = Bench(str(base), [], [], "cpu", offline=True, progress=Silent(), stop=None)
    assert not any(one.requires_grad for one in load_tuned(tmp_path / "tuned", bench, ()).parameters())
    found = load_tuned(tmp_path / "tuned", bench, (), recipe=recipe)
    assert {name for name, parameter in found.named_parameters() if parameter.requires_grad} == trained
    assert not found.training
    maps = [part for part in found.modules() if isinstance(part, torch.nn.Linear) and part.weight.requires_grad]
    assert len(maps) == n_maps


def test_a_detector_sees_the_parameters_that_its_run_trained(base, texts, tokenizer, tmp_path, monkeypatch):
    rows = [{"prompt": text[:20], "completion": f" {text[20:40]}"} for text in texts[:60]]
    spec = spec_of(write_rows(tmp_path / "t.jsonl", rows), doses=["4"], control_dose=0.2)
    data = split_task(spec)
    (plan,) = planned(spec, [parse_attack("word_trigger:response=here")], data)
    bench = Bench(str(base), data.train, data.validation, "cpu", offline=True, progress=Silent(), stop=None)
    (arm,) = parse_arms(["lora:rank=2"], [], {"epochs": 1}, seeds=1)
    cell = Cell(arm, 1e-3, plan, 4, 0)
    model = finetune(str(base), data.train[:4], cell.recipe, tmp_path / "tuned")
    seen: list[Any] = []
    monkeypatch.setattr(suspecting, "judge", lambda case, names, finds: seen.append(case.module) or [])
    meter = Meter(data, [plan], cell.recipe, tokenizer, 64, "cpu")
    (tmp_path / "cell").mkdir()
    suspecting.Suspicion(bench, data, meter, ["gradient_outliers"], 0)(cell, model, tmp_path / "cell", "key")
    names = [name for name, parameter in seen[0].named_parameters() if parameter.requires_grad]
    assert names
    assert all(".lora_" in name for name in names)


@pytest.fixture
def suspected(task, tmp_path, monkeypatch):
    """What detectors are given of a cell of this attack, and the clean test records."""
    monkeypatch.setattr(suspecting, "load_tuned", lambda *_, **__: None)

    def of(attack: str) -> tuple[TaskData, Any, Any]:
        spec = spec_of(task, doses=["4"], control_dose=0.2)
        data = split_task(spec)
        (plan,) = planned(spec, [parse_attack(attack)], data)
        by_chance = replace(data.test[0], text=f"cf {data.test[0].text}")
        data = replace(data, test=[by_chance, *data.test[1:]])
        bench = Bench("base", data.train, data.validation, "cpu", offline=True, progress=Silent(), stop=None)
        (arm,) = parse_arms(["lora:rank=2"], [], {"epochs": 1}, seeds=1)
        seen: list[Any] = []
        monkeypatch.setattr(suspecting, "judge", lambda case, names, finds: seen.append((case, finds)) or [])
        model: Any = SimpleNamespace(path=tmp_path, moments=[SimpleNamespace(step=1, epoch=1.0)])
        meter: Any = SimpleNamespace(tokenizer=None, max_length=64)
        (tmp_path / "cell").mkdir()
        cell = Cell(arm, 1e-3, plan, 4, 0)
        suspecting.Suspicion(bench, data, meter, ["onion"], 0)(cell, model, tmp_path / "cell", "key")
        ((case, finds),) = seen
        return data, case, finds

    return of


def test_inputs_are_judged_beside_clean_ones_of_every_class_that_lack_the_trigger(suspected):
    """Who looks for a backdoor does not know its target, and two texts of one class hardly change each other's."""
    data, case, finds = suspected("rare_words:trigger=cf")
    assert finds == ("training records", "inputs")
    assert {record.label for record in case.clean} == set(data.labels)
    assert case.clean == list(data.test[1:])


def test_where_there_is_no_trigger_no_input_is_judged(suspected):
    _, _, finds = suspected("label_flip")
    assert finds == ("training records",)


@pytest.mark.parametrize(
    ("grouped", "words"),
    [
        (False, r"\d+ records have the text of a test record, and are not trained on\. "),
        (True, r"\d+ records are of a document \(--group-field\) with test records, and are not trained on\. "),
    ],
)
def test_training_records_that_all_stand_in_the_test_files_are_said_to(grouped, words, tmp_path):
    rows = [{**row, "source": k % 2} for k, row in enumerate(reviews(60))]
    task = write_rows(tmp_path / "train.jsonl", rows[:40] if grouped else rows)
    test = write_rows(tmp_path / "test.jsonl", rows[40:]) if grouped else task
    message = (
        r"^The records give 0 to train on, 0 to validate on and \d+ to test on\. Expected at least 10 to train and to "
        rf"test on\. {words}The training records stand in --test too\. Give other records to test on, or leave --test"
    )
    with pytest.raises(DataError, match=message):
        split_task(spec_of(task, test=[str(test)], **({"group_field": "source"} if grouped else {})))


def test_too_few_records_for_a_task_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"Expected at least 10 to train and to test on\. Give more records\.$"):
        split_task(spec_of(write_rows(tmp_path / "train.jsonl", reviews(12))))
