"""The section of a model card on the Hugging Face hub: what would change there, and the change itself."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loraudit.errors import ConfigError, EnvironmentFault, scrubbed
from loraudit.hub import causes_of, refusal_words
from loraudit.integrations.card import card_section, eval_result, with_eval_result, with_section
from loraudit.integrations.shareable import short
from loraudit.models.locate import is_hub_name
from loraudit.store import read_run

CARD = "README.md"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_SECONDS = 10.0
_TITLE = "Membership audit by loraudit"


class Hub(Protocol):
    """What is asked of the hub; `huggingface_hub.HfApi` answers it."""

    def repo_info(self, repo_id: str, *, timeout: float) -> Any:
        """Its `sha` is the commit that the card is read at."""
        ...

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str) -> str:
        """Path of a copy of the file."""
        ...

    def upload_file(
        self,
        *,
        path_or_fileobj: bytes,
        path_in_repo: str,
        repo_id: str,
        commit_message: str,
        create_pr: bool,
        parent_commit: str,
    ) -> Any:
        """Its `pr_url` or `commit_url` say where the change is."""
        ...


@dataclass(frozen=True, slots=True)
class CardChange:
    """What pushing would do to a model card.

    Attributes:
        repository: `OWNER/NAME`.
        commit: At which the card was read.
        before: Its text; empty where there is none.
        after: Its text afterwards.
        notes: What the person who pushes should know.
    """

    repository: str
    commit: str
    before: str
    after: str
    notes: tuple[str, ...]

    @property
    def diff(self) -> str:
        """Lines taken away and put in."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), f"{CARD} now", f"{CARD} pushed", lineterm=""
        )
        return "\n".join(lines)


def card_change(run: Path, repository: str, *, hub: Hub | None = None) -> CardChange:
    """What pushing an audit to a model's card would change; nothing is written.

    Args:
        run: Folder of a finished audit.
        repository: `OWNER/NAME` of a model.
        hub: Client (default: the hub of the usual environment, with its token).

    Raises:
        ConfigError: The name has another form, the folder holds no audit, or the card's marks do not fit together.
        EnvironmentFault: The hub cannot be asked, or refuses.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"Repository '{repository}' is no name of a model. Expected OWNER/NAME, as on the hub.")
    result = read_run(run).result
    commit, before = _read(hub or _client(), repository)
    card, reason = with_eval_result(before, entry := eval_result(result), model=repository.partition("/")[2])
    notes = [f"The card's metadata was left alone: {reason}."] if reason else []
    if entry is None:
        notes.append(
            "No number is put into the card's metadata: a validity gate failed or was not tried, the audit is partial, "
            "or its AUC has no interval. The section says which."
        )
    if is_hub_name(result.target.name) and "/" in result.target.name and result.target.name != repository:
        notes.append(f"The run audited '{result.target.name}'. Check that '{repository}' is the same model.")
    after = with_section(card, card_section(result, repository))
    return CardChange(repository, commit, before, after, tuple(notes))


def push_card(change: CardChange, *, create_pr: bool = True, hub: Hub | None = None) -> str | None:
    """Push a change; gives the address of the pull request or commit, None where there is nothing to change.

    Args:
        change: As `card_change` made it.
        create_pr: Open a pull request instead of writing to the main branch.
        hub: Client.

    Raises:
        EnvironmentFault: The hub cannot be asked, refuses, or its card has changed since it was read.
        ConfigError: The hub does not accept the card's metadata.
    """
    if change.after == change.before:
        return None
    try:
        made = (hub or _client()).upload_file(
            path_or_fileobj=change.after.encode(),
            path_in_repo=CARD,
            repo_id=change.repository,
            commit_message=_TITLE,
            create_pr=create_pr,
            parent_commit=change.commit,
        )
    except ValueError as error:  # what the client raises for metadata that the hub refuses
        raise ConfigError(
            f"The hub does not accept the metadata of {CARD} in '{change.repository}': "
            f"{short(scrubbed(str(error)), 300)}. Mend the card's header by hand, then push again."
        ) from None
    except Exception as error:  # the client and its transport fail in many ways; all mean that nothing was pushed
        raise EnvironmentFault(_why_not(change.repository, error, "pushed")) from None
    return str(made.pr_url if create_pr else made.commit_url)


def _client() -> Hub:
    import huggingface_hub

    return huggingface_hub.HfApi(library_name="loraudit")


def _read(hub: Hub, repository: str) -> tuple[str, str]:
    """Commit at the head of a repository, and its card there."""
    from huggingface_hub import errors

    try:
        commit = str(hub.repo_info(repository, timeout=_SECONDS).sha)
        try:
            path = hub.hf_hub_download(repository, CARD, revision=commit)
        except errors.LocalEntryNotFoundError:  # the hub was not reached; a card may well be there
            raise
        except errors.EntryNotFoundError:
            return commit, ""
        return commit, Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(
            f"{CARD} of '{repository}' is not written in UTF-8. Expected a card that the hub can show. Save it "
            "as UTF-8."
        ) from None
    except Exception as error:  # the client and its transport fail in many ways; all mean that nothing was read
        raise EnvironmentFault(_why_not(repository, error, "read")) from None


def _why_not(repository: str, error: Exception, what: str) -> str:
    """Why a card was not read or pushed, and the command that mends it."""
    from huggingface_hub import errors

    thing, failed = f"Model '{repository}'", f"The card of model '{repository}' could not be {what}:"
    again = f"loraudit report RUN --push-to-hub {repository}"
    causes = causes_of(error)
    refused = refusal_words(
        thing,
        causes,
        failed=failed,
        command=again,
        wanted="write to" if what == "pushed" else "read",
        is_missing=True,
    )
    if refused is not None:
        return refused
    responses = [getattr(cause, "response", None) for cause in causes]
    status = next((one.status_code for one in responses if one is not None), None)
    if status in {409, 412}:
        return f"{failed} it was changed there since it was read. Run again: {again}"
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        return f"{failed} HF_HUB_OFFLINE is set. Unset it, then run: {again}"
    return f"{failed} {short(scrubbed(str(error)).strip(), 300)}. Where there is a network, run: {again}"
