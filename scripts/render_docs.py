"""Keep the generated parts of README and docs in step with the program.

    python scripts/render_docs.py          write them
    python scripts/render_docs.py --check  fail if any differs

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- generated: ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def help_of(command: str) -> str:
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    words = [sys.executable, "-m", "loraudit", *command.split(), "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout  # noqa: S603
    shown = shown.replace("python -m loraudit", "loraudit").replace("__main__.py", "loraudit")
    return "```text\n" + "\n".join(line.rstrip() for line in shown.strip().splitlines()) + "\n```\n"


def attack_table() -> str:
    from loraudit.membership import ATTACKS, needed_words

    from_packages = {point.name for point in importlib.metadata.entry_points(group=str(ATTACKS.entry_point_group))}
    lines = ["| attack | needs | cost | what it reads | source |", "|---|---|---|---|---|"]
    lines += [
        f"| `{a.name}` | {needed_words(a)} | {a.cost} | {a.summary} | {a.source} |"
        for a in ATTACKS.values()
        if a.name not in from_packages
    ]
    return "\n".join(lines) + "\n"


def method_table() -> str:
    from loraudit.finetuning import METHODS

    lines = ["| method | what is trained | settings of its own | source |", "|---|---|---|---|"]
    lines += [
        f"| `{m.name}` | {m.summary} | {', '.join(f'`{s}`' for s in sorted(m.settings))} | {m.source} |"
        for m in METHODS.values()
    ]
    return "\n".join(lines) + "\n"


def poison_table() -> str:
    from loraudit.poisoning import POISONS

    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    lines = ["| poison | goal | for | what it does | trigger | settings | source |", "|---|---|---|---|---|---|---|"]
    for one in POISONS.values():
        tasks = " and ".join(
            {"classification": "classifiers", "causal_lm": "language models"}[t] for t in sorted(one.tasks)
        )
        triggers = "<br>".join(f"`{cell(piece)}`" for piece in one.triggers)
        settings = ", ".join(f"`{name}`" for name in sorted(one.settings))
        cells = f"`{one.name}`", one.goal, tasks, cell(one.summary), triggers, settings, cell(one.source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def detector_table() -> str:
    from loraudit.poisoning.detection import DETECTORS

    lines = ["| detector | finds | needs | score | cannot see | for | source |", "|---" * 7 + "|"]
    from_packages = {point.name for point in importlib.metadata.entry_points(group=str(DETECTORS.entry_point_group))}
    lines += [
        f"| `{d.name}` | {', '.join(d.finds)} | {', '.join(sorted(d.requires)).replace('_', ' ')} | {d.summary} "
        f"| {d.blind_to} | {', '.join(sorted(d.tasks))} | {d.source} |"
        for d in DETECTORS.values()
        if d.name not in from_packages
    ]
    return "\n".join(lines) + "\n"


def personal_table() -> str:
    from loraudit.memorization.personal import RULES

    def cell(text: str) -> str:
        return text.replace("\n", " ⏎ ").replace("|", "\\|")

    head = ("kind", "what counts", "found, between ‹ and ›", "left alone", "misses", "source")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for rule in RULES:
        found = "; ".join(f"`{cell(text)}`" for text in rule.examples[:2])
        left = "; ".join(f"`{cell(text)}`" for text in rule.not_examples[:2])
        cells = f"`{rule.kind}`", cell(rule.summary), found, left, cell(rule.misses), cell(rule.source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def preset_table() -> str:
    from loraudit.study.presets import preset, preset_line, preset_names

    lines = ["| preset | what it is | base | records |", "|---" * 4 + "|"]
    for name in preset_names():
        settings = preset(name)["settings"]
        files = [*settings.get("data", ()), *settings.get("task", ()), *settings.get("test", ())]
        records = "<br>".join(f"`{file}`" for file in files)
        lines.append(f"| `{name}` | {preset_line(name)} | `{settings['base']}` | {records} |")
    return "\n".join(lines) + "\n"


def published_membership() -> str:
    from loraudit.study.presets import preset, preset_names

    measures = ("auc", "tpr_at_fpr_1pct", "tpr_at_fpr_0_1pct")
    lines = ["| preset | AUC | TPR at 1 % FPR | TPR at 0.1 % FPR | note |", "|---" * 5 + "|"]
    for name in (name for name in preset_names() if name.startswith("ez-mia/")):
        figures = {figure["finding"].rpartition("/")[2]: figure for figure in preset(name)["published"]}
        if figures:
            values = " | ".join(f"{figures[m]['value']:.3f}" if m in figures else "–" for m in measures)
            note = figures.get("auc", {}).get("note", "")
            lines.append(f"| `{name}` | {values} | {note} |")
    return "\n".join(lines) + "\n"


def published_robustness() -> str:
    from loraudit.study.presets import preset, preset_names

    lines = ["| preset | measure | dose | full | LoRA of rank 8 |", "|---" * 5 + "|"]
    for name in (name for name in preset_names() if name.startswith("ttr/")):
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for figure in preset(name)["published"]:
            _, arm, measure, attack, dose = figure["finding"].split("/")
            mark = "\\*" if "collapsed" in figure["note"] else ""
            rows.setdefault((f"{measure}, `{attack}`", dose.removeprefix("dose=")), {})[arm] = (
                f"{figure['value']}{mark}"
            )
        for (measure, dose), arms in rows.items():
            lines.append(f"| `{name}` | {measure} | {dose} | {arms['full']} | {arms['lora:8']} |")
    return "\n".join(lines) + "\n"


def error_tree() -> str:
    from loraudit import errors

    tree = str(errors.__doc__).split("\n\n")[1]
    return "```text\n" + "\n".join(line[4:].rstrip() for line in tree.splitlines()) + "\n```\n"


def fault_matrix() -> str:
    sys.path.insert(0, str(ROOT / "tests"))
    from faults.rows import table

    return table()


def generated(name: str) -> str:
    if name == "presets":
        return preset_table()
    if name == "published membership":
        return published_membership()
    if name == "published robustness":
        return published_robustness()
    if name == "detectors":
        return detector_table()
    if name == "attacks":
        return attack_table()
    if name == "methods":
        return method_table()
    if name == "personal information":
        return personal_table()
    if name == "poisons":
        return poison_table()
    if name == "errors":
        return error_tree()
    if name == "faults":
        return fault_matrix()
    return help_of(name.removeprefix("help").strip())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        fresh = BLOCK.sub(lambda found: found[1] + generated(found[2]) + found[3], text)
        if fresh != text:
            stale.append(str(path.relative_to(ROOT)))
            if not is_check:
                path.write_text(fresh, encoding="utf-8")
    from loraudit.spec import SCHEMAS, json_schema

    for name in SCHEMAS:
        path = ROOT / "docs" / "schema" / f"{name}.schema.json"
        if not path.exists() or path.read_text(encoding="utf-8") != json_schema(name):
            stale.append(str(path.relative_to(ROOT)))
            if not is_check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(json_schema(name), encoding="utf-8")
    for path in stale:
        print(f"{path}: {'differs; run: python scripts/render_docs.py' if is_check else 'written'}")
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
