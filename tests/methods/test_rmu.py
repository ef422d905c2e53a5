"""RMU: its distance by hand, ragged rows against a loop, its target, the reference at a block, what is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.rmu import RMU, RMUConfig, block_of, distance, target_direction
from palimpsest.models.reference import CachedReference, build_reference
from palimpsest.models.scope import Scope, apply_scope

JOINT = Phase("joint", ("forget", "retain"))


@pytest.fixture
def sets():
    return {"forget": random_set("f", 3, 1), "retain": random_set("r", 4, 2)}


def built(model, sets, folder, **options):
    config = RMUConfig(**options)
    places = RMU.asks_outputs_of(config, model)
    method = RMU(config, build_reference(model, {"retain": sets["retain"]}, folder, places=places))
    method.prepare(model, sets)
    return method


def whole(sets):
    return {name: examples.batch(examples.ids) for name, examples in sets.items()}


def test_distance_by_hand():
    """(1−1)² + (3−1)² over 2 is 2, twice."""
    assert distance(torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([1.0, 1.0])).item() == 4.0


def test_the_target_is_a_function_of_the_seed_in_the_positive_orthant():
    u, again, other = target_direction(500, 3), target_direction(500, 3), target_direction(500, 4)
    assert torch.equal(u, again)
    assert not torch.equal(u, other)
    assert (u >= 0).all()
    assert u.norm().item() == pytest.approx(1.0)
    assert u.mean().item() / u.max().item() == pytest.approx(0.5, abs=0.06)  # uniform, not half a Gaussian


def test_its_terms_equal_a_loop_over_ragged_rows(tiny_llama, sets, tmp_path):
    """Each token counts once: no row is divided by another's length."""
    method = built(tiny_llama, sets, tmp_path, coefficient=3.0)
    moved = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    terms = method.loss(moved, whole(sets), JOINT)
    expected = {"misdirect": 0.0, "retain": 0.0}
    for name, term in (("forget", "misdirect"), ("retain", "retain")):
        for example_id in sets[name].ids:
            row = sets[name][example_id]
            tokens = torch.tensor([row.tokens])
            # hidden_states[-1] is normed, so the last block's output is asked of the block itself
            found = [block_output(model, tokens) for model in (moved, tiny_llama)]
            for t in (t for t, scored in enumerate(row.scored) if scored):
                target = 3.0 * target_direction(32, 0) if name == "forget" else found[1][t - 1]
                expected[term] += ((found[0][t - 1] - target) ** 2).mean().item()
    assert {name: term.total.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)
    assert {term.per for term in terms.values()} == {"token"}


def block_output(model, tokens):
    seen = []
    hook = model.model.layers[1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        model(input_ids=tokens)
    hook.remove()
    out = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    return out.reshape(-1, out.shape[-1])


def test_at_the_reference_nothing_has_moved_and_no_second_model_is_held(tiny_llama, sets, tmp_path):
    for term in ("hidden", "kl"):
        method = built(tiny_llama, sets, tmp_path / term, retain_term=term)
        assert isinstance(method.reference, CachedReference)
        retained = method.loss(tiny_llama, whole(sets), JOINT)["retain"].total.item()
        assert math.isclose(retained, 0.0, abs_tol=1e-5)


def test_a_lora_run_remembers_by_its_adapter(tiny_llama, sets, tmp_path):
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=4, lora_alpha=8.0))
    method = built(model, sets, tmp_path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    assert method.loss(model, whole(sets), JOINT)["retain"].total.item() > 1e-4
    assert not any(tmp_path.iterdir())


def test_the_middle_block_is_the_usual_one(tiny_llama):
    assert block_of(tiny_llama, None) == "model.layers.1"
    assert block_of(tiny_llama, 0) == "model.layers.0"


def test_a_block_that_is_not_there_is_refused(tiny_llama):
    with pytest.raises(PlanError, match=r"rmu\.layer = 2: the model has 2 blocks; accepted: 0 to 1"):
        block_of(tiny_llama, 2)
    with pytest.raises(PlanError, match="no list of blocks"):
        block_of(torch.nn.Linear(2, 2), None)


def test_a_scope_above_the_block_is_refused(tiny_llama, sets, tmp_path):
    model = apply_scope(tiny_llama, Scope(kind="layers", names=(r"layers\.1\.",)))
    with pytest.raises(PlanError, match="nothing that may move acts on model.layers.0"):
        built(model, sets, tmp_path, layer=0)


def test_a_target_without_length_is_refused():
    with pytest.raises(PlanError, match=r"rmu\.coefficient = 0: .*greater than 0"):
        methods.configure("rmu", {"coefficient": 0})
