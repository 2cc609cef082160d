"""An experiment as data: which cube, models, splits and labels, and so which cells there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from os import PathLike
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from xlsbc.assess.benchmark.design import Cell, Labels, Learning
from xlsbc.assess.benchmark.rivals import RIVALS
from xlsbc.emulator.spec import Document, Split, tuples
from xlsbc.errors import TrainingError
from xlsbc.training.config import Training, described, told

__all__ = ["RANDOM", "Entry", "Experiment", "Sweep"]

Method = Literal["scratch", "full", "lora", "adapter", "frozen"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", max_length=64)]

METHODS: tuple[Method, ...] = ("scratch", "full", "lora", "adapter", "frozen")
RANDOM = "random-initialised"
"""What the weights of a foundation backbone are called that never saw its pretrained ones."""

OWN = ("cube", "out", "split", "given", "seed", "members", "devices", "logger", "coupled")
"""Settings of a training that are the experiment's to choose."""

UNFIT = {
    "minutes": "a cell must have the same numbers again; give steps",
    "state": "a prediction would begin with the truth of held-out pixels; leave it out",
    "rollout": "it needs state, which an experiment cannot have; leave it out",
}
"""Settings of a training that a fair comparison cannot have, and why."""


class Entry(Document):
    """An entry of an intake catalog.

    Parameters
    ----------
    entry
        Its name.
    catalog
        URL of the catalog, or the name of one of xlsbc.
    options
        Parameters of the entry.
    """

    entry: str
    catalog: str | None = None
    options: dict[str, Any] = {}


class Sweep(Document):
    """All combinations of what it names.

    Parameters
    ----------
    models, splits, seeds
        Names, or seeds, of the experiment; by default all models and seeds and the first split.
    adaptations
        A model that has no pretrained weights takes part with "scratch" alone.
    learning
        "multi-task" is one emulator of all targets; "single" one of each, on its own;
        "sequential" is a chain of separate networks: land use, then land cover from it, then leaf
        area index from that; "sequential-coupled" the same with heads that are held to what they
        are given.
    labels
        See `Labels`; a number is a fraction.
    """

    models: tuple[str, ...] | None = None
    adaptations: tuple[Method, ...] = ("scratch",)
    learning: tuple[Learning, ...] = ("multi-task",)
    labels: tuple[Labels, ...] = (Labels(),)
    splits: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None


class Experiment(Document):
    """What ``xlsbc benchmark`` does.

    Parameters
    ----------
    title
        Of the report.
    notes
        Sentences for its reader.
    cube
        URL of a Zarr cube, or an `Entry`, of which a copy is made beside the results.
    out
        URL of the folder of the results.
    training
        Settings of `xlsbc.training.config.Training` for all models.
    models
        By name, further settings: backbone, variant, weights ("random" where there are none).
    splits
        By name: what is held out; "blocks" is what `xlsbc.fit` does.
    sweeps
        Which combinations are run; what two of them name is run once.
    seeds
        Of weights, crops and of which labels are left; what is held out is the same in all.
    rivals
        Baselines, scored beside the models on every split, with the same labels: once, or with
        every seed where labels are drawn.
    threads
        Of torch, in every cell: the last bits of a training depend on it.
    """

    title: str
    notes: tuple[str, ...] = ()
    cube: str | Entry
    out: str = ""
    training: dict[str, Any] = {}
    models: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    splits: Annotated[dict[Name, Literal["blocks"] | Split], Field(min_length=1)] = {
        "blocks": "blocks"
    }
    sweeps: Annotated[tuple[Sweep, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    rivals: tuple[str, ...] = RIVALS
    threads: Annotated[int, Field(ge=1)] = 1

    @field_validator("notes", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _together(self) -> Experiment:
        problems = [*self._unknown(), *self._unfit()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _unknown(self) -> Iterator[str]:
        """Names that are of nothing here."""
        for name in (n for n in self.rivals if n not in RIVALS):
            yield f"{name!r} is no baseline; known: {', '.join(RIVALS)}"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds must differ; found {', '.join(map(str, self.seeds))}"
        for i, sweep in enumerate(self.sweeps):
            yield from (f"sweeps.{i}: {n} names nothing; leave it out" for n, v in sweep if v == ())
            for what, names, known in (
                ("model", sweep.models, self.models),
                ("split", sweep.splits, self.splits),
            ):
                for name in (n for n in names or () if n not in known):
                    yield f"sweeps.{i}: {name!r} is no {what}; known: {', '.join(known)}"

    def _unfit(self) -> Iterator[str]:
        """Settings that no training can have, and sweeps in which a model has no part."""
        for where, settings in {"training": self.training, **self.models}.items():
            if own := [name for name in OWN if name in settings]:
                yield f"{where}: {', '.join(own)} is for the experiment to choose; leave it out"
            yield from (f"{where}: {n}: {why}" for n, why in UNFIT.items() if n in settings)
        for i, sweep in enumerate(self.sweeps):
            for name in (n for n in sweep.models or self.models if n in self.models):
                fit = 0
                for method in sweep.adaptations:
                    if method == "scratch" or self._pretrained(name):
                        fit += 1
                        yield from self._invalid(name, method)
                if not fit:
                    yield (
                        f"sweeps.{i}: {name} has no pretrained weights to adapt; add scratch to "
                        "adaptations, or name other models"
                    )

    def _pretrained(self, model: str) -> bool:
        """Whether a model's settings can be adapted at all."""
        from xlsbc.models.backbones import BACKBONES

        kind = BACKBONES.get(self._settings(model).get("backbone", "unet"))
        return kind is not None and kind.pretrained

    def _invalid(self, model: str, method: Method) -> Iterator[str]:
        try:
            self.trained(model, method)
        except TrainingError as error:
            for problem in error.problems or [error.summary]:
                yield f"models.{model}, {method}: {problem}"

    def _settings(self, model: str) -> dict[str, Any]:
        return {**self.training, **self.models[model]}

    def trained(self, model: str, method: Method) -> Training:
        """Settings of a model's training, but for what is chosen cell by cell.

        Raises
        ------
        TrainingError
            With every setting that is not valid.
        """
        settings = tuples(self._settings(model))
        adaptation = settings.pop("adaptation", {})
        if isinstance(adaptation, str):
            adaptation = {}
        settings["adaptation"] = {**adaptation, "method": method}
        if method == "scratch":
            settings.pop("weights", None)
        if method != "full":
            settings.pop("layer_decay", None)
        return Training.of({**settings, "given": ((),)})

    def weights(self, model: str, method: Method) -> str:
        """What a model begins with, in words; nothing where there is no such thing."""
        if not self._pretrained(model):
            return ""
        begun = "" if method == "scratch" else str(self._settings(model).get("weights", ""))
        return RANDOM if begun in ("", "random") else begun.rpartition("/")[2]

    def cells(self, cube: str, splits: Mapping[str, Split]) -> list[Cell]:
        """Every cell once: emulators in the order of the sweeps, then baselines.

        Parameters
        ----------
        cube
            Digest of the cube.
        splits
            Those of the experiment, with their extents.

        Raises
        ------
        TrainingError
            If two names are of the same cell.
        """
        cells: dict[str, Cell] = {}
        for sweep in self.sweeps:
            for name, method, learning, labels, split, seed in product(
                sweep.models or self.models,
                sweep.adaptations,
                sweep.learning,
                sweep.labels,
                sweep.splits or [*self.splits][:1],
                self.seeds if sweep.seeds is None else sweep.seeds,
            ):
                if method != "scratch" and not self._pretrained(name):
                    continue
                cell = Cell(
                    cube=cube,
                    model=name,
                    training=self.trained(name, method).changed(seed=seed),
                    weights=self.weights(name, method),
                    learning=learning,
                    labels=labels,
                    split_name=split,
                    split=splits[split],
                    seed=seed,
                    threads=self.threads,
                )
                known = cells.setdefault(cell.key, cell)
                if known.title != cell.title:
                    raise TrainingError(
                        f"{cell.title!r} is {known.title!r} by another name; keep one of the names"
                    )
        for cell in [*cells.values()]:
            for name in self.rivals:
                rival = self._rival(name, cell)
                cells.setdefault(rival.key, rival)
        return [*cells.values()]

    def _rival(self, name: str, cell: Cell) -> Cell:
        """A baseline to score beside a cell."""
        changes: dict[str, Any] = {"model": name, "training": None, "weights": "", "learning": ""}
        if name == "persistence":  # it learns from no label
            changes["labels"] = Labels()
        if name == "persistence" or cell.labels.fraction == 1:
            changes["seed"] = self.seeds[0]
        return cell.model_copy(update=changes)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Experiment:
        """The experiment that a YAML file describes.

        Raises
        ------
        TrainingError
            If there is no such file, it is no YAML mapping, or with everything that is not valid.
        """
        return cls.of(described(path, "experiment", "an experiment, with cube, models and sweeps"))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Experiment:
        """An experiment of these settings and defaults for the others.

        Raises
        ------
        TrainingError
            With everything that is not valid.
        """
        try:
            return cls.model_validate(tuples(settings))
        except ValidationError as error:
            raise TrainingError("this is no experiment", told(error)) from None
