"""The verdict as JUnit XML, for the test view of a CI system."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from loraudit.errors import visible
from loraudit.policy import verdict_of
from loraudit.report.words import NOT_VALID, incomplete
from loraudit.spec import AuditResult, LimitResult

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Suite:
    """Test cases of one run, as they come.

    Args:
        name: Of the model.
        seconds: The run took.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._suite = ET.Element("testsuite", name=f"loraudit {_xml(name)}", time=f"{seconds:.2f}")

    def case(self, kind: str, name: str) -> ET.Element:
        """A test case that passes until something is put into it."""
        return ET.SubElement(self._suite, "testcase", classname=f"loraudit.{kind}", name=_xml(name))

    def limits(self, limits: Sequence[LimitResult]) -> None:
        """One test case per limit, which fails if it does not hold."""
        for limit in limits:
            one = self.case("limit", limit.limit)
            if limit.status != "holds":
                ET.SubElement(one, "failure", message=_xml(limit.reason), type=limit.status)

    def skipped(self, kind: str, name: str, reason: str | None) -> None:
        """A test case that is skipped for a reason; None lets it pass."""
        one = self.case(kind, name)
        if reason is not None:
            ET.SubElement(one, "skipped", message=_xml(reason))

    def complete(self, kind: str, missing: Sequence[str] | None) -> None:
        """Whether every part of the run finished; None where it did."""
        one = self.case(kind, "complete")
        if missing is not None:
            ET.SubElement(one, "error", message=_xml("; ".join(missing)), type="partial")

    def text(self, words: str) -> str:
        """The whole as XML, with these words as what the run printed."""
        ET.SubElement(self._suite, "system-out").text = _xml(words)
        counted = (("tests", "testcase"), ("failures", "*/failure"), ("errors", "*/error"), ("skipped", "*/skipped"))
        for name, path in counted:
            self._suite.set(name, str(len(self._suite.findall(path))))
        ET.indent(self._suite)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(self._suite, encoding="unicode") + "\n"


def render_junit(result: AuditResult) -> str:
    """One test case per limit, one per validity gate and one for completeness.

    Failures and errors are there exactly if the exit code is not 0. A failed gate alone is no failure, but a
    skipped case with its reason; a limit such as `validity.n_failed > 0` makes it one.
    """
    verdict = verdict_of(result)
    suite = Suite(result.target.name, result.seconds)
    suite.limits(verdict.limits)
    for gate in result.validity.gates if result.validity else ():
        reason = None if gate.status == "passed" else f"{gate.status.replace('_', ' ')}: {gate.reason}"
        suite.skipped("validity", gate.name, reason)
    suite.complete("audit", incomplete(result) if verdict.is_partial else None)
    return suite.text(
        f"{NOT_VALID + '. ' + verdict.validity if verdict.validity else ''}\n{verdict.heading}. {verdict.sentence}\n"
        f"Exit code: {verdict.exit_code}"
    )


def _xml(words: str) -> str:
    return _NOT_XML.sub("\ufffd", visible(words))
