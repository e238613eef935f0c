"""Checkpoints, adapters and tokenizers: found, checked, fingerprinted and loaded.

The only room that knows file formats. Heavy libraries are imported inside functions, so that an
audit whose evidence is cached loads no model.
"""

from loraudit.models.fingerprint import fingerprint, tokenizer_fingerprint
from loraudit.models.locate import Source, locate, packaged_base
from loraudit.models.numerics import Numerics, resolve_devices
from loraudit.models.pairing import with_reference
from loraudit.models.plan import ModelPlan
from loraudit.models.planning import load_tokenizer, plan_models
from loraudit.models.resident import Resident
from loraudit.models.swapping import JointPlan, plan_together

__all__ = [
    "JointPlan",
    "ModelPlan",
    "Numerics",
    "Resident",
    "Source",
    "fingerprint",
    "load_tokenizer",
    "locate",
    "packaged_base",
    "plan_models",
    "plan_together",
    "resolve_devices",
    "tokenizer_fingerprint",
    "with_reference",
]
