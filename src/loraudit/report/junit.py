"""The verdict as JUnit XML, for the test view of a CI system."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from loraudit.errors import visible
from loraudit.policy import verdict_of
from loraudit.report.words import NOT_VALID, incomplete
from loraudit.spec import AuditResult

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(result: AuditResult) -> str:
    """One test case per limit, one per validity gate and one for completeness.

    Failures and errors are there exactly if the exit code is not 0. A failed gate alone is no failure, but a
    skipped case with its reason; a limit such as `validity.n_failed > 0` makes it one.
    """
    verdict = verdict_of(result)
    suite = ET.Element("testsuite", name=f"loraudit {_xml(result.target.name)}", time=f"{result.seconds:.2f}")
    n_failures = n_errors = n_skipped = 0

    def case(kind: str, name: str) -> ET.Element:
        return ET.SubElement(suite, "testcase", classname=f"loraudit.{kind}", name=_xml(name))

    for limit in verdict.limits:
        one = case("limit", limit.limit)
        if limit.status != "holds":
            n_failures += 1
            ET.SubElement(one, "failure", message=_xml(limit.reason), type=limit.status)
    for gate in result.validity.gates if result.validity else ():
        one = case("validity", gate.name)
        if gate.status != "passed":
            n_skipped += 1
            ET.SubElement(one, "skipped", message=_xml(f"{gate.status.replace('_', ' ')}: {gate.reason}"))
    complete = case("audit", "complete")
    if verdict.is_partial:
        n_errors += 1
        message = _xml("; ".join(incomplete(result)))
        ET.SubElement(complete, "error", message=message, type="partial")
    words = ET.SubElement(suite, "system-out")
    words.text = _xml(
        f"{NOT_VALID + '. ' + verdict.validity if verdict.validity else ''}\n{verdict.heading}. {verdict.sentence}\n"
        f"Exit code: {verdict.exit_code}"
    )
    n_tests = len(suite.findall("testcase"))
    for name, n in (("tests", n_tests), ("failures", n_failures), ("errors", n_errors), ("skipped", n_skipped)):
        suite.set(name, str(n))
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _xml(words: str) -> str:
    return _NOT_XML.sub("\ufffd", visible(words))
