"""By hand on the skewed table: row a has loss −log 0.8 = 0.2231 nats a token, row b −log 0.2 = 1.6094."""

import math

import pytest
import torch
from accelerate import Accelerator

from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet
from palimpsest.errors import PlanError
from palimpsest.loop.step import micro_batches, take_step
from palimpsest.methods.sfr_on import SFROn, SFROnConfig
from palimpsest.methods.ug_clu import UGCLU, UGCLUConfig
from palimpsest.rules.own_step import OptimizerStep

from .conftest import sequence

LOSS_A, LOSS_B = -math.log(0.8), -math.log(0.2)
FAST = Phase("fast", ("forget",), scale=0.5)


@pytest.fixture
def sets() -> dict[str, TextSet]:
    """Forget: 1 after anything. Retain: 0 after 0. Learn: 0 after 1."""
    return {
        "forget": TextSet([sequence("f1", 0, 1), sequence("f2", 1, 1)], pad_id=0),
        "retain": TextSet([sequence("r1", 0, 0), sequence("r2", 0, 0)], pad_id=0),
        "learn": TextSet([sequence("l1", 1, 0), sequence("l2", 1, 0)], pad_id=0),
    }


def prepared(model, sets, **options) -> UGCLU:
    method = UGCLU(UGCLUConfig(**options))
    method.prepare(model, sets)
    return method


def take(method, model, sets, phase, optimizer) -> None:
    """One step on the whole sets of a phase."""
    if not phase.sets:
        method.update(model, phase, OptimizerStep(optimizer))
        return
    parts = micro_batches(sets, {name: sets[name].ids for name in phase.sets}, phase.sets[0], None)
    take_step(Accelerator(cpu=True), method, model, optimizer, parts, phase=phase, max_grad_norm=0.0)


def test_ascent_weighs_what_is_remembered_best(skewed, two_rows):
    term = UGCLU(UGCLUConfig(ascent=3.0)).loss(skewed, {"forget": two_rows}, FAST)["forget"]
    a, b = LOSS_A**-0.5, LOSS_B**-0.5
    assert (term.total / term.count).item() == pytest.approx((a * LOSS_A + b * LOSS_B) / (a + b), rel=1e-6)
    assert term.weight == -3.0 * 0.5


def test_an_example_at_its_target_is_ascended_no_further(skewed, two_rows):
    term = UGCLU(UGCLUConfig(target=1.0)).loss(skewed, {"forget": two_rows}, FAST)["forget"]
    a, b = LOSS_A**-0.5, LOSS_B**-0.5
    assert (term.total / term.count).item() == pytest.approx(a * LOSS_A / (a + b), rel=1e-6)


def test_learning_can_weigh_what_is_known_least(skewed, two_rows):
    method = UGCLU(UGCLUConfig(learn_temperature=1.0, learn_weight=2.0))
    term = method.loss(skewed, {"learn": two_rows}, Phase("fast", ("learn",)))["learn"]
    by_hand = (LOSS_A**2 + LOSS_B**2) / (LOSS_A + LOSS_B)
    assert (term.total / term.count).item() == pytest.approx(by_hand, rel=1e-6)
    assert term.weight == 2.0


def test_an_update_alternates_and_ends_in_repair(half, sets):
    method = prepared(half, sets, every=5, probes=0)
    plan = [[(phase.name, phase.sets) for phase in method.phases(step, 20)] for step in range(20)]
    assert plan[0] == [("fast", ("forget", "learn")), ("repair", ("learn", "retain"))]
    assert plan[1] == [("glide", ()), ("repair", ("learn", "retain"))]
    assert plan[4] == [("glide", ()), ("close", ("learn", "retain"))]
    assert [step for step, phases in enumerate(plan) if phases[0][0] == "fast"] == [0, 5, 10, 15]
    late = prepared(half, sets, every=1).phases(19, 20)
    assert [phase.sets for phase in late] == [(), ("learn", "retain")]  # repair has the last word
    shared = prepared(half, sets, every=5, probes=0, fast_optimizer="shared")
    assert [phase.name for phase in shared.phases(1, 20)] == ["repair"]  # whose momentum carries it on


def test_t12_the_ascent_falls_as_the_schedule_says(half, sets):
    method = prepared(half, {n: sets[n] for n in ("forget", "retain")}, every=1, probes=0)
    scales = [sum(p.scale for p in method.phases(step, 100) if p.name == "fast") for step in range(100)]
    assert scales[0] == 1.0
    assert scales[95:] == [0.0] * 5
    left_out = sum((1 + math.cos(math.pi * k / 100)) / 2 for k in range(95, 100))
    assert sum(scales) == pytest.approx(101 / 2 - left_out)


def test_t12_the_clip_falls_with_the_fast_step_and_never_rises(half, sets):
    method = prepared(half, sets, every=1, probes=0, fast_norm=2.0)
    limits = [phases[0].max_grad_norm for k in range(100) if (phases := method.phases(k, 100))[0].name == "fast"]
    assert len(limits) == 95
    assert (limits[0], limits[50]) == (2.0, pytest.approx(1.0))
    assert limits == sorted(limits, reverse=True)
    for options in ({"annealed_clip": False, "fast_norm": 2.0}, {"annealing": "constant", "fast_norm": 2.0}):
        assert prepared(half, sets, every=1, probes=0, **options).phases(50, 100)[0].max_grad_norm == 2.0
    assert prepared(half, sets, every=1, probes=0, fast_norm=0.0).phases(50, 100)[0].max_grad_norm == 0.0


def test_both_halves_of_the_fast_step_are_annealed(skewed, two_rows, sets):
    method = prepared(skewed, sets, ascent=3.0, learn_weight=2.0)
    terms = method.loss(skewed, {"learn": two_rows, "forget": two_rows}, Phase("fast", ("learn",), scale=0.25))
    assert (terms["learn"].weight, terms["forget"].weight) == (0.5, -0.75)


def test_learning_nowhere_is_refused(half, sets):
    with pytest.raises(PlanError, match="learn_in_fast and learn_in_repair are both off"):
        prepared(half, sets, learn_in_fast=False, learn_in_repair=False)


def test_separate_masks_make_separate_steps(half, sets):
    method = prepared(half, sets, composition="separate", probes=0)
    assert [phase.sets for phase in method.phases(0, 10)] == [("forget",), ("learn",), ("learn", "retain")]
    assert method.saliency.masks["forget"] is not method.saliency.masks["learn"]


def test_without_a_memory_the_learn_set_repairs_itself(half, sets):
    method = prepared(half, {"learn": sets["learn"]}, learn_in_repair=False, probes=0)
    assert method.saliency is None
    assert [phase.sets for phase in method.phases(0, 10)] == [("learn",), ("learn",)]


def test_t11_with_no_ascent_and_no_fast_learning_it_is_descent_on_both(skewed, sets):
    method = prepared(skewed, sets, ascent=0.0, learn_in_fast=False)
    assert method.phases(0, 10) == (Phase("repair", ("learn", "retain")),)
    before = skewed.table.detach().clone()
    take(method, skewed, sets, method.phases(0, 10)[0], torch.optim.SGD(skewed.parameters(), lr=1.0))
    expected = before.clone()
    for current in (0, 1):  # one set each: the gradient of −log p(0 | current) is p − onehot(0)
        expected[current] -= before[current].softmax(-1) - torch.tensor([1.0, 0.0])
    assert torch.allclose(skewed.table, expected, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_t11_without_a_learn_set_it_is_sfr_on_bit_by_bit(skewed, sets, gamma):
    ours = {"ascent": 25.0, "fast_norm": 7.0, "normalise": False, "stop_share": 0.0, "gamma": gamma, "probes": 0}
    ours |= {"annealed_clip": False, "fast_optimizer": "shared"}
    given = {name: sets[name] for name in ("retain", "forget")}
    start, ends = skewed.table.detach().clone(), []
    for method in (UGCLU(UGCLUConfig(every=2, **ours)), SFROn(SFROnConfig(every=2, gamma=gamma))):
        with torch.no_grad():
            skewed.table.copy_(start)
        method.prepare(skewed, given)
        optimizer = torch.optim.SGD(skewed.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        for step in range(6):
            for phase in method.phases(step, 6):
                take(method, skewed, given, phase, optimizer)
        ends.append(skewed.table.detach().clone())
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], start)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("fast_optimizer", ["own", "shared", "sgd"])
def test_t9_masked_weights_do_not_move_in_a_fast_step(skewed, sets, kind, fast_optimizer):
    how = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    method = prepared(skewed, sets, gamma=1.0, granularity="weight", probes=0, fast_optimizer=fast_optimizer)
    mask = method.saliency.masks["forget"].mask("table")
    assert 0 < mask.sum() < mask.numel()
    optimizer = kind(skewed.parameters(), lr=0.1, weight_decay=0.1, **how)
    take(method, skewed, sets, Phase("repair", ("retain", "learn")), optimizer)  # fills the moments everywhere
    before = skewed.table.detach().clone()
    take(method, skewed, sets, Phase("fast", ("forget", "learn")), optimizer)
    assert torch.equal(skewed.table[~mask], before[~mask])
    assert not torch.equal(skewed.table[mask], before[mask])


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_fast_step_whose_gradient_is_annealed_away_is_no_step(skewed, sets, kind):
    """Of a shared optimizer it would be one of the repair's: that momentum moves the weights by itself."""
    how = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    method = prepared(skewed, sets, gamma=0, probes=0)
    optimizer = kind(skewed.parameters(), lr=0.1, **how)
    take(method, skewed, sets, Phase("repair", ("retain",)), optimizer)
    before = skewed.table.detach().clone()
    take(method, skewed, sets, Phase("fast", ("forget",), scale=0.0), optimizer)
    assert torch.equal(skewed.table, before)
    skewed.table.grad = torch.zeros_like(skewed.table)
    optimizer.step()
    assert not torch.equal(skewed.table, before)


def test_the_plain_fast_step_is_beta_times_the_gradient(skewed, sets):
    options = {"fast_optimizer": "sgd", "fast_rate": 0.1, "forget_temperature": 0.0, "fast_norm": 0.0, "gamma": 0}
    method = prepared(skewed, sets, ascent=1.0, **options)
    before = skewed.table.detach().clone()
    take(method, skewed, sets, Phase("fast", ("forget",)), torch.optim.AdamW(skewed.parameters(), lr=1.0))
    gradient = torch.stack([row.softmax(-1) - torch.tensor([0.0, 1.0]) for row in before]) / 2
    assert torch.allclose(skewed.table, before + 0.1 * gradient, atol=1e-6)


def test_slow_weights_keep_a_share_of_a_cycle(skewed, sets):
    ends = {}
    start = skewed.table.detach().clone()
    for alpha_s in (1.0, 0.25):
        with torch.no_grad():
            skewed.table.copy_(start)
        method = prepared(skewed, sets, every=2, alpha_s=alpha_s, probes=0, gamma=0)
        optimizer = torch.optim.SGD(skewed.parameters(), lr=0.1)
        for step in range(2):
            for phase in method.phases(step, 10):
                take(method, skewed, sets, phase, optimizer)
        ends[alpha_s] = skewed.table.detach().clone()
    assert torch.allclose(ends[0.25], start + 0.25 * (ends[1.0] - start), atol=1e-6)


def test_a_run_that_ends_within_a_cycle_takes_the_slow_step(skewed, sets):
    method = prepared(skewed, sets, every=9, alpha_s=0.25, probes=0, gamma=0)
    optimizer = torch.optim.SGD(skewed.parameters(), lr=0.1)
    start = skewed.table.detach().clone()
    for phase in method.phases(0, 10):
        take(method, skewed, sets, phase, optimizer)
    moved = skewed.table.detach().clone()
    method.settle(skewed)
    settled = skewed.table.detach().clone()
    assert torch.allclose(settled, start + 0.25 * (moved - start), atol=1e-6)
    assert "slow/table" not in method.state()
    method.settle(skewed)
    assert torch.equal(settled, skewed.table)


def test_an_open_cycle_survives_in_the_state(skewed, sets):
    method = prepared(skewed, sets, alpha_s=0.5, probes=0)
    assert method.state() == {}
    start = skewed.table.detach().clone()
    take(method, skewed, sets, Phase("fast", ("forget",)), torch.optim.SGD(skewed.parameters(), lr=0.1))
    again = prepared(skewed, sets, alpha_s=0.5, probes=0)
    again.load_state(method.state())
    assert torch.equal(again.state()["slow/table"], start)


@pytest.mark.parametrize("composition", ["sum", "separate"])
def test_the_momentum_of_fast_steps_is_their_own_and_survives_in_the_state(skewed, sets, composition):
    """Cut in two after the first iteration: the second goes on as if nothing had happened."""
    start, ends = skewed.table.detach().clone(), []
    for cut in (False, True):
        with torch.no_grad():
            skewed.table.copy_(start)
        method = prepared(skewed, sets, composition=composition, every=2, gamma=0, probes=0)
        optimizer = torch.optim.SGD(skewed.parameters(), lr=0.1, momentum=0.9)
        for step in range(2):
            for phase in method.phases(step, 10):
                take(method, skewed, sets, phase, optimizer)
            if cut and step == 0:
                state = {name: tensor.clone() for name, tensor in method.state().items()}
                method = prepared(skewed, sets, composition=composition, every=2, gamma=0, probes=0)
                method.load_state(state)
        ends.append(skewed.table.detach().clone())
    assert torch.equal(*ends)
    assert len(method.state()) == {"sum": 1, "separate": 2}[composition]


def test_a_glide_goes_on_along_the_fast_steps_alone(skewed, sets):
    """One fast step, and then glides without repair: in all η g / (1 − μ), g by hand."""
    options = {"every": 1000, "ascent": 1.0, "forget_temperature": 0.0, "fast_norm": 0.0, "gamma": 0, "probes": 0}
    method = prepared(skewed, {name: sets[name] for name in ("retain", "forget")}, **options)
    optimizer = torch.optim.SGD(skewed.parameters(), lr=0.1, momentum=0.9)
    start = skewed.table.detach().clone()
    take(method, skewed, sets, Phase("fast", ("forget",)), optimizer)
    for _ in range(400):
        take(method, skewed, sets, Phase("glide", ()), optimizer)
    gradient = torch.stack([row.softmax(-1) - torch.tensor([0.0, 1.0]) for row in start]) / 2
    assert torch.allclose(skewed.table, start + 0.1 * gradient / (1 - 0.9), atol=1e-5)
    assert not optimizer.state  # the repair's momentum saw nothing of it


def test_kappa_and_rho_are_logged(skewed, sets):
    """One cycle by hand on a table whose repair gradient is p − onehot: ρ = η‖Δ∇‖ / ‖Δθ‖."""
    method = prepared(skewed, sets, every=4, ascent=2.0, gamma=0, probes=1)
    optimizer = torch.optim.SGD(skewed.parameters(), lr=0.1)
    phases = method.phases(0, 8)
    assert [phase.name for phase in phases] == ["probe", "fast", "repair"]
    assert phases[2].again
    tables = []
    for phase in phases:
        tables.append(skewed.table.detach().clone())
        take(method, skewed, sets, phase, optimizer)
    assert torch.equal(tables[0], tables[1])  # a probe moves nothing
    numbers = method.diagnostics(0.1)
    assert numbers["kappa"] == pytest.approx(2.0 / 4)
    change = (tables[2].softmax(-1) - tables[1].softmax(-1)).norm()
    assert numbers["rho"] == pytest.approx((0.1 * change / (tables[2] - tables[1]).norm()).item(), rel=1e-4)
    assert method.diagnostics(0.1) == {}


def test_the_divergence_asks_the_reference_only_when_it_has_a_weight(skewed, reference_half, two_rows):
    assert not UGCLU.asks_reference_on(UGCLUConfig())
    config = UGCLUConfig(kl_weight=0.5)
    assert UGCLU.asks_reference_on(config) == {"retain"}
    terms = UGCLU(config, reference_half).loss(skewed, {"retain": two_rows}, Phase("repair", ("retain",)))
    assert terms["kl"].total.item() == pytest.approx(3 * 0.2231436, rel=1e-5)
    assert terms["kl"].weight == 0.5
