"""Where a file of records is: on this machine, or a copy of the hub's in its cache."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from loraudit.errors import DataError, EnvironmentFault
from loraudit.hub import cached, fetch, hub_file, is_hub_file


def missing_files(paths: Iterable[str]) -> list[str]:
    """A line for each file that is not there, or whose name cannot be one of the hub's. Nobody is asked."""
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        if not is_hub_file(path):
            if not Path(path).is_file():
                problems.append(f"File '{path}' does not exist. Expected records; check the path.")
            continue
        try:
            hub_file(path)
        except DataError as error:
            problems.append(str(error))
    return problems


def fetch_files(paths: Iterable[str], *, offline: bool) -> None:
    """Have a copy of the hub's files here before they are read; all others are left alone.

    Args:
        paths: Files, of the hub or not.
        offline: Ask nobody: only what the hub's cache holds will do.

    Raises:
        DataError: The hub has no such file; all are named.
        EnvironmentFault: The hub cannot be asked, or refuses; likewise.
    """
    faults: list[str] = []
    is_fault = False
    for path in dict.fromkeys(paths):
        if not is_hub_file(path):
            continue
        try:
            fetch(hub_file(path), offline=offline)
        except (DataError, EnvironmentFault) as error:
            faults.append(str(error))
            is_fault |= isinstance(error, EnvironmentFault)
    if faults:
        raise (EnvironmentFault if is_fault else DataError)("\n".join(faults))


def local_path(path: str) -> Path:
    """Where the bytes are.

    Raises:
        DataError: It is no name the hub's files can have.
        EnvironmentFault: It is one of the hub, and no copy of it is here.
    """
    return cached(hub_file(path)) if is_hub_file(path) else Path(path)


def file_name(path: str) -> str:
    """The name whose ending says what a file holds.

    >>> file_name("hub:org/set/default/0000.parquet@refs/convert/parquet")
    '0000.parquet'
    """
    return (path.partition("@")[0] if is_hub_file(path) else path).rpartition("/")[2]
