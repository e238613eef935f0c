"""A task as training-time attacks see it: its records apart, poisoned at every dose, and triggered for the test."""

from loraudit.tasks.attacks import Plan, partial, plan_attacks, triggered, untriggered
from loraudit.tasks.lengths import refuse_long
from loraudit.tasks.records import TaskData, label_column, split_task
from loraudit.tasks.request import check_files, requested_attacks

__all__ = [
    "Plan",
    "TaskData",
    "check_files",
    "label_column",
    "partial",
    "plan_attacks",
    "refuse_long",
    "requested_attacks",
    "split_task",
    "triggered",
    "untriggered",
]
