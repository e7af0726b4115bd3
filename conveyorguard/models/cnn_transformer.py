"""The seed study's network: convolutions on frames, a Transformer per modality, cross-attention, FiLM."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from torch import Tensor, nn

from conveyorguard.data.schema import Schema
from conveyorguard.models.film import Batch, conditioning


class FrameCNN(nn.Module):
    """Encode thermal frames by three blocks: 3x3 convolution, batch norm, GELU and pooling, the last one global."""

    def __init__(self, channels: int, embed_dim: int):
        super().__init__()
        sizes = (channels, 32, 64, 128)
        blocks: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise(sizes)):
            blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.GELU()]
            blocks.append(nn.AdaptiveAvgPool2d(1) if i == 2 else nn.MaxPool2d(2))
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Linear(sizes[-1], embed_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """Return features (B, Tf, embed_dim) of frames (B, Tf, channels, rows, columns)."""
        batch, count = frames.shape[:2]
        features = self.blocks(frames.flatten(0, 1)).flatten(1)
        return self.project(features).view(batch, count, -1)


class SequenceEncoder(nn.Module):
    """Encode a sequence: embedding, learned positions and a Transformer encoder."""

    def __init__(
        self,
        embed: nn.Module,
        length: int,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        dropout: float,
        norm_first: bool,
    ):
        super().__init__()
        self.embed = embed
        self.positions = nn.Parameter(torch.randn(1, length, embed_dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            embed_dim, num_heads, 4 * embed_dim, dropout, activation="gelu", batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, length, embed_dim) of a sequence (B, length, ...)."""
        return self.encoder(self.embed(x) + self.positions)


class CrossAttention(nn.Module):
    """Attention of queries to keys, with residual, layer norm and a feed-forward layer of four times the width.

    Args:
        embed_dim: width, D.
        num_heads: of the attention.
        dropout: probability.
        identity: initialise the attention's output with zero, so that the keys have no effect at first.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float, identity: bool):
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)
        if identity:
            nn.init.zeros_(self.attention.out_proj.weight)
        self.norm1, self.norm2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(embed_dim, 4 * embed_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * embed_dim, embed_dim),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return (B, Tq, D) from queries (B, Tq, D) and keys (B, Tk, D)."""
        attended, _ = self.attention(queries, keys, keys, need_weights=False)
        x = self.norm1(queries + self.dropout(attended))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class CNNTransformer(nn.Module):
    """Encode sensors and frames, let sensors attend to frames, average over time, condition by FiLM, classify.

    Args:
        schema: of the data.
        inputs: 'sensors', 'thermal' or both, with 'environment' for FiLM.
        window_size: rows of a window, T.
        thermal_frames: number of frames used per window, Tf.
        embed_dim: width of all features.
        num_heads: of the attentions.
        num_layers: of each Transformer encoder.
        dropout: probability.
        film_identity: FiLM starts without effect; false: gamma x + beta, as in the seed study.
        attention_identity: the attention to frames starts without effect; false: torch's initialisation, as in the
            seed study.
        norm_first: layer norm before attention and feed-forward, which trains without a warm-up (Xiong et al., 2020);
            false: after them, as in the seed study.
        from_start: add each sensor's change since the session began, in units of its noise; false: as in the seed
            study.
    """

    NEEDS: ClassVar[dict[str, str]] = {
        "thermal_frames": "thermal",
        "film_identity": "environment",
        "attention_identity": "thermal",
        "from_start": "sensors",
    }
    PER_SECOND: ClassVar[bool] = False

    def __init__(
        self,
        schema: Schema,
        inputs: list[str],
        window_size: int,
        thermal_frames: int,
        embed_dim: int = 256,
        num_heads: int = 4,
        num_layers: int = 2,
        dropout: float = 0.1,
        film_identity: bool = True,
        attention_identity: bool = True,
        norm_first: bool = True,
        from_start: bool = False,
    ):
        super().__init__()
        settings = (embed_dim, num_heads, num_layers, dropout, norm_first)
        encoders: dict[str, nn.Module] = {}
        if "sensors" in inputs:
            channels = len(schema.channels) * (1 + from_start)
            mlp = nn.Sequential(
                nn.Linear(channels, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(dropout), nn.Linear(64, embed_dim)
            )
            encoders["sensors"] = SequenceEncoder(mlp, window_size, *settings)
        if "thermal" in inputs:
            assert schema.thermal is not None
            cnn = FrameCNN(schema.thermal.stored_shape[0], embed_dim)
            encoders["thermal"] = SequenceEncoder(cnn, thermal_frames, *settings)
        self.encoders, self.from_start = nn.ModuleDict(encoders), from_start
        self.fuse = (
            CrossAttention(embed_dim, num_heads, dropout, attention_identity) if len(encoders) == 2 else nn.Identity()
        )
        self.film = conditioning(len(schema.environment) if "environment" in inputs else 0, embed_dim, film_identity)
        self.classifier = nn.Sequential(
            nn.Linear(embed_dim, embed_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(embed_dim, len(schema.states)),
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"window": (B, K)} logits of a scaled batch."""
        values = dict(batch)
        if self.from_start and "sensors" in self.encoders:
            values["sensors"] = torch.cat([batch["sensors"], batch["sensors_change"]], dim=-1)
        sequences = [encode(values[name]) for name, encode in self.encoders.items()]
        features = self.film(self.fuse(*sequences).mean(1), batch)
        return {"window": self.classifier(features)}
