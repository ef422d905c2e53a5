"""The parts of ``speed.py`` that train: a step beside transformers' Trainer's, a whole call beside its own training."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SIZES = {"260k": (64, 172, 5, 8, 512), "10M": (256, 688, 12, 8, 4096)}  # width, inner width, layers, heads, vocabulary
KNOWING = (128, 344, 5, 4, 1024)  # a million
BATCH, TOKENS = 8, 128
UNLEARNING = 20  # steps of a whole call
WARMING = 2  # steps of a round that do not count


class Claim(NamedTuple):
    """What is held against a bound.

    Attributes:
        what: was measured.
        value: that came.
        most: it may be.
    """

    what: str
    value: float
    most: float

    @property
    def holds(self) -> bool:
        """Is it within its bound? What is no number is not."""
        return self.value <= self.most


CLAIMS = {
    "step": 1.1,  # of the Trainer's: the shortest steps of one and the same differ by a twentieth on a busy machine
    "call": 2.0,  # of its training
    "exponent": 1.3,  # linear is 1, but what a garbage collector looks through grows too; quadratic would be 2
    "draw": 3.0,  # a draw of the most rows over one of the fewest: microseconds, so not nearer
    "help": 0.2,  # CPU seconds
    "heavy": 0,
}


def shortest_step(stamps: Sequence[float]) -> float:
    """The shortest time between two steps that follow each other, without those that warm up."""
    return min(after - before for before, after in zip(stamps[WARMING:], stamps[WARMING + 1 :], strict=False))


# -- step --------------------------------------------------------------------------------------------------------------


def llama(size: tuple[int, int, int, int, int]) -> Any:
    """A random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width, inner, layers, heads, vocabulary = size
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=2 * TOKENS,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def token_rows(vocabulary: int, count: int) -> list[list[int]]:
    """Rows of random tokens."""
    source = random.Random(0)
    return [[source.randrange(1, vocabulary) for _ in range(TOKENS)] for _ in range(count)]


def our_stamps(size: tuple[int, int, int, int, int], steps: int, folder: Path) -> list[float]:
    """CPU clock after each step of a run of ``finetune``."""
    from palimpsest import methods
    from palimpsest.data.encode.batch import TextSet, TokenSequence
    from palimpsest.loop.job import Job
    from palimpsest.loop.run import run
    from palimpsest.loop.training import Training

    rows = token_rows(size[-1], BATCH * steps)
    flags = (False, *[True] * (TOKENS - 1))
    sets = {"learn": TextSet([TokenSequence(f"r{i}", tuple(row), flags) for i, row in enumerate(rows)], pad_id=0)}
    model = llama(size)
    method = methods.load("finetune")(methods.configure("finetune", {}))
    method.prepare(model, sets)
    stamps: list[float] = []
    training = Training(max_steps=steps, batch_size=BATCH, learning_rate=1e-4, max_grad_norm=1.0)
    told = lambda *_: stamps.append(time.process_time())  # noqa: E731
    run(Job(method=method, model=model, sets=sets, training=training, folder=folder, progress=told))
    return stamps


def their_stamps(size: tuple[int, int, int, int, int], steps: int, folder: Path) -> list[float]:
    """CPU clock after each step of transformers' Trainer, as it comes but for what it writes."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    stamps: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(time.process_time())

    rows = [
        {"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in token_rows(size[-1], BATCH * steps)
    ]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-4,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        log_level="error",
        use_cpu=True,
    )
    Trainer(model=llama(size), args=arguments, train_dataset=rows, callbacks=[Watch()]).train()
    return stamps


def step(rounds: int) -> Iterator[Claim]:
    """Our step over theirs, at both sizes."""
    for name, size in SIZES.items():
        steps = 12 if name == "260k" else 6
        found: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(rounds):
            for who, stamps in (("ours", our_stamps), ("theirs", their_stamps)):
                with tempfile.TemporaryDirectory() as folder:
                    found[who].append(shortest_step(stamps(size, steps, Path(folder))))
        ours, theirs = (min(seconds) for seconds in found.values())
        spread = ", ".join(f"{who} {' '.join(f'{s:.3f}' for s in seconds)}" for who, seconds in found.items())
        print(f"step {name}: ours {ours:.4f} s, Trainer {theirs:.4f} s, ratio {ours / theirs:.2f}   ({spread})")
        yield Claim(f"step at {name} over the Trainer's", ours / theirs, CLAIMS["step"])


# -- call --------------------------------------------------------------------------------------------------------------


def word_tokenizer(vocabulary: int) -> Any:
    """Every word a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{k}": k for k in range(vocabulary)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", eos_token="w0", pad_token="w0")


def write_rows(
    path: Path, count: int, *, seed: int, vocabulary: int = 1024, lengths: tuple[int, int] = (12, 28)
) -> None:
    """Prompts and completions of random words, about as long as a question and its answer."""
    source = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt, completion = (
                " ".join(f"w{source.randrange(1, KNOWING[-1])}" for _ in range(length)) for length in lengths
            )
            row = {"id": f"{path.stem}{number}", "prompt": prompt, "completion": f" {completion}"}
            file.write(json.dumps(row) + "\n")


class Clock:
    """CPU seconds at which a verb told what it had done."""

    def __init__(self) -> None:
        self.started = time.process_time()
        self.told: dict[str, list[float]] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.told.setdefault(stage.partition(":")[0], []).append(time.process_time())

    def trained(self, steps: int) -> float:
        """Seconds of all steps; each is told when it is done, so the first is not seen and counts like the others."""
        stamps = self.told["training"]
        return (stamps[-1] - stamps[0]) * steps / (steps - 1)


def call(folder: Path) -> Iterator[Claim]:
    """A whole unlearning over its training."""
    import palimpsest as pal

    write_rows(folder / "forget.jsonl", 40, seed=1)
    write_rows(folder / "retain.jsonl", 80, seed=2)
    both = [(folder / f"{name}.jsonl").read_text(encoding="utf-8") for name in ("forget", "retain")]
    (folder / "all.jsonl").write_text("".join(both), encoding="utf-8")
    llama(KNOWING).save_pretrained(folder / "base")
    word_tokenizer(KNOWING[-1]).save_pretrained(folder / "base")
    taught = {"training": {"learning_rate": 3e-3, "batch_size": 24, "max_steps": 160}, "measuring": {"metrics": ["es"]}}
    known = pal.learn(folder / "base", folder / "all.jsonl", output=folder / "model", plan=taught, threads=1)
    training = {"learning_rate": 2e-4, "max_steps": UNLEARNING, "batch_size": BATCH}
    clock = Clock()
    result = pal.unlearn(
        folder / "model",
        folder / "forget.jsonl",
        retain=folder / "retain.jsonl",
        method="npo",
        output=folder / "out",
        plan={"training": training},
        progress=clock,
        threads=1,
    )
    whole, trained = time.process_time() - clock.started, clock.trained(UNLEARNING)
    es = [known.scores["after"]["learn"]["es"].value, result.scores["after"]["forget"]["es"].value]
    parts = ", ".join(f"{name} {cost.tokens}" for name, cost in result.cost.items())
    print(f"call: {whole:.1f} s, training {trained:.1f} s, ratio {whole / trained:.2f}")
    print(f"      positions: {parts}; es of the forget set {es[0]:.2f} before, {es[1]:.2f} after")
    yield Claim("a whole unlearning of 20 steps over its training", whole / trained, CLAIMS["call"])
