from __future__ import annotations

import hashlib
import os
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from loraudit.errors import ConfigError
from loraudit.synthetic import labelled_records, private_records

WORDS_IN_A_RUN = 5


@pytest.fixture(scope="module")
def many() -> list[str]:
    return private_records(3000, seed=0)


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return set(zip(*(words[start:] for start in range(WORDS_IN_A_RUN)), strict=False))


def highest_overlaps(texts: list[str]) -> list[float]:
    """For each text the largest Jaccard overlap of its five-word runs with those of any other text."""
    runs = [runs_of_words(text) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, own in enumerate(runs):
        for run in own:
            holders[run].append(index)
    highest: list[float] = []
    for index, own in enumerate(runs):
        shared = Counter(other for run in own for other in holders[run] if other != index)
        overlaps = [count / (len(own) + len(runs[other]) - count) for other, count in shared.items()]
        highest.append(max(overlaps, default=0.0))
    return highest


def test_same_seed_gives_same_records_and_another_seed_none_of_them():
    assert private_records(200, seed=3) == private_records(200, seed=3)
    assert not set(private_records(200, seed=3)) & set(private_records(200, seed=4))


@pytest.mark.parametrize("n", [0, 1, 57, 299])
def test_fewer_records_are_a_prefix_of_more(n: int):
    assert private_records(n, seed=11) == private_records(300, seed=11)[:n]


def test_records_do_not_depend_on_the_hash_seed():
    program = (
        "import hashlib; from loraudit.synthetic import private_records; "
        "print(hashlib.sha256('\\n'.join(private_records(100, seed=5)).encode()).hexdigest())"
    )
    here = hashlib.sha256("\n".join(private_records(100, seed=5)).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == here


def test_records_are_distinct(many: list[str]):
    assert len(set(many)) == len(many) == 3000


def test_lengths_spread_over_the_promised_range(many: list[str]):
    lengths = [len(record.split()) for record in many]
    assert min(lengths) >= 45
    assert max(lengths) <= 90
    tenth, ninth = statistics.quantiles(lengths, n=10)[0], statistics.quantiles(lengths, n=10)[-1]
    assert tenth < 62
    assert ninth > 82


def test_no_record_is_another_with_the_names_changed():
    # Measured over seeds 0 to 9: medians 0.045 to 0.050, highest 0.18.
    overlaps = highest_overlaps(private_records(600, seed=0))
    assert statistics.median(overlaps) <= 0.08
    assert max(overlaps) <= 0.3


def test_overlap_measure_sees_a_template():
    texts = [f"the customer {name} asked us to close the account at once" for name in ("Ada", "Ben", "Cy")]
    assert min(highest_overlaps(texts)) > 0.3


def test_fourteen_kinds_appear_about_equally_often():
    counts = Counter(kind for kind, _ in labelled_records(1400, seed=2))
    assert len(counts) == 14
    assert min(counts.values()) > 50


def test_labels_belong_to_the_same_records():
    assert [text for _, text in labelled_records(40, seed=9)] == private_records(40, seed=9)


def test_every_clause_is_expanded_in_full(many: list[str]):
    for record in many:
        assert not re.search(r"[\[\]{}|#%<>]|  | [.,;:]|\n", record), record
        assert record[0].isupper() or record[0].isdigit(), record
        assert record[-1] in ".?!", record


def test_telephone_numbers_and_mail_addresses_are_reserved_ones(many: list[str]):
    text = "\n".join(many)
    telephones = re.findall(r"\b555-\S*", text)
    assert len(telephones) > 500
    assert all(re.match(r"555-01\d\d\b", telephone) for telephone in telephones)
    assert text.count("@") == len(re.findall(r"[a-z0-9.-]@example\.org\b", text)) > 300


@pytest.mark.parametrize("make", [private_records, labelled_records])
def test_negative_number_or_seed_is_a_config_error(make):
    with pytest.raises(ConfigError, match="number of records must be 0 or more, not -1"):
        make(-1, seed=0)
    with pytest.raises(ConfigError, match="seed must be 0 or more, not -2"):
        make(1, seed=-2)
