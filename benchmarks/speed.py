"""What it costs to use palimpsest: beside transformers' Trainer, beside its own training, with more rows, at the start.

    python benchmarks/speed.py                       # all four, about ten minutes on one slow core
    python benchmarks/speed.py --parts rows start    # some of them

    step     one training step (8 rows of 128 tokens, fp32, AdamW, gradients clipped) at 260 thousand and 10 million
             parameters: ours, with its log and its draws, over that of transformers' Trainer with its default (fused)
             optimizer. Rounds of both take turns; each gives its shortest step after the first two.
    call     a whole unlearning of 20 steps, 40 rows of what a model of a million parameters learned by heart beside 80
             that stay, with loading, saving, both measurements and the report: over its training
    rows     100 to 100,000 rows: seconds of reading, digest, encoding, drawing a batch, the state in a checkpoint and a
             bootstrap interval, and the exponent of their growth over the last tenfold (1 = linear)
    start    seconds of ``palimpsest --help``; what importing it, the help and a refused command bring with them

Models are random, texts are made of random words; no data is needed. Seconds are CPU seconds of one thread, so that a
busy machine disturbs them little; the shortest of several counts. Exit code 1 where a claim (CLAIMS) does not hold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from speed_training import BATCH, CLAIMS, KNOWING, Claim, call, step, word_tokenizer, write_rows

ROWS = (100, 1_000, 10_000, 100_000)
HEAVY = ("torch", "transformers")


def exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """Growth over the last two: 1 where ten times the rows take ten times as long, 0 where they take as long.

    >>> round(exponent([10, 100, 1000], [5.0, 1.0, 10.0]), 6)
    1.0
    """
    return math.log(seconds[-1] / seconds[-2]) / math.log(counts[-1] / counts[-2])


def shortest(work: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the fastest of several goes."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


# -- rows --------------------------------------------------------------------------------------------------------------


def rows_seconds(folder: Path, count: int) -> dict[str, float]:
    """What is done once for all rows, and what is done at every step."""
    import numpy as np

    from palimpsest.data.encode.text import encode
    from palimpsest.data.read.examples import read_examples
    from palimpsest.engine.inputs import digests
    from palimpsest.loop.sampler import IdStream
    from palimpsest.loop.state import State
    from palimpsest.metrics.statistics import bootstrap

    path, tokenizer = folder / f"{count}.jsonl", word_tokenizer(KNOWING[-1])
    write_rows(path, count, seed=count)
    times = 1 if count >= ROWS[-1] else 3
    examples = read_examples(path)
    rows = encode(examples, tokenizer, max_length=None)
    ids = rows.ids
    beginning = State(IdStream("learn", ids, 0, cursor=count), {"replay": IdStream("replay", ids, 0)})
    _, stream = IdStream("learn", ids, 0).draw(1)  # the order of a cycle is made by its first draw
    state = State(stream, dict(beginning.sides))
    values = np.random.default_rng(0).random(count)

    def draws() -> None:
        drawing = stream
        for _ in range(min(90, count // BATCH)):
            _, drawing = drawing.draw(BATCH)

    return {
        "read": shortest(lambda: read_examples(path), times),
        "digest": shortest(lambda: digests({"learn": examples}), times),
        "encode": shortest(lambda: encode(examples, tokenizer, max_length=None), times),
        "first draw": shortest(lambda: IdStream("learn", ids, 0).draw(BATCH), times),
        "bootstrap": shortest(lambda: bootstrap(values), times),
        "draw": shortest(draws, 20) / min(90, count // BATCH),
        "state": shortest(lambda: [json.dumps(state.to_json(beginning)) for _ in range(100)]) / 100,
    }


def rows(folder: Path) -> Iterator[Claim]:
    """Growth with the rows."""
    found = {count: rows_seconds(folder, count) for count in ROWS}
    for name in found[ROWS[0]]:
        seconds = [found[count][name] for count in ROWS]
        grows = exponent(ROWS, seconds)
        print(f"rows {name:10} {' '.join(f'{s:10.6f}' for s in seconds)} s, exponent {grows:.2f}")
        if name == "draw":
            yield Claim("a draw of the most rows over one of the fewest", seconds[-1] / seconds[0], CLAIMS["draw"])
        else:
            yield Claim(f"exponent of {name}", grows, CLAIMS["exponent"])


# -- start -------------------------------------------------------------------------------------------------------------


def spawned(arguments: Sequence[str], times: int) -> float:
    """CPU seconds of the fastest of several processes of this Python."""
    found = []
    for _ in range(times):
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0  # it was waited for above
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


def brought(code: str) -> list[str]:
    """Heavy packages that a program imports."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return sorted(set(HEAVY) & set(done.stdout.split()))


STARTS: Mapping[str, str] = {
    "import palimpsest": "import palimpsest",
    "--help": "from palimpsest.cli import main; main(['--help'])",
    "a refusal": "from palimpsest.cli import main; main(['learn', '--model', './no', '--data', 'x', '-o', 'y'])",
}


def start(times: int = 9) -> Iterator[Claim]:
    """The command line before it does anything."""
    bare, seconds = spawned(["-c", "pass"], times), spawned(["-m", "palimpsest", "--help"], times)
    print(f"start --help: {seconds:.3f} s (Python alone {bare:.3f} s)")
    yield Claim("CPU seconds of --help", seconds, CLAIMS["help"])
    for name, code in STARTS.items():
        heavy = brought(code)
        print(f"start {name}: brings {', '.join(heavy) or 'neither ' + ' nor '.join(HEAVY)}")
        yield Claim(f"heavy packages that {name} brings", len(heavy), CLAIMS["heavy"])


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["start", "rows", "step", "call"], metavar="PART")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, for step")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in what is spawned
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as name:
        parts = {"start": start, "rows": lambda: rows(Path(name)), "call": lambda: call(Path(name))}
        parts["step"] = lambda: step(options.rounds)
        for part in options.parts:
            claims += parts[part]()
    for claim in claims:
        print(f"{'holds' if claim.holds else 'FAILS'}  {claim.what}: {claim.value:.2f}, at most {claim.most:g}")
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
