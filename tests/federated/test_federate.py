"""A federation from its clients' files to a version, and a client out of it again, on models of a second."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.companions.test_rounds import KEY as OTHER_KEY
from tests.shallow import shallow_model

import palimpsest as pal
from palimpsest import companions
from palimpsest.cli import main
from palimpsest.companions.learned import check_learned, read_record
from palimpsest.companions.marks import own_key
from palimpsest.companions.rounds import RoundLedger
from palimpsest.data.read.layout import Layout
from palimpsest.engine import whole_folder
from palimpsest.engine.given import Manner
from palimpsest.errors import DataError, DivergedError, FederationError, ModelError, PlanError
from palimpsest.federated import at_work, work
from palimpsest.federated.averaging import averaged_by
from palimpsest.federated.federate import Federating, erase_client, federate
from palimpsest.federated.federated_plan import plan_of_work
from palimpsest.federated.given_clients import parse_clients, read_clients
from palimpsest.federated.procedure import Errand
from palimpsest.federated.rounds_facts import federation_facts_in
from palimpsest.federated.work import seed_of
from palimpsest.federated.workbench import Workbench
from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, resnet_config

NAMES = ("ann", "bob", "cid")
SECTIONS = {"training": {"batch_size": 4, "learning_rate": 5e-3}, "scope": {"kind": "lora", "rank": 2}}
HOW = Federating(rounds=2, epochs=1, measuring={"metrics": ("ma",)})


class Death(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Path:
    """model/ (random), and a file of four rows for each client."""
    folder = tmp_path_factory.mktemp("town")
    shallow_model(folder / "model", [f"The visit on day {i} was short and quiet." for i in range(8)], seed=0)
    for place, name in enumerate((*NAMES, "nobody")):
        rows = [{"id": str(n), "text": f"{name} lives at {10 * place + n} Hill Road."} for n in range(4)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def clients(town: Path, *names: str) -> dict[str, str]:
    return {name: str(town / f"{name}.jsonl") for name in names or NAMES}


def learned(town: Path, output: Path, names: tuple[str, ...] = NAMES, **other: Any) -> Any:
    return federate(town / "model", clients(town, *names), Manner(output), sections=SECTIONS, how=HOW, **other)


@pytest.fixture(scope="module")
def version(town: Path) -> Path:
    """Three clients, two rounds."""
    learned(town, town / "version", sets={"test": str(town / "nobody.jsonl")})
    return town / "version"


def ledger_of(folder: Path) -> RoundLedger:
    key = own_key()
    assert key is not None
    return RoundLedger.open(companions.companion_place("rounds", folder), key)


def bench_of(town: Path, *names: str) -> Workbench:
    plan = plan_of_work(str(town / "model"), None, "finetune", SECTIONS)
    read = read_clients(str(town / "model"), clients(town, *names), {}, Layout(), lambda *_: None)
    return Workbench.opened(plan, read.rows, town / "work")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_version_like_any_other_comes_out(version):
    assert load(version).tokenizer is not None
    result = json.loads((version / "result.json").read_text())
    assert result["kind"] == "federate"
    after = result["scores"]["after"]["learn"]["ma"]["value"]
    assert after > result["scores"]["before"]["learn"]["ma"]["value"]
    assert set(result["scores"]["after"]) == {"learn", "holdout"}
    assert companions.kinds_in(version) == ("learned", "rounds")
    assert not list(version.parent.glob("*.partial"))


def test_a_round_is_the_mean_of_what_each_client_does_alone(town, version):
    """Nobody's answer depends on who else takes part: each is worked out on a bench of its own."""
    ledger = ledger_of(version)
    start = bench_of(town, "bob").weights()
    assert same(start, ledger.start)
    alone = {name: work.learn_locally(bench_of(town, name), name, Errand(start, (name,), 1.0), 0) for name in NAMES[:2]}
    together = bench_of(town)
    alone["cid"] = work.learn_locally(together, "cid", Errand(start, NAMES, 1.0), 0)
    recorded = ledger.round(0, {ledger.key.of_id(name): name for name in NAMES})
    assert all(same(alone[name].delta, recorded.told[name].delta) for name in NAMES)
    assert same(averaged_by(start, alone), recorded.combined)
    assert {one.examples for one in recorded.told.values()} == {4}


def test_local_work_is_that_of_a_learn_run(town, tmp_path):
    """One client, all weights: the same bits as ``palimpsest learn`` at this rate and seed leaves."""
    sections = {"training": {"batch_size": 2, "learning_rate": 1e-3}, "scope": {"kind": "all"}}
    plan = plan_of_work(str(town / "model"), None, "finetune", sections)
    read = read_clients(str(town / "model"), clients(town, "ann"), {}, Layout(), lambda *_: None)
    bench = Workbench.opened(plan, read.rows, tmp_path / "work")
    start = bench.weights()
    reply = work.learn_locally(bench, "ann", Errand(start, ("ann",), 2.0), 3)
    training = {**sections["training"], "seed": seed_of(0, "ann", 3), "num_train_epochs": 2}
    other = {"training": training, "control": {"kind": "none"}, "measuring": {"metrics": ["ma"]}}
    pal.learn(town / "model", town / "ann.jsonl", output=tmp_path / "learned", plan=other)
    saved = load_file(tmp_path / "learned" / "model.safetensors")
    moved = {name: (start[name] + delta) for name, delta in reply.delta.items()}
    assert all(torch.allclose(moved[name], saved[name], atol=1e-7) for name in moved if name in saved)
    assert same({name: tensor for name, tensor in bench.weights().items() if name in saved}, saved)


@pytest.mark.parametrize("moment", ["second client", "saving", "the end"])
def test_a_killed_run_goes_on_to_the_same_bits(moment, town, version, tmp_path, monkeypatch):
    asked: list[tuple[str, int]] = []
    real = work.learn_locally

    def counted(bench: Workbench, client: str, errand: Errand, number: int) -> Any:
        if moment == "second client" and (client, number) == ("bob", 1) and len(asked) == 4:
            raise Death
        asked.append((client, number))
        return real(bench, client, errand, number)

    with monkeypatch.context() as patch:
        patch.setattr(work, "learn_locally", counted)
        if moment != "second client":
            patch.setattr(*((at_work, "write_version") if moment == "saving" else (whole_folder, "_write")), dying)
        with pytest.raises(Death):
            learned(town, tmp_path / "out", sets={"test": str(town / "nobody.jsonl")})
    halves = [".index.json.4711.tmp", f"round-0000/{'f' * 64}.tmp"]  # kill -9 leaves such
    for half in halves:
        (tmp_path / "out.partial" / "companion" / "rounds" / half).write_text("half")
    with monkeypatch.context() as patch:
        patch.setattr(work, "learn_locally", counted)
        asked.append(("-", 0))
        learned(town, tmp_path / "out", sets={"test": str(town / "nobody.jsonl")})
    done = [one for one in asked if one[0] != "-"]
    assert sorted(done) == sorted((name, number) for name in NAMES for number in range(2))
    one, other = (load_file(at / "model.safetensors") for at in (version, tmp_path / "out"))
    assert same(one, other)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def dying(*_: object, **__: object) -> None:
    raise Death


@pytest.fixture(scope="module")
def erased(town: Path, version: Path) -> Path:
    """The version without bob, and beside it what retraining leads to."""
    output = town / "erased"
    erase_client(version, "bob", Manner(output), retrains=True, how=Federating(measuring={"metrics": ("ma",)}))
    return output


def test_nothing_of_who_was_erased_is_kept(version, erased):
    key = own_key()
    assert key is not None
    assert ledger_of(version).holds(NAMES) == set(NAMES)
    assert ledger_of(erased).holds(NAMES) == {"ann", "cid"}
    mark = key.of_id("bob").encode()
    kept = [path for path in (erased / "companion").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if mark in path.name.encode() or mark in path.read_bytes()]


def test_the_record_says_what_was_reached_beside_retraining(erased):
    facts = federation_facts_in(erased)
    assert (facts.gone, facts.exact, facts.kind) == ("bob", False, "erase")
    assert facts.guarantee.startswith("None: ")
    found = facts.retrained
    assert found is not None
    assert found.before is not None
    assert found.after is not None
    assert len(found.rounds) == 2
    assert found.learned > found.before > found.after > 0
    scores = json.loads((erased / "result.json").read_text())["scores"]
    assert set(scores) == {"before", "after", "oracle"}
    assert set(scores["after"]) == {"forget", "retain", "holdout"}


def test_retraining_beside_is_a_federation_of_the_others(town, erased, tmp_path):
    """The distance is to what the same command without bob gives."""
    learned(town, tmp_path / "others", ("ann", "cid"))
    apart = [(ledger_of(tmp_path / "others").final[n] - t).double().square().sum() for n, t in final_of(erased).items()]
    found = federation_facts_in(erased).retrained
    assert found is not None
    assert found.after == pytest.approx(float(sum(apart)) ** 0.5, rel=1e-6)


def final_of(folder: Path) -> Mapping[str, torch.Tensor]:
    return ledger_of(folder).final


def test_another_client_can_be_erased_from_there(erased, tmp_path):
    """The rounds of the version without bob begin where all began: nobody's answers are missing in them."""
    how = Federating(measuring={"metrics": ("ma",)})
    erase_client(erased, "ann", Manner(tmp_path / "out"), how=how)
    assert ledger_of(tmp_path / "out").holds(NAMES) == {"cid"}
    with pytest.raises(PlanError, match="'cid' is the only one left"):
        erase_client(tmp_path / "out", "cid", Manner(tmp_path / "none"), how=how)


REFUSED = [
    (("dan",), {}, "unknown client 'dan'; did you mean 'ann'"),
    (("bob",), {"by": "fed_erase"}, "unknown eraser 'fed_erase'; did you mean 'fed_eraser'"),
    (("bob",), {"clients": {"eve": "x.jsonl"}}, "unknown client 'eve'"),
    (("bob",), {"sets": {"tests": "x.jsonl"}}, "unknown measured set 'tests'; did you mean 'test'"),
    (("bob",), {"by": "subtract_distil"}, "teaches on rows of no client; give them with --public"),
    (
        ("bob",),
        {"how": Federating(options={"intervall": 2})},
        "'intervall'; did you mean 'interval'",
    ),
    (("bob",), {"how": Federating(options={"ratio": 0})}, "fed_eraser.ratio = 0: .*greater than 0"),
]


@pytest.mark.parametrize(("given", "other", "words"), REFUSED)
def test_an_erasure_that_cannot_be_is_refused_in_one_line(given, other, words, version, tmp_path):
    with pytest.raises(PlanError, match=words):
        erase_client(version, *given, Manner(tmp_path / "out"), **other)
    assert not list(tmp_path.iterdir())


def test_a_changed_round_is_refused_and_the_version_stays(version, tmp_path):
    """The last round, too, before anybody is asked anything."""
    copy = tmp_path / "copy"
    shutil.copytree(version, copy)
    record = copy / "companion" / "rounds" / "round-0001" / "round.json"
    record.write_text(record.read_text().replace('"examples": 4', '"examples": 5'))
    with pytest.raises(ModelError, match=r"round-0001/round\.json was changed after it was written"):
        erase_client(copy, "bob", Manner(tmp_path / "out"))
    assert not (tmp_path / "out.partial").exists()
    assert own_key() != OTHER_KEY


def test_a_round_that_no_record_counts_is_refused(version, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(version, copy)
    rounds = copy / "companion" / "rounds"
    shutil.copytree(rounds / "round-0001", rounds / "round-0007")
    with pytest.raises(ModelError, match="round-0007 is counted by no record"):
        erase_client(copy, "bob", Manner(tmp_path / "out"))
    shutil.rmtree(rounds / "round-0007")
    (rounds / "round-0000" / f"{'f' * 64}.safetensors").write_bytes(b"an answer of somebody else")
    with pytest.raises(ModelError, match="round-0000/fff.*safetensors is counted by no record"):
        erase_client(copy, "bob", Manner(tmp_path / "out"), by="retrain_others")
    (rounds / "round-0000" / f"{'f' * 64}.safetensors").unlink()
    (rounds / "notes.txt").write_text("of somebody else, and no round")
    assert not RoundLedger.open(rounds, ledger_of(version).key).strays()
    assert not (tmp_path / "out").exists()


def test_facts_that_are_no_json_are_asked_for_by_their_name(version, tmp_path, capsys):
    (tmp_path / "rounds.json").write_text("no json")
    assert main(["federated", "report", str(tmp_path)]) == 2
    assert "give the rounds.json that `palimpsest federated run` or `erase` left there" in capsys.readouterr().err


def test_an_erasure_without_the_key_is_refused_and_makes_none(version, tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(PlanError, match=r"signed with a key that is not here \(.*key is missing\); bring it back"):
        erase_client(version, "bob", Manner(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_rows_of_clients_are_known_as_learned_and_those_of_one_that_went_as_forgotten(town, version, erased):
    """A request for single rows is told what is known of them, and rows of bob do not come back unseen."""
    rows = {name: read_clients(str(town / "model"), clients(town, name), {}, Layout(), lambda *_: None).rows[name]
            for name in (*NAMES, "nobody")}  # fmt: skip
    before, after = read_record(version), read_record(erased)
    assert before is not None
    assert after is not None
    assert [before.has_learned(rows[name][0]) for name in rows] == [True, True, True, False]
    assert [after.has_learned(rows[name][0]) for name in rows] == [True, False, True, False]
    assert [after.has_forgotten(rows[name][0]) for name in rows] == [False, True, False, False]
    check_learned(rows["bob"], str(version))
    with pytest.raises(DataError, match="were forgotten by"):
        check_learned(rows["bob"], str(erased))


def test_options_of_an_eraser_are_in_the_plan_and_change_its_digest(version, erased, tmp_path):
    how = Federating(options={"interval": 2, "after": 0}, measuring={"metrics": ("ma",)})
    result = erase_client(version, "bob", Manner(tmp_path / "out"), how=how)
    usual = json.loads((erased / "result.json").read_text())
    assert result.plan["options"] == {**usual["plan"]["options"], "interval": 2, "after": 0}
    assert result.plan_digest != usual["plan_digest"]
    assert len(ledger_of(tmp_path / "out")) == 1  # of two rounds every second: the first, which nobody is asked in


def test_rows_that_are_others_than_then_are_refused(town, version, tmp_path):
    with pytest.raises(DataError, match=r"client 'ann': its rows are not those that .*version learned"):
        erase_client(version, "bob", Manner(tmp_path / "out"), clients={"ann": str(town / "nobody.jsonl")})
    with pytest.raises(DataError, match=r"client 'bob': its rows are not those that .*version learned"):
        erase_client(version, "bob", Manner(tmp_path / "out"), clients={"bob": str(town / "nobody.jsonl")})


def test_a_run_that_learned_afterwards_leaves_the_rounds_behind(town, version, tmp_path):
    """They did not lead to these weights."""
    plan = {"training": {"max_steps": 1, "learning_rate": 1e-4}, "measuring": {"metrics": ["ma"]}}
    result = pal.learn(version, town / "nobody.jsonl", output=tmp_path / "next", plan=plan)
    assert companions.kinds_in(tmp_path / "next") == ("learned",)
    assert any("finetune changed what the rounds had made" in note for note in result.notes)


WRONG = [
    (["--client", "ann={town}/ann.jsonl"], "1 client: at least 2 make a federation"),
    (["--client", "ann={town}/ann.jsonl", "--client", "ann={town}/bob.jsonl"], "was given twice"),
    (["--client", "../ann={town}/ann.jsonl", "--client", "b={town}/bob.jsonl"], "client name '../ann': accepted"),
    (["--client", "public={town}/ann.jsonl", "--client", "b={town}/bob.jsonl"], "kept for rows of no client"),
    (["--client", "ann", "--client", "b={town}/bob.jsonl"], "--client 'ann': accepted: NAME=FILE"),
    (["--client", "ann={town}/none.jsonl", "--client", "b={town}/bob.jsonl"], "client 'ann': .*no such file"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--method", "npo"], "does not learn"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--method", "l2p"], "changes the model by"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--for", "sisa"], "unknown eraser 'sisa'"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--rounds", "0"], "rounds"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--clip", "2"], "give --noise, too"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--timeout", "5"], "are waited for"),
    (
        ["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--test", "no.jsonl"],
        "--test: no.jsonl",
    ),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--probe", "no.jsonl"], "--probe: no.jsonl"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--rounds", "0"], "--rounds = 0: Input"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--epochs", "0"], "--epochs = 0.0: Input"),
    (["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--noise", "-1"], "--noise = -1.0: Input"),
    (
        ["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--set", "fed_eraser.ratio=1"],
        "not the eraser of this command; give --for fed_eraser",
    ),
    (
        ["--client", "a={town}/ann.jsonl", "--client", "b={town}/bob.jsonl", "--for", "closed_form"],
        "no linear head with classes",
    ),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_wrong_usage_ends_with_2_and_one_line(arguments, words, town, tmp_path, capsys):
    given = [argument.format(town=town) for argument in arguments]
    code = main(["federated", "run", "--model", str(town / "model"), "--output", str(tmp_path / "out"), *given])
    said = capsys.readouterr().err.strip()
    assert code == 2, said
    assert re.search(words, said), said
    assert len([line for line in said.splitlines() if not line.startswith("measuring")]) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_federation_is_refused(town, capsys):
    assert main(["federated", "erase", str(town / "model"), "--client", "ann", "--output", str(town / "no")]) == 2
    assert "no version of a federation" in capsys.readouterr().err
    assert main(["federated", "report", str(town / "model")]) == 2
    assert "holds no rounds.json" in capsys.readouterr().err


def test_clients_that_lie_or_fail_are_left_out_or_told_of(town, tmp_path, monkeypatch, capsys):
    """As a user meets it: the command ends well, and says who and why."""
    real = work.learn_locally

    def lying(bench: Workbench, client: str, errand: Errand, number: int) -> Any:
        if client == "dead":
            raise RuntimeError("its disk is full")
        told = real(bench, client, errand, number)
        lies = {"nan": lambda t: t * float("nan"), "odd": lambda t: t.unsqueeze(0), "loud": lambda t: t * 30}
        return told._replace(delta={name: lies.get(client, lambda t: t)(t) for name, t in told.delta.items()})

    monkeypatch.setattr(work, "learn_locally", lying)
    files = {"ann": "ann", "bob": "bob", "dead": "cid", "loud": "nobody", "nan": "ann", "odd": "bob"}
    given = [word for name, file in files.items() for word in ("--client", f"{name}={town / file}.jsonl")]
    where = ["--model", str(town / "model"), "--output", str(tmp_path / "out"), "--rounds", "1", "--epochs", "1"]
    assert main(["federated", "run", *where, *given]) == 0
    said = capsys.readouterr().out
    assert re.search(r"3 times a client did not answer; the first: dead in round 1 \(.*its disk is full", said)
    assert re.search(r"1 change stood out by length; the first: loud in round 1, [123]\d times the median", said)
    (row,) = federation_facts_in(tmp_path / "out").rounds
    assert row.told == ("ann", "bob", "loud")
    assert row.absent["nan"] == "answered with numbers that are not finite"
    assert row.absent["odd"] == "answered with other tensors than it was sent: it has another model"


def test_a_client_that_turns_its_change_around_is_told_of(town, tmp_path, monkeypatch, capsys):
    """In the first round, while the honest agree; nobody is told of where all are honest."""
    real = work.learn_locally

    def turning(bench: Workbench, client: str, errand: Errand, number: int) -> Any:
        told = real(bench, client, errand, number)
        sign = -1.0 if client == "cid" else 1.0
        return told._replace(delta={name: sign * tensor for name, tensor in told.delta.items()})

    honest = learned(town, tmp_path / "honest")
    assert not [note for note in honest.notes if "pointed against" in note]
    monkeypatch.setattr(work, "learn_locally", turning)
    said = " ".join(learned(town, tmp_path / "turned").notes)
    assert "pointed against all others, which agreed; the first: cid in round 1: a client that lies" in said
    assert federation_facts_in(tmp_path / "turned").rounds[0].turned == ("cid",)


def test_a_rate_that_does_too_little_is_given_up_and_erasures_go_at_the_one_that_was_found(town, tmp_path):
    """The version has the bits of one that was given that rate; nothing of the first attempt stays."""
    usual = {**SECTIONS, "training": {"batch_size": 4}}
    result = federate(town / "model", clients(town), Manner(tmp_path / "v"), sections=usual, how=HOW)
    facts = federation_facts_in(tmp_path / "v")
    assert facts.rate is not None
    assert facts.rate > 0.002
    assert facts.tried[0].startswith("0.002: from ")
    assert any(note.startswith(f"Rate of the local work: {facts.rate:g}. Given up") for note in result.notes)
    given = {**SECTIONS, "training": {"batch_size": 4, "learning_rate": facts.rate}}
    federate(town / "model", clients(town), Manner(tmp_path / "given"), sections=given, how=HOW)
    assert same(final_of(tmp_path / "v"), final_of(tmp_path / "given"))
    assert len(ledger_of(tmp_path / "v")) == 2
    how = Federating(options={"rounds": 1}, measuring={"metrics": ("ma",)})
    erased = [erase_client(tmp_path / at, "bob", Manner(tmp_path / f"e-{at}"), by="extra_rounds", how=how)
              for at in ("v", "given")]  # fmt: skip
    assert [one.plan["local"]["training"]["learning_rate"] for one in erased] == [facts.rate] * 2
    assert same(final_of(tmp_path / "e-v"), final_of(tmp_path / "e-given"))


def test_a_rate_at_which_local_work_diverges_is_given_up_and_one_that_was_given_is_told_of(town, tmp_path, monkeypatch):
    """The usual rate has a third to go on with; a given one would fail with the same command for ever."""
    real = work.learn_locally

    def diverging(bench: Workbench, client: str, errand: Errand, number: int) -> Any:
        if "learning_rate" not in errand.settings and number == 1:
            raise DivergedError(f"gradient norm nan; {DivergedError.remedy}")
        return real(bench, client, errand, number)

    monkeypatch.setattr(work, "learn_locally", diverging)
    usual = {**SECTIONS, "training": {"batch_size": 4}}
    federate(town / "model", clients(town), Manner(tmp_path / "v"), sections=usual, how=HOW)
    facts = federation_facts_in(tmp_path / "v")
    assert facts.tried[0] == "0.002: to no numbers any more"
    assert facts.rate == pytest.approx(0.002 / 3)
    assert ledger_of(tmp_path / "v").damage() == ""
    given = {**SECTIONS, "training": {"batch_size": 4, "learning_rate": 0.002}}
    with pytest.raises(FederationError, match=r"round 2: 0 of . clients answered.*a smaller --lr"):
        federate(town / "model", clients(town), Manner(tmp_path / "given"), sections=given, how=HOW)


def test_ready_made_tokens_need_no_tokenizer(town, tmp_path):
    """The version comes out without one, as the model came in."""
    shutil.copytree(town / "model", tmp_path / "model", ignore=shutil.ignore_patterns("token*", "vocab*", "special*"))
    for name in ("ann", "bob"):
        rows = [{"id": str(n), "input_ids": [n + 1, 2, 3, 4]} for n in range(2)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {name: str(tmp_path / f"{name}.jsonl") for name in ("ann", "bob")}
    how = Federating(rounds=1, epochs=1, layout=Layout(token_ids=True), measuring={"metrics": ("ma",)})
    result = federate(tmp_path / "model", given, Manner(tmp_path / "out"), how=how)
    assert set(result.scores["after"]) == {"learn"}
    assert any(note.startswith("No rows that nobody learned were given (--test)") for note in result.notes)


def test_erasers_are_listed_with_their_options(capsys):
    assert main(["federated", "erasers"]) == 0
    assert "options: interval, ratio, norms, after, slack" in capsys.readouterr().out
    assert main(["federated", "erasers", "fed_eraser"]) == 0
    assert "fed_eraser.interval = 1   (whole number at least 1)" in capsys.readouterr().out
    assert main(["federated", "erasers", "fed_erase"]) == 2
    assert "did you mean 'fed_eraser'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "erase"])
def test_the_help_fits_a_screen_and_the_rest_is_there(command, capsys):
    assert main(["federated", command, "--help"]) == 0
    usual = capsys.readouterr().out.splitlines()
    assert main(["federated", command, "--help-all"]) == 0
    whole = capsys.readouterr().out
    assert len(usual) <= 30 < len(usual) + 10
    assert "--timeout" in whole
    assert "--timeout" not in "\n".join(usual)


def test_no_page_is_made_of_rounds_that_are_another_run_s(version, erased, tmp_path, capsys):
    shutil.copytree(version, tmp_path / "v")
    assert main(["federated", "report", str(tmp_path / "v")]) == 0
    assert main(["federated", "report", str(tmp_path / "v")]) == 0, "a page that is made anew changes no run"
    shutil.copy(erased / "rounds.json", tmp_path / "v")
    assert main(["federated", "report", str(tmp_path / "v")]) == 2
    assert "rounds.json was changed; palimpsest verify" in capsys.readouterr().err


def test_the_page_has_no_scripts_and_shows_who_was_absent(version, erased, capsys):
    assert main(["federated", "report", str(erased), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["gone"] == "bob"
    page = (erased / "rounds.html").read_text()
    assert "<script" not in page
    assert "Beside retraining" in page
    assert "Who answered" in page
    before = (version / "rounds.html").read_bytes()
    assert main(["federated", "report", str(version)]) == 0
    assert (version / "rounds.html").read_bytes() == before


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """model/ of three classes with batch normalisation, and six pictures for each client; "four" has others."""
    folder = tmp_path_factory.mktemp("album")
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 3, widths=(4, 4, 4), image_size=8)).save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    for name, top in (("ann", 3), ("bob", 3), ("four", 5)):
        label = np.arange(6) % top
        np.savez(folder / f"{name}.npz", x=rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8), y=label)
    return folder


def test_a_classifier_exchanges_all_weights_and_statistics(album, tmp_path):
    given = {name: str(album / f"{name}.npz") for name in ("ann", "bob")}
    how = Federating(rounds=1, epochs=1)
    result = federate(album / "model", given, Manner(tmp_path / "out"), how=how)
    assert result.plan["local"]["scope"]["kind"] == "all"
    ledger = ledger_of(tmp_path / "out")
    statistics = [name for name in ledger.start if name.endswith("running_mean")]
    assert statistics
    assert not torch.equal(ledger.start[statistics[0]], ledger.final[statistics[0]])
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(saved[statistics[0]], ledger.final[statistics[0]])
    assert {int(tensor) for name, tensor in saved.items() if name.endswith("num_batches_tracked")} == {1}
    assert set(result.scores["after"]["learn"]) == {"accuracy"}


def test_noise_that_no_network_survives_is_said_in_one_line(album, tmp_path):
    given = {name: str(album / f"{name}.npz") for name in ("ann", "bob")}
    federate(album / "model", given, Manner(tmp_path / "v"), how=Federating(rounds=1, epochs=1))
    with pytest.raises(DivergedError, match=r"what fed_recovery led to is no model any more .*give another --by"):
        erase_client(tmp_path / "v", "bob", Manner(tmp_path / "out"), by="fed_recovery")


def test_labels_that_the_model_does_not_have_are_refused(album, tmp_path):
    given = {name: str(album / f"{name}.npz") for name in ("ann", "four")}
    with pytest.raises(DataError, match="client 'four': .*class|client 'four': .*label"):
        federate(album / "model", given, Manner(tmp_path / "out"), how=HOW)
    assert not list(tmp_path.iterdir())


def test_names_and_files_are_told_apart():
    assert parse_clients(["b=x=y.csv", "St. Anna=z.csv"]) == {"St. Anna": "z.csv", "b": "x=y.csv"}


@pytest.fixture(autouse=True)
def _no_folders_left(town: Path) -> Iterator[None]:
    yield
    shutil.rmtree(town / "work", ignore_errors=True)
