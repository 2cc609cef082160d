from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.benchmark.arms import Arm, Arms
from xlsbc.assess.benchmark.findings import broken, findings, laws
from xlsbc.assess.benchmark.looks import si
from xlsbc.assess.benchmark.pictures import pareto
from xlsbc.assess.benchmark.report import write_report
from xlsbc.assess.benchmark.table import ARM, tidy

NOISE = {0: -0.01, 1: 0.0, 2: 0.01}  # of a seed, the same in every arm: paired, it is gone
BEYOND = "beyond the noise of seeds, on these held-out pixels"
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
    looked = {"check_negative": 0.0, "check_incompatible_mass": 0.0, "check_lai_spikes": 1.0}
    checked = {**looked, "laws_broken": 0, "unusual": 1, "share_lai_spikes": 0.01}
    broken = {**looked, "laws_broken": 1, "unusual": 1, "share_incompatible_mass": 0.25}
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
    heads = ["model", "adaptation", "learning", "seeds", "values scored", "RMSE, m² m⁻²"]
    at = page.rows.index(heads)
    below = page.rows[at + 1 : page.rows.index(heads, at + 1)]
    assert below[0] == ["U-Net", "from scratch", "multi-task", "3", "1,234", "0.400 ± 0.010"]
    names = [row[0] for row in below if len(row) == 6]
    assert names.index("gradient boosting") > names.index("TerraMind tiny, random-initialised")
    told = "baseline, sees held-out truth"
    assert ["persistence", told, "", "1", "1,234", "0.550"] in below
    assert ["gradient boosting", "baseline", "", "1", "1,234", "0.430"] in below


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
    fair = baseline(0.5, model="gradient_boosting") + baseline(0.8, model="coarse_upsampled")
    told = findings(Arms.of(tidy(cells(0.4) + fair)))
    assert told == [
        "Leaf area index, split blocks, all labels: the lowest mean RMSE of an emulator is "
        "0.400 ± 0.010 m² m⁻² (U-Net, multi-task; 3 seeds); of a baseline that sees no held-out "
        "truth, 0.500 (gradient boosting, ratio 0.80). U-Net, multi-task is better than every "
        f"other {BEYOND}."
    ]


def test_a_baseline_that_is_better_than_all_is_called_so(tmp_path):
    rows = cells(0.5) + cells(0.45, model="vit", backbone="vit")
    rows += baseline(0.384, model="gradient_boosting")
    (told,) = findings(Arms.of(tidy(rows)))
    assert "ratio 1.17" in told
    assert told.endswith(f". gradient boosting, 0.384, is better than every emulator {BEYOND}.")
    assert page_of(tmp_path, rows).bold == ["0.384"]


def test_a_baseline_among_the_emulators_is_told_whom_it_beats_and_who_beats_it():
    models = {"a": 0.3, "c": 0.5, "d": 0.52, "e": 0.6}
    rows = [row for name, rmse in models.items() for row in cells(rmse, model=name, backbone=name)]
    rows += cells(0.301, jitter=0.004, model="b", backbone="b")
    rows += cells(0.4, jitter=0.02, model="f", backbone="f")
    rows += cells(0.302, jitter=0.004, model="g", backbone="g")
    (told,) = findings(Arms.of(tidy(rows + baseline(0.4, model="gradient_boosting"))))
    assert told.endswith(
        f"Nothing here is better than every other {BEYOND}; gradient boosting, 0.400, is better "
        "than 3 of 7 emulators and worse than 3 of 7 emulators (a, multi-task among them)."
    )


def test_a_baseline_that_beats_some_is_not_told_apart_from_a_noisy_best():
    rows = cells(0.4, jitter=0.02) + cells(0.6, model="vit", backbone="vit")
    (told,) = findings(Arms.of(tidy(rows + baseline(0.41, model="gradient_boosting"))))
    assert told.endswith(
        "gradient boosting, 0.410, is better than 1 of 2 emulators (ViT, multi-task) and not told "
        "apart from U-Net, multi-task."
    )


def test_a_baseline_within_the_noise_of_all_emulators_is_neither():
    rows = cells(0.4, jitter=0.02) + baseline(0.401, model="gradient_boosting")
    (told,) = findings(Arms.of(tidy(rows)))
    assert told.endswith("gradient boosting is neither better nor worse than any emulator.")


def test_a_baseline_that_sees_held_out_truth_stands_in_the_tables_alone(tmp_path):
    seen = baseline(0.1) + baseline(0.2, model="class_by_month_climatology")
    fair = baseline(0.5, model="coarse_upsampled")
    rows = cells(0.4, **COSTS) + cells(0.6, labels=0.25) + cells(0.5, split="years")
    (told,) = findings(Arms.of(tidy(rows + seen + fair)))
    assert "0.500 (coarse upsampled, ratio 0.80). U-Net, multi-task is better than every" in told
    page = page_of(tmp_path, rows + seen + fair)
    assert "Dashed: coarse upsampled" in page.text
    for image in page.all("img"):
        assert "persistence" not in image["alt"]
    marked = [row[0] for row in page.rows if "baseline, sees held-out truth" in row]
    assert set(marked) == {"persistence", "class by month climatology"}


def test_what_baselines_see_stands_once_on_the_page(page):
    for told in (
        "What persistence sees: the truth of the year before in the very pixels that are scored.",
        "What gradient boosting sees: the inputs at a pixel and its place, no neighbours.",
    ):
        assert page.text.count(told) == 1
    assert "What coarse upsampled sees" not in page.text


def test_who_was_scored_on_fewer_values_is_compared_with_nobody(tmp_path):
    few = {"lai_n": 1000, "model": "gradient_boosting"}
    rows = cells(0.4, **COSTS) + cells(0.5, model="vit", backbone="vit") + baseline(0.1, **few)
    arms = Arms.of(tidy(rows))
    (told,) = findings(arms)
    assert "baseline" not in told
    assert arms.best(arms, "lai_rmse").model == "unet"
    page = page_of(tmp_path, rows)
    assert page.bold == ["0.400 ± 0.010"]
    assert "Fewer values than the others, not compared: gradient boosting." in page.text
    assert "Dashed" not in page.text
    assert ["gradient boosting", "baseline", "", "1", "1,000", "0.100"] in page.rows


def test_seeds_with_other_values_have_a_range_and_are_not_compared(tmp_path):
    rows = cells(0.4) + cells(0.5, model="vit", backbone="vit")
    rows += cells(0.6, model="prithvi", backbone="prithvi")
    rows[0]["lai_n"] = 1200
    page = page_of(tmp_path, rows)
    assert "1,200 to 1,234" in next(row for row in page.rows if row and row[0] == "U-Net")
    assert page.bold == ["0.500 ± 0.010"]


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
    interval = "LAI RMSE -0.11 m² m⁻² (95 %: -0.13 to -0.085; adjusted p = 0.0027)"
    assert f"{interval}, joint is better" in told


def test_the_sentences_of_joint_against_apart_are_adjusted_together(tmp_path):
    # differences -0.11, -0.10, -0.12 as above: p = 0.00274; with another of p = 1, twice that
    rows = cells(0.0) + [
        {**row, "lai_rmse": row["lai_rmse"] + d}
        for row, d in zip(cells(0.0, learning="single"), (0.11, 0.10, 0.12), strict=True)
    ]
    table = tidy(rows + cells(0.0, learning="sequential"))
    _, chain, single, note = findings(Arms.of(table))
    assert "adjusted p = 1), no difference beyond the noise of 3 seeds" in chain
    assert "adjusted p = 0.0055), joint is better" in single
    assert BEYOND in note
    assert "adjusted for all of them together" in note
    page = page_of(tmp_path, rows + cells(0.0, learning="sequential"))
    assert any("; p = 0.0027)" in text for row in page.rows for text in row)


def test_ways_to_learn_stand_in_one_order_everywhere(tmp_path):
    ways = ["single", "sequential-coupled", "multi-task", "sequential"]
    rows = [row for k, way in enumerate(ways) for row in cells(0.4 + k / 9, learning=way, **COSTS)]
    told = findings(Arms.of(tidy(rows)))
    pairs = [text.partition(",")[2].partition(", split")[0] for text in told[1:4]]
    assert pairs == [
        " joint (multi-task) minus sequential",
        " joint (multi-task) minus sequential, coupled",
        " joint (multi-task) minus single",
    ]
    assert "the coupled chain is better" in told[2]
    page = page_of(tmp_path, rows, fields=make_fields(rows))
    ordered = ["multi-task", "sequential", "sequential, coupled", "single"]
    shown = [text for row in page.rows for text in row if text in ordered]
    assert shown == ordered * 2  # skill, cost
    against = [row[1] for row in page.rows if len(row) > 1 and row[1].endswith(("in", "ks"))]
    assert against == ["the sequential chain", "the coupled chain", "single networks"]
    for image in page.all("img"):
        places = [image["alt"].find(f"U-Net, {way}") for way in ordered]
        assert -1 < places[0] < places[1] <= places[2] < places[3]
    assert "The coupled chain (sequential, coupled) tells the two effects apart." in page.text


def test_beside_joint_against_apart_stands_what_heads_and_chains_do(page):
    assert "coupled heads cannot break those of land use, cover and leaves" in page.text
    assert "a known handicap of chains" in page.text
    assert "none was run" in page.text


def test_one_seed_tells_nothing_about_noise():
    told = findings(
        Arms.of(tidy(cells(0.4, seeds=(1,)) + cells(0.5, seeds=(1,), learning="single")))
    )
    assert "0.400 m² m⁻² (U-Net, multi-task; one seed)" in told[0]
    assert "-0.1 m² m⁻² (one seed); one seed tells nothing about noise" in told[1]


def test_laws_broken_are_counted_and_named_for_both(rows):
    told = findings(Arms.of(tidy(rows)))[1]
    assert told.endswith(
        "Joint breaks 0 of 2 laws, the sequential chain breaks 1 of 2 laws (largest share of a "
        "pixel in impossible pairs of use and cover, on 25 % of the area)."
    )


@pytest.mark.parametrize(("share", "said"), [(0.998, "99.8 %"), (1.0, "100 %"), (0.25, "25 %")])
def test_shares_of_the_area_are_read_without_exponents(share, said):
    rows = cells(0.4, laws_broken=1, share_incompatible_mass=share)
    (arm,) = arms = Arms.of(tidy(rows))
    assert broken(arms, arm)[0].endswith(f"on {said} of the area")


def test_where_no_law_is_broken_none_is_listed():
    (arm,) = arms = Arms.of(tidy(cells(0.4, laws_broken=0, share_incompatible_mass=0.01)))
    assert broken(arms, arm) == []


def test_laws_broken_stand_beside_those_looked_at(page, tmp_path):
    heads = next(row for row in page.rows if "laws broken of looked at" in row)
    below = page.rows[page.rows.index(heads) + 1 :]
    assert below[0][4:] == ["0 of 2", "1", "–"]
    assert below[1][4] == "1 of 2"
    assert "All laws hold" not in page.text
    rows = cells(0.4, laws_broken=1, check_negative=1.0, check_lai_closure=0.5, check_lai_spikes=2)
    rows[0] |= {"laws_broken": 0, "check_negative": 0.0, "check_lai_closure": None}
    (arm,) = arms = Arms.of(tidy(rows))
    # broken 0, 1, 1 of 1, 2, 2 laws; spikes are no law
    assert laws(arms, arm) == "0.667 ± 0.58 of 1.67"
    boosting = baseline(0.4, model="gradient_boosting", laws_broken=0)
    checked = "Gradient boosting is checked in held-out pixels only, all others everywhere."
    assert checked in page_of(tmp_path, rows + boosting).text
    assert checked not in page.text


def test_costs_stand_with_what_they_are_of(page):
    assert "the seconds of gradient boosting include its prediction" in page.text
    assert "count every network, with heads that are not trained" in page.text


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
    # a model that is called what it is has its name once
    assert [arm.name for arm in Arms.of(tidy(cells(0.4, model="U-Net")))] == ["U-Net"]


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


class Opened(Mapping):
    """Fields that remember which were opened."""

    def __init__(self, fields):
        self.fields, self.opened = fields, []

    def __getitem__(self, cell):
        self.opened.append(cell)
        return self.fields[cell]

    def __contains__(self, cell):
        return cell in self.fields

    def __iter__(self):
        return iter(self.fields)

    def __len__(self):
        return len(self.fields)


def test_only_fields_that_are_drawn_are_opened(tmp_path, rows):
    fields = Opened(make_fields(rows))
    page = page_of(tmp_path, rows, fields=fields)
    assert len(page.all("img")) == 6
    first = [row["cell"] for row in rows if row["seed"] == 0 and row["split"] == "blocks"]
    boosting = next(row["cell"] for row in rows if row["model"] == "gradient_boosting")
    # one of each way to learn, and the baseline that is told nothing
    assert sorted(fields.opened) == sorted([first[0], first[1], first[2], boosting])


def test_a_report_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    (tmp_path / "report.html").write_text("the old one")
    rows = cells(0.4)
    fields = {cell: each.drop_vars("held_out") for cell, each in make_fields(rows).items()}
    with pytest.raises(KeyError, match="held_out"):
        page_of(tmp_path, rows, fields=fields)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]
