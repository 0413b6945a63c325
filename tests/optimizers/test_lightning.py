"""As the optimizer of a LightningModule, with one of PyTorch's schedulers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from bench.torchvision_ops import declare_ops
from optimizers import Adam

declare_ops()
import pytorch_lightning as pl  # noqa: E402


class Regression(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: Any, _: int) -> Tensor:
        x, y = batch
        return (self.layer(x) - y).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = Adam(self.parameters(), 0.1)
        return [optimizer], [lr_scheduler.ExponentialLR(optimizer, 0.9)]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_lightning() -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    model = Regression()
    trainer = pl.Trainer(
        max_epochs=15,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(x, y), 4))
    assert (model.layer.weight - torch.tensor([1.0, 2.0, 3.0, 4.0])).abs().max() < 0.1
