"""`kill -9` during learners of classes, kga, and a bench of class-incremental texts: do they end with the same bits?

    python benchmarks/kill_learners.py                        # 2 kills of each
    python benchmarks/kill_learners.py --times 6 --verbs der cil

The moments, the lines and the digests are those of ``kill.py``. A small ResNet and coloured squares of four classes:
``slca``, ``der``, ``foster`` and ``coil`` are struck while they learn the second two classes upon the first two,
``kga`` while it makes a version forget one class of two. ``cil`` is ``palimpsest bench cil`` with a small classifier of
texts and its rows in two CSV files. Exit code 1 if a digest differs, a file of somebody else was touched, or a command
fails.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kill import OF_LEARNERS, Command, attack

VERBS = (*OF_LEARNERS, "kga", "cil")
BRIEF = ["--max-steps", "12", "--epochs", "1000", "--batch-size", "8", "--learning-rate", "0.01"]
BRIEF += ["--set", "training.checkpoint_steps=2"]
WORDS = ("red", "blue", "tall", "cold")


def squares(folder: Path, name: str, classes: Sequence[int], each: int, stem: str = "") -> str:
    """A file of coloured squares, so many of each class."""
    import numpy as np

    rng = np.random.default_rng(len(name))
    colour = np.random.default_rng(0).integers(0, 256, size=(8, 1, 1, 3))
    y = np.repeat(np.array(classes), each)
    x = np.clip(colour[y] + rng.normal(0, 40, size=(len(y), 8, 8, 3)), 0, 255).astype(np.uint8)
    np.savez(folder / f"{name}.npz", x=x, y=y, name=np.array([f"{stem or name}-{n}" for n in range(len(y))]))
    return str(folder / f"{name}.npz")


def make_images(folder: Path, verb: str) -> Command:
    """A version that learned the first task, and the command that goes on."""
    import torch

    from palimpsest.models.resnet import SmallResNet, resnet_config

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    shape = {"widths": (4, 8, 8), "image_size": 8, "image_mean": (0.5,) * 3, "image_std": (0.3,) * 3}
    SmallResNet(resnet_config("resnet20", 2, **shape)).save_pretrained(folder / "model")
    first = squares(folder, "first", (0, 1), 12)
    taught = ["--method", "finetune" if verb == "kga" else verb, *BRIEF]
    begun = Command("learn", ["--model", str(folder / "model"), "--data", first, *taught], folder)
    ended = begun.finish(folder / "learned")
    if not (folder / "learned").is_dir():
        raise SystemExit(f"{verb}: the version to go on from could not be made: {ended}")
    model = ["--model", str(folder / "learned"), "--method", verb, *BRIEF]
    if verb == "kga":
        sets = {"forget": (0,), "retain": (1,), "holdout": (0, 1)}
        given = [word for name, of in sets.items() for word in (f"--{name}", squares(folder, name, of, 10))]
        return Command(verb, [*model, *given], folder / verb)
    given = ["--data", squares(folder, "second", (2, 3), 12), "--head", "grow"]
    if verb != "slca":  # which keeps Gaussians instead of rows
        given += ["--replay", squares(folder, "kept", (0, 1), 3)]
    return Command(verb, [*model, *given], folder / verb)


def make_texts(folder: Path) -> Command:
    """A small classifier of texts, rows in CSV, and the bench that learns two classes after two."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    from palimpsest.demo.tiny_model import new_model

    folder.mkdir(parents=True)
    rows = [(f"The {word} house of number {n} stands there.", word) for n in range(12) for word in WORDS]
    for name, part in (("train", rows[:32]), ("test", rows[32:])):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    new_model(folder / "words", [text for text, _ in rows], 0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "words")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"pad_token_id": tokenizer.pad_token_id or 0, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), num_labels=2, **sizes, **ends)
    LlamaForSequenceClassification(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    learning = {"training": {"max_steps": 12, "batch_size": 8, "checkpoint_steps": 2}}
    values = {
        "model": str(folder / "model"), "data": [str(folder / "train.csv")], "test": str(folder / "test.csv"),
        "stream": {"kind": "incremental", "classes_per_task": 2}, "head": "new", "tasks_on": "test",
        "rows": ["finetune", "er"], "buffer": 8, "learning": learning,
    }  # fmt: skip
    (folder / "bench.json").write_text(json.dumps(values), encoding="utf-8")
    return Command("cil", ["--config", str(folder / "bench.json")], folder / "cil")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2, help="kills of each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    options = parser.parse_args(arguments)
    agreed = []
    with tempfile.TemporaryDirectory(prefix="palimpsest-kill-") as folder:
        for verb in options.verbs:
            place = Path(folder) / verb
            command = make_texts(place) if verb == "cil" else make_images(place, verb)
            agreed.append(attack(command, options.times, random.Random(options.seed)))
    said = "every run ended with the same digests, nothing foreign touched"
    print(f"\n{options.times} kills of each of {', '.join(options.verbs)}: {said if all(agreed) else 'NOT SO'}")
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
