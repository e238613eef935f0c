"""Every error a person can cause or mend, and the exit code each one carries.

    LorauditError                 6   (never raised itself)
    ├── ConfigError               2   a flag, a spec key or a combination of them
    │   └── NewerVersion          2   a spec or run folder of a later version
    ├── DataError                 3   records that cannot be used; lists every problem
    ├── ModelError                4   a checkpoint, adapter or tokenizer that cannot be used
    │   └── Diverged              4   training whose loss or weights stopped being numbers
    ├── StoreError                5   the run folder or evidence store: lock, disk, corruption
    │   └── InUse                 5   a folder that another process is writing
    └── EnvironmentFault          5   memory, network, a missing device
        └── MissingExtra          5   an optional dependency; says how to install it

These print as one paragraph without a traceback. Anything else that escapes is a bug in
loraudit and keeps its traceback.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence

EXIT_OK = 0
EXIT_LIMIT_EXCEEDED = 1
EXIT_INTERNAL = 6
EXIT_PARTIAL = 7
EXIT_INTERRUPTED = 130

_PROBLEMS_SHOWN = 50
_SECRETS = re.compile(
    r"hf_[A-Za-z0-9]{20,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|xox[abp]-[\w-]{10,}|AKIA[A-Z0-9]{12,}"
    r"|(?<=:/)/?[^/\s:@\"']+:[^/\s@\"']+(?=@)"
    r"|(?i:(?<=bearer )|(?<=token=)|(?<=password=)|(?<=secret=)|(?<=api_key=)|(?<=api-key=))[^\s\"'&\\]+"
)
_SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8


class LorauditError(Exception):
    """Base of all errors that are reported as a message instead of a traceback."""

    exit_code = EXIT_INTERNAL


class ConfigError(LorauditError):
    """A request that cannot be carried out as it is written."""

    exit_code = 2


class NewerVersion(ConfigError):  # noqa: N818 - a refusal; nothing went wrong
    """Something was written by a later version of loraudit."""


class DataError(LorauditError):
    """Records that cannot be read or used.

    Args:
        summary: One sentence.
        problems: Every single problem, one line each; the message shows the first 50 and counts the rest.
    """

    exit_code = 3

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        lines = [summary, *(f"  {problem}" for problem in self.problems[:_PROBLEMS_SHOWN])]
        if len(self.problems) > _PROBLEMS_SHOWN:
            lines.append(f"  … and {len(self.problems) - _PROBLEMS_SHOWN} more")
        super().__init__("\n".join(lines))


class ModelError(LorauditError):
    """A checkpoint, adapter or tokenizer that cannot be used as asked."""

    exit_code = 4


class Diverged(ModelError):  # noqa: N818 - what training did
    """Training whose loss or weights stopped being numbers.

    Args:
        message: What did, and what to do.
        step: After which it was seen.
        n_steps: That training was to take.
    """

    def __init__(self, message: str, *, step: int, n_steps: int) -> None:
        super().__init__(message)
        self.step, self.n_steps = step, n_steps


class StoreError(LorauditError):
    """The run folder or the evidence store cannot be read or written."""

    exit_code = 5


class InUse(StoreError):  # noqa: N818 - the other process does nothing wrong
    """A folder that another process is writing.

    Args:
        message: Who holds it, and what to do.
        folder: Which, as text.
    """

    def __init__(self, message: str, *, folder: str) -> None:
        super().__init__(message)
        self.folder = folder


class EnvironmentFault(LorauditError):  # noqa: N818 - the fault is not in the program
    """The machine lacks something: memory, network, a device, a package."""

    exit_code = 5


class MissingExtra(EnvironmentFault):
    """An optional dependency is not installed.

    Args:
        feature: What needs it, as the person knows it.
        extra: Name of the extra of this package that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency. Run: pip install 'loraudit[{extra}]'")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a misspelt name, with the nearest known one.

    >>> str(unknown_name("attack", "mink", ["loss", "min_k"]))
    "Unknown attack 'mink'. Did you mean 'min_k'? Known: loss, min_k."
    """
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return ConfigError(f"Unknown {kind} '{name}'.{hint} Known: {', '.join(choices) or 'none'}.")


def type_name(value: object) -> str:
    """The type of a value, with its article.

    >>> type_name(1), type_name("x")
    ('an int', 'a str')
    """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def counted(n: int, noun: str) -> str:
    """A number of things; nouns whose plural is their singular and s.

    >>> counted(1, "part"), counted(1200, "part")
    ('1 part', '1,200 parts')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def scrubbed(text: str) -> str:
    """The text without credentials: known forms, and the values of environment variables named as secrets.

    >>> scrubbed("GET https://ada:hunter2@hub.example/x failed for hf_abcdefghijklmnopqrstuvwx")
    'GET https:/***@hub.example/x failed for ***'
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name) and not os.path.exists(value):  # noqa: PTH110
            text = text.replace(value, "***")
    return _SECRETS.sub("***", text)


def visible(value: object) -> str:
    """Text from files and models with control characters shown as their code, so that none can act.

    >>> visible("a" + chr(27) + "[2J") == "a" + chr(92) + "x1b[2J"
    True
    """
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in str(value))
