"""What an installation promises: names, pins, extras, data files, and a light import."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import xlsbc

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]

# conda-forge's name where it is not PyPI's in lower case
CONDA_NAMES = {
    "cf-xarray": "cf_xarray",
    "docstring-parser": "docstring_parser",
    "eccodes": "python-eccodes",
    "matplotlib": "matplotlib-base",
    "torch": "pytorch",
}

# What the first second of a session must not pay for; each is imported where it is used.
HEAVY = ["torch", "distributed", "dask.array", "apache_beam", "lightning", "cupy"]
HEAVY += ["cf_xarray", "pint", "matplotlib", "scipy", "sklearn", "intake", "xbatcher", "netCDF4"]


def in_conda(requirement: Requirement) -> tuple[str, SpecifierSet]:
    return CONDA_NAMES.get(requirement.name, requirement.name.lower()), requirement.specifier


def parsed(line: str) -> tuple[str, SpecifierSet]:
    name, _, pin = line.partition(" ")
    return name, SpecifierSet(pin)


def test_environment_yml_holds_what_pyproject_asks_for_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    extras = [
        text for name in ("recipes", "train", "benchmark", "docs", "test") for text in EXTRAS[name]
    ]
    wanted = [text for text in (*PROJECT["dependencies"], *extras) if not text.startswith("xlsbc[")]
    expected = dict(in_conda(Requirement(text)) for text in wanted)
    expected |= {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}
    assert dict(parsed(line) for line in environment["dependencies"]) == expected
    assert len(environment["dependencies"]) == len(expected)


def test_environment_yml_mixes_no_channels():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]


def test_there_are_nine_extras_and_all_of_them_together():
    names = {"benchmark", "gpu", "hub", "icechunk", "recipes", "train", "serve", "docs", "test"}
    assert set(EXTRAS) == names | {"all"}
    (together,) = (Requirement(text) for text in EXTRAS["all"])
    assert together.name == "xlsbc"
    assert together.extras == names


def test_no_dependency_needs_torchvision():
    # torchvision wheels do not load beside a CPU build of torch
    needs_it = {"torchvision", "timm", "terratorch", "torchgeo", "segmentation-models-pytorch"}
    declared = [Requirement(text).name for texts in EXTRAS.values() for text in texts]
    declared += [Requirement(text).name for text in PROJECT["dependencies"]]
    assert not needs_it & set(declared)


def test_known_bad_releases_are_excluded():
    texts = [*PROJECT["dependencies"], *EXTRAS["train"]]
    pins = {Requirement(text).name: Requirement(text).specifier for text in texts}
    assert "2.0.8" not in pins["intake"]  # CVE-2026-33310
    assert not {"2.6.2", "2.6.3"} & set(pins["lightning"].filter(["2.6.2", "2.6.3"]))  # malware


def test_the_version_is_the_same_wherever_it_stands():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = changes.partition("\n## ")[2].split()[0]
    assert {xlsbc.__version__, citation["version"], newest} == {PROJECT["version"]}


def test_every_import_of_the_package_is_declared():
    declared = {Requirement(text).name for text in PROJECT["dependencies"]}
    for extra in ("benchmark", "gpu", "hub", "icechunk", "recipes", "train", "serve"):
        declared |= {Requirement(text).name for text in EXTRAS[extra]}
    normal = {name.lower().replace("_", "-") for name in declared}
    owners = {"pynvml": ["nvidia-ml-py"], **metadata.packages_distributions()}
    undeclared = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / "xlsbc").rglob("*.py")
        for module in third_party_imports(path)
        if not {o.lower().replace("_", "-") for o in owners.get(module, [module])} & normal
    }
    assert not undeclared


def third_party_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"xlsbc"}


def test_import_is_light():
    code = f"import sys, xlsbc; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "name", ["py.typed", "cube/tables/cci_pft.csv", "cube/tables/luh2.csv", "catalogs/catalog.yaml"]
)
def test_data_files_are_found_inside_the_package(name):
    assert resources.files("xlsbc").joinpath(name).is_file()


def test_the_readme_has_one_test_command_between_its_markers():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition("<!-- test command -->")
    block, marker, _ = rest.partition("<!-- end of test command -->")
    commands = [line for line in block.strip().splitlines() if not line.startswith("```")]
    assert marker
    assert len(commands) == 1
    assert commands[0].partition(" && ")[2].startswith("python -m pytest")
