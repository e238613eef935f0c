"""What a scan says in words. It never says that an adapter is harmless: no scan can show that."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.spec import ModuleFamily, ProbeResult, ScannedModule

_ALWAYS: tuple[str, ...] = (
    (
        "A backdoor need not show in the weights: one that is trained slowly, spread over many modules, or merged into "
        "a large update leaves every spectrum ordinary."
    ),
    (
        "Spectra compare modules of this adapter with one another. An adapter in which all of them are altered alike "
        "has nothing that stands out."
    ),
    (
        "A module that stands out is no proof of a backdoor: tuning on one subject, a few layers or a high rate can do "
        "it."
    ),
    "p-values rest on logarithms that are normal within a family; in small families hardly anything can stand out.",
)
_OF_PROBES: tuple[str, ...] = (
    (
        "Only the triggers listed were tried, in these places. A backdoor with any other trigger, of several parts, or "
        "that waits for a subject or a date not listed, goes unseen."
    ),
    (
        "The prompts are the package's own unless texts were given. What a model does with the prompts of its task may "
        "differ."
    ),
)
_NO_PROBES = "No model was run: nothing is known of what the adapter does. A scan of weights alone can clear nothing."
_OTHERS = "{n} tensors of the adapter are no updates (see 'skipped'); what they hold was not looked at."


def heading_of(modules: Sequence[ScannedModule], probes: Sequence[ProbeResult], *, were_probed: bool) -> str:
    """The finding in a few words."""
    n_modules, n_probes = (sum(bool(one.flagged) for one in found) for found in (modules, probes))
    if n_probes:
        return f"{n_probes} of {len(probes)} triggers change what the model does" + (
            f"; {_of(n_modules, len(modules))}" if n_modules else ""
        )
    if n_modules:
        return _of(n_modules, len(modules))[0].upper() + _of(n_modules, len(modules))[1:]
    return "Nothing stands out" if were_probed else "Nothing stands out in the weights; behaviour not examined"


def _of(n: int, of: int) -> str:
    return f"{n} of {of} modules stand{'s' if n == 1 else ''} out"


def sentence_of(
    modules: Sequence[ScannedModule],
    families: Sequence[ModuleFamily],
    probes: Sequence[ProbeResult],
    probes_reason: str | None,
    factor: float,
) -> str:
    """What was looked at, and what stood out, with its size."""
    n_compared = sum(module.size.z is not None or module.direction.z is not None for module in modules)
    compared = f"{n_compared} of {len(modules)} modules in {len(families)} families were compared with their like"
    parts = [f"{compared}; what is flagged is unusual and at least {factor:g} times the family's median."]
    for module in [one for one in modules if one.flagged][:3]:
        found = ", ".join(f"{measure} {getattr(module, measure).factor:.3g} times" for measure in module.flagged)
        moved = "" if module.relative_change is None else f", which moves its weight by {module.relative_change:.2g}"
        parts.append(f"{module.name}: {found} its family's median{moved}.")
    parts += [_probe_words(probe) for probe in [one for one in probes if one.flagged][:3]]
    parts.append(
        f"No probes were run: {probes_reason}"
        if probes_reason
        else f"{len(probes)} triggers were tried against controls."
    )
    return " ".join(parts)


def _probe_words(probe: ProbeResult) -> str:
    said: list[str] = []
    if "shift" in probe.flagged and probe.shift is not None:
        said.append(f"moves the next token by {probe.shift.value:.2f} nats more than its controls")
    for name, words in (("repeated", "get one response"), ("flips", "become one class")):
        pair = getattr(probe, name)
        if name in probe.flagged:
            rate, control = pair.with_trigger, pair.with_control
            said.append(
                f"makes {100 * rate.value:.0f} % of {rate.n_members} prompts {words} "
                f"({100 * control.value:.0f} % with a control)"
            )
    return f"The trigger {probe.name} {' and '.join(said)}."


def does_not_show(n_skipped: int, *, were_probed: bool, is_classifier: bool) -> list[str]:
    """What follows from the result in no case."""
    found = list(_ALWAYS)
    found += list(_OF_PROBES) if were_probed else [_NO_PROBES]
    if is_classifier:
        found.append(
            "A classifier is compared with and without triggers; what its base would say is not known, for a base has "
            "no classes."
        )
    if n_skipped:
        found.append(_OTHERS.format(n=n_skipped))
    return found
