"""Shifts of the dose axis read off a published table of backdoors: full tuning against LoRA, METHODS.md section 3.3.

Attack success of a backdoor in BERT-large at five shares of poisoned records (mean of five seeds; full tuning / LoRA of
rank 8). What success without poison was is not published; it is taken as 0.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from loraudit.statistics import dose_ratio, draw_records, effective_dose, fit_dose_response

PERCENT_POISONED = np.array([0.10, 0.15, 0.20, 0.30, 0.45])
FULL = {
    "SST-2": (0.47, 0.93, 0.94, 1.0, 0.99),
    "QNLI": (0.70, 0.88, 0.99, 1.0, 1.0),
    "QQP": (0.33, 0.85, 0.99, 1.0, 1.0),
}
LORA = {
    "SST-2": (0.11, 0.13, 0.28, 0.80, 0.99),
    "QNLI": (0.41, 0.69, 0.77, 0.94, 0.98),
    "QQP": (0.19, 0.21, 0.30, 0.53, 0.90),
}
N = 5000
DRAWS = draw_records(N, 300, np.random.default_rng(0))


def published(rates: tuple[float, ...], seed: int):
    hits = (np.arange(N) < np.round(np.array(rates) * N)[:, None, None]).astype(float)
    rng = np.random.default_rng(seed)
    return fit_dose_response(PERCENT_POISONED, hits, np.zeros((1, N)), record_draws=DRAWS, rng=rng)


@pytest.mark.parametrize(
    ("task", "share", "full", "lora", "ratio"),
    [
        # (.50 − .47)/(.93 − .47) = .0652 of the way from ln .10 to ln .15: .10 · 1.5^.0652 = .1027
        # (.50 − .28)/(.80 − .28) = .4231 of the way from .20 to .30:       .20 · 1.5^.4231 = .2374
        ("SST-2", 0.5, 0.1027, 0.2374, 2.312),
        # (.50 − .33)/.52 = .3269: .10 · 1.5^.3269 = .1142;  (.50 − .30)/.23 = .8696: .20 · 1.5^.8696 = .2845
        ("QQP", 0.5, 0.1142, 0.2845, 2.492),
        # Half of the effect is there at the smallest dose under full tuning, so the shift is read at eight tenths:
        # (.80 − .70)/.18 = .5556: .10 · 1.5^.5556 = .1253;  (.80 − .77)/.17 = .1765: .20 · 1.5^.1765 = .2148
        ("QNLI", 0.8, 0.1253, 0.2148, 1.715),
    ],
)
def test_lora_takes_about_two_times_the_dose(task, share, full, lora, ratio):
    first, second = published(LORA[task], 1), published(FULL[task], 2)
    assert effective_dose(second, share).finding.value == pytest.approx(full, abs=2e-4)
    assert effective_dose(first, share).finding.value == pytest.approx(lora, abs=2e-4)
    found = dose_ratio(first, second, share).finding
    assert found.value == pytest.approx(ratio, abs=3e-3)
    assert 1.6 <= found.value <= 2.5
    assert 1 < found.lower <= found.value <= found.upper < 4


def test_a_half_effect_below_the_smallest_dose_gives_a_bound():
    found = dose_ratio(published(LORA["QNLI"], 1), published(FULL["QNLI"], 2), 0.5)
    # LoRA: (.50 − .41)/.28 = .3214: .10 · 1.5^.3214 = .1139; full tuning: below .10.
    assert (found.finding.value, found.bound) == (None, "above")
    assert "More than 1.14" in str(found.finding.note)
    assert math.isclose(1.139, effective_dose(published(LORA["QNLI"], 1), 0.5).finding.value / 0.1, abs_tol=1e-3)
