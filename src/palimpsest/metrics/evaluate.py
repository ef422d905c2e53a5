"""Metrics of a model of any family over a set of examples.

Shape legend: B examples of a batch, T tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from palimpsest.data.encode.any_set import MeasuredSet
from palimpsest.data.encode.batch import TextBatch, TextSet
from palimpsest.metrics.class_facts import FactsById, class_facts
from palimpsest.metrics.greedy.chains import Texts, find_chains
from palimpsest.metrics.greedy.choice import Tally
from palimpsest.metrics.greedy.decode import Rules, decode_chains
from palimpsest.metrics.metric import Ask, Facts, Greedy, Metric, Statistics
from palimpsest.metrics.peak import PeakMemory
from palimpsest.metrics.teacher import Extent, TeacherPass, argmax_of_prefixes, read_teacher
from palimpsest.metrics.unserved import refuse_batch, refuse_call, unserved
from palimpsest.metrics.vocabulary import Vocabulary
from palimpsest.models.families import family_named
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.passes import passes_through
from palimpsest.models.text_config import vocabulary_of
from palimpsest.records import Answer, Cost, ProbedClass, Score

Progress = Callable[[int, int], None]

ROWS_AT_ONCE = 32
SHORT_POSITIONS = 4096
"""Short texts go through together in greater numbers: a small model's seconds are those of its calls."""
LEAST_SPARE = 2**26  # bytes; a small model is measured in large batches, which cost nothing beside its process


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on one set.

    Attributes:
        scores: metric key -> score.
        cost: seconds, token positions through the model (teacher-forced with padding, decoded, re-checked), and peak
            memory as ``PeakMemory`` takes it.
        near_ties: positions where the two most likely tokens nearly tied; in fp32 they were decided by a forward pass
            over exactly the prefix, in half precision by the lowest id among exact ties.
        answers: what the model says to prompts of the set, where the caller asked it and put them here.
        probe: name of a class -> what a linear probe finds of it in the features, likewise.
    """

    scores: dict[str, Score]
    cost: Cost
    near_ties: int
    answers: tuple[Answer, ...] = ()
    probe: Mapping[str, ProbedClass] = field(default_factory=dict)


@dataclass(frozen=True)
class PassSettings:
    """How examples go through the model. Only ``pad_id`` can change a value by more than rounding.

    Attributes:
        pad_id: what fills a generation up afterwards (it matters only to EL, and only where the text repeats it);
            default: the lowest of ``eos_ids``, since published code pads with the end-of-sequence token.
        cache_bytes: memory for keys and values of chains that are decoded together.
        logits_bytes: memory for the B x T x V logits of a pass; one example is always taken.
        by_length: put texts of similar lengths into a batch; else batches follow the order of the set.
        fused: let fused kernels compute what transformers does step by step.
    """

    pad_id: int | None = None
    cache_bytes: int = 2**28
    logits_bytes: int = 2**28
    by_length: bool = True
    fused: bool = True


_USUAL = PassSettings()


def evaluate(
    model: nn.Module,
    examples: MeasuredSet,
    metrics: Sequence[Metric],
    *,
    eos_ids: frozenset[int] = frozenset(),
    beside: nn.Module | None = None,
    batch_size: int = ROWS_AT_ONCE,
    settings: PassSettings = _USUAL,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure all metrics with one teacher-forced pass per batch, and what they ask for besides only where one asks.

    Of images there is one forward pass per batch, and they are not augmented. A metric that asks for what nobody serves
    (a second model that was not given) is unscored, with the reason.

    The model is in eval mode meanwhile and each of its modules as before afterwards; no random number is drawn from
    torch, and the model's generation settings are neither read nor changed: decoding is greedy.

    Args:
        model: that takes the batches of the examples; used on the device it is on.
        examples: any number, any lengths; batches of texts are made of similar lengths.
        metrics: keys must differ.
        eos_ids: tokens that end a generation.
        beside: a second model, for metrics that compare the two; on its device.
        batch_size: most examples per teacher-forced pass. Results do not depend on it.
        settings: how batches are made and what memory they may take.
        progress: called after each batch with (examples done, all examples).

    Raises:
        PlanError: two metrics with one key, one that cannot be taken of such examples, or a batch size below 1.
        DataError: an example the model cannot take.
        DivergedError: the model's logits are not finite.
    """
    refuse_call(metrics, batch_size, examples)
    why = {metric.key: unserved(metric, examples, beside) for metric in metrics}
    reader = _Reader(
        model,
        metrics=tuple(metric for metric in metrics if not why[metric.key]),
        rules=_rules(eos_ids, settings, next(model.parameters()).device),
        beside=beside,
        settings=settings,
        tally=Tally(),
    )
    started = time.perf_counter()
    with PeakMemory(reader.rules.eos_ids.device) as peak, in_eval_mode(*reader.networks), torch.inference_mode():
        statistics = reader.statistics(examples, batch_size, progress or _silent)
    cost = Cost(time.perf_counter() - started, reader.tally.positions, peak.bytes)
    nothing: dict[str, Statistics | None] = dict.fromkeys(examples.ids)
    scores = {m.key: m.compute(statistics.get(m.key, nothing), why=why[m.key]) for m in metrics}
    units = {m.key: m.unit_of(family_named(examples.family).takes) for m in metrics}
    scores = {key: replace(score, unit=units[key]) for key, score in scores.items()}
    return Evaluation(scores, cost, reader.tally.near_ties)


def evaluate_in_run(
    model: nn.Module,
    examples: MeasuredSet,
    metrics: Sequence[Metric],
    *,
    eos_ids: frozenset[int] = frozenset(),
    progress: Progress | None = None,
) -> Evaluation:
    """``evaluate`` in the memory that a training step has: logits, keys and values take the place of the gradients."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    spare = max(LEAST_SPARE, weights // 2)
    settings = PassSettings(cache_bytes=spare, logits_bytes=spare)
    rows = max(ROWS_AT_ONCE, SHORT_POSITIONS // _longest(examples))
    return evaluate(model, examples, metrics, eos_ids=eos_ids, batch_size=rows, settings=settings, progress=progress)


def _longest(examples: MeasuredSet) -> int:
    """Tokens of the longest text; an image counts as a long one."""
    lengths = (len(examples[i].tokens) for i in examples.ids) if hasattr(examples, "__getitem__") else ()
    return max(lengths, default=SHORT_POSITIONS)


def _bytes_per_position(model: Any) -> int:
    """Memory for the logits after one token."""
    return (vocabulary_of(model) or 1) * int(next(model.parameters()).element_size())


def _batches(examples: TextSet, order: Sequence[str], batch_size: int, num_positions: int) -> Iterator[Sequence[str]]:
    """Ids, sorted by length, cut so that a padded batch has at most so many examples and positions."""
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < min(start + batch_size, len(order)):
            if (stop + 1 - start) * len(examples[order[stop]].tokens) > num_positions:
                break
            stop += 1
        yield order[start:stop]
        start = stop


@dataclass(frozen=True)
class _Reader:
    """Turns batches into facts about their examples, and those into the statistics of metrics."""

    model: nn.Module
    metrics: tuple[Metric, ...]
    rules: Rules
    beside: nn.Module | None
    settings: PassSettings
    tally: Tally

    @cached_property
    def asks(self) -> frozenset[Ask]:
        """Of all metrics together."""
        return frozenset(ask for metric in self.metrics for ask in metric.asks)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What is asked of the whole predictions."""
        moments = bool({Ask.LIKELIHOOD, Ask.MOMENTS} & self.asks)
        return Vocabulary(moments, self.beside if Ask.BESIDE in self.asks else None)

    @property
    def networks(self) -> list[nn.Module]:
        """That are asked."""
        return [network for network in (self.model, self.vocabulary.beside) if network is not None]

    def statistics(
        self, examples: MeasuredSet, batch_size: int, progress: Progress
    ) -> dict[str, dict[str, Statistics | None]]:
        """Metric key -> example -> statistics, in the order of the data."""
        found: dict[str, dict[str, Statistics | None]] = {m.key: dict.fromkeys(examples.ids) for m in self.metrics}
        done = 0
        for batch_facts in self.all_facts(examples, batch_size):
            for example_id, facts in batch_facts:
                for metric in self.metrics:
                    found[metric.key][example_id] = metric.update(facts)
            done += len(batch_facts)
            progress(done, len(examples))
        return found

    def all_facts(self, examples: MeasuredSet, batch_size: int) -> Iterator[FactsById]:
        """Facts about each example of a set, a batch at a time."""
        family = family_named(examples.family)
        if not family.reads_prefixes or not isinstance(examples, TextSet):
            eos_ids = frozenset() if family.has_classes else frozenset(self.rules.eos_ids.tolist())
            with passes_through(self.model) as passes:
                yield from class_facts(self.model, examples, batch_size, self.vocabulary.look, eos_ids)
            self.tally.positions += passes.tokens
            return
        order: Sequence[str] = examples.ids
        if self.settings.by_length:
            order = sorted(order, key=lambda i: len(examples[i].tokens))
        num_positions = self.settings.logits_bytes // _bytes_per_position(self.model)
        for ids in _batches(examples, order, batch_size, num_positions):
            batch = examples.batch(ids)
            refuse_batch(self.model, batch)
            for _, together in batch.apart(self.model):
                yield list(self.facts(together.to(self.rules.eos_ids.device)))

    def facts(self, batch: TextBatch) -> Iterator[tuple[str, Facts]]:
        """Facts about each example of a batch."""
        decodings = [metric.decoding for metric in self.metrics if metric.decoding is not None]
        relevant_BT = batch.scored_BT
        first_B = batch.lengths_B
        if decodings:
            first_B = _first_prefixes(batch, min(d.first_prefix for d in decodings))
            positions_T = torch.arange(batch.input_ids_BT.shape[1], device=first_B.device)
            continued_BT = (positions_T >= first_B[:, None]) & (positions_T < batch.lengths_B[:, None])
            relevant_BT = relevant_BT | continued_BT
        extent = Extent(cached=bool(decodings), whole=self.vocabulary.wanted, fused=self.settings.fused)
        reading = read_teacher(self.model, batch, relevant_BT, self.tally, extent)
        greedy: Sequence[Greedy | None] = [None] * len(batch)
        if decodings:
            shortest = min(d.n for d in decodings)
            argmax_BT = argmax_of_prefixes(
                self.model, batch, reading.argmax_BT, relevant_BT, self.tally, fused=self.settings.fused
            )
            texts = Texts(batch.input_ids_BT, batch.lengths_B, argmax_BT, first_B, shortest)
            greedy = self._continue(texts, reading.cache)
        spoken = self.vocabulary.look(batch, reading.said)
        for row, example_id in enumerate(batch.ids):
            facts = _facts(batch, reading, row, self.rules.eos_ids, greedy[row])
            yield example_id, replace(facts, moments=spoken[row].moments, kl_S=spoken[row].kl_S)

    def _continue(self, texts: Texts, cache: DynamicCache | None) -> list[Greedy]:
        chains = find_chains(texts, self.rules.eos_ids)
        tokens_CT = decode_chains(self.model, texts, chains, self.rules, cache=cache, tally=self.tally)
        found = []
        for row, length in enumerate(texts.lengths_B.tolist()):
            mine_C = chains.row_C == row
            found.append(Greedy(chains.end_C[mine_C].cpu().numpy(), tokens_CT[mine_C, :length].cpu().numpy()))
        return found


def _facts(batch: TextBatch, reading: TeacherPass, row: int, eos_ids: Int[Tensor, "E"], greedy: Greedy | None) -> Facts:
    length = int(batch.lengths_B[row])
    tokens_T = batch.input_ids_BT[row, :length]
    scored_S = batch.scored_BT[row, :length].nonzero()[:, 0]
    label_S = tokens_T[scored_S]
    return Facts(
        tokens_T=tokens_T.cpu().numpy(),
        scored_S=scored_S.cpu().numpy(),
        right_S=(reading.argmax_BT[row, scored_S] == label_S).cpu().numpy(),
        logp_S=reading.logp_BT[row, scored_S].cpu().numpy(),
        ends_with_eos=bool(torch.isin(label_S[-1:], eos_ids).any()),
        greedy=greedy,
    )


def _first_prefixes(batch: TextBatch, first_prefix: int) -> Int[Tensor, "B"]:
    """Length of the shortest prefix that is continued: not inside a prompt; the whole length without label tokens."""
    labels_B = batch.scored_BT.any(1)
    first_label_B = batch.scored_BT.long().argmax(1).clamp(min=first_prefix)
    return torch.where(labels_B, first_label_B, batch.lengths_B)


def _rules(eos_ids: frozenset[int], settings: PassSettings, device: torch.device) -> Rules:
    fill = settings.pad_id if settings.pad_id is not None else min(eos_ids, default=-1)
    return Rules(torch.tensor(sorted(eos_ids), dtype=torch.long, device=device), fill, settings.cache_bytes)


def _silent(done: int, total: int) -> None:
    """Nobody wants to know."""
