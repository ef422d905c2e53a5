"""What calibrating costs: peak memory beside the weights of a model, evaluations and seconds, by size.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --sizes 4x256,8x512,12x768 --rows 40

A GPT-2 with random weights and a vocabulary of 8,000 is taught a few rows by nobody: what matters here is its size. The
model after is the same with noise that ruins it, so that the bisection goes all the way. Every measurement is a process
of its own, one thread, its peak read as in ``memory.py`` (VmHWM, in which mapped files count), with large blocks given
back at once:

    imports     imports everything, loads nothing: subtracted from all others
    load        loads the model before: what one model costs here
    calibrate   the whole command into a new folder, the saved model loaded again and measured

The ratio is (calibrate − imports) / weights, to stay below 2; batches for measuring are in it (their memory is half the
weights, or 64 MiB for a small model), so small models are not shown. Exit code 1 when it is not. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from memory import GIVE_BACK, MIB, status

VOCABULARY = 8_000
LIMIT = 2.0
TOKENS = 32
STAGES = ("imports", "load", "calibrate")


def make(folder: Path, layers: int, width: int, rows: int) -> None:
    """Model before and after, with a tokenizer, and rows."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=width, n_layer=layers, n_head=max(1, width // 64), n_positions=64)
    words = Tokenizer(models.WordLevel({f"w{k}": k for k in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", eos_token="w0")
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder / "before")
    tokenizer.save_pretrained(folder / "before")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "after")
    tokenizer.save_pretrained(folder / "after")
    source = random.Random(0)
    with (folder / "retain.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = " ".join(f"w{source.randrange(1, VOCABULARY)}" for _ in range(TOKENS))
            file.write(json.dumps({"id": f"r{number}", "text": text}) + "\n")


def work(name: str, folder: Path) -> None:
    """One measurement, in this process; prints its peak as JSON."""
    import accelerate  # noqa: F401
    import torch

    import palimpsest.engine.calibrating
    import palimpsest.verbs
    from palimpsest.models.load import load

    torch.set_num_threads(1)
    found: dict[str, float] = {}
    started = time.perf_counter()
    if name == "load":
        load(folder / "before")
    elif name == "calibrate":
        result = palimpsest.verbs.calibrate(
            folder / "before",
            folder / "after",
            folder / "retain.jsonl",
            output=folder / "between",
            metric="nll",  # an untrained model has no es to keep
            threads=1,
        )
        found = {"alpha": result.calibration.alpha, "evaluations": result.calibration.evaluations}
    print(json.dumps({"peak": status("VmHWM"), "seconds": time.perf_counter() - started, **found}))


def measure(name: str, folder: Path) -> dict:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    source = str(Path(__file__).resolve().parents[1] / "src")
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    fixed = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **GIVE_BACK}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **fixed}, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def row(layers: int, width: int, rows: int) -> float:
    """Print the line of one size; its ratio."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-calibration-") as name:
        folder = Path(name)
        make(folder, layers, width, rows)
        weights = (folder / "before" / "model.safetensors").stat().st_size
        found = {stage: measure(stage, folder) for stage in STAGES}
    above = {stage: found[stage]["peak"] - found["imports"]["peak"] for stage in STAGES}
    ratio = above["calibrate"] / weights
    last = found["calibrate"]
    print(
        f"{f'{layers} x {width}':>10} {weights / 4e6:12.1f} {weights / MIB:12.0f} {above['load'] / weights:8.2f} "
        f"{ratio:10.2f} {last['evaluations']:12d} {last['seconds']:9.1f} {last['alpha']:8.3f}",
        flush=True,
    )
    return ratio


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="12x768,24x1024", help="layers x width, several")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--measure", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        work(options.measure, options.folder)
        return 0
    heads = ("layers", "million par.", "weights MiB", "load", "calibrate", "evaluations", "seconds", "alpha")
    widths = (10, 12, 12, 8, 10, 12, 9, 8)
    print(" ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True)))
    ratios = [row(*map(int, size.split("x")), options.rows) for size in options.sizes.split(",")]
    print(f"load and calibrate: highest resident set by the weights, imports subtracted; accepted: below {LIMIT:.2f}")
    return 0 if max(ratios) < LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
