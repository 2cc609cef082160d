"""Counts of docs/reliability.md, from a report of the tests.

    python -m pytest -n 2 --dist loadfile --junitxml=report.xml
    python benchmarks/reliability.py report.xml

A test that is marked ``proves(row)`` proves that row of the page: one case, or as many as its
property ``cases`` says. One that was skipped proves nothing. The page stays as it was, and all that
is wrong is told, where a row has no case that passed, where a test proves a row that is not on the
page, and where a test that proves something failed or a file of tests could not be collected. The
versions told are those installed where this is run.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- numbers: reliability -->", "<!-- end of numbers -->"


@dataclass(frozen=True)
class Proof:
    """A test that proves rows, or a file of tests of which none could be collected."""

    name: str
    rows: tuple[str, ...]
    cases: int
    outcome: str


def main(report: str) -> None:
    """Fill the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, Path(report).read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str, report: str) -> str:
    """The page with the counts of a report in junit's XML.

    Raises
    ------
    SystemExit
        If the report does not prove what stands on the page; the text tells everything.
    """
    suites = ElementTree.fromstring(report)
    found = list(proofs(suites))
    before, begin, rest = page.partition(BEGIN)
    block, end, after = rest.partition(END)
    head, rule, *lines = (line for line in block.splitlines() if line.startswith("|"))
    rows = {line.split("`")[1]: line for line in lines}
    passed = [proof for proof in found if proof.outcome == "passed"]
    cases = {row: sum(p.cases for p in passed if row in p.rows) for row in rows}
    if problems := [*wrong(found, rows), *(f"{r}: no case passed" for r in rows if not cases[r])]:
        raise SystemExit("\n- ".join([f"{PAGE.name} is left as it was:", *problems]))
    table = [f"{line.rsplit('|', 2)[0]}| {cases[row]:,} |" for row, line in rows.items()]
    date = next(suites.iter("testsuite")).attrib["timestamp"][:10]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "zarr"))
    foot = (
        f"{sum(proof.cases for proof in passed):,} cases in {len(passed):,} tests, xlsbc "
        f"{version('xlsbc')}: {date}, Python {platform.python_version()}, {versions}."
    )
    return "\n".join([before + begin, head, rule, *table, "", foot, end + after])


def wrong(found: list[Proof], rows: dict[str, str]) -> Iterator[str]:
    """Proofs that failed or prove what is not on the page."""
    for proof in found:
        if proof.outcome == "failed":
            yield f"{proof.name}: failed"
        for row in proof.rows:
            if row not in rows:
                yield f"{proof.name}: proves {row!r}, which is not on the page"


def proofs(suites: ElementTree.Element) -> Iterator[Proof]:
    """Tests of a report that prove something, and files that could not be collected."""
    for case in suites.iter("testcase"):
        properties = [(p.attrib["name"], p.attrib["value"]) for p in case.iter("property")]
        rows = tuple(value for name, value in properties if name == "proves")
        told = [int(value) for name, value in properties if name == "cases"]
        lost = any(error.get("message") == "collection failure" for error in case.iter("error"))
        if rows or lost:
            name = f"{case.get('classname')}.{case.get('name')}".lstrip(".")
            yield Proof(name, rows, sum(told) if told else 1, outcome(case))


def outcome(case: ElementTree.Element) -> str:
    """Whether a test passed, failed or was skipped."""
    found = {child.tag for child in case}
    if found & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in found else "passed"


if __name__ == "__main__":
    main(*sys.argv[1:])
