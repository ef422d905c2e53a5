"""A language model: token ids, with a soft prompt before them or without, to what it says of every token.

    POST url   {"tokens": [[id, ...], ...]}
               and, where prompt_width is declared, "prompts": {"shape": [N, P, D], "inputs": base64 of little-endian
               float32}, "prompt_of": [n, ...]: the embeddings that stand before each row
    200        {"logprobs": [[log p, ...], ...], "top": [[id, ...], ...], "vocabulary": V}       V may be left out

Of a row of T tokens ``logprobs`` holds T - 1 numbers, log p(token | those before it) of all but the first, in nats, and
``top`` T ids, the most likely token behind each. Positions of a soft prompt are in neither.

What is made of that for the rest of palimpsest are logits that say exactly this: the right probability at the token
that is there, and the arg-max where it is. How the remaining probability lies on the other tokens nobody told, so a
metric that looks at all of them (entropy, KL) is not served.

Shape legend: B rows, T tokens, V vocabulary, N soft prompts, P positions of one, D width of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from palimpsest.errors import EndpointError
from palimpsest.models.black_boxes.box import Numbers, device_of, rows_of_numbers
from palimpsest.models.black_boxes.tokens import (
    AskedText,
    TokenBox,
    TokenFacts,
    batch_of,
    texts_in,
    token_fields,
    tokenizer_of,
)
from palimpsest.models.encoded_arrays import decoded, encoded
from palimpsest.models.families.asked_family import AskedFamily
from palimpsest.models.families.causal_lm import Causal

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from palimpsest.models.loaded import Loaded

_NOWHERE = -1e4
"""Logit of what has no probability."""
_ROUNDING = 1e-3
"""Of a log-probability, by which an answer may contradict itself, nats."""
_HALF = math.log(0.5) + _ROUNDING
"""No token with more than half of the probability can fail to be the most likely one."""


_SURE = math.log(1e9)
"""Drawn tokens can be so much likelier than even ones, nats, once in 10^9 times."""


class LanguageFacts(TokenFacts):
    """What is known of a language model."""

    IDENTITY: ClassVar[tuple[str, ...]] = ("kind", "url", "vocabulary", "prompt_width", "prompt_scale")

    kind: Literal["causal_lm"]
    """What it is."""
    prompt_width: int | None = Field(default=None, ge=1)
    """D, numbers of a token's embedding; None = it takes no soft prompt."""
    prompt_scale: float | None = Field(default=None, gt=0)
    """Root mean square of a number of its embeddings, in whose units a soft prompt is learned."""

    @model_validator(mode="after")
    def _says_both(self) -> LanguageFacts:
        if (self.prompt_width is None) != (self.prompt_scale is None):
            raise ValueError("prompt_width and prompt_scale are given together, or neither")
        return self


class BlackBoxLanguage(AskedFamily, Causal):
    """Texts that are continued, for a price."""

    name = "black_box_lm"
    kind = "causal_lm"
    metrics = ("ma", "es", "nll", "prob")
    alone = ("ma", "es", "nll")
    serves = frozenset({"TEACHER", "LIKELIHOOD"})
    says = False
    method = "spul"
    alternatives = ("spul", "guard", "in_context")

    def tokenizer(self, facts: Any) -> Any:
        """That of the folder that the description names."""
        return tokenizer_of(facts)

    def encode(
        self, examples: Sequence[Any], loaded: Loaded, *, max_length: int | None, truncate: bool, separator: str
    ) -> Any:
        """Token sequences that say whose they are."""
        found = super().encode(examples, loaded, max_length=max_length, truncate=truncate, separator=separator)
        found.family = self.name
        return found


class LanguageBox(TokenBox):
    """A question is a ``AskedText``."""

    name = "causal_lm"
    family = BlackBoxLanguage()
    Facts = LanguageFacts

    def content(self, questions: Sequence[Any]) -> dict[str, Any]:
        """Lists of tokens, and each soft prompt once."""
        tokens = super().content(questions)
        if questions[0].prompt_PD is None:
            return tokens
        prompts = {text.prompt_PD.tobytes(): text.prompt_PD for text in questions}
        number = {key: n for n, key in enumerate(prompts)}
        of = [number[text.prompt_PD.tobytes()] for text in questions]
        return tokens | {"prompts": encoded(np.stack(list(prompts.values()))), "prompt_of": of}

    def read(self, values: Mapping[str, Any], questions: Sequence[Any], facts: Any) -> Sequence[Numbers]:
        """Log-probabilities of tokens and the most likely ones, behind each other."""
        if "logprobs" not in values or "top" not in values:
            raise facts.unusable('no object with "logprobs" and "top"')
        if values.get("vocabulary", facts.vocabulary) != facts.vocabulary:
            raise facts.unusable("the vocabulary is not the one that was declared; it changed, or is another model's")
        logp, top = (rows_of_numbers(values[name], facts, name) for name in ("logprobs", "top"))
        _check_lengths([len(text.tokens) for text in questions], logp, top, facts)
        rows = zip(questions, logp, top, strict=True)
        reasons = (_why_none(text.tokens, said, most, facts.vocabulary) for text, said, most in rows)
        wrong = next(filter(None, reasons), None)
        if wrong is not None:
            raise facts.unusable(wrong)
        return [(*one, *other) for one, other in zip(logp, top, strict=True)]

    def asked_of_function(self, questions: Sequence[Any]) -> tuple[Any, ...]:
        """Lists of token ids, and a tensor (B, P, D) where soft prompts stand before them."""
        import torch

        tokens = super().asked_of_function(questions)
        if questions[0].prompt_PD is None:
            return tokens
        return (*tokens, torch.from_numpy(np.stack([text.prompt_PD for text in questions])))

    def read_of_function(self, said: Any, questions: Sequence[Any], facts: Any) -> Sequence[Numbers]:
        """The same object as an endpoint's, whose rows may be tensors."""
        return self.read(said if isinstance(said, Mapping) else {}, questions, facts)

    def check_probes(self, answers: Sequence[Numbers], facts: Any) -> None:
        """Refuse numbers that are too close to 0 to be natural logarithms, such as those of base 10.

        The tokens of the probes are drawn evenly, so that the product of V · p(token) over all of them has mean 1 for
        any model; by Markov's inequality its logarithm is above a with probability at most exp(−a).
        """
        excess = sum(one + math.log(facts.vocabulary) for answer in answers for one in answer[: len(answer) // 2])
        if excess > _SURE:
            raise facts.unusable(
                "tokens that were drawn at random are likelier by it than any model can have them; accepted: "
                "logprobs in nats (natural logarithms, not of base 10), of the tokens that were sent"
            )

    def compared(self, answer: Numbers) -> Numbers:
        """Probabilities of the tokens."""
        return tuple(math.exp(one) for one in answer[: len(answer) // 2])

    def questions_of(self, given: Mapping[str, Any], facts: Any) -> Sequence[AskedText]:
        """The rows of a batch.

        Raises:
            EndpointError: they stand behind a soft prompt, which it does not take.
        """
        found = super().questions_of(given, facts)
        if found[0].prompt_PD is not None and facts.prompt_width is None:
            raise EndpointError(
                f"{facts.where} takes no soft prompt by its description; accepted: one with prompt_width and "
                "prompt_scale, or the version without its soft prompts"
            )
        return found

    def logits_of(self, answers: Sequence[Numbers], given: Mapping[str, Any], facts: Any) -> Tensor:
        """Logits that say what was answered, (B, T, V); zeros at padding."""
        import torch

        tokens_BT = given["input_ids"].cpu()
        found_BTV = torch.zeros(*tokens_BT.shape, facts.vocabulary)
        for row, answer in enumerate(answers):
            size = len(answer) // 2 + 1
            logp_T, top_T = torch.tensor(answer[: size - 1]), torch.tensor(answer[size - 1 :]).long()
            found_BTV[row, :size] = logits_saying(logp_T, tokens_BT[row, 1:size], top_T, facts.vocabulary)
        return found_BTV

    def serves(self, loaded: Loaded) -> bool:
        """A causal LM."""
        return loaded.family.takes == "text" and loaded.family.reads_prefixes and loaded.family.has_gradient

    def described(self, loaded: Loaded) -> dict[str, Any]:
        """Its words and what a soft prompt of it looks like."""
        from palimpsest.models.soft_prompting import embedding_size

        width, scale = embedding_size(loaded.model)
        return {**token_fields(loaded), "prompt_width": width, "prompt_scale": scale}

    def answered(self, values: Mapping[str, Any], loaded: Loaded) -> tuple[dict[str, Any], int]:
        """Log-probabilities of the rows of a request."""
        import torch

        from palimpsest.models.modes import asked
        from palimpsest.models.soft_prompting import behind_prompts

        rows, model = texts_in(values, loaded), loaded.model
        inputs = {name: tensor.to(device_of(model)) for name, tensor in batch_of(rows, loaded).items()}
        with asked(model):
            if "prompts" in values:
                prompts_NPD = torch.from_numpy(decoded(values["prompts"]))
                logits_BTV = behind_prompts(model, inputs, prompts_NPD[torch.tensor(values["prompt_of"])])
            else:
                logits_BTV = model(**inputs, use_cache=False).logits
            logp_BT = _of_next(logits_BTV, inputs["input_ids"])
            top_BT = logits_BTV.argmax(-1)
        said = [[max(_NOWHERE, p) for p in row[: len(rows[n]) - 1]] for n, row in enumerate(logp_BT.tolist())]
        top = [row[: len(rows[n])] for n, row in enumerate(top_BT.tolist())]
        return {"logprobs": said, "top": top, "vocabulary": logits_BTV.shape[-1]}, len(rows)


def _of_next(logits_BTV: Float[Tensor, "B T V"], tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Log-probability of each token but the first."""
    logp_BTV = logits_BTV[:, :-1].float().log_softmax(-1)
    found_BT: Tensor = logp_BTV.gather(-1, tokens_BT[:, 1:, None])[..., 0]
    return found_BT


def _check_lengths(lengths: Sequence[int], logp: Sequence[Numbers], top: Sequence[Numbers], facts: Any) -> None:
    """Refuse rows that are longer or shorter than what was asked."""
    if [len(row) + 1 for row in logp] != lengths or [len(row) for row in top] != lengths:
        raise facts.unusable(f"logprobs and top do not have the lengths of the {len(lengths)} rows that were asked")


def _why_none(tokens: Sequence[int], logp: Numbers, top: Numbers, vocabulary: int) -> str:
    """Why numbers are no answer to a row; "" where they are one."""
    if any(one != int(one) or not 0 <= one < vocabulary for one in top):
        return f"top holds what is no token id; they go from 0 to {vocabulary - 1}"
    if any(one > _ROUNDING for one in logp):
        return "a log-probability is above 0"
    if any(_contradicts(*one, vocabulary) for one in zip(tokens[1:], logp, top, strict=False)):
        return "a token of top is not the most likely one by its log-probability"
    return ""


def _contradicts(token: int, logp: float, best: float, vocabulary: int) -> bool:
    """Can a token of this log-probability not be, or not fail to be, the most likely one?"""
    return logp < -math.log(vocabulary) - _ROUNDING if token == best else logp > _HALF


def logits_saying(
    logp_T: Float[Tensor, "T-1"], token_T: Int[Tensor, "T-1"], top_T: Int[Tensor, "T"], vocabulary: int
) -> Float[Tensor, "T V"]:
    """Logits of a row by which its tokens have these probabilities and these are the most likely ones.

    What is left lies on the top token where that is another one, else evenly on all others. Behind the last token
    only the top one is known, and has everything.

    By hand, V = 3: p(0) = 1/4 and the top token is 2, so that has 3/4; behind it nothing but token 1.

    >>> import torch
    >>> logits_saying(torch.tensor([0.25]).log(), torch.tensor([0]), torch.tensor([2, 1]), 3).softmax(-1)
    tensor([[0.2500, 0.0000, 0.7500],
            [0.0000, 1.0000, 0.0000]])
    """
    import torch

    size = len(logp_T)
    logp_T = logp_T.float().clamp(_NOWHERE, 0)
    rest_T = torch.log1p(-logp_T.double().exp()).clamp_min(_NOWHERE).float()
    is_top_T = token_T == top_T[:size]
    found_TV = torch.full((size + 1, vocabulary), _NOWHERE)
    found_TV[:size] = torch.where(is_top_T, rest_T - math.log(max(1, vocabulary - 1)), _NOWHERE)[:, None]
    found_TV[:size].scatter_(1, top_T[:size, None], rest_T[:, None])
    found_TV[:size].scatter_(1, token_T[:, None], logp_T[:, None])
    found_TV[size, top_T[size]] = 0.0
    return found_TV


BOX = LanguageBox()
