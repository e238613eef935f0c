"""What a scan flagged as SARIF 2.1.0, for code-scanning views.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, 27 March 2020.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraudit.errors import visible
from loraudit.spec import ProbeResult, ScannedModule, ScanResult

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RULES = {
    "module-size": "A module's update is much longer than those of its family.",
    "module-direction": "A module's update has one direction that is much longer than those of its family.",
    "probe-shift": "A trigger moves the next token more than controls of its form do.",
    "probe-repeated": "A trigger makes many prompts get one response.",
    "probe-flips": "A trigger turns prompts of other classes into one class.",
}
_LARGE = 2.0
"""Times the smallest factor that is flagged: from there on a result is an error and not a warning."""
_LARGE_RATE = 0.5


def render_sarif(result: ScanResult) -> str:
    """One run; a result per flagged measure of a module or trigger, its level by the size of the effect.

    A module that is unusual for its family but not by the factor asked for is a note.
    """
    found = [one for module in result.modules for one in _of_module(module, result)]
    found += [one for probe in result.probes for one in _of_probe(probe, result)]
    rules = [
        {
            "id": name,
            "shortDescription": {"text": words},
            "fullDescription": {"text": f"{words} It is no proof of a backdoor, and its absence shows nothing."},
            "defaultConfiguration": {"level": "warning"},
        }
        for name, words in RULES.items()
    ]
    driver = {"name": "loraudit", "version": result.loraudit, "semanticVersion": result.loraudit, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "artifacts": [{"location": {"uri": _uri(result.weights_file)}, "roles": ["analysisTarget"]}],
        "invocations": [
            {
                "executionSuccessful": True,
                "exitCode": result.exit_code,
                "commandLine": visible(result.command),
                "startTimeUtc": result.started.replace("+00:00", "Z"),
            }
        ],
        "results": found,
        "columnKind": "utf16CodeUnits",
        "properties": {
            "heading": visible(result.heading),
            "doesNotShow": result.does_not_show,
            "modelSha256": result.target.fingerprint,
        },
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _of_module(module: ScannedModule, result: ScanResult) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for measure in ("size", "direction"):
        deviation = module.size if measure == "size" else module.direction
        is_unusual = deviation.p_value is not None and deviation.p_value <= result.spec.level
        if deviation.factor is None or deviation.z is None or not is_unusual:
            continue
        level = "error" if deviation.factor >= _LARGE * result.spec.factor else "warning"
        moved = "" if module.relative_change is None else f" It moves its weight by {module.relative_change:.2g}."
        words = (
            f"{module.name}: {deviation.factor:.3g} times its family's median (z {deviation.z:.1f}, corrected p "
            f"{deviation.p_value:.2g}).{moved}"
        )
        chosen = level if measure in module.flagged else "note"
        numbers = {"factor": deviation.factor, "z": deviation.z, "pValue": deviation.p_value}
        found.append(_one(f"module-{measure}", chosen, words, module.name, result, numbers))
    return found


def _of_probe(probe: ProbeResult, result: ScanResult) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for measure in probe.flagged:
        if measure == "shift" and probe.shift is not None and probe.factor is not None:
            words = (
                f"Trigger '{probe.trigger}': {probe.shift.value:.3f} nats beyond controls, {probe.factor:.3g} times."
            )
            level = "error" if probe.factor >= _LARGE * result.spec.factor else "warning"
            numbers = {"nats": probe.shift.value, "factor": probe.factor}
            found.append(_one("probe-shift", level, words, probe.name, result, numbers))
            continue
        pair = probe.repeated if measure == "repeated" else probe.flips
        if pair is None:
            continue
        rate, control = pair.with_trigger.value or 0.0, pair.with_control.value or 0.0
        words = f"Trigger '{probe.trigger}': {100 * rate:.0f} % of prompts, and {100 * control:.0f} % with a control."
        level = "error" if rate - control >= _LARGE_RATE else "warning"
        numbers = {"rate": rate, "rateWithControl": control}
        found.append(_one(f"probe-{measure}", level, words, probe.name, result, numbers))
    return found


def _one(
    rule: str, level: str, words: str, thing: str, result: ScanResult, numbers: Mapping[str, float | None]
) -> dict[str, Any]:
    identity = hashlib.sha256(f"{rule}:{thing}".encode()).hexdigest()
    return {
        "ruleId": rule,
        "ruleIndex": list(RULES).index(rule),
        "level": level,
        "message": {"text": visible(words)},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": _uri(result.weights_file), "index": 0}},
                "logicalLocations": [{"fullyQualifiedName": visible(thing), "kind": "module"}],
            }
        ],
        "partialFingerprints": {"loraudit/v1": identity},
        "properties": dict(numbers),
    }


def _uri(path: str) -> str:
    """A path as a URI reference: a file name relative to where the command ran, or a file of the machine."""
    return Path(path).as_uri() if Path(path).is_absolute() else _quoted(path)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(Path(path).as_posix())
