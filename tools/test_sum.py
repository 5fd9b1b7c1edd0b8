"""One line about everything that ./dev test ran.

Run: python3 tools/test_sum.py MESON_LOG PYTEST_XML. MESON_LOG is meson's testlog.json, PYTEST_XML what pytest wrote for
--junitxml; a missing file means that its tests did not run. Status 1 if anything failed or did not run.
"""

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

CHECKS = re.compile(r"Checks: (\d+), Failures: (\d+), Errors: (\d+)")


def of_c(log):
    """Returns the summary of the C tests, and whether all passed."""
    runs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    failed = [run["name"].split(":")[-1] for run in runs if run["result"] not in ("OK", "SKIP")]
    cases = sum(int(found[1]) for run in runs for found in CHECKS.finditer(run.get("stdout", "")))
    text = f"C: {cases} cases in {len(runs)} program{'s' if len(runs) != 1 else ''}"
    return text + (f", failed: {', '.join(failed)}" if failed else ""), bool(runs) and not failed


def of_python(log):
    suite = next(ElementTree.parse(log).getroot().iter("testsuite"))
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    bad = count["failures"] + count["errors"]
    text = f"Python: {count['tests'] - count['skipped']} tests"
    text += f", {count['skipped']} skipped" if count["skipped"] else ""
    return text + (f", {bad} failed" if bad else ""), count["tests"] > 0 and not bad


def main(logs):
    said, good = [], True
    for of, what, log in ((of_c, "C", logs[0]), (of_python, "Python", logs[1])):
        text, passed = of(Path(log)) if Path(log).exists() else (f"{what}: did not run", False)
        said.append(text)
        good = good and passed
    print("; ".join(said))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
