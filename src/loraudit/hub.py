"""Files of the hub's data sets by name, and in words why the hub does not give something.

A name `hub:OWNER/NAME/path/in/it.parquet` stands wherever a file of records may. Only `fetch` asks the hub, and a
request does so before any work; from then on `cached` finds the copy in the hub's cache, without a network.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from loraudit.errors import DataError, EnvironmentFault

MARK = "hub:"
_FORM = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)/(?P<path>[^@]+?)(?:@(?P<revision>[\w./-]+))?")


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


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of one data set.

    Attributes:
        name: As asked for.
        repository: `OWNER/NAME` of the data set.
        path: Of the file within it.
        revision: Branch, tag or commit; None for the main branch.
    """

    name: str
    repository: str
    path: str
    revision: str | None

    @property
    def wanted(self) -> Wanted:
        """For messages."""
        words = ["hf", "download", "--repo-type", "dataset", self.repository, self.path]
        words += ["--revision", self.revision] if self.revision else []
        thing = f"File '{self.name}'"
        return Wanted(thing, f"{thing} cannot be had:", shlex.join(words))


def is_hub_file(name: str) -> bool:
    """Whether a name is that of a file of the hub.

    >>> is_hub_file("hub:org/set/train.parquet"), is_hub_file("train.parquet")
    (True, False)
    """
    return name.startswith(MARK)


def hub_file(name: str) -> HubFile:
    """A file of the hub by its name.

    Raises:
        DataError: It is not formed like one.

    >>> hub_file("hub:org/set/default/0000.parquet@refs/convert/parquet").revision
    'refs/convert/parquet'
    """
    found = _FORM.fullmatch(name)
    if found is None or {"", ".", ".."} & set(found["path"].split("/")):
        raise DataError(
            f"File '{name}' is no name of a file of the hub. Expected hub:OWNER/NAME/PATH with an optional @REVISION, "
            "such as hub:org/reviews/data/train.parquet@main."
        )
    return HubFile(name, found["repository"], found["path"], found["revision"])


def cached(file: HubFile) -> Path:
    """The copy in the hub's cache; nobody is asked.

    Raises:
        EnvironmentFault: There is none.
    """
    return fetch(file, offline=True)


def fetch(file: HubFile, *, offline: bool) -> Path:
    """The file's copy in the hub's cache, downloaded where it is not there or is an older one.

    Args:
        file: Which.
        offline: Ask nobody.

    Raises:
        DataError: The data set has no such file or revision.
        EnvironmentFault: The hub cannot be asked, or refuses.
    """
    import huggingface_hub
    from huggingface_hub import errors

    refusal = None if offline else _refusal(file)
    if isinstance(refusal, errors.EntryNotFoundError | errors.RevisionNotFoundError):
        raise DataError(
            f"File '{file.name}' does not exist on the hub. Expected a file of the data set '{file.repository}' at "
            f"'{file.revision or 'main'}'. Look it up among the files on the data set's page."
        )
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                file.repository,
                file.path,
                repo_type="dataset",
                revision=file.revision,
                local_files_only=offline or refusal is not None,
            )
        )
    except errors.HFValidationError:
        raise DataError(
            f"File '{file.name}' names no data set the hub can have. Expected hub:OWNER/NAME/PATH. Check the name."
        ) from None
    except Exception as error:  # the client and its transport fail in many ways; all mean no download
        raise EnvironmentFault(why_not_downloaded(file.wanted, error, refusal, offline=offline)) from None


def _refusal(file: HubFile) -> Exception | None:
    """Why the hub does not speak of this file, or None where it does.

    Asked before the download, which would wait as long as an overloaded hub bids it to.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    try:
        url = huggingface_hub.hf_hub_url(file.repository, file.path, repo_type="dataset", revision=file.revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (errors.HFValidationError, errors.OfflineModeIsEnabled):
        return None  # the download says so itself, without asking anybody
    except Exception as error:  # any: a copy in the cache may still do
        return error
    return None


def why_not_downloaded(wanted: Wanted, error: Exception, refusal: Exception | None = None, *, offline: bool) -> str:
    """What kept something from being downloaded, and the command that mends it.

    The client wraps most answers of the hub into the error that it raises for a missing network, so the
    answer is looked for among the causes.

    Args:
        wanted: What was asked for.
        error: Of the download.
        refusal: What the hub had said before, where it was asked.
        offline: Whether it was not to be asked.
    """
    from huggingface_hub import errors

    causes = [*_causes(error), *_causes(refusal)]
    response = next((r for cause in causes if (r := getattr(cause, "response", None)) is not None), None)
    status = getattr(response, "status_code", None)

    def is_caused_by(*kinds: type[Exception]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_caused_by(errors.GatedRepoError):
        return f"{wanted.thing} is gated. Ask for access on its page, then run: hf auth login"
    if is_caused_by(errors.RepositoryNotFoundError) or (status == 404 and refusal):
        return f"{wanted.thing} was not found on the hub, or you may not see it. Check the name, or run: hf auth login"
    failed = f"{wanted.thing} could not be downloaded:"
    if status == 401:
        return f"{failed} the hub does not accept your token. Run: hf auth login"
    if status == 403:
        return f"{failed} the hub does not let you read it. Ask for access on its page, then run: hf auth login"
    if response is not None and status == 429:
        seconds = str(response.headers.get("Retry-After", ""))
        wait = f"{seconds} s" if seconds.isdecimal() else "a few minutes"
        return (
            f"{failed} the hub's rate limit is reached. It is higher for those who are logged in (hf auth login). "
            f"Wait {wait}, then run: {wanted.command}"
        )
    if isinstance(status, int) and status >= 500:
        return f"{failed} the hub is out of order ({status}). Try again later: {wanted.command}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        how = "--offline is set and it is not in the cache" if offline else "the hub cannot be reached"
        return f"{wanted.absent} {how}. Where there is a network, run: {wanted.command}"
    reason = str(error).strip().split("\n", 1)[0]
    return f"{failed} {reason}. Try again: {wanted.command}"


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it was raised from, outermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found
