"""What is kept on disk: run folders, and the evidence that runs share.

Every file is written beside its place and moved there when it is whole, readable by its owner
only. A killed write leaves a temporary file that the next run ignores, never half a result.
"""

from loraudit.store.canaries import MANIFEST_NAME, read_canaries, read_manifest, write_manifest
from loraudit.store.evidence import EvidenceFolder, EvidenceStore
from loraudit.store.files import WORKERS, Lock, is_running, open_private_folder, write_atomically
from loraudit.store.finished_runs import (
    InfluenceRun,
    read_contrast,
    read_forecast,
    read_influence,
    read_measures,
    read_robustness,
    read_run,
    read_scan,
    read_study,
    refused_folder,
)
from loraudit.store.identity import lend_secret, run_key, shown_ids, user_secret
from loraudit.store.numbers import NumberFolder
from loraudit.store.poisons import POISON_MANIFEST_NAME, read_poison_manifest, write_poison_manifest
from loraudit.store.run_folder import RunFolder
from loraudit.store.substitutions import SubstitutionFolder
from loraudit.store.versions import library_versions

__all__ = [
    "MANIFEST_NAME",
    "POISON_MANIFEST_NAME",
    "WORKERS",
    "EvidenceFolder",
    "EvidenceStore",
    "InfluenceRun",
    "Lock",
    "NumberFolder",
    "RunFolder",
    "SubstitutionFolder",
    "is_running",
    "lend_secret",
    "library_versions",
    "open_private_folder",
    "read_canaries",
    "read_contrast",
    "read_forecast",
    "read_influence",
    "read_manifest",
    "read_measures",
    "read_poison_manifest",
    "read_robustness",
    "read_run",
    "read_scan",
    "read_study",
    "refused_folder",
    "run_key",
    "shown_ids",
    "user_secret",
    "write_atomically",
    "write_manifest",
    "write_poison_manifest",
]
