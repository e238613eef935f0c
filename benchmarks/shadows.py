"""What shadow models see of LoRA and full tuning that a comparison with the base does not, and what they cost.

    python benchmarks/shadows.py --data reviews.jsonl.xz --other-domain news.jsonl.gz --other-base tinystories-656k \
        --out runs/shadows

`--data` is the Large Movie Review Dataset (Maas et al. 2011), `--other-domain` news passages, both as one JSON object
per line with a `text` column (docs/data.md gives sources and sha256); `--other-base` is a checkpoint of another
domain. Texts are drawn at random and cut to their first `--words` words before they are used anywhere. Prints the
tables of docs/results.md. Interrupted, the same command goes on.

Every target is trained three times, and full tuning at the learning rate at which three epochs reach the validation
loss that LoRA reaches in three. On several cores start one process per core with `--worker` first: they share the
work and print no table; the whole command then reads what they made.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims import Job, is_done, seconds_spent, work_through

from loraudit.auditing.preparation import base_options, requested_models, requested_tokenizer
from loraudit.auditing.references.making import make_reference
from loraudit.auditing.references.shadows import Shadows, requested_shadows
from loraudit.auditing.request import Sides, load_data, store_path
from loraudit.data import load_records, read_rows, record_facts
from loraudit.execution import Silent
from loraudit.finetuning import TrainedModel, finetune
from loraudit.membership import ATTACKS, score_attacks, without_noise
from loraudit.models import ModelPlan, packaged_base
from loraudit.scoring import Evidence, gather_evidence
from loraudit.spec import AuditSpec, Recipe, RecordFormat, make_audit_spec
from loraudit.statistics import AucRows, Fusion, Interval, Mixed, RateRows, disjoint_folds, over_seeds
from loraudit.store import EvidenceStore
from loraudit.types import BoolArray, FloatArray, TokenTable

N_VALIDATION = 300
N_TARGETS = 3
N_RESAMPLES = 2000
AGAINST_BASE = "error_zone"
FPRS = (0.01, 0.001)
CURVE = ("shadow_error_zone", "lira_tokens", "bavaria")
RATES_OF_FULL = (1e-4, 3e-4)
LORA = Recipe(
    method="lora", rank=16, alpha=32, dropout=0, epochs=3, learning_rate=2e-3, mixed_precision="bf16",
)  # fmt: skip
SHOWN = (
    AGAINST_BASE, "window_vote", "reference_difference", "loss", "shadow_error_zone", "shadow_window_vote",
    "shadow_paired_t", "shadow_reference_difference", "shadow_reference_ratio", "lira_offline", "bavaria",
    "lira_tokens", "rmia",
)  # fmt: skip
N_WITHOUT_SHADOWS = 4


@dataclass(frozen=True, eq=False)
class Setting:
    """One kind of target with one kind of attacker.

    Attributes:
        name: For the tables.
        base: Of target and shadows.
        target: Which kind of target it is, by name: settings may share one.
        method: "lora" or "full".
        pool: File of `--pool`; "" shares the non-members between pairs of shadows.
        n_shadows: To be trained.
        changes: In which the attacker's recipe differs from the target's.
        shadow_on: "audited" for shadows on halves of both sides.
    """

    name: str
    base: str
    target: str
    method: str
    pool: str
    n_shadows: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    shadow_on: str = "others"

    @property
    def n_per_record(self) -> int:
        """Shadows that score each record and have not seen it."""
        return self.n_shadows if self.pool else self.n_shadows // 2


class Bench:
    """Files, models and evidence under one folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.out: Path = arguments.out
        self.out.mkdir(parents=True, exist_ok=True)
        n, words = arguments.n, arguments.words
        sizes = {"members": n, "nonmembers": n, "validation": N_VALIDATION, "pool": 2 * n, "domain": 4 * n}
        self.files = write_texts(arguments.data, self.out, sizes, words)
        self.files |= write_texts(arguments.other_domain, self.out, {"news": 2 * n}, words)
        self.bases = {
            "packaged": str(packaged_base()),
            "near": str(self.out / "bases" / "near"),
            "other": str(arguments.other_base),
        }
        pool, news = self.files["pool"], self.files["news"]
        k = arguments.most
        few = min(4, k)
        self.settings = [
            Setting("LoRA", "packaged", "lora", "lora", pool, few),
            Setting("full", "packaged", "full", "full", pool, few),
            Setting("LoRA, base near the domain", "near", "lora-near", "lora", pool, few),
            Setting("LoRA, more shadows", "packaged", "lora", "lora", pool, k),
            Setting("LoRA; shadows on news", "packaged", "lora", "lora", news, 2),
            Setting("LoRA; shadows of one epoch", "packaged", "lora", "lora", pool, 2, {"epochs": 1}),
            Setting("LoRA; no pool", "packaged", "lora", "lora", "", 4),
            Setting("LoRA, TinyStories-656K", "other", "lora-other", "lora", pool, 2),
            Setting("LoRA; shadows of rank 4", "packaged", "lora", "lora", pool, 2, {"rank": 4, "alpha": 8.0}),
            Setting("LoRA; shadows on both sides", "packaged", "lora", "lora", "", 4, shadow_on="audited"),
        ]

    # --- jobs -------------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[Job]:
        """In order of importance."""

        seen: set[str] = set()
        for setting in self.settings:
            todo: list[Job] = []
            base_is_there = functools.partial(Path(self.bases[setting.base]).exists)
            if setting.base == "near":
                todo.append(Job("base near", self.make_near_base))
            if setting.method == "full":
                todo += [
                    Job(f"rate {r:g}", functools.partial(self.full_at, r), self.lora_is_there) for r in RATES_OF_FULL
                ]
            can_train = self.rate_is_known if setting.method == "full" else base_is_there
            for seed in range(N_TARGETS):
                train = functools.partial(self.score_target, setting, seed)
                todo.append(Job(f"target {setting.target} {seed}", train, can_train))
            is_there = functools.partial(self.target_is_there, setting)
            trained_on = Path(setting.pool).stem or setting.shadow_on
            for number in range(setting.n_shadows):
                name = f"shadow {setting.target} {trained_on} {dict(setting.changes)} {number}"
                todo.append(Job(name, functools.partial(self.shadow_table, setting, number), is_there))
            for job in todo:
                if job.name not in seen:
                    seen.add(job.name)
                    yield job

    def work(self) -> None:
        """Do what no other process is doing, until nothing is left."""
        work_through(self.out / "claims", self.jobs)

    # --- models -----------------------------------------------------------------------------------------

    def make_near_base(self) -> None:
        """The packaged base after one epoch of full tuning on further reviews of nobody's concern."""
        recipe = Recipe(method="full", epochs=1, learning_rate=1e-3, mixed_precision="bf16", seed=77)
        self._tuned("packaged", recipe, Path(self.bases["near"]), "domain")

    def _tuned(self, base: str, recipe: Recipe, out: Path, records: str = "members") -> TrainedModel:
        given = load_records([self.files[records]], RecordFormat()).records
        held_out = load_records([self.files["validation"]], RecordFormat()).records
        return finetune(self.bases[base], given, recipe, out, validation=held_out)

    def target(self, setting: Setting, seed: int) -> TrainedModel:
        recipe = LORA if setting.method == "lora" else self.full_recipe()
        changed = recipe.model_copy(update={"seed": seed})
        return self._tuned(setting.base, changed, self.out / "targets" / f"{setting.target}-{seed}")

    def full_at(self, rate: float) -> TrainedModel:
        recipe = Recipe(method="full", epochs=LORA.epochs, learning_rate=rate, mixed_precision="bf16")
        return self._tuned("packaged", recipe, self.out / "search" / f"full-{rate:g}")

    def full_recipe(self) -> Recipe:
        """At the rate at which the loss after all epochs would be that of LoRA: a line through two tries."""
        wanted = float(
            np.mean([self.target(self.settings[0], seed).validation_losses[-1] for seed in range(N_TARGETS)])
        )
        losses = [self.full_at(rate).validation_losses[-1] for rate in RATES_OF_FULL]
        logs = np.log(RATES_OF_FULL)
        log_rate = logs[0] + (wanted - losses[0]) * (logs[1] - logs[0]) / (losses[1] - losses[0])
        rate = float(f"{math.exp(log_rate):.2g}")
        return Recipe(method="full", epochs=LORA.epochs, learning_rate=rate, mixed_precision="bf16")

    def lora_is_there(self) -> bool:
        return all(self._is_done(f"target lora {seed}") for seed in range(N_TARGETS))

    def rate_is_known(self) -> bool:
        return self.lora_is_there() and all(self._is_done(f"rate {rate:g}") for rate in RATES_OF_FULL)

    def target_is_there(self, setting: Setting) -> bool:
        return self._is_done(f"target {setting.target} 0")

    def _is_done(self, name: str) -> bool:
        return is_done(self.out / "claims", name)

    # --- evidence ---------------------------------------------------------------------------------------

    def spec(self, setting: Setting, seed: int = 0) -> AuditSpec:
        values = {
            "model": str(self.out / "targets" / f"{setting.target}-{seed}"),
            "base": self.bases[setting.base],
            "members": self.files["members"],
            "nonmembers": self.files["nonmembers"],
            "shadow": setting.n_shadows,
            "pool": [setting.pool] if setting.pool else [],
            "shadow_on": setting.shadow_on,
            "precision": "bf16",
            "store": str(self.out / ".loraudit"),
            "offline": True,
        }
        return make_audit_spec(values)

    def sides(self, setting: Setting) -> Sides:
        return load_data(self.spec(setting))

    def gather(self, setting: Setting, plan: ModelPlan, views: Sequence[str], seed: int = 0) -> Evidence:
        spec = self.spec(setting, seed)
        return gather_evidence(
            plan,
            views=views,
            records=self.sides(setting).records,
            options=base_options(spec, plan),
            store=EvidenceStore(store_path(spec)),
            tokenizer=lambda: requested_tokenizer(spec, plan),
            progress=Silent(),
        )

    def score_target(self, setting: Setting, seed: int) -> None:
        self.target(setting, seed)
        self.target_tables(setting, seed)

    def target_tables(self, setting: Setting, seed: int) -> dict[str, TokenTable]:
        plan = requested_models(self.spec(setting, seed), EvidenceStore(store_path(self.spec(setting))))
        return dict(self.gather(setting, plan, ["reference", "target"], seed).tables)

    @functools.cache  # noqa: B019 - one bench per process
    def shadows(self, setting: Setting) -> Shadows:
        spec = self.spec(setting)
        found = requested_shadows(spec, requested_models(spec, EvidenceStore(store_path(spec))), self.sides(setting))
        if found is None:
            raise SystemExit("no shadows asked for")
        changed = []
        for wanted in found.wanted:
            recipe = wanted.recipe.model_copy(update=dict(setting.changes))
            question = {**wanted.question, "recipe": recipe.model_dump(mode="json")}
            changed.append(replace(wanted, recipe=recipe, question=question))
        return replace(found, wanted=changed)

    def shadow_table(self, setting: Setting, number: int) -> TokenTable:
        wanted = self.shadows(setting).wanted[number]
        plan = make_reference(wanted, self.spec(setting), progress=Silent(), stop=None)
        return self.gather(setting, plan, ["reference"]).tables["reference"]


# --- what it shows ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Measured:
    """Scores of every attack on the three targets of a setting, by number of shadows.

    Attributes:
        names: Attacks; N_TARGETS rows each, in this order.
        scores: [M, N].
        is_member: [N].
        areas: AUC of every row.
        rates: TPR of every row, on shared resamples.
    """

    names: tuple[str, ...]
    scores: FloatArray
    is_member: BoolArray
    areas: AucRows
    rates: RateRows

    @classmethod
    def of(cls, by_attack: Mapping[str, Sequence[FloatArray]], is_member: BoolArray) -> Measured:
        """From each attack's scores of every target."""
        scores = np.stack([column for columns in by_attack.values() for column in columns])
        rng = np.random.default_rng(0)
        rates = RateRows.of(scores, is_member, fprs=FPRS, n_resamples=N_RESAMPLES, rng=rng)
        return cls(tuple(by_attack), scores, is_member, AucRows.of(scores, is_member), rates)

    def column(self, attack: str, seed: int) -> FloatArray:
        return self.scores[self._rows(attack)[seed]]

    def _rows(self, attack: str) -> list[int]:
        first = N_TARGETS * self.names.index(attack)
        return list(range(first, first + N_TARGETS))

    def weights(self, attack: str) -> FloatArray:
        """[M] of the mean over the targets."""
        weights = np.zeros(len(self.scores))
        weights[self._rows(attack)] = 1 / N_TARGETS
        return weights

    def values(self, attack: str, fpr: float | None) -> FloatArray:
        """[N_TARGETS] AUC, or TPR at a rate, of each."""
        every = self.areas.auc if fpr is None else self.rates.tpr[FPRS.index(fpr)]
        return every[self._rows(attack)]

    def mixed(self, weights: FloatArray, fpr: float | None) -> Mixed:
        return self.areas.mixed(weights) if fpr is None else self.rates.mixed(weights)[fpr]

    def shown(self, attack: str, fpr: float | None) -> str:
        found = over_seeds(self.mixed(self.weights(attack), fpr), self.values(attack, fpr))
        return number(found.value, found.combined, is_rate=fpr is not None)

    def ratio(self, attack: str, to: str) -> str:
        """Of true-positive rates at 1 % FPR; from the ends of the two intervals, as if they were independent."""
        one, two = (self.mixed(self.weights(name), FPRS[0]) for name in (attack, to))
        low, high = ratio_interval(one, two)
        return f"{one.value / two.value:.1f} [{low:.1f}, {high:.1f}]"

    def gain(self, attack: str, to: str) -> str:
        """Difference in AUC on the same targets, paired over records."""
        found = self.mixed(self.weights(attack) - self.weights(to), None)
        return number(found.value, found.interval, sign="+")


def ratio_interval(one: Mixed, two: Mixed) -> Interval:
    """MOVER-R (Donner and Zou 2012, Statistical Methods in Medical Research 21(4)) with correlation 0, which is
    conservative where the two move together."""
    (a, (la, ua)), (b, (lb, ub)) = (one.value, one.interval), (two.value, two.interval)

    def end(a_end: float, b_end: float, sign: int) -> float:
        inside = (a * b) ** 2 - a_end * b_end * (2 * a - a_end) * (2 * b - b_end)
        return (a * b + sign * math.sqrt(max(0.0, inside))) / (b_end * (2 * b - b_end))

    return Interval(end(la, ub, -1), end(ua, lb, 1))


def number(value: float, interval: Interval, *, is_rate: bool = False, sign: str = "") -> str:
    if is_rate:
        return f"{100 * value:{sign}.1f} % [{100 * interval.lower:{sign}.1f}, {100 * interval.upper:{sign}.1f}]"
    return f"{value:{sign}.3f} [{interval.lower:{sign}.3f}, {interval.upper:{sign}.3f}]"


def side_by_side(one: Measured, attack: str, two: Measured, other: str) -> Measured:
    """Attacks of two settings, on the same records, as "one" and "two"."""
    given = {"one": (one, attack), "two": (two, other)}
    columns = {name: [found.column(of, seed) for seed in range(N_TARGETS)] for name, (found, of) in given.items()}
    return Measured.of(columns, one.is_member)


def between_methods(both: Measured, fpr: float | None) -> str:
    """First minus second, whose targets were trained apart."""
    mixed = both.mixed(both.weights("one") - both.weights("two"), fpr)
    found = over_seeds(mixed, both.values("one", fpr), both.values("two", fpr))
    return f"{number(found.value, found.combined, is_rate=fpr is not None, sign='+')}, p = {found.p_value:.2g}"


def measured(bench: Bench, setting: Setting, n_shadows: int) -> Measured:
    """The setting with its first shadows alone."""
    sides = bench.sides(setting)
    facts = record_facts(sides.records, "trained")
    given = replace(bench.shadows(setting).halves, parts=bench.shadows(setting).halves.parts[:n_shadows])
    said = given.views([bench.shadow_table(setting, number) for number in range(n_shadows)], seed=0)
    online = setting.shadow_on == "audited"
    attacks = [ATTACKS[name] for name in (*SHOWN, *(["lira_online"] if online else []))]
    by_attack: dict[str, list[FloatArray]] = {attack.name: [] for attack in attacks}
    for seed in range(N_TARGETS):
        found = score_attacks(attacks, {**bench.target_tables(setting, seed), **said}, facts)
        for name, result in found.items():
            by_attack[name].append(without_noise(result.scores))
    return Measured.of(by_attack, sides.is_member)


def fused(found: Measured, attacks: Sequence[str]) -> tuple[str, str, str]:
    """AUC and TPR at 1 % FPR of the cross-fitted fusion of these scores; then beyond the best of them alone."""
    is_member = found.is_member
    fusions = []
    for seed in range(N_TARGETS):
        folds = disjoint_folds(is_member, None, rng=np.random.default_rng(seed))
        columns = {name: found.column(name, seed) for name in attacks}
        fusions.append(Fusion.of(columns, is_member, groups=None, folds=folds).scores())
    best = max(attacks, key=lambda name: float(np.mean(found.values(name, None))))
    alone = [found.column(best, seed) for seed in range(N_TARGETS)]
    both = Measured.of({"fused": fusions, best: alone}, is_member)
    return both.shown("fused", None), both.shown("fused", FPRS[0]), f"{both.gain('fused', best)} (`{best}`)"


def methods_tables(bench: Bench, by_name: Mapping[str, Setting]) -> Iterator[str]:
    """LoRA and full tuning, each alone and one minus the other."""
    for name in ("LoRA", "full"):
        setting = by_name[name]
        found = measured(bench, setting, setting.n_shadows)
        yield f"\n**{name}, {setting.n_shadows} shadows**\n"
        yield (
            "| attack | AUC | TPR at 1 % FPR | TPR at 0.1 % FPR | AUC beyond `error_zone` "
            "| TPR at 1 % FPR, times `error_zone`'s |"
        )
        yield "|---|---|---|---|---|---|"
        for attack in SHOWN:
            of_itself = attack == AGAINST_BASE
            beyond = None if of_itself else (found.gain(attack, AGAINST_BASE), found.ratio(attack, AGAINST_BASE))
            yield (
                f"| `{attack}` | {found.shown(attack, None)} | {found.shown(attack, 0.01)} "
                f"| {found.shown(attack, 0.001)} | {' | '.join(beyond) if beyond else ' | '} |"
            )
    yield "\n**LoRA minus full tuning, three runs each, on the same records**\n"
    yield "| attack | AUC | TPR at 1 % FPR |\n|---|---|---|"
    lora, full = (measured(bench, by_name[name], by_name[name].n_shadows) for name in ("LoRA", "full"))
    for attack in (AGAINST_BASE, *CURVE):
        both = side_by_side(lora, attack, full, attack)
        cells = [between_methods(both, fpr) for fpr in (None, FPRS[0])]
        yield f"| `{attack}` | {' | '.join(cells)} |"


def tables(bench: Bench) -> Iterator[str]:
    """Markdown."""
    by_name = {setting.name: setting for setting in bench.settings}
    yield "| target | validation loss after three epochs, each run | learning rate |\n|---|---|---|"
    of_target = {setting.target: setting for setting in reversed(bench.settings)}
    for name, setting in sorted(of_target.items()):
        models = [bench.target(setting, seed) for seed in range(N_TARGETS)]
        losses = ", ".join(f"{model.validation_losses[-1]:.3f}" for model in models)
        yield f"| {name} | {losses} | {models[0].facts['recipe']['learning_rate']:g} |"
    yield from methods_tables(bench, by_name)
    yield "\n**Fused: the auditor's upper bound**\n"
    yield "| target | scores fused | AUC | TPR at 1 % FPR | AUC beyond the best of them alone |\n|---|---|---|---|---|"
    for name in ("LoRA", "full"):
        found = measured(bench, by_name[name], by_name[name].n_shadows)
        for words, attacks in (("without shadows", SHOWN[:N_WITHOUT_SHADOWS]), ("all", SHOWN)):
            yield f"| {name} | {words} ({len(attacks)}) | {' | '.join(fused(found, attacks))} |"
    yield "\n**More shadows (LoRA)**\n"
    yield f"| shadows | {' | '.join(f'`{attack}`: TPR at 1 %, AUC' for attack in CURVE)} |"
    yield "|---" * (len(CURVE) + 1) + "|"
    setting, first = by_name["LoRA, more shadows"], None
    for n_shadows in (n for n in (1, 2, 4, 8, 16, 32) if n <= setting.n_shadows):
        found = measured(bench, setting, n_shadows)
        first = first or found
        cells = [f"{found.shown(attack, 0.01)}, {found.shown(attack, None)}" for attack in CURVE]
        yield f"| {n_shadows} | {' | '.join(cells)} |"
        if n_shadows > 1:
            cells = [
                f"AUC beyond one shadow {side_by_side(found, attack, first, attack).gain('one', 'two')}"
                for attack in CURVE
            ]
            yield f"| | {' | '.join(cells)} |"
    yield "\n**Other bases, other attackers**\n"
    yield (
        "| setting | shadows per record | `error_zone` against the base: TPR at 1 %, AUC "
        f"| {' | '.join(f'`{attack}`: TPR at 1 %, AUC, TPR times' for attack in CURVE)} |"
    )
    yield "|---" * (len(CURVE) + 3) + "|"
    for setting in bench.settings:
        for n_shadows in sorted({min(2, setting.n_shadows), min(4, setting.n_shadows)}):
            if "more" in setting.name or (n_shadows < 4 and not setting.pool):
                continue
            found = measured(bench, setting, n_shadows)
            names = (*CURVE, *(["lira_online"] if setting.shadow_on == "audited" else []))
            cells = [f"{found.shown(a, 0.01)}, {found.shown(a, None)}, {found.ratio(a, AGAINST_BASE)}" for a in names]
            per_record = n_shadows if setting.pool else n_shadows // 2
            base = f"{found.shown(AGAINST_BASE, 0.01)}, {found.shown(AGAINST_BASE, None)}"
            yield f"| {setting.name} | {per_record} | {base} | {' | '.join(cells)} |"
    yield "\n| work | seconds, each |\n|---|---|"
    spent: dict[str, list[str]] = {}
    for name, seconds in seconds_spent(bench.out / "claims").items():
        spent.setdefault(name.rsplit(" ", 1)[0], []).append(f"{seconds:.0f}")
    for name, each in spent.items():
        yield f"| {name} | {', '.join(each)} |"


def write_texts(data: Path, out: Path, sizes: Mapping[str, int], words: int) -> dict[str, str]:
    """Files of texts drawn at random without repetition, each cut to its first words."""
    rows = [row for _, row in read_rows(str(data)).rows if isinstance(row, dict)]
    order = np.random.default_rng(0).permutation(len(rows))
    if len(rows) < sum(sizes.values()):
        raise SystemExit(f"{data}: {len(rows)} records; {sum(sizes.values())} are needed")
    paths: dict[str, str] = {}
    start = 0
    for name, size in sizes.items():
        texts = [" ".join(rows[i]["text"].split()[:words]) for i in order[start : start + size]]
        start += size
        content = "".join(json.dumps({"text": text}) + "\n" for text in dict.fromkeys(texts))
        path = out / f"{name}.jsonl"
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
        paths[name] = str(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="reviews, one JSON object per line")
    parser.add_argument("--other-domain", type=Path, required=True, help="texts of another domain, as --data")
    parser.add_argument("--other-base", type=Path, required=True, help="checkpoint folder of another, smaller base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1000, help="records per side")
    parser.add_argument("--words", type=int, default=100, help="words kept of each text")
    parser.add_argument("--most", type=int, default=8, help="shadows of the longest curve")
    parser.add_argument("--worker", action="store_true", help="share the work with other processes, with one thread")
    arguments = parser.parse_args()
    if arguments.worker:
        torch.set_num_threads(1)
    bench = Bench(arguments)
    bench.work()
    if not arguments.worker:
        print("\n".join(tables(bench)))


if __name__ == "__main__":
    main()
