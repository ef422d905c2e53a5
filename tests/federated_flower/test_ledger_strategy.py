"""Flower's own ``strategy.start`` leaves rounds in the signed ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.federated_flower.toys import MODEL, START, grid_of, node

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_writing import RoundWriter
from palimpsest.companions.rounds import RoundLedger
from palimpsest.errors import ModelError, RunError
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.flower.grid_clients import GridClients
from palimpsest.federated.flower.ledger_strategy import LedgerStrategy
from palimpsest.federated.flower.messages import as_arrays, as_tensors

KEY = MarkKey(bytes(range(32)))
NODES = [node("a", 0.5, 3), node("b", -1.0, 1)]


def started(folder: Path, names: tuple[str, ...] = ("a", "b")) -> dict[str, torch.Tensor]:
    grid = grid_of(*NODES)
    clients = GridClients(grid, names, MODEL, timeout=0.3, wait=0.0)
    strategy = LedgerStrategy(clients, RoundWriter(RoundLedger.open(folder, KEY), names))
    result = strategy.start(grid, as_arrays(START), num_rounds=2)
    return as_tensors(result.arrays)


def test_rounds_are_recorded_and_are_those_of_the_procedure(tmp_path: Path) -> None:
    final = started(tmp_path / "rounds", ("a", "b", "gone"))
    ledger = RoundLedger.open(tmp_path / "rounds", KEY)
    assert len(ledger) == 2
    procedure = fed_avg(START, ("a", "b"), 1.0, 2)
    errand = next(procedure)
    for number in range(2):
        replies = {one.hello.client: next(one.clients.ask(errand, number)) for one in NODES}
        weights, told, absent = ledger.heard(number, {KEY.of_id(name): name for name in ("a", "b", "gone")})
        assert all(torch.equal(weights[name], errand.weights[name]) for name in START)
        assert all(torch.equal(told[c].delta[name], replies[c].delta[name]) for c in told for name in START)
        assert [(one.client, one.why) for one in absent] == [("gone", "it is not connected")]
        if number == 0:
            errand = procedure.send(replies)
    with pytest.raises(StopIteration) as ended:
        procedure.send(replies)
    assert all(torch.equal(final[name], ended.value.value[name]) for name in START)


def test_a_changed_record_is_refused_and_a_second_start_too(tmp_path: Path) -> None:
    started(tmp_path / "rounds")
    with pytest.raises(RunError, match="round 1 is in the ledger already"):
        started(tmp_path / "rounds")
    record = tmp_path / "rounds" / "round-0001" / "round.json"
    said = json.loads(record.read_text(encoding="utf-8"))
    changed = record.read_text(encoding="utf-8").replace(f'"examples": {3}', f'"examples": {9}')
    assert said != json.loads(changed)
    record.write_text(changed, encoding="utf-8")
    with pytest.raises(ModelError, match="round.json"):
        RoundLedger.open(tmp_path / "rounds", KEY).heard(1, {})
