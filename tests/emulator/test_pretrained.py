"""Official weights: those that fit are read exactly, anything else is refused and nothing run."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from xlsbc.emulator.pretrained import absolute, known, locate, official, pretrained
from xlsbc.errors import EmulatorError
from xlsbc.models.prithvi import Prithvi
from xlsbc.models.terramind import TerraMind

State = dict[str, Tensor]
TINY = ("prithvi", "2.0-tiny-TL")
NAME = "Prithvi_EO_V2_tiny_TL.pt"
DIGEST = "0123456789abcdef" * 4


def randomised(make: Callable[[], nn.Module]) -> State:
    """Weights of the shapes of an encoder, none of which is 0 or 1."""
    random = torch.Generator().manual_seed(3)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in make().state_dict().items()}
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def weights() -> State:
    """Of the smallest Prithvi, by the encoder's names."""
    return randomised(lambda: Prithvi.of(TINY[1]))


def layout(weights: State) -> State:
    """As Prithvi 2.0 is published: a masked autoencoder, with its decoder and positions."""
    return {
        **{f"encoder.{name}": value for name, value in weights.items()},
        "encoder.pos_embed": torch.zeros(1, 785, 192),
        "decoder.mask_token": torch.zeros(1, 1, 512),
        "decoder.decoder_blocks.0.attn.qkv.weight": torch.zeros(6, 2),
    }


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive(weights: State) -> bytes:
    return saved(layout(weights))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A factory of files of such content, which do not outlive the test: they are large."""
    written = []

    def write(content: bytes, name: str = NAME) -> str:
        written.append(tmp_path / name)
        written[-1].write_bytes(content)
        return str(written[-1])

    yield write
    for path in written:
        path.unlink(missing_ok=True)


def assert_equal(state: State, expected: State) -> None:
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == torch.float32
        torch.testing.assert_close(state[name], value, atol=0, rtol=0)


def repacked(
    content: bytes,
    compression: int = zipfile.ZIP_STORED,
    names: dict[str, str] | None = None,
    edit: Callable[[str, bytes], bytes] = lambda name, value: value,
) -> bytes:
    """The same archive written by another program, with entries renamed or edited."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            value = edit(name, old.read(name))
            new.writestr((names or {}).get(name, name), value, compression)
    return buffer.getvalue()


def test_an_official_file_gives_the_encoder_and_nothing_else(weights, archive, file):
    found = pretrained(*TINY, file(archive))
    assert_equal(found.state, weights)
    assert found.sha256 == hashlib.sha256(archive).hexdigest()
    assert found.file == NAME
    with torch.device("meta"):
        encoder = Prithvi.of(TINY[1])
    encoder.load_state_dict(found.state, strict=True, assign=True)


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_a_trainers_file_with_the_weights_in_it_is_read(weights, file, wrapper):
    url = file(saved({"epoch": 3, wrapper: layout(weights)}))
    assert_equal(pretrained(*TINY, url).state, weights)


def test_safetensors_are_known_by_their_content(weights, file):
    assert_equal(pretrained(*TINY, file(save_tensors(layout(weights)))).state, weights)


def test_terramind_is_read_without_its_decoder_and_other_modalities(file):
    weights = randomised(lambda: TerraMind.of("tiny"))
    extra = {
        "encoder_embeddings.untok_sen2l2a@224.proj.weight": torch.zeros(192, 3072),
        "encoder_embeddings.untok_dem@224.pos_emb": torch.zeros(1, 196, 192),
        "decoder.0.norm1.weight": torch.zeros(192),
    }
    found = pretrained("terramind", "tiny", file(saved({**weights, **extra})))
    assert_equal(found.state, weights)


def test_other_floating_point_numbers_become_float32(weights, file):
    dtypes = [torch.float16, torch.bfloat16, torch.float64] * len(weights)
    other = {k: v.to(dtype) for (k, v), dtype in zip(weights.items(), dtypes, strict=False)}
    exact = {name: value.to(torch.float32) for name, value in other.items()}
    assert_equal(pretrained(*TINY, file(save_tensors(other))).state, exact)


def test_parameters_and_views_are_read_as_what_they_hold(weights, file):
    odd = dict(weights)
    odd["norm.weight"] = nn.Parameter(weights["norm.weight"])
    odd["norm.bias"] = torch.arange(4.0)[1:2].expand(192)
    odd["cls_token"] = weights["cls_token"].mT.contiguous().mT
    found = pretrained(*TINY, file(saved(odd))).state
    assert not found["norm.weight"].requires_grad
    assert_equal(found, {**weights, "norm.bias": torch.ones(192)})


def test_weights_in_another_file_system_are_those_of_the_disk(weights, archive):
    url = f"memory://xlsbc-weights/{NAME}"
    fs, path = fsspec.core.url_to_fs(url)
    fs.pipe_file(path, archive)
    found = pretrained(*TINY, url)
    assert_equal(found.state, weights)
    assert locate(NAME, found.sha256) == url
    fs.rm(path)


@pytest.mark.parametrize(("name", "plain"), [(".Tiny (1).pt", "Tiny__1_.pt"), ("é", "weights")])
def test_the_name_is_one_that_an_emulator_can_record(archive, file, name, plain):
    found = pretrained(*TINY, file(archive, name))
    assert found.file == plain
    assert locate(found.file, found.sha256).endswith(f"/{name}")


def test_reading_takes_twice_the_files_size_in_memory(weights, file):
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is measured on Linux")
    url = file(saved(layout(weights) | {"decoder.large": torch.zeros(80, 1000, 250)}))
    size = os.path.getsize(url)
    pretrained(*TINY, url)  # what is loaded and cached once
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again

    def memory(key: str) -> int:
        (line,) = (x for x in status.read_text().splitlines() if x.startswith(key))
        return 1024 * int(line.split()[1])

    before = memory("VmRSS")
    pretrained(*TINY, url)
    assert size > 100e6
    assert memory("VmHWM") - before < 2.1 * size


# What is not whole


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize("form", ["archive", "safetensors"])
@pytest.mark.parametrize("sevenths", range(7))
def test_a_file_that_was_cut_short_is_refused(weights, archive, file, form, sevenths):
    content = archive if form == "archive" else save_tensors(weights)
    url = file(content[: len(content) * sevenths // 7])
    with pytest.raises(EmulatorError, match="is damaged|is neither safetensors nor"):
        pretrained(*TINY, url)


@pytest.mark.proves("hostile-weights")
def test_a_flipped_bit_of_an_archive_is_noticed_wherever_it_matters(weights, file, record_property):
    content = saved({"norm.weight": weights["norm.weight"]})
    with pytest.raises(EmulatorError, match="does not have the weights"):
        pretrained(*TINY, file(content))
    positions = range(0, len(content), 11)
    noticed = 0
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(EmulatorError) as caught:
            pretrained(*TINY, file(bytes(flipped)))
        if "does not have the weights" in str(caught.value):  # read: a field that torch ignores
            assert "norm.weight should be" not in str(caught.value)
            assert "norm.weight is missing" not in str(caught.value)
        else:
            noticed += 1
    assert noticed > 0.6 * len(positions)
    record_property("cases", len(positions))


@pytest.mark.proves("hostile-weights")
def test_a_flipped_bit_of_the_weights_is_noticed(archive, file):
    flipped = bytearray(archive)
    flipped[len(archive) // 2] ^= 1
    with pytest.raises(EmulatorError, match="does not have its checksum"):
        pretrained(*TINY, file(bytes(flipped)))


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize("position", [0, 7, 8, 9, 40])
def test_a_flipped_bit_of_a_safetensors_header_is_noticed(weights, file, position):
    flipped = bytearray(save_tensors(weights))
    flipped[position] ^= 2
    with pytest.raises(EmulatorError):
        pretrained(*TINY, file(bytes(flipped)))


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize("length", [2**23 + 1, 100_000_000, 2**63, 2**64 - 1])
def test_a_header_that_claims_too_much_is_not_read(file, length):
    with pytest.raises(EmulatorError, match=f"it claims {length}"):
        pretrained(*TINY, file(struct.pack("<Q", length) + b"{" + bytes(99)))


@pytest.mark.proves("hostile-weights")
def test_a_tensor_that_claims_more_than_the_file_is_not_allocated(file):
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    with pytest.raises(EmulatorError, match="is damaged"):
        pretrained(*TINY, file(struct.pack("<Q", len(header)) + header))


@pytest.mark.proves("hostile-weights")
def test_a_storage_that_claims_more_than_its_entry_is_not_read(file):
    def enlarge(name: str, value: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return value
        assert value.count(struct.pack("<H", 300)) == 2  # of the storage and of the tensor
        return value.replace(struct.pack("<H", 300), struct.pack("<H", 60_000))

    content = repacked(saved({"norm.weight": torch.ones(300)}), edit=enlarge)
    with pytest.raises(EmulatorError, match="is damaged"):
        pretrained(*TINY, file(content))


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: repacked(c, zipfile.ZIP_DEFLATED), "is compressed"),
        (
            lambda c: repacked(c, names={"archive/byteorder": "archive/../../byteorder"}),
            "leads out",
        ),
        (lambda c: repacked(c, names={"archive/byteorder": "/byteorder"}), "leads out"),
        (
            lambda c: repacked(c, names={"archive/byteorder": "archive/constants.pkl"}),
            "TorchScript",
        ),
        (lambda c: c + c, "not all of the file"),
        (lambda c: c + b"PK", "not all of the file"),
    ],
    ids=["compressed", "up", "root", "program", "two", "tail"],
)
def test_an_archive_other_than_torch_writes_is_not_given_to_torch(file, change, match):
    content = change(saved({"norm.weight": torch.ones(192)}))
    with pytest.raises(EmulatorError, match=match):
        pretrained(*TINY, file(content))


@pytest.mark.proves("hostile-weights")
def test_memory_that_no_tensor_needs_is_not_taken(file):
    """A kilobyte that asks torch's reader, which grants it, for 256 MB of zeros."""
    call = b"\x80\x02cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**28) + b"\x85R."
    content = repacked(saved({}), edit=lambda name, v: call if name.endswith("data.pkl") else v)
    with pytest.raises(EmulatorError, match="asks for bytes that are in no tensor"):
        pretrained(*TINY, file(content))


@pytest.mark.proves("hostile-weights")
def test_entries_that_share_their_bytes_are_not_read(file):
    """A bomb of the overlapping kind: every entry is sound, together they exceed the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        new.writestr("archive/data.pkl", bytes(9000))
        new.filelist *= 3
    with pytest.raises(EmulatorError, match="claim 27000 bytes.*two entries have one name"):
        pretrained(*TINY, file(buffer.getvalue()))


@pytest.mark.proves("hostile-weights")
def test_another_digest_is_refused_before_anything_is_parsed(file):
    content = pickle.dumps([])
    right = hashlib.sha256(content).hexdigest()
    with pytest.raises(EmulatorError, match=f"has sha256 {right[:12]}…, expected 0123456789ab"):
        pretrained(*TINY, file(content), sha256=DIGEST)
    with pytest.raises(EmulatorError, match="is neither"):
        pretrained(*TINY, file(content), sha256=right.upper())


# What could run


class Program:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_the_program_of_these_tests_does_run_where_it_is_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Program(f"touch {tmp_path / 'canary'}")))
    assert (tmp_path / "canary").exists()


@pytest.mark.proves("pickles")
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize(
    ("pack", "match"),
    [
        (pickle.dumps, "a bare pickle is not loaded"),
        (lambda p: pickle.dumps(p, protocol=0), "a bare pickle is not loaded"),
        (lambda p: saved({"norm.weight": p}), "holds more than tensors"),
        (lambda p: saved({"norm.weight": torch.ones(192), "model": {"hook": p}}), "more than"),
    ],
    ids=["pickle", "ascii", "archive", "beside"],
)
def test_a_program_in_the_file_is_not_run(file, tmp_path, name, pack, match):
    url = file(pack(Program(f"touch {tmp_path / 'canary'}")), name)
    with pytest.raises(EmulatorError, match=match):
        pretrained(*TINY, url)
    assert not (tmp_path / "canary").exists()


@pytest.mark.proves("pickles")
def test_a_whole_module_is_not_loaded(file):
    with pytest.raises(EmulatorError, match="holds more than tensors.*state_dict alone"):
        pretrained(*TINY, file(saved(nn.Linear(2, 3))))


@pytest.mark.proves("pickles")
def test_the_older_format_of_torch_is_not_loaded(weights, file):
    buffer = io.BytesIO()
    torch.save(layout(weights), buffer, _use_new_zipfile_serialization=False)
    with pytest.raises(EmulatorError, match=r"save it again with torch 1\.6 or newer"):
        pretrained(*TINY, file(buffer.getvalue()))


# What is sound, and not these weights


@pytest.mark.proves("hostile-weights")
def test_missing_unknown_and_misshapen_tensors_are_named_together(weights, file):
    state = layout(weights)
    state["encoder.lora_a"] = state.pop("encoder.norm.bias")
    state["encoder.blocks.11.mlp.fc2.weight"] = torch.zeros(192, 767)
    with pytest.raises(EmulatorError, match="does not have the weights of prithvi 2") as caught:
        pretrained(*TINY, file(saved(state)))
    assert caught.value.problems == (
        "blocks.11.mlp.fc2.weight should be (192, 768) and is (192, 767)",
        "lora_a is not expected",
        "norm.bias is missing",
    )


@pytest.mark.proves("hostile-weights")
def test_numbers_that_are_not_finite_or_not_floating_are_named_together(weights, file):
    state = layout(weights)
    for name, value in (("norm1.weight", torch.nan), ("norm2.bias", -torch.inf)):
        state[f"encoder.blocks.3.{name}"] = torch.full((192,), 0.5).index_fill(
            0, torch.tensor([191]), value
        )
    state["encoder.norm.bias"] = torch.full((192,), 1e300, dtype=torch.float64)
    state["encoder.norm.weight"] = torch.ones(192, dtype=torch.int64)
    state["decoder.mask_token"] = torch.tensor(torch.nan)  # nobody's: the decoder is left out
    with pytest.raises(EmulatorError, match="has no weights to begin with") as caught:
        pretrained(*TINY, file(saved(state)))
    assert sorted(caught.value.problems) == [
        "blocks.3.norm1.weight is not finite",
        "blocks.3.norm2.bias is not finite",
        "norm.bias is not finite",  # in float32
        "norm.weight is of torch.int64",
    ]


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([torch.ones(2)], "holds a list; expected a mapping"),
        ({"a": {"b": torch.ones(2)}, "c": 3}, "'a' is of type dict.*'c' is of type int"),
        ({7: torch.ones(2)}, "'7' is no name"),
        ({"a": torch.ones(2, device="meta")}, "'a' is a tensor, not a dense one"),
        ({"a": torch.eye(2).to_sparse()}, "'a' is a tensor, not a dense one"),
        ({}, "does not have the weights"),
    ],
    ids=["list", "nested", "number", "meta", "sparse", "empty"],
)
def test_anything_but_names_of_dense_tensors_is_refused(file, content, match):
    with pytest.raises(EmulatorError, match=match):
        pretrained(*TINY, file(saved(content)))


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize("asked", [("prithvi", "2.0-300M"), ("terramind", "tiny")])
def test_weights_of_another_size_or_family_are_recognised(archive, file, asked):
    passed = {"prithvi": "variant", "terramind": "backbone='prithvi', variant"}[asked[0]]
    match = rf"the weights of \w+ \S+ but those of prithvi 2\.0-tiny-TL \(pass {passed}="
    with pytest.raises(EmulatorError, match=match):
        pretrained(*asked, file(archive))


def test_small_terramind_weights_are_recognised_among_prithvis(file):
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in TerraMind.of("small").state_dict().items()}
    url = file(saved({k: torch.zeros(1).expand(shape) for k, shape in shapes.items()}))
    match = r"those of terramind small \(pass backbone='terramind', variant='small'\)"
    with pytest.raises(EmulatorError, match=match):
        pretrained("prithvi", "2.0-600M-TL", url)


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize("url", ["nothing.pt", "s4://bucket/a.pt", "/dev/zero", "."])
def test_what_is_no_file_is_refused(url):
    with pytest.raises(EmulatorError, match="cannot be read|found type '(other|directory)'"):
        pretrained(*TINY, url)


# Which there are


def test_every_published_variant_has_an_address():
    assert official(*TINY) == f"hf://ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL/{NAME}"
    assert official("terramind", "base") == (
        "hf://ibm-esa-geospatial/TerraMind-1.0-base/TerraMind_v1_base.pt"
    )
    assert list(known("terramind")) == ["tiny", "small", "base", "large"]
    assert len(known("prithvi")) == 8
    with pytest.raises(EmulatorError, match="never published"):
        official("prithvi", "2.0-100M")


def test_what_is_not_known_is_refused_with_what_is():
    with pytest.raises(EmulatorError, match=r"'resnet'; expected one of prithvi, terramind"):
        pretrained("resnet", "50", "nowhere")
    with pytest.raises(EmulatorError, match=r"no variant '2.0-1B'; expected one of 1\.0-100M, 2"):
        pretrained("prithvi", "2.0-1B", "nowhere")


# Hugging Face


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, archive: bytes, tmp_path: Path) -> types.SimpleNamespace:
    """What is used of huggingface_hub, with one file in one repository."""
    (tmp_path / "snapshot").mkdir()
    local = tmp_path / "snapshot" / NAME
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, file: str, *, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if (repository, file) != ("ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL", NAME):
            raise OSError("404 Client Error.\nEntry Not Found")
        local.write_bytes(archive)
        return str(local)

    def cached(repository: str, file: str) -> Any:
        return str(local) if file == NAME and local.exists() else object()

    fake = types.SimpleNamespace(
        hf_hub_download=download, try_to_load_from_cache=cached, asked=asked, local=str(local)
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


@pytest.mark.parametrize("revision", [None, "refs-pr-1"])
def test_an_address_at_hugging_face_is_fetched(weights, hub, revision):
    url = official(*TINY)
    if revision:
        url = url.replace("TL/", f"TL@{revision}/")
    found = pretrained(*TINY, url)
    assert_equal(found.state, weights)
    assert found.file == NAME
    assert hub.asked == [("ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL", NAME, revision)]


def test_what_hugging_face_does_not_give_is_named_with_what_to_do(hub):
    match = r"b/c\.pt of org/a cannot be had .*OSError: 404 Client Error\.\); check the names.*path"
    with pytest.raises(EmulatorError, match=match):
        pretrained(*TINY, "hf://org/a/b/c.pt")
    for url in (
        "hf://org/a",
        "hf://a.pt",
        "hf://org//a.pt",
        "hf://org@main/a/b.pt",
        "hf://org/a@/b.pt",
        "hf://org/a@../b.pt",
        "hf://../a/b.pt",
        "hf://org/a/../../b.pt",
        "hf://org/a/b/",
        "hf://org/a/b.pt?download=true",
    ):
        with pytest.raises(EmulatorError, match="expected hf://organisation/repository/file"):
            pretrained(*TINY, url)


def test_without_huggingface_hub_its_addresses_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EmulatorError, match=r'pip install "xlsbc\[hub\]", or download'):
        pretrained(*TINY, official(*TINY))


# Where they lie


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """A factory of files of one name in folders; nothing is known of any but by what is passed."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delenv("XLSBC_WEIGHTS", raising=False)

    def make(*folders: str) -> list[str]:
        for folder in folders:
            (tmp_path / folder).mkdir()
            (tmp_path / folder / NAME).write_bytes(b"")
        return [str(tmp_path / folder) for folder in folders]

    return make


def test_files_are_looked_for_where_the_user_said_then_in_folders_then_beside(folders, monkeypatch):
    said, first, second, beside = folders("said", "first", "second", "beside")
    monkeypatch.setenv("XLSBC_WEIGHTS", os.pathsep.join((first, second)))
    for folder in (said, first, second, beside):
        found = locate(NAME, DIGEST, hint=f"{said}/{NAME}", beside=beside)
        assert found == f"{folder}/{NAME}"
        os.remove(found)


def test_a_file_read_before_is_found_again_from_any_folder(archive, tmp_path, monkeypatch, folders):
    monkeypatch.chdir(tmp_path)
    Path("kept.pt").write_bytes(archive)
    found = pretrained(*TINY, "kept.pt")
    (beside,) = folders("beside")
    monkeypatch.chdir(beside)
    assert locate("other.pt", found.sha256, beside=beside) == str(tmp_path / "kept.pt")
    (tmp_path / "kept.pt").unlink()
    assert locate(NAME, found.sha256, beside=beside) == f"{beside}/{NAME}"


def test_folders_may_be_urls(folders, monkeypatch):
    (local,) = folders("local")
    fs = fsspec.filesystem("memory")
    fs.pipe_file(f"/xlsbc-folder/{NAME}", b"")
    monkeypatch.setenv(
        "XLSBC_WEIGHTS",
        os.pathsep.join(("s4://a:9/b", "memory://xlsbc-folder/", local, "http://127.0.0.1:1")),
    )
    assert locate(NAME, DIGEST) == f"memory://xlsbc-folder/{NAME}"
    fs.rm(f"/xlsbc-folder/{NAME}")
    assert locate(NAME, DIGEST) == f"{local}/{NAME}"
    os.remove(f"{local}/{NAME}")
    with pytest.raises(EmulatorError, match="pass weights='hf://ibm-nasa-") as caught:
        locate(NAME, DIGEST)
    told = [problem.partition(f"/{NAME}: ")[0] for problem in caught.value.problems]
    assert told[:4] == ["s4://a:9/b", "memory://xlsbc-folder", local, "http://127.0.0.1:1"]


def test_what_hugging_face_left_on_this_disk_is_found_last(folders, hub):
    with pytest.raises(EmulatorError, match="no such file"):
        locate(NAME, DIGEST)
    Path(hub.local).write_bytes(b"")
    assert locate(NAME, DIGEST) == hub.local
    (beside,) = folders("beside")
    assert locate(NAME, DIGEST, beside=beside) == f"{beside}/{NAME}"
    assert hub.asked == []


def test_an_address_at_hugging_face_is_tried_and_passed_over(folders, hub):
    url = official(*TINY)
    assert locate(NAME, DIGEST, hint=url) == url
    (beside,) = folders("beside")
    assert locate(NAME, DIGEST, hint="hf://org/a/b.pt", beside=beside) == f"{beside}/{NAME}"


def test_weights_found_nowhere_are_named_with_every_place(folders, tmp_path):
    hint, beside = str(tmp_path / "a.pt"), str(tmp_path / "emulator")
    with pytest.raises(EmulatorError, match=f"{NAME} with sha256 {DIGEST}") as caught:
        locate(NAME, DIGEST, hint=hint, beside=beside)
    assert official(*TINY) in caught.value.summary
    assert "XLSBC_WEIGHTS" in caught.value.summary
    assert caught.value.problems == (
        f"{hint}: no such file",
        f"{beside}/{NAME}: no such file",
        "what huggingface_hub keeps on this disk: no such file",
    )


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a.pt", "a/b.pt", "/etc/passwd", "a\\b", ".hidden", "-a", "a\n", "a\0"]
    + ["memory://a.pt", "a%2fb", "~", "é.pt", "a:b", "a" * 129],
)
def test_a_name_that_could_lead_elsewhere_is_not_looked_for(name, tmp_path):
    with pytest.raises(EmulatorError, match="a file's name without folders was expected"):
        locate(name, DIGEST, beside=str(tmp_path))


@pytest.mark.proves("hostile-weights")
def test_a_digest_that_is_none_is_not_looked_for(tmp_path, record_property):
    record_property("cases", 4)
    for digest in ("", "0" * 63, "G" * 64, "0" * 64 + "\n"):
        with pytest.raises(EmulatorError, match="64 hexadecimal digits"):
            locate(NAME, digest, beside=str(tmp_path))


def test_a_path_is_made_absolute_and_a_url_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("a/../b.pt") == str(tmp_path / "b.pt")
    assert absolute("memory://b.pt") == "memory://b.pt"
