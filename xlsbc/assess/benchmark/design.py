"""What a cell is: one training, or one chain of trainings, or one baseline, to be scored.

It is known by a digest of the cube and of its settings, so that a cell that is finished stays
finished whatever else the experiment is made of later. Versions and machine are in its record, not
in the digest.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xlsbc.emulator.spec import Document, Split
from xlsbc.training.config import Training

__all__ = ["Cell", "Labels", "Learning"]

Learning = Literal["multi-task", "sequential", "sequential-coupled", "single"]


class Labels(Document):
    """Which labels training may know.

    Parameters
    ----------
    fraction
        Share of the training pixels that have labels; those of a smaller share are among those of
        a larger one.
    every
        Of so many leaf-area steps, and years of land use and cover, one has labels: the first.
    """

    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    every: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="before")
    @classmethod
    def _share(cls, data: Any) -> Any:
        return {"fraction": float(data)} if isinstance(data, int | float) else data


class Cell(Document):
    """One training or chain of trainings, or one baseline, to be scored.

    Parameters
    ----------
    cube
        Digest of the cube.
    model
        Name of the model, or of the baseline.
    training
        Settings; None for a baseline.
    weights
        See `Experiment.weights`.
    learning, labels, seed, threads
        See `Sweep` and `Experiment`.
    split_name, split
        What is held out.
    """

    cube: str
    model: str
    training: Training | None
    weights: str
    learning: Learning | Literal[""]
    labels: Labels
    split_name: str
    split: Split
    seed: int
    threads: int

    @property
    def key(self) -> str:
        """Digest of what determines its numbers: names that only people read are not in it."""
        names = {"split_name"} if self.training is None else {"split_name", "model", "weights"}
        settings = self.model_dump(mode="json", exclude=names)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """Its columns in the table that say what it is."""
        found = {"kind": "baseline", "backbone": "", "variant": "", "adaptation": ""}
        if self.training is not None:
            architecture = self.training.architecture
            found = {
                "kind": "emulator",
                "backbone": architecture.backbone,
                "variant": architecture.variant,
                "adaptation": architecture.adaptation.method,
            }
        return {
            **found,
            "cell": self.key,
            "model": self.model,
            "weights": self.weights,
            "learning": self.learning,
            "labels": self.labels.fraction,
            "every": self.labels.every,
            "split": self.split_name,
            "seed": self.seed,
        }

    @property
    def title(self) -> str:
        """For people, in a line."""
        how = self.identity
        words = [self.model, how["adaptation"], self.learning, self.split_name]
        words += [f"{self.labels.fraction:.0%} of labels"]
        words += [f"one step of {self.labels.every}"] * (self.labels.every > 1)
        return ", ".join(filter(None, [*words, f"seed {self.seed}"]))
