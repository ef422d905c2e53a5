"""CodeUnlearn, its unlearn side: find the codes that fire for a topic, and delete them. Nothing is trained.

Source: "CodeUnlearn: Amortized Zero-Shot Machine Unlearning in Language Models Using Discrete Concept", ICLR 2025
submission; known from notes on the paper and its reviews, not from its text.

    R(k) = log2( (f_T(k) + e) / (f_~T(k) + e) ),   deleted_k ← 1  where  R(k) ≥ r  and  p(χ²(k)) < significance / tested

f counts the rows in which code k is among the S' nearest of some token: of the rows to forget, and of a control. How
many of them go says ``choose``:

* "level" (default): the control is the rows that stay. All codes with R > 0 are ranked by the effect size of their
  tables, φ = √(χ² / rows), and deleted in that order: the fewest at which what is to be forgotten is at its level of
  never seen (``control/aim.py``), while  mean KL( p_before ‖ p ) ≤ B  on what stays; a code that would break that is
  passed over (``rules/fewest.py``). Forward passes alone;
* "test": those that pass, as in the paper; the control is the same rows with the topic's words replaced (the set
  ``unrelated``). So it is, too, where no row stays or nothing shows the level.

With ``topic`` the counts come from the index that ``code_learn`` left beside the model, the rows of all other subjects
being the control: a table is looked up, and with "test" no row is read.

The weights stay. What was deleted is a mask in the codebook, by request, which ``palimpsest parts --undo`` lifts; so
knowledge is cut off behind the bottleneck and not erased before it, as a probe of the block's output shows. What is
calibrated takes part of the deletion back.

Departs from the paper: the run chooses how many go, where the paper varies S'. The paper leaves a deleted code out of
the book ("reselect"); "drop", the default, leaves its place empty: in the notes it forgot more. The test is
Pearson's with Bonferroni over the codes that were tested, and rare codes are not.
Official code: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.codes import counts_of_topic
from palimpsest.contract import Config, ExampleSet, Method, Phase
from palimpsest.errors import DataError, PlanError
from palimpsest.in_words import so_many
from palimpsest.models.parts.code_firing import fired, the_codebook
from palimpsest.models.parts.code_place import state_names
from palimpsest.models.parts.code_tests import Firing, Found, best_of, by_effect_size, codes_of_topic
from palimpsest.models.parts.codebook import Codebook
from palimpsest.rules.codes_to_level import Limits, codes_to_level
from palimpsest.rules.damage_budget import Damage


class CodeUnlearnConfig(Config):
    """Options of deleting codes."""

    choose: Literal["level", "test"] = "level"
    """How many codes go: "level": as many as bring the topic to the level of never seen within the budget; "test":
    those that pass the test. Without --retain always the latter."""
    budget: float = Field(default=0.05, gt=0)
    """B: damage that is allowed, as the mean KL on retain in nats per scored position."""
    probe_rows: int = Field(default=64, ge=1)
    """Rows of retain on which the damage is read."""
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


_CONTROL = "a control deletes codes that are not of the topic"


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
    uses = ("retain",)
    reference_sets = frozenset({"retain"})
    modalities = ("text", "labels", "image")
    keeps = ("codes",)
    needs_part = "codebook"
    edits = True
    goes_to_level = True

    @classmethod
    def asks_reference_on(cls, config: Any) -> frozenset[str]:
        """Retain, whose damage is read, where it ends the deletion."""
        return cls.reference_sets if config.choose == "level" else frozenset()

    def check(self, model: nn.Module) -> None:
        """The codebook that is meant is there, and a topic is one of its index."""
        book = the_codebook(model, self.config.at)
        if self.config.topic:
            self._of_index(book)

    def check_rows(self, sets: Mapping[str, ExampleSet]) -> None:
        """Some word of the topic is known, or rows that stay are there to compare with.

        Raises:
            PlanError: the control is the rows themselves.
        """
        if not self.config.topic and not (self.config.choose == "level" and "retain" in sets):
            _check_differ(sets["forget"], sets["unrelated"])

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Nothing is deleted yet."""
        self._ended: tuple[str, str | None] = super().edit_ended()
        self._found: Mapping[str, float] = {}
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Count and test, choose how many, and set their mask."""
        book = the_codebook(model, self.config.at)
        aim = self.aim if self.config.choose == "level" and "retain" in sets else None
        counts = (
            self._of_index(book) if self.config.topic else self._of_rows(model, book, sets, by_level=aim is not None)
        )
        options = {name: getattr(self.config, name) for name in ("min_enrichment", "significance", "pseudo")}
        found = codes_of_topic(counts, least=self.config.least_rows, **options)
        free_K = book.deleted.cpu() == 0
        if aim is None:
            which_M = self._tested(found, free_K)
        else:
            order_M = by_effect_size(counts, found)
            how = Limits(Damage(self.recall, sets["retain"], self.config.probe_rows), self.config.budget)
            chosen = codes_to_level(model, book, order_M[free_K[order_M]].tolist(), (aim, how), self.config.semantics)
            which_M, self._found, self._ended = torch.tensor(chosen.codes), chosen.found, (chosen.why, chosen.short)
        if self.config.random_codes:
            fires_K = (counts.with_K + counts.without_K) > 0
            which_M = drawn_codes(fires_K & free_K, len(which_M), self.config.seed)
            self._ended = f"a control: {so_many(len(which_M), 'code')} deleted, drawn", _CONTROL
        book.delete(which_M.to(book.deleted.device), self.config.semantics)
        return state_names(model, book, book.mixes)

    def edit_ended(self) -> tuple[str, str | None]:
        """How many codes went and why no more; short where the topic is above its level."""
        return self._ended

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """Of a deletion by level: codes that went and that were ranked, the level, what is known, the damage."""
        return self._found

    def _of_rows(self, model: nn.Module, book: Codebook, sets: Mapping[str, ExampleSet], *, by_level: bool) -> Firing:
        """Counts of the rows at hand.

        Raises:
            PlanError: the control is the rows themselves, or fewer codes are to count than are chosen.
        """
        names = ("forget", "retain" if by_level else "unrelated")
        if not by_level:
            _check_differ(*(sets[name] for name in names))
        with_NK, without_NK = (fired(model, book, sets[name], self._nearest(book)) for name in names)
        return Firing(with_NK.sum(0), len(with_NK), without_NK.sum(0), len(without_NK))

    def _nearest(self, book: Codebook) -> int:
        least, most, said = book.config.chosen, book.config.codes, int(self.config.s_prime)
        if said and not least <= said <= most:
            raise PlanError(f"code_unlearn.s_prime = {said}: the codebook chooses {least} of {most}; accepted: between")
        return said or least

    def _of_index(self, book: Codebook) -> Firing:
        asked = self.config.topic, book.config.codes, self.config.s_prime
        return counts_of_topic(self.companions.get("codes"), asked, self.subjects.values())

    def _tested(self, found: Found, free_K: Bool[Tensor, "K"]) -> Int[Tensor, "M"]:
        """The codes that pass the test.

        Raises:
            DataError: there is none, or all are deleted already.
        """
        which_M = (found.of_topic_K & free_K).nonzero()[:, 0]
        if not bool(found.of_topic_K.any()):
            raise DataError(
                f"code_unlearn: no code fires for the topic and not without it ({best_of(found)}); nothing was "
                "deleted; give rows that stay (--retain FILE), all its words (unrelated.words), a larger s_prime or "
                "a lower min_enrichment"
            )
        if not len(which_M):
            raise DataError("code_unlearn: all codes of the topic are deleted already; nothing was changed")
        return which_M

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """None: an edit takes no steps."""
        return ()


def _check_differ(rows: ExampleSet, controls: ExampleSet) -> None:
    """Refuse rows none of which differs from its control.

    Raises:
        PlanError: no word was told to be of the topic.
    """
    pairs = zip(rows.plain().ids, controls.plain().ids, strict=True)
    if all(_same_inputs(rows.plain().batch([i]).inputs(), controls.plain().batch([j]).inputs()) for i, j in pairs):
        raise PlanError(
            "code_unlearn: no word of the rows to forget was told to be of their topic; name its words (--set "
            "unrelated.words=[dog,dogs]), give rows that stay (--retain FILE), or a topic of the index "
            "(code_unlearn.topic)"
        )


def _same_inputs(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


METHOD = CodeUnlearn
