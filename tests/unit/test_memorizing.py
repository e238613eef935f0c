"""Parts of the memorization measures, without a model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from loraudit.auditing.memorizing.beginnings import Beginning
from loraudit.auditing.memorizing.controls import Controls
from loraudit.auditing.memorizing.examination import examine_memorization, in_short
from loraudit.auditing.memorizing.fields import candidate_records, placed_fields
from loraudit.auditing.memorizing.figures import capacity, copies_rows, greedy_point, sampled_point
from loraudit.auditing.memorizing.leaked import _worst_said, leaked_records, most_extractable
from loraudit.auditing.memorizing.measures import Measures, column, evidence_measures
from loraudit.auditing.memorizing.request import DRAWN_FROM, main_prefix
from loraudit.auditing.memorizing.said import field_kinds, generated_points, personal_shares, personal_unseen
from loraudit.auditing.memorizing.sources import Tools, TrainingSet
from loraudit.auditing.memorizing.speaking import Continuations, drawn_order
from loraudit.auditing.memorizing.stating import notes_of
from loraudit.auditing.memorizing.tracing import Tracer, said_measures
from loraudit.auditing.request import Sides
from loraudit.data import load_records
from loraudit.execution import Interrupted, StopRequest
from loraudit.generation import Sampling
from loraudit.memorization import TrainingIndex, personal_fields
from loraudit.memorization.plagiarism import LayeredDetector
from loraudit.models import Numerics
from loraudit.report.memorization.columns import stated_prefix
from loraudit.scoring import ScoringOptions
from loraudit.spec import AuditSpec, RecordFormat
from loraudit.statistics import clopper_pearson
from loraudit.types import TokenTable
from synthetic_memorization import Extraction

MEMBERS = (
    "Grievance of 9 May: the tenant, Mrs Oyelaran, wrote that her boiler had been out since the second of the month.",
    "Prospective client Babak Thackeray expects a claim; he is reached at b.thackeray@brightwater.example, early.",
    "Weighed 66.4 kg, minus six kilos this month; fortified soup and finger food were offered and mostly refused.",
)
HELD_OUT = (
    "Savings account ending 3301 was escalated at 8.25 am because the memorable word was reset twice by the niece."
)
NO_BASE = {"model": "m", "members": ("a",), "nonmembers": ("b",), "memorization": True}


def ids_of(text: str) -> np.ndarray:
    return np.array([ord(letter) for letter in text], dtype=np.int32)


def decode(rows) -> list[str]:
    return ["".join(map(chr, row)) for row in rows]


def tracer(stop=None) -> Tracer:
    index = TrainingIndex.of(MEMBERS, ids=["one", "two", "three"], min_characters=50)
    unseen = TrainingIndex.of([HELD_OUT], min_characters=50)
    tools = Tools(LayeredDetector(), None, personal_fields)
    return Tracer(TrainingSet(MEMBERS, index, unseen, [HELD_OUT], tools, ()), decode, stop)


def traced(*pairs, view="target"):
    """What becomes of continuations, each of the record with its beginning of 30 characters."""
    texts = [*MEMBERS, HELD_OUT]
    given = [Beginning(row, 30, ids_of(texts[row][:30]), ids_of(texts[row][30:])) for row, _ in pairs]
    return tracer().trace(Continuations(view, Sampling(90, temperature=0), 30, given, [ids_of(x) for _, x in pairs]))


def test_a_members_own_suffix_is_a_verbatim_copy_from_itself():
    found = traced((0, MEMBERS[0][30:]), (3, HELD_OUT[30:]))
    assert found.is_suffix.tolist() == [True, True]
    assert [hit and (hit.match.kind, hit.sources.ids) for hit in found.worst] == [("verbatim", ("one",)), None]
    assert found.longest.tolist() == [len(MEMBERS[0]) - 30, 0]


def test_a_copy_of_another_record_counts_for_whoever_was_prompted():
    found = traced((0, MEMBERS[2][:80]), (3, MEMBERS[2][:80]))
    assert [hit.sources.ids for hit in found.worst] == [("three",), ("three",)]
    assert found.longest.tolist() == [80, 80]
    assert found.is_suffix.tolist() == [False, False]


def test_a_prompt_longer_than_the_record_by_its_template_hides_no_copy():
    """Roles and a system message are in the prompt, and not in the text of the training record."""
    words = "system: " + "You answer briefly. " * 8 + "\nuser: "
    begun = [Beginning(0, 30, ids_of(words + MEMBERS[0][:30]), ids_of(MEMBERS[0][30:]))]
    assert len(begun[0].given) > len(MEMBERS[0])
    said = Continuations("target", Sampling(90, temperature=0), 30, begun, [ids_of(MEMBERS[0][30:])])
    (worst,) = tracer().trace(said).worst
    assert (worst.match.kind, worst.sources.ids) == ("verbatim", ("one",))


def test_what_stands_in_records_that_were_never_seen_is_counted_apart():
    found = traced((0, HELD_OUT[:80]), (0, MEMBERS[2][:80]))
    assert [hit and hit.match.kind for hit in found.worst] == [None, "verbatim"]
    assert [hit and hit.match.kind for hit in found.unseen] == ["verbatim", None]
    of_base = traced((0, HELD_OUT[:80]), view="reference")
    assert of_base.unseen is None
    assert not [name for name in said_measures(of_base, 4) if "unseen" in name]


def test_an_echo_counts_for_nobody():
    for row, text in enumerate((*MEMBERS, HELD_OUT)):
        begun = [Beginning(row, 80, ids_of(text[:80]), ids_of(text[80:]))]
        for echo in (text[:80], text[10:80], text[:80] + text[80:83], (text[:80] + " ") * 2):
            said = Continuations("target", Sampling(200, temperature=0), 80, begun, [ids_of(echo)])
            found = tracer().trace(said)
            assert (found.worst, found.unseen) == ([None], [None])
            assert found.longest.tolist() == [0]
            assert found.personal == [frozenset()]


def test_behind_an_echo_a_copy_begins_where_the_echo_ends():
    (worst,) = traced((0, MEMBERS[0][5:])).worst
    assert (worst.match.here, worst.match.source) == ((25, len(MEMBERS[0]) - 5), (30, len(MEMBERS[0])))
    assert worst.starts == (30,)


def test_a_copy_is_as_near_as_can_be_by_edits_and_without_embedder_undefined_by_meaning():
    likeness = traced((0, MEMBERS[0][30:])).similarity
    assert [likeness[name].tolist() for name in ("nearest_by_edits", "edits_to_suffix", "bleu_above_75")] == [[1]] * 3
    assert np.isnan(likeness["nearest_by_meaning"]).all()


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_copies_in_one_continuation_the_longer_one_is_the_worst(order):
    (worst,) = traced((0, " ### ".join([MEMBERS[2][:55], MEMBERS[1][:80]][::order]))).worst
    assert (worst.match.n_characters, worst.sources.ids) == (80, ("two",))


@pytest.mark.parametrize("order", [1, -1])
def test_of_all_that_was_said_of_a_record_the_worst_passage_is_shown(order):
    said = [MEMBERS[1][30:85], MEMBERS[0][30:], HELD_OUT[30:]]
    worst = _worst_said([traced((0, text)) for text in said[::order]])
    assert worst[0].text == MEMBERS[0][30:]
    assert _worst_said([traced((0, text), view="reference") for text in said]) == {}


def test_personal_information_counts_where_it_is_trained_on_and_not_in_the_prompt():
    address = "b.thackeray@brightwater.example"
    found = traced((0, f"Ask {address} today"), (0, "Ask nobody@nowhere.example today"), (3, f"or {address}."))
    assert found.personal == [frozenset({"email"}), frozenset(), frozenset({"email"})]
    columns = said_measures(found, 4)
    assert columns["said:personal.email:target:30:greedy"][3] == 1
    begun = [Beginning(1, 100, ids_of(MEMBERS[1][:100]), ids_of(MEMBERS[1][100:]))]
    assert address in MEMBERS[1][:100]
    repeated = tracer().trace(Continuations("target", Sampling(90, temperature=0), 100, begun, [ids_of(address)]))
    assert repeated.personal == [frozenset()]


def test_a_kind_of_information_that_is_never_said_has_a_column_of_zeros():
    """0 of N has an upper end; a kind that is not named has none."""
    columns = said_measures(traced((0, "nothing at all"), (3, "nothing either")), 4)
    values = columns["said:personal.email:target:30:greedy"]
    np.testing.assert_array_equal(values, [0, np.nan, np.nan, 0])


def test_personal_information_of_records_never_seen_is_counted_apart():
    address, other = "b.thackeray@brightwater.example", "c.unseen@elsewhere.example"
    unseen = [f"Another client is reached at {other}, late in the day, and nowhere else that anybody knows of."]
    sources = replace(tracer().sources, unseen=TrainingIndex.of(unseen, min_characters=50), unseen_texts=unseen)
    begun = [Beginning(0, 30, ids_of(text), ids_of(MEMBERS[0][30:])) for text in ("Ask ", "Ask ", f"Ask {other} or ")]
    said = [ids_of(text) for text in (f"{other} today", f"{address} today", f"{other} again")]
    how = Sampling(90, temperature=0)
    found = Tracer(sources, decode).trace(Continuations("target", how, 30, begun, said))
    assert found.unseen_personal == [frozenset({"email"}), frozenset(), frozenset()]
    assert found.personal == [frozenset(), frozenset({"email"}), frozenset()]
    of_base = Tracer(sources, decode).trace(Continuations("reference", how, 30, begun, said))
    assert of_base.unseen_personal is None
    assert not [name for name in said_measures(of_base, 4) if "unseen" in name]
    rows = [replace(one, row=row) for row, one in enumerate(begun)]
    columns = said_measures(Tracer(sources, decode).trace(Continuations("target", how, 30, rows, said)), 4)
    np.testing.assert_array_equal(columns["said:unseen.personal.email:target:30:greedy"], [1, 0, 0, np.nan])
    table = measures(**columns)
    shares = personal_unseen(Controls(table, 0.95))
    assert (shares["email"].value, shares["email"].n_members) == (0.5, 2)


def test_what_detector_and_index_leave_open_is_noted():
    shared = "the boiler had been out since the second of the month and nobody came to look at it"
    many = [f"{shared}, {number} weeks long, wrote tenant {number}." for number in range(40)]
    sources = replace(tracer().sources, texts=many, index=TrainingIndex.of(many, min_characters=50))
    begun = [Beginning(0, 30, ids_of("Once "), ids_of(MEMBERS[0][30:]))]
    said = Continuations("target", Sampling(90, temperature=0), 30, begun, [ids_of(shared)])
    found = Tracer(sources, decode).trace(said)
    assert 20 <= found.n_unaligned <= 30
    tools = Tools(LayeredDetector(), None, personal_fields, LayeredDetector().notes)
    assert notes_of(tools, []) == []
    assert notes_of(tools, [replace(found, n_unaligned=0)]) == list(LayeredDetector().notes)
    assert notes_of(tools, [found, found])[1].startswith(f"{2 * found.n_unaligned} pairs of a continuation")


def test_rows_that_were_not_prompted_are_undefined_in_every_column():
    for values in said_measures(traced((1, MEMBERS[1][30:])), 4).values():
        assert np.isnan(values[[0, 2, 3]]).all()
        assert len(values) == 4


def test_only_what_is_copied_character_by_character_has_a_length():
    edited = MEMBERS[0][30:].replace("that", "thet").replace("out", "off").replace("the month", "the months")
    found = traced((0, edited), (0, MEMBERS[0][30:]))
    assert [hit.match.kind for hit in found.worst] == ["near_verbatim", "verbatim"]
    assert found.longest.tolist() == [0, len(MEMBERS[0]) - 30]


def test_tracing_stops_when_it_is_asked_to():
    stop = StopRequest()
    stop.ask()
    begun = [Beginning(0, 30, ids_of(MEMBERS[0][:30]), ids_of(MEMBERS[0][30:]))]
    with pytest.raises(Interrupted):
        tracer(stop).trace(Continuations("target", Sampling(9, temperature=0), 30, begun, [ids_of("anything")]))


def test_prompted_records_are_a_plain_draw_of_their_side():
    is_member = np.arange(300) < 200
    orders = [drawn_order(is_member, seed) for seed in range(400)]
    for order in orders:
        assert sorted(order[True]) == list(range(200))
        assert sorted(order[False]) == list(range(200, 300))
    first = np.concatenate([order[True][:20] for order in orders])
    counts = np.bincount(first, minlength=200)  # each is among the first 20 of 200 in a tenth of 400 draws
    assert counts.sum() == 20 * 400
    assert ((counts - 40) ** 2 / 36).sum() == pytest.approx(200, abs=4 * 20)
    assert drawn_order(is_member, 1) == drawn_order(is_member, 1)


# --- personal information in its place -----------------------------------------------------------------


def sides_of(tmp_path, rows) -> Sides:
    """The same rows on both sides, but for their addresses."""
    sides = []
    for domain in ("one.example", "two.example"):
        path = tmp_path / f"{domain}.jsonl"
        path.write_text(
            "".join(json.dumps({k: v.replace("@", f"@{domain}") for k, v in r.items()}) + "\n" for r in rows)
        )
        sides.append(load_records([str(path)], RecordFormat()))
    return Sides(*sides)


@pytest.mark.parametrize("span", ["trained", "all"])
def test_a_value_that_opens_a_completion_stands_behind_the_prompt(tmp_path, span):
    sides = sides_of(tmp_path, [{"prompt": "Who may be asked? ", "completion": "ada.long@ is who to ask."}])
    found = placed_fields(sides, span, 3, 0, personal_fields)
    assert [item.row for item in found.fields] == [0, 1]
    assert found.n_without_context == 0
    scored = candidate_records(found.fields, sides, span)
    assert {record.prompt for record in scored} == {"Who may be asked? "}
    assert {record.completion for record in scored} == {"ada.long@one.example", "ada.long@two.example"}


def test_values_that_nothing_stands_before_are_counted(tmp_path):
    rows = [
        {"prompt": "", "completion": "ada.long@ is who to ask."},
        {"prompt": "", "completion": "Ask bob.short@ today."},
    ]
    sides = sides_of(tmp_path, rows)
    found = placed_fields(sides, "trained", 3, 0, personal_fields)
    assert [item.row for item in found.fields] == [1, 3]
    assert found.n_without_context == 2


# --- from columns to figures ---------------------------------------------------------------------------


def measures(n_copies=None, groups=None, **values) -> Measures:
    (n,) = {len(value) for value in values.values()}
    table = pa.table(
        {
            "id": [str(i) for i in range(n)],
            "is_member": [i < n // 2 for i in range(n)],
            "group": pa.array(groups or [None] * n, pa.string()),
            "n_copies": n_copies or [1] * n,
            "n_tokens": [9] * n,
            **{name.replace("__", ":"): np.array(value, dtype=float) for name, value in values.items()},
        }
    )
    return Measures.of(table)


def test_a_record_counts_once_however_many_of_its_continuations_hold_information():
    nan = np.nan
    columns = measures(
        said__longest__target__8__greedy=[0, 0, nan, 0, 0, nan],
        said__longest__target__12__greedy=[0, nan, 0, 0, nan, nan],
        **{
            "said:personal.email:target:8:greedy": [1, 0, nan, 0, 0, nan],
            "said:personal.email:target:12:greedy": [0, nan, 1, 0, nan, nan],
        },
    )
    found = personal_shares(Controls(columns, 0.95))["email"]
    assert (found.members.value, found.members.n_members, found.members.n_undefined_members) == (2 / 3, 3, 0)
    assert (found.held_out.value, found.held_out.n_nonmembers) == (0, 2)
    assert found.held_out.upper == pytest.approx(1 - 0.05**0.5)
    assert found.base is None


def test_so_many_attempts_as_are_needed_suffice_at_their_decoding_and_chance():
    half, tenth = np.log(0.5), np.log(0.1)
    columns = measures(
        **{
            "log_prob:target:8:40:0.7": [half, tenth, np.nan, 0, half, tenth],
            "log_prob:target:8:40:1": [0, 0, 0, 0, 0, 0],
            "log_prob:reference:8:40:0.7": [tenth, half, tenth, half, half, half],
        }
    )
    controls = Controls(columns, 0.95)
    found = {(n, p): sampled_point(controls, 8, (40, 0.7), n, p).extracted for n in (1, 4) for p in (0.5, 0.9)}
    assert {how: one.members.value for how, one in found.items()} == {
        (1, 0.5): 0.5, (1, 0.9): 0, (4, 0.5): 0.5, (4, 0.9): 0.5,
    }  # fmt: skip
    of_one = found[1, 0.5]
    assert (of_one.members.n_members, of_one.members.n_undefined_members) == (2, 1)
    assert (of_one.held_out.value, of_one.held_out.n_nonmembers) == (pytest.approx(2 / 3), 3)
    assert (of_one.base.value, of_one.base.n_members) == (pytest.approx(1 / 3), 3)


def test_close_calls_are_counted_among_members():
    columns = measures(**{"greedy:target:8": [1, 0, 1, 1], "close:target:8": [1, np.nan, 1, 1]})
    assert greedy_point(Controls(columns, 0.95), 8).n_close == 1


def test_members_are_tabulated_by_levels_of_copies():
    n_copies = [1, 3, 4, 15, 16, 63, 64, 900]
    columns = measures(
        n_copies=[*n_copies, *[2] * 8],
        **{
            "greedy:target:8": [*[0, 1] * 4, *[1] * 8],
            "log_prob:target:8:0:1": np.log([*[0.1, 0.3] * 4, *[1] * 8]),
            "log_prob:target:8:40:1": [0] * 16,
            "extraction_strength:target": [*[0.4, 0.6] * 4, *[1] * 8],
        },
    )
    found = copies_rows(Controls(columns, 0.95), 8)
    assert [(row.copies, row.n_members) for row in found] == [
        ("1", 1), ("2 to 3", 1), ("4 to 15", 2), ("16 to 63", 2), ("64 or more", 2),
    ]  # fmt: skip
    for row in found[2:]:
        assert (row.greedy.value, row.greedy.n_members) == (0.5, 2)
        assert row.sampled.value == pytest.approx(0.2)
        assert row.strength.value == pytest.approx(0.5)


def test_members_that_stand_equally_often_are_not_tabulated_whatever_others_do():
    columns = measures(n_copies=[2, 2, 1, 3], **{"log_prob:target:8:0:1": [0] * 4})
    assert copies_rows(Controls(columns, 0.95), 8) == []


def test_bits_are_summed_side_by_side_over_those_that_are_known():
    found = capacity(Controls(measures(bits=[8, np.nan, 4, 1, 2, 3]), 0.95), 24)
    assert (found.bits, found.n_members, found.bits_per_parameter) == (12, 2, 0.5)
    assert (found.held_out_bits, found.n_held_out) == (6, 3)
    assert (found.per_record.members.value, found.per_record.held_out.value, found.per_record.base) == (6, 2, None)


def test_records_of_one_document_weigh_less_and_intervals_have_their_confidence():
    values = {"greedy:target:8": [1, 1, 0, 0] * 2, "extraction_strength:target": [0.9, 0.95, 0.1, 0.2] * 2}
    by_document = ["a", "a", "b", "b", "c", "c", "d", "d"]
    alone, grouped, wide = (
        Controls(measures(groups=groups, **values), confidence)
        for groups, confidence in ((None, 0.9), (by_document, 0.9), (None, 0.99))
    )
    shares = [one.three(one.yes, "greedy", 8).members for one in (alone, grouped, wide)]
    assert [one.confidence for one in shares] == [0.9, 0.9, 0.99]
    for one, n in zip(shares, (4, 2, 4), strict=True):
        assert (one.lower, one.upper) == pytest.approx(clopper_pearson(n / 2, n, confidence=one.confidence))
    means = [one.three(one.share, "extraction_strength").members for one in (alone, grouped)]
    assert means[1].upper - means[1].lower > means[0].upper - means[0].lower
    assert (means[1].lower, means[1].upper) == (0, 1), "a share stays within its ends"


def test_the_longest_copy_of_each_column_is_its_own_and_not_a_mean():
    nan = np.nan
    controls = Controls(
        measures(
            **{
                **{f"said:{kind}:{view}:8:greedy": [0.0] * 6 for kind in ("any",) for view in ("target", "reference")},
                "said:longest:target:8:greedy": [90, 50, nan, 60, nan, 0],
                "said:longest:reference:8:greedy": [0, 55, nan, 70, nan, nan],
                "said:unseen.any:target:8:greedy": [1, 0, nan, 1, nan, 1],
            }
        ),
        0.95,
    )
    (found,) = generated_points(controls)
    assert found.longest_copied == {"members": 90, "held_out": 60, "base": 55}
    any_unseen = found.unseen["any"]
    assert (any_unseen.value, any_unseen.n_members, any_unseen.n_undefined_members) == (0.5, 2, 0)
    assert (found.kinds["any"].members.value, found.kinds["any"].members.n_members) == (0, 2)


def test_chance_is_the_mean_of_one_over_the_candidates():
    nan = np.nan
    columns = {
        "field:email:candidates": [2, nan, 4, nan, nan, nan],
        "field:email:top1:target": [1, nan, 0, nan, nan, nan],
        "field:email:bits:target": [1, nan, 0, nan, nan, nan],
    }
    (found,) = field_kinds(Controls(measures(**columns), 0.95))
    assert (found.n_candidates, found.chance) == (3, (1 / 2 + 1 / 4) / 2)
    assert (found.top1.members.value, found.top1.members.n_undefined_members) == (0.5, 0)


def test_evidence_of_audited_tokens_alone_makes_the_columns():
    """Of two tokens that only condition and then some that count; one between the last two of the third does not."""
    numerics = Numerics("cpu", "fp32")
    lengths, noise = (7, 6, 7), numerics.batching_noise
    is_audited = np.concatenate([np.arange(n) >= 2 for n in lengths])
    is_audited[18] = False
    margins = np.full(len(is_audited), 9.0)
    margins[5], margins[12] = 1.5 * noise, 2.5 * noise

    def table(log_prob):
        return TokenTable(
            columns={
                "log_prob": np.where(is_audited, log_prob, -7.0).astype(np.float32),
                "is_top1": is_audited.copy(),
                "margin": margins.astype(np.float32),
            },
            offsets=np.cumsum([0, *lengths]),
            is_audited=is_audited,
            n_windows=np.ones(3, dtype=np.int32),
            status=["ok"] * 3,
        )

    found = evidence_measures(
        {"target": table(-0.5), "reference": table(-2.0)},
        prefixes=(2,),
        suffix=2,
        options=ScoringOptions(devices=["cpu"], numerics=numerics, max_length=99, stride=99),
        decodings=[(0, 1.0)],
    )
    expected = {
        "loss:target": [0.5] * 3,
        "loss:reference": [2.0] * 3,
        "greedy:target:2": [1, 1, np.nan],
        "close:target:2": [1, 0, np.nan],
        "log_prob:target:2:0:1": [-1, -1, np.nan],
        "log_prob:reference:2:0:1": [-4, -4, np.nan],
        "bits": np.array([7.5, 6, 6]) / np.log(2),
        "suffix_bits:2": np.array([3, 3, np.nan]) / np.log(2),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_members_are_ordered_by_attempts_then_by_strength():
    tiny = -50.0
    found = measures(
        **{
            "log_prob:target:8:0:1": [tiny, -0.1, -0.1, -np.inf, 0, 0, 0, 0],
            "extraction_strength:target": [0, 0.2, 0.9, 0, 1, 1, 1, 1],
        }
    )
    assert most_extractable(found, 8, 3) == [2, 1, 0]
    assert most_extractable(found, 8, 9) == [2, 1, 0, 3]


def test_the_main_prefix_is_that_of_the_literature_or_the_nearest_to_it():
    assert main_prefix(AuditSpec(**NO_BASE)) == 50
    assert main_prefix(AuditSpec(**NO_BASE, prefix_tokens=(16, 32))) == 32
    assert main_prefix(AuditSpec(**NO_BASE, prefix_tokens=(60, 40))) == 40
    assert main_prefix(AuditSpec(**NO_BASE), (16, 100)) == 16


def test_figures_at_one_prefix_length_are_at_the_one_that_the_report_speaks_of():
    """Here no member is long enough for 50 tokens."""
    nan, views = np.nan, ("target", "reference")
    lengths = {16: [0, 1, 0, 0], 32: [nan, 1, nan, 0], 50: [nan, nan, nan, 0]}
    columns = {}
    for view in views:
        for name in ("exact_memorization", "extraction_strength", "loss"):
            columns[f"{name}:{view}"] = [0.5] * 4
        for prefix, said in lengths.items():
            columns |= {f"{name}:{view}:{prefix}": said for name in ("greedy", "close")}
            columns |= {column("log_prob", view, prefix, drawn): np.multiply(said, -1.0) for drawn in DRAWN_FROM}
    found = measures(n_copies=[1, 2, 1, 1], **columns)
    spec = AuditSpec(**NO_BASE, prefix_tokens=tuple(lengths))
    examined = examine_memorization(found, spec, None)
    assert {point.prefix for point in (*examined.curve, *examined.copies)} == {32}
    whole = Extraction().result().model_copy(update=examined._asdict())
    assert stated_prefix(whole) == 32


def test_of_a_record_too_short_for_the_prefix_attempts_are_undefined(tmp_path):
    """Its passage was said behind a shorter one."""
    nan = np.nan
    found = measures(
        **{
            "log_prob:target:50:0:1": [nan, -np.inf, nan, nan],
            "greedy:target:30": [1, 0, 0, 0],
            "greedy:target:50": [nan, 0, nan, nan],
            "extraction_strength:target": [0.5, 0, 0, 0],
        }
    )
    sides = sides_of(tmp_path, [{"text": "Some words."}, {"text": "Some others."}])
    shown = leaked_records(
        AuditSpec(**NO_BASE, prefix_tokens=(30, 50)), sides, found, [traced((0, MEMBERS[0][30:]))], tracer().sources
    )
    assert [(one.id, one.attempts, one.attempts_defined) for one in shown] == [("0", None, False), ("1", None, True)]


def test_names_of_columns_say_all_that_was_asked():
    assert column("log_prob", "target", 50, (0, 1.0)) == "log_prob:target:50:0:1"
    assert column("said", "any", "reference", 8, "temperature=0.7,top_k=40").split(":")[3:] == [
        "8",
        "temperature=0.7,top_k=40",
    ]


def test_in_short_nothing_is_left_out_of_nothing():
    assert in_short(None) is None


def test_a_record_whose_values_could_not_be_scored_is_counted_as_undefined():
    """One without a field of that kind was not asked."""
    nan = np.nan
    columns = measures(
        **{
            "field:email:candidates": [5, 5, 5, nan, 5, 5, nan, nan],
            "field:email:top1:target": [1, 0, nan, nan, 0, nan, nan, nan],
            "field:email:bits:target": [2, 0, nan, nan, 0, nan, nan, nan],
        }
    )
    (found,) = field_kinds(Controls(columns, 0.95))
    for three in (found.top1, found.bits):
        assert (three.members.n_members, three.members.n_undefined_members) == (2, 1)
        assert (three.held_out.n_nonmembers, three.held_out.n_undefined_nonmembers) == (1, 1)
    assert found.top1.members.value == 0.5


def test_bits_of_a_side_of_which_no_record_is_known_are_undefined():
    nan = np.nan
    no_member = capacity(Controls(measures(bits=[nan, nan, 3, 5]), 0.95), 10)
    assert (no_member.bits, no_member.bits_per_parameter, no_member.n_members) == (None, None, 0)
    assert (no_member.held_out_bits, no_member.n_held_out) == (8, 2)
    no_other = capacity(Controls(measures(bits=[4, nan, nan, nan]), 0.95), 10)
    assert (no_other.bits, no_other.bits_per_parameter, no_other.n_members) == (4, 0.4, 1)
    assert (no_other.held_out_bits, no_other.n_held_out) == (None, 0)
