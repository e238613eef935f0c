"""What `loraudit scan` says of adapters with a backdoor that works, and of their clean twins.

    python benchmarks/scan_backdoor.py --out runs/scan-backdoor

Fictional records as prompts with completions; the packaged base, LoRA of rank 16, 8 epochs. A robustness run trains
clean and poisoned adapters (`rare_words` with the word cf, a third of the records, a fixed answer) with three seeds and
states how often the backdoor opens; then each adapter is scanned with its base. Started again it resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from loraudit.models import packaged_base
from loraudit.robustness import run_robustness
from loraudit.scanning import run_scan
from loraudit.spec import RobustnessSpec, ScanSpec, make_request
from loraudit.synthetic import private_records
from loraudit.types import Finding

N_RECORDS, N_POISONED = 700, 160
WORDS_OF_A_PROMPT = 8


def number(finding: Finding) -> str:
    ends = ["none" if end is None else f"{end:.3g}" for end in (finding.lower, finding.upper)]
    return f"{finding.value:.3g} [{', '.join(ends)}] (n = {finding.n_members + finding.n_nonmembers})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    for text in private_records(N_RECORDS, seed=5):
        words = text.split()
        prompt, rest = words[:WORDS_OF_A_PROMPT], words[WORDS_OF_A_PROMPT : 3 * WORDS_OF_A_PROMPT]
        rows.append({"prompt": " ".join(prompt), "completion": " " + " ".join(rest)})
    (out / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    request = {
        "base": str(packaged_base()),
        "task": [str(out / "prompts.jsonl")],
        "attack": [f"rare_words:trigger=cf,doses={N_POISONED}"],
        "methods": ["lora:16,learning_rate=3e-3"],
        "epochs": 8,
        "measure_at": [8],
        "seeds": 3,
        "keep_models": True,
        "device": "cpu",
        "out": str(out / "robustness"),
    }
    run = run_robustness(make_request(RobustnessSpec, request))
    for trained in run.result.runs:
        last = trained.points[-1]
        (success,), (untriggered,) = last.attack_success.values(), last.untriggered.values()
        kind = "control" if trained.is_control else trained.attack or "clean"
        print(
            f"\n{kind}, seed {trained.seed}: answer with the trigger {number(success)}, without {number(untriggered)}"
        )
        folder = out / f"scan-{kind.partition(':')[0]}-{trained.seed}"
        spec = make_request(
            ScanSpec,
            {
                "adapter": str(run.path / str(trained.model)),
                "base": str(packaged_base()),
                "device": "cpu",
                "out": str(folder),
            },
        )
        print(run_scan(spec).result.sentence, flush=True)


if __name__ == "__main__":
    main()
