"""ECO: the model is left as it is, and reads what is about the forgotten rows through noise.

Source: Liu et al. 2024, "Large Language Model Unlearning via Embedding-Corrupted Prompts", arXiv:2406.07933.

    e_t ← e_t + sigma · z        from the first token on where   w · mean e + b > threshold

e are the embeddings of the tokens, w and b Fisher's discriminant between forget rows and rows that must stay, general
text among them (the replay set, else what the model says by itself). sigma is found by the run: the least of a doubling
row, then halved between, at which the right answers to the forget rows are no likelier, token by token, than answers of
other rows in their place were without it: what a model says that never saw who is meant.

No weight changes: whoever leaves the part off has all of it again, and the report says so first. What the part keeps of
the forgotten rows is a direction, a threshold and sigma; no row, and no mean of rows.

Departs from the paper: see ``models/parts/corrupt_embeddings.py``; sigma is found by likelihood against answers of
other rows, for the paper's distance from a retrained model's estimated score.
Official code: github.com/chrisliu298/llm-unlearn-eco, not read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part
from palimpsest.models.parts import named_buffers_of, new_parts_of, off
from palimpsest.models.parts.corrupt_embeddings import CorruptEmbeddings, CorruptEmbeddingsConfig
from palimpsest.models.parts.fit_watch import fit_watch, least_asked
from palimpsest.models.parts.swapped import mean_logp, with_answers_of_others
from palimpsest.models.places import name_of_module


class ECOConfig(Config):
    """Options of ECO."""

    sigma: float | None = Field(default=None, ge=0)
    """Standard deviation of the noise, in those of the embeddings; None = found by the run."""
    share: float = Field(default=0.01, ge=0, lt=1)
    """Of the held-out rows of each set that must stay: at most so many are corrupted."""
    ridge: float | None = Field(default=None, gt=0)
    """Added to the covariance, as a share of its mean diagonal; None = found by the run, on held-out rows."""
    most: float = Field(default=64.0, gt=0)
    """Where the search for sigma ends."""


def least_sigma(logp_at: Callable[[float], float], wanted: float, most: float) -> float:
    """The least strength at which a likelihood is down to what is wanted, as far as doubling and three halvings tell.

    Args:
        logp_at: strength -> mean log-probability.
        wanted: that it should be down to.
        most: the strength where the search ends.

    >>> least_sigma(lambda sigma: -sigma, -1.5, 64.0)
    1.5
    """
    low, high = 0.0, 0.125
    while logp_at(high) > wanted and high < most:
        low, high = high, min(2 * high, most)
    for _ in range(3):
        middle = (low + high) / 2
        low, high = (low, middle) if logp_at(middle) <= wanted else (middle, high)
    return high


class ECO(Method):
    """Noise on what is about the forget set; nothing else of the model changes."""

    Config = ECOConfig
    use_when = (
        "the weights must not change, and no refusal may show. "
        "Not where anybody else holds the weights: they know all of it, and without the part they say it."
    )
    approach = "guard"
    modalities = ("text",)
    reads_prefixes = True
    needs = ("forget", "retain")
    uses = ("replay",)
    instead = {"replay": "own_words"}
    edits = True
    adds_parts = True

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """Noise that was fitted to nothing, and is on everything."""
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        place, width, least = name_of_module(model, embedding), embedding.weight.shape[1], least_asked(sets["forget"])
        return [CorruptEmbeddings(CorruptEmbeddingsConfig(at=place, width=width, least=least, seed=seed))]

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Fit the classifier, then find sigma."""
        (part,) = (part for part in new_parts_of(model) if isinstance(part, CorruptEmbeddings))
        stays = {name: sets[name] for name in ("retain", "replay", "own_words") if name in sets}
        fit_watch(model, part, sets["forget"], stays, whiten=True, ridge=self.config.ridge, share=self.config.share)
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        unit = float(embedding.weight.detach().float().std())
        part.sigma.fill_(
            unit * (self._found(model, part, sets, unit) if self.config.sigma is None else self.config.sigma)
        )
        return named_buffers_of(model, part)

    def _found(self, model: nn.Module, part: CorruptEmbeddings, sets: Mapping[str, ExampleSet], unit: float) -> float:
        """The least sigma at which the right answers are as likely as those of others."""
        with off(model, [part]):
            wanted = mean_logp(model, with_answers_of_others(sets["forget"], sets["retain"]))

        def logp_at(sigma: float) -> float:
            part.sigma.fill_(sigma * unit)
            return mean_logp(model, sets["forget"])

        return least_sigma(logp_at, wanted, self.config.most)


METHOD = ECO
