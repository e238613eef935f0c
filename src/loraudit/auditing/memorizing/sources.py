"""The training set that continuations are traced back to, and what aligns them with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loraudit.auditing.request import Sides
from loraudit.data import RecordSet, audited_text, load_records
from loraudit.errors import DataError
from loraudit.memorization import ParaphraseScorer, PersonalFinder, personal_fields
from loraudit.memorization.attribution import Embedder, TrainingIndex
from loraudit.memorization.matches import Detector
from loraudit.memorization.plagiarism import LEE2023, PAN2014, LayeredDetector, Lee2023Detector
from loraudit.models.numerics import resolve_devices
from loraudit.spec import AuditSpec
from loraudit.types import Record

ShownIds = Callable[[Sequence[Record]], Sequence[str]]
SHORTEST_COPY = 50
"""Characters from which a copied passage counts, as in Lee et al. 2023."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What judges texts: of the user's choice, and loaded before anything is scored.

    Attributes:
        detector: Aligns a continuation with a training text.
        embed: Makes sentence embeddings; None where none were asked for.
        find_personal: Finds personal information in a text.
        notes: What a reader of what they find has to know.
    """

    detector: Detector
    embed: Embedder | None
    find_personal: PersonalFinder
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """What was trained on: the members, then further records.

    Attributes:
        texts: Of all, the audited members first.
        index: To search them.
        unseen: The non-members, to search: what stands in them was not learned from them.
        unseen_texts: Of those.
        tools: What judges texts.
        files: Path, sha256 and rows of each file of further records.
    """

    texts: Sequence[str]
    index: TrainingIndex
    unseen: TrainingIndex
    unseen_texts: Sequence[str]
    tools: Tools
    files: tuple[dict[str, object], ...]


def further_records(spec: AuditSpec, sides: Sides) -> list[RecordSet]:
    """What was trained on besides the audited members: those that --max-records leaves out, and `--training-data`.

    Raises:
        DataError: They cannot be read, or hold non-members.
    """
    if not spec.memorization:
        return []
    found: list[RecordSet] = []
    if sides.members.n_left_out or sides.members.n_overlap:
        found.append(load_records(spec.members, spec))
    if spec.training_data:
        # Columns that group or name the audited records are none of another file.
        layout = spec.model_copy(update={"group_field": None, "id_field": None, "subgroup_field": None})
        found.append(load_records(spec.training_data, layout))
        _refuse_held_out(found[-1], sides)
    known = {record.id for record in sides.members.records}
    further: list[RecordSet] = []
    for one in found:
        fresh = tuple(record for record in one.records if record.id not in known)
        known |= {record.id for record in fresh}
        further.append(replace(one, records=fresh))
    return further


def _refuse_held_out(data: RecordSet, sides: Sides) -> None:
    held_out = {audited_text(record, "all") for record in sides.nonmembers.records}
    trained_on = [record for record in data.records if audited_text(record, "all") in held_out]
    if trained_on:
        raise DataError(
            f"{len(trained_on)} records of --training-data are non-members of this audit. Expected none: what is said "
            "of records that were trained on is no control. Leave them out of the non-members.",
            [f"{record.source}:{record.line}" for record in trained_on],
        )


def load_tools(spec: AuditSpec) -> Tools:
    """The tools of a request.

    Raises:
        MissingExtra: An optional package is not installed.
        LorauditError: The embedder, the paraphrase model or Presidio's language model cannot be loaded.
    """
    device = resolve_devices(spec.device)[0]
    scorer = _scorer(spec, device) if spec.paraphrase_model else None
    detector = _detector(spec, scorer)
    embed = _embedder(spec, device) if spec.embedder else None
    return Tools(detector, embed, personal_finder(spec), detector.notes)


def personal_finder(spec: AuditSpec) -> PersonalFinder:
    """What finds personal information: the rules of this package, or Presidio.

    Raises:
        MissingExtra: Presidio is not installed.
        ModelError: Its language model is not.
    """
    if spec.personal_finder == "rules":
        return personal_fields
    from loraudit.models.presidio import load_presidio

    return load_presidio()


def index_sources(
    sides: Sides, ids: Sequence[str], further: Sequence[RecordSet], tools: Tools, shown: ShownIds
) -> TrainingSet:
    """Index the training set, and apart from it the non-members.

    Args:
        sides: The audited records.
        ids: Shown ids of all of them, members first.
        further: Records that were trained on besides the members.
        tools: What judges texts.
        shown: Under which ids the further records are shown.
    """
    members = sides.members.records
    others = [record for one in further for record in one.records]
    texts = [audited_text(record, "all") for record in (*members, *others)]
    names = [*ids[: len(members)], *shown(others)]
    unseen = [audited_text(record, "all") for record in sides.nonmembers.records]
    return TrainingSet(
        texts,
        TrainingIndex.of(texts, ids=names, min_characters=SHORTEST_COPY, embed=tools.embed),
        TrainingIndex.of(unseen, min_characters=SHORTEST_COPY),
        unseen,
        tools,
        tuple(file for one in further for file in one.files),
    )


def _embedder(spec: AuditSpec, device: str) -> Embedder:
    from loraudit.models.embedding import load_embedder

    return load_embedder(
        spec.embedder or "",
        offline=spec.offline,
        device=device,
        allow_remote_code=spec.allow_remote_code,
        allow_pickle=spec.allow_pickle,
    )


def _scorer(spec: AuditSpec, device: str) -> ParaphraseScorer:
    from loraudit.models.paraphrase import load_paraphrase_scorer

    return load_paraphrase_scorer(
        spec.paraphrase_model or "",
        offline=spec.offline,
        device=device,
        allow_remote_code=spec.allow_remote_code,
        allow_pickle=spec.allow_pickle,
        positive=spec.paraphrase_label,
    )


def _detector(spec: AuditSpec, scorer: ParaphraseScorer | None) -> LayeredDetector | Lee2023Detector:
    if spec.detector == "default":
        return LayeredDetector(paraphrase_scorer=scorer)
    return Lee2023Detector({"lee2023": LEE2023, "pan2014": PAN2014}[spec.detector], scorer)
