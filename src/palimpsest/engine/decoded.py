"""What metrics that decode are taken of, and what that may cost. Nothing here imports torch.

Decoding goes on from every prefix of a text that is not known by heart, so it costs about half the square of the text's
length in positions, where all other metrics together cost its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from palimpsest.in_words import so_many

if TYPE_CHECKING:
    from palimpsest.data.encode.batch import TextSet, TokenSequence
    from palimpsest.engine.plan import Plan
    from palimpsest.metrics.metric import Metric


def decoding(metrics: Sequence[Metric]) -> list[Metric]:
    """Those that decode."""
    return [metric for metric in metrics if metric.decoding is not None]


def decodes_before(plan: Plan, metrics: Mapping[str, Sequence[Metric]]) -> bool:
    """Is anything decoded before the run?

    Not before a learn: hardly a word of what is to be learned is known yet, so nearly every prefix would be decoded,
    which takes longer than to learn it. Unless the metrics are named, or a gate is held against the value before.
    """
    if plan.kind != "learn" or "metrics" in plan.measuring.model_fields_set:
        return True
    keys = {metric.key for found in metrics.values() for metric in decoding(found)}
    return any(g.relative_to == "before" and g.metric in keys for g in (*(plan.gates or ()), *plan.bounds))


def most_positions(examples: TextSet, metrics: Sequence[Metric]) -> int:
    """Positions that decoding takes if no prefix is known: an upper bound, near ties apart.

    Prefix i of a text of T tokens is continued up to T; its first token is known from the pass that all metrics share.
    """
    wanted = [metric.decoding for metric in metrics if metric.decoding is not None]
    if not wanted:
        return 0
    first, n = min(d.first_prefix for d in wanted), min(d.n for d in wanted)
    return sum(_most(examples[i], first, n) for i in examples.ids)


def _most(sequence: TokenSequence, first_prefix: int, n: int) -> int:
    length = len(sequence.tokens)
    first = max(first_prefix, sequence.scored.index(True) if any(sequence.scored) else length)
    return sum(length - prefix - 1 for prefix in range(first, length - n + 1))


def cost_said(examples: TextSet, metrics: Sequence[Metric], all_rows: int) -> str:
    """What decoding will cost, for who waits; empty where nothing is decoded.

    Args:
        examples: that are decoded.
        metrics: of the set.
        all_rows: examples that the other metrics are taken of.
    """
    names = ", ".join(metric.key for metric in decoding(metrics))
    if not names:
        return ""
    return f"({names} of {_of(len(examples), all_rows)}: at most {most_positions(examples, metrics):,} positions)"


def decoded_notes(plan: Plan, sizes: Mapping[str, int], metrics: Mapping[str, Sequence[Metric]]) -> list[str]:
    """What a reader of the result should know: of how many examples, and what was left out.

    Args:
        plan: of the run.
        sizes: set -> its examples.
        metrics: set -> those that it was measured by.
    """
    names = sorted({metric.key for found in metrics.values() for metric in decoding(found)})
    if not names:
        return []
    measuring, listed, notes = plan.measuring, ", ".join(names), []
    rows = {name: min(sizes[name], measuring.limit) for name, found in metrics.items() if decoding(found)}
    parts = [f"{measuring.decoded_limit} of {n} {name}" for name, n in rows.items() if n > measuring.decoded_limit]
    if parts:
        notes.append(f"{listed}: of {', '.join(parts)} examples (measuring.decoded_limit).")
    if not decodes_before(plan, metrics):
        why = "what is not known yet takes longer to decode than to learn"
        notes.append(f"{listed}: not taken before a learn, {why}; name it in measuring.metrics to have it.")
    return notes


def _of(part: int, whole: int) -> str:
    return f"{part} of {so_many(whole, 'row')}" if part < whole else so_many(whole, "row")
