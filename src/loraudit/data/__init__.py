"""Records: read from files, checked, tokenised as training did, cut into windows.

Tokenizers are passed in; nothing here loads a model.
"""

from loraudit.data.altering import (
    Prefix,
    Proposals,
    behind_prefix,
    draw_substitutions,
    joined_prefix,
    with_substitutions,
)
from loraudit.data.content import record_of
from loraudit.data.encoding import Encoded, audited_text, encode, record_facts, token_record, token_texts
from loraudit.data.masking import masked_snippet
from loraudit.data.places import fetch_files, local_path, missing_files
from loraudit.data.reading import FileRows, file_sha256, names_file, read_rows, unpacked_bytes
from loraudit.data.records import InMemory, RecordSet, load_records, load_sides
from loraudit.data.splitting import planted_copies, split_records
from loraudit.data.streaming import Found, Place, Row, RowStream
from loraudit.data.windows import Window, cut_windows
from loraudit.types import record_id

__all__ = [
    "Encoded",
    "FileRows",
    "Found",
    "InMemory",
    "Place",
    "Prefix",
    "Proposals",
    "RecordSet",
    "Row",
    "RowStream",
    "Window",
    "audited_text",
    "behind_prefix",
    "cut_windows",
    "draw_substitutions",
    "encode",
    "fetch_files",
    "file_sha256",
    "joined_prefix",
    "load_records",
    "load_sides",
    "local_path",
    "masked_snippet",
    "missing_files",
    "names_file",
    "planted_copies",
    "read_rows",
    "record_facts",
    "record_id",
    "record_of",
    "split_records",
    "token_record",
    "token_texts",
    "unpacked_bytes",
    "with_substitutions",
]
