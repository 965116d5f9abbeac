"""Gate results as JUnit XML, which CI systems show: a test case a bound.

The layout is that of the Jenkins and Apache Ant schemas that those systems read: `testsuites`,
`testsuite` with `properties` (the figures), `testcase` with `failure`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from lmrun.errors import StageError
from lmrun.plan.gate import Gate, words

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(
    name: str, gates: Sequence[Gate], figures: Mapping[str, float], *, details: str = ""
) -> str:
    """XML of one suite.

    ``name`` is that of the deployment (a recipe's). Each gate is a case of the class
    ``lmrun.NAME``: passed, failed (with the refusal), or skipped where it is not decided. The first
    case says that the evaluation itself ended; ``details`` (the table of figures) is its output.
    Equal arguments give equal bytes: there are no times in it.
    """
    suite = ElementTree.Element("testsuite", name=_clean(f"lmrun.{name}"))
    properties = ElementTree.SubElement(suite, "properties")
    for figure, value in figures.items():
        ElementTree.SubElement(properties, "property", name=_clean(figure), value=_number(value))
    done = ElementTree.SubElement(
        suite, "testcase", classname=_clean(f"lmrun.{name}"), name="evaluate"
    )
    if details:
        ElementTree.SubElement(done, "system-out").text = _clean(details)
    failures = skipped = 0
    for gate in gates:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_clean(f"lmrun.{name}"), name=_clean(gate.key)
        )
        if gate.passed is None:
            skipped += 1
            text = f"{words(gate.name)} is not evaluated"
            ElementTree.SubElement(case, "skipped", message=_clean(text))
        elif not gate.passed:
            failures += 1
            failure = ElementTree.SubElement(
                case, "failure", message=_clean(gate.text), type="QualityGate"
            )
            failure.text = _clean(gate.text)
        else:
            said = f"{words(gate.name)}: {_number(gate.value or 0.0)}, {gate.limit}"
            ElementTree.SubElement(case, "system-out").text = _clean(said)
    counts = {
        "tests": str(len(gates) + 1),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
    }
    suite.attrib.update(counts)
    suites = ElementTree.Element("testsuites", {"name": "lmrun", **counts})
    suites.append(suite)
    ElementTree.indent(suites)
    body = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def write(path: Path, text: str) -> None:
    """Write a `document`; `StageError` where that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}.") from error


def _number(value: float) -> str:
    return f"{value:.12g}" if math.isfinite(value) else str(value)


def _clean(text: str) -> str:
    """Without characters that XML has no way to write."""
    return _NOT_XML.sub("\ufffd", text)
