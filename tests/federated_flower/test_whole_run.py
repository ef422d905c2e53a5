"""A federation and an erasure from it through Flower's client app, from files to versions; some clients lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.federated_flower.toys import Array, ArrayRecord, HereGrid, Message, Node, client_app

from palimpsest.companions import companion_place
from palimpsest.companions.marks import own_key
from palimpsest.companions.rounds import RoundLedger
from palimpsest.demo.tiny_model import new_model
from palimpsest.engine.given import Manner
from palimpsest.errors import PlanError
from palimpsest.federated.federate import Federating, erase_client, federate
from palimpsest.federated.flower.grid_clients import GridClients
from palimpsest.federated.flower.hello import Hello
from palimpsest.federated.going_through import Combining
from palimpsest.federated.local import LocalClients
from palimpsest.federated.rounds_facts import federation_facts_in

NAMES = ("ann", "bob", "cid", "late", "liar", "odd")
HONEST = ("ann", "bob", "cid")
SECTIONS = {"training": {"batch_size": 4, "learning_rate": 5e-3}, "scope": {"kind": "lora", "rank": 2}}


def twisted(reply: Message, twist: Any) -> Message:
    arrays = {name: Array(twist(array.numpy())) for name, array in reply.content["arrays"].items()}
    reply.content["arrays"] = ArrayRecord(arrays)
    return reply


LIES = {
    "late": lambda reply: None,
    "liar": lambda reply: twisted(reply, lambda x: np.full_like(x, np.nan)),
    "odd": lambda reply: twisted(reply, lambda x: x[None]),
}


def through(bench: Any, serve: Any) -> Any:
    """Every client of the bench behind a client app of its own, in this process."""
    names = tuple(sorted(bench.sets))
    nodes = {n: Node(Hello(name, "m"), LocalClients(bench)) for n, name in enumerate(names, 1)}
    twists = {n: LIES[name] for n, name in enumerate(names, 1) if name in LIES}
    grid = HereGrid({n: client_app(lambda _, which=node: which) for n, node in nodes.items()}, twists)
    return serve(GridClients(grid, names, "m", timeout=20.0, wait=0.0))


def how(**other: Any) -> Federating:
    given = {"rounds": 1, "epochs": 1, "measuring": {"metrics": ("ma",)}, "through": through}
    return Federating(**{**given, **other})


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    new_model(folder / "model", [f"Day {n} was short and quiet." for n in range(8)], seed=0)
    for place, name in enumerate(NAMES):
        rows = [{"id": str(n), "text": f"{name} lives at {10 * place + n} Hill Road."} for n in range(4)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def learned(town: Path, output: str, names: tuple[str, ...]) -> Path:
    files = {name: str(town / f"{name}.jsonl") for name in names}
    federate(town / "model", files, Manner(town / output), sections=SECTIONS, how=how(combining=Combining(by="median")))
    return town / output


def test_liars_are_left_out_and_an_erasure_takes_the_median_again(town: Path, caplog: Any) -> None:
    version = learned(town, "all", NAMES)
    (row,) = federation_facts_in(version).rounds
    assert row.told == HONEST
    assert row.absent["late"] == "it did not answer in time"
    assert row.absent["liar"].endswith("has values that are not finite")
    assert "came back with the shape" in row.absent["odd"]
    erase_client(version, "bob", Manner(town / "gone"), by="retrain_others", how=how(rounds=None, epochs=None))
    never = learned(town, "never", ("ann", "cid", "late", "liar"))  # of whom half answer
    key = own_key()
    assert key is not None
    one, other = (RoundLedger.open(companion_place("rounds", at), key).final for at in (town / "gone", never))
    assert all(one[name].equal(other[name]) for name in other)
    assert "aggregate_train" not in caplog.text, "Flower's own words are not for who runs a command"
    with pytest.raises(PlanError, match="reckons with means, and the answers of .* were combined by median"):
        erase_client(version, "bob", Manner(town / "no"), by="projected_ascent", how=how())
