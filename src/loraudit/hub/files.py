"""Files of the hub's data sets by name.

A name `hub:OWNER/NAME/path/in/it.parquet` stands wherever a file of records may. Only `fetch` asks the hub, and a
request does so before any work; from then on `cached` finds the copy in the hub's cache, without a network.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from loraudit.errors import DataError, EnvironmentFault
from loraudit.hub.answers import Wanted, why_not_downloaded

MARK = "hub:"
_FORM = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)/(?P<path>[^@]+?)(?:@(?P<revision>[\w./-]+))?")


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
