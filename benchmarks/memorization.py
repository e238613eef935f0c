"""What can be extracted after full, head-only and LoRA tuning: by copies, by size of the model, beside membership.

    python benchmarks/memorization.py --data reviews.jsonl.xz --out runs/memorization
    python benchmarks/memorization.py --data reviews.jsonl.xz --base 1M=bases/1M --base 12M=bases/12M \
        --base tinystories-656k=… --out runs/memorization

`--data` is the Large Movie Review Dataset (docs/data.md), cut to the first `--words` words of each review. Equal shares
of the members stand 1, 4, 16 and 64 times in the training set. Every method of a base is trained for the same epochs,
at a learning rate given here, and audited after ¼, ½, 1, 2 and 3 of them: extraction from the evidence and membership
at each of these, continuations at the last. Prints the tables of docs/results.md. The packaged base takes all methods,
others full, head-only and LoRA of rank 16; bases of other sizes are made by `scripts/pretrain_base.py`.

Several processes may share the work, each with `--worker`; the command without it prints the tables.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from claims import Job, seconds_spent, work_through

from loraudit.auditing import run_audit
from loraudit.data import load_records, read_rows
from loraudit.finetuning import TrainedModel, finetune
from loraudit.models import packaged_base
from loraudit.spec import AuditResult, MemorizationResult, Recipe, RecordFormat, WithControls, make_audit_spec
from loraudit.store import read_run
from loraudit.types import Finding

COPIES = (1, 4, 16, 64)
N_VALIDATION = 200
EPOCHS = (0.25, 0.5, 1.0, 2.0, 3.0)
PACKAGED = "packaged"
PREFIX, SUFFIX = 50, 45
METHODS = {
    "full": {"method": "full", "learning_rate": 1e-3},
    "head": {"method": "head", "learning_rate": 3e-3},
    "LoRA 4": {"method": "lora", "rank": 4, "dropout": 0.0, "alpha": 8.0, "learning_rate": 1e-2},
    "LoRA 16": {"method": "lora", "rank": 16, "dropout": 0.0, "alpha": 32.0, "learning_rate": 5e-3},
    "LoRA 64": {"method": "lora", "rank": 64, "dropout": 0.0, "alpha": 128.0, "learning_rate": 3e-3},
}
OF_OTHER_BASES = ("full", "head", "LoRA 16")


@dataclass(frozen=True)
class Arm:
    """One method on one base."""

    base: str
    method: str

    @property
    def name(self) -> str:
        return f"{self.base} {self.method}"


class Bench:
    """Files, models and audits under one folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.out: Path = arguments.out
        self.out.mkdir(parents=True, exist_ok=True)
        packaged = {} if arguments.no_packaged else {PACKAGED: str(packaged_base())}
        self.bases = {**packaged, **dict(each.split("=", 1) for each in arguments.base)}
        self.files = write_records(arguments.data, self.out, arguments.n, arguments.words)
        methods = {base: METHODS if base == PACKAGED else OF_OTHER_BASES for base in self.bases}
        self.arms = [Arm(base, method) for base in self.bases for method in methods[base]]

    def jobs(self) -> Iterator[Job]:
        for arm in self.arms:
            yield Job(arm.name, functools.partial(self.results, arm))

    def model(self, arm: Arm) -> TrainedModel:
        recipe = Recipe(**METHODS[arm.method], epochs=3, mixed_precision="bf16", checkpoint_epochs=EPOCHS)
        given = load_records([self.files["members"]], RecordFormat())
        held_out = load_records([self.files["validation"]], RecordFormat()).records
        out = self.out / "models" / arm.name
        return finetune(
            self.bases[arm.base], given.records, recipe, out, validation=held_out, copies=dict(given.copies)
        )

    def results(self, arm: Arm) -> list[tuple[float, float, AuditResult]]:
        """Epoch, validation loss and audit of every checkpoint."""
        model = self.model(arm)
        found: list[tuple[float, float, AuditResult]] = []
        for moment in model.moments:
            if not moment.step or not moment.checkpoint:
                continue
            is_last = moment.step == model.chosen.step
            where = model.path if is_last else model.path / moment.checkpoint
            audit = self.audit(arm, where, f"{arm.name} {moment.epoch:g}", generations=1000 if is_last else 0)
            found.append((moment.epoch, float(moment.validation_loss or np.nan), audit))
        return found

    def audit(self, arm: Arm, model: Path, name: str, *, generations: int) -> AuditResult:
        folder = self.out / "audits" / name
        if (folder / "result.json").exists():
            return read_run(folder).result
        values = {
            "model": str(model),
            "base": self.bases[arm.base],
            "members": self.files["members"],
            "nonmembers": self.files["nonmembers"],
            "attacks": ["error_zone"],
            "memorization": True,
            "prefix_tokens": [PREFIX],
            "suffix_tokens": SUFFIX,
            "generations": generations,
            "near_records": 40 if generations else 0,
            "precision": "bf16",
            "resamples": 500,
            "out": str(folder),
            "store": str(self.out / ".loraudit"),
            "offline": True,
        }
        return run_audit(make_audit_spec(values)).result


def tables(bench: Bench) -> Iterator[str]:
    """Markdown."""
    everything = {arm: bench.results(arm) for arm in bench.arms}
    yield "**After three epochs: what can be extracted, of members, held-out records and by the base**\n"
    yield (
        "| base, method | validation loss | trained | `error_zone` AUC | greedy, all members | held-out "
        "| mean extraction strength | bits per parameter |\n|---|---|---|---|---|---|---|---|"
    )
    for arm, found in everything.items():
        _, loss, result = found[-1]
        told = memorized(result)
        area = result.membership.attack("error_zone").findings["auc"]
        greedy = told.greedy[0].extracted
        strength = next(one.mean for one in told.strengths if one.name == "extraction_strength")
        assert told.capacity is not None
        assert told.capacity.bits is not None
        recorded = json.loads((bench.out / "models" / arm.name / "loraudit_recipe.json").read_text(encoding="utf-8"))
        n_trained = recorded["n_trained_parameters"]
        yield (
            f"| {arm.base}, {arm.method} | {loss:.3f} | {n_trained:,} | {number(area)} "
            f"| {share(greedy.members)} | {share(greedy.held_out)} | {number(strength.members)} "
            f"| {told.capacity.bits / n_trained:.3f} |"
        )
    yield "\n**By copies, after three epochs: suffix said greedily; mean probability in one draw**\n"
    yield f"| base, method | {' | '.join(f'{n} copies' for n in COPIES)} |"
    yield "|---" * (len(COPIES) + 1) + "|"
    for arm, found in everything.items():
        rows = {row.copies: row for row in memorized(found[-1][2]).copies}
        cells = [f"{share(row.greedy)}; {share(row.sampled)}" for row in rows.values()]
        yield f"| {arm.base}, {arm.method} | {' | '.join(cells)} |"
    yield "\n**Continuations of members / held-out records / members by the base: worst match in the training set**\n"
    kinds = ("suffix", "verbatim", "near_verbatim", "paraphrase", "idea", "any")
    yield f"| base, method, decoding | {' | '.join(kinds)} | nearest by edits | any, in held-out records |"
    yield "|---" * (len(kinds) + 3) + "|"
    for arm, found in everything.items():
        for point in memorized(found[-1][2]).generated:
            cells = [three(point.kinds[kind]) for kind in kinds]
            near = point.similarity["nearest_by_edits"]
            yield (
                f"| {arm.base}, {arm.method}, {point.decoding} | {' | '.join(cells)} "
                f"| {three(near, percent=False)} | {share(point.unseen.get('any'))} |"
            )
    yield "\n**Near-verbatim: probability of the suffix, and of anything within five edits of it, at least**\n"
    yield "| base, method | members: exact | within five | held-out: exact | within five |\n|---|---|---|---|---|"
    for arm, found in everything.items():
        for near in memorized(found[-1][2]).near:
            cells = [
                share(one) for one in (near.exact.members, near.near.members, near.exact.held_out, near.near.held_out)
            ]
            yield f"| {arm.base}, {arm.method} | {' | '.join(cells)} |"
    yield "\n**Along the training: validation loss; greedy share of members; `error_zone` AUC**\n"
    yield f"| base, method | {' | '.join(f'{epoch:g} epochs' for epoch in EPOCHS)} |"
    yield "|---" * (len(EPOCHS) + 1) + "|"
    for arm, found in everything.items():
        cells = [along(loss, result) for _, loss, result in found]
        yield f"| {arm.base}, {arm.method} | {' | '.join(cells)} |"
    yield "\n| work | seconds |\n|---|---|"
    for name, seconds in seconds_spent(bench.out / "claims").items():
        yield f"| {name} | {seconds:.0f} |"


def memorized(result: AuditResult) -> MemorizationResult:
    assert result.memorization is not None
    return result.memorization


def along(loss: float, result: AuditResult) -> str:
    area = result.membership.attack("error_zone").findings["auc"].value
    return f"{loss:.3f}; {share(memorized(result).greedy[0].extracted.members)}; {area:.3f}"


def share(finding: Finding | None) -> str:
    return number(finding, percent=True)


def number(finding: Finding | None, *, percent: bool = False) -> str:
    if finding is None or finding.value is None:
        return "–"
    scale, digits = (100, 1) if percent else (1, 3)
    ends = (
        ""
        if finding.lower is None or finding.upper is None
        else (f" [{scale * finding.lower:.{digits}f}, {scale * finding.upper:.{digits}f}]")
    )
    return f"{scale * finding.value:.{digits}f}{' %' if percent else ''}{ends}"


def three(found: WithControls, *, percent: bool = True) -> str:
    return " / ".join(number(one, percent=percent) for one in (found.members, found.held_out, found.base))


def write_records(data: Path, out: Path, n: int, words: int) -> dict[str, str]:
    """Members, each as often as it is trained on, non-members and validation records, drawn at random."""
    rows = [row for _, row in read_rows(str(data)).rows if isinstance(row, dict)]
    texts = list(
        dict.fromkeys(" ".join(row["text"].split()[:words]) for row in rows if len(row["text"].split()) >= words)
    )
    order = np.random.default_rng(0).permutation(len(texts))[: 2 * n + N_VALIDATION]
    drawn = [texts[i] for i in order]
    sides = {"members": drawn[:n], "nonmembers": drawn[n : 2 * n], "validation": drawn[2 * n :]}
    paths: dict[str, str] = {}
    for name, side in sides.items():
        repeats: Sequence[int] = [COPIES[i % len(COPIES)] if name == "members" else 1 for i in range(len(side))]
        content = "".join((json.dumps({"text": t}) + "\n") * times for t, times in zip(side, repeats, strict=True))
        path = out / f"{name}.jsonl"
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
        paths[name] = str(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="reviews, one JSON object per line")
    parser.add_argument("--base", action="append", default=[], help="NAME=FOLDER of a further base")
    parser.add_argument("--no-packaged", action="store_true", help="leave out the packaged base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=160, help="members, and as many non-members")
    parser.add_argument("--words", type=int, default=64, help="words kept of each text")
    parser.add_argument("--worker", action="store_true", help="share the work with other processes, with one thread")
    arguments = parser.parse_args()
    if arguments.worker:
        torch.set_num_threads(1)
    bench = Bench(arguments)
    work_through(bench.out / "claims", bench.jobs)
    if not arguments.worker:
        print("\n".join(tables(bench)))


if __name__ == "__main__":
    main()
