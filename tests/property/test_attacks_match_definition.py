"""Every built-in attack equals its definition in METHODS.md sections 1.1 and 1.2.

The definitions below are the slow, obvious ones: one record at a time, plain loops over floats.
They were written from that page alone, without sight of the implementations they judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.membership import ATTACKS, evaluate, score_attacks
from loraudit.types import RecordFacts, TokenScores, TokenTable, Views

NAN = math.nan
INF = math.inf
TOLERANCE = 1e-6

# ---------------------------------------------------------------------------------------------
# Records as these definitions see them
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """What both models said about one predicted token."""

    target: float
    reference: float
    is_top1: bool = False
    target_mean: float = -1.0
    target_var: float = 1.0
    reference_mean: float = -1.0
    reference_var: float = 1.0
    is_audited: bool = True

    @property
    def delta(self) -> float:
        return self.target - self.reference


@dataclass(frozen=True)
class Case:
    """One record."""

    tokens: tuple[Token, ...]
    n_zlib_bytes: int = 20
    n_windows: int = 1

    @property
    def audited(self) -> list[Token]:
        return [token for token in self.tokens if token.is_audited]


# ---------------------------------------------------------------------------------------------
# The definitions
# ---------------------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def n_hardest(n_tokens: int) -> int:
    """max(1, floor(k n)) at k = 20 %, in whole numbers."""
    return max(1, n_tokens // 5)


def mean_of_lowest_fifth(values: Sequence[float]) -> float:
    return mean(sorted(values)[: n_hardest(len(values))])


def standardised(log_prob: float, mu: float, variance: float) -> float:
    return (log_prob - mu) / max(math.sqrt(variance), 1e-6)


def zlib_of(log_probs: Sequence[float], n_zlib_bytes: int) -> float:
    return sum(log_probs) / n_zlib_bytes


def loss(tokens: list[Token], _: Case) -> float:
    return mean([token.target for token in tokens])


def zlib(tokens: list[Token], case: Case) -> float:
    return zlib_of([token.target for token in tokens], case.n_zlib_bytes)


def min_k(tokens: list[Token], _: Case) -> float:
    return mean_of_lowest_fifth([token.target for token in tokens])


def min_k_plus_plus(tokens: list[Token], _: Case) -> float:
    return mean_of_lowest_fifth([standardised(t.target, t.target_mean, t.target_var) for t in tokens])


def reference_difference(tokens: list[Token], _: Case) -> float:
    return mean([token.delta for token in tokens])


def reference_ratio(tokens: list[Token], _: Case) -> float:
    target_loss = mean([-token.target for token in tokens])
    reference_loss = mean([-token.reference for token in tokens])
    if target_loss == 0:
        return NAN if reference_loss == 0 else INF
    return reference_loss / target_loss


def calibrated_zlib(tokens: list[Token], case: Case) -> float:
    seen_by_reference = [token.reference for token in tokens]
    return zlib(tokens, case) - zlib_of(seen_by_reference, case.n_zlib_bytes)


def calibrated_min_k(tokens: list[Token], case: Case) -> float:
    return min_k(tokens, case) - mean_of_lowest_fifth([token.reference for token in tokens])


def calibrated_min_k_plus_plus(tokens: list[Token], case: Case) -> float:
    z_reference = [standardised(t.reference, t.reference_mean, t.reference_var) for t in tokens]
    return min_k_plus_plus(tokens, case) - mean_of_lowest_fifth(z_reference)


def gains(tokens: list[Token]) -> float:
    """P."""
    total = 0.0
    for token in tokens:
        if token.delta > 0:
            total += token.delta
    return total


def losses(tokens: list[Token]) -> float:
    """N."""
    total = 0.0
    for token in tokens:
        if token.delta < 0:
            total += -token.delta
    return total


def errors_among(tokens: list[Token]) -> list[Token]:
    """E."""
    return [token for token in tokens if not token.is_top1]


def error_zone(tokens: list[Token], _: Case) -> float:
    where = errors_among(tokens) or tokens
    return math.log((gains(where) + 1) / (losses(where) + 1))


def error_zone_paper(tokens: list[Token], _: Case) -> float:
    errors = errors_among(tokens)
    gained, lost = gains(errors), losses(errors)
    if not errors or (lost == 0 and gained > 0):
        return 1 + gains(tokens)
    if gained == 0 and lost == 0:
        return NAN
    return gained / (gained + lost)


def error_zone_reference_code(tokens: list[Token], _: Case) -> float:
    errors = errors_among(tokens[1:])
    if len(errors) < 2 or losses(errors) == 0:
        return 0.0
    return gains(errors) / losses(errors)


def window_vote(tokens: list[Token], _: Case) -> float:
    deltas = [token.delta for token in tokens]
    shares = []
    for width in (2, 3, 4, 6, 9, 13, 18, 25, 32, 40):
        if width > len(deltas):
            continue
        starts = range(len(deltas) - width + 1)
        n_positive = 0
        for start in starts:
            if sum(deltas[start : start + width]) > 0:
                n_positive += 1
        shares.append(n_positive / len(starts))
    return mean(shares) if shares else NAN


def hard_token(tokens: list[Token], _: Case) -> float:
    """Of tokens equally likely under the target, those earlier in the record count as harder.

    METHODS.md says nothing of such ties; the law test for ties below says what is certain.
    """
    hardest = sorted(tokens, key=lambda token: token.target)[: n_hardest(len(tokens))]
    return sum(token.delta > 0 for token in hardest) / len(hardest)


def sign(tokens: list[Token], _: Case) -> float:
    return sum(token.delta > 0 for token in tokens) / len(tokens)


def paired_t(tokens: list[Token], _: Case) -> float:
    deltas = [token.delta for token in tokens]
    if all(delta == deltas[0] for delta in deltas):  # also the single token
        return NAN
    centre = mean(deltas)
    variance = sum((delta - centre) ** 2 for delta in deltas) / (len(deltas) - 1)
    return centre / math.sqrt(variance) * math.sqrt(len(deltas))


Definition = Callable[[list[Token], Case], float]

DEFINITIONS: dict[str, Definition] = {
    "loss": loss,
    "zlib": zlib,
    "min_k": min_k,
    "min_k_plus_plus": min_k_plus_plus,
    "reference_difference": reference_difference,
    "reference_ratio": reference_ratio,
    "calibrated_zlib": calibrated_zlib,
    "calibrated_min_k": calibrated_min_k,
    "calibrated_min_k_plus_plus": calibrated_min_k_plus_plus,
    "error_zone": error_zone,
    "error_zone_paper": error_zone_paper,
    "error_zone_reference_code": error_zone_reference_code,
    "window_vote": window_vote,
    "hard_token": hard_token,
    "sign": sign,
    "paired_t": paired_t,
}
NAMES = list(DEFINITIONS)


def defined_score(name: str, case: Case) -> float:
    """A record without an audited token has no score."""
    tokens = case.audited
    return DEFINITIONS[name](tokens, case) if tokens else NAN


# ---------------------------------------------------------------------------------------------
# From records to what the package reads
# ---------------------------------------------------------------------------------------------


def table_of(cases: Sequence[Case], view: str) -> TokenTable:
    tokens = [token for case in cases for token in case.tokens]
    is_target = view == "target"
    log_prob = [token.target if is_target else token.reference for token in tokens]
    columns = {
        "log_prob": np.array(log_prob, np.float32),
        # The attacks ask where the *target* errs; the reference's own hits are the opposite here.
        "is_top1": np.array([token.is_top1 == is_target for token in tokens], np.bool_),
        "margin": np.ones(len(tokens), np.float32),
        "mean_log_prob": np.array([t.target_mean if is_target else t.reference_mean for t in tokens], np.float32),
        "var_log_prob": np.array([t.target_var if is_target else t.reference_var for t in tokens], np.float32),
        "rank_bucket": np.array([0 if token.is_top1 else 1 for token in tokens], np.uint8),
    }
    return TokenTable(
        columns=columns,
        offsets=np.cumsum([0] + [len(case.tokens) for case in cases]),
        is_audited=np.array([token.is_audited for token in tokens], np.bool_),
        n_windows=np.array([case.n_windows for case in cases], np.int64),
        status=["ok" if case.tokens else "no_tokens" for case in cases],
    )


def facts_of(cases: Sequence[Case]) -> RecordFacts:
    n_zlib_bytes = np.array([case.n_zlib_bytes for case in cases], np.int64)
    return RecordFacts(n_bytes=n_zlib_bytes * 2, n_zlib_bytes=n_zlib_bytes)


def package_scores(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """[N] per attack, through the tables; no attack may fail."""
    tables = {view: table_of(cases, view) for view in ("target", "reference")}
    results = score_attacks([ATTACKS[name] for name in NAMES], tables, facts_of(cases))
    failures = {name: result.error for name, result in results.items() if result.error}
    assert not failures
    return {name: result.scores for name, result in results.items()}


def view_scores(name: str, cases: Sequence[Case]) -> np.ndarray:
    """[N], straight from the attack; the records must have equally many audited tokens."""
    (n_tokens,) = {len(case.audited) for case in cases}
    index = np.arange(len(cases))
    scores: dict[str, TokenScores] = {
        view: table_of(cases, view).audited().rectangle(index, n_tokens) for view in ("target", "reference")
    }
    return np.asarray(ATTACKS[name].score(Views(scores, facts_of(cases))), np.float64)


def is_same(got: float, expected: float) -> bool:
    if math.isnan(expected) or math.isinf(expected):
        return got == expected or (math.isnan(got) and math.isnan(expected))
    return abs(got - expected) <= TOLERANCE * max(1.0, abs(expected))


def assert_defined(cases: Sequence[Case]) -> None:
    scores = package_scores(cases)
    for name in NAMES:
        for case, got in zip(cases, scores[name], strict=True):
            expected = defined_score(name, case)
            assert is_same(got, expected), f"{name}: {got!r} is not {expected!r} on {case.audited}"


# ---------------------------------------------------------------------------------------------
# Random ragged records
# ---------------------------------------------------------------------------------------------

# Half-nat steps: equal log-probabilities, deltas of exactly zero and sums of exactly zero abound.
coarse = st.integers(0, 8).map(lambda step: -step / 2)
# Steps of 2^-16 nat: sums of a record stay exact, so that no sign hangs on the order of adding.
fine = st.integers(0, 20 << 16).map(lambda step: -step / 65536)
variances = st.sampled_from([0.0, 0.0, 0.25, 1.0, 4.0, 2.0**-42])


def tokens(log_probs: st.SearchStrategy[float]) -> st.SearchStrategy[Token]:
    return st.builds(
        Token,
        target=log_probs,
        reference=log_probs,
        is_top1=st.booleans(),
        target_mean=coarse,
        target_var=variances,
        reference_mean=coarse,
        reference_var=variances,
    )


SHAPES: dict[str, Callable[[Token], Token]] = {
    "no error": lambda token: replace(token, is_top1=True),
    "errors only": lambda token: replace(token, is_top1=False),
    "delta zero": lambda token: replace(token, reference=token.target),
    "never lower (N = 0)": lambda token: replace(token, reference=min(token.target, token.reference)),
    "never higher (P = 0)": lambda token: replace(token, target=min(token.target, token.reference)),
    "target certain": lambda token: replace(token, target=0.0),
    "reference certain": lambda token: replace(token, reference=0.0),
    "both certain": lambda token: replace(token, target=0.0, reference=0.0),
    "no spread": lambda token: replace(token, target_var=0.0, reference_var=0.0),
}

LOUD = Token(target=-40.0, reference=-1.0, is_top1=False, target_mean=-30.0, target_var=90.0)
"""What stands at positions that do not count: it would move every score."""


@st.composite
def cases(draw: st.DrawFn, max_tokens: int = 14) -> Case:
    drawn = draw(st.lists(tokens(draw(st.sampled_from([coarse, fine]))), max_size=max_tokens))
    counted = drawn
    for shape in draw(st.lists(st.sampled_from(list(SHAPES.values())), max_size=2)):
        counted = [shape(token) for token in counted]
    ignored = replace(LOUD, is_audited=False)
    before, after = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    middle = draw(st.integers(0, len(counted)))
    between = draw(st.integers(0, 2))
    laid_out = [ignored] * before + counted[:middle] + [ignored] * between + counted[middle:] + [ignored] * after
    return Case(tuple(laid_out), n_zlib_bytes=draw(st.integers(8, 60)), n_windows=draw(st.integers(1, 4)))


def repeatable(max_examples: int) -> settings:
    """The same examples on every machine."""
    return settings(max_examples=max_examples, deadline=None, derandomize=True, database=None)


@repeatable(250)
@given(st.lists(cases(), min_size=1, max_size=5))
def test_every_attack_equals_its_definition_on_ragged_records(records: list[Case]) -> None:
    assert_defined(records)


def random_case(rng: np.random.Generator, n_tokens: int) -> Case:
    """A record as models give them: continuous float32 numbers, without ties."""
    target, reference = -rng.gamma(0.8, 2.0, (2, n_tokens)).astype(np.float32)
    spread = rng.gamma(2.0, 2.0, (2, n_tokens)).astype(np.float32)
    centre = -rng.gamma(2.0, 1.0, (2, n_tokens)).astype(np.float32)
    columns = (target, reference, rng.random(n_tokens) < 0.5, centre[0], spread[0], centre[1], spread[1])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return Case(tuple(Token(*row) for row in rows), n_zlib_bytes=int(rng.integers(8, 500)))


@pytest.mark.parametrize("seed", range(3))
def test_every_attack_equals_its_definition_at_every_length_to_eighty_tokens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert_defined([random_case(rng, n_tokens) for n_tokens in range(1, 81)])


def test_every_attack_equals_its_definition_on_a_long_record() -> None:
    assert_defined([random_case(np.random.default_rng(7), 3000)])


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_gives_rectangular_views_the_defined_score(name: str) -> None:
    rng = np.random.default_rng(11)
    for n_tokens in (1, 2, 5, 41):
        records = [random_case(rng, n_tokens) for _ in range(4)]
        for record, got in zip(records, view_scores(name, records), strict=True):
            assert is_same(got, defined_score(name, record))


# ---------------------------------------------------------------------------------------------
# Each record is judged alone
# ---------------------------------------------------------------------------------------------


def assert_identical(got: np.ndarray, expected: np.ndarray, name: str) -> None:
    np.testing.assert_array_equal(got, expected, err_msg=name)


@repeatable(40)
@given(st.lists(cases(), min_size=2, max_size=6), st.data())
def test_taking_and_reordering_records_takes_and_reorders_their_scores_exactly(
    records: list[Case], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(records))))
    taken = order[: data.draw(st.integers(1, len(records)))]
    together = package_scores(records)
    apart = package_scores([records[i] for i in taken])
    for name in NAMES:
        assert_identical(apart[name], together[name][taken], name)


def test_a_record_scored_alone_gets_exactly_the_score_it_gets_among_others() -> None:
    rng = np.random.default_rng(3)
    records = [random_case(rng, n_tokens) for n_tokens in (1, 2, 7, 7, 7, 40, 40, 131, 131, 131)]
    together = package_scores(records)
    for i, record in enumerate(records):
        alone = package_scores([record])
        for name in NAMES:
            assert_identical(alone[name], together[name][i : i + 1], name)


def test_scores_do_not_depend_on_how_many_records_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    records = [random_case(rng, 33) for _ in range(9)]
    in_one_go = package_scores(records)
    monkeypatch.setattr(evaluate, "_TOKENS_AT_ONCE", 70)
    in_blocks = package_scores(records)
    for name in NAMES:
        assert_identical(in_blocks[name], in_one_go[name], name)


def test_scores_do_not_depend_on_tokens_that_are_not_audited_or_on_the_number_of_windows() -> None:
    plain = random_case(np.random.default_rng(13), 21)
    ignored = replace(LOUD, is_audited=False)
    padded = Case(
        (ignored, ignored, *plain.tokens[:9], ignored, *plain.tokens[9:], ignored),
        n_zlib_bytes=plain.n_zlib_bytes,
        n_windows=3,
    )
    scores = package_scores([plain, padded])
    for name in NAMES:
        assert_identical(scores[name][:1], scores[name][1:], name)


# ---------------------------------------------------------------------------------------------
# Fixed cases
# ---------------------------------------------------------------------------------------------


def case_of(deltas: Sequence[float], hits: str = "", target: float = -4.0) -> Case:
    """Tokens whose target log-probability is `target`; hits: 'h' where it is the target's top-1, '.' else."""
    hits = hits or "." * len(deltas)
    rows = zip(deltas, hits, strict=True)
    return Case(tuple(Token(target, target - delta, is_top1=hit == "h") for delta, hit in rows))


# Per case: error_zone (ε = 1 nat), error_zone_paper, error_zone_reference_code. 'h' marks a top-1 hit.
ERROR_ZONE_GOLD = {
    # E = positions 0, 2, 3, 4. P = 1 + 1 + .25 = 2.25, N = .5.
    # ln(3.25 / 1.5) = ln(13/6); 2.25 / 2.75 = 9/11; without position 0: P = 1.25, N = .5, P/N = 2.5.
    "gains and losses": ([1, 0.5, -0.5, 1, 0.25], ".h...", 0.7731898882334817, 0.8181818181818182, 2.5),
    # E = 0, 2. P = .5 + 1 = 1.5, N = 0; over all positions P = 3.5.
    # ln(2.5 / 1); 1 + 3.5 = 4.5; N = 0 -> 0.
    "N = 0 with P > 0": ([0.5, 2, 1], ".h.", 0.9162907318741551, 4.5, 0.0),
    # E = 0, 1, 2 as above but a loss stands at a hit, which is no error: over all positions still P = 3.5.
    # P over E = 3.5, N = 0: ln 4.5; 1 + 3.5; N = 0 -> 0.
    "N = 0 but for a hit": ([0.5, 2, 1, -3], "...h", 1.5040773967762742, 4.5, 0.0),
    # E empty: over all positions P = 1.5, N = .25. ln(2.5 / 1.25) = ln 2; 1 + 1.5; no error token -> 0.
    "no error": ([1, -0.25, 0.5], "hhh", 0.6931471805599453, 2.5, 0.0),
    # E empty; over all positions P = 0, N = 3. ln(1 / 4); 1 + 0; 0.
    "no error, all lost": ([-1, -2], "hh", -1.3862943611198906, 1.0, 0.0),
    # E empty, all zero: ln 1; 1 + 0; 0.
    "no error, nothing moved": ([0, 0], "hh", 0.0, 1.0, 0.0),
    # E = 0, 1 with P = N = 0 (the gain of 3 is at a hit): ln 1; undefined; N = 0 -> 0.
    "P = N = 0 with errors": ([0, 0, 3], "..h", 0.0, NAN, 0.0),
    # P = 0, N = 4: ln(1 / 5); 0 / 4; without position 0: 0 / 3.
    "P = 0": ([-1, -1, -2], "...", -1.6094379124341003, 0.0, 0.0),
    # One token, an error that lost 2: ln(1 / 3); 0 / 2; nothing is left after the first -> 0.
    "one token": ([-2], ".", -1.0986122886681098, 0.0, 0.0),
    # One token, an error that gained 2: ln 3; N = 0: 1 + 2; 0.
    "one token gained": ([2], ".", 1.0986122886681098, 3.0, 0.0),
    # E = 0, 1: P = 3, N = 1. ln(4 / 2) = ln 2; 3 / 4; after the first, one error (N = 1, P = 0) -> 0.
    "first token dropped": ([3, -1], "..", 0.6931471805599453, 0.75, 0.0),
    # E = 0, 1, 2: P = 6, N = 7. ln(7 / 8); 6 / 13; without position 0: P = 6, N = 2, 3.
    "first loss dropped": ([-5, 6, -2], "...", -0.13353139262452263, 0.46153846153846156, 3.0),
}


@pytest.mark.parametrize("gold", ERROR_ZONE_GOLD.values(), ids=ERROR_ZONE_GOLD)
def test_error_zone_variants_give_hand_worked_numbers(
    gold: tuple[list[float], str, float, float, float],
) -> None:
    deltas, hits, smoothed, paper, reference_code = gold
    record = case_of(deltas, hits)
    scores = package_scores([record])
    expected = {
        "error_zone": smoothed,
        "error_zone_paper": paper,
        "error_zone_reference_code": reference_code,
    }
    assert {name: scores[name][0] for name in expected} == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert {name: defined_score(name, record) for name in expected} == pytest.approx(expected, nan_ok=True)


@repeatable(60)
@given(st.lists(cases(), min_size=2, max_size=6))
def test_the_papers_error_zone_puts_records_without_errors_or_losses_on_top(records: list[Case]) -> None:
    scores = package_scores(records)["error_zone_paper"]
    strongest = [
        bool(r.audited) and (not errors_among(r.audited) or (losses(errors_among(r.audited)) == 0 < gains(r.audited)))
        for r in records
    ]
    assert all(np.isnan(s) or (s >= 1 if top else s <= 1) for s, top in zip(scores, strongest, strict=True))


def test_reference_ratio_is_infinite_for_a_certain_target_and_undefined_when_both_are_certain() -> None:
    target_certain = Case((Token(0.0, -1.0), Token(0.0, 0.0)))
    both_certain = Case((Token(0.0, 0.0), Token(0.0, 0.0)))
    reference_certain = Case((Token(-1.0, 0.0), Token(0.0, 0.0)))
    negative_zero = Case((Token(-0.0, -1.0),))
    records = [target_certain, both_certain, reference_certain, negative_zero]
    assert package_scores(records)["reference_ratio"] == pytest.approx([INF, NAN, 0.0, INF], nan_ok=True)


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 7, 10, 49])
@pytest.mark.parametrize("delta", [(-0.1, -0.3), (-0.3, -0.1), (-1.7, -0.6), (-0.1, -0.1)])
def test_paired_t_is_undefined_without_spread_whatever_the_rounding_of_the_mean(
    n_tokens: int, delta: tuple[float, float]
) -> None:
    target, reference = np.array(delta, np.float32).tolist()
    record = Case((Token(target, reference),) * n_tokens)
    assert np.isnan(package_scores([record])["paired_t"][0])


def test_a_delta_of_zero_never_counts_as_positive() -> None:
    still = case_of([0.0] * 12)
    scores = package_scores([still])
    assert [scores[name][0] for name in ("sign", "hard_token", "window_vote")] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", [(-0.1, -0.7), (-0.3, -2.1), (-1e-3, -9.9)])
def test_windows_that_cancel_exactly_never_count_as_positive(shape: tuple[float, float]) -> None:
    """Even after a prefix whose sum is not a round number."""
    low, high = np.array(shape, np.float32).tolist()
    up, down = Token(low, high), Token(high, low)
    odd = Token(*np.array((-0.013, -7.77), np.float32).tolist())
    # Windows of width 2 after the prefix of three sum to zero; the definition counts none of them.
    record = Case((odd, odd, odd) + (up, down) * 6)
    assert_defined([record])


@pytest.mark.parametrize(("n_tokens", "n_lowest"), [(1, 1), (4, 1), (9, 1), (10, 2), (14, 2), (15, 3), (35, 7)])
def test_lists_of_the_lowest_fifth_are_rounded_down_but_hold_at_least_one_token(n_tokens: int, n_lowest: int) -> None:
    # Log-probabilities -1, -2, ..., -n: the lowest m average -(n + n-m+1)/2.
    record = Case(tuple(Token(-float(i), -1.0) for i in range(1, n_tokens + 1)))
    assert package_scores([record])["min_k"][0] == pytest.approx(-(2 * n_tokens - n_lowest + 1) / 2)


def test_windows_wider_than_the_record_are_skipped() -> None:
    # Deltas 2, -1, 2: width 2 gives sums 1, 1 (share 1), width 3 gives 3 (share 1), wider ones nothing.
    # Deltas -2, 1, 2: width 2 gives -1, 3 (share 1/2), width 3 gives 1 (share 1): mean 3/4.
    records = [case_of([2, -1, 2]), case_of([-2, 1, 2]), case_of([5])]
    assert package_scores(records)["window_vote"] == pytest.approx([1.0, 0.75, NAN], nan_ok=True)


@repeatable(60)
@given(cases())
def test_hard_token_lies_between_the_shares_of_the_luckiest_and_unluckiest_way_to_break_ties(
    record: Case,
) -> None:
    audited = record.audited
    (score,) = package_scores([record])["hard_token"]
    if not audited:
        assert np.isnan(score)
        return
    n_taken = n_hardest(len(audited))
    unlucky = sorted(audited, key=lambda token: (token.target, token.delta > 0))[:n_taken]
    lucky = sorted(audited, key=lambda token: (token.target, token.delta <= 0))[:n_taken]
    lowest, highest = (sum(token.delta > 0 for token in way) / n_taken for way in (unlucky, lucky))
    assert lowest - 1e-12 <= score <= highest + 1e-12


def test_hard_token_takes_the_earlier_of_equally_likely_tokens() -> None:
    """METHODS.md is silent; any fixed rule would do, and this is the plain one."""
    records = [case_of([1.0, -1.0, -1.0]), case_of([-1.0, 1.0, 1.0]), case_of([1.0, 1.0, *[-1.0] * 8])]
    assert package_scores(records)["hard_token"].tolist() == [1.0, 0.0, 1.0]


def test_a_spread_of_zero_is_floored_at_a_millionth() -> None:
    # z = (-2 + 1.5) / 1e-6 = -500 000; the reference's z = (-1 + 1.5) / 2 = .25.
    record = Case((Token(-2.0, -1.0, False, -1.5, 0.0, -1.5, 4.0),))
    scores = package_scores([record])
    assert scores["min_k_plus_plus"][0] == pytest.approx(-500_000)
    assert scores["calibrated_min_k_plus_plus"][0] == pytest.approx(-500_000.25)


def test_records_without_an_audited_token_have_no_score() -> None:
    empty = Case(())
    prompt_only = Case((replace(LOUD, is_audited=False),) * 3)
    scores = package_scores([empty, random_case(np.random.default_rng(0), 6), prompt_only])
    for name in NAMES:
        assert np.isnan(scores[name][[0, 2]]).all(), name
        assert np.isfinite(scores[name][1]), name
