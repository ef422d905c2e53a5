"""MA and EL_10 against their literal definitions: same values, how much faster.

The literal loop is what published code does: per batch of 8 one ``generate`` call per prefix for MA (199 of them, one
token each) and one per prefix for EL (up to the full length). Only its ``generate`` calls are timed, not its n-gram
matching. Ours is timed whole: teacher-forced pass, decoding, counting, bootstrap intervals. Everything runs in one
process with one thread count; on a busy machine ``--clock cpu`` counts this process's own seconds instead of
wall-clock seconds, for both sides. The model is a GPT-Neo of a million parameters, trained here on seeded sequences
until the wanted share of its arg-maxes is right.

    python benchmarks/extraction.py              # every literal call, values compared on every example
    python benchmarks/extraction.py --quick      # every 11th prefix of one batch, literal times extrapolated
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import GPTNeoConfig, GPTNeoForCausalLM, PreTrainedModel

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics.el import EL, ELOptions, overlaps
from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.ma import MA

N, LITERAL_BATCH, QUICK_STRIDE = 10, 8, 11
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]


@dataclass
class Literal:
    """What the literal loop gave and took.

    Attributes:
        ma_seconds, el_seconds: prefix length -> seconds of its calls, scaled to all examples.
        hits: (example, prefix length) -> is the next token right?
        overlap: (example, prefix length) -> OV_n.
    """

    ma_seconds: dict[int, float] = field(default_factory=dict)
    el_seconds: dict[int, float] = field(default_factory=dict)
    hits: dict[tuple[int, int], bool] = field(default_factory=dict)
    overlap: dict[tuple[int, int], float] = field(default_factory=dict)


class RecordingEL(EL):
    """EL that also keeps OV_n of every prefix, to be compared one by one."""

    def __init__(self, first_prefix: int) -> None:
        super().__init__(ELOptions(n=N, first_prefix=first_prefix))
        self.overlap: dict[tuple[int, ...], list[float]] = {}

    def update(self, facts):
        first = max(self.config.first_prefix, int(facts.scored_S[0]))
        row = tuple(facts.tokens_T.tolist())
        self.overlap[row] = overlaps(facts.tokens_T, facts.greedy, n=N, first=first).tolist()
        return super().update(facts)


def make_model(vocabulary: int, length: int) -> PreTrainedModel:
    config = GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_layers=4,
        num_heads=4,
        attention_types=[[["global", "local"], 2]],
        max_position_embeddings=max(256, length),
        window_size=256,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPTNeoForCausalLM(config)


def accuracy(model: PreTrainedModel, rows: torch.Tensor) -> float:
    model.eval()
    with torch.inference_mode():
        right = [(model(part).logits[:, :-1].argmax(-1) == part[:, 1:]).float().mean() for part in rows.split(8)]
    return float(torch.stack(right).mean())


def memorise(model: PreTrainedModel, rows: torch.Tensor, levels: list[float]) -> Iterator[PreTrainedModel]:
    """The model, each time it has reached the next level of MA."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    order = torch.Generator().manual_seed(0)
    for level in sorted(levels):
        while accuracy(model, rows[:16]) < level:
            model.train()
            for batch in rows[torch.randperm(len(rows), generator=order)].split(8)[:2]:
                model(batch, labels=batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        yield model.eval()


def ngrams(tokens: list[int]) -> list[tuple[int, ...]]:
    return [tuple(tokens[k : k + N]) for k in range(len(tokens) - N + 1)]


def literal(model: PreTrainedModel, rows: torch.Tensor, clock: Clock, *, quick: bool) -> Literal:
    """The loop of the definition; in quick mode a part of it, with times scaled up."""
    found = Literal()
    length = rows.shape[1]
    batches = rows.split(LITERAL_BATCH)[: 1 if quick else None]
    prefixes = range(1, length, QUICK_STRIDE if quick else 1)
    scale = len(rows) / sum(len(batch) for batch in batches)
    _generate(model, rows[:1, :1], 2)
    for prefix in prefixes:
        found.ma_seconds[prefix] = found.el_seconds[prefix] = 0.0
        for number, batch in enumerate(batches):
            started = clock()
            next_token = _generate(model, batch[:, :prefix], prefix + 1)
            between = clock()
            whole = _generate(model, batch[:, :prefix], length)
            found.ma_seconds[prefix] += scale * (between - started)
            found.el_seconds[prefix] += scale * (clock() - between)
            for k, row in enumerate(batch):
                example = number * LITERAL_BATCH + k
                found.hits[example, prefix] = bool(next_token[k, prefix] == row[prefix])
                if prefix <= length - N:
                    reference = ngrams(row[prefix:].tolist())
                    matches = sum(g in set(reference) for g in ngrams(whole[k, prefix:].tolist()))
                    found.overlap[example, prefix] = matches / len(reference)
    return found


def _generate(model: PreTrainedModel, prompts: torch.Tensor, length: int) -> torch.Tensor:
    return model.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_length=length, do_sample=False, pad_token_id=0
    )


def median_of(times: int, work: Callable[[], object], clock: Clock) -> float:
    """Median seconds of several runs."""
    seconds = []
    for _ in range(times):
        started = clock()
        work()
        seconds.append(clock() - started)
    return statistics.median(seconds)


def icu_epoch(model: PreTrainedModel, rows: torch.Tensor, clock: Clock) -> float:
    """Seconds of one epoch: forget and partner rows forward and backward, and Adam, in batches of 8."""
    model = copy.deepcopy(model).train()
    partners = rows.roll(1, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-6, betas=(0.9, 0.98))

    def epoch() -> None:
        for batch, partner in zip(rows.split(8), partners.split(8), strict=True):
            loss = 0.5 * model(partner, labels=partner).loss - model(batch, labels=batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return median_of(3, epoch, clock)


def compare(
    rows: torch.Tensor, by_prefix: Literal, metric: RecordingEL, ma: dict[str, float], el: dict[str, float]
) -> str:
    """Largest difference between the literal values and ours."""
    prefixes = sorted(by_prefix.ma_seconds)
    first = metric.config.first_prefix
    worst = 0.0
    for example in sorted({example for example, _ in by_prefix.hits}):
        ours = metric.overlap[tuple(rows[example].tolist())]
        theirs = {
            p: by_prefix.overlap[example, p] for p in prefixes if (example, p) in by_prefix.overlap and p >= first
        }
        worst = max([worst, *(abs(value - ours[p - first]) for p, value in theirs.items())])
        if len(prefixes) == rows.shape[1] - 1:
            worst = max(worst, abs(sum(theirs.values()) / len(theirs) - el[str(example)]))
            hits = [by_prefix.hits[example, p] for p in prefixes]
            worst = max(worst, abs(sum(hits) / len(hits) - ma[str(example)]))
    return "equal" if worst <= 1e-9 else f"DIFFERENT by {worst:.2g}"


def extrapolated(seconds: dict[int, float], first: int, rows: torch.Tensor) -> float:
    """Seconds of all prefixes from ``first`` on, when only some were timed (when all were: their sum)."""
    timed = [value for prefix, value in seconds.items() if prefix >= first]
    return sum(timed) / len(timed) * (rows.shape[1] - first)


def report(level: float, model: PreTrainedModel, rows: torch.Tensor, clock: Clock, *, quick: bool) -> bool:
    """Print the lines of one level; True when every value agreed."""
    examples = TextSet(
        [TokenSequence(str(k), tuple(row), (False, *[True] * (len(row) - 1))) for k, row in enumerate(rows.tolist())], 0
    )
    by_prefix = literal(model, rows, clock, quick=quick)
    epoch = icu_epoch(model, rows, clock)
    agreed = True
    for first in (150, 1):
        metric = RecordingEL(first)
        scores = evaluate(model, examples, [MA(), metric])  # also the warm-up
        seconds = median_of(3, lambda metric=metric: evaluate(model, examples, [MA(), EL(metric.config)]), clock)
        ma, el = scores.scores["ma"], scores.scores["el_10"]
        reference = extrapolated(by_prefix.ma_seconds, 1, rows) + extrapolated(by_prefix.el_seconds, first, rows)
        verdict = compare(rows, by_prefix, metric, dict(ma.by_id), dict(el.by_id))
        agreed &= verdict == "equal"
        print(
            f"{level:>5.2f} {ma.value:>6.3f} {el.value:>7.4f} {first:>6} {reference:>10.1f} {seconds:>8.2f} "
            f"{reference / seconds:>7.1f}x {epoch:>8.2f} {seconds / epoch:>6.2f} {scores.cost.tokens:>9} {verdict}",
            flush=True,
        )
    return agreed


def read_rows(file: Path) -> torch.Tensor:
    """Rows of {"id", "input_ids"}, cut to the shortest."""
    rows = [json.loads(line)["input_ids"] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    shortest = min(map(len, rows))
    return torch.tensor([row[:shortest] for row in rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer literal calls, times extrapolated")
    parser.add_argument("--levels", default="0.9,0.5", help="wanted MA, comma-separated")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads for everything")
    parser.add_argument("--data", type=Path, help='JSONL of {"id", "input_ids"} instead of seeded random tokens')
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="what seconds are counted")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    rows = read_rows(options.data) if options.data else torch.randint(0, 2048, (32, 200))
    model = make_model(max(2048, int(rows.max()) + 1), rows.shape[1])
    size = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"GPT-Neo of {size:,} parameters, {len(rows)} sequences of {rows.shape[1]} tokens, "
        f"{options.threads} thread(s), {options.clock} clock"
    )
    if options.quick:
        print(
            f"QUICK: literal loop on every {QUICK_STRIDE}th prefix of {LITERAL_BATCH} examples, its time extrapolated"
        )
    print("level     MA   EL_10  first  literal s   ours s    ratio  epoch s   /epoch   tokens values")
    agreed = True
    for level, trained in zip(
        sorted(map(float, options.levels.split(","))),
        memorise(model, rows, [float(level) for level in options.levels.split(",")]),
        strict=True,
    ):
        agreed &= report(level, trained, rows, CLOCKS[options.clock], quick=options.quick)
    return 0 if agreed else 1


if __name__ == "__main__":
    raise SystemExit(main())
