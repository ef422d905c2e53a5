"""What UG-CLU costs beside plain fine-tuning: seconds per step, passes for the mask, memory of the mask.

    python benchmarks/ug_clu.py [--parameters 1e6 10e6] [--steps 20] [--every 5] [--threads 1]
    python benchmarks/ug_clu.py --growth docs/growth.png

Each row is one run of one process: the same number of iterations of plain fine-tuning, of unlearning alone and of
learning and unlearning together, interleaved in rounds so that a busy machine slows all three alike. Times are of the
processor on a CPU and of the wall on an accelerator. A ratio above the bound is marked. Weights are random: what is
learned does not matter for what it costs.

The bounds are those of counting passes with T_in = 5: 1 + 1/5 for unlearning alone, 2 + 2/5 for both (learn and retain
in every repair, learn and forget in every fifth step), plus a little for masks, clipping and putting weights back.

``--growth`` times one unlearn request, mask included, after 64, 256 and 1024 examples were learned, beside the oracle,
which goes three times over all of them, and draws both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from accelerate import Accelerator
from transformers import LlamaConfig, LlamaForCausalLM

from palimpsest.contract import Method
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.loop.step import micro_batches, take_step
from palimpsest.methods.finetune import Finetune, FinetuneConfig
from palimpsest.methods.ug_clu import UGCLU, UGCLUConfig
from palimpsest.rules.own_step import OptimizerStep

VOCABULARY, LENGTH, BATCH = 2048, 96, 8
BOUNDS = {"unlearn": 1.3, "update": 2.4}
Sets = Mapping[str, TextSet]


def clock() -> float:
    """Seconds: of the processor, or of the wall where an accelerator works."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def new_model(parameters: float) -> LlamaForCausalLM:
    """A Llama of about so many parameters: width grows with the square root, depth stays 4."""
    torch.manual_seed(0)
    width = max(64, 64 * round((parameters / (4 * 12)) ** 0.5 / 64))
    sizes = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 4}
    heads = {"num_attention_heads": width // 32, "num_key_value_heads": width // 32}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=True, **sizes, **heads))


def random_set(name: str, count: int) -> TextSet:
    """Sequences of random tokens of one length, so that all batches cost the same."""
    tokens = torch.randint(3, VOCABULARY, (count, LENGTH)).tolist()
    flags = (False,) + (True,) * (LENGTH - 1)
    return TextSet([TokenSequence(f"{name}{k}", tuple(row), flags) for k, row in enumerate(tokens)], pad_id=0)


class Running:
    """A method stepping on its own copy of the model."""

    def __init__(self, method: Method, sets: Sets, parameters: float) -> None:
        self.model = new_model(parameters)
        self.method, self.sets = method, sets
        started = clock()
        self.method.prepare(self.model, sets)
        self.preparing = clock() - started
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.seconds, self.step = 0.0, 0
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.model.train()

    def cycle(self, steps: int, planned: int) -> None:
        """So many iterations."""
        started = clock()
        for _ in range(steps):
            for phase in self.method.phases(self.step, planned):
                if not phase.sets:
                    self.method.update(self.model, phase, OptimizerStep(self.optimizer))
                    continue
                drawn = {name: self.sets[name].ids[:BATCH] for name in phase.sets}
                parts = micro_batches(self.sets, drawn, phase.sets[0], None)
                take_step(
                    self.accelerator, self.method, self.model, self.optimizer, parts, phase=phase, max_grad_norm=1.0
                )
            self.step += 1
        self.seconds += clock() - started


def measure(parameters: float, steps: int, every: int) -> None:
    """One row of the table."""
    sets = {name: random_set(name, 64) for name in ("learn", "forget", "retain")}
    options = UGCLUConfig(every=every, probes=0, mask_examples=64, mask_batch=BATCH, annealing="constant")
    runs = {
        "plain": Running(Finetune(FinetuneConfig()), {"learn": sets["learn"]}, parameters),
        "unlearn": Running(UGCLU(options), {n: sets[n] for n in ("retain", "forget")}, parameters),
        "update": Running(UGCLU(options), sets, parameters),
    }
    planned = 1 + steps + steps // every  # far enough for the ascent never to stop
    for run in runs.values():
        run.cycle(every, 10 * planned)  # warm up
        run.seconds = 0.0
    for _ in range(steps // every):
        for run in runs.values():
            run.cycle(every, 10 * planned)
    report(runs, steps)


def growth(path: str, parameters: float) -> None:
    """Seconds of a request and of its oracle against the number of examples learned before; a table and a plot."""
    sizes, request, oracle = (64, 256, 1024), [], []
    options = UGCLUConfig(probes=0, mask_examples=64, mask_batch=BATCH)
    for size in sizes:
        sets = {"retain": random_set("retain", size), "forget": random_set("forget", 16)}
        ours = Running(UGCLU(options), sets, parameters)
        ours.cycle(20, 20)
        request.append(ours.preparing + ours.seconds)
        again = Running(Finetune(FinetuneConfig()), {"learn": sets["retain"]}, parameters)
        again.cycle(3 * size // BATCH, 10**6)
        oracle.append(again.seconds)
        print(f"{size:5d} learned | request {request[-1]:.1f} s | oracle {oracle[-1]:.1f} s", flush=True)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.loglog(sizes, oracle, "o-", color="#b24a3a", label="oracle, 3 passes")
    axes.loglog(sizes, request, "o-", color="#2f6aa3", label="UG-CLU request, 20 steps and mask")
    axes.set(xlabel="examples learned before", ylabel="processor seconds", xticks=sizes, xticklabels=sizes)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def report(runs: Mapping[str, Running], steps: int) -> None:
    """Print one row."""
    size = sum(p.numel() for p in runs["plain"].model.parameters())
    plain = runs["plain"].seconds
    cells = [f"{size / 1e6:8.1f} M", f"{1000 * plain / steps:10.1f} ms"]
    for name, bound in BOUNDS.items():
        ratio = runs[name].seconds / plain
        cells.append(f"{name} {ratio:.2f}x (bound {bound}){'' if ratio <= bound else ' MISSED'}")
    saliency = runs["update"].method.saliency
    mask = next(iter(saliency.masks.values()))
    cells.append(f"mask {8 * mask.nbytes / size:.3f} bit/parameter, kept {mask.kept_share:.2f}")
    cells.append(f"passes {max(saliency.passes.values())} at most")
    cells.append(f"built in {runs['update'].preparing / (plain / steps):.1f} plain steps ({saliency.batches} batches)")
    print(" | ".join(cells), flush=True)


def main() -> None:
    """Read the arguments and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, nargs="+", default=[1e6, 10e6])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--growth", help="time requests after more and more learning, and draw them into this PNG")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"threads {arguments.threads}, T_in {arguments.every}, {arguments.steps} steps, batch {BATCH} x {LENGTH} tokens"
    )
    if arguments.growth:
        growth(arguments.growth, arguments.parameters[0])
        return
    for parameters in arguments.parameters:
        measure(parameters, arguments.steps, arguments.every)


if __name__ == "__main__":
    main()
