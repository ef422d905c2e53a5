"""What it costs to keep every step's change while a model learns: seconds and bytes of a step.

    python benchmarks/recording.py [--rounds 3] [--data ../shared/data]

Three runs of the loop take turns: plain, with `--rule deltas:keep=0.05`, and with all kept (`keep` 1). On a GPT-2 of 10
million random parameters (rows of 128 random tokens, AdamW), and, where ``--data`` is given, on the published CIFAR
ResNet-20 (batches of 32 images, SGD). CPU seconds of one thread from the second step to the last record on the disk,
over the steps; the shortest of the rounds. Bytes are those of the records. Exit code 1 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from speed_training import BATCH, TOKENS, Claim, token_rows

STEPS, WARMING, IMAGES = 10, 2, 32
VOCABULARY = 4096
KEEPS: Mapping[str, float | None] = {"plain": None, "keep 0.05": 0.05, "keep 1": 1.0}
MOST_TIME, MOST_BYTES = 1.5, 0.1


class Recorded(NamedTuple):
    """Of one run: CPU seconds of a step, and bytes of its record."""

    seconds: float
    bytes: float


class Given(NamedTuple):
    """A model, what it learns, and how."""

    model: Any
    rows: Any
    options: Mapping[str, Any]


def gpt2() -> Given:
    """Random weights and random words."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from palimpsest.data.encode.batch import TextSet, TokenSequence

    torch.manual_seed(0)
    sizes = {"n_embd": 288, "n_layer": 9, "n_head": 8, "n_positions": 2 * TOKENS, "vocab_size": VOCABULARY}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    flags = (False, *[True] * (TOKENS - 1))
    rows = token_rows(VOCABULARY, BATCH * STEPS)
    learn = TextSet([TokenSequence(f"r{i}", tuple(row), flags) for i, row in enumerate(rows)], pad_id=0)
    return Given(model, learn, {"batch_size": BATCH, "learning_rate": 1e-4})


def resnet20(data: Path) -> Given:
    """Published weights and the first photographs."""
    import numpy as np

    from palimpsest.data.encode.image import encode_images
    from palimpsest.data.read.examples import read_examples
    from palimpsest.models.load import load

    loaded = load(f"resnet20@{data / 'cifar10-resnets'}")
    with np.load(data / "cifar10" / "train_0.npz") as arrays, tempfile.TemporaryDirectory() as folder:
        count = IMAGES * STEPS
        np.savez(
            Path(folder) / "rows.npz", x=arrays["x"][:count], y=arrays["y"][:count], id=np.arange(count).astype(str)
        )
        learn = encode_images(read_examples(Path(folder) / "rows.npz"), loaded.pixels, num_classes=10)
    return Given(loaded.model, learn, {"batch_size": IMAGES, "learning_rate": 0.02, "optimizer": "sgd"})


def recorded(given: Given, keep: float | None, folder: Path) -> Recorded:
    """One run of ``finetune``, recorded or not."""
    from palimpsest import methods, rules
    from palimpsest.companions.delta_recording import RECORDING
    from palimpsest.loop.job import Job
    from palimpsest.loop.run import run
    from palimpsest.loop.training import Training
    from palimpsest.rules.rule import Setting
    from palimpsest.rules.rule_stack import RuleStack

    method, sets = methods.load("finetune")(methods.configure("finetune", {})), {"learn": given.rows}
    method.prepare(given.model, sets)
    added = [] if keep is None else [rules.rule_of({"kind": "deltas", "keep": keep})]
    stack = RuleStack(method.rules(), added, Setting(folder))
    stack.prepare(given.model, sets, sets)
    stamps: list[float] = []
    training = Training(max_steps=STEPS, max_grad_norm=1.0, **given.options)
    told = lambda *_: stamps.append(time.process_time())  # noqa: E731
    job = Job(method=method, model=given.model, sets=sets, training=training, folder=folder, progress=told, rules=stack)
    run(job)
    ended = time.process_time()
    size = sum(path.stat().st_size for path in (folder / RECORDING).rglob("*.safetensors"))
    return Recorded((ended - stamps[WARMING - 1]) / (STEPS - WARMING), size / STEPS)


def compared(name: str, made: Callable[[], Given], rounds: int) -> Iterator[Claim]:
    """The three in turns."""
    found: dict[str, list[Recorded]] = {kind: [] for kind in KEEPS}
    for _ in range(rounds):
        for kind, keep in KEEPS.items():
            with tempfile.TemporaryDirectory() as folder:
                found[kind].append(recorded(made(), keep, Path(folder)))
    seconds = {kind: min(one.seconds for one in runs) for kind, runs in found.items()}
    size = {kind: runs[0].bytes for kind, runs in found.items()}
    for kind, runs in found.items():
        all_of_them = " ".join(f"{one.seconds:.3f}" for one in runs)
        ratio = seconds[kind] / seconds["plain"]
        print(
            f"{name:9} {kind:10} {seconds[kind]:.4f} s ({all_of_them}), {ratio:.2f} of plain, {size[kind]:,.0f} bytes"
        )
    yield Claim(f"{name}: a recorded step over a plain one", seconds["keep 0.05"] / seconds["plain"], MOST_TIME)
    yield Claim(f"{name}: bytes of a step over the dense log's", size["keep 0.05"] / size["keep 1"], MOST_BYTES)


def main() -> int:
    """Both models."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="where cifar10 and cifar10-resnets are")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
    import torch

    torch.set_num_threads(1)
    claims = [*compared("gpt2-10M", gpt2, options.rounds)]
    if options.data:
        claims += compared("resnet20", lambda: resnet20(options.data), options.rounds)
    for claim in claims:
        print(f"{'holds' if claim.holds else 'FAILS'}  {claim.what}: {claim.value:.2f}, at most {claim.most:g}")
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
