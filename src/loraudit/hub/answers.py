"""What a hub that refuses means, in words, with the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something of the hub, as messages speak of it.

    Attributes:
        thing: What it is, with its name: `Model 'org/model'`.
        absent: The same, before why it cannot be had.
        command: Downloads it.
    """

    thing: str
    absent: str
    command: str


def causes_of(error: BaseException | None) -> list[BaseException]:
    """An error and what it was raised from, outermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def refusal_words(
    thing: str,
    causes: list[BaseException],
    *,
    failed: str,
    command: str,
    wanted: Literal["read", "write to"] = "read",
    is_missing: bool = False,
) -> str | None:
    """Why the hub does not do as it was asked; None where it did not answer at all, or not in a known way.

    The client wraps most answers of the hub into the error that it raises for a missing network, so the
    answer is looked for among the causes.

    Args:
        thing: Such as "Model 'org/model'".
        causes: As `causes_of` gives them.
        failed: Beginning of a sentence that ends in the reason.
        command: To run again where waiting helps.
        wanted: What was to be done with it.
        is_missing: Whether a plain 404 means that it does not exist.
    """
    from huggingface_hub import errors

    response = next((r for cause in causes if (r := getattr(cause, "response", None)) is not None), None)
    status = getattr(response, "status_code", None)

    def is_caused_by(kind: type[Exception]) -> bool:
        return any(isinstance(cause, kind) for cause in causes)

    access = "Ask for access on its page" if wanted == "read" else "Make a token that may write to it"
    if is_caused_by(errors.GatedRepoError):
        return f"{thing} is gated. Ask for access on its page, then run: hf auth login"
    if is_caused_by(errors.RepositoryNotFoundError) or (status == 404 and is_missing):
        return f"{thing} was not found on the hub, or you may not see it. Check the name, or run: hf auth login"
    if status == 401:
        return f"{failed} the hub does not accept your token. Run: hf auth login"
    if status == 403:
        return f"{failed} the hub does not let you {wanted} it. {access}, then run: hf auth login"
    if response is not None and status == 429:
        seconds = str(response.headers.get("Retry-After", ""))
        wait = f"{seconds} s" if seconds.isdecimal() else "a few minutes"
        return (
            f"{failed} the hub's rate limit is reached. It is higher for those who are logged in (hf auth login). "
            f"Wait {wait}, then run: {command}"
        )
    if isinstance(status, int) and status >= 500:
        return f"{failed} the hub is out of order ({status}). Try again later: {command}"
    return None


def why_not_downloaded(wanted: Wanted, error: Exception, refusal: Exception | None = None, *, offline: bool) -> str:
    """What kept something from being downloaded, and the command that mends it.

    Args:
        wanted: What was asked for.
        error: Of the download.
        refusal: What the hub had said before, where it was asked.
        offline: Whether it was not to be asked.
    """
    from huggingface_hub import errors

    failed = f"{wanted.thing} could not be downloaded:"
    causes = [*causes_of(error), *causes_of(refusal)]
    refused = refusal_words(wanted.thing, causes, failed=failed, command=wanted.command, is_missing=refusal is not None)
    if refused is not None:
        return refused
    if isinstance(error, errors.LocalEntryNotFoundError):
        how = "--offline is set and it is not in the cache" if offline else "the hub cannot be reached"
        return f"{wanted.absent} {how}. Where there is a network, run: {wanted.command}"
    reason = str(error).strip().split("\n", 1)[0]
    return f"{failed} {reason}. Try again: {wanted.command}"
