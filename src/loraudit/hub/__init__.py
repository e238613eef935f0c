"""Files of the hub's data sets by name, and in words why the hub does not give something."""

from loraudit.hub.answers import Wanted, causes_of, refusal_words, why_not_downloaded
from loraudit.hub.files import HubFile, cached, fetch, hub_file, is_hub_file

__all__ = [
    "HubFile",
    "Wanted",
    "cached",
    "causes_of",
    "fetch",
    "hub_file",
    "is_hub_file",
    "refusal_words",
    "why_not_downloaded",
]
