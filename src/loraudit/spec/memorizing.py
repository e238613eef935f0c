"""How memorization is to be measured, in an audit or in a contrast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from loraudit.spec.form import Names, Strict, as_tuple

_USUAL_PREFIX = 50
"""Tokens given, and then expected, in most published figures (Carlini et al. 2023, arXiv:2202.07646)."""


class MemorizationOptions(Strict):
    """Shared by every command that can measure memorization."""

    memorization: bool = Field(
        default=False,
        description="Say too what can be extracted: from the evidence, by generation, and from which record it comes.",
    )
    prefix_tokens: Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple)] = Field(
        default=(16, 32, 50, 100), description="Lengths of the beginning of a record that the model is given."
    )
    suffix_tokens: int = Field(default=50, ge=1, description="Tokens it must then say.")
    generations: int = Field(
        default=100, ge=0, description="Records a side whose beginning is continued; 0 generates nothing."
    )
    decodings: Names = Field(
        default=("greedy", "top_k_40"),
        description="How continuations are drawn: greedy, top_k_40, nucleus, decaying, or such as "
        "top_k=40,temperature=0.7.",
    )
    near_edits: int = Field(
        default=5, ge=0, description="Tokens of the suffix that may differ in near-verbatim extraction."
    )
    near_records: int = Field(
        default=0, ge=0, description="Records a side to search for near-verbatim continuations, which takes long."
    )
    candidates: int = Field(
        default=0,
        ge=0,
        description="Other values that each piece of personal information in the records is compared with, such as 25; "
        "0 compares none.",
    )
    personal_finder: Literal["rules", "presidio"] = Field(
        default="rules", description="What finds personal information: documented rules, or Presidio."
    )
    detector: Literal["default", "lee2023", "pan2014"] = Field(
        default="default", description="How passages are aligned with their source."
    )
    embedder: str | None = Field(
        default=None,
        description="Sentence-transformers model (a folder or a hub name) for the similarity of continuations.",
    )
    paraphrase_model: str | None = Field(
        default=None, description="Sentence-pair classifier (a folder or a hub name) that accepts paraphrases."
    )
    paraphrase_label: str | None = Field(
        default=None, description="Its label for paraphrases, where its names do not say."
    )


def from_usual(prefix: int) -> tuple[int, int]:
    """Sorts first the prefix length that stands for all where one must: the one nearest to 50, of two the shorter.

    >>> min([16, 32, 100], key=from_usual)
    32
    """
    return abs(prefix - _USUAL_PREFIX), prefix
