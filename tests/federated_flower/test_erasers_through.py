"""Every eraser through Flower's client app gives the bits of one process; of what cannot be, one line says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.federated_flower.toys import HereGrid, Node, client_app
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from palimpsest.demo.tiny_model import new_model
from palimpsest.engine.given import Manner
from palimpsest.errors import PlanError
from palimpsest.federated import erasers
from palimpsest.federated.federate import Federating, erase_client, federate
from palimpsest.federated.flower.grid_clients import GridClients
from palimpsest.federated.flower.hello import Hello
from palimpsest.federated.given_clients import PUBLIC_CLIENT
from palimpsest.federated.local import LocalClients

NAMES = ("ann", "bob", "cid")
APART = ("adapter_per_client", "closed_form")
SECTIONS = {"training": {"batch_size": 4, "learning_rate": 5e-3}}


def through(bench: Any, serve: Any) -> Any:
    """Every client of the bench, and who holds public rows, behind a client app of its own, in this process."""
    names = tuple(sorted(bench.sets))
    nodes = {n: Node(Hello(name, "m"), LocalClients(bench)) for n, name in enumerate(names, 1)}
    grid = HereGrid({n: client_app(lambda _, which=node: which) for n, node in nodes.items()})
    return serve(GridClients(grid, names, "m", timeout=60.0, wait=0.0))


def how(flower: bool, **other: Any) -> Federating:
    return Federating(
        **{"measuring": {"metrics": other.pop("metrics", ("ma",))}, **other}, through=through if flower else None
    )


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and rows of three clients: texts in NAME.jsonl, labelled ones in NAME-labels.jsonl."""
    folder = tmp_path_factory.mktemp("town")
    new_model(folder / "model", [f"Day {n} was short and quiet." for n in range(8)], seed=0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), num_labels=2, pad_token_id=tokenizer.pad_token_id or 0, **sizes)
    config.id2label, config.label2id = {0: "few", 1: "many"}, {"few": 0, "many": 1}
    BertForSequenceClassification(config).save_pretrained(folder / "classifier")
    tokenizer.save_pretrained(folder / "classifier")
    for place, name in enumerate((*NAMES, "nobody")):
        rows = [{"id": str(n), "text": f"{name} lives at {10 * place + n} Hill Road."} for n in range(6)]
        labelled = [{**row, "label": "few" if n < 3 else "many"} for n, row in enumerate(rows)]
        for stem, own in ((name, rows), (f"{name}-labels", labelled)):
            (folder / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    return folder


def learned(town: Path, output: Path, learns_for: str | None, flower: bool) -> Path:
    labelled = learns_for == "closed_form"
    files = {name: str(town / f"{name}{'-labels' if labelled else ''}.jsonl") for name in NAMES}
    metrics = ("accuracy",) if labelled else ("ma",)
    asked = how(flower, rounds=2, epochs=1, learns_for=learns_for, metrics=metrics)
    federate(town / ("classifier" if labelled else "model"), files, Manner(output), sections=SECTIONS, how=asked)
    return output


def weights_of(version: Path) -> dict[str, torch.Tensor]:
    """All that a version answers by."""
    files = [path.relative_to(version) for path in sorted(version.rglob("*.safetensors"))]
    own = [file for file in files if file.parts[0] != "companion"]
    return {f"{file}/{name}": tensor for file in own for name, tensor in load_file(version / file).items()}


def same(one: Path, other: Path) -> bool:
    first, second = weights_of(one), weights_of(other)
    return bool(first) and first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


@pytest.fixture(scope="module")
def together(town: Path) -> Path:
    """What three clients learned by averaging, in one process."""
    return learned(town, town / "together", None, flower=False)


@pytest.mark.parametrize("name", [name for name in erasers.names() if name not in APART])
def test_an_erasure_through_flower_has_the_bits_of_one_process(
    name: str, together: Path, town: Path, tmp_path: Path
) -> None:
    sets = {PUBLIC_CLIENT: str(town / "nobody.jsonl")} if name == "subtract_distil" else None
    options = {"deviation": 0.0} if name == "fed_recovery" else {}  # with its noise no model answers in numbers
    for flower in (False, True):
        output = tmp_path / ("flower" if flower else "here")
        erase_client(together, "bob", Manner(output), by=name, sets=sets, how=how(flower, options=options))
    assert same(tmp_path / "here", tmp_path / "flower")
    assert not same(tmp_path / "here", together)


@pytest.mark.parametrize("name", APART)
def test_exact_erasers_learn_and_erase_through_flower(name: str, town: Path, tmp_path: Path) -> None:
    ways = {flower: learned(town, tmp_path / f"learned-{flower}", name, flower) for flower in (False, True)}
    assert same(ways[False], ways[True])
    metrics = ("accuracy",) if name == "closed_form" else ("ma",)
    for flower, version in ways.items():
        erase_client(version, "bob", Manner(tmp_path / f"gone-{flower}"), by=name, how=how(flower, metrics=metrics))
    assert same(tmp_path / "gone-False", tmp_path / "gone-True")


def test_an_eraser_that_cannot_is_refused_through_flower_as_here(together: Path, tmp_path: Path) -> None:
    for flower in (False, True):
        for name in APART:
            with pytest.raises(PlanError, match=rf"{name} cannot erase from .* learned by averaging"):
                erase_client(together, "bob", Manner(tmp_path / "no"), by=name, how=how(flower))
        with pytest.raises(PlanError, match="subtract_distil teaches on rows of no client; give them with --public"):
            erase_client(together, "bob", Manner(tmp_path / "no"), by="subtract_distil", how=how(flower))
