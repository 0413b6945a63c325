"""A language model of characters: a small decoder-only transformer on Shakespeare's plays."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.cache import obtain
from bench.data.specs import SHAKESPEARE, TextSpecification
from bench.errors import BenchError
from bench.metrics import Metric
from bench.settings.fields import accepts, words
from bench.workloads.workload import Batch, Examples, Index, Place


class TextModel(Examples):
    """Characters ``[B, context]`` to logits ``[B, context, symbols]``; cross-entropy in nats a
    character, judged in bits.

    Plays are held apart by name, so that no sentence of a validated play was trained on. Each is
    cut into windows of ``context`` + 1 characters that overlap by one: an epoch predicts every
    character of the training plays once, but for a play's first, and an end that fills no window.

    Attributes:
        layers, heads, width: of the transformer; pre-norm, learned positions, GELU, and a last
            layer of its own.
        val_plays, test_plays: held apart; all others are trained on.
    """

    layers: int = accepts(2, "[1, inf)", kind=int)
    heads: int = accepts(4, "[1, inf)", kind=int)
    width: int = accepts(64, "[1, inf)", kind=int)
    context: int = accepts(64, "[1, 65536]", kind=int)
    dropout: float = accepts(0.0, "[0, 1)")
    val_plays: list[str] = words("macbeth", "twelfth-night")
    test_plays: list[str] = words("king-lear", "as-you-like-it")

    inputs = ("characters",)
    loss_unit = "nats"
    evaluation_batch = 200
    evaluation_batch_of_stacks = 800

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        return (
            Metric(
                "bits_per_character",
                "bits",
                chance=math.log2(SHAKESPEARE.symbols),
                of=lambda sums: sums["loss"] / sums["count"] / math.log(2),
            ),
        )

    # -- data --------------------------------------------------------------------------------

    def check(self) -> None:
        plays = SHAKESPEARE.plays
        held = [*self.val_plays, *self.test_plays]
        for play in held:
            if play not in plays:
                raise BenchError(
                    f"workload.val_plays, workload.test_plays: {play}: no such play; there are "
                    f"{', '.join(plays)}"
                )
            if held.count(play) > 1:
                raise BenchError(f"workload.val_plays, workload.test_plays: {play} is there twice")
        if not self.test_plays or len(held) == len(plays):
            raise BenchError(
                "workload.val_plays, workload.test_plays: must leave a play to test on, and one to "
                "train on"
            )
        if self.width % self.heads:
            raise BenchError(
                f"workload.width={self.width}: must be a multiple of workload.heads={self.heads}"
            )
        super().check()

    @property
    def train_size(self) -> int:
        return self.size("train")

    @property
    def validates(self) -> bool:
        return bool(self.val_plays)

    def size(self, split: str) -> int:
        return sum((SHAKESPEARE.lengths[play] - 1) // self.context for play in self._plays(split))

    def _plays(self, split: str) -> list[int]:
        """Their places in the data."""
        held = {"val": self.val_plays, "test": self.test_plays}
        taken = [*self.val_plays, *self.test_plays]
        return [
            place
            for place, play in enumerate(SHAKESPEARE.plays)
            if (play in held[split] if split in held else play not in taken)
        ]

    @property
    def source(self) -> TextSpecification:
        return SHAKESPEARE

    def load(self, place: Place) -> None:
        arrays = obtain(SHAKESPEARE, self.data_dir)
        self._characters = torch.from_numpy(arrays["characters"]).to(place.device)
        self._offsets = torch.arange(self.context + 1, device=place.device)
        self._windows = {
            split: torch.cat(
                [
                    torch.arange(arrays["starts"][n], arrays["starts"][n + 1] - self.context)[
                        :: self.context
                    ]
                    for n in self._plays(split)
                ]
                or [torch.empty(0, dtype=torch.int64)]
            ).to(place.device)
            for split in ("train", "val", "test")
        }

    def release(self) -> None:
        del self._characters, self._offsets, self._windows

    def batch(self, index: Index, split: str = "train") -> Batch:
        windows = self._windows[split]
        starts = windows[index] if isinstance(index, slice) else windows.index_select(0, index)
        places = starts.unsqueeze(1) + self._offsets  # [B, context + 1]
        text = self._characters.index_select(0, places.flatten()).view(places.shape).long()
        return {"characters": text[:, :-1].contiguous(), "next": text[:, 1:].contiguous()}

    # -- model and loss ----------------------------------------------------------------------

    def build(self, seed: int) -> nn.Module:
        return Transformer(
            SHAKESPEARE.symbols,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            context=self.context,
            dropout=self.dropout,
        )

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        target = batch["next"]
        losses = F.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="none")
        return losses.view(target.shape)

    def stacks(self) -> str | None:
        """On a CPU it does not pay: four runs took 166 ms a step, and 34 each alone."""
        return "dropout draws from one random stream" if self.dropout > 0 else None


class Transformer(nn.Module):
    """Radford et al. 2019, section 2.3: layer norm before each part and at the end, weights from
    N(0, 0.02²), those that end a residual branch divided by the root of how many there are."""

    def __init__(
        self, symbols: int, *, layers: int, heads: int, width: int, context: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols, bias=False)
        self.dropout = nn.Dropout(dropout)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                ends = name.endswith(("attention.out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * layers) if ends else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embedding(characters) + self.position[: characters.shape[-1]]
        return self.head(self.norm(self.blocks(self.dropout(x))))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.before_layers = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.before_attention(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.before_layers(x)))))


class Attention(nn.Module):
    """Each character sees itself and those before it. Written out, with no buffer for the mask: so
    it can be mapped over runs, and recorded."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2]
        q, k, v = self.inputs(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0)  # [B, T, H, D]
        q, k, v = (part.transpose(-2, -3) for part in (q, k, v))  # [B, H, T, D]
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [B, H, T, T]
        later = torch.ones(size, size, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        return self.out((weights @ v).transpose(-2, -3).flatten(-2))
