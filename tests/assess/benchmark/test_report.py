from __future__ import annotations

import base64
import itertools
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.benchmark.arms import Arm, Arms
from xlsbc.assess.benchmark.findings import findings
from xlsbc.assess.benchmark.pictures import pareto, si
from xlsbc.assess.benchmark.report import write_report
from xlsbc.assess.benchmark.table import ARM, tidy

NOISE = {0: -0.01, 1: 0.0, 2: 0.01}  # of a seed, the same in every arm: paired, it is gone
TERRAMIND = {
    "model": "terramind",
    "backbone": "terramind",
    "variant": "tiny",
    "weights": "random-initialised",
}
COSTS = {"flops": 3e4, "trained_parameters": 1200, "training_seconds": 60.0}
number = itertools.count()


def cells(rmse, *, seeds=(0, 1, 2), jitter=0.0, **about):
    """A record a seed: LAI RMSE is `rmse`, plus the seed's noise, plus or minus `jitter`."""
    usual = {
        "kind": "emulator",
        "model": "unet",
        "backbone": "unet",
        "adaptation": "scratch",
        "learning": "multi-task",
        "labels": 1.0,
        "every": 1,
        "split": "blocks",
    }
    return [
        {
            "cell": f"{next(number):016x}",
            "seed": seed,
            "lai_rmse": rmse + NOISE[seed] + jitter * (-1) ** seed,
            "lai_n": 1234,
            **usual,
            **about,
        }
        for seed in seeds
    ]


def baseline(rmse, **about):
    none = {"backbone": "", "adaptation": "", "learning": ""}
    return cells(rmse, seeds=(1,), kind="baseline", **none, **{"model": "persistence", **about})


def forty_rows():
    """Two models in three ways to learn, labels thinned, two splits, and gaps."""
    checked = {"laws_broken": 0, "unusual": 1, "passed": True, "share_lai_spikes": 0.01}
    broken = {"laws_broken": 1, "passed": False, "unusual": 1, "share_incompatible_mass": 0.25}
    rows = cells(0.40, lu_mae=0.04, lc_mae=0.05, **COSTS, **checked)
    rows += cells(0.45, learning="sequential", lu_mae=0.04, lc_mae=0.05, **COSTS, **broken)
    rows += cells(0.41, learning="single", lu_mae=float("nan"))
    for labels, every in ((0.01, 1), (0.05, 1), (0.25, 1), (1.0, 4)):
        rows += cells(0.6 - labels / 10, labels=labels, every=every, lu_mae=0.06)
        rows += baseline(0.7, labels=labels, every=every)
    rows += cells(0.5, split="years")
    for method in ("scratch", "lora"):
        rows += cells(0.48, **TERRAMIND, adaptation=method, **{**COSTS, "flops": 2e4})
    rows += cells(0.5, **TERRAMIND, adaptation="frozen", seeds=(0,))
    rows += (
        baseline(0.55) + baseline(0.52, split="years") + baseline(0.43, model="gradient_boosting")
    )
    return rows


def make_fields(rows):
    axes = {"latitude": 50 - np.arange(7) / 120, "longitude": 7 + np.arange(9) / 120}
    error = np.linspace(0, 1, 63).reshape(7, 9)
    error[0] = np.nan
    held_out = np.zeros((7, 9), bool)
    held_out[2:5, 1:4] = True
    month = np.arange(1, 13)
    curve = (("lc_class", "month"), np.stack([month / 6, month / 12]))
    each = xr.Dataset(
        {
            "error": (tuple(axes), error),
            "held_out": (tuple(axes), held_out),
            "reference": curve,
            "prediction": curve,
            "share": ("lc_class", [0.75, 0.25]),
            "title": ("lc_class", ["Needles <evergreen>", "Crops"]),
        },
        {**axes, "lc_class": ["needles", "crops"], "month": month},
    )
    return {row["cell"]: each for row in rows}


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text, self.inside = "", ""
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = tag

    def handle_endtag(self, tag):
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data):
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def bold(self):
        return [part.partition("</strong>")[0] for part in self.source.split("<strong>")[1:]]


def page_of(folder, rows, *, fields=None, title="run", facts=None, notes=()):
    path = folder / "report.html"
    write_report(
        path, title=title, table=tidy(rows), fields=fields or {}, facts=facts or {}, notes=notes
    )
    return Page(path)


@pytest.fixture(scope="module")
def rows():
    return forty_rows()


@pytest.fixture(scope="module")
def page(tmp_path_factory, rows):
    return page_of(
        tmp_path_factory.mktemp("report"),
        rows,
        fields=make_fields(rows),
        title="A <first> run",
        facts={"data": "by <hand>"},
        notes=("Tiny & quick.",),
    )


def test_an_arm_has_the_columns_of_the_table():
    assert Arm._fields == ARM


def test_the_file_needs_nothing_from_elsewhere_and_runs_nothing(page):
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("object")
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_there_is_a_picture_of_everything_that_the_table_has(page):
    # labels, cost, splits, rules, errors, seasons
    assert len(page.all("img")) == 6
    for image in page.all("img"):
        assert base64.b64decode(image["src"].partition(",")[2])[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(image["alt"]) > 40


def test_every_caption_of_a_picture_says_how_many_seeds_and_what_the_spread_is(page):
    captions = [
        part.partition("</figcaption>")[0] for part in page.source.split("<figcaption>")[1:]
    ]
    assert len(captions) == 6
    assert all("n = " in text for text in captions)
    assert all("standard deviation" in text or "no spread" in text for text in captions)


def test_names_and_facts_are_text_never_markup(page, tmp_path):
    assert "A <first> run" in page.text
    assert ["data", "by <hand>"] in page.rows
    assert "Tiny & quick." in page.text
    nasty = {"model": "<img src=x>", "split": "<b>", "labels": 0.5}
    found = page_of(tmp_path, cells(0.4, **nasty) + cells(0.4, **{**nasty, "labels": 1.0}))
    assert "<img src=x>" in found.text
    assert "Split <b>" in found.text
    assert not [image for image in found.all("img") if image["src"] == "x"]


def test_a_skill_table_has_mean_spread_and_seeds_with_baselines_below(page):
    heads = ["model", "adaptation", "learning", "seeds", "RMSE, m² m⁻²"]
    at = page.rows.index(heads)
    below = page.rows[at + 1 : page.rows.index(heads, at + 1)]
    assert below[0] == ["U-Net", "from scratch", "multi-task", "3", "0.400 ± 0.010"]
    names = [row[0] for row in below if len(row) == 5]
    assert names.index("gradient boosting") > names.index("TerraMind tiny, random-initialised")
    assert ["persistence", "baseline", "", "1", "0.550"] in below


def test_only_what_is_better_beyond_the_noise_is_bold(tmp_path):
    clear = cells(0.40) + cells(0.50, jitter=0.001, model="vit", backbone="vit")
    assert "0.400 ± 0.010" in page_of(tmp_path, clear).bold
    noisy = cells(0.40) + cells(0.401, jitter=0.02, model="vit", backbone="vit")
    assert page_of(tmp_path, noisy).bold == []


def test_random_initialised_stands_in_the_name_wherever_such_a_backbone_is_shown(page):
    named = [row for row in page.rows if any("TerraMind" in text for text in row)]
    assert len(named) >= 5
    assert all("random-initialised" in next(t for t in r if "TerraMind" in t) for r in named)
    for image in page.all("img"):
        shown = image["alt"].count("TerraMind")
        assert image["alt"].count("random-initialised") == shown


def test_headlines_say_that_nothing_here_measures_pretraining(rows):
    assert findings(Arms.of(tidy(rows)))[-1] == (
        "The foundation backbones here are random-initialised: they did not see their pretrained "
        "weights, so nothing on this page measures pretraining."
    )
    pretrained = cells(0.4, **{**TERRAMIND, "weights": "TerraMind_v1_tiny.pt"})
    assert (
        "its rows measure nothing of pretraining" in findings(Arms.of(tidy(rows + pretrained)))[-1]
    )
    assert "pretrain" not in " ".join(findings(Arms.of(tidy(cells(0.4) + pretrained))))


def test_the_first_headline_holds_the_best_emulator_against_the_best_baseline():
    told = findings(Arms.of(tidy(cells(0.4) + baseline(0.8) + baseline(0.5, model="other"))))
    assert told == [
        "Leaf area index, split blocks, all labels: the lowest mean RMSE of an emulator is "
        "0.400 ± 0.010 m² m⁻² (U-Net, multi-task; 3 seeds); of a baseline, 0.500 "
        "(other, ratio 0.80). Beyond the noise, U-Net, multi-task is better than every "
        "other."
    ]


def test_a_baseline_that_is_better_is_called_so():
    (told,) = findings(Arms.of(tidy(cells(0.4) + baseline(0.2))))
    assert "ratio 2.00" in told
    assert "Nothing here is better than every other beyond the noise" in told


@pytest.mark.parametrize(
    ("apart", "jitter", "said"),
    [
        (0.5, 0.001, "joint is better"),
        (0.3, 0.001, "the sequential chain is better"),
        (0.4, 0.02, "no difference beyond the noise of 3 seeds"),
    ],
)
def test_together_against_the_chain_is_told_as_it_came_out(apart, jitter, said):
    rows = cells(0.4) + cells(apart, jitter=jitter, learning="sequential")
    told = findings(Arms.of(tidy(rows)))[1]
    assert told.startswith("U-Net, joint (multi-task) minus sequential, split blocks, all labels: ")
    assert said in told
    others = {"joint is better", "the sequential chain is better", "no difference"} - {said}
    assert not any(other in told for other in others if other not in said)


def test_a_difference_stands_with_its_interval_and_p():
    # differences -0.11, -0.10, -0.12: mean -0.11, standard error 0.01 / sqrt(3), t(2) 4.303
    rows = cells(0.0) + [
        {**row, "lai_rmse": row["lai_rmse"] + d}
        for row, d in zip(cells(0.0, learning="single"), (0.11, 0.10, 0.12), strict=True)
    ]
    told = findings(Arms.of(tidy(rows)))[1]
    assert "LAI RMSE -0.11 m² m⁻² (95 %: -0.13 to -0.085; p = 0.0027), joint is better" in told


def test_one_seed_tells_nothing_about_noise():
    told = findings(
        Arms.of(tidy(cells(0.4, seeds=(1,)) + cells(0.5, seeds=(1,), learning="single")))
    )
    assert "0.400 m² m⁻² (U-Net, multi-task; one seed)" in told[0]
    assert "-0.1 m² m⁻² (one seed), one seed tells nothing about noise" in told[1]


def test_laws_broken_are_counted_and_named_for_both(rows):
    told = findings(Arms.of(tidy(rows)))[1]
    assert told.endswith(
        "Joint breaks 0 laws, the sequential chain breaks 1 law (largest share of a pixel in "
        "impossible pairs of use and cover, on 25 % of the area)."
    )


def test_consistency_that_was_not_checked_is_said_to_be_so(tmp_path):
    rows = cells(0.4) + cells(0.5, learning="sequential")
    assert findings(Arms.of(tidy(rows)))[1].endswith("Consistency was not checked on both.")
    assert "Split blocks: no arm with all labels was checked." in page_of(tmp_path, rows).text


def test_what_a_small_table_lacks_is_left_out_with_a_sentence(tmp_path):
    page = page_of(tmp_path, cells(0.4, seeds=(0,)))
    assert not page.all("img")
    for sentence in (
        "Left out: no model learned all targets jointly and apart as well.",
        "Split blocks: no model learned from more than one share of labels.",
        "Left out: no cell with all labels has a cost.",
        "Generalisation is not drawn: no model was run on more than one split.",
        "Land cover was not scored of any arm with all labels.",
        "Errors are not mapped: no cell on this split with all labels has fields.",
        "Seasonal curves are not drawn: no cell here has them.",
    ):
        assert sentence in page.text


def test_a_table_of_baselines_alone_makes_a_page(tmp_path):
    page = page_of(tmp_path, baseline(0.5))
    assert "No emulator that learned from all labels was scored on leaf area index." in page.text


def test_labels_thinned_in_space_and_in_time_are_columns_of_their_own(page):
    heads = next(row for row in page.rows if "1 %" in row)
    assert heads[3:] == ["1 %", "5 %", "25 %", "100 %", "1 of 4 steps"]
    unet = next(r for r in page.rows[page.rows.index(heads) :] if r[2] == "multi-task")
    assert unet[3] == "0.599 ± 0.010 (3)"
    assert unet[7] == "0.500 ± 0.010 (3)"


def test_the_pareto_front_is_of_what_none_beats_in_both():
    points = {"a": (1, 5), "b": (2, 3), "c": (3, 4), "d": (4, 1), "e": (4, 2)}
    assert pareto(points) == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (999.6, "1 k"), (1234, "1.23 k"), (2.5e9, "2.5 G"), (float("nan"), "–")],
)
def test_large_numbers_have_prefixes(value, text):
    assert si(value) == text


def test_two_models_of_one_backbone_are_told_apart():
    rows = cells(0.4) + cells(0.5, model="unet-wide")
    assert [arm.name for arm in Arms.of(tidy(rows))] == ["U-Net", "unet-wide (U-Net)"]


def test_the_same_table_gives_the_same_bytes_in_whatever_order_its_cells_came(tmp_path, rows, page):
    again = page_of(
        tmp_path,
        rows[::-1],
        fields=make_fields(rows[::-1]),
        title="A <first> run",
        facts={"data": "by <hand>"},
        notes=("Tiny & quick.",),
    )
    assert again.source == page.source


def test_a_report_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    (tmp_path / "report.html").write_text("the old one")
    rows = cells(0.4)
    fields = {cell: each.drop_vars("held_out") for cell, each in make_fields(rows).items()}
    with pytest.raises(KeyError, match="held_out"):
        page_of(tmp_path, rows, fields=fields)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]
