"""Whether our encoders are TerraTorch's, at full size, and how fast they are beside them.

    python benchmarks/parity.py [--variants terramind-tiny,prithvi-2.0-tiny-TL] [--rounds 7]

Runs where terratorch is installed. For every variant: random weights of TerraTorch, laid out as in
the official file (decoder and all), loaded strictly into ours; the same window of 224 pixels
through both; the largest relative difference of any layer's tokens, norm of the difference over
norm; and windows a second of ours over TerraTorch's, the median over rounds in which both run in
turn, with as many threads as OMP_NUM_THREADS says. TerraMind reads S2L2A, DEM and a new modality of
20 bands. Prints a table in markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from terratorch.models.backbones import prithvi_vit
from terratorch.models.backbones.terramind.model import terramind_register
from terratorch.models.backbones.terramind.model.modality_info import MODALITY_INFO
from terratorch.models.backbones.terramind.model.terramind import TerraMind
from torch import Tensor, nn

from xlsbc.models import prithvi, terramind

AGREEMENT = 1e-4
"""Largest relative difference of a layer: float32 summed in other orders through 32 layers."""

Run = Callable[[], list[Tensor]]
Pair = tuple[Run, Run, nn.Module]

NEW = {"climate": 20}
# tiny and small are registered with an argument that their class does not take (1.2.11)
terramind_register.TerraMind = lambda pretrained_bands=None, **sizes: TerraMind(**sizes)

ENCODED = (*terramind.MODALITIES, "tok_lulc@224", "coords")  # of the official files, and more


def named(variant: str) -> str:
    """Name of a variant of Prithvi in TerraTorch."""
    version, *sizes = variant.split("-")
    sizes[0] = sizes[0].removesuffix("M")
    return f"prithvi_eo_v{version[0]}_{'_'.join(sizes).lower()}"


def prithvi_pair(variant: str, window: tuple[int, int] = (224, 224)) -> Pair:
    """TerraTorch's encoder and ours on the same random input, and ours."""
    mae = prithvi_vit._create_prithvi(named(variant), encoder_only=False, num_frames=1).eval()
    jitter(mae)
    state = mae.state_dict()
    if variant.startswith("1.0"):  # that file has no prefixes
        state = {k.removeprefix("encoder.").removeprefix("decoder."): v for k, v in state.items()}
    ours = prithvi.Prithvi.of(variant).eval()
    ours.load_state_dict(prithvi.encoder_state(state), strict=True)
    x = torch.randn(1, 6, 1, *window)
    where = (torch.tensor([[[2021.0, 200.0]]]), torch.tensor([[47.5, 8.25]]))
    where = where if ours.location else (None, None)
    return lambda: mae.forward_features(x, *where), lambda: ours(x, *where), ours


def terramind_pair(variant: str, window: tuple[int, int] = (224, 224)) -> Pair:
    """TerraTorch's encoder and ours on the same random inputs, and ours."""
    read = ("S2L2A", "DEM")
    made = {
        part: {
            name: MODALITY_INFO[name][f"{part}_embedding"](image_size=224, **MODALITY_INFO[name])
            for name in names
        }
        for part, names in (("encoder", ENCODED), ("decoder", ("tok_lulc@224",)))
    }
    whole = getattr(terramind_register, f"terramind_v1_{variant}_encdec")(
        encoder_embeddings=made["encoder"],
        decoder_embeddings=made["decoder"],
        modality_info={name: MODALITY_INFO[name] for name in ENCODED},
    )
    jitter(whole)
    build = getattr(terramind_register, f"terramind_v1_{variant}")
    theirs = build(modalities=[*read, NEW], merge_method=None).eval()
    official = whole.state_dict()
    del whole
    theirs.load_state_dict(terramind_register.checkpoint_filter_fn(official, theirs), strict=True)
    jitter(theirs.encoder_embeddings["climate"])
    fresh = {k: v for k, v in theirs.state_dict().items() if ".climate." in k}
    ours = terramind.TerraMind.of(variant, modalities=read, new=NEW).eval()
    names = (*read, *NEW)
    ours.load_state_dict(terramind.encoder_state(official | fresh, names), strict=True)
    bands = {"S2L2A": 12, "DEM": 1, **NEW}
    inputs = {name: torch.randn(1, n, *window) for name, n in bands.items()}
    return lambda: theirs(dict(inputs)), lambda: ours(inputs), ours


def jitter(module: nn.Module) -> None:
    """Move every weight off what it was initialised with: 0 and 1 hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))


def difference(theirs: list[Tensor], ours: list[Tensor]) -> float:
    pairs = zip(theirs, ours, strict=True)
    return max(((a - b).norm() / a.norm()).item() for a, b in pairs)


def seconds(run: Run, least: float = 0.3) -> float:
    """Of one run, the mean over as many as take so long together."""
    runs, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < least:
        run()
        runs += 1
    return spent / runs


def main() -> None:
    pairs = {f"prithvi-{name}": (prithvi_pair, name) for name in prithvi.VARIANTS}
    pairs |= {f"terramind-{name}": (terramind_pair, name) for name in terramind.VARIANTS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default=",".join(pairs))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, terratorch {version('terratorch')}, "
        f"{torch.get_num_threads()} threads\n"
    )
    print("| variant | parameters | difference | windows/s | of TerraTorch's |\n|--|--|--|--|--|")
    apart = []
    for label in options.variants.split(","):
        make, variant = pairs[label]
        torch.manual_seed(0)
        theirs, ours, encoder = make(variant)
        with torch.inference_mode():
            found = difference(theirs(), ours())
            rounds = [(seconds(theirs), seconds(ours)) for _ in range(options.rounds)]
        size = sum(p.numel() for p in encoder.parameters()) / 1e6
        speed = 1 / statistics.median(b for _, b in rounds)
        ratio = statistics.median(a / b for a, b in rounds)
        print(f"| {label} | {size:.1f} M | {found:.1e} | {speed:.3g} | {ratio:.2f} |", flush=True)
        if not found <= AGREEMENT:
            apart.append(label)
        del theirs, ours, encoder
    if apart:
        raise SystemExit(f"another function than TerraTorch's: {', '.join(apart)}")


if __name__ == "__main__":
    main()
