"""Own parts predicted from the base's kernel against really training with and without a record, in small steps."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from kernel_oracle import small_lm
from loraudit.capture import kernel_parts, mean_log_prob
from loraudit.influence.predicting import Flow
from loraudit.influence.probes import Probe
from loraudit.scoring.classifying import PaddedBatch
from loraudit.theory import full_kernel, head_kernel

N_MEMBERS, N_OTHERS, N_STEPS = 5, 3, 40
WEIGHTS = np.array([0.6, 1.4, 1.0, 0.8, 1.2])


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def rows_and_masks():
    rng = np.random.default_rng(3)
    rows = [rng.integers(3, 60, size=n) for n in (6, 9, 7, 8, 6, 9, 7, 8)]
    return rows, [np.arange(len(row)) > 0 for row in rows]


def value(model, functional, row, place):
    return functional(PaddedBatch([place], np.array([len(row)]), model(input_ids=torch.from_numpy(row)[None])))[0]


def trained(model, rows, functional, kept, flow, rate, is_trained):
    """[rows] f after gradient descent on the kept members, each with the weight of the whole set."""
    model = copy.deepcopy(model).double()
    parameters = [one for name, one in model.named_parameters() if is_trained(name)]
    for _ in range(N_STEPS):
        losses = [value(model, functional, rows[i], i) for i in kept]
        total = sum(w * (0.5 * f**2 if flow == "squared" else -f) for w, f in zip(WEIGHTS[kept], losses, strict=True))
        gradients = torch.autograd.grad(total / N_MEMBERS, parameters)
        with torch.no_grad():
            for one, gradient in zip(parameters, gradients, strict=True):
                one.sub_(gradient, alpha=rate)
    with torch.no_grad():
        return np.array([float(value(model, functional, row, i)) for i, row in enumerate(rows)])


@pytest.mark.parametrize(("flow", "method"), [("squared", "full"), ("log", "full"), ("squared", "head")])
def test_own_parts_and_gains_are_those_of_training_again_without_each_record(flow, method):
    model = small_lm("llama")
    rows, masks = rows_and_masks()
    functional = mean_log_prob(rows, masks)
    parts = kernel_parts(model, rows, functional, device="cpu", ranks=(1,), kinds=(), is_read_everywhere=True)
    kernel = full_kernel(parts) if method == "full" else head_kernel(parts)
    probe = Probe(
        np.arange(len(rows)),
        np.arange(len(rows)) < N_MEMBERS,
        rows,
        masks,
        np.eye(len(rows)),
        np.array([int(mask.sum()) for mask in masks]),
        np.empty(0, dtype=np.int64),
    )
    made = Flow(flow, kernel, parts.values, probe, WEIGHTS, N_MEMBERS)
    speed = float(np.diag(kernel)[:N_MEMBERS].mean())
    # As far as no output moves by more than a few hundredths of a nat: there the model is linear.
    time = 0.02 if flow == "log" else 0.02 / -float(parts.values[:N_MEMBERS].mean())
    fit = made.fit_at(time)
    rate = time / speed / N_STEPS

    def is_trained(name):
        return method == "full" or name == "lm_head.weight"

    everyone = np.arange(N_MEMBERS)
    whole = trained(model, rows, functional, everyone, flow, rate, is_trained)
    gains = whole - parts.values
    assert fit.members == pytest.approx(gains[:N_MEMBERS], rel=0.03)
    assert fit.nonmembers == pytest.approx(gains[N_MEMBERS:], rel=0.05, abs=2e-5)
    owns = [
        whole[i] - trained(model, rows, functional, np.delete(everyone, i), flow, rate, is_trained)[i] for i in everyone
    ]
    assert fit.own == pytest.approx(owns, rel=0.03)
    assert fit.own.max() > 1.5 * fit.own.min()  # weights and records differ, and both are seen
