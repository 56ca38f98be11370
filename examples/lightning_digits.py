"""Train the network of the rotated digits as a Lightning module: the library's layers are plain torch modules.

    python examples/lightning_digits.py --epochs 5

Trains on digits inside a package, keeps the weights that are best on digits held out of the training set, and tests
these.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import pdegcnn as pg
from pdegcnn_examples.command_line import check_out, load_or_exit
from pdegcnn_examples.datasets import Digits, rotated_digits
from pdegcnn_examples.output import write_folder
from pdegcnn_examples.training import parameters

try:
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
except ModuleNotFoundError as error:
    sys.exit(f"this example needs Lightning, but {error.name} is not installed: pip install lightning")


class DigitModule(lightning.LightningModule):
    """A PDE-G-CNN with its loss, accuracy, optimiser and schedule.

    Args:
        rate: greatest learning rate of the one-cycle schedule.
        options: arguments of :func:`pdegcnn.models.rotated_digits`; kept in the checkpoint.
    """

    def __init__(self, rate: float = 0.03, **options: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rate, self.network = rate, pg.models.rotated_digits(**options)
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.05)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B,10]`` of digits ``[B,1,28,28]``."""
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        value = self.loss(self(images), labels)
        self.log("loss", value, prog_bar=True)
        return value

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Accuracy on digits held out."""
        self._score("held_accuracy", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Accuracy on the test digits."""
        self._score("test_accuracy", batch)

    def _score(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        self.log(name, (self(images).argmax(1) == labels).float().mean(), batch_size=len(labels), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW, one cycle over all steps."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class DigitData(lightning.LightningDataModule):
    """Rotated digits in batches: a tenth of those for training is held out.

    Args:
        size: digits in all; every one there is if None.
        batch: digits in a batch.
        seed: of selection, split and angles.
    """

    def __init__(self, size: int | None, batch: int, seed: int) -> None:
        super().__init__()
        split = rotated_digits(size, seed)
        whole, count = self._set(split.train), len(split.train.labels)
        parts = [count - count // 10, count // 10]
        self.train, self.held = random_split(whole, parts, torch.Generator().manual_seed(seed))
        self.test, self.batch = self._set(split.test), batch

    @staticmethod
    def _set(digits: Digits) -> TensorDataset:
        return TensorDataset(digits.images, digits.labels)

    def train_dataloader(self) -> DataLoader:
        """Shuffled; leaves out a last batch that is not full: it could be one digit, which has no variance."""
        return DataLoader(self.train, self.batch, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """The digits held out."""
        return DataLoader(self.held, 250)

    def test_dataloader(self) -> DataLoader:
        """The test digits."""
        return DataLoader(self.test, 250)


def fit(chosen: argparse.Namespace) -> tuple[DigitModule, dict[str, Any]]:
    """Train, and test the weights that were best on the digits held out."""
    lightning.seed_everything(chosen.seed)
    data = load_or_exit(lambda: DigitData(60 if chosen.smoke else None, 8 if chosen.smoke else 32, chosen.seed))
    small = {"channels": (2, 2), "size": 7, "kernel_size": 3} if chosen.smoke else {}
    module = DigitModule(**small)
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor="held_accuracy", mode="max", save_weights_only=True)
        trainer = lightning.Trainer(
            max_epochs=1 if chosen.smoke else chosen.epochs,
            accelerator="cpu" if chosen.smoke else "auto",
            devices=1,
            logger=False,
            callbacks=[best],
            enable_progress_bar=not chosen.smoke,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, data)
        module = DigitModule.load_from_checkpoint(best.best_model_path, weights_only=True)
        (result,) = trainer.test(module, data, verbose=False)
    held = float(best.best_model_score) if best.best_model_score is not None else None
    numbers = {"epochs": trainer.max_epochs, "parameters": parameters(module), "held_accuracy": held, **result}
    return module, numbers


def main() -> None:
    """Train and write a folder: the network alone, and the numbers."""
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    made.add_argument("--epochs", type=int, default=5, help="passes over the digits (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of data, weights and batches (default: %(default)s)")
    made.add_argument("--out", type=Path, default=Path("lightning"), help="folder to write (default: %(default)s)")
    made.add_argument("--smoke", action="store_true", help="little data, to see that everything runs")
    chosen = made.parse_args()
    if chosen.epochs < 1:
        made.error(f"--epochs: expected a number >= 1, got {chosen.epochs}")
    if chosen.seed < 0:
        made.error(f"--seed: expected a number >= 0, got {chosen.seed}")
    check_out(made, chosen.out)
    if chosen.smoke:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # the digits are in memory
    module, numbers = fit(chosen)

    def fill(folder: Path) -> None:
        pg.save(module.network, folder / "digits.safetensors")
        (folder / "results.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")

    write_folder(chosen.out, fill)
    for name, value in numbers.items():
        print(f"{name:<15} {value:.3f}" if isinstance(value, float) else f"{name:<15} {value:,}")
    print(f"pg.load({str(chosen.out / 'digits.safetensors')!r}) gives the network")


if __name__ == "__main__":
    main()
