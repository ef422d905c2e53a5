"""Stages and edits: a loop written by hand ends with the same bits; what may not move does not; resumed is the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from tests.loop.conftest import random_set

from palimpsest.contract import Config, Method, Phase, Stage, Term
from palimpsest.data.draws import places
from palimpsest.errors import FrozenError, PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.legs import in_turn, legs_of, told_of_turns
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.scope import parameter_digests

AWAY, BACK = Phase("away", ("forget",)), Phase("back", ("retain",))
ALTERNATING = (
    Stage("away", "forget", 1, (AWAY,)),
    Stage("back", "retain", 2, (BACK,), fresh=False),
    Stage("away", "forget", 1, (AWAY,), fresh=False),
    Stage("back", "retain", 1, (BACK,)),
)
HOW: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": 4, "max_grad_norm": 0.0}


class Staged(Method):
    """Ascent on one set and descent on the other, in whatever stages the test names."""

    needs = ("forget", "retain")
    named: tuple[Stage, ...] = ALTERNATING

    def stages(self, sizes):
        self.sizes = sizes
        return self.named

    def loss(self, model, batches, phase):
        ((name, batch),) = batches.items()
        return {name: Term(-batch.predict(model).logp_S.sum(), of=name, weight=-0.1 if name == "forget" else 1.0)}


def staged(*stages: Stage, **facts: Any) -> type[Method]:
    return type("Staged", (Staged,), {"named": stages, **facts})


@pytest.fixture
def sets():
    return {"forget": random_set("f", 6, 1), "retain": random_set("r", 10, 2)}


@pytest.fixture
def go(tiny_llama, sets, tmp_path):
    start = copy.deepcopy(tiny_llama.state_dict())

    def train(kind: type[Method], folder: str = "run", *, progress=None, model=tiny_llama, stopping=None, **how: Any):
        model.load_state_dict(start)
        (tmp_path / folder).mkdir(exist_ok=True)
        torch.manual_seed(0)
        method = kind(Config())
        method.prepare(model, sets)
        training = Training(**{**HOW, **how})
        job = Job(method, model, sets, training, tmp_path / folder, progress=progress, stopping=stopping)
        return run(job)

    return train


def by_hand(model, sets, schedule, optimizer) -> None:
    """Epochs of batches of four, by plain torch; every epoch of a set is its next shuffle."""
    cycles = {"forget": 0, "retain": 0}
    model.train()
    for name, epochs, fresh in schedule:
        if fresh:
            optimizer.state.clear()
        for _ in range(epochs):
            cycles[name] += 1
            ids = [sets[name].ids[place] for place in places(len(sets[name]), 0, name, cycles[name])]
            for at in range(0, len(ids), 4):
                batch = sets[name].batch(ids[at : at + 4])
                optimizer.zero_grad(set_to_none=True)
                weight = -0.1 if name == "forget" else 1.0
                (weight * -batch.predict(model).logp_S.sum() / batch.num_scored).backward()
                optimizer.step()


def test_alternating_epochs_are_the_loop_written_by_hand(go, tiny_llama, sets):
    twin = copy.deepcopy(tiny_llama)
    ended = go(staged(*ALTERNATING))
    schedule = (("forget", 1, True), ("retain", 2, False), ("forget", 1, False), ("retain", 1, True))
    by_hand(twin, sets, schedule, torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9))
    assert parameter_digests(tiny_llama) == parameter_digests(twin)
    assert (ended.steps, ended.budget) == (2 + 6 + 2 + 3, None)
    assert ended.stopped == "13 steps in 4 stages (away ×2, back ×2) as planned"


def test_the_log_names_the_stage_and_the_schedule_is_the_stages_own(go, tmp_path):
    go(staged(*ALTERNATING), lr_scheduler_type="linear")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == ["away"] * 2 + ["back"] * 6 + ["away"] * 2 + ["back"] * 3
    assert [round(row["learning_rate"] / 0.05, 3) for row in rows[:8]] == [1, 0.5, 1, 0.833, 0.667, 0.5, 0.333, 0.167]


@pytest.mark.parametrize("die_at", [1, 2, 3, 5, 8, 9, 10, 11, 13])
def test_a_death_in_or_between_stages_ends_with_the_same_bits(go, tiny_llama, tmp_path, die_at):
    go(staged(*ALTERNATING), "whole", checkpoint_steps=3)
    whole, died = parameter_digests(tiny_llama), []

    def die(step, planned, values):
        died.append(values["stage"])
        if len(died) == die_at:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        go(staged(*ALTERNATING), "cut", progress=die, checkpoint_steps=3)
    go(staged(*ALTERNATING), "cut", checkpoint_steps=3)
    assert parameter_digests(tiny_llama) == whole
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]
        for path in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "cut" / "metrics.jsonl")
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(("most", "where"), [(1, "1 (away)"), (5, "2 (back)"), (8, "2 (back)"), (9, "3 (away)")])
def test_the_steps_of_the_run_bound_all_stages(go, most, where):
    ended = go(staged(*ALTERNATING), max_steps=most)
    number, name = where.split()
    plural = "" if most == 1 else "s"
    assert ended.steps == most
    assert ended.stopped == f"{most} step{plural}, in stage {number} of 4 {name} as planned"


def test_rates_are_those_of_separate_optimizers(go, tiny_llama, sets):
    twin = copy.deepcopy(tiny_llama)
    rates = {r"layers\.0\.": 0.1, "norm": 3.0}
    go(staged(Stage("back", "retain", 2, (BACK,), rates=rates)), optimizer="adamw", learning_rate=0.01)
    groups: dict[float, list[Any]] = {0.001: [], 0.03: [], 0.01: []}
    for name, parameter in twin.named_parameters():
        groups[0.001 if "layers.0." in name else 0.03 if "norm" in name else 0.01].append(parameter)
    optimizers = [torch.optim.AdamW(group, lr=lr, weight_decay=0.0, fused=True) for lr, group in groups.items()]
    by_hand(twin, sets, (("retain", 2, False),), Several(optimizers))
    for (name, moved), expected in zip(tiny_llama.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(moved, expected, atol=1e-7), name


class Several:
    """Optimizers side by side."""

    def __init__(self, optimizers):
        self.optimizers = optimizers

    def zero_grad(self, *, set_to_none):
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


def test_only_what_a_stage_moves_moves_in_it(go, tiny_llama):
    start = {name: p.detach().clone() for name, p in tiny_llama.named_parameters()}
    go(staged(Stage("back", "retain", 1, (BACK,), moves=(r"layers\.1\.",))), weight_decay=0.1)
    moved = {name for name, p in tiny_llama.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {name for name in start if "layers.1." in name}
    assert all(p.requires_grad for p in tiny_llama.parameters())


def test_what_an_earlier_stage_moved_survives_a_death_in_a_narrower_one(go, tiny_llama):
    stages = staged(Stage("away", "forget", 1, (AWAY,)), Stage("back", "retain", 2, (BACK,), moves=("norm",)))
    go(stages, "whole")
    whole = parameter_digests(tiny_llama)

    def die(step, planned, values):
        if values["stage"] == "back" and step == 4:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        go(stages, "cut", progress=die, checkpoint_steps=2)
    go(stages, "cut", checkpoint_steps=2)
    assert parameter_digests(tiny_llama) == whole


def test_a_stage_has_training_options_of_its_own(go, tmp_path):
    own = {"learning_rate": 0.01, "batch_size": 2, "max_steps": 3}
    go(staged(Stage("away", "forget", None, (AWAY,), training=own), Stage("back", "retain", 1, (BACK,))))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["learning_rate"] for row in rows] == [0.01] * 3 + [0.05] * 3


def test_one_plain_stage_is_a_run_as_ever(go, tiny_llama):
    kind = type("Plain", (Method,), {"needs": ("retain",), "loss": Staged.loss})
    go(kind, "plain", num_train_epochs=2)
    plain = parameter_digests(tiny_llama)
    go(staged(Stage("back", "retain", 2, (BACK,))), "staged")
    assert parameter_digests(tiny_llama) == plain


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (
            Stage("s", "general"),
            "needs the set 'general': not given, or not drawn by the method; at hand: forget, retain",
        ),
        (Stage("s", phases=(Phase("p", ("learn",)),)), "stage 's' needs the set 'learn'"),
        (Stage("s", moves=("nowhere",)), "stage 's': moves 'nowhere' is found in no parameter that may move"),
        (Stage("s", moves=("(",)), "stage 's': moves '\\(' is no regular expression"),
        (Stage("s", rates={"nowhere": 1.0}), "stage 's': rates 'nowhere' is found in no parameter"),
        (Stage("s", rates={"norm": 0.0}), "stage 's': rates 'norm' is 0.0; accepted: a number above 0"),
        (Stage("s", rates={"norm": -1}), "accepted: a number above 0"),
        (Stage("s", rates={"norm": float("nan")}), "accepted: a number above 0"),
        (Stage("s", epochs=0), "stage 's': num_train_epochs = 0: Input should be greater than 0"),
        (Stage("s", training={"learning_rat": 1}), "stage 's': unknown training option of a stage 'learning_rat'"),
        (Stage("s", training={"seed": 1}), "stage 's': unknown training option of a stage 'seed'"),
        (Stage("s", training={"batch_size": 0}), "stage 's': batch_size = 0"),
        (
            Stage("s", training={"optimizer": "adamw"}, fresh=False),
            "goes on with the moments of 'sgd' and wants 'adamw'",
        ),
    ],
)
def test_a_stage_that_cannot_be_is_refused_in_one_line(go, stage, reason):
    with pytest.raises(PlanError, match=reason) as refused:
        go(staged(Stage("first"), stage))
    assert "\n" not in str(refused.value)


def test_under_control_the_distinct_stages_take_turns(tiny_llama, sets):
    def turns(*stages: Stage) -> list[str]:
        legs = legs_of(staged(*stages)(Config()), tiny_llama, sets, Training(**HOW))
        return [leg.stage.name for leg in in_turn(legs)]

    legs = legs_of(staged(*ALTERNATING)(Config()), tiny_llama, sets, Training(**HOW))
    assert told_of_turns("at its level", in_turn(legs)) == "at its level (away, back in turn)"
    assert told_of_turns("at its level", legs[:1]) == "at its level"
    repair = Stage("repair", "retain", 1, (BACK,))
    assert turns(*ALTERNATING) == ["away", "back"]
    assert turns(Stage()) == ["run"]
    assert turns(ALTERNATING[0], repair) == ["away"]
    assert turns(repair) == ["repair"]
    with pytest.raises(PlanError, match="the stages want adamw and sgd"):
        turns(ALTERNATING[0], Stage("back", "retain", 1, (BACK,), training={"optimizer": "adamw"}))


# -- edits -----------------------------------------------------------------------------------------------------------


class Halving(Method):
    """Halves the last norm; tests change what it says and does."""

    needs = ("forget", "retain")
    edits = True
    named: tuple[Stage, ...] = ()
    declared: tuple[str, ...] = ("model.norm.weight",)
    changed: tuple[str, ...] = ("model.norm.weight",)
    calls = 0

    def edit(self, model, sets):
        type(self).calls += 1
        with torch.no_grad():
            for name in self.changed:
                model.get_parameter(name).mul_(0.5).add_(torch.rand(()))
        return self.declared

    def stages(self, sizes):
        return self.named

    loss = Staged.loss


def halving(**facts: Any) -> type[Method]:
    return type("Halving", (Halving,), facts)


def test_an_edit_is_made_once_and_logged(go, tiny_llama, tmp_path):
    kind = halving(declared=("model.norm.weight", "model.layers.0.input_layernorm.weight"))
    before = tiny_llama.model.norm.weight.detach().clone()
    ended = go(kind)
    assert (ended.steps, ended.stopped, kind.calls) == (0, "edited without steps", 1)
    assert not torch.equal(tiny_llama.model.norm.weight, before)
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (row["kind"], row["declared"], row["changed"]) == ("edit", 2, 1)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"changed": ()}, "changed nothing: every weight is as it was before"),
        ({"declared": ()}, r"changed 1 tensor that it did not name, e.g. model.norm.weight"),
        ({"declared": ("model.nowhere",)}, "says that it changed 'model.nowhere', which the model does not have"),
    ],
)
def test_an_edit_that_is_not_what_it_says_is_an_error(go, facts, reason):
    with pytest.raises(FrozenError, match=reason):
        go(halving(**facts))


def test_an_edit_may_not_move_what_is_frozen(go, tiny_llama):
    tiny_llama.model.norm.weight.requires_grad_(False)
    with pytest.raises(FrozenError, match=r"moved 1 frozen tensor, e.g. model.norm.weight"):
        go(halving())


def test_more_may_be_declared_than_changes_and_tied_weights_count_as_one(go, tiny_llama):
    declared = ("model.norm.weight", "model.embed_tokens.weight")
    go(halving(declared=declared, changed=("model.norm.weight",)))
    go(halving(declared=("model.embed_tokens.weight",), changed=("model.embed_tokens.weight",)), "tied")


@pytest.mark.parametrize("die_at", [0, 1, 2])
def test_a_death_between_an_edit_and_its_stage_ends_with_the_same_bits(go, tiny_llama, die_at, monkeypatch):
    kind = halving(named=(Stage("repair", "retain", 1, (BACK,)),))
    ended = go(kind, "whole")
    assert (kind.calls, ended.steps, ended.stopped) == (1, 3, "an edit, and 3 steps in 1 stage (repair) as planned")
    whole = parameter_digests(tiny_llama)
    seen = []

    def die(self, model, batches, phase):
        if len(seen) == die_at:
            raise RuntimeError
        seen.append(phase)
        return Staged.loss(self, model, batches, phase)

    with monkeypatch.context() as dying:
        dying.setattr(Halving, "loss", die)
        with pytest.raises(RuntimeError):
            go(kind, "cut", checkpoint_steps=2)
    go(kind, "cut", checkpoint_steps=2)
    assert kind.calls == 2  # of the whole run, and of the one that died; none of the one that went on
    assert parameter_digests(tiny_llama) == whole


def test_a_death_in_the_edit_does_it_again(go, tiny_llama, monkeypatch):
    kind = halving(named=(Stage("repair", "retain", 1, (BACK,)),))
    go(kind, "whole")
    whole = parameter_digests(tiny_llama)
    edit = kind.edit

    def die(self, model, sets):
        edit(self, model, sets)
        raise RuntimeError

    with monkeypatch.context() as dying:
        dying.setattr(kind, "edit", die)
        with pytest.raises(RuntimeError):
            go(kind, "cut")
    torch.rand(3)  # whatever was drawn meanwhile
    go(kind, "cut")
    assert parameter_digests(tiny_llama) == whole


def test_a_method_that_edits_must_say_so(go):
    with pytest.raises(PlanError, match="defines `edit` and takes steps as well; set `edits = True`"):
        go(halving(edits=False))
