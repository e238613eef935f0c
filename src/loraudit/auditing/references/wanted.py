"""The reference of an audit, where it is another than the base: what it is to be made of, and whether it is there.

A reference is kept in the evidence store, under the hash of everything that could change it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loraudit.auditing.preparation import requested_tokenizer
from loraudit.auditing.request import Sides, store_path
from loraudit.data import RecordSet, audited_text, encode, load_records, token_record
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.models import ModelPlan, plan_models, with_reference
from loraudit.models.recorded import recorded_recipe
from loraudit.spec import AuditSpec, ModelSummary, Recipe
from loraudit.types import Record

_OF_THE_TARGET_ALONE = ("select", "patience", "ngram_limit", "checkpoints", "checkpoint_epochs", "keep_duplicates")
PUBLISHED = Recipe(method="full", epochs=4, learning_rate=1e-4)
"""Of a self-prompted reference (Fu et al. 2024, SPV-MIA, arXiv:2311.06062), as are the four numbers below."""
PROMPT_TOKENS = 16
NEW_TOKENS = 112
TEMPERATURE = 0.9
TOP_P = 0.9

MARK = "reference.json"
"""Its presence says that a reference is complete; it holds the fingerprint of the weights."""

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class WantedReference:
    """What a reference is to be made of.

    Attributes:
        kind: "distilled" or "public".
        plan: Of the target and its base.
        recipe: How the base is tuned.
        recipe_source: Where that recipe is from, in words.
        data: Records of `--reference-data`; None where none were given.
        n_samples: To draw from the target; 0 for a public reference.
        prompt_tokens: Of each prompt, at most.
        new_tokens: Of each sample beyond its prompt, at most.
        precision: In which the target is sampled from.
        question: Everything that could change the samples or the weights.
        root: The evidence store.
    """

    kind: str
    plan: ModelPlan
    recipe: Recipe
    recipe_source: str
    data: RecordSet | None
    n_samples: int
    prompt_tokens: int
    new_tokens: int
    precision: str
    question: Mapping[str, Any]
    root: Path

    @property
    def folder(self) -> Path:
        """Where the reference is kept."""
        return self.root / "references" / _hash(self.question)

    @property
    def samples_folder(self) -> Path:
        """Where samples of the target are kept, whatever recipe is tuned on them."""
        return self.root / "samples" / _hash(self.question["made_from"])

    @property
    def base_folder(self) -> str:
        """Of the model that is tuned."""
        return str(self.plan.base_source.folder) if self.plan.base_source else ""

    def kept(self, spec: AuditSpec) -> ModelPlan | None:
        """The target with this reference, if it was made before and nothing has touched its weights since."""
        try:
            mark = json.loads((self.folder / MARK).read_text(encoding="utf-8"))
            plan = self.planned(spec)
            is_whole = mark["fingerprint"] == plan.target.fingerprint and mark["question"] == self.question
        except (OSError, ValueError, KeyError, TypeError, ModelError):
            return None
        return with_reference(self.plan, plan, self.summary(mark["facts"])) if is_whole else None

    def planned(self, spec: AuditSpec) -> ModelPlan:
        """How the tuned model is loaded."""
        return plan_models(
            str(self.folder / "model"),
            base=self.base_folder,
            offline=spec.offline,
            allow_pickle=spec.allow_pickle,
            allow_remote_code=spec.allow_remote_code,
            alone=True,
        )

    def summary(self, facts: Mapping[str, Any]) -> ModelSummary:
        """What the report says of the reference; `facts` are those of the time it was made."""
        base = self.plan.base_source.name if self.plan.base_source else ""
        n_records = len(self.data.records) if self.data else 0
        details: dict[str, Any] = {"base": base, "n_samples": self.n_samples or None}
        if self.data:
            details["n_records"] = n_records
            details["data"] = [f"{file['path']} (sha256 {file['sha256']})" for file in self.data.files]
            details["n_unreadable"] = self.data.n_bad or None
            details["n_repeated"] = self.data.n_duplicates or None
            details["disjoint"] = (
                f"none of these {n_records:,} records stands in --members or --nonmembers; near-duplicates are not "
                "looked for"
            )
        if self.n_samples:
            details["prompts"] = "the first tokens of those records" if self.data else "one beginning-of-text token"
            details["sampling"] = dict(self.question["made_from"]["sampling"])
        details["recipe_source"] = self.recipe_source
        details["recipe"] = self.recipe.model_dump(mode="json")
        source = (
            f"{self.n_samples:,} samples of {self.plan.target.name}" if self.n_samples else f"{n_records:,} records"
        )
        return ModelSummary(
            name=f"{base} tuned on {source}",
            kind="distilled from the target" if self.n_samples else "tuned on public records",
            fingerprint="",
            details={name: value for name, value in {**details, **facts}.items() if value is not None},
        )


@dataclass(frozen=True, slots=True)
class Work:
    """What it takes to make a reference.

    Attributes:
        words: For a person.
        n_samples: Drawn from the target.
        n_sampled_tokens: At most, one after another within a sample.
        n_training_tokens: At most, all epochs together.
        training_bytes: Memory beside the weights for gradients and the two moments of AdamW; an adapter's are few.
    """

    words: str
    n_samples: int
    n_sampled_tokens: int
    n_training_tokens: int
    training_bytes: int


def requested_reference(spec: AuditSpec, plan: ModelPlan, sides: Sides) -> WantedReference | None:
    """What the reference is to be made of; None where the base is the reference.

    Args:
        spec: The request.
        plan: Of the target and its base.
        sides: The audited records.

    Raises:
        ConfigError: No base is known.
        DataError: Records of the reference cannot be read, or stand among the audited ones.
        ModelError: The recorded recipe of the target cannot be read, or the base is not safe to tune.
    """
    if spec.reference == "base":
        return None
    if plan.base_source is None or plan.reference is None:
        raise ConfigError(
            f"A {spec.reference} reference is tuned from the base, and no base of '{spec.model}' is known. Give it "
            "with --base."
        )
    refuse_unsafe_base(plan)
    data = disjoint_data(spec, spec.reference_data, sides, flag="--reference-data") if spec.reference_data else None
    recipe, source = recipe_like_target(spec, plan)
    context = plan.context_length or PROMPT_TOKENS + NEW_TOKENS
    prompt_tokens = min(PROMPT_TOKENS, context // 2) if data else 1
    new_tokens = min(NEW_TOKENS, context - prompt_tokens)
    precision = "fp32" if spec.precision in {None, "auto"} else str(spec.precision)
    n_samples = spec.reference_prompts if spec.reference == "distilled" else 0
    made_from: dict[str, Any] = {
        "tokenizer": plan.tokenizer_fingerprint,
        "records": digest_of(data.records) if data else None,
    }
    if n_samples:
        made_from |= {
            "target": plan.target.fingerprint,
            "n": n_samples,
            "prompt_tokens": prompt_tokens,
            "sampling": {"new_tokens": new_tokens, "temperature": TEMPERATURE, "top_p": TOP_P, "seed": spec.seed},
            "precision": precision,
        }
    else:
        made_from["append_eos"] = spec.append_eos
    question = {
        "reference_schema": SCHEMA,
        "kind": spec.reference,
        "base": plan.reference.fingerprint,
        "made_from": made_from,
        "recipe": recipe.model_dump(mode="json"),
    }
    return WantedReference(
        spec.reference,
        plan,
        recipe,
        source,
        data,
        n_samples,
        prompt_tokens,
        new_tokens,
        precision,
        question,
        store_path(spec),
    )


def estimate_work(wanted: WantedReference, spec: AuditSpec) -> Work:
    """What making the reference would take."""
    if wanted.n_samples:
        n_sampled = wanted.n_samples * wanted.new_tokens
        per_epoch = n_sampled + wanted.n_samples * wanted.prompt_tokens
        first = f"draw {wanted.n_samples:,} samples of the target, up to {n_sampled:,} tokens one after another, then "
    else:
        n_sampled, first = 0, ""
        records = public_records(wanted, requested_tokenizer(spec, wanted.plan))
        per_epoch = sum(len(record.tokens.ids) for record in records if record.tokens)
    words = (
        f"{first}tune the base on {'them' if wanted.n_samples else 'the public records'} ({wanted.recipe.method}) for "
        f"{wanted.recipe.epochs} epoch{'s' * (wanted.recipe.epochs > 1)} of "
        f"{'up to ' if wanted.n_samples else ''}{per_epoch:,} tokens"
    )
    training_bytes = 12 * wanted.plan.n_parameters if wanted.recipe.method == "full" else 0
    return Work(words, wanted.n_samples, n_sampled, per_epoch * wanted.recipe.epochs, training_bytes)


# --- what it is made of -------------------------------------------------------------------------------


def refuse_unsafe_base(plan: ModelPlan) -> None:
    """Tuning loads the base anew, and no flag of the audit reaches it there.

    Raises:
        ModelError: The base needs pickled weights or code of its own.
    """
    base = plan.base_source
    if base is None:
        return
    needs_code = bool(base.config.get("auto_map"))
    if needs_code or not any(base.folder.glob("*.safetensors")):
        what = "code that comes with it" if needs_code else "pickled weights"
        raise ModelError(
            f"A reference cannot be tuned from base '{base.name}', which needs {what}. Expected safetensors and a "
            "class of the transformers library. Save it so, or use --reference base."
        )


def disjoint_data(spec: AuditSpec, paths: Sequence[str], sides: Sides, *, flag: str) -> RecordSet:
    """Records to tune a reference or shadows on, if none of them is audited.

    Raises:
        DataError: They cannot be read, or some are audited.
    """
    # Columns that group or name the audited records are none of a corpus that was not made for this audit.
    layout = spec.model_copy(update={"group_field": None, "id_field": None, "subgroup_field": None})
    data = load_records(paths, layout)
    texts = {audited_text(record, "all") for record in sides.records}
    in_files = {*sides.members.copies, *sides.nonmembers.copies}  # those that --max-records leaves out as well
    shared = [r for r in data.records if r.id in in_files or audited_text(r, "all") in texts]
    if shared:
        raise DataError(
            f"{len(shared)} of {len(data.records)} records of {flag} stand in --members or --nonmembers too. Expected "
            "none: a model that has seen audited records hides or feigns leakage when the target is compared with it. "
            f"Take them out of {flag}.",
            [f"{record.source}:{record.line}" for record in shared],
        )
    return data


def recipe_like_target(spec: AuditSpec, plan: ModelPlan) -> tuple[Recipe, str]:
    """How a reference or shadow is tuned, and where that is from."""
    folder, config = plan.target_source.folder, plan.target_source.config
    recorded = recorded_recipe(folder).get("recipe")
    if recorded is not None:
        remedy = (
            "Install the loraudit that tuned it, or take its loraudit_recipe.json away to have the published settings."
        )
        recipe = _validated(recorded, f"The recipe that model '{plan.target.name}' records", remedy)
        source = "the target's own, recorded beside its weights"
    elif plan.target_source.kind == "adapter" and config.get("peft_type") == "LORA":
        targets = config.get("target_modules")
        form = PUBLISHED.model_dump() | {
            "method": "lora",
            "rank": config.get("r") or PUBLISHED.rank,
            "alpha": config.get("lora_alpha") or PUBLISHED.alpha,
            "dropout": config.get("lora_dropout") or 0.0,
            "targets": tuple(sorted(targets)) if isinstance(targets, list) and targets else PUBLISHED.targets,
        }
        recipe = _validated(form, f"The form of adapter '{plan.target.name}'", "Save the adapter again.")
        source = "an adapter of the target's form, with the published epochs and learning rate"
    else:
        recipe, source = PUBLISHED, "the published settings"
    # With the seed of the target the reference would begin from the same random numbers as the target did.
    # What goes by validation records, or only keeps more than the end, has no meaning for a reference.
    changes: dict[str, Any] = {name: Recipe.model_fields[name].default for name in _OF_THE_TARGET_ALONE} | {
        "seed": spec.seed + 1 if recorded is not None and recipe.seed == spec.seed else spec.seed
    }
    for name, asked in (("epochs", spec.reference_epochs), ("learning_rate", spec.reference_learning_rate)):
        if asked is not None:
            changes[name] = asked
            source += f", {name.replace('_', ' ')} as asked for"
    return recipe.model_copy(update=changes), source


def _validated(values: Any, thing: str, remedy: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        raise ModelError(f"{thing} cannot be read: '{name}': {problem['msg']}. {remedy}") from None


def public_records(wanted: WantedReference, tokenizer: Any, records: Sequence[Record] | None = None) -> list[Record]:
    """The public records as the tokens that the audit would see: by the target's tokenizer, not the base's.

    Args:
        wanted: Says how they are cut.
        tokenizer: Of the target.
        records: Some of them; all by default.
    """
    if records is None:
        records = wanted.data.records if wanted.data else ()
    append_eos = bool(wanted.question["made_from"]["append_eos"])
    encoded = encode(records, tokenizer, span=wanted.recipe.span, append_eos=append_eos)
    return [
        token_record(item, source=record.source, line=record.line)
        for record, item in zip(records, encoded, strict=True)
    ]


def digest_of(records: Sequence[Record]) -> str:
    """sha256 of these records in this order."""
    return hashlib.sha256("".join(record.id for record in records).encode()).hexdigest()


def _hash(question: Any) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
