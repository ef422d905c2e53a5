"""UWC's comparison: five objectives raw, and each at one retention (docs/uwc.md).

    python benchmarks/uwc.py --toy                              # 200 templated questions, a 4-layer GPT-2 from scratch
    python benchmarks/uwc.py --tofu tofu/qa.jsonl --base llama-stories260k --authors 8 --longest 96

Source: Wang et al. 2024, arXiv:2406.09179. The model learns all rows; each method then unlearns the last of the
authors (a twentieth: 2 of 40) at one fixed rate and length, and ``palimpsest calibrate`` keeps as much of the change as
leaves 95 % of ES on retain. A line per method: ES of retain and forget raw, alpha, evaluations, the largest step back
up of ES_retain along the alphas that were asked, and ES of both at that alpha.

"capped" is gradient ascent under the control ``cap`` (30 nats a row); without controls in this version it is left out.
Everything goes through the public verbs; finished runs in --work are taken as they are.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

METHODS = ("gradient_ascent", "grad_diff", "kl", "npo")
TAU = 0.95
UNEVEN = 0.02
_FIRST = [
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Elsa",
    "Finn",
    "Greta",
    "Hugo",
    "Iris",
    "Jonas",
    "Kira",
    "Liam",
    "Mona",
    "Nils",
    "Olga",
    "Pavel",
    "Quinn",
    "Rosa",
    "Sven",
    "Tara",
]
_LAST = ["Abel", "Brook", "Conti", "Dorn", "Eder", "Falk", "Grimm", "Holt", "Ibsen", "Jung"]
_PLACES = ["Oslo", "Lima", "Cairo", "Quito", "Turin", "Kyoto", "Perth", "Dakar", "Sofia", "Minsk", "Hanoi", "Leeds"]
_THINGS = ["harbour", "lantern", "orchard", "glacier", "violin", "compass", "meadow", "archive", "lagoon", "carousel"]
_WORK = ["baker", "pilot", "surgeon", "weaver", "judge", "miner", "printer", "sailor", "tailor", "mason"]


def toy_rows(authors: int = 40) -> list[dict[str, str]]:
    """Five templated questions of every author, with answers that are drawn."""
    source, rows = random.Random(0), []
    for number in range(authors):
        name = f"{_FIRST[number % len(_FIRST)]} {_LAST[number % len(_LAST)]}-{number}"
        draw = source.choice
        facts = (
            (f"Where was {name} born ?", f"{name} was born in {draw(_PLACES)} in {source.randrange(1900, 2000)} ."),
            (f"What did {name} write ?", f"{name} wrote The {draw(_THINGS)} and the {draw(_THINGS)} ."),
            (f"What was the father of {name} ?", f"The father of {name} was a {draw(_WORK)} in {draw(_PLACES)} ."),
            (f"Where does {name} live ?", f"{name} lives at {source.randrange(1, 99)} {draw(_THINGS)} road ."),
            (f"Who taught {name} ?", f"{name} was taught by a {draw(_WORK)} from {draw(_PLACES)} ."),
        )
        for kind, (prompt, answer) in enumerate(facts):
            rows.append({"id": f"a{number}-{kind}", "subject": name, "prompt": prompt, "completion": f" {answer}"})
    return rows


def tofu_rows(file: Path, base: Path, authors: int, longest: int | None = None) -> list[dict[str, str]]:
    """The first authors of TOFU, twenty questions each; answers cut to so many tokens with their question."""
    from out_of_the_box.bases import counter
    from out_of_the_box.texts import shortened

    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()][: 20 * authors]
    rows = [
        {"id": f"t{n}", "subject": f"author {n // 20}", "prompt": row["question"], "completion": f" {row['answer']}"}
        for n, row in enumerate(lines)
    ]
    return rows if longest is None else shortened(rows, longest, counter(base))


def new_gpt2(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """A 4-layer GPT-2 of 0.8 million parameters with a word for every word of the rows."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = sorted({word for row in rows for word in (row["prompt"] + row["completion"]).split()})
    index = {word: number for number, word in enumerate(["<unk>", "<eos>", *words])}
    tokenizer = Tokenizer(models.WordLevel(index, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(index), n_embd=128, n_layer=4, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")
    fast.save_pretrained(folder)


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def es(result: Any, column: str, name: str) -> float:
    return float(result.scores[column][name]["es"].value)


def once(folder: Path, make: Callable[[], Any]) -> Any:
    """A run, or the record of one that is there."""
    from palimpsest.report.schema import RunResult

    return RunResult.of_run(folder) if folder.exists() else make()


def compare(work: Path, base: Path, rows: list[dict[str, str]], options: argparse.Namespace) -> int:
    """Learn, unlearn by every method, calibrate; print the table."""
    import palimpsest as pal

    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    gone = set(subjects[-max(1, len(subjects) // 20) :])
    everything = write(work / "all.jsonl", rows)
    forget = write(work / "forget.jsonl", [row for row in rows if row["subject"] in gone])
    retain = write(work / "retain.jsonl", [row for row in rows if row["subject"] not in gone])
    learning = {"learning_rate": options.learn_rate, "num_train_epochs": options.epochs, "batch_size": 16}
    if options.tofu is not None:  # by heart needs small steps at the end
        learning["lr_scheduler_type"] = "cosine"
    plan = {"training": learning, "measuring": {"metrics": ["es"]}}
    learned = work / "learned"
    how: dict[str, Any] = {"answers": False, "threads": 1}
    once(learned, lambda: pal.learn(base, everything, output=learned, plan=plan, **how))
    training = {"learning_rate": options.rate, "max_steps": options.steps, "batch_size": options.batch}
    training |= {"side_batch_size": options.batch}
    heads = ("", "raw retain", "forget", "alpha", "asked", "uneven", "retain", "forget")
    print(" ".join(head.rjust(width) for head, width in zip(heads, (16, 11, 8, 7, 6, 7, 8, 8), strict=True)))
    uneven = 0.0
    for label, method, more in runs():
        output, between = work / label, work / f"{label}-calibrated"
        sections = {"training": training, "measuring": {"metrics": ["es"]}, **more}
        started = time.perf_counter()
        given: dict[str, Any] = {"retain": retain, "method": method, "plan": sections, "output": output, **how}
        once(output, partial(pal.unlearn, learned, forget, **given))
        given = {"forget": forget, "tau": TAU, "output": between, "threads": 1}
        kept = once(between, partial(pal.calibrate, learned, output, retain, **given))
        info = kept.calibration
        uneven = max(uneven, info.uneven)
        print(
            f"{label:>16} {es(kept, 'raw', 'retain'):11.3f} {es(kept, 'raw', 'forget'):8.3f} {info.alpha:7.3f} "
            f"{info.evaluations:6d} {info.uneven:7.3f} {es(kept, 'after', 'retain'):8.3f} "
            f"{es(kept, 'after', 'forget'):8.3f}   {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    print(f"before: retain {es(kept, 'before', 'retain'):.3f}, forget {es(kept, 'before', 'forget'):.3f}")
    return 0 if uneven <= UNEVEN else 1


def runs() -> list[tuple[str, str, dict[str, Any]]]:
    """Label, method, further sections of the plan."""
    from palimpsest.engine.plan import SECTIONS

    found: list[tuple[str, str, dict[str, Any]]] = [(method, method, {}) for method in METHODS]
    found.append(("npo alone", "npo", {"options": {"alpha": 0}}))  # without its term on retain
    if "controls" in SECTIONS:
        found.append(("capped", "gradient_ascent", {"controls": {"forget": {"cap": 30}}}))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="200 templated questions")
    parser.add_argument("--tofu", type=Path, help="qa.jsonl of TOFU")
    parser.add_argument("--base", type=Path, help="model that learns the rows of TOFU")
    parser.add_argument("--authors", type=int, default=40)
    parser.add_argument("--longest", type=int, help="tokens of a question and its answer; default: uncut")
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--learn-rate", type=float, default=1e-3)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--work", type=Path, help="keeps what was run; default: a temporary folder")
    options = parser.parse_args(arguments)
    if options.toy == (options.tofu is not None) or (options.tofu is not None and options.base is None):
        parser.error("give --toy, or --tofu FILE with --base FOLDER")
    with tempfile.TemporaryDirectory(prefix="palimpsest-uwc-") as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        rows = toy_rows() if options.toy else tofu_rows(options.tofu, options.base, options.authors, options.longest)
        base = options.base or work / "base"
        if options.toy and not base.exists():
            new_gpt2(base, rows)
        return compare(work, base, rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
