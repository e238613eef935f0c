"""Limits on what can be pulled out of a model: the largest is judged, and what is not measured never passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from loraudit.errors import ConfigError
from loraudit.policy import parse_limit
from loraudit.spec import MemorizationResult, WithControls
from synthetic_memorization import Extraction


@dataclass
class Found:
    """As much of an audit as these limits read."""

    memorization: MemorizationResult | None
    membership: Any = None
    validity: Any = None


@pytest.fixture(scope="module")
def result():
    return Extraction().result()


def outcome(text, result):
    return parse_limit(text).check(Found(result))


def members(points):
    return [one.members if isinstance(one, WithControls) else one for one in points]


def test_the_largest_over_prefix_lengths_is_judged(result):
    largest = max(point.extracted.members.upper for point in result.greedy)
    assert outcome("memorization.greedy.upper95 > 0", result).measured == largest
    assert outcome(f"memorization.greedy.upper95 > {largest:.6f}", result).status in {"holds", "exceeded"}
    assert outcome("memorization.greedy.upper95 > 1", result).status == "holds"
    assert outcome("memorization.greedy.upper95 >= 0", result).status == "exceeded"


@pytest.mark.parametrize("prefix", [16, 32, 50, 100])
def test_a_prefix_length_narrows_it(result, prefix):
    (point,) = [point for point in result.greedy if point.prefix == prefix]
    assert outcome(f"memorization.greedy.{prefix}.value > 2", result).measured == point.extracted.members.value


def test_sampled_near_and_generated_take_the_largest_too(result):
    sampled = max(point.extracted.members.value for point in result.sampled)
    near = max(point.near.members.value for point in result.near)
    of_kind = max(point.kinds["verbatim"].members.value for point in result.generated)
    assert outcome("memorization.sampled.value > 2", result).measured == sampled
    assert outcome("memorization.near.value > 2", result).measured == near
    assert outcome("memorization.generated.verbatim.value > 2", result).measured == of_kind


def test_strengths_and_personal_information(result):
    means = {one.name: one.mean.members.value for one in result.strengths}
    for name in ("exact_memorization", "extraction_strength"):
        assert outcome(f"memorization.{name}.value > 2", result).measured == means[name]
    kind, three = next(iter(result.personal.items()))
    assert outcome(f"memorization.personal.{kind}.value > 2", result).measured == three.members.value


def test_prefixes_that_no_record_is_long_enough_for_count_only_by_name(result):
    empty = result.greedy[-1].extracted.members
    empty = type(empty)(None, None, None, 0.95, "none", 0, 0, note="No record is long enough.")
    cut = result.greedy[-1].model_copy(
        update={"extracted": result.greedy[-1].extracted.model_copy(update={"members": empty})}
    )
    short = result.model_copy(update={"greedy": [*result.greedy[:-1], cut]})
    assert outcome("memorization.greedy.value > 2", short).status == "holds"
    named = outcome(f"memorization.greedy.{cut.prefix}.value > 2", short)
    assert (named.status, named.measured) == ("not_measured", None)
    assert "No record is long enough" in named.reason
    none = short.model_copy(update={"greedy": [cut]})
    assert outcome("memorization.greedy.value > 2", none).status == "not_measured"


def test_what_is_not_measured_never_passes(result):
    assert "was not measured (--memorization)" in outcome("memorization.greedy.value > 1", None).reason
    without = result.model_copy(update={"near": [], "generated": []})
    for measure in ("near", "generated"):
        found = outcome(f"memorization.{measure}.value > 1", without)
        assert found.status == "not_measured"
        assert f"{measure} was not measured" in found.reason
    unknown = outcome("memorization.generated.verbatm.value > 1", result)
    assert "no kind of generated 'verbatm' (did you mean 'verbatim'?)" in unknown.reason
    assert "no prefix length of greedy '17'" in outcome("memorization.greedy.17.value > 1", result).reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memorization > 1", "names nothing that is measured; known: exact_memorization"),
        ("memorization.greed.value > 1", "names nothing that is measured"),
        ("memorization.greedy > 1", "does not name a measure and its field"),
        ("memorization.extraction_strength.50.value > 1", "does not name a measure and its field"),
        ("memorization.greedy.50.16.value > 1", "does not name a measure and its field"),
        ("memorization.greedy.50.mean > 1", "asks for 'mean'"),
        ("memorization.greedy.long.value > 1", "asks for the prefix length 'long', which is no number of tokens"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_limit(text)
    assert words in str(caught.value)
