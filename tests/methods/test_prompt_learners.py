"""What all learners with prompts keep: cuts change no step, earlier tasks stay to the bit, killed is resumed."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from accelerate import Accelerator
from tests.methods.prompt_world import OPTIONS, built, fresh, learned, task

from palimpsest.contract import Phase
from palimpsest.loop.step import micro_batches, take_step
from palimpsest.models.families import of_model
from palimpsest.models.modes import asked
from palimpsest.models.parts import new_parts_of, off, parts_of
from palimpsest.models.scope import state_digests
from palimpsest.models.unread import leave_out_unread
from palimpsest.rules.rule_stack import RuleStack

NAMES = sorted(OPTIONS)
JOINT = Phase("joint", ("learn",))


def logits(model, examples):
    with asked(model):
        return examples.batch(examples.ids).predict(model).logits_SV


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["vit", "bert"])
def test_cuts_and_padding_change_no_step(layout, name, tmp_path):
    found, examples = [], task(layout, (0, 1))
    for size in (None, 1):
        method, model = built(fresh(layout), name, examples)
        model.train()
        moving = [p for p in model.parameters() if p.requires_grad]
        before = torch.cat([p.detach().flatten() for p in moving])
        cut = micro_batches({"learn": examples}, {"learn": examples.ids}, "learn", size)
        how = {"phase": JOINT, "max_grad_norm": 0.0, "rules": RuleStack()}
        take_step(Accelerator(cpu=True), method, model, torch.optim.SGD(moving, lr=1.0), cut, **how)
        found.append((before - torch.cat([p.detach().flatten() for p in moving]), method.diagnostics(0.0)))
    assert (found[0][0] - found[1][0]).norm() < 1e-4 * found[0][0].norm()
    assert found[0][1] == found[1][1]
    assert found[0][1]["prompts chosen"] >= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["vit", "bert"])
def test_a_second_task_leaves_the_first_ones_rows_and_prompts(layout, name, tmp_path):
    first, second = task(layout, (0, 1)), task(layout, (2,))
    model = learned(fresh(layout), name, first, tmp_path / "1")
    base = {n: p.clone() for n, p in model.named_parameters() if "palimpsest" not in n}
    own = [part for part in parts_of(model) if part.asks and name != "l2p"]
    kept = [{n: t.clone() for n, t in part.state_dict().items()} for part in own]
    model = learned(model, name, second, tmp_path / "2")
    head = of_model(model).head(model)
    for parameter_name, before in base.items():
        after = dict(model.named_parameters())[parameter_name]
        if any(after is one for one in head.parameters()):
            assert torch.equal(after[:2], before[:2])
            assert not torch.equal(after[2], before[2])
        else:
            assert torch.equal(after, before)
    for part, tensors in zip(own, kept, strict=True):
        assert all(torch.equal(part.state_dict()[n], tensor) for n, tensor in tensors.items())
    assert len(parts_of(model)) == {"l2p": 1, "dual_prompt": 3, "coda_prompt": 2}[name]


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_ends_with_the_same_bits(name, tmp_path):
    examples = task("vit", (0, 1))

    def stop(step, planned, values):
        if step == 3:
            raise KeyboardInterrupt

    whole = state_digests(learned(fresh("vit"), name, examples, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        learned(fresh("vit"), name, examples, tmp_path / "cut", progress=stop)
    assert state_digests(learned(fresh("vit"), name, examples, tmp_path / "cut")) == whole
    rows = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert "prompt entropy" in rows[-1]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned_is_in_the_prompts_and_their_usage_is_written(name, tmp_path):
    examples = task("vit", (0, 1))
    model = learned(fresh("vit"), name, examples, tmp_path / "run")
    plain = copy.deepcopy(model)
    with off(plain):
        assert not torch.allclose(logits(plain, examples), logits(model, examples))
    rows = [part.rows_M for part in parts_of(model) if part.asks]
    chosen = 2 if name == "l2p" else 1
    assert [int(r.sum()) for r in rows] == [chosen * len(examples)]


@pytest.mark.parametrize("name", NAMES)
def test_no_number_of_a_new_prompt_counts_as_unread(name, tmp_path):
    """Another task may win the choice: a pass reads the new prompts all the same, or they would never learn."""
    model = learned(fresh("vit"), name, task("vit", (0, 1)), tmp_path / "1")
    examples = task("vit", (2, 3))
    method, model = built(model, name, examples)
    for part in new_parts_of(model):
        part.requires_grad_(True)
    assert not [n for n in leave_out_unread(model, [examples.batch(examples.ids[:1])]) if "palimpsest" in n]
    assert method.config is not None
