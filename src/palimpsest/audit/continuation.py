"""The paper's own refinement test: does the model still continue a forget example as it was written?

Source: Tang, Liu et al., arXiv:2407.20271, and its code (github.com/himalalps/ICU@bb776e3, MIT): a 2-beam continuation
of the prefix, at most 50 tokens, is compared with the text; forgotten = BLEU below 0.01 or BERTScore F1 below 0.3.
Departs from the code: the prefix is the prompt of a prompt/completion row and the first half of any other, where the
code's fixed 200-token rows have tokens 100 to 149.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from palimpsest.audit.bleu import sentence_bleu
from palimpsest.audit.refine import Utility, enough_pass
from palimpsest.audit.refinement import Refinement
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import MissingExtra, PlanError
from palimpsest.loop.stopping import Check

NEW_TOKENS = 50
BEAMS = 2

Test = Callable[[str, str], bool]


class ContinuationTest:
    """Examples whose continuation still resembles the text go on."""

    def __init__(
        self,
        forget: TextSet,
        tokenizer: Any,
        forgotten: Test,
        utility: Utility | None,
        *,
        eos_ids: Sequence[int],
        share: float = 1.0,
    ) -> None:
        self._forget = forget
        self._tokenizer = tokenizer
        self._forgotten = forgotten
        self._utility = utility or Utility({}, None)
        self._eos_ids = list(eos_ids)
        self._share = share

    def check(self, model: nn.Module, step: int) -> Check:
        """Continue every forget example and compare."""
        was_training = model.training
        model.eval()
        active = tuple(i for i in self._forget.ids if not self._passes(model, self._forget[i]))
        model.train(was_training)
        found = {"forget.remembered": len(active) / len(self._forget)}
        found |= self._utility.measure(model)
        enough = enough_pass(len(active), len(self._forget), self._share)
        return Check(active, found, self._utility.broken(found), enough)

    def _passes(self, model: Any, sequence: TokenSequence) -> bool:
        prompt, reference = split(sequence)
        inputs = torch.tensor([prompt], device=model.device)
        with torch.no_grad():
            output = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=len(reference),
                num_beams=BEAMS,
                do_sample=False,
                eos_token_id=self._eos_ids or None,
                pad_token_id=self._forget.pad_id,
            )
        candidate = output[0, len(prompt) :].tolist()
        return self._forgotten(self._text(candidate), self._text(reference))

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def split(sequence: TokenSequence) -> tuple[list[int], list[int]]:
    """Prefix and what follows it, at most 50 tokens.

    >>> split(TokenSequence("a", (1, 2, 3, 4), (False, True, True, True)))
    ([1, 2], [3, 4])
    """
    first = sequence.scored.index(True)
    cut = first if first > 1 else len(sequence.tokens) // 2
    return list(sequence.tokens[:cut]), list(sequence.tokens[cut : cut + NEW_TOKENS])


def lower_words(text: str) -> list[str]:
    """Lower-case words and punctuation marks, each by itself.

    >>> lower_words("It's 5pm.")
    ['it', "'", 's', '5pm', '.']
    """
    return re.findall(r"\w+|[^\w\s]", text.lower())


def continuation_test(config: Refinement, forget: TextSet, loaded: Any, utility: Utility | None) -> ContinuationTest:
    """The test that a config names.

    Args:
        config: its ``test`` is "bleu" or "bertscore".
        forget: the forget set.
        loaded: model and tokenizer.
        utility: watched beside, or None.

    Raises:
        PlanError: the model has no tokenizer.
        MissingExtra: "bertscore" without its package.
    """
    if loaded.tokenizer is None:
        raise PlanError(f"refine.test {config.test!r} compares texts and the model has no tokenizer; use 'extraction'")
    similar = _bertscore_f1() if config.test == "bertscore" else None

    def forgotten(candidate: str, reference: str) -> bool:
        if sentence_bleu(lower_words(candidate), lower_words(reference)) < config.bleu:
            return True
        return similar is not None and similar(candidate, reference) < config.bertscore

    return ContinuationTest(
        forget, loaded.tokenizer, forgotten, utility, eos_ids=sorted(loaded.eos_ids), share=config.share
    )


def _bertscore_f1() -> Callable[[str, str], float]:
    """BERTScore F1 as the published code has it: bert-base-uncased, layer 9, no rescaling."""
    try:
        from bert_score import BERTScorer
    except ImportError as error:
        raise MissingExtra("bert-score", "bertscore", "refine.test = bertscore") from error
    scorer = BERTScorer(model_type="bert-base-uncased", num_layers=9)
    return lambda candidate, reference: float(scorer.score([candidate], [reference])[2].item())
