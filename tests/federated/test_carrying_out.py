"""Carrying a procedure out: what clients answered is used once and asked once, whatever dies; who fails is absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_record import Absent, Reply
from palimpsest.companions.round_writing import RoundWriter
from palimpsest.companions.rounds import RoundLedger
from palimpsest.errors import FederationError, ModelError
from palimpsest.federated.averaging import averaged_by, mean_delta, mean_of_clients
from palimpsest.federated.carrying_out import RoundFacts, carry_out
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.procedure import Errand, Procedure

KEY = MarkKey(b"k" * 32)
START = {"w": torch.tensor([0.0, 1.0])}
TARGETS = {"a": 1.0, "b": 2.0, "c": 6.0}
ROWS = {"a": 1, "b": 2, "c": 3}


class Death(BaseException):
    """The process is gone."""


class Halving:
    """Each client goes half of the way to its own target; nobody's answer depends on others."""

    def __init__(self, fails: Callable[[str, int], str | Reply | None] = lambda client, number: None) -> None:
        self.asked: list[tuple[int, str]] = []
        self._fails = fails
        self.dies_before: tuple[int, str] | None = None

    names = tuple(TARGETS)

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        for client in errand.who:
            if self.dies_before == (number, client):
                raise Death
            self.asked.append((number, client))
            wrong = self._fails(client, number)
            if wrong is not None:
                yield Absent(client, wrong) if isinstance(wrong, str) else wrong
                continue
            delta = {name: (TARGETS[client] - tensor) * 0.5 for name, tensor in errand.weights.items()}
            yield Reply(client, delta, ROWS[client], float(errand.weights["w"][0]), 0.1)


def carried(folder: Path, clients: Halving, rounds: int = 3) -> tuple[dict[str, torch.Tensor], list[RoundFacts]]:
    told: list[RoundFacts] = []
    writer = RoundWriter(RoundLedger.open(folder, KEY), TARGETS)
    return carry_out(fed_avg(START, ("a", "b", "c"), 1.0, rounds), clients, writer, told.append), told


def test_federated_averaging_by_hand(tmp_path: Path) -> None:
    """The mean target, by rows, is (1 + 4 + 18) / 6; each round halves the way to it."""
    mean = 23 / 6
    final, told = carried(tmp_path, Halving(), rounds=2)
    assert final["w"].tolist() == pytest.approx([mean * 0.75, mean + (1 - mean) * 0.25])
    assert [facts.told for facts in told] == [("a", "b", "c")] * 2
    assert told[0].down == told[0].up == 3 * 2 * 4
    assert told[1].loss == pytest.approx(mean / 2)


def test_the_order_of_arrival_changes_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(64, generator=generator) * 10 ** (n - 3) for n, name in enumerate("abcdefg")}
    shares = {name: n + 1 for n, name in enumerate(tensors)}
    backwards = dict(reversed(tensors.items()))
    assert torch.equal(mean_of_clients(tensors, shares), mean_of_clients(backwards, shares))
    exact = sum(t.double() * shares[n] for n, t in tensors.items()) / sum(shares.values())
    assert torch.allclose(mean_of_clients(tensors, shares).double(), exact, rtol=1e-7)


def test_nobody_answered_nothing_moves() -> None:
    assert averaged_by(START, {})["w"] is START["w"]
    one = Reply("a", {"w": torch.tensor([2.0, 4.0])}, 5, 0.0, 0.0)
    assert torch.equal(mean_delta({"a": one})["w"], one.delta["w"])


MOMENTS = ["weights", "first", "between", "record", "index", "final", "ended"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_death_at_any_moment_asks_nobody_twice(moment, tmp_path, monkeypatch):
    whole, _ = carried(tmp_path / "whole", Halving())
    clients = Halving()
    _die_at(moment, clients, monkeypatch)
    with pytest.raises(Death):
        carried(tmp_path / "killed", clients)
    monkeypatch.undo()
    clients.dies_before = None
    again, told = carried(tmp_path / "killed", clients)
    assert torch.equal(again["w"], whole["w"])
    assert sorted(clients.asked) == [(number, client) for number in range(3) for client in "abc"]
    assert [facts.number for facts in told] == [0, 1, 2]
    assert RoundLedger.open(tmp_path / "killed", KEY).damage() == ""
    third, _ = carried(tmp_path / "killed", clients)  # all is there
    assert torch.equal(third["w"], whole["w"])
    assert len(clients.asked) == 9


def _die_at(moment: str, clients: Halving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process end right after, or before, something is on the disk."""
    if moment in ("first", "between"):
        clients.dies_before = (1, "a" if moment == "first" else "c")
        return
    from palimpsest.companions import round_writing

    names = {"weights": "weights.safetensors", "record": "round.json", "final": "final.safetensors"}
    seen = {"n": 0}

    def dies_after(function: Callable[..., object], hit: Callable[[Path], bool]) -> Callable[..., object]:
        def call(path: Path, *rest: object) -> object:
            found = function(path, *rest)
            seen["n"] += hit(path)
            if hit(path) and seen["n"] == (2 if moment in ("weights", "record") else 1):
                raise Death
            return found

        return call

    if moment in ("index", "ended"):
        real = RoundLedger.write

        def write(self: RoundLedger, index: object) -> None:
            reached = index.end == 2 if moment == "index" else index.ended  # type: ignore[attr-defined]
            real(self, index)  # type: ignore[arg-type]
            if reached:
                raise Death

        monkeypatch.setattr(RoundLedger, "write", write)
        return
    name = "write_signed_json" if moment == "record" else "write_signed_tensors"
    dying = dies_after(getattr(round_writing, name), lambda path: path.name == names[moment])
    monkeypatch.setattr(round_writing, name, dying)


def test_a_client_that_fails_is_absent_and_asked_again_in_the_next_round(tmp_path: Path) -> None:
    clients = Halving(lambda client, number: "died" if (client, number) == ("b", 0) else None)
    final, told = carried(tmp_path, clients, rounds=2)
    assert told[0].absent == {"b": "died"}
    assert told[0].told == ("a", "c")
    assert told[1].told == ("a", "b", "c")
    first = averaged_by(
        START, {n: Reply(n, {"w": (TARGETS[n] - START["w"]) * 0.5}, ROWS[n], 0.0, 0.0) for n in ("a", "c")}
    )
    assert final["w"][0].item() == pytest.approx((first["w"][0] + 23 / 6).item() / 2)


def test_who_was_silent_is_named(tmp_path: Path) -> None:
    clients = Halving()
    clients.ask = lambda errand, number: iter(())  # type: ignore[method-assign]
    with pytest.raises(FederationError, match=r"round 1: 0 of 3 clients answered, and half must; .*a \(did not answer"):
        carried(tmp_path, clients)


def test_too_few_answers_stop_it_and_the_next_go_asks_the_others_alone(tmp_path: Path) -> None:
    clients = Halving(lambda client, number: "died" if client != "a" else None)
    with pytest.raises(FederationError, match="1 of 3 clients answered"):
        carried(tmp_path, clients)
    clients._fails = lambda client, number: None
    clients.asked.clear()
    final, _ = carried(tmp_path, clients)
    assert clients.asked[:2] == [(0, "b"), (0, "c")]
    assert torch.equal(final["w"], carried(tmp_path / "whole", Halving())[0]["w"])


LIES = {
    "not finite": Reply("a", {"w": torch.tensor([float("nan"), 1.0])}, 1, 0.0, 0.0),
    "another model": Reply("a", {"w": torch.tensor([1.0])}, 1, 0.0, 0.0),
    "no rows": Reply("a", {"w": torch.tensor([1.0, 1.0])}, 0, 0.0, 0.0),
}


@pytest.mark.parametrize("why", LIES)
def test_nonsense_does_not_count(why, tmp_path):
    clients = Halving(lambda client, number: LIES[why] if client == "a" else None)
    _, told = carried(tmp_path, clients, rounds=1)
    assert why in told[0].absent["a"]
    assert told[0].told == ("b", "c")


def test_what_is_known_is_not_asked(tmp_path: Path) -> None:
    known = Reply("a", {"w": torch.tensor([1.0, 1.0])}, 1, 0.0, 0.0)

    def procedure() -> Procedure:
        told = yield Errand(START, ("a", "b"), known={"a": known})
        return averaged_by(START, told)

    clients, facts = Halving(), list[RoundFacts]()
    carry_out(procedure(), clients, RoundWriter(RoundLedger.open(tmp_path, KEY), TARGETS), facts.append)
    assert clients.asked == [(0, "b")]
    assert (facts[0].known, facts[0].told, facts[0].down) == (("a",), ("a", "b"), 8)


def test_another_procedure_does_not_go_on_with_these_rounds(tmp_path: Path) -> None:
    carried(tmp_path, Halving(), rounds=1)
    writer = RoundWriter(RoundLedger.open(tmp_path, KEY), TARGETS)
    with pytest.raises(ModelError, match="something else was asked"):
        carry_out(fed_avg(START, ("a", "b"), 1.0, 1), Halving(), writer, lambda facts: None)


def test_a_changed_record_is_refused(tmp_path: Path) -> None:
    clients = Halving()
    clients.dies_before = (1, "b")
    with pytest.raises(Death):
        carried(tmp_path, clients)
    record = tmp_path / "round-0000" / "round.json"
    record.write_text(record.read_text().replace('"examples": 1', '"examples": 9'))
    with pytest.raises(ModelError, match=r"round-0000/round\.json was changed"):
        carried(tmp_path, Halving())


def test_without_a_number_it_ends_when_the_loss_no_longer_falls(tmp_path: Path) -> None:
    """The clients say the weight as their loss: it rises from 0, so that two rounds are idle at once."""
    told: list[RoundFacts] = []
    writer = RoundWriter(RoundLedger.open(tmp_path, KEY), TARGETS)
    carry_out(fed_avg(START, ("a", "b", "c"), 1.0), Halving(), writer, told.append)
    assert len(told) == 3


def test_local_work_that_diverged_is_not_to_be_asked_again(tmp_path: Path) -> None:
    """Where half would have answered otherwise; not where most are merely not there."""
    lost = "phase 'joint': loss nan, gradient norm nan; lower the learning rate"
    diverging = {"a": "is not there", "b": lost, "c": lost}
    with pytest.raises(FederationError, match=r"b \(phase.*clean.*a smaller --lr") as refused:
        carried(tmp_path / "diverging", Halving(lambda client, number: diverging[client]))
    assert refused.value.diverged
    with pytest.raises(FederationError, match="the same command again") as refused:
        carried(tmp_path / "gone", Halving(lambda client, number: lost if client == "c" else "is not there"))
    assert not refused.value.diverged
