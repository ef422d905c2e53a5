"""Metrics of a causal language model or an image classifier over a set of examples.

Shape legend: B examples of a batch, T tokens.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from palimpsest.data.encode.batch import TextBatch, TextSet
from palimpsest.data.encode.image import ImageSet
from palimpsest.errors import DataError, PlanError
from palimpsest.metrics import refuse_modality
from palimpsest.metrics.greedy.chains import Texts, find_chains
from palimpsest.metrics.greedy.choice import Tally
from palimpsest.metrics.greedy.decode import Rules, decode_chains
from palimpsest.metrics.image_facts import FactsById, image_facts
from palimpsest.metrics.metric import Facts, Greedy, Metric, Statistics
from palimpsest.metrics.peak import PeakMemory
from palimpsest.metrics.teacher import TeacherPass, argmax_of_prefixes, read_teacher
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.text_config import most_tokens, vocabulary_of
from palimpsest.records import Answer, Cost, Score

Progress = Callable[[int, int], None]

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
    """

    scores: dict[str, Score]
    cost: Cost
    near_ties: int
    answers: tuple[Answer, ...] = ()


def evaluate(
    model: nn.Module,
    examples: TextSet | ImageSet,
    metrics: Sequence[Metric],
    *,
    eos_ids: frozenset[int] = frozenset(),
    pad_id: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    cache_bytes: int = 2**28,
    logits_bytes: int = 2**28,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure all metrics with one teacher-forced pass per batch, and greedy decoding only where one asks for it.

    Of images there is one forward pass per batch, and they are not augmented.

    The model is in eval mode meanwhile and each of its modules as before afterwards; no random number is drawn from
    torch, and the model's generation settings are neither read nor changed: decoding is greedy.

    Args:
        model: a causal LM that takes ``input_ids`` and ``attention_mask``, or an image classifier that takes
            ``pixel_values``; used on the device it is on.
        examples: any number, any lengths; batches of texts are made of similar lengths.
        metrics: keys must differ.
        eos_ids: tokens that end a generation.
        pad_id: what fills a generation up afterwards (it matters only to EL, and only where the text repeats it);
            default: the lowest of ``eos_ids``, since published code pads with the end-of-sequence token.
        batch_size: most examples per teacher-forced pass. Results do not depend on it.
        seed: of the bootstrap intervals.
        cache_bytes: memory for keys and values of chains that are decoded together.
        logits_bytes: memory for the B x T x V logits of a pass; one example is always taken.
        progress: called after each batch with (examples done, all examples).

    Raises:
        PlanError: two metrics with one key, one that cannot be taken of images, or a batch size below 1.
        DataError: an example the model cannot take.
        DivergedError: the model's logits are not finite.
    """
    _refuse(metrics, batch_size, examples)
    device = next(model.parameters()).device
    tally = Tally()
    statistics: dict[str, dict[str, Statistics | None]] = {m.key: dict.fromkeys(examples.ids) for m in metrics}
    if isinstance(examples, ImageSet):
        tally.positions = len(examples)
        found = image_facts(model, examples, batch_size)
    else:
        reader = _Reader(model, tuple(metrics), _rules(eos_ids, pad_id, cache_bytes, device), tally)
        found = reader.all_facts(examples, batch_size, logits_bytes // _bytes_per_position(model))
    started = time.perf_counter()
    with PeakMemory(device) as peak, in_eval_mode(model), torch.inference_mode():
        done = 0
        for batch_facts in found:
            for example_id, facts in batch_facts:
                for metric in metrics:
                    statistics[metric.key][example_id] = metric.update(facts)
            done += len(batch_facts)
            if progress is not None:
                progress(done, len(examples))
    cost = Cost(time.perf_counter() - started, tally.positions, peak.bytes)
    scores = {metric.key: metric.compute(statistics[metric.key], seed=seed) for metric in metrics}
    if isinstance(examples, ImageSet):
        units = {metric.key: metric.image_unit or metric.unit for metric in metrics}
        scores = {key: replace(score, unit=units[key]) for key, score in scores.items()}
    return Evaluation(scores, cost, tally.near_ties)


def evaluate_in_run(
    model: nn.Module,
    examples: TextSet | ImageSet,
    metrics: Sequence[Metric],
    *,
    eos_ids: frozenset[int] = frozenset(),
    progress: Progress | None = None,
) -> Evaluation:
    """``evaluate`` in the memory that a training step has: logits, keys and values take the place of the gradients."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    spare = max(LEAST_SPARE, weights // 2)
    return evaluate(model, examples, metrics, eos_ids=eos_ids, cache_bytes=spare, logits_bytes=spare, progress=progress)


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
    """Turns a batch into facts about its examples."""

    model: nn.Module
    metrics: tuple[Metric, ...]
    rules: Rules
    tally: Tally

    def all_facts(self, examples: TextSet, batch_size: int, num_positions: int) -> Iterator[FactsById]:
        """Facts about each example of a set, a batch at a time."""
        device = next(self.model.parameters()).device
        order = sorted(examples.ids, key=lambda i: len(examples[i].tokens))
        for ids in _batches(examples, order, batch_size, num_positions):
            batch = examples.batch(ids)
            _refuse_batch(self.model, batch)
            for _, together in batch.apart(self.model):
                yield list(self.facts(together.to(device)))

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
        reading = read_teacher(self.model, batch, relevant_BT, self.tally, keeps_cache=bool(decodings))
        greedy: Sequence[Greedy | None] = [None] * len(batch)
        if decodings:
            shortest = min(d.n for d in decodings)
            argmax_BT = argmax_of_prefixes(self.model, batch, reading.argmax_BT, relevant_BT, self.tally)
            texts = Texts(batch.input_ids_BT, batch.lengths_B, argmax_BT, first_B, shortest)
            greedy = self._continue(texts, reading)
        for row, example_id in enumerate(batch.ids):
            yield example_id, _facts(batch, reading, row, self.rules.eos_ids, greedy[row])

    def _continue(self, texts: Texts, reading: TeacherPass) -> list[Greedy]:
        chains = find_chains(texts, self.rules.eos_ids)
        tokens_CT = decode_chains(self.model, texts, chains, self.rules, cache=reading.cache, tally=self.tally)
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


def _rules(eos_ids: frozenset[int], pad_id: int | None, cache_bytes: int, device: torch.device) -> Rules:
    fill = pad_id if pad_id is not None else min(eos_ids, default=-1)
    return Rules(torch.tensor(sorted(eos_ids), dtype=torch.long, device=device), fill, cache_bytes)


def _refuse(metrics: Sequence[Metric], batch_size: int, examples: TextSet | ImageSet) -> None:
    refuse_modality(metrics, "image" if isinstance(examples, ImageSet) else "text")
    repeated = sorted(key for key, count in Counter(metric.key for metric in metrics).items() if count > 1)
    if repeated:
        raise PlanError(f"metric asked for twice: {', '.join(repeated)}; name each once, or measure in two calls")
    if batch_size < 1:
        raise PlanError(f"batch_size is {batch_size}; accepted: 1 or more")


def _refuse_batch(model: nn.Module, batch: TextBatch) -> None:
    longest, vocabulary = most_tokens(model), vocabulary_of(model)
    for example_id, tokens_T, length in zip(batch.ids, batch.input_ids_BT, batch.lengths_B.tolist(), strict=True):
        if longest is not None and length > longest:
            raise DataError(
                f"example {example_id!r} has {length} tokens; the model takes at most {longest}: shorten it"
            )
        largest = int(tokens_T[:length].max())
        if vocabulary is not None and largest >= vocabulary:
            raise DataError(
                f"example {example_id!r} holds token id {largest}; the model knows the ids 0 to {vocabulary - 1}: "
                "encode it with the model's own tokenizer"
            )
