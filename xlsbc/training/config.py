"""A training as data: every setting of it in one frozen document, which is one YAML file."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from os import PathLike
from typing import Annotated, Any, Literal

import fsspec
import yaml
from dask.utils import parse_bytes
from pydantic import Field, ValidationError, field_validator, model_validator

from xlsbc.emulator.spec import Adaptation, Architecture, Document, Split, listed, tuples
from xlsbc.errors import TrainingError
from xlsbc.training.losses import Loss

__all__ = ["Training"]

RATES = {"unet": 3e-3, "other": 1e-3}
"""Usual learning rates by backbone."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Training(Document):
    """How an emulator is trained.

    Parameters
    ----------
    cube, out
        URLs of a Zarr cube and of the new emulator's directory, for ``xlsbc train``; of these
        `xlsbc.fit`, which is given a cube, takes `out` alone. With `out` the emulator is saved,
        with its curves, ``training.csv`` and ``training.png``; checkpoints go into
        ``checkpoints/`` in it and the best emulator in validation into ``best/``.
    architecture
        Kind and sizes of the network. Its settings may also be given by themselves, e.g.
        ``backbone="terramind", variant="tiny", adaptation="lora"``.
    weights
        Pretrained weights of the backbone: a file of any fsspec URL, or
        ``hf://organisation/repository/file``; "random" for an untrained encoder that is treated
        as if it were trained, to compare with.
    split
        Which part is held out; "blocks" is what `xlsbc.training.splits.suggest` says.
    given
        Combinations of fractions that may be given in prediction, e.g. ``[("lc_fraction",)]``
        for an emulator that always takes a land-cover map. By default none or any one that the
        cube holds, in turn.
    optional
        Static inputs that may be missing where a prediction is asked for. The network learns
        what their absence means; without this a pixel that misses any input stays missing.
    position
        Whether latitude and longitude are inputs. By default only in a cube without forcing,
        where they stand for climate.
    state
        Fractions of the year before that are inputs, e.g. ``("lu_fraction", "lc_fraction")``. In
        training they are those of the cube, in prediction the emulator's own, year after year.
    rollout
        Years up to the one that is trained; in those before it the network goes on from what it
        gave itself, so that it learns to put its own errors right. Needs `state`; 1 is none.
    steps
        Optimiser steps.
    epochs
        Instead of `steps`: so many times as many steps as meet every label about once.
    minutes
        Instead of either: as many steps as a few timed ones suggest will fit.
    batch_size, crop
        Crops in a step (on every device) and their side in pixels; by default 96 pixels or what
        a small grid has. Of a backbone that cuts patches it is also the side of the windows that
        are predicted.
    learning_rate, weight_decay
        Of AdamW. The rate is the largest: it rises over the first steps and falls as a cosine
        to 0. By default 3e-3 for a U-Net and 1e-3 for others.
    layer_decay
        Of adaptation "full": learning rate of a layer of the encoder over that of the next; by
        default 0.75 for 12 layers, and nearer to 1 for more.
    checkpointing
        Whether blocks of a transformer are computed again for their gradients instead of kept:
        a third more time for a fraction of the memory.
    clip
        Largest norm of the gradient of a step; None for any.
    loss
        What is minimised.
    members
        Emulators of an ensemble, `xlsbc.training.fit.ensemble`, whose seeds follow one another.
    seed
        Of weights, crops and pixels. Equal seeds on one machine give equal emulators, but not
        with `minutes`.
    validate_every
        Steps between validations, on blocks that are neither trained on nor held out for the
        scores; None for no validation and no such blocks.
    patience
        Validations without a smaller loss after which the training stops; None for no such end.
    checkpoint_every
        Steps between checkpoints, of which the last two are kept.
    memory
        Bytes that read data may take, or text like "2GiB".
    threads
        That read and decode, as far as there is memory for them; by default 2, or 8 where the cube
        is in an object store.
    devices
        Processes of one GPU each, or of CPU cores where there is none. With more than one a
        script must guard what it does with ``if __name__ == "__main__"``.
    precision
        Of the backbone: "32", "bf16", or "auto", which is what the machine multiplies faster.
    logger
        "csv" or "tensorboard" logs into ``logs/`` beside the checkpoints; None logs nothing.
    """

    cube: str = ""
    out: str = ""
    architecture: Architecture = Architecture()
    weights: str = ""
    split: Literal["blocks"] | Split = "blocks"
    given: tuple[tuple[str, ...], ...] | None = None
    optional: tuple[str, ...] = ()
    position: bool | None = None
    state: tuple[str, ...] = ()
    rollout: Count = 1
    steps: Count = 1000
    epochs: Positive | None = None
    minutes: Positive | None = None
    batch_size: Count = 8
    crop: Count | None = None
    learning_rate: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-2
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    checkpointing: bool = False
    clip: Positive | None = 1.0
    loss: Loss = Loss()
    members: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    validate_every: Count | None = None
    patience: Count | None = None
    checkpoint_every: Count = 100
    memory: Count = 2 * 2**30
    threads: Count | None = None
    devices: Count = 1
    precision: Literal["auto", "32", "bf16"] = "auto"
    logger: Literal["csv", "tensorboard"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, data: Any) -> Any:
        """Settings of the architecture into it; what depends on the backbone goes with another."""
        if not isinstance(data, Mapping) or not data.keys() & Architecture.model_fields.keys():
            return data
        own = {k: v for k, v in data.items() if k in Architecture.model_fields}
        rest = {k: v for k, v in data.items() if k not in own}
        held = rest.pop("architecture", {})
        if isinstance(held, Architecture):
            held = held.model_dump()
        if not isinstance(held, Mapping):
            return data
        if own.get("backbone", held.get("backbone")) != held.get("backbone"):
            kept = ("climate", "hidden", "dropout", "coupled")
            held = {k: v for k, v in held.items() if k in kept}
        elif any(own.get(k, held.get(k)) != held.get(k) for k in ("variant", "patch")):
            held = {k: v for k, v in held.items() if k != "width"}
        return {**rest, "architecture": {**held, **own}}

    @field_validator("given", mode="before")
    @classmethod
    def _combinations(cls, value: Any) -> Any:
        return tuple(map(listed, value)) if isinstance(value, list | tuple) else value

    @field_validator("optional", "state", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return listed(value) if isinstance(value, str | list | tuple) else value

    @field_validator("cube", "out", "weights", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, PathLike) else value

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        return parse_bytes(value) if isinstance(value, str) else value

    @field_validator("split", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value == "blocks" or isinstance(value, Split | Mapping):
            return value
        raise ValueError(f'{value!r} is not a split; pass "blocks" or a Split')

    @model_validator(mode="after")
    def _together(self) -> Training:
        problems = []
        if self.epochs is not None and self.minutes is not None:
            problems.append("epochs and minutes both say how long to train; give one of them")
        if self.rollout > 1 and not self.state:
            problems.append(f"a rollout over {self.rollout} years needs state; name its fractions")
        if self.patience is not None and self.validate_every is None:
            problems.append("patience counts validations; give validate_every, their steps apart")
        if isinstance(self.split, Split) and self.validate_every and not self.split.validation:
            problems.append("validate_every needs blocks to validate on; give split.validation > 0")
        method = self.architecture.adaptation.method
        if method != "scratch" and not self.weights:
            problems.append(
                f'adaptation {method!r} begins with pretrained weights; give weights, or "random"'
            )
        if method == "scratch" and self.weights:
            does = "set one of them, or leave weights out"
            if not self.architecture.kind.pretrained:
                does = f"leave weights out: {self.architecture.backbone} has none to begin with"
            problems.append(
                "weights are for adaptation 'full', 'lora', 'adapter' or 'frozen'; found "
                f"'scratch', which is the default; {does}"
            )
        if self.layer_decay is not None and method != "full":
            problems.append(f"layer_decay is for adaptation 'full'; found {method!r}")
        if self.checkpointing and not self.architecture.kind.patches:
            problems.append("checkpointing is for transformers; found a U-Net")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def rate(self) -> float:
        """The largest learning rate."""
        return self.learning_rate or RATES.get(self.architecture.backbone, RATES["other"])

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Training:
        """A training with these settings and defaults for the others.

        Raises
        ------
        TrainingError
            With every setting that is not valid.
        """
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            raise TrainingError("these are no settings of a training", told(error)) from None

    def changed(self, **changes: Any) -> Training:
        """The same training but for some settings, all checked again."""
        held = {name: getattr(self, name) for name in self.model_fields_set}
        return Training.of({**held, **changes})

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Training:
        """The training that a YAML file describes.

        Raises
        ------
        TrainingError
            If there is no such file, it is no YAML mapping, or with every setting that is not
            valid.
        """
        return cls.of(
            tuples(described(path, "training", "settings of a training, lines like `steps: 1000`"))
        )

    def write(self, path: str | PathLike[str]) -> None:
        """All settings as a YAML file."""
        with fsspec.open(str(path), "w", encoding="utf-8") as file:
            yaml.safe_dump(self.model_dump(mode="json"), file, sort_keys=False)


class Loader(yaml.SafeLoader):
    """YAML that reads 1e-3, which version 1.1 takes for text, as the number that it is."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def described(path: str | PathLike[str], what: str, expected: str) -> dict[str, Any]:
    """What a YAML file says.

    Raises
    ------
    TrainingError
        If there is no such file, or it is no YAML mapping; in words of what it should be.
    """
    try:
        with fsspec.open(str(path), "rb") as file:
            settings = yaml.load(file.read(), Loader)
    except OSError as error:
        raise TrainingError(f"no {what} is described at {path}: {error}") from error
    except yaml.YAMLError as error:
        raise TrainingError(f"{path} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise TrainingError(f"expected {expected}, in {path}; found {type(settings).__name__}")
    return settings


def told(error: ValidationError) -> list[str]:
    """What pydantic found wrong, one sentence each."""
    problems = []
    for each in error.errors():
        parts = [str(part) for part in each["loc"]]
        if any(p.startswith("literal[") for p in parts) and isinstance(each["input"], Mapping):
            continue  # what is wrong with the mapping is told besides
        place = ".".join(p for p in parts if p != "Split" and "[" not in p)
        if each["type"] == "extra_forbidden":
            close = hint(parts[-1])
            problems.append(f"{place} is no setting{close}; check its spelling in Training")
        elif each["type"] == "value_error":
            text = each["msg"].removeprefix("Value error, ")
            problems += [f"{place}: {text}"] if place else text.splitlines()
        elif each["type"] == "missing":
            problems.append(f"{place} is missing")
        else:
            said = each["msg"].removeprefix("Input ")
            problems.append(f"{place}: the value {said}; found {each['input']!r}")
    return problems


def hint(name: str) -> str:
    """Where a setting of that name belongs, or the setting whose name is most like it."""
    parts: dict[str, type[Document]] = {"adaptation": Adaptation, "split": Split, "loss": Loss}
    if where := [part for part, document in parts.items() if name in document.model_fields]:
        return f" there, but one of {' and of '.join(where)}: `{where[0]}: {{{name}: ...}}`"
    known = (*Training.model_fields, *Architecture.model_fields)
    known += tuple(inner for document in parts.values() for inner in document.model_fields)
    if name in known:
        return " there"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""
