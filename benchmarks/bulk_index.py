"""Rows checked per second of processor time before a bulk run, what the index takes on disk, and memory.

python benchmarks/bulk_index.py [--records 1000000]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

WORDS = (
    "Some words of an ordinary length that stand in a record of the kind people tune models on, and a few more. " * 2
)
RECORD_LENGTH = 135


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    n_records = parser.parse_args().records
    from loraudit.bulk.index import INDEX_NAME, make_index, write_index
    from loraudit.spec import RecordFormat

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "records.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(n_records):
                file.write(json.dumps({"text": f"{number} {WORDS}"[:RECORD_LENGTH]}) + "\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        index = make_index([str(path)], RecordFormat(), records_per_unit=None)
        seconds = time.process_time() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        write_index(Path(name), index, {})
        size = (Path(name) / INDEX_NAME).stat().st_size
        n_bytes = path.stat().st_size
    print(
        f"{n_records:,} records, {n_bytes / n_records:.0f} bytes each: {seconds:.1f} s; "
        f"{len(index.blocks_per_unit(None)):,} units; index {size:,} bytes; peak memory grew by {grown / 1024:.1f} MiB."
    )


if __name__ == "__main__":
    main()
