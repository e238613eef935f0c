"""The seal of a manifest: what tells that it is as it was written."""

from __future__ import annotations

import hashlib
import json

from loraudit.spec import CanaryManifest


def seal_of(manifest: CanaryManifest) -> str:
    """sha256 over everything in a manifest but its digest.

    It finds slips and second thoughts. It is no signature: whoever writes a manifest can seal it anew, unless the
    digest was made known before the training.
    """
    content = manifest.model_dump(mode="json", exclude={"digest"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(manifest: CanaryManifest) -> CanaryManifest:
    """The manifest with its digest."""
    return manifest.model_copy(update={"digest": seal_of(manifest)})
