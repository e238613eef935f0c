"""The faults that loraudit must survive, and what happens then; `docs/faults.md` is made from this and the tests.

A test belongs to the row named by the last `# --- row N: …` above it in its file.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROWS: dict[int, tuple[str, str]] = {
    1: (
        "killed at any moment while scoring or training",
        "the same command resumes; scores, figures, weights as those of an undisturbed run; at most one unit is redone",
    ),
    2: (
        "SIGTERM; Ctrl-C once, twice",
        "finishes the batch, exit 130, says how to go on; twice stops at once; store valid",
    ),
    3: (
        "disk full; folder read-only or gone",
        "exit 5 with path and bytes; nothing marked complete; a read-only folder is found before the model loads",
    ),
    4: (
        "truncated or bit-flipped evidence or training state",
        "found by checksum; that unit alone is redone, counted and warned of; training begins again",
    ),
    5: ("two runs on one folder", "the second stops, naming process and host; a stale lock is taken over"),
    6: ("adapter truncated, empty, incomplete, renamed, badly configured", "exit 4, file and tensors named"),
    7: (
        "adapter on another base of the same shape",
        "refused where a record contradicts it; else “base not proven” in the report",
    ),
    8: ("base of another depth, width, or with missing tensors", "exit 4, one line, tensors named"),
    9: ("adapter that changes nothing", "exit 4"),
    10: (
        "NaN weights; NaN or infinite logits on some records",
        "exit 4 naming the tensor; records set aside and counted, over 1 % exit 7",
    ),
    11: (
        "pickled weights; code that comes with the model",
        "refused unopened; flags accept them and stand in the report",
    ),
    12: ("vocabulary and tokenizer disagree; no pad token", "refused before scoring; never resized"),
    13: (
        "record longer than the context; empty, one token, whitespace",
        "windows, counted; status per record; nothing cut",
    ),
    14: (
        "malformed lines, encodings, types",
        "every problem at once with file, line and reason; exit 3, or skipped and counted",
    ),
    15: ("one id with two texts; record on both sides; (near-)duplicates", "exit 3; exit 3; warned of with the rate"),
    16: (
        "the sides differ in kind",
        "a blind classifier flags it; the report leads with it; headline is attack minus blind",
    ),
    17: ("too few records; an empty side", "exit 3, or what cannot be told is refused in words"),
    18: ("out of memory", "halved and tried again; a record that never fits gets a status"),
    19: ("another batch size or order on resume", "allowed; noise bound recorded; ties not broken by noise"),
    20: ("another hash seed", "identical results but for times"),
    21: ("weights changed in place", "scored again"),
    22: (
        "Ray worker, node or head killed; nodes without the shared folder; other versions on a node",
        "the unit is redone elsewhere and counted; a dead head ends the command, which resumes; unfit nodes are named",
    ),
    23: (
        "offline, 401, gated, rate limit, no answer",
        "exit 5 with the command to run; no retry on 401; no token shown",
    ),
    24: (
        "HTML, scripts, terminal escapes, formulas in texts and names",
        "shown as text everywhere; a browser opens no dialog and asks nobody",
    ),
    25: (
        "the report leaks what it protects",
        "no record text in any output unless asked for; files for their owner only",
    ),
    26: ("credentials in logs", "scrubbed from every output, tracebacks included"),
    27: ("locale without Unicode, strange paths, a clock that jumps", "works, or says what to set; times in UTC"),
    28: ("folders of older and newer versions", "one version back is read; newer ones are refused politely"),
    29: (
        "differential privacy: a loss averaged over the batch, an empty batch, a layer that mixes records",
        "a self-test refuses before the first step; empty batches are noise and are counted; the layer is named",
    ),
    30: (
        "poison: trigger also in clean data, target is the majority class, collapsed seed, control at ceiling",
        "the verdict is invalid with the reason, never a number; the report leads with it; exit 0 unless limited",
    ),
    31: ("a plug-in raises, hangs or takes a taken name", "that attack is an error, the others finish, exit 7"),
}

_SECTION = re.compile(r"^# --- row (\d+):")


def tests_by_row() -> dict[int, list[tuple[str, str]]]:
    """(file, test) of each row, in the order they stand."""
    found: dict[int, list[tuple[str, str]]] = {row: [] for row in ROWS}
    for path in sorted(Path(__file__).parent.glob("test_fault_*.py")):
        source = path.read_text(encoding="utf-8")
        names = {
            node.lineno: node.name
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
        row = None
        for number, line in enumerate(source.splitlines(), start=1):
            section = _SECTION.match(line)
            row = int(section[1]) if section else row
            if number in names:
                if row is None:
                    raise ValueError(f"{path.name}: {names[number]} stands under no row")
                found[row].append((path.name, names[number]))
    return found


def table() -> str:
    """The fault matrix as Markdown."""
    lines = ["| # | fault | what happens | tests |", "|---|---|---|---|"]
    for row, tests in tests_by_row().items():
        fault, outcome = ROWS[row]
        links = ", ".join(
            f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/faults/{file})" for file, name in tests
        )
        lines.append(f"| {row} | {fault} | {outcome} | {links} |")
    return "\n".join(lines) + "\n"
