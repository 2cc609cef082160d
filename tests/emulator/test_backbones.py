"""Artefacts of every backbone under every adaptation, and documents that ask for too much."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from pydantic import ValidationError

from xlsbc.emulator import Architecture, Emulator
from xlsbc.emulator.spec import Base, Spec
from xlsbc.errors import EmulatorError
from xlsbc.models.adapters import METHODS
from xlsbc.models.backbones import BACKBONES
from xlsbc.models.prithvi import Prithvi
from xlsbc.models.terramind import TerraMind

SMALLEST = {"unet": "", "vit": "tiny", "prithvi": "2.0-tiny-TL", "terramind": "tiny"}
CASES = [
    (name, method)
    for name, kind in BACKBONES.items()
    for method in (METHODS if kind.pretrained else METHODS[:1])
]

Make = Callable[..., Emulator]


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> dict[str, Path]:
    """Files of random weights in the layout of the official ones, by backbone."""
    folder = tmp_path_factory.mktemp("weights")
    encoders = {"terramind": TerraMind.of("tiny"), "prithvi": Prithvi.of("2.0-tiny-TL")}
    for name, encoder in encoders.items():
        torch.save(encoder.state_dict(), folder / f"{name}.pt")
    return {name: folder / f"{name}.pt" for name in encoders}


@pytest.fixture(scope="module")
def make(world: xr.Dataset, untrained: Make, official: dict[str, Path]) -> Make:
    """A factory: an emulator of a backbone and adaptation, with its pretrained weights."""

    def made(name: str, method: str) -> Emulator:
        sizes = Architecture(
            backbone=name,  # type: ignore[arg-type]
            variant=SMALLEST[name],
            adaptation=method,  # type: ignore[arg-type]
            climate=4,
            hidden=8,
        )
        windowed = {"window": 32, "tile": 54} if sizes.kind.patches else {"tile": 48}
        emulator = untrained(world, architecture=sizes, **windowed)
        if method == "scratch":
            return emulator
        content = official[name].read_bytes()
        base = Base(file=official[name].name, sha256=hashlib.sha256(content).hexdigest())
        encoder = emulator.network.backbone.encoder
        state = torch.load(official[name], weights_only=True)
        encoder.load_state_dict({**encoder.state_dict(), **state})
        spec = emulator.spec.model_copy(update={"base": base})
        return Emulator(spec, emulator.network, str(official[name]) if spec.partial else None)

    return made


@pytest.fixture(scope="module")
def lora(make: Make, tmp_path_factory) -> Path:
    """Where an emulator with LoRA is saved."""
    return Path(make("terramind", "lora").save(str(tmp_path_factory.mktemp("lora"))))


@pytest.fixture
def changed(lora: Path, tmp_path: Path) -> Callable[..., str]:
    """A factory: the same, with other values at dotted places of its document."""

    def made(**changes: Any) -> str:
        shutil.copytree(lora, tmp_path, dirs_exist_ok=True)
        document = json.loads((lora / "emulator.json").read_bytes())
        (tmp_path / "emulator.json").write_bytes(hostile(document, **changes))
        return str(tmp_path)

    return made


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_is_saved_is_what_is_opened(make, official, tmp_path, name, method):
    emulator = make(name, method)
    emulator.save(str(tmp_path))
    opened = Emulator.open(str(tmp_path), emulator.base)
    assert opened.hash == emulator.hash
    assert opened.spec.architecture == emulator.spec.architecture
    ours, theirs = (e.network.state_dict() for e in (emulator, opened))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    trains = [p.requires_grad for p in emulator.network.parameters()]
    assert [p.requires_grad for p in opened.network.parameters()] == trains


def hostile(document: dict[str, Any], **changes: Any) -> bytes:
    """A document with other values at dotted places."""
    document = json.loads(json.dumps(document))
    for place, value in changes.items():
        *path, last = place.split("__")
        at = document
        for key in path:
            at = at[key]
        at[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"base__file": name}
            for name in ("../a.pt", "/etc/passwd", "a/b", "a\\b", "", ".a", "a\0")
        ),
        *(
            {"base__file": name}
            for name in ("file:a", "C:a.pt", "a" * 200, "\N{FULLWIDTH SOLIDUS}a")
        ),
        *({"base__sha256": digest} for digest in ("", "0" * 63, "g" * 64, "../" * 21 + "0")),
        {"base__url": "https://example.org/a.pt"},
        {"base": []},
        {"architecture__variant": "../large"},
        {"architecture__backbone": "os.system"},
        {"architecture__backbone": ["vit"]},
        {"architecture__variant": {"a": 1}},
        {"architecture__patch": "16"},
        {"architecture__patch": 10**9},
        {"architecture__frames": 10**9},
        {"architecture__width": [10**9] * 4},
        {"architecture__adaptation__rank": 10**9},
        {"architecture__adaptation__rank": -1},
        {"architecture__adaptation__alpha": "NaN"},
        {"architecture__adaptation__method": "scratch"},
        {"architecture__adaptation__hook": "os.system"},
        {"lattice__window": None},
        {"lattice__window": 33},
        {"lattice__window": 10**9},
        {"lattice__tile": 53},
    ],
    ids=str,
)
def test_a_document_that_asks_for_what_is_not_there_opens_nothing(changed, changes):
    url = changed(**changes)
    opened: list[str] = []

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if watching and (event in ("exec", "os.system", "subprocess.Popen", "socket.connect")):
            opened.append(event)
        if watching and event == "open" and not str(args[0]).startswith(url):
            opened.append(str(args[0]))

    watching = False
    sys.addaudithook(watch)  # stays, and is deaf, after the test
    try:
        watching = True
        with pytest.raises(EmulatorError, match="not the specification of an emulator"):
            Emulator.open(url)
    finally:
        watching = False
    assert opened == []


def test_a_rank_that_layers_cannot_have_is_refused_before_weights_are_looked_for(changed):
    with pytest.raises(EmulatorError, match="rank 4096 is more than"):
        Emulator.open(changed(architecture__adaptation__rank=4096))


def test_an_emulator_of_600_million_weights_is_refused_before_they_are_allocated(make, tmp_path):
    make("prithvi", "scratch").save(str(tmp_path))
    document = json.loads((tmp_path / "emulator.json").read_bytes())
    sizes = {"architecture__variant": "2.0-600M-TL", "lattice__window": 42, "lattice__tile": 35}
    (tmp_path / "emulator.json").write_bytes(hostile(document, **sizes))
    with pytest.raises(EmulatorError, match="weights are not those of the specification"):
        Emulator.open(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": ((1, 1), (7, 1))}, "4 frames do not divide 2 steps a year"),
        ({"forcing": ()}, "there is no forcing"),
    ],
)
def test_frames_that_are_no_seasons_are_refused(make, changes, problem):
    spec = make("prithvi", "scratch").spec
    sizes = Architecture(backbone="prithvi", variant="2.0-tiny-TL", frames=4)
    with pytest.raises(ValidationError, match=problem):
        Spec.model_validate(spec.model_dump() | {"architecture": sizes} | changes)
