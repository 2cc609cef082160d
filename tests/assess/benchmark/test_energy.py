"""Energy where counters tell it."""

import math

import pytest

from xlsbc.assess.benchmark import energy


@pytest.fixture
def packages(tmp_path, monkeypatch):
    def write(index, name, microjoules):
        folder = tmp_path / f"intel-rapl:{index}"
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")

    monkeypatch.setattr(energy, "PACKAGES", tmp_path)
    monkeypatch.setattr(energy.torch.cuda, "is_available", lambda: False)
    return write


def test_packages_are_added_and_the_platform_that_holds_them_is_not(packages):
    for index, name in enumerate(("package-0", "package-1", "psys")):
        packages(index, name, 1_000_000)
    meter = energy.Meter()
    for index, name in enumerate(("package-0", "package-1", "psys")):
        packages(index, name, 4_000_000 + index * 1_000_000)
    assert meter.joules() == pytest.approx(3 + 4)


def test_a_counter_that_began_anew_tells_nothing(packages):
    packages(0, "package-0", 9_000_000)
    meter = energy.Meter()
    packages(0, "package-0", 1_000_000)
    assert math.isnan(meter.joules())


def test_without_counters_it_is_not_known(packages):
    assert math.isnan(energy.Meter().joules())
