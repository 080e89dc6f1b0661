"""Trains an image classifier on encrypted or plain images, on whatever devices there are.

    etc-data train digits data.source=shards/
    torchrun --nproc-per-node 2 -m etc_data.recipes.train CONFIG name=value …

Everything random follows from (seed, epoch, step): a run that was killed goes on with ``--resume``
and ends with the weights of one that was not.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

import etc_data.models
import etc_data.torchvision_cpu

# isort: split
import timm
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from timm.optim._optim_factory import create_optimizer_v2
from timm.utils.model_ema import ModelEmaV3

import etc_data
from etc_data.cipher import Cipher
from etc_data.errors import EtcError, KeyFileError, SettingsError
from etc_data.keys import KEY_VARIABLE, SecretKey
from etc_data.models import penalty
from etc_data.recipes.batches import open_batches
from etc_data.recipes.checkpoints import save_state, save_weights
from etc_data.recipes.device import describe_device
from etc_data.recipes.journal import Journal
from etc_data.recipes.mixing import mix_batch
from etc_data.recipes.normalize import Normalize
from etc_data.recipes.run_folder import check_same, start_folder, state_to_resume
from etc_data.recipes.schedule import learning_rate_factor
from etc_data.recipes.scores import Scores, score
from etc_data.recipes.settings import Settings, load_settings
from etc_data.shards.files import publish_json

_STEPS_PER_LOOK = 20  # at the loss: to look at it waits for the device


@dataclass(frozen=True)
class RunSummary:
    """What `train` did.

    Attributes:
        out: the folder of the results.
        accuracy: of the last epoch on the test split, 0 … 1.
        best_accuracy: of the best epoch.
        seconds: of wall time, of all runs together.
        parameters: of the model.
    """

    out: Path
    accuracy: float
    best_accuracy: float
    seconds: float
    parameters: int


def train(settings: Settings, *, resume: bool = False, force: bool = False) -> RunSummary:
    """Trains and tests as the settings say, and writes everything to their folder.

    Args:
        settings: of the run.
        resume: go on with a run of the same settings; start if there is none.
        force: replace what stands in the folder.

    Raises:
        SettingsError: settings contradict each other, or a run to resume had others.
        OutputExistsError: the folder holds a run, and neither `resume` nor `force` is set.
        EtcError: the data cannot be read, or the folder cannot be written.
    """
    return _Run(settings, resume=resume, force=force).go()


def make_cipher(settings: Settings) -> Cipher | None:
    """Returns what encrypts plain images, or None if they stay plain.

    Raises:
        KeyFileError: the key cannot be read.
        SchemeError: there is no such scheme.
    """
    data = settings.data
    if data.scheme is None:
        return None
    if data.key is None and KEY_VARIABLE not in os.environ:
        raise KeyFileError(
            f"data.scheme is {data.scheme}, and there is no key for it",
            f"name the key file, data.key=FILE, or put its line into {KEY_VARIABLE}",
        )
    key = SecretKey.from_environment() if data.key is None else SecretKey.load(data.key)
    return Cipher(data.scheme, key, key_scope=data.key_scope, context=data.context)


def make_model(settings: Settings, classes: int) -> nn.Module:
    """Returns the settings' model.

    Raises:
        SettingsError: timm does not know it, or not its options.
    """
    chosen = settings.model
    if chosen.checkpoint and not Path(chosen.checkpoint).is_file():
        raise SettingsError(f"model.checkpoint is {chosen.checkpoint}; there is no such file")
    # timm leaves out the classifier of a file that has another number of classes.
    local = {"file": chosen.checkpoint, "num_classes": 0} if chosen.checkpoint else None
    try:
        return timm.create_model(
            chosen.name,
            pretrained=chosen.pretrained or local is not None,
            pretrained_cfg_overlay=local,
            num_classes=classes,
            **chosen.options,
        )
    except (RuntimeError, TypeError, ValueError, OSError, AssertionError) as error:
        raise SettingsError(
            f"model {chosen.name}: {' '.join(str(error).split())[:300]}",
            "where the hub cannot be reached: model.pretrained=false model.checkpoint=FILE"
            if chosen.pretrained
            else None,
        ) from None


def normalization(settings: Settings, model: nn.Module) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation for images in [0, 1]: the settings', else the model's."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    mean = settings.data.mean or list(cfg.get("mean", (0.5, 0.5, 0.5)))
    std = settings.data.std or list(cfg.get("std", (0.5, 0.5, 0.5)))
    return mean, std


class _Run:
    """One process's part of a run."""

    def __init__(self, settings: Settings, *, resume: bool, force: bool) -> None:
        self.settings = settings
        AcceleratorState._reset_state()  # one process may train first in one precision, then in another
        # Told nothing, accelerate takes several processes without a GPU for so many single ones.
        cpu = not torch.accelerator.is_available()
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=settings.precision)
        self.out = Path(settings.out)
        processes = self.accelerator.num_processes
        state = state_to_resume(settings, resume=resume, force=force, processes=processes)
        torch.manual_seed(settings.seed)
        device = self.accelerator.device
        cipher = make_cipher(settings)
        ranks = {
            "rank": self.accelerator.process_index,
            "world_size": self.accelerator.num_processes,
        }
        self.train_batches, self.val_batches = (
            open_batches(settings, training=training, device=device, cipher=cipher, **ranks)
            for training in (True, False)
        )
        self.classes = max(self.train_batches.classes, self.val_batches.classes)
        self.grid = self._grid()
        model = make_model(settings, self.classes)
        mean, std = normalization(settings, model)
        self.normalize = Normalize(mean, std).to(device)
        self.facts = {
            "model": settings.model.name,
            "options": settings.model.options,
            "classes": self.classes,
            "size": list(self.train_batches.size),
            "mean": mean,
            "std": std,
            "encryption": self.train_batches.encryption,
            "etc_data": etc_data.__version__,
        }
        self.ema: ModelEmaV3 | None = None
        if settings.ema:
            self.ema = ModelEmaV3(model.to(device), decay=settings.ema)
        chosen = settings.optimizer
        try:
            optimizer = create_optimizer_v2(
                model,
                chosen.name,
                lr=chosen.lr,
                weight_decay=chosen.weight_decay,
                momentum=chosen.momentum,
            )
        except ValueError as error:
            raise SettingsError(f"optimizer.name is {chosen.name}: {error}") from None
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.accuracy = self.best = 0.0
        self.first_epoch, self.seconds_before = 0, 0.0
        self.loader_state: dict[str, Any] | None = None
        self.sums = torch.zeros(2, device=device)  # of losses and accuracies in this epoch so far
        self.steps = 0
        # Nothing is written before everything is known to be in order.
        if state is not None:
            self._restore(state)
        else:
            self._start_folder()

    def go(self) -> RunSummary:
        settings = self.settings
        start = time.monotonic()
        main = self.accelerator.is_main_process
        with Journal(self.out, first_epoch=self.first_epoch) if main else _NoJournal() as journal:
            for epoch in range(self.first_epoch, settings.epochs):
                began = time.monotonic()
                loss, train_accuracy, seen = self._train_epoch(epoch, start)
                seconds = time.monotonic() - began
                scores = self._test()
                self.accuracy, best = scores.accuracy, scores.accuracy > self.best
                self.best = max(self.best, self.accuracy)
                row = {
                    "epoch": epoch,
                    "train_loss": loss,
                    "train_accuracy": train_accuracy,
                    "val_loss": scores.loss,
                    "val_accuracy": self.accuracy,
                    "lr": self.optimizer.param_groups[0]["lr"],
                    "images_per_second": round(seen / seconds, 1),
                    "seconds": round(seconds, 2),
                }
                if main:
                    journal.add(row)
                    if best:
                        save_weights(self._tested(), self.out / "best.safetensors", self.facts)
                    save_weights(self._tested(), self.out / "last.safetensors", self.facts)
                    self._tell(row)
                self._save(epoch + 1, None, start)
        summary = RunSummary(
            self.out,
            self.accuracy,
            self.best,
            self.seconds_before + time.monotonic() - start,
            self.parameters,
        )
        if main:
            self._write_summary(summary)
        self.accelerator.wait_for_everyone()
        return summary

    # -- going on --------------------------------------------------------------------------------

    def _start_folder(self) -> None:
        # A process that comes late must still find the folder as the others did.
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            start_folder(self.settings)
        self.accelerator.wait_for_everyone()

    def _save(self, epoch: int, loader_state: dict[str, Any] | None, start: float) -> None:
        loader_states = [loader_state] * self.accelerator.num_processes
        if self.accelerator.num_processes > 1 and loader_state is not None:
            torch.distributed.all_gather_object(loader_states, loader_state)
        sums = self.accelerator.gather(self.sums[None]).tolist()
        if self.accelerator.is_main_process:
            state = {
                "settings": json.dumps(self.settings.to_dict()),
                "facts": json.dumps(self.facts),
                "processes": self.accelerator.num_processes,
                "epoch": epoch,
                "loader": loader_states,
                "steps": self.steps,
                "sums": sums,
                "accuracy": self.accuracy,
                "best": self.best,
                "seconds": self.seconds_before + time.monotonic() - start,
                "model": self._plain(self.model).state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": None if self.ema is None else self.ema.state_dict(),
                "scaler": None
                if self.accelerator.scaler is None
                else self.accelerator.scaler.state_dict(),
            }
            save_state(self.out, state)
        self.accelerator.wait_for_everyone()

    def _restore(self, state: dict[str, Any]) -> None:
        # The same settings may name a place that holds other data by now, or another key.
        check_same(self.out, json.loads(state["facts"]), self.facts)
        self._plain(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        rank = self.accelerator.process_index
        self.first_epoch, self.loader_state = state["epoch"], state["loader"][rank]
        self.accuracy, self.best = state["accuracy"], state["best"]
        self.seconds_before = state["seconds"]
        self.sums += torch.tensor(state["sums"][rank], device=self.sums.device)
        self.steps = state["steps"]

    def _plain(self, model: Any) -> nn.Module:
        plain: nn.Module = self.accelerator.unwrap_model(model)
        return plain

    def _tested(self) -> nn.Module:
        """Returns the model that counts: the moving average, where there is one."""
        return self._plain(self.model) if self.ema is None else self.ema.module

    # -- epochs ---------------------------------------------------------------------------------

    def _train_epoch(self, epoch: int, start: float) -> tuple[float, float, int]:
        """Returns mean loss, accuracy where it can be told, and how many images this run saw."""
        settings, batches = self.settings, self.train_batches
        loader_state, self.loader_state = self.loader_state, None
        if loader_state is None:
            self.sums.zero_()
            self.steps = 0
        self.model.train()
        bar = tqdm(
            total=batches.steps,
            initial=self.steps,
            desc=f"epoch {epoch + 1}/{settings.epochs}",
            unit="image",
            unit_scale=settings.batch,
            disable=None if self.accelerator.is_main_process else True,
            leave=False,
            dynamic_ncols=True,
        )
        seen = 0
        with bar:
            for images, labels in batches.epoch(epoch, loader_state):
                self.sums += self._step(epoch, self.steps, images, labels)
                self.steps += 1
                seen += len(images)
                bar.update()
                if self.steps % _STEPS_PER_LOOK == 0 or self.steps == batches.steps:
                    loss, accuracy = self._means(epoch)
                    bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.1%}", refresh=False)
                often = settings.checkpoint_steps
                if often and self.steps % often == 0 and self.steps < batches.steps:
                    self._save(epoch, batches.state(), start)
        own = torch.tensor([float(self.steps), float(seen)], device=self.sums.device)
        totals = self.accelerator.reduce(torch.cat([self.sums, own]), "sum")
        loss, right, steps, images_seen = totals.tolist()
        return loss / steps, right / steps, round(images_seen)

    def _means(self, epoch: int) -> tuple[float, float]:
        """Returns loss and accuracy of the epoch so far."""
        loss, accuracy = (self.sums / self.steps).tolist()
        if not np.isfinite(loss):
            raise EtcError(
                f"the loss is {loss} in epoch {epoch + 1}, before step {self.steps + 1}",
                "lower optimizer.lr, or set optimizer.warmup and optimizer.clip",
            )
        return loss, accuracy

    def _step(self, epoch: int, step: int, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns loss and accuracy, float32 [2], without waiting for the device."""
        settings, augment = self.settings, self.settings.augment
        seeds = (settings.seed, epoch, step, self.accelerator.process_index)
        seed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1)
        torch.manual_seed(seed)  # of dropout and its like
        progress = (epoch + step / self.train_batches.steps) / settings.epochs
        factor = learning_rate_factor(
            settings.optimizer.schedule, progress, settings.optimizer.warmup / settings.epochs
        )
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor * group.get("lr_scale", 1.0)
        targets = nn.functional.one_hot(labels, self.classes).float()
        targets = targets * (1 - augment.smoothing) + augment.smoothing / self.classes
        inputs, targets = mix_batch(
            self.normalize(images),
            targets,
            mixup=augment.mixup,
            cutmix=augment.cutmix,
            grid=self.grid,
            generator=torch.Generator().manual_seed(seed),
        )
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            logits = self.model(inputs)
            loss = nn.functional.cross_entropy(logits, targets) + penalty(self._plain(self.model))
        self.accelerator.backward(loss)
        if settings.optimizer.clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), settings.optimizer.clip)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self._plain(self.model))
        right = (logits.argmax(1) == targets.argmax(1)).float().mean()
        return torch.stack([loss.detach().float(), right])

    def _grid(self) -> int:
        grid = self.settings.augment.grid or self.train_batches.grid
        height, width = self.train_batches.size
        if height % grid or width % grid:
            raise SettingsError(
                f"augment.grid is {grid}; it must divide the images' {height}×{width} pixels"
            )
        return grid

    def _test(self) -> Scores:
        model = self._tested()
        if self.accelerator.num_processes > 1:
            # Each process has statistics of its own batches; the main one's are saved.
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)
        return score(model, self.val_batches, self.normalize, self.classes, self.accelerator)

    # -- words ----------------------------------------------------------------------------------

    def _tell(self, row: dict[str, Any]) -> None:
        tqdm.write(
            f"epoch {row['epoch'] + 1}/{self.settings.epochs}: train loss {row['train_loss']:.3f}, "
            f"test loss {row['val_loss']:.3f}, test accuracy {row['val_accuracy']:.2%}, "
            f"{row['images_per_second']:.0f} images/s",
            file=sys.stderr,
        )

    def _write_summary(self, summary: RunSummary) -> None:
        record = {
            "accuracy": summary.accuracy,
            "best_accuracy": summary.best_accuracy,
            "parameters": summary.parameters,
            "train_images": self.train_batches.samples,
            "test_images": self.val_batches.samples,
            "epochs": self.settings.epochs,
            "seed": self.settings.seed,
            "seconds": round(summary.seconds, 1),
            "device": describe_device(self.accelerator.device),
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "note": self.settings.note,
            **self.facts,
        }
        publish_json(self.out / "summary.json", record)


class _NoJournal:
    """Stands where the main process has a `Journal`."""

    rows: list[dict[str, Any]] = []  # noqa: RUF012 (nobody adds to it)

    def add(self, row: dict[str, Any]) -> None:
        """Keeps nothing."""

    def __enter__(self) -> "_NoJournal":
        return self

    def __exit__(self, *_: object) -> None:
        """Has nothing to close."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs ``torchrun -m etc_data.recipes.train CONFIG [--resume] [--force] [NAME=VALUE …]``."""
    parser = argparse.ArgumentParser(
        prog="etc_data.recipes.train", description="See: etc-data train -h"
    )
    parser.add_argument("config")
    parser.add_argument("changes", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--force", action="store_true")
    given = parser.parse_intermixed_args(arguments)
    try:
        settings = load_settings(given.config, given.changes)
        run = _Run(settings, resume=given.resume, force=given.force)
        run.go()
        if torch.distributed.is_initialized():
            # As it is taken down, torch's gloo sometimes hangs or aborts; all is written by now.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    except EtcError as error:
        sys.exit(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))


if __name__ == "__main__":
    main()
