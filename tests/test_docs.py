"""What pages say of the code and of its tests is so, and an example runs as it stands."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import xarray as xr

from benchmarks.adaptations import HEADER, rows
from benchmarks.reliability import filled
from xlsbc.cube.synthetic import synthetic_cube
from xlsbc.emulator import Emulator
from xlsbc.emulator.pretrained import known, official
from xlsbc.emulator.spec import Architecture, Split
from xlsbc.errors import EmulatorError
from xlsbc.inference.predict import predict
from xlsbc.models import prithvi, terramind, vit
from xlsbc.models.backbones import BACKBONES, DEM
from xlsbc.models.blending import overlap, step
from xlsbc.training.outline import outline

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")


def table(first: str, text: str = PAGE) -> list[list[str]]:
    """Cells of the rows of the table whose header begins like this."""
    lines = itertools.takewhile(
        lambda line: line.startswith("|"), text[text.index(first) :].splitlines()
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def variants() -> Iterator[list[str]]:
    """Rows of the table of variants, from the code."""
    makers = {
        "vit": lambda variant: vit.ViT.of(variant, 1),
        "prithvi": prithvi.Prithvi.of,
        "terramind": lambda variant: terramind.TerraMind.of(variant, modalities=(DEM,)),
    }
    for backbone, kind in BACKBONES.items():
        for variant, patch in zip(kind.variants, kind.sides, strict=False):
            with torch.device("meta"):
                size = sum(p.numel() for p in makers[backbone](variant).parameters())
            row = [f"`{backbone}`", variant, f"{size / 1e6:.1f} M"]
            if not kind.pretrained:
                yield [*row, "4, 8 or 16", "none: trained from scratch", ""]
            elif known(backbone)[variant].repository is None:
                yield [*row, str(patch), "never published", ""]
            else:
                where, terms = official(backbone, variant), known(backbone)[variant].license
                yield [*row, str(patch), f"`{where}`", terms]


def test_the_table_of_variants_is_that_of_the_code():
    first, *others = table("| backbone | variant |")
    assert first[0] == "`unet`"
    assert others == list(variants())


def test_the_usual_variants_are_named():
    usual = [kind.usual for kind in BACKBONES.values() if kind.usual]
    assert f"Without a `variant` it is {usual[0]}, {usual[1]} or {usual[2]}." in " ".join(
        PAGE.split()
    )


def test_every_pretrained_variant_has_its_parity():
    expected = [f"{name}-{v}" for name in ("prithvi", "terramind") for v in known(name)]
    found = table("| variant | parameters | difference |")
    assert [row[0] for row in found] == expected
    assert all(float(row[2]) < 1e-4 for row in found)  # what was asked for
    assert found == table("| variant | parameters | difference |", RESULTS)


def test_what_windows_cost_is_what_the_lattice_makes_of_them(world):
    for side, *told in table("| window | overlap |"):
        window = int(side.split()[0])
        sizes = Architecture(backbone="terramind", variant="tiny")
        if window % sizes.stride:
            sizes = Architecture(backbone="prithvi", variant="2.0-600M")
        tile = outline(world, split=Split(), architecture=sizes, window=window).lattice.tile
        count = (tile // step(window) + 1) ** 2
        price = f"{count * window**2 / tile**2:.2f}"
        assert told == [str(overlap(window)), str(tile), str(count), price]


def test_the_table_of_adaptations_is_what_its_script_prints():
    cube = synthetic_cube(chunks={})
    found = table(HEADER.splitlines()[0])
    assert found == table(HEADER.splitlines()[0], RESULTS)
    printed = [row for label in ("unet", "terramind-tiny") for row in rows(cube, label)]
    expected = table(HEADER, "\n".join([HEADER, *printed]))
    assert [row for row in found if row[0] in ("unet", "terramind-tiny")] == expected


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> tuple[Path, str]:
    """The folder in which the example ran, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("adapt"), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        runpy.run_path(str(ROOT / "docs" / "backbones" / "adapt.py"))
    return folder, printed.getvalue()


def test_the_example_prints_the_summary_that_the_docs_show(example):
    text = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
    shown = text[text.index("\nterramind tiny (lora") :].partition("```")[0].strip().splitlines()
    found = example[1].strip().splitlines()
    inputs = slice(found[0].index("; from "), found[0].index("; to "))
    found[0] = found[0].replace(found[0][inputs], "; from elevation, slope, …")
    assert found == shown


def test_the_emulator_of_the_example_finds_its_base_and_predicts_the_same(example, monkeypatch):
    folder, _ = example
    monkeypatch.setattr("xlsbc.emulator.pretrained._seen", {})  # as in another process
    emulator = folder / "emulator"
    with pytest.raises(EmulatorError, match="name their folder in XLSBC_WEIGHTS"):
        Emulator.open(str(emulator))
    monkeypatch.setenv("XLSBC_WEIGHTS", str(folder / "weights"))
    cube = synthetic_cube(region=(8.0, 45.6, 8.5, 46.0), years=(2000, 2001))
    prediction = predict(cube, Emulator.open(str(emulator)))
    expected = prediction.lai.compute(scheduler="synchronous")
    found = xr.open_zarr(folder / "prediction.zarr").lai
    assert float(found.notnull().mean()) > 0.5
    assert float(abs(found - expected).max()) <= 2.0**-12  # what is stored is rounded
    assert sum(file.stat().st_size for file in emulator.iterdir()) < 6e6


# --- docs/reliability.md ---

RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
MARK = re.compile(r"mark\.proves\((.*)\)")


def test_rows_of_the_page_are_those_that_tests_prove_and_each_has_cases():
    marks = set()
    for path in (ROOT / "tests").rglob("*.py"):
        marks |= set(MARK.findall(path.read_text(encoding="utf-8")))
    found = table("| row |", RELIABILITY)
    names = [row.strip("`") for row, *_ in found]
    assert len(set(names)) == len(names)
    assert {f'"{name}"' for name in names} == marks
    assert all(int(cases.replace(",", "")) > 0 for *_, cases in found)


SMALL = """Before.

<!-- numbers: reliability -->
| row | what is done | what must hold | cases |
|---|---|---|---:|
| `killed` | it is killed | it goes on | 7 |
| `flipped` | a bit is flipped | it raises |  |

7 cases in 1 test, long ago.
<!-- end of numbers -->

After.
"""


def case(name: str, *rows: str, cases: int | None = None, inner: str = "") -> str:
    """A test in a report."""
    pairs = [*(("proves", row) for row in rows), *([("cases", cases)] if cases else [])]
    told = "".join(f'<property name="{key}" value="{value}"/>' for key, value in pairs)
    return (
        f'<testcase classname="tests.test_a" name="{name}">'
        f"<properties>{told}</properties>{inner}</testcase>"
    )


def report(*tests: str) -> str:
    head = '<testsuites><testsuite name="pytest" timestamp="2026-11-23T10:00:00.000000+00:00">'
    return f"{head}{''.join(tests)}</testsuite></testsuites>"


def test_cases_are_counted_from_a_report_and_all_else_stays():
    found = filled(
        SMALL,
        report(
            case("one", "killed", cases=1200),
            case("two", "killed", "flipped"),
            case("three", "flipped", cases=5, inner="<skipped/>"),
            case("four", inner="<failure/>"),  # proves nothing, and hides nothing
        ),
    )
    lines, before = found.splitlines(), SMALL.splitlines()
    assert lines[5:7] == [
        "| `killed` | it is killed | it goes on | 1,201 |",
        "| `flipped` | a bit is flipped | it raises | 1 |",
    ]
    assert lines[8].startswith("1,201 cases in 2 tests, xlsbc ")
    assert ": 2026-11-23, Python 3." in lines[8]
    assert lines[:5] + lines[9:] == before[:5] + before[9:]


def test_a_report_that_does_not_prove_the_page_is_refused_with_all_that_is_wrong():
    tests = [
        case("one", "killed", inner="<failure/>"),
        case("two", "flipped", cases=5, inner="<skipped/>"),
        case("three", "drowned"),
        '<testcase classname="" name="tests.test_b">'
        '<error message="collection failure"/></testcase>',
    ]
    with pytest.raises(SystemExit) as caught:
        filled(SMALL, report(*tests))
    assert str(caught.value).splitlines()[1:] == [
        "- tests.test_a.one: failed",
        "- tests.test_a.three: proves 'drowned', which is not on the page",
        "- tests.test_b: failed",
        "- killed: no case passed",
        "- flipped: no case passed",
    ]
