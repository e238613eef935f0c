"""Audits inside other people's runs, and finished runs in other people's records: MLflow, W&B, model pages.

Names are loaded when they are asked for: importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.integrations.callback import AuditCallback as AuditCallback
    from loraudit.integrations.card_push import card_change as card_change
    from loraudit.integrations.card_push import push_card as push_card
    from loraudit.integrations.logged import logged as logged
    from loraudit.integrations.mlflow_logger import log_to_mlflow as log_to_mlflow
    from loraudit.integrations.wandb_logger import log_to_wandb as log_to_wandb
    from loraudit.spec import EpochAudit as EpochAudit

_WHERE = {
    "AuditCallback": "loraudit.integrations.callback",
    "EpochAudit": "loraudit.spec",
    "card_change": "loraudit.integrations.card_push",
    "log_to_mlflow": "loraudit.integrations.mlflow_logger",
    "log_to_wandb": "loraudit.integrations.wandb_logger",
    "logged": "loraudit.integrations.logged",
    "push_card": "loraudit.integrations.card_push",
}

__all__ = [
    "AuditCallback",
    "EpochAudit",
    "card_change",
    "log_to_mlflow",
    "log_to_wandb",
    "logged",
    "push_card",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'loraudit.integrations' has no attribute {name!r}")
