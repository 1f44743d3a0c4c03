"""Plugins by name: what ships with streamptycho, and entry points of other packages."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

Plugin = TypeVar("Plugin")


class UnknownPluginError(LookupError):
    """A name that no plugin of this kind has."""


class Registry(Generic[Plugin]):
    """Factories of one kind of plugin, by name.

    Another package adds one by an entry point in the group ``streamptycho.<kind>``.
    """

    def __init__(self, kind: str, built_in: dict[str, Callable[[], Plugin]]) -> None:
        self.kind = kind
        self._loaders = dict(built_in)

    def names(self) -> list[str]:
        """Return the known names, entry points included."""
        return sorted({*self._loaders, *(e.name for e in entry_points(group=f"streamptycho.{self.kind}"))})

    def get(self, name: str) -> Plugin:
        """Return the plugin called `name`.

        Raises
        ------
        UnknownPluginError
            If there is none; the message lists the known names and the nearest match.
        """
        if name in self._loaders:
            return self._loaders[name]()
        for entry in entry_points(group=f"streamptycho.{self.kind}", name=name):
            plugin: Plugin = entry.load()
            return plugin
        known = self.names()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UnknownPluginError(f"{name!r} is none of the {self.kind}. {hint}Known: {', '.join(known)}")
