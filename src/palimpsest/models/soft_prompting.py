"""What a soft prompt is made for, and how it is learned before a model whose weights nobody sees.

A random prompt can cost a model more than it is taught, another one hardly anything. So several are drawn, a few rows
are asked behind each, and the one that they are likeliest behind is the start.

Shape legend: B rows, T tokens, V vocabulary, P positions of a prompt, D width of an embedding, N numbers of a prompt,
Q + 1 prompts that a row is tried behind, K prompts to start with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, ExampleSet
from palimpsest.errors import ModelError
from palimpsest.models.modes import asked, in_eval_mode
from palimpsest.models.parts import bearer_of, new_parts_of, off
from palimpsest.models.parts.soft_prompt import SoftPrompt, SoftPromptConfig
from palimpsest.models.zeroth_order import EstimatorConfig, check_estimator, estimated_loss

START_ROWS = 8
"""Rows that are asked behind every prompt to start with."""


class SoftPromptingConfig(EstimatorConfig):
    """Options of a method that learns a soft prompt."""

    beta: float = Field(default=0.1, gt=0)
    """How far the prompt is moved along each direction, in units of the size of an embedding."""
    length: int = Field(default=1, ge=1)
    """Positions of the prompt."""
    starts: int = Field(default=16, ge=1)
    """Prompts that are drawn to start with: the one is taken behind which a few rows are likeliest. 1 asks nothing."""


def queries_to_start(config: SoftPromptingConfig, rows: int) -> int:
    """Queries to choose the start by a set of so many rows."""
    return config.starts * min(START_ROWS, rows) if config.starts > 1 else 0


def embedding_size(model: Any) -> tuple[int, float]:
    """Width of a model's embeddings and the root mean square of their numbers.

    Raises:
        ModelError: it has none that are known.
    """
    bearer = bearer_of(model)
    facts = getattr(getattr(bearer, "questions", None), "facts", None)
    if facts is not None:
        if facts.prompt_width is None:
            raise ModelError(
                f"{facts.where} takes no soft prompt by its description; accepted: an endpoint that does, with "
                "prompt_width and prompt_scale"
            )
        return int(facts.prompt_width), float(facts.prompt_scale)
    weight_VD = bearer.get_input_embeddings().weight.detach()
    return int(weight_VD.shape[1]), float(weight_VD.double().square().mean().sqrt())


def check_prompting(method: str, config: SoftPromptingConfig, model: Any) -> None:
    """Refuse the exact gradient of what can only be asked, and an endpoint that takes no soft prompt.

    Raises:
        ModelError: one of them.
    """
    check_estimator(method, config, model)
    embedding_size(model)


def soft_prompt_for(model: Any, length: int, seed: int, *, unlearns: bool = False) -> SoftPrompt:
    """A drawn soft prompt of a model's width.

    Args:
        model: a causal LM, or one behind an endpoint.
        length: P.
        seed: of the run.
        unlearns: it is to keep something from being said.
    """
    width, scale = embedding_size(model)
    return SoftPrompt(SoftPromptConfig(length=length, width=width, scale=scale, seed=seed, unlearns=unlearns))


def behind_prompts(
    model: Any, inputs: Mapping[str, Tensor], prompt_BPD: Float[Tensor, "B P D"]
) -> Float[Tensor, "B T V"]:
    """What a local model says of texts, each behind a soft prompt of its own.

    Raises:
        ValueError: the prompts are not as wide as its embeddings, or do not fit before the texts.
    """
    from palimpsest.models.text_config import most_tokens

    embed = model.get_input_embeddings()
    tokens_BT, mask_BT = inputs["input_ids"], inputs["attention_mask"]
    width, room = embed.weight.shape[1], most_tokens(model)
    if prompt_BPD.ndim != 3 or len(prompt_BPD) != len(tokens_BT) or prompt_BPD.shape[2] != width:
        raise ValueError(f"soft prompts of width {width} are taken, one for each row")
    size = prompt_BPD.shape[1]
    if room is not None and size + tokens_BT.shape[1] > room:
        raise ValueError(f"soft prompt and text of at most {room} tokens are taken")
    text_BTD = embed(tokens_BT)
    whole_BTD = torch.cat([prompt_BPD.to(text_BTD), text_BTD], 1)
    whole_mask_BT = torch.cat([mask_BT.new_ones(len(mask_BT), size), mask_BT], 1)
    logits: Tensor = model(inputs_embeds=whole_BTD, attention_mask=whole_mask_BT, use_cache=False).logits
    return logits[:, size:]


class Learner:
    """Losses of the soft prompt that a run made, with their gradient or an estimate of it."""

    def __init__(self, model: nn.Module, config: SoftPromptingConfig) -> None:
        self.model, self.config = model, config
        self.part = next(part for part in new_parts_of(model) if isinstance(part, SoftPrompt))

    def start(self, rows: ExampleSet) -> None:
        """Begin with the drawn prompt that disturbs the model least, by what a few rows are worth behind it."""
        if self.config.starts > 1:
            batch = rows.batch(rows.ids[:START_ROWS]).to(self.part.prompt_D.device)
            draws_KN = self.part.draws(self.config.starts).to(self.part.prompt_D)
            with asked(self.model):
                nll_K = torch.stack(
                    [self._behind(draw_N[None], lambda: nll_of(self.model, batch)) for draw_N in draws_KN]
                )
                self.part.prompt_D.copy_(draws_KN[nll_K.double().sum(1).argmin()])

    def total(self, values: Callable[[], Float[Tensor, "B"]], ids: Sequence[str], step: int) -> Float[Tensor, ""]:
        """A sum over a batch.

        Args:
            values: of its rows, behind what stands before them at the time.
            ids: of its rows. Each is tried along directions of its own, which id and step decide, in whatever set.
            step: of the run.
        """
        with in_eval_mode(self.model):
            if self.config.estimator == "exact":
                return values().sum()
            keys = [(self.part.config.seed, step, row) for row in ids]
            return estimated_loss(self.part.prompt_D, lambda tried: self._each(values, tried), self.config, keys)

    def nats(self, rows: ExampleSet, most: int, *, without: bool = False) -> float:
        """What label tokens cost behind the prompt, or without it, nats per token.

        Args:
            rows: of which the first are asked.
            most: rows that are asked.
            without: the model as it was before the run.
        """
        nll, tokens, ids = 0.0, 0, rows.ids[:most]
        with asked(self.model), off(self.model, [self.part] if without else []):
            for start in range(0, len(ids), START_ROWS):
                batch = rows.batch(ids[start : start + START_ROWS]).to(self.part.prompt_D.device)
                nll, tokens = nll + float(nll_of(self.model, batch).double().sum()), tokens + batch.num_scored
        return nll / max(1, tokens)

    def why_no_better(self, rows: ExampleSet, most: int) -> str | None:
        """Why the prompt is of no use for rows that were to be learned, or None where it is."""
        without, behind = self.nats(rows, most, without=True), self.nats(rows, most)
        if behind < without:
            return None
        return (
            f"no soft prompt was found behind which the learn rows are likelier ({without:.4g} nats per token without "
            f"one, {behind:.4g} behind it)"
        )

    def _each(
        self, values: Callable[[], Float[Tensor, "B"]], tried_BQN: Float[Tensor, "B Q+1 N"]
    ) -> Float[Tensor, "B Q+1"]:
        return torch.stack([self._behind(tried_BN, values) for tried_BN in tried_BQN.unbind(1)], 1)

    def _behind(self, prompt_BN: Float[Tensor, "_ N"], values: Callable[[], Float[Tensor, "B"]]) -> Float[Tensor, "B"]:
        with self.part.trying(prompt_BN):
            return values().double()


def nll_of(model: nn.Module, batch: Batch) -> Float[Tensor, "B"]:
    """Of the label tokens of each row, nats."""
    nll_B: Tensor = -batch.predict(model).logp_B
    return nll_B
