"""Low-rank changes of an encoder as Hugging Face's peft keeps them, for use outside of xlsbc."""

from __future__ import annotations

import json

import fsspec
from safetensors.torch import save

from xlsbc.emulator import Emulator
from xlsbc.errors import EmulatorError
from xlsbc.models.adapters import peft_files

__all__ = ["export"]


def export(emulator: Emulator, url: str) -> str:
    """Write the LoRA of an emulator's encoder and return where it is.

    ``PeftModel.from_pretrained`` puts it on an encoder whose layers have the official names. What
    brings our inputs in and the decoder are not in it: it serves those who study the encoder.

    Parameters
    ----------
    emulator
        With adaptation "lora".
    url
        Directory, any fsspec URL: ``adapter_model.safetensors``, then ``adapter_config.json``.

    Raises
    ------
    EmulatorError
        If there is no LoRA in it.
    """
    method = emulator.spec.architecture.adaptation.method
    if method != "lora":
        raise EmulatorError(f"expected an emulator with adaptation 'lora'; found {method!r}")
    tensors, config = peft_files(emulator.network.backbone.encoder)
    base = emulator.spec.base
    config["base_model_name_or_path"] = None if base is None else base.file
    fs, path = fsspec.core.url_to_fs(url)
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/adapter_model.safetensors", save(tensors))
    fs.pipe_file(f"{path}/adapter_config.json", json.dumps(config, indent=1).encode())
    return url
