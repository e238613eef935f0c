"""What is asked of `loraudit influence`: a contrast that can be predicted."""

from __future__ import annotations

from pathlib import Path

from loraudit.errors import ConfigError
from loraudit.models import fingerprint, locate
from loraudit.models.locate import Source
from loraudit.spec import ContrastResult, InfluenceSpec, Match, spec_hash
from loraudit.store import read_contrast, refused_folder


def influence_path(spec: InfluenceSpec) -> Path:
    """The run folder: the one named, or `runs/influence-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"influence-{spec_hash(spec)[:12]}"


def asked_contrast(spec: InfluenceSpec) -> tuple[ContrastResult, Match]:
    """The contrast, and the validation loss at which its methods are compared.

    Raises:
        ConfigError: The folder holds no finished contrast, or its methods share no validation loss.
    """
    result = read_contrast(Path(spec.contrast))
    if result is None:
        raise refused_folder(Path(spec.contrast), "a finished contrast, as `loraudit contrast` makes it")
    match = result.match("validation_loss")
    if match is None or match.level is None or match.level >= result.base_validation_loss:
        raise ConfigError(
            f"The methods of contrast '{spec.contrast}' reach no common validation loss below that of their base "
            f"({result.base_validation_loss:.3f} nats). Expected a fit at which they can be compared. Train longer, or "
            "leave out the method that does not learn."
        )
    return result, match


def asked_base(spec: InfluenceSpec, contrast: ContrastResult) -> Source:
    """Where the contrast's base is.

    Raises:
        ConfigError: It is not the one that the contrast started from.
        LorauditError: It cannot be found.
    """
    source = locate(contrast.spec.base, offline=spec.offline)
    found = fingerprint(source.folder)
    if found != contrast.base.fingerprint:
        raise ConfigError(
            f"Base '{contrast.spec.base}' is not the one that contrast '{spec.contrast}' started from: its fingerprint "
            f"is {found}, then it was {contrast.base.fingerprint}. Expected the same weights. Put them back, or run "
            "the contrast again."
        )
    return source
