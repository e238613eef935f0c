"""The table of docs/theory.md, and two of its rows worked by hand: width 1024, uniform A of variance 1 / (3 · 1024)."""

import math
import re
from pathlib import Path

import pytest

from loraudit.theory import (
    corrected_second_entropy,
    expected_participation,
    function_space_speed,
    published_first_entropy,
    published_second_entropy,
    relative_noise,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "theory.md"
WIDTH, VARIANCE = 1024, 1 / 3072


def row(rank):
    asked = {"rank": rank, "width": WIDTH, "entry_variance": VARIANCE}
    return [
        published_first_entropy(**asked).value,
        published_second_entropy(**asked, family="uniform").value,
        corrected_second_entropy(**asked, family="uniform").value,
        expected_participation(rank=rank, width=WIDTH, family="uniform").value,
        function_space_speed(rank=rank, alpha=2 * rank, entry_variance=VARIANCE).value,
        function_space_speed(rank=rank, alpha=16, entry_variance=VARIANCE).value,
        relative_noise(1.0, rank=rank).value,
    ]


@pytest.mark.parametrize("rank", [4, 8, 64, 512])
def test_the_table_on_the_page_is_what_the_functions_give(rank):
    line = next(one for one in PAGE.read_text(encoding="utf-8").splitlines() if one.startswith(f"| {rank} |"))
    shown = [cell.strip().replace("−", "-") for cell in line.strip("|").split("|")][1:]
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in shown)
    assert [float(cell) for cell in shown] == pytest.approx(row(rank), rel=5e-3, abs=6e-4)


def test_two_rows_by_hand():
    """r n σ² = r/3; (4r + 5r²)/5 and r (n + r − 0.2), both times σ⁴ n = 1/9216; speeds 4r/3072 and 256/(3072 r)."""
    assert row(4) == pytest.approx(
        [
            math.log(4 / 3),
            math.log(19.2 / 9216),
            math.log(4 * 1027.8 / 9216),
            4 * 1024 / 1027.8,
            16 / 3072,
            64 / 3072,
            math.sqrt(0.5),
        ]
    )
    assert row(512) == pytest.approx(
        [
            math.log(512 / 3),
            math.log(262553.6 / 9216),
            math.log(512 * 1535.8 / 9216),
            512 * 1024 / 1535.8,
            2048 / 3072,
            0.5 / 3072,
            1 / 16,
        ]
    )


def test_variance_moves_the_published_entropies_as_rank_does_and_the_shape_not_at_all():
    """Of the published sweep of c from 2 to 0.0001 at rank 8: both entropies fall, the participation ratio stays."""
    variances = [c / WIDTH for c in (2, 1.5, 1, 0.667, 0.333, 0.1, 0.001, 0.0001)]
    first = [published_first_entropy(rank=8, width=WIDTH, entry_variance=v).value for v in variances]
    second = [published_second_entropy(rank=8, width=WIDTH, entry_variance=v).value for v in variances]
    assert first == sorted(first, reverse=True)
    assert second == sorted(second, reverse=True)
    assert first[0] - first[-1] == pytest.approx(math.log(20_000))
    moments = [corrected_second_entropy(rank=8, width=WIDTH, entry_variance=v).value for v in variances]
    shapes = [math.exp(2 * one - two) for one, two in zip(first, moments, strict=True)]
    assert shapes == pytest.approx([expected_participation(rank=8, width=WIDTH).value] * len(variances))
