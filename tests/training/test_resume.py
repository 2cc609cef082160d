from __future__ import annotations

import csv
import json
import logging
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from xlsbc.emulator import Architecture, Emulator, Split
from xlsbc.errors import TrainingError
from xlsbc.training.checkpoints import Folder, read, write
from xlsbc.training.config import Training
from xlsbc.training.fit import ensemble, fit
from xlsbc.training.module import Fitting

pytestmark = pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")

CONFIG = Training(
    architecture=Architecture(width=(8, 16), climate=4, hidden=8, dropout=0.2),
    split=Split(size=9, buffer=1, validation=0.2),
    steps=7,
    batch_size=2,
    crop=16,
    checkpoint_every=2,
    validate_every=3,
    precision="32",
)


def trained(cube: xr.Dataset, folder: Path | None, **changes: Any) -> Emulator:
    return fit(cube, CONFIG, progress=False, folder=folder, **changes)


def last(folder: Path) -> dict[str, Any]:
    found = Folder(str(folder)).newest()
    assert found is not None
    return found[1]


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


class Stop(Exception):
    pass


@pytest.fixture
def stop_at(monkeypatch):
    """A factory: training stops before the step of that number."""

    def make(number: int | None) -> list[Any]:
        seen: list[Any] = []

        def start(self: Fitting, batch: Any, index: int) -> None:
            if batch.step == number:
                raise Stop
            seen.append((batch.step, batch.y.tolist(), batch.inputs.static.sum().item()))
            original(self, batch, index)

        monkeypatch.setattr(Fitting, "on_train_batch_start", start)
        return seen

    original = Fitting.on_train_batch_start
    return make


@pytest.mark.proves("killed-training")
@pytest.mark.parametrize("number", [3, 6])
def test_a_training_that_stopped_goes_on_to_the_same_bits_and_samples(
    world, tmp_path, stop_at, number
):
    order = stop_at(None)
    whole = trained(world, tmp_path / "whole")
    before = stop_at(number)
    with pytest.raises(Stop):
        trained(world, tmp_path / "parts")
    after = stop_at(None)
    found = trained(world, tmp_path / "parts")
    assert found.hash == whole.hash
    assert same(last(tmp_path / "parts"), last(tmp_path / "whole"))
    kept = 2 * (number // 2)
    assert before[:kept] + after == order


def test_a_training_that_is_over_is_not_done_again(world, tmp_path, monkeypatch):
    whole = trained(world, tmp_path)
    monkeypatch.setattr(Fitting, "training_step", None)
    assert trained(world, tmp_path).hash == whole.hash


def test_dropout_is_of_the_step_and_not_of_what_was_drawn_before(world, tmp_path):
    torch.manual_seed(1)
    one = trained(world, None)
    torch.manual_seed(2)
    assert trained(world, None).hash == one.hash


@pytest.mark.proves("killed-training")
def test_checkpoints_are_two_and_are_lightnings_own_without_pickle(world, tmp_path):
    trained(world, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000006.ckpt", "step-00000007.ckpt"]
    content = torch.load(tmp_path / names[-1], weights_only=True)
    assert content["global_step"] == 7
    assert {"pytorch-lightning_version", "state_dict", "optimizer_states", "loops"} <= set(content)


@pytest.mark.proves("killed-training")
@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(world, tmp_path, stop_at, harm):
    whole = trained(world, None)
    stop_at(5)
    with pytest.raises(Stop):
        trained(world, tmp_path)
    newest = tmp_path / "step-00000004.ckpt"
    content = bytearray(newest.read_bytes())
    if harm == "flipped":
        middle = slice(len(content) // 2, len(content) // 2 + 500)  # one bit may be padding
        content[middle] = bytes(value ^ 4 for value in content[middle])
    newest.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b""}[harm])
    stop_at(None)
    with pytest.warns(UserWarning, match=r"step-00000004\.ckpt is damaged.*going on from the one"):
        found = trained(world, tmp_path)
    assert found.hash == whole.hash


@pytest.mark.proves("flipped-bit")
def test_bits_that_flip_are_found_or_change_nothing(world, tmp_path, record_property):
    trained(world, tmp_path, steps=1, validate_every=None)
    url = str(tmp_path / "step-00000001.ckpt")
    original, content = read(url), Path(url).read_bytes()
    random = np.random.default_rng(0)
    found = 0
    for place in random.integers(len(content), size=60):
        other = bytearray(content)
        other[place] ^= 1 << int(random.integers(8))
        Path(url).write_bytes(other)
        try:
            assert same(read(url), original)
        except TrainingError:
            found += 1
    assert found > 20
    record_property("cases", 60)


@pytest.mark.proves("killed-training")
def test_when_every_checkpoint_is_damaged_the_training_does_not_begin_anew(world, tmp_path):
    (tmp_path / "step-00000002.ckpt").write_bytes(b"PK")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(TrainingError, match="no checkpoint in .* can be read; remove them"),
    ):
        trained(world, tmp_path)


def test_what_a_killed_writer_left_is_swept_away(world, tmp_path):
    (tmp_path / "step-00000009.ckpt.partial").write_bytes(b"half")
    trained(world, tmp_path, steps=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.ckpt"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    url = tmp_path / "a.ckpt"
    write(str(url), b"before")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write(str(url), b"after")
    assert url.read_bytes() == b"before"


def test_another_training_is_refused_with_everything_that_differs(world, tmp_path):
    trained(world, tmp_path, steps=2)
    other = world.assign(elevation=world["elevation"] + 1).assign_attrs(title="other")
    with pytest.raises(TrainingError, match="is of another training") as caught:
        trained(other, tmp_path, steps=2, learning_rate=0.5, seed=3)
    told = " ".join(caught.value.problems)
    assert "learning_rate was 0.003 and is 0.5" in told
    assert "seed was 0 and is 3" in told
    assert 'cube.cube was "Synthetic' in told
    assert "emulator.static was" in told
    assert len(caught.value.problems) == 4


def test_of_another_architecture_only_the_settings_that_differ_are_told(world, tmp_path):
    trained(world, tmp_path, steps=2)
    with pytest.raises(TrainingError, match="is of another training") as caught:
        trained(world, tmp_path, steps=2, climate=3)
    assert caught.value.problems == ("architecture.climate was 4 and is 3",)


def test_threads_and_the_spacing_of_checkpoints_may_change(world, tmp_path):
    whole = trained(world, tmp_path)
    assert trained(world, tmp_path, threads=3, checkpoint_every=5).hash == whole.hash


def test_a_loss_that_is_nan_keeps_the_checkpoint_before(world, tmp_path, monkeypatch):
    original = Fitting.loss

    def broken(self: Fitting, batch: Any) -> Any:
        if batch.step == 5:
            with torch.no_grad():
                next(self.network.parameters()).fill_(math.nan)
        return original(self, batch)

    monkeypatch.setattr(Fitting, "loss", broken)
    said = r"loss became nan at step 5 \(.*lai nan.*\) in 4.* degrees north.* of 200[01]"
    with pytest.raises(TrainingError, match=said) as caught:
        trained(world, tmp_path)
    assert str(caught.value).endswith(f"the last good checkpoint is {tmp_path}/step-00000004.ckpt")
    assert last(tmp_path)["global_step"] == 4
    assert all(v.isfinite().all() for v in last(tmp_path)["state_dict"].values())


def judged_as(losses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let validations have these results."""
    coming = iter(losses)
    monkeypatch.setattr(Fitting, "validate", lambda self: next(coming))


def test_training_stops_when_validation_gets_no_better(world, tmp_path, monkeypatch):
    judged_as([3.0, 2.0, 2.5, math.nan, 1.0], monkeypatch)
    found = trained(world, tmp_path, steps=30, validate_every=1, patience=2)
    assert found.spec.provenance["steps"] == 4
    monkeypatch.setattr(Fitting, "training_step", None)  # it is over, though not all its steps
    again = trained(world, tmp_path, steps=30, validate_every=1, patience=2)
    assert again.hash == found.hash


def test_the_best_emulator_is_kept_beside_the_last_with_curves(world, tmp_path, monkeypatch):
    judged_as([3.0, 2.0, 2.5], monkeypatch)
    out = tmp_path / "emulator"
    found = trained(world, None, steps=6, validate_every=2, out=str(out))
    best = Emulator.open(str(out / "best"))
    assert Emulator.open(str(out)).hash == found.hash
    assert best.spec.provenance["steps"] == 4
    assert best.spec.provenance["validation_loss"] == 2.0
    assert {path.name for path in out.iterdir()} == {
        *("README.md", "emulator.json", "weights.safetensors", "training.csv", "training.png"),
        *("best", "checkpoints"),
    }
    rows = list(csv.DictReader((out / "training.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == list("123456")
    assert [row["validation"] for row in rows] == ["", "3.0", "", "2.0", "", "2.5"]
    (out / "training.csv").unlink()
    assert Emulator.open(str(out)).hash == found.hash


def test_the_best_is_of_the_averaged_weights_of_its_step(world, tmp_path, monkeypatch):
    judged_as([1.0, 2.0], monkeypatch)
    trained(world, None, steps=4, validate_every=2, out=str(tmp_path))
    best = Emulator.open(str(tmp_path / "best")).network.state_dict()
    kept = read(str(tmp_path / "checkpoints" / "step-00000002.ckpt"))["state_dict"]
    for name, value in best.items():
        assert torch.equal(value, kept[f"average.module.{name}"])


def test_validation_is_the_loss_of_the_held_out_blocks(world, tmp_path):
    out = tmp_path / "a"
    trained(world, None, out=str(out))
    rows = list(csv.DictReader((out / "training.csv").read_text().splitlines()))
    found = [float(row["validation"]) for row in rows if row["validation"]]
    assert len(found) == 2
    assert all(0 < value < 100 for value in found)


def test_members_of_an_ensemble_differ_and_come_again_by_their_seeds(world, tmp_path):
    options = {"steps": 2, "members": 2, "validate_every": None}
    one, two = ensemble(world, CONFIG, progress=False, out=str(tmp_path), **options)
    assert one.hash != two.hash
    assert one.spec.split == two.spec.split
    assert Emulator.open(str(tmp_path / "member-1")).hash == two.hash
    alone = trained(world, None, steps=2, validate_every=None, seed=1)
    assert alone.hash == two.hash


def test_members_are_not_fitted_as_one(world):
    with pytest.raises(TrainingError, match="found 2 members; call ensemble"):
        trained(world, None, members=2)


def test_nothing_is_printed_or_left_and_no_level_of_logging_is_changed(
    world, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("lightning.pytorch").level
    handler = signal.getsignal(signal.SIGINT)
    trained(world, None, steps=2)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger("lightning.pytorch").level == level
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupt_is_one_and_does_not_disarm_the_next(world, monkeypatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Fitting, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trained(world, None)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_bar_counts_samples_and_shows_losses(world, capfd):
    fit(world, CONFIG, steps=3, validate_every=None)
    said = capfd.readouterr().err
    assert "6/6" in said
    assert "sample/s" in said
    assert "lai=" in said


def test_a_log_is_written_where_it_is_asked_for(world, tmp_path):
    trained(world, tmp_path / "checkpoints", logger="csv")
    rows = list(csv.DictReader((tmp_path / "logs" / "metrics.csv").read_text().splitlines()))
    assert any(row["learning_rate"] for row in rows)


def test_a_logger_that_is_not_installed_is_named(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(TrainingError, match="logger 'tensorboard' needs"):
        trained(world, None, logger="tensorboard")


def test_a_budget_in_minutes_survives_a_stop(world, tmp_path, stop_at, monkeypatch):
    monkeypatch.setattr("xlsbc.training.module.PROBE", 3)
    monkeypatch.setattr("xlsbc.training.module.affordable", lambda seconds, minutes: 6)
    stop_at(5)
    with pytest.raises(Stop):
        trained(world, tmp_path, minutes=0.1)
    stop_at(None)
    monkeypatch.setattr("xlsbc.training.module.affordable", lambda seconds, minutes: 100)
    assert trained(world, tmp_path, minutes=0.1).spec.provenance["steps"] == 6


def test_learned_weights_of_the_losses_are_in_the_checkpoint(world, tmp_path):
    loss = CONFIG.loss.model_copy(update={"weights": "uncertainty"})
    trained(world, tmp_path, loss=loss, learning_rate=1e-2)
    learned = last(tmp_path)["state_dict"]["weighting.log_variance"]
    assert learned.ne(0).any()


def test_a_rollout_over_two_years_trains(world):
    state = ("lu_fraction", "lc_fraction")
    one = trained(world, None, state=state, steps=2, validate_every=None)
    assert one.spec.state == state
    with_lead = fit(
        three_years(), CONFIG, progress=False, steps=2, validate_every=None, state=state, rollout=2
    )
    assert with_lead.spec.provenance["years"].endswith("2002")


def three_years() -> xr.Dataset:
    from xlsbc.cube.synthetic import synthetic_cube

    region = (8.1, 45.6, 8.1 + 53 / 120, 45.6 + 37 / 120)
    return synthetic_cube(region=region, years=(2000, 2002))


PACKAGE = """
import sys
import xlsbc, xlsbc.training.fit
assert "lightning" not in sys.modules
sys.modules["lightning"] = None
import xarray as xr
try:
    xlsbc.fit(xr.Dataset())
except xlsbc.LsbcError as error:
    print(error)
"""


def test_the_package_needs_lightning_only_to_train_and_says_how_to_get_it():
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE], capture_output=True, text=True, check=True
    )
    assert 'pip install "xlsbc[train]"' in done.stdout


TWO = """
import sys, torch
import xarray as xr
from xlsbc.training.config import Training
from xlsbc.training.fit import fit
from xlsbc.training.module import Fitting

original = Fitting.on_train_batch_start

def start(self, batch, index):
    original(self, batch, index)
    if batch.step == 4:
        values = [p.detach().clone() for p in self.network.parameters()]
        torch.save(values, f"{sys.argv[3]}/rank-{self.global_rank}")
        torch.save(batch.inputs.static, f"{sys.argv[3]}/seen-{self.global_rank}")

Fitting.on_train_batch_start = start
if __name__ == "__main__":
    cube = xr.open_zarr(sys.argv[1])
    fit(cube, Training.read(sys.argv[2]), folder=sys.argv[3] + "/checkpoints", progress=False)
"""


@pytest.mark.slow
def test_two_processes_have_the_same_weights_from_other_samples(world, tmp_path):
    from xlsbc.cube.store.writer import write as write_cube

    write_cube(world, str(tmp_path / "cube.zarr"), packed=False, progress=False)
    CONFIG.changed(devices=2, steps=5).write(tmp_path / "config.yaml")
    script = tmp_path / "two.py"
    script.write_text(TWO)
    where = [str(tmp_path / "cube.zarr"), str(tmp_path / "config.yaml"), str(tmp_path)]
    strict = ["-W", "error", "-W", "ignore:the buffer around held-out pixels"]
    done = subprocess.run(
        [sys.executable, *strict, str(script), *where], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lightning" not in (done.stdout + done.stderr).lower()
    one, two = (torch.load(tmp_path / f"rank-{i}") for i in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    seen = [torch.load(tmp_path / f"seen-{i}") for i in range(2)]
    assert not torch.equal(*seen)
    assert last(tmp_path / "checkpoints")["global_step"] == 5
    assert json.loads(last(tmp_path / "checkpoints")["xlsbc"]["identity"])["devices"] == 2
