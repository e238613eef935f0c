"""What a robustness run would take, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from loraudit.finetuning import estimate_training, training_device
from loraudit.robustness.request import check_request, robustness_path
from loraudit.spec import RobustnessSpec
from loraudit.tasks import check_files, plan_attacks, split_task


class MethodCost(NamedTuple):
    """One method.

    Attributes:
        name: As asked for.
        n_steps: Of one training run.
        n_trained_parameters: Parameters that are trained.
        memory_bytes: Weights, gradients and optimiser while training.
        is_searched: Whether its learning rate has to be found first, in up to six short runs.
    """

    name: str
    n_steps: int
    n_trained_parameters: int
    memory_bytes: int
    is_searched: bool


@dataclass(frozen=True, slots=True)
class RobustnessCost:
    """What a robustness run would take.

    Attributes:
        path: Its run folder.
        trained_as: classification or causal_lm.
        n_train: Records trained on.
        n_validation: Records held out for the validation loss.
        n_test: Records tested on.
        n_runs: Training runs, clean, poisoned and positive controls; searches not counted.
        n_steps: Steps of all of them together.
        attacks: Name, and dose with the records it poisons.
        methods: Each of them.
        warnings: What was left out, and what speaks against an attack.
    """

    path: str
    trained_as: str
    n_train: int
    n_validation: int
    n_test: int
    n_runs: int
    n_steps: int
    attacks: list[tuple[str, list[tuple[float, int]]]]
    methods: list[MethodCost]
    warnings: list[str]


def estimate_robustness(spec: RobustnessSpec) -> RobustnessCost:
    """Check everything that shows before the first step, and count.

    Raises:
        LorauditError: As `run_robustness`.
    """
    check_files(spec)
    data = split_task(spec)
    asked = check_request(spec, data.task)
    training_device(spec.device)
    plans = plan_attacks(
        spec, asked.attacks, data, n_seeds=max(arm.seeds for arm in asked.arms), control_dose=spec.control_dose
    )
    n_doses = sum(len(plan.doses) for plan in plans)
    n_controls = sum(plan.is_backdoor for plan in plans)
    methods: list[MethodCost] = []
    for arm in asked.arms:
        cost = estimate_training(spec.base, data.train, arm.recipe, validation=data.validation, offline=spec.offline)
        methods.append(
            MethodCost(arm.name, cost.n_steps, cost.n_trained_parameters, cost.memory_bytes, not arm.has_rate)
        )
    beside = bool(spec.detect or spec.persistence)
    n_runs = [arm.seeds * (1 + n_doses) + n_controls for arm in asked.arms]
    return RobustnessCost(
        path=str(robustness_path(spec)),
        trained_as=data.task,
        n_train=len(data.train),
        n_validation=len(data.validation),
        n_test=len(data.test),
        n_runs=sum(n_runs),
        n_steps=sum(n * method.n_steps for n, method in zip(n_runs, methods, strict=True)),
        attacks=[(plan.name, list(zip(plan.doses, plan.n_poisoned, strict=True))) for plan in plans],
        methods=methods,
        warnings=[
            *data.warnings,
            *(f"{plan.name}: {words}" for plan in plans for words in plan.warnings),
            *(["Detectors, and what --persistence asks for, come on top of these steps."] if beside else []),
        ],
    )
