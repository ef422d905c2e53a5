"""Corrupted embeddings: once a text is about what was forgotten, the model reads its tokens through noise.

    e_t <- e_t + alpha · sigma · z_k      where it has fired;  k the number of the token in its text, z_k fixed noise

Source: Liu et al. 2024, "Large Language Model Unlearning via Embedding-Corrupted Prompts", arXiv:2406.07933: a
classifier of prompts, and embeddings of those that it finds corrupted by noise of strength sigma.

Departs from the paper: the classifier is a linear score of the embeddings themselves, so that nothing is read twice; it
has fired from a token on and not for the prompt as a whole, so that no token is read otherwise for what comes after it,
and caches hold; the tokens of the answer are corrupted, too; the noise is drawn once and repeats after some tokens.

The weights still know everything, and whoever leaves the part off has it again. What the part keeps of the forgotten
rows is one direction, from the mean of what stays to theirs, a threshold and a strength: derived from personal data.

Shape legend: B rows, T tokens, D width, K rows of noise.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from palimpsest.models.parts.watching import Watch, WatchingConfig, WatchingPart


class CorruptEmbeddingsConfig(WatchingConfig):
    """Options of corrupted embeddings."""

    rows: int = Field(default=64, ge=1)
    """K: tokens after which the noise repeats."""
    seed: int = Field(default=0, ge=0)
    """Draws the noise."""


def corrupted(
    said_BTD: Float[Tensor, "B T D"],
    noise_KD: Float[Tensor, "K D"],
    number_BT: Int[Tensor, "B T"],
    fired_BT: Bool[Tensor, "B T"],
    sigma: float,
) -> Float[Tensor, "B T D"]:
    """Embeddings with noise where it has fired; the others are the same bits.

    >>> number, fired = torch.tensor([[1, 2]]), torch.tensor([[False, True]])
    >>> corrupted(torch.ones(1, 2, 1), torch.tensor([[4.0]]), number, fired, 0.5)
    tensor([[[1.],
             [3.]]])
    """
    noise_BTD = noise_KD[number_BT % len(noise_KD)].to(said_BTD.dtype)
    return torch.where(fired_BT[..., None], said_BTD + sigma * noise_BTD, said_BTD)


class CorruptEmbeddings(WatchingPart):
    """Noise on what the model reads, from where on a text is about what was forgotten."""

    Config = CorruptEmbeddingsConfig
    noise_KD: Tensor
    sigma: Tensor
    kind = "corrupt_embeddings"
    keeps = (
        "a direction between the mean of what stays and theirs, a threshold "
        "and a strength, in the part corrupt_embeddings: derived from personal data"
    )

    def __init__(self, config: CorruptEmbeddingsConfig) -> None:
        super().__init__(config)
        device = torch.get_default_device()
        own = torch.Generator().manual_seed(config.seed)
        noise = (
            torch.empty(config.rows, config.width)
            if device.type == "meta"
            else torch.randn(config.rows, config.width, generator=own, device="cpu")
        )
        self.register_buffer("noise_KD", noise)
        self.register_buffer("sigma", torch.tensor(1.0))

    def changed(self, watch: Watch, said_BTD: Tensor) -> Tensor:
        """Noise where it has fired."""
        fired_BT, sigma = watch.fired_BT, self.alpha * float(self.sigma)
        if fired_BT is None or sigma == 0 or not bool(fired_BT.any()):
            return said_BTD
        return corrupted(said_BTD, self.noise_KD, watch.kept[1].long(), fired_BT, sigma)


PART = CorruptEmbeddings
