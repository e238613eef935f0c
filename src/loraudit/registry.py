"""One small registry for everything that can be named on the command line."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from loraudit.errors import ConfigError, unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named plug-ins of one kind; built-in ones are added here, others come from entry points.

    Args:
        kind: What the entries are called in messages, such as "attack".
        entry_point_group: Distributions that declare entry points in this group add to the
            registry the first time it is read. A plug-in that fails to load is kept in
            `broken` and does not stop the rest.
        problem: What is wrong with an entry that a package brings under a name, or None.

    >>> numbers: Registry[int] = Registry("number")
    >>> numbers.add("one", 1)
    >>> numbers["one"]
    1
    """

    def __init__(
        self,
        kind: str,
        *,
        entry_point_group: str | None = None,
        problem: Callable[[str, Any], str | None] | None = None,
    ) -> None:
        self.kind = kind
        self.problem = problem
        self.entry_point_group = entry_point_group
        self.broken: dict[str, str] = {}
        self._entries: dict[str, T] = {}
        self._is_loaded = entry_point_group is None

    def add(self, name: str, entry: T) -> None:
        """Register `entry`.

        Raises:
            ConfigError: The name is taken.
        """
        if name in self._entries:
            raise ConfigError(
                f"The {self.kind} name '{name}' is registered twice. Expected unique names. "
                f"Rename one of them or uninstall the package that brings it."
            )
        self._entries[name] = entry

    def _load(self) -> None:
        if self._is_loaded:
            return
        self._is_loaded = True
        for point in importlib.metadata.entry_points(group=self.entry_point_group or ""):
            origin = f"{point.name} = {point.value}"
            try:
                entry = point.load()
                wrong = self.problem(point.name, entry) if self.problem else None
                if wrong is None:
                    self.add(point.name, entry)
                else:
                    self.broken[origin] = wrong
            except Exception as error:  # a stranger's import may fail in any way; the others must go on
                self.broken[origin] = f"{type(error).__name__}: {error}"

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)
