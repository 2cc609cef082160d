"""Pages of the documentation from a finished experiment: what it found, and its report beside.

    python benchmarks/report_pages.py RESULTS NAME

writes ``docs/reports/NAME-report.html``, a copy of the report, and ``docs/reports/NAME.md``, its
sentences and main numbers; both from RESULTS, the folder that ``xlsbc benchmark`` left of
``benchmarks/NAME.yaml``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from xlsbc.assess.benchmark.arms import Arm, Arms, title
from xlsbc.assess.benchmark.config import Experiment
from xlsbc.assess.benchmark.findings import HEADLINES, findings, laws
from xlsbc.assess.benchmark.table import load

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "reports"


def main(results: str, name: str) -> None:
    """Write both pages."""
    experiment = Experiment.read(HERE / f"{name}.yaml")
    arms = Arms.of(load(results))
    machine = "; ".join(sorted(set(arms.table["machine"])))
    versions = "; ".join(sorted(set(arms.table["versions"])))
    parts = [
        f"# {experiment.title}",
        f"[The whole report](./{name}-report.html): tables, pictures, what was run. Made by "
        f"`xlsbc benchmark benchmarks/{name}.yaml` ({len(arms.table)} cells; {machine}; "
        f"{versions}).",
        "\n".join(f"- {sentence}" for sentence in findings(arms)),
        *experiment.notes,
        *(table(arms, split) for split in arms.splits),
    ]
    PAGES.mkdir(exist_ok=True)
    (PAGES / f"{name}.md").write_text("\n\n".join(parts) + "\n")
    shutil.copy(Path(results) / "report.html", PAGES / f"{name}-report.html")


def table(arms: Arms, split: str) -> str:
    """Main numbers of a split, an arm a line."""
    rows = arms.of_split(split, *HEADLINES, full=False)
    kept = [metric for metric in HEADLINES if any(metric in arms.scores[arm] for arm in rows)]
    heads = ["model", "learning", "labels", *map(title, kept), "laws broken", "seeds"]
    lines = [f"## Split {split}", "", line(heads), line(["---"] * len(heads))]
    return "\n".join([*lines, *(line(cells(arms, arm, kept)) for arm in rows)])


def cells(arms: Arms, arm: Arm, metrics: list[str]) -> list[str]:
    """A line of the table: means over seeds with their standard deviation."""
    scores = arms.scores[arm]
    told = [scores[metric].text if metric in scores else "–" for metric in metrics]
    seeds = max((score.n for score in scores.values()), default=0)
    name = arm.name if arm.emulator else arm.long_name
    return [name, arm.way, arm.label_name, *told, laws(arms, arm), str(seeds)]


def line(values: list[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    main(*sys.argv[1:])
