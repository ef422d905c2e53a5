"""Rounds: what is written is what is read, a change of one bit shows, and what a purge goes back to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from palimpsest.companions.companion import Change
from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_files import read_signed_json, round_folder, write_signed_json
from palimpsest.companions.round_record import Absent, Reply
from palimpsest.companions.round_writing import Heard, RoundWriter
from palimpsest.companions.rounds import RoundLedger
from palimpsest.errors import ModelError

KEY = MarkKey(b"k" * 32)


def reply(client: str, value: float) -> Reply:
    return Reply(client, {"b": torch.tensor([value]), "a": torch.tensor([value * 2])}, 3, 0.5, 0.25)


def at(value: float) -> dict[str, torch.Tensor]:
    return {"b": torch.tensor([value]), "a": torch.tensor([-value])}


def written(place: Path, key: MarkKey, rounds: Sequence[Sequence[str]], absent: str = "") -> RoundLedger:
    """Rounds in which each client moves the weights by 1."""
    names = {name for who in rounds for name in who} | ({absent} - {""})
    writer = RoundWriter(RoundLedger.open(place, key), names)
    for number, who in enumerate(rounds):
        asked = (*who, absent) if absent else tuple(who)
        writer.begin(number, at(float(number)), {"epochs": 2}, asked)
        told = {name: reply(name, 1.0 + number) for name in who}
        for one in told.values():
            writer.hear(number, one)
        writer.close(number, {"epochs": 2}, Heard(told, (Absent(absent, "died"),) if absent else ()))
    writer.end(at(float(len(rounds))))
    writer.settle("version")
    return writer.ledger


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: these clients come into the second round."""
    written(place, key, [["another"], ["another", *ids]])


def test_a_round_is_read_as_it_was_written(tmp_path):
    written(tmp_path, KEY, [["a", "b"], ["a"]], absent="c")
    ledger = RoundLedger.open(tmp_path, KEY)
    names = {KEY.of_id(name): name for name in "abc"}
    found = ledger.round(0, names)
    assert list(found.told) == ["a", "b"]
    assert found.told["b"] == reply("b", 1.0)
    assert list(found.weights) == ["b", "a"]  # in the order of the model
    assert (found.weights["b"].item(), found.combined["b"].item()) == (0.0, 1.0)
    assert found.absent == (Absent("c", "died"),)
    assert ledger.final["a"].item() == -2.0
    assert len(ledger) == 2
    assert ledger.damage() == ""


FILES = ["round-0000/weights.safetensors", "round-0001/weights.safetensors", "final.safetensors", "answer"]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_number_is_refused(tmp_path, name):
    written(tmp_path, KEY, [["a"], ["a"]])
    path = tmp_path / ("round-0001/" + KEY.of_id("a") + ".safetensors" if name == "answer" else name)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as opened:
        said = opened.metadata()
    tensors["b"] += 1e-3
    save_file(tensors, path, metadata=said)
    assert "was changed after it was written" in RoundLedger.open(tmp_path, KEY).damage()


def test_a_record_of_another_time_is_refused(tmp_path):
    """Each record bears the digest of the one before: swapping in one that was signed by the same key shows."""
    written(tmp_path / "one", KEY, [["a"], ["a"], ["a"]])
    written(tmp_path / "other", KEY, [["b"], ["a"], ["a"]])
    record = round_folder(0) + "/round.json"
    (tmp_path / "one" / record).write_bytes((tmp_path / "other" / record).read_bytes())
    with pytest.raises(ModelError, match=r"round-0001/round\.json was changed"):
        RoundLedger.open(tmp_path / "one", KEY).record(1)


def test_an_index_that_leaves_a_round_out_is_refused(tmp_path):
    ledger = written(tmp_path, KEY, [["a"], ["a"]])
    content = (tmp_path / "index.json").read_text().replace('"end": 2', '"end": 1')
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ModelError, match="was changed"):
        RoundLedger.open(tmp_path, KEY)
    assert len(ledger) == 2


def test_another_key_is_refused_in_words(tmp_path):
    written(tmp_path, KEY, [["a"]])
    with pytest.raises(ModelError, match="recorded with another key"):
        RoundLedger.open(tmp_path, MarkKey(b"o" * 32))


def test_signed_json_takes_no_other_value(tmp_path):
    write_signed_json(tmp_path / "x.json", {"n": 1}, KEY)
    assert read_signed_json(tmp_path / "x.json", KEY) == {"n": 1}
    (tmp_path / "x.json").write_text((tmp_path / "x.json").read_text().replace('"n": 1', '"n": 2'))
    with pytest.raises(ModelError, match="was changed"):
        read_signed_json(tmp_path / "x.json", KEY)


def test_a_purge_goes_back_to_before_the_client_came(tmp_path):
    ledger = written(tmp_path, KEY, [["a"], ["a", "b"], ["a"]])
    found = ledger.forget(["b"])
    assert (found.ids, found.records) == ({"b"}, 3)  # both answers of round 1, and a's of round 2, made from b's
    again = RoundLedger.open(tmp_path, KEY)
    assert len(again) == 1
    assert again.final["b"].item() == 1.0  # what round 1 began with: nothing of b
    assert not list(tmp_path.glob("round-0001*"))
    with pytest.raises(ModelError, match="did not lead to the weights"):
        again.check_whole("version", "DIR")


def test_a_purge_of_who_was_there_first_leaves_the_start(tmp_path):
    ledger = written(tmp_path, KEY, [["a", "b"], ["a", "b"]])
    ledger.forget(["a"])
    assert len(ledger) == 0
    assert ledger.start["b"].item() == 0.0
    assert ledger.holds(["a", "b"]) == frozenset()


def test_what_a_client_who_goes_took_part_in_is_dropped(tmp_path):
    """An erasure may ask the client itself first: only what came after that is a history of the others."""
    writer = RoundWriter(written(tmp_path, KEY, [["gone"], ["a", "b"], ["a"]]), ["gone", "a", "b"])
    writer.settle("new", "gone")
    ledger = RoundLedger.open(tmp_path, KEY)
    assert (ledger.index.first, ledger.index.end) == (1, 3)
    assert ledger.start["b"].item() == 1.0
    assert ledger.holds(["gone", "a", "b"]) == {"a", "b"}
    assert ledger.damage() == ""
    writer.settle("new", "gone")  # again, as after a death
    assert (ledger.index.first, ledger.index.end) == (1, 3)


def test_rows_are_no_clients_and_other_runs_make_it_stale(tmp_path):
    ledger = written(tmp_path, KEY, [["a"]])
    change = Change("npo", "m", 3, frozenset({"a"}))
    assert ledger.passed_on(change).ids == frozenset()
    assert ledger.holds(["a"])
    assert "npo changed what the rounds had made" in ledger.stale_after(change)
