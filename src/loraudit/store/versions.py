"""What made the numbers of a run."""

from __future__ import annotations

import importlib.metadata
import platform

_LIBRARIES = ("loraudit", "torch", "transformers", "peft", "numpy", "scipy", "safetensors", "tokenizers")


def library_versions() -> dict[str, str]:
    """Versions of Python and of every library that makes or reads numbers."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
