"""The fit as Lightning sees it: one step, what is kept of it, and where it goes wrong.

Everything that a step depends on is a function of the seed, the step and the rank, or is in the
checkpoint, so that a training that was killed ends in the same weights as one that was not.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from xlsbc.emulator.artefact import ENCODER, added
from xlsbc.errors import TrainingError
from xlsbc.models.adapters import layer_decay
from xlsbc.models.network import Inputs, Network, Outputs
from xlsbc.training.batches import Batch
from xlsbc.training.checkpoints import OWN
from xlsbc.training.curves import ROWS, Curves
from xlsbc.training.losses import Weighting, multitask_loss, nothing
from xlsbc.training.prepare import Prepared
from xlsbc.training.splits import VALIDATION

__all__ = ["Fitting", "affordable", "moving_average", "schedule"]

WARM_UP = 0.03
"""Share of the steps over which the learning rate rises."""

PROBE = 20
"""Steps that are timed to see how many a budget allows."""

LAYER_DECAY, LAYERS = 0.75, 12
"""Usual decay of the learning rate from a layer to the one before, of so many layers."""

VALIDATED = 32
"""Batches of a validation, or as many as show every labelled place once."""


class Fitting(lightning.LightningModule):
    """A network in training.

    Its first weights come from torch's random state.

    Parameters
    ----------
    task
        What is trained, on what and how.
    steps
        In all; with a budget in minutes the first guess.

    References
    ----------
    Loshchilov and Hutter, 2019, ICLR (AdamW); Polyak and Juditsky, 1992, SIAM J. Control Optim.
    30(4) (averaged weights); Brandstetter, Worrall and Welling, 2022, ICLR, section 3.1 (the
    pushforward trick).
    """

    def __init__(self, task: Prepared, steps: int) -> None:
        super().__init__()
        self.task, self.config, self.total = task, task.config, steps
        self.network: Network = task.network()
        self.network.mixed = task.mixed
        self.average = Average(self.network)
        self.weighting = Weighting(self.config.loss)
        # Weights that are learned fall while they are: what they weigh cannot be compared.
        self.judge = Weighting(self.config.loss.model_copy(update={"weights": "fixed"}))
        self.scales = task.scales
        self.curves = Curves(max(1, steps // ROWS))
        self.smooth = math.nan
        self.best: tuple[float, int, int] = (math.inf, 0, 0)  # loss, step, validations since
        self.budget = self.config.minutes
        self.latest: tuple[Batch, dict[str, Tensor]] | None = None
        self._streams: list[Iterator[Batch]] = []
        self._began = 0.0
        self._first = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; learned weights of the losses do not decay, layers of an encoder learn slower."""
        decay = self.config.weight_decay
        factors = self.factors()
        groups: list[dict[str, Any]] = [
            {"params": [], "weight_decay": decay, "factor": factor}
            for factor in dict.fromkeys(factors.values())
        ]
        by_factor = {group["factor"]: group["params"] for group in groups}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                by_factor[factors[name]].append(parameter)
        if learned := list(self.weighting.parameters()):
            groups.append({"params": learned, "weight_decay": 0.0, "factor": 1.0})
        return torch.optim.AdamW(groups, lr=self.config.rate)

    def factors(self) -> dict[str, float]:
        """Learning rate of every parameter that trains, over that of the others."""
        trained = [n for n, p in self.network.named_parameters() if p.requires_grad]
        factors = dict.fromkeys(trained, 1.0)
        if self.config.architecture.adaptation.method == "full":
            encoder = self.network.backbone.encoder
            usual = LAYER_DECAY ** (LAYERS / encoder.depth)
            slower = layer_decay(encoder, self.config.layer_decay or usual)
            factors |= {ENCODER + name: factor for name, factor in slower.items()}
        return factors

    def train_dataloader(self) -> Iterator[Batch]:
        """Batches from the first that was not trained on yet."""
        source = self.task.batches(rank=self.global_rank, world=self.trainer.world_size)
        return Stream(self, source.batches(self.trainer.global_step))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """The same batch on the device."""
        return batch.to(device)

    def on_train_start(self) -> None:
        """Weights that the average has in common were moved to the device one by one."""
        self.average.share(self.network)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set what depends on the number of the step: random numbers and the learning rate."""
        if not self._began:
            self._began, self._first = time.perf_counter(), batch.step
        if self.budget is not None and batch.step >= PROBE and batch.step > self._first:
            seconds = time.perf_counter() - self._began
            seconds *= PROBE / (batch.step - self._first)
            self.total = self.trainer.strategy.broadcast(affordable(seconds, self.budget))
            self.trainer.fit_loop.epoch_loop.max_steps = self.total
            self.budget = None
        torch.manual_seed(drawn(self.config.seed, batch.step, self.global_rank))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.rate(batch.step) * group["factor"]

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.config.rate * schedule(min(step / self.total, 1.0))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, finite."""
        loss, _ = self.loss(batch)
        if self.trainer.world_size > 1:  # processes add gradients up: each must have all of them
            loss = loss + 0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        return loss

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss of a batch and its terms.

        Raises
        ------
        TrainingError
            If it is not finite.
        """
        outputs = self.network.at(self.pushed(self.network, batch), batch.y, batch.x)
        terms = multitask_loss(outputs, batch, self.config.loss, self.scales)
        total = self.weighting.total(terms) if terms else nothing(outputs)
        terms = {name: term.detach() for name, term in terms.items()}
        value = total.item()
        if not math.isfinite(value):
            raise self.broken(f"the loss became {value}", batch, terms, outputs)
        self.latest = batch, terms
        self.smooth = value if math.isnan(self.smooth) else 0.95 * self.smooth + 0.05 * value
        return total, terms

    def pushed(self, network: Network, batch: Batch) -> Inputs:
        """Inputs whose state is what a network made of the years before, if there are any."""
        inputs, *later = (*batch.lead, batch.inputs)
        with torch.no_grad():
            for following in later:
                state = self.state_after(network, inputs)
                inputs = dataclasses.replace(following, state=state)
        return inputs

    def state_after(self, network: Network, inputs: Inputs) -> Tensor:
        """Fractions that the network gives, as the next year takes them; 0 where one is missing."""
        _, features = network.features(inputs)
        given = (None if g is None else g.flatten(2) for g in (inputs.lu, inputs.lc))
        lu, lc = network.land(features.flatten(2), *given)
        made = {"lu_fraction": lu, "lc_fraction": lc}
        state = torch.cat([made[name] for name in self.task.spec.state], dim=1)
        return state.unflatten(-1, features.shape[-2:]) * inputs.static[:, -1:]

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Scale the gradient to its largest norm, and refuse one that is not finite."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip or math.inf)
        if not torch.isfinite(norm) and self.latest is not None:
            raise self.broken(f"the gradient became {float(norm)}", *self.latest)

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """Step, and then average and record."""
        super().optimizer_step(*args, **options)
        self.average.update_parameters(self.network)
        if self.latest is not None:
            batch, terms = self.latest
            row = self.curves.add(batch.step + 1, self.rate(batch.step), terms)
            if row is not None and self.trainer.logger is not None:
                self.trainer.logger.log_metrics(row, batch.step + 1)

    @torch.no_grad()
    def validate(self) -> float:
        """Loss of the averaged network on the validation part, over all processes."""
        source = self.task.batches(VALIDATION, self.global_rank, self.trainer.world_size)
        stream = source.batches(0)
        total = torch.zeros(2, device=self.device)  # of the losses, and how many
        network = cast(Network, self.average.module).eval()
        try:
            for batch in islice(stream, min(source.per_epoch, VALIDATED)):
                batch = batch.to(self.device)
                outputs = network.at(self.pushed(network, batch), batch.y, batch.x)
                if terms := multitask_loss(outputs, batch, self.config.loss, self.scales):
                    total += torch.stack((self.judge.total(terms), total.new_ones(())))
        finally:
            close(stream)
            network.train()
        loss, count = self.trainer.strategy.reduce(total, reduce_op="sum").tolist()
        return loss / count if count else math.nan

    @property
    def stopped(self) -> bool:
        """Whether validation got no better for as long as the patience lasts."""
        return self.config.patience is not None and self.best[2] >= self.config.patience

    def judged(self, loss: float, step: int) -> bool:
        """Take note of a validation; whether it is the best."""
        best, at, since = self.best
        better = loss < best
        self.best = (loss, step, 0) if better else (best, at, since + 1)
        self.curves.validated(step, loss)
        return better

    def broken(
        self,
        what: str,
        batch: Batch,
        terms: Mapping[str, Tensor],
        outputs: Outputs | None = None,
    ) -> TrainingError:
        """The error of a step that cannot be taken: which terms, and of which places."""
        each = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
        places = "; ".join(culprits(batch, outputs)) or "unknown places"
        return TrainingError(
            f"{what} at step {batch.step} ({each}) in {places}; lower learning_rate, or look for "
            "extreme values in the inputs there"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know of, and leave out what stays as it was read."""
        for name in self.unchanged():
            del checkpoint["state_dict"][name]
        checkpoint[OWN] = {
            "identity": json.dumps(self.task.identity),
            "total": self.total,
            "budget": self.budget,
            "smooth": self.smooth,
            "best": list(self.best),
            "stopped": self.stopped,
            "curves": self.curves.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        own, state = checkpoint[OWN], self.state_dict()
        checkpoint["state_dict"] |= {name: state[name] for name in self.unchanged()}
        self.total, self.budget, self.smooth = own["total"], own["budget"], own["smooth"]
        self.best = tuple(own["best"])
        self.curves.load_state_dict(own["curves"], self.device)

    def unchanged(self) -> list[str]:
        """Names of the pretrained weights in its state that no training changes."""
        if not self.task.spec.partial:
            return []
        own = set(added(self.network))
        places = ("network.", "average.module.")
        return [p + name for p in places for name in self.network.state_dict() if name not in own]

    def close(self) -> None:
        """Stop the threads that read ahead."""
        for stream in self._streams:
            close(stream)
        self._streams.clear()


class Average(AveragedModel):
    """Moving average of a network's weights; those that do not train it has in common with it."""

    def __init__(self, network: Network) -> None:
        super().__init__(network, use_buffers=True)
        self.requires_grad_(False)  # or processes would wait for its gradients
        self.share(network)

    def share(self, network: torch.nn.Module) -> None:
        """Take the memory of weights that do not train for its own."""
        for average, new in self.pairs(network):
            if not new.requires_grad and isinstance(new, torch.nn.Parameter):
                average.data = new.data

    def pairs(self, network: torch.nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Each weight or buffer of the average and the one that it follows."""
        own = (*self.module.parameters(), *self.module.buffers())
        return list(zip(own, (*network.parameters(), *network.buffers()), strict=True))

    @torch.no_grad()
    def update_parameters(self, network: torch.nn.Module) -> None:
        """Follow the network after a step."""
        count = int(self.n_averaged)  # once: each time a GPU is waited for
        for average, new in self.pairs(network):
            if new.requires_grad or not isinstance(new, torch.nn.Parameter):
                found = moving_average(average, new, count) if count else new
                average.copy_(found)
        self.n_averaged += 1


class Stream(Iterator[Batch]):
    """Batches of a generator, which the training can close: Lightning only forgets it."""

    def __init__(self, fitting: Fitting, batches: Iterator[Batch]) -> None:
        self.batches = batches
        fitting._streams.append(batches)

    def __next__(self) -> Batch:
        return next(self.batches)


def close(stream: Iterator[Any]) -> None:
    """End a generator; other iterators have nothing to end."""
    if hasattr(stream, "close"):
        stream.close()


def culprits(batch: Batch, outputs: Outputs | None) -> list[str]:
    """Crops whose outputs are not finite; all crops where that does not tell."""
    wrong = torch.zeros(len(batch.y), dtype=torch.bool)
    fields = [] if outputs is None else [outputs.lu, outputs.lc, outputs.lai]
    for field in fields:
        wrong |= (~field.detach().isfinite()).flatten(1).any(1).cpu()
    chosen = wrong.tolist() if wrong.any() else [True] * len(batch.places)
    return [place for place, bad in zip(batch.places, chosen, strict=False) if bad]


def drawn(seed: int, step: int, rank: int) -> int:
    """Seed of the random numbers of a step."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    return int(state[0]) >> 1  # torch takes a signed integer


def moving_average(average: Tensor, new: Tensor, count: int) -> Tensor:
    """Mean that forgets: of the last fifty steps or so, of fewer at the start."""
    if not average.is_floating_point():
        return new
    keep = min(0.98, (1 + count) / (10 + count))
    return average + (1 - keep) * (new - average)


def affordable(seconds: float, minutes: float) -> int:
    """Steps that fit in a budget, from the time that `PROBE` of them took."""
    return max(PROBE + 1, int(PROBE * 60 * minutes / seconds))


def schedule(done: float) -> float:
    """Learning rate as share of its largest: a linear rise, then a cosine to 0."""
    if done < WARM_UP:
        return (done + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
