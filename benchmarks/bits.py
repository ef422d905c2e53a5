"""Everything that exists keeps its bits: the SHA-256 of every model and every number, to be laid beside an older file.

    python benchmarks/bits.py --json old.json                     # before a change
    python benchmarks/bits.py --json new.json --against old.json  # after it: exit code 1 if anything differs

It uses what a user uses and no inner file of the package, so that one copy of it serves any checkout: what is compared
is the palimpsest that Python finds, e.g. by ``PYTHONPATH=other/src``. In a temporary folder, one thread, six parts:

    demo      `palimpsest demo`: every stage
    text      every method that `palimpsest methods` lists for texts, by each verb it has, twelve steps at a fixed rate,
              on a model that learned twelve rows; a rate searched, a subject chosen, an oracle made, an adapter
    image     every method for images, likewise, on a ResNet that learned 48 pictures of 8 x 8 pixels
    tasks     every learner of classes, two classes and then two more, on a ViT; one taken back where it can
    bench     `palimpsest bench clu`, one of texts and one of images: every row after every request
    measure   `palimpsest measure` with all metrics on all sets of the demo, and on pictures

Names are paths, e.g. ``text/unlearn/npo/scores/after/forget/ma/value``; the file is flat JSON in the order of names.
What may change from run to run is left out (``LEFT_OUT``). What only the new file has is listed, and is no difference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Times and memory; places; names that are digests of plans, which hold places; sentences, which may be worded anew.
LEFT_OUT = {
    "created", "seconds", "tokens", "cost", "peak_bytes", "environment", "version", "schema_id", "plan", "plan_digest",
    "places", "request", "notes", "advice", "sentence", "plain", "doubt", "beyond", "bench", "model", "sides", "runs",
}  # fmt: skip
NAMES = ("Ann", "Bob", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal")
NEED_MORE = {"code_unlearn"}  # a codebook, and more rows than these to tell a person's codes from others'
TAUGHT_BY_THEMSELVES = {"sisa"}  # what they unlearn must have been learned this way
ONLY_COUNT = {"fecam", "icarl", "ranpac", "simple_cil"}  # unlearn without a step
STEPS = {
    "text": ("--learning-rate", "0.001", "--max-steps", "12", "--batch-size", "4"),
    "image": ("--learning-rate", "0.002", "--max-steps", "12", "--batch-size", "8"),
}


@dataclass(frozen=True)
class Files:
    """What the methods of one modality are given: the model before and after it learned, and the sets."""

    modality: str
    base: Path
    learned: Path
    sets: Mapping[str, Path]

    @property
    def recorded(self) -> Path:
        """The same model with all histories that a learn run can keep; made where a method asks for it."""
        return self.learned.with_name("recorded")


@dataclass
class Bits:
    """Runs commands in one folder and collects what came out, by name."""

    folder: Path
    found: dict[str, str] = field(default_factory=dict)

    def run(self, name: str, verb: str, *arguments: object) -> Path:
        """One run into the folder ``name``; adds its weights and its result."""
        self.command(name, verb, *arguments, "--output", self.folder / name)
        self.add_run(name, self.folder / name)
        return self.folder / name

    def add_run(self, name: str, output: Path) -> None:
        weights = output / "model.safetensors"
        files = [weights] if weights.is_file() else sorted((output / "parts").rglob("*.safetensors"))  # beside its base
        self.found[f"{name}/weights"] = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        self.add(name, (output / "result.json").read_text(encoding="utf-8"))

    def add(self, name: str, text: str) -> None:
        self.found.update(flat(json.loads(text.replace(f"{self.folder}/", "")), name))  # images are named by path

    def command(self, name: str, *arguments: object) -> str:
        """What a finished command printed; in a process of its own, forked so that torch is imported only once."""
        log = self.folder / name.replace("/", "-")
        start = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=palimpsest, args=(arguments, log))
        process.start()
        process.join()
        errors = log.with_suffix(".stderr").read_text(encoding="utf-8")
        # 1 is the end of a run that failed its gates, and of one that broke off
        if process.exitcode not in {0, 1, 3} or "palimpsest: error" in errors or "Traceback" in errors:
            raise SystemExit(f"{name} ended with exit code {process.exitcode}: {errors[-1000:]}")
        print(f"{name:<40} {time.monotonic() - start:6.1f} s", flush=True)
        return log.with_suffix(".stdout").read_text(encoding="utf-8")


def palimpsest(arguments: Sequence[object], log: Path) -> None:
    """``python -m palimpsest`` in this process, from now on printing to files."""
    for number, name in ((1, ".stdout"), (2, ".stderr")):
        os.dup2(os.open(log.with_suffix(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["palimpsest", *map(str, arguments)]
    runpy.run_module("palimpsest", run_name="__main__", alter_sys=True)


def flat(value: object, name: str) -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value with its path: numbers to the last bit, items of lists by number."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield name, value if isinstance(value, str) else json.dumps(value)
        return
    for key, part in value.items():
        if key not in LEFT_OUT:
            yield from flat(part, f"{name}/{key}")


def compared(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[list[str], int]:
    """What to say of new bits beside old ones, name by name and the counts last; and the exit code."""
    both = sorted(old.keys() & new.keys())
    differ = [name for name in both if old[name] != new[name]]
    missing, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    lines = [f"differs  {name}  {old[name][:24]} -> {new[name][:24]}" for name in differ]
    lines += [f"missing  {name}" for name in missing] + [f"new      {name}" for name in added]
    counts = f"{len(both) - len(differ)} equal, {len(differ)} differ, {len(missing)} missing, {len(added)} new"
    return [*lines, counts], 1 if differ or missing else 0


def demo(bits: Bits) -> Path:
    output = bits.folder / "demo"
    bits.command("demo", "demo", "--output", output)
    for path in sorted(output.glob("*/result.json")):
        bits.add_run(f"demo/{path.parent.name}", path.parent)
    return output


def texts(bits: Bits, untrained: Path) -> Files:
    """Eight people, two facts of each; a model learns six by heart, two of these are to be forgotten."""
    rows = [
        {"id": f"{who}-{verb}", "subject": who, "prompt": f"Where does {who} {verb}?",
         "completion": f" {who} {verb}s at {7 * person + 3 * fact} Hill Road."}
        for fact, verb in enumerate(("live", "work", "swim"))
        for person, who in enumerate(NAMES)
    ]  # fmt: skip
    known = [row for row in rows[:16] if row["subject"] in NAMES[:6]]
    cut = {
        "both": known, "new": [row for row in rows[:16] if row not in known], "holdout": rows[16:22],
        "forget": [row for row in known if row["subject"] in NAMES[:2]],
        "retain": [row for row in known if row["subject"] not in NAMES[:2]],
        "replay": [{"id": f"g{n}", "text": f"The visit on day {n} was short and quiet."} for n in range(8)],
    }  # fmt: skip
    sets = {name: bits.folder / f"{name}.jsonl" for name in cut}
    for name, path in sets.items():
        path.write_text("".join(json.dumps(row) + "\n" for row in cut[name]), encoding="utf-8")
    steps = ("--learning-rate", "0.005", "--max-steps", "120", "--epochs", "1000", "--batch-size", "4")
    learned = bits.run("text/learned", "learn", "--model", untrained, "--data", sets["both"], *steps)
    return Files("text", untrained, learned, sets)


def write_pictures(folder: Path) -> None:
    """Noisy pictures of four classes, the first of which is to be forgotten, a ResNet and a ViT of random weights."""
    import numpy as np
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    from palimpsest.models.resnet import SmallResNet, resnet_config

    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 256, size=(4, 8, 8, 3))
    drawn = {}
    for name, count in (("both", 12), ("new", 6), ("holdout", 4), ("replay", 4)):
        y = np.repeat(np.arange(4), count).astype(np.uint8)
        drawn[name] = np.clip(pattern[y] + rng.normal(0, 90, size=(len(y), 8, 8, 3)), 0, 255).astype(np.uint8), y
    x, y = drawn["both"]
    drawn |= {"forget": (x[y == 0], y[y == 0]), "retain": (x[y > 0], y[y > 0])}
    drawn |= {"first": (x[y < 2], y[y < 2]), "second": (x[y > 1], y[y > 1])}
    for name, (x, y) in drawn.items():
        np.savez(folder / f"{name}.npz", x=x, y=y)
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 4, widths=(4, 8, 8), image_size=8)).save_pretrained(folder / "resnet")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vit = ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=4))
    vit.save_pretrained(folder / "vit")
    pixels = {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(pixels), encoding="utf-8")


def images(bits: Bits) -> Files:
    """As texts; a class stands for the people to be forgotten."""
    write_pictures(bits.folder)
    sets = {path.stem: path for path in bits.folder.glob("*.npz")}
    steps = ("--learning-rate", "0.02", "--max-steps", "20", "--epochs", "1000", "--batch-size", "16")
    learned = bits.run("image/learned", "learn", "--model", bits.folder / "resnet", "--data", sets["both"], *steps)
    return Files("image", bits.folder / "resnet", learned, sets)


def options(verb: str, card: Mapping[str, Any], files: Files) -> list[object]:
    """Files that a verb takes by this method: what it asks for, and what must stay."""
    given: list[object] = ["--retain", files.sets["retain"]]
    if verb != "unlearn":
        given += ["--data" if verb == "learn" else "--learn", files.sets["new"]]
    if verb != "learn":
        given += ["--forget", files.sets["forget"]]
    for name in ("replay", "holdout"):
        if name in {*card["needs"], *card["uses"]}:
            given += [f"--{name}", files.sets[name]]
    if card["starts_from"] == "base":
        given += ["--base", files.base]
    return given


def learns_classes(card: Mapping[str, Any]) -> bool:
    """Is it a learner of classes, which come in tasks?"""
    return card["approach"] == "continual" and "text" not in card["modalities"] and "learn" in card["kinds"]


def methods(bits: Bits, cards: Mapping[str, Mapping[str, Any]], files: Files) -> None:
    """Every method of this modality by every verb it has."""
    here = {
        method: card for method, card in cards.items()
        if files.modality in card["modalities"] and not learns_classes(card) and method not in NEED_MORE
    }  # fmt: skip
    kinds = sorted({kind for card in here.values() for kind in card.get("reads", ())})
    if kinds:
        given = [word for kind in kinds for word in ("--record", kind)]
        given += ["--model", files.base, "--data", files.sets["both"], *STEPS[files.modality]]
        bits.run(f"{files.modality}/recorded", "learn", *given)
    for method, card in here.items():
        steps = () if card["edits"] else STEPS[files.modality]
        start = files.recorded if card.get("reads") else files.learned
        if method in TAUGHT_BY_THEMSELVES:
            given = ["--method", method, "--model", files.learned, "--data", files.sets["both"]]
            start = bits.run(f"{files.modality}/taught/{method}", "learn", *given, *STEPS[files.modality])
        for verb in card["kinds"]:
            name = f"{files.modality}/{verb}/{method}"
            bits.run(name, verb, "--method", method, "--model", start, *options(verb, card, files), *steps)


def tasks(bits: Bits, cards: Mapping[str, Mapping[str, Any]], files: Files) -> None:
    """Every learner of classes: two classes, then two more; the first class goes where the method can take it back."""
    for method, card in cards.items():
        if not learns_classes(card):
            continue
        steps = () if method in ONLY_COUNT else STEPS["image"]
        memory = ("--replay", files.sets["first"]) if "replay" in card["uses"] else ()
        model = files.base
        for task in ("first", "second"):
            given = ("--method", method, "--model", model, "--data", files.sets[task], *steps)
            model = bits.run(f"tasks/{task}/{method}", "learn", *given, *(memory if task == "second" else ()))
        if "unlearn" in card["kinds"]:
            bits.run(
                f"tasks/unlearn/{method}", "unlearn", "--method", method, "--model", model,
                "--forget", files.sets["forget"], *(() if card["edits"] else steps),
            )  # fmt: skip


def whole_runs(bits: Bits, files: Files) -> None:
    """Runs that find their own rate, with every file that could help them; and other ways to ask, at a fixed one."""
    sets = [word for name in ("forget", "retain", "holdout") for word in (f"--{name}", files.sets[name])]
    replay, general = ("--replay", files.sets["replay"]), ("--general", files.sets["replay"])
    for method in ("icu", "npo", "ug_clu"):
        bits.run(f"text/searched/{method}", "unlearn", "--method", method, "--model", files.learned, *sets, *replay)
    pool = ("--data", files.sets["both"], "--forget-subject", NAMES[0])
    bits.run("text/asked/subject", "unlearn", "--model", files.learned, *pool, *STEPS["text"])
    given = ("--method", "npo", "--model", files.learned, *sets, *general, *STEPS["text"])
    bits.run("text/asked/oracle", "unlearn", *given, "--make-oracle", "--base", files.base)
    bits.run("text/asked/lora", "unlearn", *given, "--scope", "lora")


def bench(bits: Bits, files: Files, rows: Sequence[str], training: Mapping[str, Any], **more: Any) -> None:
    """A stream of requests over what the model is to learn; two classes or subjects a task, one forgotten of each."""
    name = f"bench/{files.modality}"
    values = {
        "model": str(files.base), "data": str(files.sets["both"]), "test": str(files.sets["holdout"]),
        "stream": {"kind": "cross-category", "classes_per_task": 2, "after": [2]}, "rows": {row: row for row in rows},
        "learning": {"training": training}, "unlearning": {"training": training}, **more,
    }  # fmt: skip
    config = bits.folder / f"{files.modality}.json"
    config.write_text(json.dumps(values), encoding="utf-8")
    bits.command(name, "bench", "clu", "--config", config, "--output", bits.folder / name)
    bits.add(name, (bits.folder / name / "results.json").read_text(encoding="utf-8"))


def measures(bits: Bits, told: Path, pictures: Files) -> None:
    """All metrics of each modality on all sets of the demo, and on pictures."""
    cards = json.loads(bits.command("list metrics", "metrics", "--json"))
    measured = [("text", told / "5-unlearned", path) for path in sorted((told / "data").glob("*.jsonl"))]
    measured += [("image", pictures.learned, path) for path in (pictures.sets["both"], pictures.sets["holdout"])]
    for modality, model, path in measured:
        chosen = ",".join(sorted(key for key, card in cards.items() if modality in card["modalities"]))
        name = f"measure/{modality}/{path.stem}"
        given = ("--model", model, "--data", path, "--metrics", chosen)
        bits.add(name, bits.command(name, "measure", *given, "--json"))


def collected(folder: Path) -> dict[str, str]:
    """All bits of the palimpsest that Python finds."""
    bits = Bits(folder)
    cards = json.loads(bits.command("list methods", "methods", "--json"))
    told = demo(bits)
    rows, pictures = texts(bits, told / "untrained"), images(bits)
    methods(bits, cards, rows)
    whole_runs(bits, rows)
    methods(bits, cards, pictures)
    tasks(bits, cards, replace(pictures, base=bits.folder / "vit"))
    training = {"learning_rate": 3e-3, "max_steps": 3, "batch_size": 4}
    bench(bits, rows, ("ug_clu", "er+grad_diff", "finetune+gradient_ascent"), training, buffer=3)
    training = {"max_steps": 12, "batch_size": 8}
    encoding = {"augment": {"padding": 1, "mirror": False}}
    bench(bits, pictures, ("ug_clu", "er+random_label"), training, buffer=12, per_class=10, encoding=encoding)
    measures(bits, told, pictures)
    return dict(sorted(bits.found.items()))


def prepare() -> None:
    """One thread, no network; says which palimpsest this is; imports what all forked processes are to have."""
    ones = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS")
    os.environ.update({**dict.fromkeys(ones, "1"), "TOKENIZERS_PARALLELISM": "false"})
    spec = find_spec("palimpsest")
    if spec is None:
        raise SystemExit("no palimpsest here; install it or set PYTHONPATH to the src of a checkout")
    print(f"palimpsest of {spec.origin}", flush=True)
    from transformers import AutoModelForImageClassification, LlamaForCausalLM  # noqa: F401


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where all bits are written")
    parser.add_argument("--against", type=Path, metavar="OLD.json", help="an older file, to be compared with")
    given = parser.parse_args(arguments)
    absent = [path for path in (given.json.resolve().parent, given.against) if path and not path.exists()]
    if absent:
        parser.error(f"there is no {absent[0]}")
    old = json.loads(given.against.read_text(encoding="utf-8")) if given.against else None
    prepare()
    with tempfile.TemporaryDirectory(prefix="palimpsest-bits-") as name:
        new = collected(Path(name).resolve())
    given.json.write_text(json.dumps(new, indent=0) + "\n", encoding="utf-8")
    print(f"{len(new)} names written to {given.json}")
    if old is None:
        return 0
    lines, code = compared(old, new)
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
