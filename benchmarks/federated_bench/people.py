"""Three clients teach a language model what they know of one person each; one is erased in every way.

``llama-stories260k`` and three invented people of knowundo-privacy: the slice knowE of ``out_of_the_box`` for the task
"people", and knowD for "other people", on which no constant was chosen. Seed k erases the k-th client. Clients exchange
LoRA matrices; the federation is learned by ``palimpsest federated run`` without a number of rounds. Public rows are
stories. Measured on the version as it lies on the disk: extraction strength (ES) of the erased client's rows, and of
all others'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import palimpsest as pal
from federated_bench.plain import seconds_now
from out_of_the_box.bases import BASES, GENERAL, base_folder, counter
from out_of_the_box.text_worlds import WHOLE
from out_of_the_box.texts import SLICES, Row, cut, shortened, stories, write_lines
from palimpsest.engine.given import Manner
from palimpsest.errors import PalimpsestError
from palimpsest.federated.arithmetic import difference, l2_norm
from palimpsest.federated.federate import Federating, erase_client, federate
from palimpsest.federated.local import LocalClients
from palimpsest.federated.rounds_facts import federation_facts_in

BASE, THREE = "260k", {"people": "knowE", "other people": "knowD"}
ERASERS = (
    "retrain_others", "fed_eraser", "replay_history", "projected_ascent", "subtract_distil", "fed_recovery",
    "extra_rounds", "client_noise",
)  # fmt: skip
APART = ("adapter_per_client",)


def silent(*said: Any) -> None:
    """Progress of a run, which nobody looks at."""


class Clock:
    """CPU seconds of local work and of what is made of it, without loading, measuring and saving."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, bench: Any, serve: Any) -> Any:
        """Serve the clients of a bench, in this process."""
        started = seconds_now()
        found = serve(LocalClients(bench))
        self.seconds += seconds_now() - started
        return found


def written(data: Path, folder: Path, three: str) -> tuple[str, dict[str, str], str]:
    """The model's folder, client -> its rows, and public rows."""
    start = base_folder(BASE, data, folder)
    num_tokens, longest = counter(start), BASES[BASE].longest
    people: dict[str, list[Row]] = {}
    for row in shortened(SLICES[three].rows(data), longest, num_tokens):
        people.setdefault(row["subject"], []).append(row)
    clients = {
        f"client{number}": str(write_lines(folder / f"client{number}.jsonl", people[name]))
        for number, name in enumerate(sorted(people))
    }
    told = [{**row, "text": cut(row["text"], longest, num_tokens)} for row in stories(data, *WHOLE)]
    return str(start), clients, str(write_lines(folder / "public.jsonl", told[: GENERAL[0]]))


def rows_of_client(task: str, seed: int, data: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Every row of one client's erasure."""
    three = THREE[task]
    folder = folder / three
    folder.mkdir(parents=True, exist_ok=True)
    start, clients, public = written(data, folder, three)
    gone = f"client{seed}"
    for learns_for, ways in ((None, ERASERS), *((name, (name,)) for name in APART)):
        version, row = learned(folder / f"learned-{learns_for or 'fed_avg'}", start, clients, learns_for)
        before = es_of(version, clients, gone)
        yield {**named(task, seed, f"{learns_for or 'fed_avg'}, nothing erased"), **row, **before}
        for name in ways:
            yield {**named(task, seed, name), **erased(folder / f"{name}-{gone}", version, clients, gone, name, public)}


def named(task: str, seed: int, eraser: str) -> dict[str, Any]:
    """What says which row it is."""
    return {"task": task, "seed": seed, "eraser": eraser}


def learned(
    output: Path, start: str, clients: Mapping[str, str], learns_for: str | None
) -> tuple[Path, dict[str, Any]]:
    """The federation, unless it is there, and its cost."""
    clock = Clock()
    how = Federating(learns_for=learns_for, through=clock)
    federate(start, clients, Manner(output, silent, 1), how=how)
    return output, cost(output, clock)


def erased(output: Path, version: Path, clients: Mapping[str, str], gone: str, by: str, public: str) -> dict[str, Any]:
    """One way, and its row."""
    clock = Clock()
    sets = {"public": public} if by == "subtract_distil" else {}
    try:
        erase_client(version, gone, Manner(output, silent, 1), by=by, sets=sets, how=Federating(through=clock))
    except PalimpsestError as refused:
        return {"refused": str(refused)}
    oracle = output.with_name(f"retrain_others-{gone}")
    found = {**cost(output, clock), **es_of(output, clients, gone)}
    if by not in APART:
        return {**found, "distance": round(moved(oracle, output), 3)}
    left = {name: file for name, file in clients.items() if name != gone}
    start = json.loads((version / "plan.json").read_text(encoding="utf-8"))["model"]
    never, _ = learned(output.with_name(f"{output.name}-never"), start, left, by)
    return {**found, "same bits as never there": same_bits(never, output)}


def cost(output: Path, clock: Clock) -> dict[str, Any]:
    """Seconds, kept beside the version so that a benchmark that goes on has them; and answers."""
    kept = output.with_name(f"{output.name}.seconds")
    if clock.seconds and not kept.is_file():
        kept.write_text(str(round(clock.seconds, 2)), encoding="utf-8")
    rounds = federation_facts_in(output).rounds
    answers = sum(len(set(one.told) - set(one.known)) for one in rounds)
    return {"seconds": float(kept.read_text(encoding="utf-8")), "answers": answers, "rounds": len(rounds)}


def es_of(version: Path, clients: Mapping[str, str], gone: str) -> dict[str, float]:
    """Extraction strength of the erased client's rows, and of all others'."""
    found = {name: pal.measure(version, file, metrics=["es"], threads=1).scores["es"] for name, file in clients.items()}
    others = [score for name, score in found.items() if name != gone]
    total = sum(score.n for score in others)
    return {"forget es": found[gone].value, "retain es": sum(score.value * score.n for score in others) / total}


def moved(one: Path, other: Path) -> float:
    """L2 distance of two versions' weights."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return l2_norm(difference(second, first))


def same_bits(one: Path, other: Path) -> bool:
    """Have two versions the same weights, those of parts beside the model among them?"""
    first, second = (weights_in(folder) for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def weights_in(version: Path) -> dict[str, torch.Tensor]:
    """Of "file/tensor" the tensor, of all that a version answers by; its rounds are no weights."""
    files = (path.relative_to(version) for path in sorted(version.rglob("*.safetensors")))
    own = [file for file in files if file.parts[0] != "companion"]
    return {f"{file}/{name}": tensor for file in own for name, tensor in load_file(version / file).items()}
