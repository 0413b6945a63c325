"""A run as a usual Lightning project makes it.

torchvision's data set with its transforms, a shuffling DataLoader, `self.log` in every step, a
progress bar, TensorBoard.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchvision import datasets, transforms

from bench.data import Split, load
from bench.throughput.clock import Clock, Timing
from bench.throughput.loop import plain_model
from bench.throughput.ours import ClockCallback

# Mean and standard deviation of each channel, as tutorials give them.
STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


class Conventional:
    def __init__(self, config: Mapping[str, Any], device: str, *, workers: int) -> None:
        self.config, self.workload = config, config["workload"]
        self.device, self.workers = device, workers
        loaded = load(self.workload["dataset"])
        whole = torchvision_dataset(loaded.name, loaded.train)
        val_size = self.workload["val_size"]
        train, val = random_split(whole, [len(whole) - val_size, val_size])
        self.splits = {
            "train": train,
            "val": val,
            "test": torchvision_dataset(loaded.name, loaded.test),
        }

    def run(self, directory: Path, *, steps: int, lr: float, seed: int) -> Timing:
        """At most one epoch."""
        clock = Clock()
        pl.seed_everything(seed, verbose=False)
        trainer = pl.Trainer(
            accelerator="gpu" if self.device == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            limit_train_batches=steps,
            num_sanity_val_steps=0,
            logger=TensorBoardLogger(str(directory)),
            callbacks=[ClockCallback(clock)],
        )
        module = Module(plain_model(self.config), lr)
        trainer.fit(module, self.loader("train"), self.loader("val"))
        trainer.test(module, self.loader("test"), verbose=False)
        return clock.stop()

    def loader(self, name: str) -> DataLoader[Any]:
        return DataLoader(
            self.splits[name],
            batch_size=self.workload["batch_size"],
            shuffle=name == "train",
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            # What a shell's process would use; this one would hand on how it was started itself.
            multiprocessing_context="fork" if self.workers > 0 else None,
            pin_memory=self.device == "cuda",
        )


class Module(pl.LightningModule):
    def __init__(self, model: torch.nn.Module, lr: float) -> None:
        super().__init__()
        self.model, self.lr = model, lr

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.model(images), labels)
        self.log("train/loss", loss, on_step=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.evaluate(batch, "test")

    def evaluate(self, batch: tuple[Tensor, Tensor], split: str) -> None:
        images, labels = batch
        logits = self.model(images)
        self.log(f"{split}/loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log(f"{split}/accuracy", (logits.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def torchvision_dataset(name: str, split: Split) -> Any:
    """torchvision's data set as it is once it has read its files, which may not be there: the
    arrays come from our cache. From there on an image takes torchvision's own way."""
    kind = {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
    }[name]
    dataset = kind.__new__(kind)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*STATISTICS[name])])
    datasets.VisionDataset.__init__(dataset, root="", transform=transform)
    if name == "cifar10":
        dataset.data = split.images.permute(0, 2, 3, 1).contiguous().numpy()  # [N, H, W, C]
        dataset.targets = split.labels.tolist()
    else:
        dataset.data = split.images[:, 0]  # [N, H, W]
        dataset.targets = split.labels
    return dataset
