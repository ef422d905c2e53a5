"""The loop: accumulation, interruption, refinement, budgets, divergence."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors import safe_open

from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet
from palimpsest.errors import DivergedError, ModelError, PlanError
from palimpsest.loop.budget import EVERY_EXAMPLE_PASSES
from palimpsest.loop.state import State
from palimpsest.loop.step import micro_batches
from palimpsest.loop.stopping import Check
from palimpsest.methods.finetune import Finetune
from palimpsest.models.scope import parameter_digests

BATCH = TextSet.batch


def digests_after(train, model, sets, start, **how):
    model.load_state_dict(start)
    train(sets, **how)
    return parameter_digests(model)


class Scripted:
    """A stopping that answers from a list, then repeats its last answer."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def check(self, model, step):
        self.asked.append(step)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if isinstance(answer, Check) else Check(tuple(answer))


def test_a_phase_that_comes_again_is_given_the_very_batches(train, sets, monkeypatch):
    built = []
    monkeypatch.setattr(TextSet, "batch", lambda self, ids: built.append(ids) or BATCH(self, ids))
    options = {"gamma": 0.0, "learn_in_fast": False, "every": 4, "probes": 1, "ascent": 1.0}
    given = {"retain": sets["learn"], "forget": sets["replay"]}
    train(given, name="ug_clu", options=options, max_steps=1)
    assert [len(ids) for ids in built[-2:]] == [4, 4]
    assert len(built) == 3  # of the reference, of retain for the probe and the repair, of forget for the fast step


def test_a_phase_without_sets_moves_the_weights_and_draws_nothing(train, tiny_llama, sets, tmp_path, monkeypatch):
    """Its update is called, without a gradient; no batch is built, no row written, no position counted."""
    seen = []
    monkeypatch.setattr(Finetune, "phases", lambda self, step, planned: (Phase("glide", ()), Phase("joint", self.sets)))

    def update(self, model, phase, step):
        seen.append((phase.name, any(p.grad is not None for p in model.parameters())))

    monkeypatch.setattr(Finetune, "update", update)
    ended = train(sets, max_steps=2)
    assert seen == [("glide", False), ("joint", True)] * 2
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["joint", "joint"]
    monkeypatch.undo()
    (tmp_path / "plain").mkdir()
    assert train(sets, folder=tmp_path / "plain", max_steps=2).tokens == ended.tokens


@pytest.mark.parametrize("name", ["finetune", "npo"])
def test_micro_batches_do_not_change_the_result(train, tiny_llama, sets, tmp_path, name):
    """Ragged rows: averaging micro-batch means would differ in the first digits.

    By SGD, which moves with the gradient; AdamW makes whole steps of its rounding errors where it is nearly 0.
    """
    sets = sets if name == "finetune" else {"forget": sets["learn"], "retain": sets["replay"]}
    start = copy.deepcopy(tiny_llama.state_dict())
    weights = []
    for size in (None, 1, 3):
        tiny_llama.load_state_dict(start)
        folder = tmp_path / str(size)
        folder.mkdir()
        train(sets, name=name, folder=folder, micro_batch_size=size, max_steps=3, optimizer="sgd", learning_rate=0.1)
        weights.append(torch.cat([p.detach().flatten().clone() for p in tiny_llama.parameters()]))
    assert not torch.equal(weights[0], torch.cat([t.flatten() for n, t in start.items() if n != "lm_head.weight"]))
    for other in weights[1:]:
        assert torch.allclose(weights[0], other, atol=2e-6)


BETWEEN_FAST_STEPS = {"name": "ug_clu", "options": {"every": 3, "alpha_s": 0.5, "probes": 0}}


@pytest.mark.parametrize("how", [{}, BETWEEN_FAST_STEPS], ids=["finetune", "ug_clu"])
@pytest.mark.parametrize("die_at", [1, 4, 5, 9])
def test_an_interrupted_run_ends_with_the_same_bits(train, tiny_llama, sets, tmp_path, die_at, how):
    start = copy.deepcopy(tiny_llama.state_dict())
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = digests_after(train, tiny_llama, sets, start, folder=tmp_path / "whole", checkpoint_steps=2, **how)

    class Died(Exception):
        pass

    def die(step, planned, values):
        if step == die_at:
            raise Died

    tiny_llama.load_state_dict(start)
    with pytest.raises(Died):
        train(sets, folder=tmp_path / "cut", checkpoint_steps=2, progress=die, **how)
    again = digests_after(train, tiny_llama, sets, start, folder=tmp_path / "cut", checkpoint_steps=2, **how)
    assert again == whole
    logs = [
        [json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()]
        for n in ("whole", "cut")
    ]
    strip = [[{k: v for k, v in row.items() if k != "seconds"} for row in log] for log in logs]
    assert strip[0] == strip[1]


def test_examples_that_pass_leave_the_batches_and_can_come_back(train, sets, tmp_path):
    ids = sets["learn"].ids
    stopping = Scripted(ids, ids[:4], ids[2:], ())
    ended = train(sets, stopping=stopping, num_train_epochs=10)
    assert ended.stopped == EVERY_EXAMPLE_PASSES
    assert ended.budget is None
    assert stopping.asked == [0, 3, 4, 6]  # 10, then 4, then 8 examples in batches of 4
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["active"] for row in rows if row["kind"] == "check"] == [10, 4, 8, 0]


def test_a_side_set_that_is_tested_goes_on_where_it_was(train, sets, tmp_path, monkeypatch):
    """Its cycle is longer than an epoch of the anchor: begun anew at every check, its end would never be drawn."""
    asked = []
    monkeypatch.setattr(TextSet, "batch", lambda self, ids: asked.extend(ids) or BATCH(self, ids))
    given = {"retain": sets["replay"], "forget": sets["learn"]}
    stopping = Scripted(given["forget"].ids)
    options = {"every": 2, "ascent": 0.01, "gamma": 0.0, "probes": 0}
    train(given, name="ug_clu", options=options, stopping=stopping, num_train_epochs=8, batch_size=4)
    assert len(stopping.asked) > 4
    assert set(given["forget"].ids) <= set(asked)


def test_what_passes_a_check_is_what_is_saved(train, tiny_llama, sets):
    """Also in the middle of a cycle, where slow weights are elsewhere than the weights that move."""

    class Looking(Scripted):
        def check(self, model, step):
            self.seen = parameter_digests(tiny_llama)
            return super().check(model, step)

    given = {"retain": sets["learn"], "forget": sets["replay"]}
    stopping = Looking(given["forget"].ids, ())
    options = {"every": 5, "alpha_s": 0.3, "gamma": 0.0, "probes": 0}
    assert train(given, name="ug_clu", options=options, stopping=stopping).steps == 3
    assert parameter_digests(tiny_llama) == stopping.seen


def test_no_step_is_taken_when_all_pass_at_once(train, tiny_llama, sets):
    before = parameter_digests(tiny_llama)
    assert train(sets, stopping=Scripted(())).steps == 0
    assert parameter_digests(tiny_llama) == before


def test_a_budget_that_ends_the_run_says_so(train, sets):
    ended = train(sets, stopping=Scripted(sets["learn"].ids[:3]), max_steps=5, num_train_epochs=99)
    assert (ended.steps, ended.budget) == (5, "5 steps")
    assert ended.stopped == "budget: 5 steps; 3 examples do not pass yet"


def test_a_stopping_can_end_the_run_with_a_reason(train, sets):
    ended = train(sets, stopping=Scripted(sets["learn"].ids, Check(sets["learn"].ids, stop="utility floor")))
    assert (ended.stopped, ended.budget, ended.steps) == ("utility floor", "utility floor", 3)


def test_an_infinite_loss_ends_the_run_before_the_update(train, tiny_llama, sets):
    with torch.no_grad():
        tiny_llama.model.norm.weight[0] = float("nan")
    before = parameter_digests(tiny_llama)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        train(sets)
    assert parameter_digests(tiny_llama) == before


def test_a_damaged_checkpoint_is_refused(train, sets, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half a file")
    with pytest.raises(ModelError, match="cannot be read.*delete it"):
        train(sets)


def test_a_checkpoint_holds_ids_only_where_a_check_narrowed_them(train, sets, tmp_path):
    train(sets, max_steps=3, checkpoint_steps=2)
    assert not {"l0", "r0"} & set(json.dumps(streams_in(tmp_path)).split('"'))
    (tmp_path / "narrowed").mkdir()
    kept = sets["learn"].ids[:4]
    train(sets, folder=tmp_path / "narrowed", stopping=Scripted(kept), max_steps=3, checkpoint_steps=2)
    anchor, sides = streams_in(tmp_path / "narrowed")
    assert anchor["ids"] == list(kept)
    assert "ids" not in sides["replay"]


def streams_in(folder) -> tuple[dict, dict]:
    """Anchor and sides in a checkpoint."""
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
        state = json.loads(file.metadata()["state"])
    return state["anchor"], state["sides"]


def test_a_checkpoint_of_an_older_version_is_refused_in_one_line(train, sets, tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        stream = {"name": "learn", "ids": ["l0"], "seed": 0, "cycle": 0, "cursor": 0}
        older.setattr(State, "to_json", lambda self, _: {**vars(self), "anchor": stream, "sides": {"learn": stream}})
        train(sets, max_steps=3, checkpoint_steps=2)
    with pytest.raises(ModelError, match="another version of palimpsest.*palimpsest clean .* removes it"):
        train(sets, max_steps=3, checkpoint_steps=2)


def test_a_set_that_was_not_given_is_named(train, sets, monkeypatch):
    from palimpsest.methods.finetune import Finetune

    monkeypatch.setattr(Finetune, "phases", lambda self, step, planned: (Phase("joint", ("learn", "elsewhere")),))
    with pytest.raises(PlanError, match="'elsewhere', which was not given"):
        train(sets)


def test_micro_batches_keep_every_example_once(sets):
    drawn = {"learn": sets["learn"].ids, "replay": sets["replay"].ids}
    parts = micro_batches(sets, drawn, "learn", 3)
    assert len(parts) == 4
    for name, ids in drawn.items():
        assert tuple(i for part in parts for i in part[name].ids) == ids


def test_paired_examples_follow_their_anchor(train, sets, monkeypatch):
    from palimpsest.methods.icu import ICU

    seen = []
    original = ICU.loss
    monkeypatch.setattr(
        ICU,
        "loss",
        lambda self, m, b, p: (seen.append((b["forget"].ids, b["analogous"].ids)), original(self, m, b, p))[1],
    )
    pairs = dict(zip(sets["learn"].ids, (sets["replay"].ids * 2)[:10], strict=True))
    train({"forget": sets["learn"], "analogous": sets["replay"]}, name="icu", pairs={"analogous": pairs}, max_steps=3)
    assert len(seen) == 3
    assert all(tuple(pairs[i] for i in anchors) == partners for anchors, partners in seen)


@pytest.mark.parametrize(("learned", "forgotten"), [(3, 10), (10, 3)])
def test_an_update_goes_over_the_larger_of_its_two_sets(sets, train, learned, forgotten):
    """Ten examples in batches of four are three steps a pass, two passes six; three examples alone would be two."""
    ids, others = sets["learn"].ids, sets["replay"].ids
    both = TextSet([sets["learn"][i] for i in ids] + [sets["replay"][i] for i in others], pad_id=0)
    given = {"learn": both.subset(both.ids[:learned]), "forget": both.subset(both.ids[-forgotten:])}
    assert train(given, name="ug_clu", options={"gamma": 0.0, "probes": 0}, num_train_epochs=2).steps == 6
