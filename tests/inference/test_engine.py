from __future__ import annotations

import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xlsbc.emulator import Emulator
from xlsbc.emulator.artefact import stack
from xlsbc.emulator.sample import Sample
from xlsbc.emulator.steps import HARMONICS
from xlsbc.errors import EmulatorError
from xlsbc.inference import engine as module
from xlsbc.inference import threads
from xlsbc.inference.engine import Engine, Reference, engine, resolve

NAMES = ("lu_fraction", "lc_fraction", "lai")


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    module.ENGINES.clear()
    module.LIVE.clear()
    yield
    module.ENGINES.clear()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hashes of the emulators that this process loaded, in order."""
    loaded: list[str] = []
    load = module.load

    def counting(reference: Reference) -> Emulator:
        loaded.append(reference.hash)
        return load(reference)

    monkeypatch.setattr(module, "load", counting)
    return loaded


@pytest.fixture
def saved(emulator: Emulator, tmp_path: Path) -> Emulator:
    """The wild emulator, opened from a directory of its own."""
    return Emulator.open(emulator.save(str(tmp_path / "emulator")))


def random_sample(emulator: Emulator, height: int, width: int, seed: int = 0) -> Sample:
    """A window of random numbers, less the halo of so many pixels."""
    random = np.random.default_rng(seed)
    spec, halo = emulator.spec, emulator.halo
    rows, columns = height + 2 * halo, width + 2 * halo
    steps = len(spec.steps) + spec.history - 1
    channels = len(spec.forcing) + 2 * HARMONICS + len(spec.scalars)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    row, column = (np.linspace(0, 3, n, dtype=np.float32) for n in (rows, columns))
    driver = {}
    if spec.driver:
        driver = {"driver": abs(normal(13, 4, 4)), "driver_row": row, "driver_column": column}
    return Sample(
        static=normal(len(spec.static) + len(spec.optional) + 1, rows, columns),
        forcing=normal(steps, channels, 4, 4),
        pooling=np.eye(steps, dtype=np.float32),
        row=row,
        column=column,
        valid=np.ones((rows, columns), bool),
        **driver,
    )


def fields(emulator: Emulator, reference: Reference, precision: str = "float32") -> dict[str, Any]:
    """What the engine of a reference makes of a window."""
    (found,) = engine(reference, precision).run([random_sample(emulator, 16, 24)], NAMES)
    return found


def assert_same_bits(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_an_engine_gives_the_fields_of_the_network_less_the_halo(emulator):
    samples = [random_sample(emulator, 16, 24, seed) for seed in range(2)]
    found = Engine(pickle.loads(pickle.dumps(emulator)), "float32").run(samples, NAMES)
    assert [f["lai"].shape for f in found] == [(12, 16, 24)] * 2
    with torch.inference_mode():
        expected = emulator.network(stack(samples), rim=emulator.halo)
    for name, values in zip(NAMES, (expected.lu, expected.lc, expected.lai), strict=True):
        for i in range(2):
            assert found[i][name].dtype == np.float32
            # another order of the same sums
            np.testing.assert_allclose(found[i][name], values[i].numpy(), rtol=0, atol=2e-5)


def test_a_window_alone_has_the_same_bits_as_among_others(emulator):
    samples = [random_sample(emulator, 16, 24, seed) for seed in range(3)]
    together = engine(Reference.of(emulator), "float32").run(samples, NAMES)
    (alone,) = engine(Reference.of(emulator), "float32").run(samples[1:2], NAMES)
    assert_same_bits(alone, together[1])


def test_a_reference_to_a_saved_emulator_is_small(saved, tmp_path):
    reference = Reference.of(saved)
    assert (reference.url, reference.files) == (str(tmp_path / "emulator"), None)
    assert len(pickle.dumps(reference)) < 1000


def test_a_relative_path_is_referred_to_from_the_root(emulator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    emulator.save("here")
    assert Emulator.open("here").url == str(tmp_path / "here")


def test_an_object_store_is_referred_to_by_the_url_that_was_given(emulator):
    emulator = pickle.loads(pickle.dumps(emulator))
    emulator.save("memory://emulators/two")
    assert emulator.url == "memory://emulators/two"


def test_an_emulator_that_lies_nowhere_travels_in_its_reference(emulator):
    reference = Reference.of(pickle.loads(pickle.dumps(emulator)))
    assert reference.url is None
    assert reference.files is not None
    assert_same_bits(
        fields(emulator, pickle.loads(pickle.dumps(reference))), fields(emulator, reference)
    )


def test_an_emulator_changed_since_it_was_saved_travels_too(saved):
    before = Reference.of(saved)
    with torch.no_grad():
        saved.network.land.pairs.bias[0] += 1
    after = Reference.of(saved)
    assert saved.url is None
    assert after.hash != before.hash
    assert after.files is not None
    changed, unchanged = fields(saved, after), fields(saved, before)
    assert (changed["lu_fraction"] != unchanged["lu_fraction"]).any()


def test_a_change_of_the_network_after_the_reference_does_not_reach_the_engine(saved, emulator):
    reference = Reference.of(saved)
    with torch.no_grad():
        saved.network.land.pairs.bias.data.zero_()
    assert_same_bits(fields(saved, reference), fields(saved, Reference.of(emulator)))


def test_a_change_of_the_network_after_loading_does_not_reach_the_engine(saved, emulator):
    reference = Reference.of(saved)
    before = fields(saved, reference)
    with torch.no_grad():
        for parameter in saved.network.parameters():
            parameter.zero_()
    assert_same_bits(fields(saved, reference), before)


def test_an_emulator_of_this_process_is_not_read_again(saved, tmp_path):
    reference = Reference.of(saved)
    shutil.rmtree(tmp_path / "emulator")
    assert fields(saved, reference)["lai"].shape == (12, 16, 24)


def test_another_emulator_in_its_place_is_refused_with_both_hashes(saved, cube, wild):
    reference = Reference.of(saved)
    other = wild(cube, seed=1)
    other.save(saved.url)
    module.LIVE.clear()  # as in another process
    with pytest.raises(EmulatorError, match="was replaced after the prediction was made") as caught:
        engine(reference, "float32")
    assert reference.hash in str(caught.value)
    assert other.hash in str(caught.value)


@pytest.mark.parametrize("url", ["/nowhere/emulator", "memory://nowhere", "nosuch://emulator"])
def test_an_emulator_out_of_reach_is_an_error_that_says_where_to_save_it(url):
    with pytest.raises(EmulatorError, match=f"cannot read emulator 0{{12}} at {url}.*every worker"):
        engine(Reference("0" * 64, url), "float32")


def test_what_could_not_be_loaded_is_tried_again(emulator, tmp_path):
    reference = Reference(emulator.hash, str(tmp_path / "late"))
    with pytest.raises(EmulatorError, match="cannot read emulator"):
        engine(reference, "float32")
    emulator.save(str(tmp_path / "late"))
    assert fields(emulator, reference)["lai"].shape == (12, 16, 24)


def test_threads_that_ask_at_once_get_one_engine_loaded_once(emulator, loads):
    reference, together = Reference.of(emulator), threading.Barrier(8)

    def ask(_: int) -> Engine:
        together.wait()
        return engine(reference, "float32")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert loads == [emulator.hash]
    assert len({id(one) for one in found}) == 1


def test_every_precision_has_an_engine_of_its_own(emulator, loads):
    reference = Reference.of(emulator)
    engines = {engine(reference, name) for name in ("float32", "bfloat16", "float32")}
    assert len(engines) == len(loads) == 2


def test_the_engine_not_used_for_longest_makes_room(emulator, cube, wild, loads):
    others = [wild(cube, seed=seed) for seed in range(1, 5)]
    references = [Reference.of(one) for one in (emulator, *others)]
    for reference in (*references[:4], references[0], references[4], references[0], references[1]):
        engine(reference, "float32")
    expected = [0, 1, 2, 3, 4, 1]  # the fifth pushes out the second: the first was used since
    assert loads == [references[i].hash for i in expected]


def count_loads() -> None:
    """Count what a worker process loads from now on."""
    from xlsbc.inference import engine as there

    load, there.loaded = there.load, []  # type: ignore[attr-defined]

    def counting(reference: Reference) -> Emulator:
        there.loaded.append(reference.hash)  # type: ignore[attr-defined]
        return load(reference)

    there.load = counting


def loaded_there() -> list[str]:
    from xlsbc.inference import engine as there

    return there.loaded  # type: ignore[attr-defined]


def run_there(number: int, reference: Reference, sample: Sample) -> tuple[int, dict[str, Any]]:
    (found,) = engine(reference, "float32").run([sample], NAMES)
    return os.getpid(), found


@pytest.mark.slow
def test_worker_processes_load_an_emulator_once_each_from_its_url_or_its_bytes(saved, cube, wild):
    from distributed import Client, LocalCluster

    sample = random_sample(saved, 16, 24)
    references = [Reference.of(saved), Reference.of(wild(cube, seed=1))]
    assert [r.files is None for r in references] == [True, False]
    expected = [engine(r, "float32").run([sample], NAMES)[0] for r in references]
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"}
    with LocalCluster(**options) as workers, Client(workers) as client:
        client.run(count_loads)
        for reference, bits in zip(references, expected, strict=True):
            for address in client.scheduler_info()["workers"]:
                ask = {"reference": reference, "sample": sample, "pure": False}
                tasks = client.map(run_there, range(8), workers=[address], **ask)
                for pid, found in client.gather(tasks):
                    assert pid != os.getpid()
                    assert_same_bits(found, bits)
        for loaded in client.run(loaded_there).values():
            assert loaded == [r.hash for r in references]


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_precision_that_was_chosen_stays(name):
    assert resolve(name) == name


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_f": True, "amx_bf16": False}, "float32"),
    ],
)
def test_a_cpu_that_computes_bfloat16_does_so(monkeypatch, has, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert resolve("auto") == expected


def test_a_gpu_takes_bfloat16_only_if_it_need_not_emulate_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert resolve("auto") == "float32"
    assert resolve("float16") == "float16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert resolve("auto") == "bfloat16"


def test_float16_without_a_gpu_and_unknown_precisions_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EmulatorError, match="float16 needs a CUDA GPU.*use bfloat16 or float32"):
        resolve("float16")
    with pytest.raises(EmulatorError, match="one of auto, float32, bfloat16, float16.*'single'"):
        resolve("single")


def test_a_worker_does_not_choose_a_precision(emulator):
    with pytest.raises(EmulatorError, match="'auto'.*resolve it where the work is planned"):
        engine(Reference.of(emulator), "auto")


def test_bfloat16_is_near_float32_and_is_not_it(emulator):
    reference = Reference.of(emulator)
    single, half = (fields(emulator, reference, name) for name in ("float32", "bfloat16"))
    difference = abs(single["lai"] - half["lai"]).max()
    assert 0 < difference < 0.05 * single["lai"].std()  # 8 bits of mantissa, a few layers


def in_new_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's threads, for the time of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("shown", [True, False], ids=["torch's library", "torch"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_threads_of_the_caller_do_not_change_a_bit(
    emulator, set_threads, monkeypatch, precision, shown
):
    if not shown:
        monkeypatch.setattr(threads, "runtime", lambda: None)
    reference = Reference.of(emulator)
    sample = random_sample(emulator, 96, 96)  # large enough for torch to split the work

    def run(count: int | None) -> dict[str, Any]:
        if count:
            set_threads(count)
        return engine(reference, precision).run([sample], NAMES)[0]

    expected = run(1)
    for found in (run(2), in_new_thread(lambda: run(None)), in_new_thread(lambda: run(3))):
        assert_same_bits(found, expected)


def test_many_threads_at_once_leave_the_numbers_as_they_were(emulator, set_threads):
    set_threads(2)
    one = engine(Reference.of(emulator), "float32")
    samples = [random_sample(emulator, 16, 24, seed) for seed in range(8)]

    def run(sample: Sample) -> tuple[int, dict[str, Any], int]:
        before = torch.get_num_threads()
        return before, one.run([sample], NAMES)[0], torch.get_num_threads()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, samples))
    assert {(before, after) for before, _, after in results} == {(2, 2)}
    assert in_new_thread(torch.get_num_threads) == torch.get_num_threads() == 2
    for (_, found, _), sample in zip(results, samples, strict=True):
        assert_same_bits(found, one.run([sample], NAMES)[0])


def test_compilation_is_asked_for_by_a_keyword(emulator, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: asked.append((self, how)))
    engine(Reference.of(emulator), "float32")
    assert asked == []
    compiled = engine(Reference.of(emulator), "float32", compile=True)
    assert asked == [(compiled.network.network.backbone, {"dynamic": False})]
    assert compiled is not engine(Reference.of(emulator), "float32")


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@needs_gpu
def test_a_gpu_gives_what_a_cpu_gives(emulator, monkeypatch):
    samples = [random_sample(emulator, 16, 24, seed) for seed in range(6)]
    copies = [pickle.loads(pickle.dumps(emulator)) for _ in range(2)]
    on_gpu = Engine(copies[0], "float32").run(samples, NAMES)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = Engine(copies[1], "float32").run(samples, NAMES)
    for found, expected in zip(on_gpu, on_cpu, strict=True):
        for name in NAMES:
            # float32 convolutions in TF32 keep ten bits of the mantissa
            np.testing.assert_allclose(found[name], expected[name], atol=5e-3, rtol=0)


@needs_gpu
def test_windows_on_the_gpu_stay_there(emulator):
    cupy = pytest.importorskip("cupy")
    host = random_sample(emulator, 16, 24)
    fine = {"static": cupy.asarray(host.static), "valid": cupy.asarray(host.valid)}
    (expected,) = engine(Reference.of(emulator), "float32").run([host], NAMES)
    (found,) = engine(Reference.of(emulator), "float32").run(
        [Sample(**{**vars(host), **fine})], NAMES
    )
    for name in NAMES:
        assert isinstance(found[name], cupy.ndarray)
        np.testing.assert_array_equal(found[name].get(), expected[name])
