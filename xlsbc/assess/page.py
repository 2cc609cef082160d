"""What reports share: one HTML file with its tables and pictures, and nothing beside it.

A page loads no script, font or picture from elsewhere (its own content policy forbids it), reads
well in light and dark and on paper, and is complete or absent: it is written beside its place and
then moved there. What is given as text is escaped; what is named ``html`` is not.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from xlsbc.assess.plots import Picture

OWN_ROW = ' class="own"'
NUMBER = ' class="number"'
STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #556070; --line: #d5dae1;
  --page: #fff; --band: #f3f5f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a5afbd; --line: #3a4452;
  --page: #14181e; --band: #1e242d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); }
nav ul { display: flex; flex-wrap: wrap; gap: 0 1.5rem; padding: 0; list-style: none; }
a { color: inherit; }
.headlines { padding: .75rem 1rem .75rem 2rem; background: var(--band); border-radius: 6px; }
figure { margin: 1.5rem 0; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption, .note, caption { color: var(--soft); font-size: .9em; }
.scroll { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; min-width: 50%; }
caption { padding-bottom: .4rem; text-align: left; }
caption b { color: var(--ink); font-size: 1.1em; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); }
tbody th { font-weight: normal; }
td.number, th.number { text-align: right; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
.xlsbc-check td { white-space: nowrap; }
.xlsbc-check td:first-child { white-space: normal; min-width: 14rem; }
th small { display: block; max-width: 24rem; color: var(--soft); }
tr.own { background: var(--band); }
.xlsbc-check caption { position: absolute; clip-path: inset(50%); } /* the heading above says it */
@media print { :root { color-scheme: light; --ink: #000; --soft: #333; --line: #bbb; --page: #fff;
    --band: #f3f5f8; }
  body { max-width: none; padding: 0; font-size: 11px; }
  nav { display: none; } .scroll { overflow: visible; } th, td { padding: .2rem .5rem; }
  figure, tr { break-inside: avoid; } h2, h3, caption { break-after: avoid; } }
"""


def write(path: str | os.PathLike[str], html: str) -> None:
    """Write a page; `path`, whose folder must exist, is replaced whole or not at all."""
    place = Path(path)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(html.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def document(title: str, sections: Sequence[tuple[str, str]], *, style: str = "") -> str:
    """A page of sections, each a heading and its html, listed at the top if there are several.

    `style` is CSS that is added to what every page has.
    """
    links = "".join(
        f'<li><a href="#section-{k}">{escape(name)}</a></li>'
        for k, (name, _) in enumerate(sections, 1)
    )
    body = "".join(_section(k, name, html) for k, (name, html) in enumerate(sections, 1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>\n"
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if len(sections) > 1 else "")
        + f"</header>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def headline_list(sentences: Iterable[str]) -> str:
    """A list that stands out; nothing if there is no sentence."""
    said = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    return f'<ul class="headlines">{said}</ul>\n' if said else ""


def figure(picture: Picture) -> str:
    """A picture with its caption; the caption alone, as a note, where there is no figure."""
    if picture.figure is None:
        return note(picture.caption)
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>\n"
    )


def facts_table(facts: Mapping[str, str], title: str = "What was run") -> str:
    """A row a fact; nothing if there is none."""
    return table(title, "", [], [[row_head(k), cell(v)] for k, v in facts.items()]) * bool(facts)


def table(
    title: str,
    text: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    emphasised: Collection[int] = (),
) -> str:
    """A table of cells in html, from `head`, `row_head` and `cell`.

    Parameters
    ----------
    title, text
        Of the caption.
    heads, rows
        Cells.
    emphasised
        Numbers of the rows that stand out, from 0.
    """
    caption = f"<caption><b>{escape(title)}</b> {escape(text)}</caption>" if title else ""
    top = f"<thead><tr>{''.join(heads)}</tr></thead>" if heads else ""
    body = "".join(
        f"<tr{OWN_ROW if k in emphasised else ''}>{''.join(row)}</tr>\n"
        for k, row in enumerate(rows)
    )
    return f'<div class="scroll"><table>{caption}{top}<tbody>\n{body}</tbody></table></div>\n'


def head(text: str, *, numeric: bool = False) -> str:
    """Heading of a column."""
    return f'<th scope="col"{NUMBER * numeric}>{escape(text)}</th>'


def row_head(text: str, small: str = "") -> str:
    """Heading of a row, with a line below it in small print."""
    below = f"<small>{escape(small)}</small>" if small else ""
    return f'<th scope="row">{escape(text)}{below}</th>'


def cell(text: str, *, numeric: bool = False, bold: bool = False) -> str:
    """One entry of a table."""
    inner = f"<strong>{escape(text)}</strong>" if bold else escape(text)
    return f"<td{NUMBER * numeric}>{inner}</td>"


def note(text: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>\n'


def words(name: str) -> str:
    """A name of code, for people."""
    return name.replace("_", " ")


def number(value: float) -> str:
    """Three decimals, but where three would read as nothing."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:,.3f}"


def _section(place: int, name: str, html: str) -> str:
    return (
        f'<section id="section-{place}" aria-labelledby="heading-{place}">\n'
        f'<h2 id="heading-{place}">{escape(name)}</h2>\n{html}</section>\n'
    )
