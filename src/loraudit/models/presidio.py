"""Personal information found by Microsoft Presidio, behind the signature of loraudit's own rules.

Presidio adds a language model for names and places to patterns like those of `loraudit.memorization.personal`. This
file is written against its documented interface (`AnalyzerEngine.analyze`, 2.2) and tested with a stand-in of that
interface: loraudit's own tests do not run Presidio itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loraudit.errors import MissingExtra, ModelError
from loraudit.memorization.personal import PersonalField, without_overlaps

_KINDS = {
    "CREDIT_CARD": "credit_card",
    "CRYPTO": "crypto_wallet",
    "EMAIL_ADDRESS": "email",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip_address",
    "PHONE_NUMBER": "phone",
    "UK_NHS": "id_number",
    "UK_NINO": "id_number",
    "US_DRIVER_LICENSE": "id_number",
    "US_ITIN": "id_number",
    "US_PASSPORT": "id_number",
    "US_SSN": "us_ssn",
}
_NOT_PERSONAL = {"DATE_TIME", "URL", "ORGANIZATION"}


def load_presidio(
    *,
    language: str = "en",
    model: str = "en_core_web_lg",
    entities: Sequence[str] | None = None,
    least_score: float = 0.5,
) -> Callable[[str], list[PersonalField]]:
    """A finder with the signature of `personal_fields`: from a text to its fields, in order, without overlaps.

    Kinds that loraudit knows keep loraudit's names; others are Presidio's in lower case, such as `person`. Of fields
    that overlap the longest stays, of equally long ones that with the higher score.

    Args:
        language: Of the texts, as Presidio names it.
        model: spaCy model, installed or a folder. It is never downloaded: Presidio would.
        entities: Presidio's names of what to look for; None is all but DATE_TIME, URL and ORGANIZATION, which are not
            personal by themselves.
        least_score: Findings with a lower confidence are left out.

    Raises:
        MissingExtra: presidio-analyzer is not installed.
        ModelError: The spaCy model is not installed.
    """
    analyzer = _engine(language, model)

    def find(text: str) -> list[PersonalField]:
        chosen = None if entities is None else list(entities)
        results = analyzer.analyze(text=text, language=language, entities=chosen)
        wanted = [
            result
            for result in sorted(results, key=lambda result: -result.score)
            if result.score >= least_score
            and result.start < result.end
            and (entities is not None or result.entity_type not in _NOT_PERSONAL)
        ]
        fields = [_field(text, result) for result in wanted]
        return without_overlaps(fields, len(text))

    return find


def _field(text: str, result: Any) -> PersonalField:
    kind = _KINDS.get(result.entity_type, str(result.entity_type).lower())
    return PersonalField(kind, (result.start, result.end), text[result.start : result.end])


def _engine(language: str, model: str) -> Any:
    try:
        spacy = importlib.import_module("spacy")
        presidio = importlib.import_module("presidio_analyzer")
        engines = importlib.import_module("presidio_analyzer.nlp_engine")
    except ImportError:
        raise MissingExtra("Finding personal information with Presidio", "presidio") from None
    if not (spacy.util.is_package(model) or Path(model).is_dir()):
        raise ModelError(
            f"spaCy model '{model}' is not installed. Expected an installed model or its folder. "
            f"Run: python -m spacy download {model}"
        )
    provider = engines.NlpEngineProvider(
        nlp_configuration={
            "nlp_engine_name": "spacy",
            "models": [{"lang_code": language, "model_name": model}],
        }
    )
    return presidio.AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=[language])
