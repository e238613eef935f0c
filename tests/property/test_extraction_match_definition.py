"""Measures over flat columns equal obvious loops over records, whatever the lengths, masks and statuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.memorization import (
    bits_above_base,
    exact_memorization,
    extraction_strength,
    greedy_extraction,
    hit_runs,
    minimal_prefix,
    rank_candidates,
    suffix_log_prob,
)
from loraudit.types import TokenTable

DECODINGS = ((40, 0.7), (0, 0.5))
MARGIN = 0.1


@st.composite
def tables(draw):
    """Records of 0 to 7 tokens; few misses, so that runs are long; some tokens not audited, some records unscored."""
    lengths = draw(st.lists(st.integers(0, 7), max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return table_of(lengths, rng, hits=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])))


def table_of(lengths, rng, *, hits):
    n = sum(lengths)
    log_sum_exps = {decoding: -rng.exponential(size=n).astype(np.float32) for decoding in DECODINGS}
    log_sum_exps[DECODINGS[0]][rng.random(n) < 0.1] = np.inf
    status = rng.choice(["ok", "ok", "ok", "nonfinite", "out_of_memory"], size=len(lengths)).tolist()
    columns = {
        "log_prob": -5 * rng.exponential(size=n).astype(np.float32),
        "is_top1": rng.random(n) < hits,
        "margin": rng.exponential(size=n).astype(np.float32),
    }
    is_bad = np.repeat([one != "ok" for one in status], lengths).astype(bool)
    columns["log_prob"][is_bad] = rng.choice([np.nan, -np.inf, np.inf], size=int(is_bad.sum()))
    return TokenTable(
        columns=columns,
        offsets=np.cumsum([0, *lengths]),
        is_audited=rng.random(n) < rng.choice([0.7, 1.0]),
        n_windows=np.ones(len(lengths), dtype=np.int32),
        status=status,
        log_sum_exps=log_sum_exps,
    )


def records_of(table):
    """Status and audited tokens of each record as plain lists, one dictionary per token."""
    for i in range(len(table)):
        tokens = []
        for t in range(table.offsets[i], table.offsets[i + 1]):
            if table.is_audited[t]:
                token = {name: column[t].item() for name, column in table.columns.items()}
                token["lse"] = {decoding: float(column[t]) for decoding, column in table.log_sum_exps.items()}
                tokens.append(token)
        yield table.status[i], tokens


def same(found, expected):
    np.testing.assert_allclose(found, np.array(expected, dtype=np.float64), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=200)
@given(tables())
def test_hits_and_runs_are_counted_as_a_loop_counts_them(table):
    shares, prefixes, strengths, runs = [], [], [], []
    for status, tokens in records_of(table):
        hits = [token["is_top1"] for token in tokens]
        for t in range(len(hits)):
            run = 0
            while t + run < len(hits) and hits[t + run]:
                run += 1
            runs.append(run)
        if status != "ok" or not tokens:
            for column in (shares, prefixes, strengths):
                column.append(math.nan)
            continue
        shares.append(sum(hits) / len(hits))
        a = len(hits)
        while a > 0 and hits[a - 1]:
            a -= 1
        prefixes.append(a)
        strengths.append(1 - a / len(hits))
    same(exact_memorization(table), shares)
    same(minimal_prefix(table), prefixes)
    same(extraction_strength(table), strengths)
    assert hit_runs(table).tolist() == runs


@settings(deadline=None, max_examples=200)
@given(tables(), st.integers(0, 4), st.integers(1, 5))
def test_greedy_extraction_is_a_suffix_of_hits(table, prefix, suffix):
    extracted, small = [], []
    for status, tokens in records_of(table):
        part = tokens[prefix : prefix + suffix]
        if status != "ok" or len(part) < suffix:
            extracted.append(math.nan)
            small.append(False)
            continue
        extracted.append(float(all(token["is_top1"] for token in part)))
        small.append(any(token["margin"] < MARGIN for token in part))
    found = greedy_extraction(table, prefix=prefix, suffix=suffix, margin_below=MARGIN)
    same(found.is_extracted, extracted)
    assert found.has_small_margin.tolist() == small


@settings(deadline=None, max_examples=200)
@given(tables(), st.sampled_from([(0, 1.0), *DECODINGS]), st.integers(0, 3), st.one_of(st.none(), st.integers(1, 5)))
def test_log_probabilities_are_summed_token_by_token(table, decoding, prefix, suffix):
    expected = []
    for status, tokens in records_of(table):
        part = tokens[prefix:] if suffix is None else tokens[prefix : prefix + suffix]
        if status != "ok" or len(part) < (suffix or 1):
            expected.append(math.nan)
            continue
        total = 0.0
        for token in part:
            lse = 0.0 if decoding == (0, 1.0) else token["lse"][decoding]
            value = token["log_prob"] / decoding[1] - lse
            total += value if decoding == (0, 1.0) else min(0.0, value)
        expected.append(total)
    same(suffix_log_prob(table, decoding, prefix=prefix, suffix=suffix), expected)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 7), max_size=6), st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_bits_above_base_are_those_of_the_whole_suffix(lengths, seed, prefix):
    rng = np.random.default_rng(seed)
    target, reference = (table_of(lengths, rng, hits=0.5) for _ in range(2))
    every = np.ones(sum(lengths), dtype=bool)
    target, reference = (
        TokenTable(t.columns, t.offsets, every, t.n_windows, t.status, t.log_sum_exps) for t in (target, reference)
    )
    expected = []
    for (status, own), (other_status, other) in zip(records_of(target), records_of(reference), strict=True):
        if {status, other_status} != {"ok"} or len(own) <= prefix:
            expected.append(math.nan)
            continue
        gap = sum(token["log_prob"] for token in own[prefix:]) - sum(token["log_prob"] for token in other[prefix:])
        expected.append(max(0.0, gap / math.log(2)))
    same(bits_above_base(target, reference, prefix=prefix), expected)


@settings(deadline=None)
@given(st.data())
def test_a_record_reads_the_same_whoever_stands_beside_it(data):
    table = data.draw(tables())
    audited = table.audited()
    for measure in (
        exact_memorization,
        extraction_strength,
        lambda t: suffix_log_prob(t, DECODINGS[0], prefix=1, suffix=2),
        lambda t: greedy_extraction(t, prefix=1, suffix=2, margin_below=MARGIN).is_extracted,
    ):
        whole = measure(table)
        np.testing.assert_array_equal(measure(audited), whole)
        alone = [measure(audited.rows(i, i + 1))[0] for i in range(len(table))]
        np.testing.assert_array_equal(alone, whole)


value = st.one_of(st.integers(-3, 0).map(float), st.sampled_from([-math.inf, math.nan]))


@given(st.lists(st.tuples(st.lists(value, min_size=1, max_size=6), st.integers(0, 5)), max_size=5))
def test_ranks_count_the_candidates_that_are_likelier_and_as_likely(fields):
    fields = [(values, index % len(values)) for values, index in fields]
    ranks, last = [], []
    for values, index in fields:
        true = values[index]
        others = values[:index] + values[index + 1 :]
        n_above = sum(other > true or math.isnan(other) for other in others)
        n_tied = sum(other == true for other in others)
        ranks.append(math.nan if math.isnan(true) else np.mean([1 + n_above + i for i in range(n_tied + 1)]))
        last.append(math.nan if math.isnan(true) else 1 + n_above + n_tied)
    found = rank_candidates(
        np.array([one for values, _ in fields for one in values], dtype=float),
        np.cumsum([0, *(len(values) for values, _ in fields)]),
        np.array([index for _, index in fields], dtype=np.int64),
    )
    assert found.ranks.tolist() == pytest.approx(ranks, nan_ok=True)
    assert found.last_ranks.tolist() == pytest.approx(last, nan_ok=True)
    expected = [math.log2(len(v)) - math.log2(r) for (v, _), r in zip(fields, ranks, strict=True)]
    assert found.bits.tolist() == pytest.approx(expected, nan_ok=True)
