"""Presidio behind the signature of the rules; a stand-in of its documented interface takes its place."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from loraudit.errors import MissingExtra, ModelError
from loraudit.models.presidio import load_presidio

TEXT = "Ada lives in Springfield since 1980, call 555-0100."


def result(kind, piece, score):
    start = TEXT.index(piece)
    return SimpleNamespace(entity_type=kind, start=start, end=start + len(piece), score=score)


@pytest.fixture
def stand_in(monkeypatch):
    """Modules with the documented names; gives the calls they got."""
    calls = {}
    results = [
        result("PERSON", "Ada", 0.85),
        result("LOCATION", "Springfield", 0.85),
        result("DATE_TIME", "1980", 0.85),
        result("PHONE_NUMBER", "555-0100", 0.75),
        result("US_SSN", "call 555", 0.55),
        result("NRP", "lives", 0.2),
    ]

    class AnalyzerEngine:
        def __init__(self, *, nlp_engine, supported_languages):
            calls["engine"] = nlp_engine, supported_languages

        def analyze(self, text, language, entities=None):
            calls["analyze"] = text, language, entities
            return [one for one in results if entities is None or one.entity_type in entities]

    class NlpEngineProvider:
        def __init__(self, *, nlp_configuration):
            calls["configuration"] = nlp_configuration

        def create_engine(self):
            return "engine"

    presidio, engines, spacy = (ModuleType(n) for n in ("presidio_analyzer", "presidio_analyzer.nlp_engine", "spacy"))
    presidio.AnalyzerEngine = AnalyzerEngine
    engines.NlpEngineProvider = NlpEngineProvider
    spacy.util = SimpleNamespace(is_package=lambda name: name == "en_core_web_lg")
    for module in (presidio, engines, spacy):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_fields_have_known_kinds_and_do_not_overlap(stand_in):
    fields = load_presidio()(TEXT)
    assert [(field.kind, field.value) for field in fields] == [
        ("person", "Ada"),
        ("location", "Springfield"),
        ("phone", "555-0100"),
    ]
    assert all(TEXT[slice(*field.span)] == field.value for field in fields)
    assert stand_in["engine"] == ("engine", ["en"])
    assert stand_in["configuration"]["models"] == [{"lang_code": "en", "model_name": "en_core_web_lg"}]
    assert stand_in["analyze"] == (TEXT, "en", None)


def test_what_is_asked_for_by_name_is_given(stand_in):
    fields = load_presidio(entities=["DATE_TIME", "NRP"], least_score=0.1)(TEXT)
    assert [field.kind for field in fields] == ["nrp", "date_time"]


def test_a_model_that_is_not_installed_is_not_downloaded(stand_in):
    with pytest.raises(
        ModelError, match=r"spaCy model 'de_core_news_lg' is not installed.*python -m spacy download de_"
    ):
        load_presidio(language="de", model="de_core_news_lg")
    assert "engine" not in stand_in


def test_a_folder_is_a_model(stand_in, tmp_path):
    load_presidio(model=str(tmp_path))
    assert stand_in["configuration"]["models"][0]["model_name"] == str(tmp_path)


def test_without_presidio_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(MissingExtra, match=r"with Presidio needs .*Run: pip install 'loraudit\[presidio\]'"):
        load_presidio()
