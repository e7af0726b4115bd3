"""Condition features on the environment."""

from __future__ import annotations

from torch import Tensor, nn

Batch = dict[str, Tensor]  # scaled; an input that is not used is a missing key


class FiLM(nn.Module):
    """Feature-wise linear modulation by the environment (Perez et al., 2018).

    The environment, encoded and averaged over time, gives a gain and a shift for each feature.

    Args:
        environment: number of environment channels, E.
        width: number of features.
        identity: (1 + gamma) x + beta with gamma and beta zero at first, so that training starts without effect;
            otherwise gamma x + beta, as in the seed study.
    """

    def __init__(self, environment: int, width: int, identity: bool = True):
        super().__init__()
        self.identity = identity
        self.encoder = nn.Sequential(nn.Linear(environment, width), nn.LayerNorm(width), nn.GELU())
        self.gamma, self.beta = nn.Linear(width, width), nn.Linear(width, width)
        if identity:
            for layer in (self.gamma, self.beta):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """Modulate x, (B, width) or (B, T, width), by batch["environment"] (B, T, E)."""
        context = self.encoder(batch["environment"]).mean(1)
        gamma, beta = self.gamma(context), self.beta(context)
        if x.dim() == 3:
            gamma, beta = gamma[:, None], beta[:, None]
        return (gamma + 1) * x + beta if self.identity else gamma * x + beta


class Unconditioned(nn.Module):
    """Stand in for FiLM where film=false: return the features unchanged."""

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """Return x."""
        return x


def conditioning(environment: int, width: int, identity: bool = True) -> nn.Module:
    """Return FiLM, or `Unconditioned` if there is no environment channel.

    Args:
        environment: number of environment channels, 0 for none.
        width: number of features.
        identity: see `FiLM`.
    """
    return FiLM(environment, width, identity) if environment else Unconditioned()
