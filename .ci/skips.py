"""Fail on a skipped test whose reason is not allowed. Usage: skips.py JUNIT_XML."""

import os
import sys
from xml.etree import ElementTree

# Beginnings of allowed reasons. Without the real data its tests may be skipped, with them none.
ALLOWED = () if os.environ.get("LMRUN_TEST_DATA") else ("LMRUN_TEST_DATA is not set",)
# This machine may lack an instruction set; the tests of the others still run.
ALLOWED += ("this CPU lacks",)
# A container may not mount; the same tests with injected errors still run.
ALLOWED += ("mounting a tmpfs is not permitted",)

skipped = [
    (f"{case.get('classname')}::{case.get('name')}", skip.get("message") or "")
    for case in ElementTree.parse(sys.argv[1]).iter("testcase")
    if (skip := case.find("skipped")) is not None
]
wrong = [(name, reason) for name, reason in skipped if not reason.startswith(ALLOWED)]
for name, reason in wrong:
    sys.stderr.write(f"skipped, and not on the allow-list: {name}: {reason}\n")
sys.exit(1 if wrong else 0)
