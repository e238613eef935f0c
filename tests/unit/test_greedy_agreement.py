"""Whether generation says what one pass predicts, and how a model that does not is told of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_continuing import by_library, model, prompts

from loraudit.errors import ConfigError
from loraudit.generation import greedy_agreement
from loraudit.generation.agreement import top_two_margins


def hits(resident, prompt, text, view="target"):
    """Leading top-1 hits of a text as one pass over it says."""
    with torch.no_grad(), resident.views[view]():
        logits = resident.module(input_ids=torch.tensor([[*prompt, *text]]), use_cache=False).logits
    is_top1 = logits[0, len(prompt) - 1 : -1].argmax(-1).numpy() == np.array(text)
    return int(np.cumprod(is_top1).sum())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("view", ["target", "reference"])
def test_what_one_pass_predicts_is_what_generation_says(family, view):
    own = model(family, adapter=True)
    given = prompts(8, 8, 8, 12, 5, 6)
    texts = by_library(own, given, 9, view)
    for place in (1, 3, 4):
        texts[place][2 + place] ^= 1  # a miss in the middle
    n_hits = [hits(own, prompt, text, view) for prompt, text in zip(given, texts, strict=True)]
    assert n_hits == [9, 3, 9, 5, 6, 9]
    found = greedy_agreement(own, given, texts, n_hits=n_hits, view=view)
    assert (found.n, found.n_agree, found.disagreements) == (6, 6, ())


def test_texts_that_are_said_as_a_whole_need_no_number_of_hits():
    own = model("llama")
    given = prompts(8, 8)
    assert greedy_agreement(own, given, by_library(own, given, 5)).n_agree == 2


def test_disagreements_say_where_and_by_what_margin():
    own = model("llama")
    given = prompts(8, 8, 8)
    texts = by_library(own, given, 6)
    texts[1][4] ^= 1  # predicted to be said, and is not
    found = greedy_agreement(own, given, texts, n_hits=[6, 6, 2])  # the third goes on where a miss was predicted
    assert (found.n, found.n_agree) == (3, 1)
    second, third = found.disagreements
    assert (second.place, second.n_equal, second.n_predicted) == (1, 4, 6)
    assert (third.place, third.n_equal, third.n_predicted) == (2, 3, 2)
    for disagreement, n in ((second, 5), (third, 3)):
        text = [*given[disagreement.place], *texts[disagreement.place]]
        with torch.no_grad():
            logits = own.module(input_ids=torch.tensor([text]), use_cache=False).logits[0, 7 : 7 + n]
        ordered = logits.log_softmax(-1).sort(-1, descending=True).values
        assert disagreement.smallest_margin == pytest.approx(float((ordered[:, 0] - ordered[:, 1]).min()), abs=1e-5)
    assert found.smallest_margins == [second.smallest_margin, third.smallest_margin]


def test_margins_behind_where_two_part_do_not_count():
    own = model("llama")
    given = prompts(*[8] * 6)
    said = by_library(own, given, 9)
    texts = [[one[0] ^ 1, *one[1:]] for one in said]
    behind = [top_two_margins(own, "target", prompt, text) for prompt, text in zip(given, texts, strict=True)]
    assert min(one[1:].min() - one[0] for one in behind) < 0, "some margin behind is smaller"
    found = greedy_agreement(own, given, texts)
    assert found.smallest_margins == pytest.approx([float(one[0]) for one in behind], abs=1e-5)


def test_the_wrong_view_disagrees():
    own = model("llama", adapter=True)
    given = prompts(*[8] * 5)
    texts = by_library(own, given, 9, "target")
    assert greedy_agreement(own, given, texts, view="target").n_agree == 5
    assert greedy_agreement(own, given, texts, view="reference").n_agree < 5


def test_no_prompts_agree_with_nothing():
    found = greedy_agreement(model("llama"), [], [])
    assert (found.n, found.n_agree) == (0, 0)


@pytest.mark.parametrize("n_hits", [[1], [1, 3], [-1, 0]])
def test_hits_that_do_not_fit_are_refused(n_hits):
    with pytest.raises(ConfigError, match=r"The numbers of hits do not fit 2 texts\. Expected one for each, from 0"):
        greedy_agreement(model("llama"), [[1], [2]], [[1, 2], [3, 4]], n_hits=n_hits)
