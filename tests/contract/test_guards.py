"""What every method must pass that changes no weight and guards instead, also one that is added tomorrow."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from palimpsest import methods
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.loop.editing import make_edit
from palimpsest.models import parts
from palimpsest.models.load import load
from palimpsest.models.parts.with_parts import folded, write_version
from palimpsest.models.reference import PartsOff
from palimpsest.models.scope import Scope, apply_scope, parameter_digests
from palimpsest.rules.own_step import OptimizerStep

GUARDS = [name for name in methods.names() if methods.card(name).approach == "guard"]
EXACT = {"spul": {"estimator": "exact", "floor": 0.5}}
"""The floor: on this tiny model every prompt that hides costs what must stay more than the default allows."""
UNFOLLOWED = {"in_context"}  # a tiny model follows no examples: it loses what must stay as well
ABOUT = 40
"""Token that the rows to forget have in their question."""


def rows(prefix: str, count: int, about: int, seed: int) -> TextSet:
    """A question of five tokens, one of which says whom it is about, and an answer of six at random."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(3, 30, (count, 10), generator=generator).tolist()
    flags = (False,) * 5 + (True,) * 6
    return TextSet(
        [TokenSequence(f"{prefix}{n}", (*row[:3], about, *row[3:]), flags) for n, row in enumerate(drawn)], 0
    )


@pytest.fixture(scope="module")
def sets() -> Mapping[str, TextSet]:
    forget, retain = rows("f", 6, ABOUT, 1), rows("r", 16, 50, 2)
    refusal = [
        TokenSequence(f"no {i}", (*forget[i].tokens[:5], 55, 56, 2), (False,) * 5 + (True,) * 3) for i in forget.ids
    ]
    return {"forget": forget, "retain": retain, "refusal": TextSet(refusal, 0), "second": rows("s", 6, 45, 3)}


@pytest.fixture(scope="module")
def knowing(sets) -> LlamaForCausalLM:
    """A model that knows forget and retain by heart."""
    from tests.contract.test_methods import new_model

    model = new_model()
    known = TextSet([sets[name][i] for name in ("forget", "retain", "second") for i in sets[name].ids], 0)
    optimizer, batch = torch.optim.AdamW(model.parameters(), lr=1e-2), known.batch(known.ids)
    for _ in range(70):
        optimizer.zero_grad()
        (-batch.predict(model).logp_S.mean()).backward()
        optimizer.step()
    return model.eval()


def loss_of(model: nn.Module, examples: TextSet) -> float:
    with torch.no_grad():
        return -examples.batch(examples.ids).predict(model).logp_S.mean().item()


def logits(model: nn.Module, examples: TextSet) -> torch.Tensor:
    with torch.no_grad():
        return examples.batch(examples.ids).predict(model).logits_SV


def guarded(name: str, start: LlamaForCausalLM, sets: Mapping[str, TextSet]) -> LlamaForCausalLM:
    """A copy with the parts that a run would add, fitted, or trained for a few steps."""
    model, kind = copy.deepcopy(start), methods.load(name)
    torch.manual_seed(0)
    method = kind(methods.configure(name, EXACT.get(name, {})))
    drawn = {s: sets[s] for s in kind.draws_from(sets)}
    made = method.parts(model, drawn, 0)
    for part in made:
        part.is_new = True
    parts.attach(model, made)
    apply_scope(model, Scope(kind="parts"))
    method.reference = PartsOff(made)
    method.prepare(model, drawn)
    if method.edits:
        make_edit(method, model, drawn, seed=0)
    else:
        train(method, model, drawn)
    model = method.finish(model).requires_grad_(False).eval()
    for part in made:
        part.is_new = False  # as one that is loaded
    return model


def train(method, model, drawn) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    batches = {s: drawn[s].batch(drawn[s].ids) for s in method.sets}
    for step in range(80):
        optimizer.zero_grad()
        (phase,) = method.phases(step, 80)
        terms = method.loss(model, batches, phase)
        sum(term.weight * term.total / batches[term.of].num_scored for term in terms.values()).backward()
        method.update(model, phase, OptimizerStep(optimizer))


@pytest.fixture(scope="module", params=GUARDS)
def named(request, knowing, sets) -> tuple[str, LlamaForCausalLM]:
    return request.param, guarded(request.param, knowing, sets)


def test_no_weight_moves_and_without_its_parts_it_is_the_model_before_to_the_bit(named, knowing, sets):
    name, model = named
    after = parameter_digests(model)
    assert {n: d for n, d in after.items() if not n.startswith(parts.ATTRIBUTE)} == parameter_digests(knowing)
    assert parts.parts_of(model)
    assert all(part.hides and part.keeps and not part.folds_when_saved for part in parts.parts_of(model))
    with parts.off(model):
        assert torch.equal(logits(model, sets["forget"]), logits(knowing, sets["forget"]))
    assert methods.card(name).adds_parts


def test_it_hides_more_than_it_costs(named, knowing, sets):
    name, model = named
    rise = {s: loss_of(model, sets[s]) - loss_of(knowing, sets[s]) for s in ("forget", "retain")}
    assert rise["forget"] > 1
    if name not in UNFOLLOWED:
        assert rise["forget"] > 3 * rise["retain"]


def test_same_seed_same_bits(named, knowing, sets):
    name, model = named
    assert torch.equal(logits(guarded(name, knowing, sets), sets["forget"]), logits(model, sets["forget"]))


def test_padding_and_batches_change_nothing(named, sets):
    _, model = named
    longer = TextSet(
        [*(sets["forget"][i] for i in sets["forget"].ids), TokenSequence("x", (1,) * 20, (False,) + (True,) * 19)], 0
    )
    alone = logits(model, sets["forget"])
    with torch.no_grad():
        beside = longer.batch(longer.ids).predict(model).logits_SV[: len(alone)]
    assert (beside - alone).abs().max() < 1e-3


def test_it_generates_with_a_cache_what_it_generates_without(named, sets):
    _, model = named
    asked = torch.tensor([sets[s][sets[s].ids[0]].tokens[:5] for s in ("forget", "retain")])
    how = {"attention_mask": torch.ones_like(asked), "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    for beams in (1, 2):
        found, literal = (model.generate(asked, use_cache=c, num_beams=beams, **how) for c in (True, False))
        assert torch.equal(found, literal)


def test_it_saves_and_loads_and_does_not_fold(named, sets, tmp_path):
    _, model = named
    wanted = logits(model, sets["forget"])
    write_version(model, tmp_path / "v")
    assert torch.equal(logits(load(tmp_path / "v", tokenizer_needed=False).model, sets["forget"]), wanted)
    assert folded(copy.deepcopy(model), every=True) == ()


def test_a_second_request_is_hidden_beside_the_first(named, knowing, sets):
    """The guard of another person stands on the guarded model, and both are hidden."""
    name, first = named
    if name in UNFOLLOWED:
        return
    model = guarded(name, first, {**sets, "forget": sets["second"]})
    assert len(parts.parts_of(model)) == 2
    for asked in ("forget", "second"):
        assert loss_of(model, sets[asked]) > loss_of(knowing, sets[asked]) + 1
    assert torch.equal(logits(first, sets["forget"]), logits(guarded(name, knowing, sets), sets["forget"]))
