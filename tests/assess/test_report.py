from __future__ import annotations

import base64
import dataclasses
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.report import Section, headlines, write_report
from xlsbc.physics.consistency import check

NAN = float("nan")


class Page(HTMLParser):
    """What a browser would find in a report."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.in_cell = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def scores() -> xr.Dataset:
    table = {
        "lai_rmse": ([0.3, 0.6, 0.4, NAN], "m2 m-2"),
        "lai_bias": ([-0.2, 0.1, 0.3, NAN], "m2 m-2"),
        "lai_r2": ([0.9, 0.7, 0.8, NAN], "1"),
        "lai_n": ([12345, 12345, 12345, 0], "1"),
        "lu_mae": ([0.0421, NAN, NAN, 0.02], "1"),
        "lc_mae": ([NAN, NAN, NAN, NAN], "1"),
    }
    return xr.Dataset(
        {name: ("product", values, {"units": units}) for name, (values, units) in table.items()},
        {"product": ["prediction", "class_by_month_climatology", "boosting", "persistence"]},
        {"scored": "15 held-out pixels", "baselines_made_from": "48 training pixels"},
    )


@pytest.fixture(scope="module")
def section(three_strips, scores) -> Section:
    cube, prediction, held_out = three_strips()
    facts = {"data": "three strips <by hand>", "given": "lc_fraction", "seed": "0"}
    return Section("Strips & stripes", cube, prediction, scores, check(prediction), facts, held_out)


@pytest.fixture(scope="module")
def undrawn(section) -> Section:
    """The same without a map, for what is not about maps."""
    return dataclasses.replace(section, cube=section.cube.drop_vars(list(section.cube.data_vars)))


@pytest.fixture(scope="module")
def written(tmp_path_factory, section) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, title="A <first> run", sections=[section])
    return path


@pytest.fixture
def page(written) -> Page:
    return Page(written)


def test_the_file_needs_nothing_from_elsewhere(page):
    assert len(page.all("img")) == 4
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("object")
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_every_picture_is_a_png_and_has_words(page):
    for image in page.all("img"):
        head = base64.b64decode(image["src"].partition(",")[2])[:8]
        assert head == b"\x89PNG\r\n\x1a\n"
        assert len(image["alt"]) > 40


def test_names_and_facts_are_text_never_markup(page):
    assert "A <first> run" in page.text
    assert "Strips & stripes" in page.text
    assert ["data", "three strips <by hand>"] in page.rows
    assert not page.all("first") + page.all("by")


def test_scores_stand_in_a_table_a_target_with_the_best_in_bold(page, written):
    assert ["product", "RMSE, m2 m-2", "bias, m2 m-2", "R²", "values"] in page.rows
    assert ["prediction", "0.300", "-0.200", "0.900", "12,345"] in page.rows
    assert ["class by month climatology", "0.600", "0.100", "0.700", "12,345"] in page.rows
    assert ["persistence", "0.020"] in page.rows
    source = written.read_text(encoding="utf-8")
    bold = [part.partition("</strong>")[0] for part in source.split("<strong>")[1:]]
    assert bold == ["0.300", "0.900", "0.100", "0.020"]


def test_a_product_without_a_score_of_a_target_has_no_row_there(page):
    assert [row[0] for row in page.rows].count("persistence") == 1
    assert [row[0] for row in page.rows].count("boosting") == 1


def test_it_says_what_was_scored_and_what_each_product_is(page, tmp_path, undrawn):
    assert "Scored on 15 held-out pixels; baselines made from 48 training pixels." in page.text
    described = undrawn.scores.assign_coords(description=("product", ["a", "b", "c", "last <map>"]))
    write_report(
        tmp_path / "report.html",
        title="run",
        sections=[dataclasses.replace(undrawn, scores=described)],
    )
    assert ["persistencelast <map>", "0.020"] in Page(tmp_path / "report.html").rows


def test_a_target_that_was_not_evaluated_is_said_to_be_so(page):
    assert "Land cover was not evaluated." in page.text


def test_what_the_check_found_is_shown_with_its_verdict(page, section):
    found = {row[0]: row for row in page.rows}
    for scalar in section.check.values():
        assert scalar.attrs["long_name"] in found
    assert all(row[-1] == "holds" for row in found.values() if row[0].startswith("Pixel-times"))


def test_headlines_give_the_prediction_beside_its_best_baseline(scores):
    assert headlines(scores) == [
        "Leaf area index: RMSE 0.300; best baseline, boosting: 0.400 (ratio 0.75).",
        "Land use: MAE 0.042; best baseline, persistence: 0.020 (ratio 2.10).",
    ]


def test_headlines_without_a_baseline_give_the_prediction_alone(scores):
    assert headlines(scores.isel(product=[0])) == [
        "Leaf area index: RMSE 0.300.",
        "Land use: MAE 0.042.",
    ]


def test_a_cube_without_land_use_leaves_that_map_out_with_a_sentence(tmp_path, section):
    bare = dataclasses.replace(section, cube=section.cube.drop_vars("lu_fraction"))
    write_report(tmp_path / "report.html", title="run", sections=[bare])
    page = Page(tmp_path / "report.html")
    assert len(page.all("img")) == 3
    assert "Land use is not drawn: the cube has none." in page.text


def test_several_sections_are_listed_and_can_be_jumped_to(tmp_path, undrawn):
    other = dataclasses.replace(undrawn, name="Elsewhere")
    write_report(tmp_path / "report.html", title="run", sections=[undrawn, other])
    page = Page(tmp_path / "report.html")
    targets = [link["href"] for link in page.all("a")]
    assert targets == ["#section-1", "#section-2"]
    assert [attrs["id"] for attrs in page.all("section")] == ["section-1", "section-2"]


def test_the_same_run_gives_the_same_bytes(tmp_path, section, written):
    again = tmp_path / "report.html"
    write_report(again, title="A <first> run", sections=[section])
    assert again.read_bytes() == written.read_bytes()


def test_a_report_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path, undrawn):
    place = tmp_path / "report.html"
    place.write_text("the old one")
    broken = dataclasses.replace(undrawn, scores=undrawn.scores.rename(product="model"))
    with pytest.raises(KeyError, match="product"):
        write_report(place, title="run", sections=[undrawn, broken])
    assert place.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_disk_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path, undrawn, monkeypatch):
    place = tmp_path / "report.html"
    place.write_text("the old one")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        write_report(place, title="run", sections=[undrawn])
    assert place.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_numbers_too_small_for_three_decimals_are_not_shown_as_nothing(tmp_path, undrawn):
    tiny = undrawn.scores.copy()
    tiny["lu_mae"] = ("product", np.array([4.2e-5, NAN, NAN, 0.02]))
    write_report(
        tmp_path / "report.html", title="run", sections=[dataclasses.replace(undrawn, scores=tiny)]
    )
    assert ["prediction", "4.2e-05"] in Page(tmp_path / "report.html").rows


def test_drawing_never_touches_pyplot(tmp_path):
    code = (
        "import sys, xlsbc.assess.report\n"
        "assert 'matplotlib' not in sys.modules, 'imported with the module'\n"
        "import numpy as np, xarray as xr\n"
        "from xlsbc.assess.plots import lai_picture\n"
        "axes = {'latitude': [1.0, 0.5], 'longitude': [3.0, 3.5, 4.0]}\n"
        "time = {'time': np.array(['2001-07-01'], 'datetime64[ns]')}\n"
        "lai = xr.DataArray(np.ones((1, 2, 3)), time | axes, ('time', *axes), name='lai')\n"
        "cube = lai.to_dataset()\n"
        "assert lai_picture(cube, cube, lai[0] > 2).figure\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
