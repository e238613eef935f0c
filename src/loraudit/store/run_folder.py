"""The folder of one run while it is made: request, result, scores, log."""

from __future__ import annotations

import datetime
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from loraudit.errors import ConfigError, NewerVersion, StoreError, scrubbed
from loraudit.spec import (
    Request,
    differing_fields,
    make_request,
    read_spec_file,
    refuse_newer,
    spec_content,
    spec_hash,
)
from loraudit.store.files import PRIVATE_FILE, Lock, is_private, open_private_folder, write_atomically
from loraudit.store.identity import run_key, shown_ids
from loraudit.types import Record


class RunFolder:
    """Where one run keeps what it was asked and what it found.

    Args:
        path: Made when missing.
        spec: The request; a folder that holds another one is refused.

    Raises:
        ConfigError: The folder belongs to another request; the differing fields are named.
        StoreError: It cannot be written.
    """

    def __init__(self, path: Path, spec: Request) -> None:
        self.path = open_private_folder(path)
        self.spec = spec
        self.hash = spec_hash(spec)
        held = path / "spec.json"
        if held.exists():
            self._refuse_another(held)

    def _refuse_another(self, held: Path) -> None:
        try:
            keys = read_spec_file(held)
            refuse_newer(keys.get("schema_version"), f"Run folder '{self.path}'")
            earlier = make_request(type(self.spec), keys)
        except NewerVersion:
            raise
        except ConfigError:
            raise ConfigError(
                f"Run folder '{self.path}' holds a spec this version cannot read. Choose another --out."
            ) from None
        differing = differing_fields(earlier, make_request(type(self.spec), json.loads(self._kept_spec())))
        if differing:
            raise ConfigError(
                f"Run folder '{self.path}' holds another {self.spec.command}. Choose another --out or repeat the same "
                "request. It differs in:\n" + "\n".join(f"  {line}" for line in differing)
            )

    def lock(self) -> Lock:
        """To be held while the run writes."""
        return Lock(self.path)

    def write_spec(self) -> None:
        """Save the resolved request, without credentials."""
        write_atomically(self.path / "spec.json", self._kept_spec().encode())

    def _kept_spec(self) -> str:
        return scrubbed(spec_content(self.spec))

    def log(self, event: str, **facts: Any) -> None:
        """Append one line to `log.jsonl`."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = scrubbed(json.dumps({"time": now, "event": event, **facts}, default=str)) + "\n"
        try:
            descriptor = os.open(self.path / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise StoreError(f"'{self.path / 'log.jsonl'}' cannot be written: {error.strerror}.") from error

    def write_scores(
        self,
        records: Sequence[Record],
        columns: Mapping[str, Any],
        metadata: Mapping[bytes, bytes] | None = None,
        *,
        others: Sequence[Record] = (),
    ) -> pa.Table:
        """`scores.parquet`: one row per record under its shown id; also returned.

        Source and line are left empty where others can enter the folder. The link from shown ids to
        contents is kept in `identity.parquet`, which stays private in any case; it also names `others`, records that
        have no scores and may be shown.
        """
        ids, named = self.shown_ids(records), [*records, *others]
        may_name_source = is_private(self.path)
        scores = pa.table(
            {
                "id": pa.array(ids, pa.string()),
                "source": pa.array([r.source if may_name_source else None for r in records], pa.string()),
                "line": pa.array([r.line if may_name_source else None for r in records], pa.int64()),
                **{name: pa.array(column) for name, column in columns.items()},
            }
        )
        identity = pa.table(
            {
                "id": pa.array([*ids, *self.shown_ids(others)], pa.string()),
                "content_sha256": [r.id for r in named],
                "source": [r.source for r in named],
                "line": [r.line for r in named],
                "own_id": pa.array([r.own_id for r in named], pa.string()),
            }
        ).replace_schema_metadata({"key": run_key(self.hash).hex()})
        scores = scores.replace_schema_metadata(dict(metadata)) if metadata else scores
        self.write_table("identity.parquet", identity)
        self.write_table("scores.parquet", scores)
        return scores

    def shown_ids(self, records: Sequence[Record]) -> list[str]:
        """Under which records are shown in this run; they do not identify."""
        return shown_ids(records, run_key(self.hash))

    def write_table(self, name: str, table: pa.Table) -> None:
        """A table of the run, whole or not at all, with checksums."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        write_atomically(self.path / name, buffer.getvalue())

    def write_result(self, result: BaseModel) -> None:
        """`result.json`; its presence says that the run is complete."""
        write_atomically(self.path / "result.json", (result.model_dump_json(indent=2) + "\n").encode())

    def reopen(self) -> None:
        """Take back the mark of completeness before other files of the run are replaced."""
        for name in ("result.json", "report.html", "text.parquet", "memorization.parquet", "influence.parquet"):
            (self.path / name).unlink(missing_ok=True)
