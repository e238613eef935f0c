"""What a hub that refuses means, in words, with the command that mends it."""

from __future__ import annotations

from typing import Literal


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
