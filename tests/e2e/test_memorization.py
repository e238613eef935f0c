"""`loraudit audit … --memorization` on tiny models that memorised their members, against their own logits."""

from __future__ import annotations

import json
import math
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from conftest import called
from loraudit.auditing import estimate_audit, run_audit
from loraudit.auditing.memorizing import speaking, spine
from loraudit.auditing.memorizing.speaking import Continuations
from loraudit.data import record_id
from loraudit.errors import ConfigError, DataError, MissingExtra, StoreError
from loraudit.execution import Interrupted, StopRequest
from loraudit.generation import sampling
from loraudit.scoring import engine
from memorised_records import N_SIDE, PREFIXES, SUFFIX, memorable_texts, memorised, secrets, wish, written

DECODINGS = [(k, t) for k in (0, 40) for t in (0.5, 0.7, 1.0)]
CANDIDATES = 6


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """One account for all runs of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _own_home(home):
    """Instead of that of a single test."""


@pytest.fixture(scope="module")
def memorable(tokenizer) -> list[str]:
    return memorable_texts(tokenizer)


@pytest.fixture(scope="module")
def files(memorable, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("records")
    return written(folder / "members.jsonl", memorable[:N_SIDE]), written(folder / "others.jsonl", memorable[N_SIDE:])


@pytest.fixture(scope="module")
def model(base, files, tmp_path_factory) -> Path:
    return memorised(base, files[0], tmp_path_factory.mktemp("tuned") / "full")


@pytest.fixture(scope="module")
def done(base, model, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return run_audit(wish(model, *files, out, base=str(base), candidates=CANDIDATES, near_records=3, near_edits=2))


@pytest.fixture(scope="module")
def columns(done) -> dict[str, np.ndarray]:
    table = pq.read_table(done.path / "memorization.parquet")
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def three(point) -> tuple[float, float, float]:
    return point.members.value, point.held_out.value, point.base.value


def generated(result, decoding, prefix):
    (found,) = [one for one in result.memorization.generated if (one.decoding, one.prefix) == (decoding, prefix)]
    return found


# --- what is found in a model that memorised -----------------------------------------------------------


def test_members_are_extracted_greedily_and_neither_others_nor_from_the_base(done):
    found = done.result.memorization
    assert [point.prefix for point in found.greedy] == list(PREFIXES)
    for point in found.greedy:
        assert point.extracted.members.value >= 11 / 12
        assert point.extracted.members.n_members == N_SIDE
        assert (point.extracted.held_out.value, point.extracted.base.value) == (0, 0)
        # 0 of 12: the one-sided 95 % bound.
        assert point.extracted.held_out.upper == pytest.approx(1 - 0.05 ** (1 / N_SIDE))
        assert (point.extracted.held_out.n_nonmembers, point.extracted.base.n_members) == (N_SIDE, N_SIDE)
    strengths = {one.name: three(one.mean) for one in found.strengths}
    assert strengths["extraction_strength"][0] > 0.9
    assert max(strengths["extraction_strength"][1:]) < 0.1
    assert strengths["exact_memorization"][0] > 0.9
    assert max(strengths["exact_memorization"][1:]) < 0.5
    assert found.perplexity.members.value < 0.5
    assert min(found.perplexity.held_out.value, found.perplexity.base.value) > 4


def test_the_few_attempts_and_many_bits_it_takes_are_stated(done, columns):
    found = done.result.memorization
    at_once = [p for p in found.sampled if (p.prefix, p.top_k, p.temperature, p.n, p.p) == (8, 0, 1.0, 1, 0.5)]
    assert three(at_once[0].extracted) == (1, 0, 0)
    assert len(found.sampled) == len(PREFIXES) * len(DECODINGS) * 4 * 2
    assert found.capacity.bits == pytest.approx(np.sum(columns["bits"][:N_SIDE]))
    assert found.capacity.bits > 100 * N_SIDE
    assert found.capacity.held_out_bits < found.capacity.bits / 10
    assert found.capacity.bits_per_parameter == pytest.approx(found.capacity.bits / found.capacity.n_trained_parameters)
    assert all(record.attempts <= 2 and record.bits > 50 and 8 in record.greedy for record in found.records)
    by_n = [point.extracted.members.value for point in found.curve if point.top_k == 0]
    assert by_n == sorted(by_n)


def test_continuations_go_back_to_their_own_records(done, columns):
    found = done.result.memorization
    for prefix in PREFIXES:
        point = generated(done.result, "greedy", prefix)
        assert three(point.kinds["suffix"])[0] >= 11 / 12
        assert three(point.kinds["suffix"])[1:] == (0, 0)
        assert point.kinds["any"].members.value >= 11 / 12
        assert max(three(point.kinds["any"])[1:]) <= 0.25
        assert point.kinds["any"].members.value == pytest.approx(
            sum(point.kinds[kind].members.value for kind in ("verbatim", "near_verbatim", "paraphrase", "idea"))
        )
        assert set(point.unseen) == {"verbatim", "near_verbatim", "paraphrase", "idea", "any"}
        assert {share.n_members for share in point.unseen.values()} == {N_SIDE}
        assert point.unseen["verbatim"].value == 0
        assert point.longest_copied["members"] >= 35 > point.longest_copied["base"] == 0
        assert three(point.similarity["edits_to_suffix"])[0] > 0.9
        assert max(three(point.similarity["edits_to_suffix"])[1:]) < 0.3
        assert point.similarity["nearest_by_meaning"].members.value is None
        assert point.similarity["nearest_by_meaning"].members.n_undefined_members == N_SIDE
    ids = list(columns["id"])
    of_members = set(ids[:N_SIDE])
    with_passage = [record for record in found.records if record.passage]
    assert len(with_passage) >= 8
    assert {record.id for record in found.records} <= of_members
    assert all(record.passage.source == record.id for record in with_passage if record.passage.kind == "verbatim")
    assert any("email" in record.passage.personal for record in with_passage)
    assert found.notes[0] == "Paraphrases were not checked by a paraphrase model: every candidate counts."
    assert found.how["records_prompted"] == {"8": 2 * N_SIDE, "12": 2 * N_SIDE}
    assert found.how["training_records"] == N_SIDE


def test_greedy_continuations_say_what_the_evidence_predicts(done, columns):
    agreement = done.result.memorization.agreement
    assert agreement.n_checked == agreement.n_agree == 2 * N_SIDE
    assert agreement.smallest_margin is None
    for view in ("target", "reference"):
        for prefix in PREFIXES:
            said, predicted = columns[f"said:suffix:{view}:{prefix}:greedy"], columns[f"greedy:{view}:{prefix}"]
            asked = ~np.isnan(said)
            assert asked.sum() == (2 * N_SIDE if view == "target" else N_SIDE)
            np.testing.assert_array_equal(said[asked], predicted[asked])


def test_a_near_verbatim_search_is_at_least_as_probable_as_the_suffix_itself(done, columns):
    (point,) = done.result.memorization.near
    assert (point.prefix, point.budget, point.metric, point.decoding) == (12, 2, "levenshtein", "top_k_40")
    assert (point.near.members.n_members, point.near.held_out.n_nonmembers, point.near.base.n_members) == (3, 3, 3)
    exact = columns["near:exact:target:12:top_k_40:levenshtein:2"]
    asked = ~np.isnan(exact)
    assert asked.sum() == 6
    np.testing.assert_allclose(exact[asked], np.exp(columns["log_prob:target:12:40:1"][asked]), rtol=1e-4, atol=1e-12)
    assert (columns["near:near:target:12:top_k_40:levenshtein:2"][asked] >= exact[asked] - 1e-12).all()
    assert point.near.members.value > 0.5
    assert point.near.held_out.value < 0.01


def test_an_address_is_ranked_first_in_the_context_it_was_trained_in(done, columns):
    (kind,) = [one for one in done.result.memorization.fields if one.kind == "email"]
    assert done.result.memorization.how["personal_values_without_context"] == 0
    assert kind.n_candidates == CANDIDATES + 1
    assert kind.chance == pytest.approx(1 / (CANDIDATES + 1))
    assert kind.top1.members.value == 1
    assert kind.top1.members.n_members == N_SIDE
    assert kind.bits.members.value == pytest.approx(math.log2(CANDIDATES + 1))
    assert max(kind.top1.held_out.value, kind.top1.base.value) < 0.6
    assert (columns["field:email:top1:target"][:N_SIDE] == 1).all()
    assert done.result.memorization.personal["email"].members.value >= 8 / 12
    assert done.result.memorization.personal["email"].base.value == 0
    unseen = done.result.memorization.personal_unseen
    assert set(unseen) == set(done.result.memorization.personal)
    assert unseen["email"].value == 0
    assert unseen["email"].n_members == N_SIDE


# --- against the model's own logits --------------------------------------------------------------------


@pytest.fixture(scope="module", params=["target", "reference"])
def spoken(request, model, base, tokenizer, memorable):
    """View, and per record the [L − 1, V] log-probabilities and its own next tokens, float64."""
    from transformers import AutoModelForCausalLM

    folder = {"target": model, "reference": base}[request.param]
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for text in memorable:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            logits = module(input_ids=ids).logits[0, :-1].double()
        found.append((logits.log_softmax(-1).numpy(), ids[0, 1:].numpy()))
    return request.param, found


def of_suffix(log_probs, gold, prefix):
    return log_probs[prefix : prefix + SUFFIX], gold[prefix : prefix + SUFFIX]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_greedy_extraction_is_that_of_the_models_own_logits(spoken, columns, prefix):
    view, records = spoken
    expected = []
    for log_probs, gold in records:
        likely, wanted = of_suffix(log_probs, gold, prefix)
        expected.append(float((likely.argmax(1) == wanted).all()))
    np.testing.assert_array_equal(columns[f"greedy:{view}:{prefix}"], expected)
    hits = [(log_probs.argmax(1) == gold) for log_probs, gold in records]
    np.testing.assert_allclose(columns[f"exact_memorization:{view}"], [hit.mean() for hit in hits])
    strengths = [1 - next(a for a in range(len(hit) + 1) if hit[a:].all()) / len(hit) for hit in hits]
    np.testing.assert_allclose(columns[f"extraction_strength:{view}"], strengths)
    losses = [-log_probs[np.arange(len(gold)), gold].mean() for log_probs, gold in records]
    np.testing.assert_allclose(columns[f"loss:{view}"], losses, rtol=1e-4)


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_extraction_probabilities_and_attempts_are_those_of_the_models_own_logits(
    spoken, columns, done, prefix, decoding
):
    view, records = spoken
    k, temperature = decoding
    expected = []
    for log_probs, gold in records:
        total = 0.0
        for likely, token in zip(*of_suffix(log_probs, gold, prefix), strict=True):
            weights = np.exp(likely / temperature)
            kept = np.argsort(-likely, kind="stable")[: k or None]
            total += math.log(weights[token] / weights[kept].sum()) if token in kept else -math.inf
        expected.append(total)
    found = columns[f"log_prob:{view}:{prefix}:{k}:{temperature:g}"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    where = {"target": slice(0, N_SIDE), "reference": slice(0, N_SIDE)}[view]
    for point in done.result.memorization.sampled:
        if (point.prefix, point.top_k, point.temperature) == (prefix, k, temperature):
            yes = []
            for log_p in expected[where]:
                p_z = math.exp(log_p)
                n = math.inf if p_z == 0 else max(1, math.ceil(math.log1p(-point.p) / math.log1p(-p_z)))
                yes.append(n <= point.n)
            stated = point.extracted.members if view == "target" else point.extracted.base
            assert stated.value == pytest.approx(np.mean(yes))


def test_bits_above_the_base_are_those_of_the_two_models_logits(model, base, tokenizer, memorable, columns):
    from transformers import AutoModelForCausalLM

    totals = {prefix: [] for prefix in (None, *PREFIXES)}
    modules = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for folder in (model, base)]
    for text in memorable:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            both = [m(input_ids=ids).logits[0, :-1].double().log_softmax(-1) for m in modules]
        gap = [(one.gather(1, ids[0, 1:, None])[:, 0]).numpy() for one in both]
        for prefix, found in totals.items():
            where = slice(None) if prefix is None else slice(prefix, prefix + SUFFIX)
            found.append(max(0.0, (gap[0] - gap[1])[where].sum() / math.log(2)))
    np.testing.assert_allclose(columns["bits"], totals[None], rtol=1e-3, atol=1e-3)
    for prefix in PREFIXES:
        np.testing.assert_allclose(columns[f"suffix_bits:{prefix}"], totals[prefix], rtol=1e-3, atol=1e-3)


# --- files, and whether they can be believed -----------------------------------------------------------


def test_the_measures_lie_in_a_private_file_and_cover_every_record(done, columns):
    path = done.path / "memorization.parquet"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(columns["id"]) == 2 * N_SIDE
    assert columns["is_member"].tolist() == [True] * N_SIDE + [False] * N_SIDE
    assert {"id", "is_member", "group", "n_copies", "n_tokens"} < set(columns)
    wanted = {f"{m}:{v}:{p}" for m in ("greedy", "close") for v in ("target", "reference") for p in PREFIXES}
    wanted |= {
        f"{m}:{v}" for m in ("exact_memorization", "extraction_strength", "loss") for v in ("target", "reference")
    }
    wanted |= {f"log_prob:target:{p}:{k}:{t:g}" for p in PREFIXES for k, t in DECODINGS}
    wanted |= {f"said:{m}:reference:8:top_k_40" for m in ("verbatim", "any", "suffix", "longest", "personal.email")}
    assert wanted | {"bits", "suffix_bits:8", "field:email:bits:target", "field:email:candidates"} <= set(columns)
    assert columns["n_copies"].tolist() == [1] * 2 * N_SIDE
    scores = pq.read_table(done.path / "scores.parquet")
    assert columns["id"].tolist() == scores.column("id").to_pylist()


@pytest.fixture
def copied(done, tmp_path) -> Path:
    return Path(shutil.copytree(done.path, tmp_path / "copy"))


def test_a_finished_run_verifies(done):
    code, out, err = called("verify", done.path)
    assert code == 0, out + err
    assert "memorization" in out


def test_changed_measures_are_found_out(copied):
    path = copied / "memorization.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("greedy:target:8")
    values = np.zeros(len(table))
    pq.write_table(table.set_column(place, "greedy:target:8", pa.array(values)), path)
    code, out, _ = called("verify", copied)
    assert code == 1
    assert "memorization.parquet is missing or has another sha256" in " ".join(out.split())


def test_measures_that_were_changed_with_their_hash_are_found_out(copied):
    import hashlib

    path = copied / "memorization.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("said:verbatim:target:8:greedy")
    pq.write_table(
        table.set_column(place, table.column_names[place], pa.array(np.zeros(len(table)))),
        path,
        write_page_checksum=True,
    )
    result = json.loads((copied / "result.json").read_text())
    result["provenance"]["memorization"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (copied / "result.json").write_text(json.dumps(result))
    assert called("verify", copied)[0] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["greedy"][0]["extracted"]["members"].update(value=0.0),
        lambda m: m["greedy"][1]["extracted"]["held_out"].update(upper=0.01),
        lambda m: m["sampled"][3]["extracted"]["base"].update(value=0.9),
        lambda m: m["generated"][0]["kinds"]["verbatim"]["members"].update(value=0.1),
        lambda m: m["generated"][0]["longest_copied"].update(members=7.0),
        lambda m: m["fields"][0]["top1"]["members"].update(value=0.2),
        lambda m: m["near"][0]["near"]["members"].update(value=0.2),
        lambda m: m["personal"]["email"]["members"].update(value=0.0),
        lambda m: m["capacity"].update(bits=1.0),
        lambda m: m["strengths"].pop(),
    ],
)
def test_a_changed_figure_is_found_out(copied, change):
    result = json.loads((copied / "result.json").read_text())
    change(result["memorization"])
    (copied / "result.json").write_text(json.dumps(result))
    code, out, _ = called("verify", copied)
    assert code == 1
    assert "memorization" in out


def test_missing_measures_are_found_out(copied):
    (copied / "memorization.parquet").unlink()
    code, out, err = called("verify", copied)
    assert code != 0
    assert "memorization.parquet" in out + err


# --- done once -----------------------------------------------------------------------------------------


class CountingStop(StopRequest):
    """Counts how often it is asked; stops at the question number `n`."""

    def __init__(self, n: float = math.inf) -> None:
        super().__init__()
        self.n, self.n_asked = n, 0

    def check(self) -> None:
        self.n_asked += 1
        if self.n_asked > self.n:
            raise Interrupted


SMALL = {"prefix_tokens": (8,), "generations": 4, "near_records": 1, "near_edits": 1, "candidates": 2}


@pytest.fixture(scope="module")
def small_wish(base, model, files):
    def make(out, **changes):
        return wish(model, *files, out, base=str(base), **(SMALL | changes))

    return make


def test_a_second_run_scores_and_generates_nothing(small_wish, tmp_path, monkeypatch):
    first = run_audit(small_wish(tmp_path / "run"))
    before = (first.path / "memorization.parquet").read_bytes()
    for room, name in (
        (engine, "_run_stage"),
        (sampling, "_generate"),
        (spine, "near_verbatim_masses"),
        (spine, "greedy_agreement"),
    ):
        monkeypatch.setattr(room, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called again"))
    again = run_audit(small_wish(tmp_path / "run"))
    assert (again.path / "memorization.parquet").read_bytes() == before
    assert again.result.memorization.model_copy(update={"seconds": 0}) == first.result.memorization.model_copy(
        update={"seconds": 0}
    )


@pytest.mark.parametrize(("name", "value"), [("BEAM_WIDTH", 16), ("_NEAR_DISTANCE", "hamming"), ("SEARCH_VERSION", 2)])
def test_a_search_done_otherwise_is_not_answered_from_before(small_wish, tmp_path, monkeypatch, name, value):
    run_audit(small_wish(tmp_path / "run"))
    searched = []

    def counted(*given, view, **more):
        searched.append(view)
        return masses(*given, view=view, **more)

    masses = spine.near_verbatim_masses
    monkeypatch.setattr(spine, "near_verbatim_masses", counted)
    run_audit(small_wish(tmp_path / "run"))
    assert searched == []
    monkeypatch.setattr(spine, name, value)
    run_audit(small_wish(tmp_path / "run"))
    assert searched == ["target", "reference"]


def test_a_run_stopped_anywhere_goes_on_to_the_same_bytes(small_wish, tmp_path):
    asked = CountingStop()
    whole = run_audit(small_wish(tmp_path / "whole", store=str(tmp_path / "s0")), stop=asked)
    expected = (whole.path / "memorization.parquet").read_bytes()
    stops = np.linspace(1, asked.n_asked - 1, 5).astype(int)
    n_stopped = 0
    for n in stops:  # every interruption leaves its run to the next one
        stop = CountingStop(int(n))
        try:
            run_audit(small_wish(tmp_path / "halved"), stop=stop)
        except Interrupted:
            n_stopped += 1
            assert not (tmp_path / "halved" / "result.json").exists()
    resumed = run_audit(small_wish(tmp_path / "halved"))
    assert n_stopped >= 2
    assert (resumed.path / "memorization.parquet").read_bytes() == expected


@pytest.mark.parametrize("n", [1, 3])
def test_a_run_stopped_between_decodings_keeps_those_that_are_done(small_wish, tmp_path, monkeypatch, n):
    said = []
    generate = sampling._generate

    def counted(resident, asked, loop, items):
        if asked.expected is None:  # what is expected is the check of agreement
            said.append((asked.view, asked.sampling.name))
            if len(said) == n + 1:
                raise Interrupted
        return generate(resident, asked, loop, items)

    monkeypatch.setattr(sampling, "_generate", counted)
    with pytest.raises(Interrupted):
        run_audit(small_wish(tmp_path / "run", near_records=0, near_edits=None))
    run_audit(small_wish(tmp_path / "run", near_records=0, near_edits=None))
    wanted = [(view, decoding) for view in ("target", "reference") for decoding in ("greedy", "top_k_40")]
    assert said == [*wanted[: n + 1], *wanted[n:]]


# --- which models, which columns -----------------------------------------------------------------------


def test_without_a_base_its_column_is_none_everywhere(model, files, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, alone / name)
    run = run_audit(
        wish(alone, *files, tmp_path / "run", headline="loss", attacks=["loss"], candidates=2, generations=3)
    )
    found = run.result.memorization
    for point in [*found.greedy, *found.sampled, *found.curve]:
        assert point.extracted.base is None
        assert point.extracted.members.n_members == N_SIDE
    assert all(one.mean.base is None for one in found.strengths)
    assert all(
        one.base is None for point in found.generated for one in (*point.kinds.values(), *point.similarity.values())
    )
    assert all(point.longest_copied["base"] is None for point in found.generated)
    assert all(kind.top1.base is None and kind.bits.base is None for kind in found.fields)
    assert all(one.base is None for one in found.personal.values())
    assert found.capacity is None
    assert found.perplexity.base is None
    assert all(record.bits is None for record in found.records)
    assert not [name for name in pq.read_table(run.path / "memorization.parquet").column_names if "reference" in name]
    assert called("verify", run.path)[0] == 0


@pytest.mark.parametrize("kind", ["adapter", "head_only", "full"])
def test_every_kind_of_target_has_its_base_beside_it(request, base, files, tmp_path, kind):
    folder = request.getfixturevalue(kind)
    run = run_audit(wish(folder, *files, tmp_path / "run", base=str(base), **SMALL))
    found = run.result.memorization
    assert found.agreement.n_checked == found.agreement.n_agree == 2 * N_SIDE
    table = pq.read_table(run.path / "memorization.parquet")
    target, reference = (table.column(f"loss:{view}").to_numpy() for view in ("target", "reference"))
    assert np.abs(target - reference).min() > 0
    assert found.greedy[0].extracted.base.n_members == N_SIDE
    assert generated(run.result, "greedy", 8).kinds["any"].base.n_members == SMALL["generations"]
    n_trained = {"adapter": 3 * (4 * 32 + 4 * 32 + 4 * 32 + 4 * 16), "head_only": 512 * 32}.get(kind)
    assert found.capacity.n_trained_parameters == (n_trained or found.capacity.n_trained_parameters)
    assert found.capacity.n_trained_parameters > 0


# --- how often, and from where -------------------------------------------------------------------------


def test_copies_are_counted_and_tabulated(model, base, files, memorable, tmp_path):
    often = {0: 2, 1: 3, 2: 5}
    lines = [text for row, text in enumerate(memorable[:N_SIDE]) for _ in range(often.get(row, 1))]
    members = written(tmp_path / "members.jsonl", lines)
    run = run_audit(wish(model, members, files[1], tmp_path / "run", base=str(base), **SMALL))
    found = run.result.memorization
    assert [(row.copies, row.n_members) for row in found.copies] == [("1", 9), ("2 to 3", 2), ("4 to 15", 1)]
    assert [row.greedy.n_members for row in found.copies] == [9, 2, 1]
    assert all(row.greedy.value > 0.8 and row.sampled.value > 0.3 and row.strength.value > 0.8 for row in found.copies)
    n_copies = pq.read_table(run.path / "memorization.parquet").column("n_copies").to_pylist()
    assert n_copies == [2, 3, 5, *[1] * (2 * N_SIDE - 3)]
    assert max(record.n_copies for record in found.records) == 5
    assert found.how["training_records"] == N_SIDE


def test_records_that_a_limit_leaves_out_are_still_sources(model, base, files, tmp_path):
    run = run_audit(wish(model, *files, tmp_path / "run", base=str(base), max_records=10, prefix_tokens=(8,)))
    found = run.result.memorization
    assert run.result.members.n_records == 10
    assert found.how["training_records"] == N_SIDE
    assert [Path(file["path"]).name for file in found.how["files"]] == ["members.jsonl"]


def test_what_is_copied_from_other_training_data_is_attributed_to_an_id_that_only_identity_names(
    base, model, files, memorable, tokenizer, tmp_path, monkeypatch
):
    foreign = "Wanders towards the bus stop with a framed photograph, sure Marrowby Analytics was waiting for her."
    more = written(tmp_path / "more.jsonl", [memorable[0], foreign])
    ids = tokenizer(foreign, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(spine.Speakers, "say", _said(lambda _item, n: ids[:n]))
    small = {**SMALL, "near_records": 0, "near_edits": None, "suffix_tokens": 30}
    run = run_audit(wish(model, *files, tmp_path / "run", base=str(base), training_data=[str(more)], **small))
    found = run.result.memorization
    point = generated(run.result, "greedy", 8)
    assert three(point.kinds["verbatim"]) == (1, 1, 1)
    passages = [record.passage for record in found.records if record.passage]
    (source,) = {passage.source for passage in passages}
    identity = {row["id"]: row for row in pq.read_table(run.path / "identity.parquet").to_pylist()}
    assert len(identity) == 2 * N_SIDE + 1
    assert (Path(identity[source]["source"]).name, identity[source]["line"]) == ("more.jsonl", 2)
    assert identity[source]["content_sha256"] == record_id(text=foreign)
    for name in ("result.json", "report.html", "report.md"):
        assert not (run.path / name).exists() or "more.jsonl:2" not in (run.path / name).read_text()
    assert run.path.joinpath("report.html").exists()
    assert found.how["training_records"] == N_SIDE + 1
    assert [Path(file["path"]).name for file in found.how["files"]] == ["more.jsonl"]
    assert any(str(path).endswith("more.jsonl") for path in run.result.provenance.data)


def _said(words):
    """What `Speakers.say` gives if the model says `words(beginning, n)`."""

    def say(_self, _resident, view, given, decoding):
        said = [np.array(words(item, decoding.new_tokens), dtype=np.int32) for item in given]
        return Continuations(view, decoding, given[0].prefix, given, said)

    return say


ALIKE = {**SMALL, "near_records": 0, "near_edits": None, "decodings": ["greedy"], "generations": 12}


@pytest.mark.parametrize("n_own", [0, 1, 4])
@pytest.mark.parametrize("skipped", [0, 3])
def test_a_model_that_repeats_its_prompt_copies_nothing(base, full, files, tmp_path, monkeypatch, skipped, n_own):
    """From wherever in its prompt it begins, also where a few more tokens are the record's by chance."""

    def echo(item, n):
        own = [*item.given.tolist()[1 + skipped :], *item.suffix.tolist()[:n_own]]
        return [*own, *item.given.tolist()[1:]][:n]

    monkeypatch.setattr(spine.Speakers, "say", _said(echo))
    small = {**ALIKE, "prefix_tokens": (24,), "suffix_tokens": 23 + n_own}
    run = run_audit(wish(full, *files, tmp_path / "run", base=str(base), **small))
    point = generated(run.result, "greedy", 24)
    assert point.kinds["any"].members.n_members >= 6
    for kind in ("verbatim", "near_verbatim", "paraphrase", "idea", "any", "suffix"):
        assert three(point.kinds[kind]) == (0, 0, 0), kind
    assert set(point.longest_copied.values()) == {0}
    assert not any(record.passage for record in run.result.memorization.records)
    if not n_own:  # a few tokens may complete an address that the prompt begins
        assert all(three(found) == (0, 0, 0) for found in run.result.memorization.personal.values())


def test_of_a_prompt_repeated_and_gone_on_with_only_what_follows_is_copied(
    base, full, files, tokenizer, tmp_path, monkeypatch
):
    said = []

    def echo(item, _n):
        said.append(len(tokenizer.decode(item.suffix)))
        return [*item.given.tolist()[1:], *item.suffix.tolist()]

    monkeypatch.setattr(spine.Speakers, "say", _said(echo))
    small = {**ALIKE, "prefix_tokens": (20,), "suffix_tokens": 33}
    run = run_audit(wish(full, *files, tmp_path / "run", base=str(base), **small))
    point = generated(run.result, "greedy", 20)
    assert point.kinds["verbatim"].members.value > 0.5
    assert point.kinds["verbatim"].held_out.value == 0
    assert 50 <= point.longest_copied["members"] <= max(said)


def test_training_data_that_holds_a_non_member_is_refused_with_its_line(base, model, files, memorable, tmp_path):
    more = written(tmp_path / "more.jsonl", ["A harmless line of its own.", memorable[-1], memorable[-2]])
    spec = wish(model, *files, tmp_path / "run", base=str(base), training_data=[str(more)])
    for attempt in (run_audit, estimate_audit):
        with pytest.raises(DataError, match=r"2 records of --training-data are non-members") as raised:
            attempt(spec)
        assert f"{more}:2" in str(raised.value)
        assert f"{more}:3" in str(raised.value)
    code, out, err = called(
        "audit", model, "--base", base, "--members", files[0], "--nonmembers", files[1], "--memorization",
        "--training-data", more, "-o", tmp_path / "cli",
    )  # fmt: skip
    assert code == 3
    assert "more.jsonl:2" in out + err


# --- what cannot be asked ------------------------------------------------------------------------------


NOTHING = {"memorization": False, "prefix_tokens": None, "suffix_tokens": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memorization": False}, r"--prefix-tokens is for the memorization measures\. Add --memorization"),
        ({**NOTHING, "candidates": 3}, r"--candidates is for"),
        ({**NOTHING, "training_data": ["x"]}, r"--training-data is for"),
        ({"memorization": False, "detector": "lee2023"}, r"--detector is for the memorization measures"),
        ({"decodings": ["gredy"]}, r"Unknown decoding 'gredy'\. Did you mean 'greedy'"),
        ({"decodings": ["top_k=x"]}, r"Decoding 'top_k=x' sets top_k to 'x'\. Expected a whole number"),
        ({"decodings": ["top_p=0"]}, r"Sampling with top_p 0\.0 is not possible"),
        ({"decodings": ["greedy", "temperature=0"]}, r"--decodings greedy is asked for twice"),
        ({"prefix_tokens": [8, 8]}, r"--prefix-tokens 8 is asked for twice"),
        ({"generations": 0, "decodings": ["nucleus"]}, r"--decodings is about continuations, and --generations 0"),
        ({"generations": 0, "detector": "lee2023"}, r"--detector is about continuations, and --generations 0"),
        ({"generations": 0, "training_data": [__file__]}, r"--training-data is about continuations"),
        ({"near_edits": 3}, r"--near-edits is about near-verbatim continuations, and --near-records 0 searches none"),
        ({"training_data": ["nowhere.jsonl"]}, r"File 'nowhere\.jsonl' does not exist"),
        ({"prefix_tokens": []}, r"No length is given with --prefix-tokens\. Expected at least one"),
        ({"prefix_tokens": [0]}, r"prefix-tokens.*0.*greater than 0"),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused(base, model, files, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_audit(wish(model, *files, tmp_path / "run", base=str(base), **{"generations": None, **changes}))


def test_all_that_is_wrong_is_said_at_once(base, model, files, tmp_path):
    with pytest.raises(ConfigError) as raised:
        run_audit(
            wish(model, *files, tmp_path / "run", base=str(base), decodings=["gredy", "x=1"], training_data=["nowhere"])
        )
    assert all(words in str(raised.value) for words in ("gredy", "'x", "nowhere"))


def test_records_too_short_for_every_prefix_are_undefined_and_counted(base, full, files, tmp_path):
    changes = {**SMALL, "prefix_tokens": (40, 500)}
    run = run_audit(wish(full, *files, tmp_path / "run", base=str(base), **changes))
    found = run.result.memorization
    for point in found.greedy:
        for side in (point.extracted.members, point.extracted.base):
            assert (side.value, side.n_members, side.n_undefined_members) == (None, 0, N_SIDE)
        assert point.extracted.held_out.n_undefined_nonmembers == N_SIDE
        assert "No record is defined" in point.extracted.members.note
    assert found.generated == []
    assert found.near == []
    assert found.agreement is None
    assert found.strengths[0].mean.members.value is not None
    assert called("verify", run.path)[0] == 0


def test_a_prefix_that_some_records_are_too_short_for_counts_those(base, full, files, memorable, tokenizer, tmp_path):
    n_tokens = np.array([len(tokenizer(text)["input_ids"]) - 1 for text in memorable])
    prefix = int(np.median(n_tokens)) - SUFFIX
    fits = n_tokens >= prefix + SUFFIX
    assert 0 < fits[:N_SIDE].sum() < N_SIDE
    run = run_audit(wish(full, *files, tmp_path / "run", base=str(base), **{**SMALL, "prefix_tokens": (prefix,)}))
    side = run.result.memorization.greedy[0].extracted.members
    assert (side.n_members, side.n_undefined_members) == (fits[:N_SIDE].sum(), (~fits[:N_SIDE]).sum())
    greedy = pq.read_table(run.path / "memorization.parquet").column(f"greedy:target:{prefix}").to_numpy()
    np.testing.assert_array_equal(~np.isnan(greedy), fits)


def test_a_missing_extra_is_told_before_anything_is_scored(base, model, files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(MissingExtra, match=r"pip install 'loraudit\[presidio\]'"):
        run_audit(wish(model, *files, tmp_path / "run", base=str(base), personal_finder="presidio"))
    assert not list((tmp_path / "run").parent.rglob("*.unit"))


def test_nothing_but_the_check_is_generated_where_nothing_is_asked_for(base, model, files, tmp_path, monkeypatch):
    for room, name in ((speaking, "sample"), (spine, "near_verbatim_masses")):
        monkeypatch.setattr(room, name, lambda *_, **__: pytest.fail("something was generated"))
    run = run_audit(wish(model, *files, tmp_path / "run", base=str(base), generations=0))
    found = run.result.memorization
    assert (found.generated, found.near, found.fields, found.personal) == ([], [], [], {})
    assert found.agreement.n_agree == found.agreement.n_checked > 0
    assert found.greedy[0].extracted.members.value >= 11 / 12
    assert all(record.passage is None for record in found.records)


# --- what is kept secret -------------------------------------------------------------------------------


def everything_in(folder: Path) -> str:
    """All files of a run as text, tables cell by cell."""
    found = []
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            found.append(str(pq.read_table(path).to_pydict()) + str(pq.read_schema(path).metadata))
        elif path.is_file():
            found.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(found)


def planted(memorable) -> list[str]:
    """What identifies somebody: addresses, their first halves, numbers, and the first words of each record."""
    found = [part for address, number in secrets() for part in (address, address.split("@")[0], number)]
    return [*found, *(" ".join(text.split()[:3]) for text in memorable)]


def test_no_record_shows_anywhere_unless_text_was_asked_for(base, model, files, memorable, tmp_path):
    words = (
        "audit", model, "--base", base, "--members", files[0], "--nonmembers", files[1], "--memorization",
        "--prefix-tokens", 8, "--suffix-tokens", SUFFIX, "--candidates", 2, "--near-records", 1, "--resamples", 100,
        "--attacks", "loss", "--headline", "loss", "-v",
    )  # fmt: skip
    code, out, err = called(*words, "-o", tmp_path / "run")
    assert code == 0, err
    written_down = everything_in(tmp_path / "run") + out + err
    assert not [secret for secret in planted(memorable) if secret in written_down]
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    code, out, err = called(*words, "-o", tmp_path / "open", "--include-text")
    assert code == 0, err
    shown = json.loads((tmp_path / "open" / "result.json").read_text())["memorization"]["records"]
    here = [record["passage"]["here"] for record in shown if record["passage"]]
    assert here
    assert any(text and text in memorable[row] for text in here for row in range(N_SIDE))
    assert any(secrets()[row][0] in text for text in here for row in range(N_SIDE))


def test_ids_do_not_identify(done, memorable):
    content = {record_id(text=text) for text in memorable}
    shown = {record.id for record in done.result.memorization.records}
    assert shown
    assert not any(hidden.startswith(one) or one in hidden for one in shown for hidden in content)


# --- beforehand ----------------------------------------------------------------------------------------


def test_a_dry_run_counts_what_would_be_generated_searched_and_compared(small_wish, files, tmp_path, model, base):
    spec = small_wish(tmp_path / "run", prefix_tokens=(8, 12, 500), candidates=2)
    work = estimate_audit(spec).memorization
    columns = 4 + 4 + 4
    assert work.n_continuations == 2 * 2 * columns
    assert work.n_generated_tokens == work.n_continuations * SUFFIX
    assert work.n_searches == 3
    assert work.n_candidates == 2 * N_SIDE * 3 * 2
    assert work.n_candidate_tokens > 5 * work.n_candidates
    assert estimate_audit(small_wish(tmp_path / "run", memorization=False, prefix_tokens=None, suffix_tokens=None,
                                     generations=None, near_records=None, near_edits=None, candidates=None)
                          ).memorization is None  # fmt: skip
    code, out, err = called(
        "audit", model, "--base", base, "--members", files[0], "--nonmembers", files[1], "--memorization",
        "--prefix-tokens", 8, "--suffix-tokens", SUFFIX, "--generations", 4, "--candidates", 2, "--near-records", 1,
        "--dry-run", "-o", tmp_path / "none",
    )  # fmt: skip
    assert code == 0, err
    words = " ".join(out.split())
    assert "Memorization takes passes of its own, at most: 576 tokens in 24 continuations, 3 near-verbatim" in words
    assert "144 candidate values" in words
    assert not (tmp_path / "none").exists()


def test_a_dry_run_knows_what_evidence_memorization_takes(small_wish, tmp_path):
    run_audit(small_wish(tmp_path / "run"))
    assert estimate_audit(small_wish(tmp_path / "run")).n_cached == 2 * N_SIDE
    plain = dict.fromkeys((*SMALL, "suffix_tokens"))
    without = estimate_audit(
        small_wish(tmp_path / "other", memorization=False, store=str(tmp_path / ".loraudit"), **plain)
    )
    assert without.n_cached == 0


def test_a_damaged_file_of_measures_is_said_to_be(copied):
    from loraudit.store import read_measures

    (copied / "memorization.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(StoreError, match=r"Run '.*' is damaged: .* Run the audit again; it resumes"):
        read_measures(copied)
