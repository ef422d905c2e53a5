"""What can be erased from which federation, and from which rows; and what local work leaves as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palimpsest.engine.unfinished import reached
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.federated import erasers
from palimpsest.federated.erasable import check_as_learned, check_needed_rows, check_procedure, check_rule
from palimpsest.federated.federated_plan import plan_of_work
from palimpsest.federated.going_through import Combining, check_timeout
from palimpsest.federated.rounds_facts import FederationFacts, RetrainedFacts
from palimpsest.federated.workbench import Workbench, count_as_seen, counts_kept, exchanged
from palimpsest.method_file import read_options

WAS = {"client:ann": "1", "client:bob": "2", "model": "m"}


@pytest.mark.parametrize(
    ("by", "learned_for"), [("fed_eraser", ""), ("retrain_others", ""), ("closed_form", "closed_form")]
)
def test_an_eraser_that_reads_how_it_learned_passes(by, learned_for):
    check_procedure(by, learned_for, "v")


@pytest.mark.parametrize(
    ("by", "learned_for", "words"),
    [
        (
            "fed_eraser",
            "closed_form",
            "cannot erase from v, which learned for closed_form; accepted: --by c",
        ),
        ("retrain_others", "adapter_per_client", "accepted: --by adapter_per_client$"),
        ("adapter_per_client", "", r"learned by averaging; accepted: .*fed_eraser.*run --for adapter_per_client"),
        ("closed_form", "adapter_per_client", "accepted: --by adapter_per_client; or .*run --for closed_form"),
    ],
)
def test_an_eraser_whose_word_would_not_hold_is_refused(by, learned_for, words):
    """One round of averaging looks like adapters of one round, and sums of statistics are no weights."""
    with pytest.raises(PlanError, match=words):
        check_procedure(by, learned_for, "v")


@pytest.mark.parametrize("by", ["projected_ascent", "subtract_distil", "fed_recovery", "client_noise"])
def test_an_eraser_that_reckons_with_means_is_refused_where_there_were_none(by):
    check_rule(by, Combining(), "v")
    able = "accepted: --by extra_rounds, fed_eraser, replay_history, retrain_others$"
    with pytest.raises(PlanError, match=f"{by} reckons with means, and .* of v were combined by median; {able}"):
        check_rule(by, Combining(by="median"), "v")
    with pytest.raises(PlanError, match="by a clipped mean with noise"):
        check_rule(by, Combining(noise_multiplier=1.0), "v")
    check_rule("fed_eraser", Combining(by="krum"), "v")


def test_options_of_all_erasers_are_read_without_torch():
    """Where a file can only be run to know them, listing and refusing take seconds."""
    assert [name for name in erasers.names() if read_options(erasers.eraser_file(name), "ERASER") is None] == []
    assert erasers.checked_options("fed_eraser", {"interval": 3})["interval"] == 3


def test_the_same_rows_and_the_same_model_pass():
    check_as_learned(WAS, {"client:ann": "1", "forget": "2", "holdout": "9", "model": "m"}, "bob", "v")


@pytest.mark.parametrize(
    ("now", "kind", "words"),
    [
        ({"client:ann": "3", "model": "m"}, DataError, "client 'ann': its rows are not those that v learned"),
        ({"client:ann": "1", "forget": "3", "model": "m"}, DataError, "client 'bob': .*or move that file away"),
        ({"client:ann": "1", "model": "n"}, ModelError, "the model that v began with was changed"),
    ],
)
def test_what_was_changed_since_is_refused(now, kind, words):
    with pytest.raises(kind, match=words):
        check_as_learned(WAS, now, "bob", "v")


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time_is_refused(timeout):
    with pytest.raises(PlanError, match="--timeout .*accepted: seconds, more than 0"):
        check_timeout(timeout, "simulation")


def test_options_that_would_do_nothing_are_refused(tmp_path):
    with pytest.raises(PlanError, match="clients in this process are waited for"):
        check_timeout(5.0, "here")
    with pytest.raises(PlanError, match=r"control\.kind"):
        plan_of_work(str(tmp_path), None, "finetune", {"control": {"kind": "rate"}})
    with pytest.raises(PlanError, match="give --epochs"):
        plan_of_work(str(tmp_path), None, "finetune", {"training": {"num_train_epochs": 7}})


def test_counts_of_batches_are_not_exchanged_and_stay():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert [name for name in exchanged(model) if name.startswith("1.")] == [
        *("1.weight", "1.bias", "1.running_mean", "1.running_var")
    ]
    with counts_kept(model):
        model(torch.randn(4, 2))
    assert model[1].num_batches_tracked.item() == 0
    assert model[1].running_mean.abs().sum() > 0
    count_as_seen(model)
    assert model[1].num_batches_tracked.item() == 1


def test_a_variance_that_became_negative_loses_its_sign(tmp_path):
    bench = Workbench(None, None, nn.Sequential(nn.BatchNorm1d(2)), {}, tmp_path, {})
    bench.lay({**bench.weights(), "0.running_var": torch.tensor([-0.25, 4.0])})
    assert bench.weights()["0.running_var"].tolist() == [0.25, 4.0]


def test_words_say_what_is_known_and_no_more():
    facts = FederationFacts(kind="erase", method="closed_form", gone="bob", guarantee="Exact", exchanged=60)
    known = RetrainedFacts(rounds=(), before=None, after=0.0, learned=None, seconds_share=None)
    said = facts.model_copy(update={"retrained": known}).notes
    assert said[0] == "No client was asked: nothing was exchanged."
    assert said[-1] == "Beside retraining: what came out is 0 from what retraining led to."
    scale = known.model_copy(update={"before": 2.0, "learned": 4.0})
    assert (
        facts.model_copy(update={"retrained": scale})
        .notes[-1]
        .endswith("(2 before the erasure; all of learning moved them by 4).")
    )


def test_whoever_stops_a_federation_is_told_of_its_rounds(tmp_path):
    for number in range(2):
        folder = tmp_path / "companion" / "rounds" / f"round-{number:04d}"
        folder.mkdir(parents=True)
        (folder / "round.json").touch()
    assert reached(tmp_path) == "after 2 rounds"


def test_rows_that_an_eraser_needs_are_missed_before_torch_is_there():
    """The cards, which are read without importing, say what the classes do."""
    assert {card.name: card.needs for card in erasers.eraser_cards()} == {
        name: erasers.load(name).needs for name in erasers.names()
    }
    with pytest.raises(PlanError, match=r"teaches on rows of no client; give them with --public"):
        check_needed_rows("subtract_distil", "ann", {"client:bob"})
    check_needed_rows("subtract_distil", "ann", {"client:bob", "public"})
    with pytest.raises(PlanError, match=r"asks the client that goes, too; give its rows \(--client ann=FILE\)"):
        check_needed_rows("projected_ascent", "ann", {"client:bob"})
    check_needed_rows("projected_ascent", "ann", {"client:bob", "forget"})
    check_needed_rows("fed_eraser", "ann", {"client:bob"})
