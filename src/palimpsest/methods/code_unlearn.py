"""CodeUnlearn, its unlearn side: find the codes that fire for a topic, and delete them. Nothing is trained.

Source: "CodeUnlearn: Amortized Zero-Shot Machine Unlearning in Language Models Using Discrete Concept", ICLR 2025
submission; known from notes on the paper and its reviews, not from its text.

    R(k) = log2( (f_T(k) + e) / (f_~T(k) + e) ),   deleted_k ← 1  where  R(k) ≥ r  and  p(χ²(k)) < significance / tested

f counts the rows in which code k is among the S' nearest of some token: of the rows to forget, and of the same rows
with the topic's words replaced (the set ``unrelated``). With ``topic`` the counts come from the index that
``code_learn`` left beside the model, the rows of all other subjects being the control: a table is looked up and no row
is read.

The weights stay. What was deleted is a mask in the codebook, by request, which ``palimpsest parts --undo`` lifts; so
knowledge is cut off behind the bottleneck and not erased before it, as a probe of the block's output shows. What is
calibrated takes part of the deletion back.

Departs from the paper: the paper leaves a deleted code out of the book; that is "reselect" here. "drop", the default,
leaves its place empty: in the notes' experiments it forgot more for the same number of codes. The test is Pearson's
with Bonferroni over the codes that were tested, and rare codes are not.
Official code: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.codes import Codes
from palimpsest.contract import Config, ExampleSet, Method, Phase
from palimpsest.errors import DataError, PlanError
from palimpsest.models.parts.code_firing import fired, the_codebook
from palimpsest.models.parts.code_place import state_names
from palimpsest.models.parts.code_tests import Firing, Found, best_of, codes_of_topic
from palimpsest.models.parts.codebook import Codebook


class CodeUnlearnConfig(Config):
    """Options of deleting codes."""

    semantics: Literal["drop", "reselect"] = "drop"
    """"drop": the place of a deleted code stays empty; "reselect": the next best code takes it."""
    s_prime: int = Field(default=0, ge=0)
    """S', nearest codes of a token that count as firing, at least as many as are chosen; 0 = those that are chosen.
    More finds more codes, and hurts more of what stays."""
    min_enrichment: float = 1.0
    """r: log2 of how many times as often a code must fire with the topic as without."""
    significance: float = Field(default=0.05, gt=0, le=1)
    """Chance of deleting at least one code that is not of the topic; divided by the codes tested. 1 = no test."""
    least_rows: int = Field(default=5, ge=1)
    """Rows of both kinds together in which a code must fire, and not fire, to be tested."""
    pseudo: float = Field(default=0.5, gt=0)
    """e, rows added to both counts."""
    topic: str = ""
    """Subject, as the rows had it when they were learned: count from the index beside the model."""
    at: str = ""
    """Place of the codebook that is meant; needed where there are several."""
    random_codes: bool = False
    """Control: delete as many codes, drawn from all that fire in the rows, in the place of those found."""
    seed: int = 0
    """Of the draw of the control."""


def drawn_codes(among_K: Bool[Tensor, "K"], count: int, seed: int) -> Int[Tensor, "M"]:
    """So many of some codes, by a seed; all where there are fewer.

    >>> drawn_codes(torch.tensor([True, False, True]), 5, 0).tolist()
    [0, 2]
    """
    codes_M = among_K.nonzero()[:, 0]
    order = torch.randperm(len(codes_M), generator=torch.Generator().manual_seed(seed))
    found: Tensor = codes_M[order[:count]].sort().values
    return found


class CodeUnlearn(Method):
    """Delete the codes of a topic."""

    Config = CodeUnlearnConfig
    use_when = (
        "it learned with code_learn: a topic goes without any training. "
        "Not where the knowledge must be gone from the weights."
    )
    approach = "modules"
    needs = ("forget", "unrelated")
    modalities = ("text", "labels")
    keeps = ("codes",)
    needs_part = "codebook"
    edits = True

    def check(self, model: nn.Module) -> None:
        """The codebook that is meant is there, and a topic is one of its index."""
        book = the_codebook(model, self.config.at)
        if self.config.topic:
            self._of_index(book)

    def check_rows(self, sets: Mapping[str, ExampleSet]) -> None:
        """Some word of the topic is known.

        Raises:
            PlanError: the control is the rows themselves.
        """
        if not self.config.topic and not _differ(sets["forget"], sets["unrelated"]):
            raise PlanError(
                "code_unlearn: no word of the rows to forget was told to be of their topic; name its words (--set "
                "unrelated.words=[dog,dogs]), give rows that stay (--retain FILE), or a topic of the index "
                "(code_unlearn.topic)"
            )

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Count, test, and set the mask of the codes that are found."""
        book = the_codebook(model, self.config.at)
        counts = self._of_index(book) if self.config.topic else self._of_rows(model, book, sets)
        options = {name: getattr(self.config, name) for name in ("min_enrichment", "significance", "pseudo")}
        found = codes_of_topic(counts, least=self.config.least_rows, **options)
        which_M = self._chosen(book, counts, found)
        book.delete(which_M.to(book.deleted.device), self.config.semantics)
        return state_names(model, book, book.mixes)

    def _of_rows(self, model: nn.Module, book: Codebook, sets: Mapping[str, ExampleSet]) -> Firing:
        """Counts of the rows at hand.

        Raises:
            PlanError: the control is the rows themselves, or fewer codes are to count than are chosen.
        """
        self.check_rows(sets)
        nearest = self._nearest(book)
        with_NK, without_NK = (fired(model, book, sets[name], nearest) for name in ("forget", "unrelated"))
        return Firing(with_NK.sum(0), len(with_NK), without_NK.sum(0), len(without_NK))

    def _nearest(self, book: Codebook) -> int:
        least, most, said = book.config.chosen, book.config.codes, int(self.config.s_prime)
        if said and not least <= said <= most:
            raise PlanError(f"code_unlearn.s_prime = {said}: the codebook chooses {least} of {most}; accepted: between")
        return said or least

    def _of_index(self, book: Codebook) -> Firing:
        """Counts that are written down.

        Raises:
            PlanError: nothing is, or not of this topic, or with other nearest codes.
        """
        topic, index = self.config.topic, self.companions.get("codes")
        if not isinstance(index, Codes):
            raise PlanError(
                "code_unlearn.topic: no index lies beside the model; leave the topic out, and rows are read"
            )
        written = index.index()
        if written is not None and written.codes != book.config.codes:
            raise PlanError(
                "code_unlearn.topic: the index beside the model is of another codebook; leave the topic out"
            )
        if self.config.s_prime and written is not None and written.nearest != self.config.s_prime:
            raise PlanError(
                f"code_unlearn.s_prime = {self.config.s_prime}: the index counts {written.nearest} nearest codes of a "
                "token; accepted: that, or no topic"
            )
        counts = index.firing(topic)
        if counts is None:
            known = index.known_topics(self.subjects.values())
            raise PlanError(
                f"code_unlearn.topic = {topic!r}: no row in the index is of it, or none of anything else; accepted: a "
                f"subject of the rows that were learned{', such as ' + ', '.join(known[:5]) if known else ''}"
            )
        return counts

    def _chosen(self, book: Codebook, counts: Firing, found: Found) -> Int[Tensor, "M"]:
        """The codes to delete.

        Raises:
            DataError: there is none, or all are deleted already.
        """
        free_K = book.deleted.cpu() == 0
        which_M = (found.of_topic_K & free_K).nonzero()[:, 0]
        if not bool(found.of_topic_K.any()):
            raise DataError(
                f"code_unlearn: no code fires for the topic and not without it ({best_of(found)}); nothing was "
                "deleted; give more rows, all words of the topic (unrelated.words), a larger s_prime or a lower "
                "min_enrichment"
            )
        if not len(which_M):
            raise DataError("code_unlearn: all codes of the topic are deleted already; nothing was changed")
        if self.config.random_codes:
            fires_K = (counts.with_K + counts.without_K) > 0
            return drawn_codes(fires_K & free_K, len(which_M), self.config.seed)
        return which_M

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """None: an edit takes no steps."""
        return ()


def _differ(rows: ExampleSet, controls: ExampleSet) -> bool:
    """Is any row another than its control?"""
    pairs = zip(rows.plain().ids, controls.plain().ids, strict=True)
    return any(
        not _same_inputs(rows.plain().batch([i]).inputs(), controls.plain().batch([j]).inputs()) for i, j in pairs
    )


def _same_inputs(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


METHOD = CodeUnlearn
