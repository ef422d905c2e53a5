"""Each rule worked by hand on one or two weights, and against brute force."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from palimpsest import rules
from palimpsest.contract import Phase
from palimpsest.errors import ModelError, PlanError
from palimpsest.rules.partial import Partial, drawn, largest, window
from palimpsest.rules.rule import Rule, Setting
from palimpsest.rules.rule_stack import RuleStack, without_rules

PHASE = Phase("joint", ("forget",))


class Plain(nn.Module):
    """Weights, and nothing else."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values))


def rule_of(kind: str, **options) -> Rule:
    return rules.rule_of({"kind": kind, **options})


def stack_of(model: nn.Module, *added: Rule, own: tuple[Rule, ...] = (), seed: int = 0) -> RuleStack:
    stack = RuleStack(own, added, Setting(seed=seed))
    stack.prepare(model, {}, {})
    return stack


def step(model: nn.Module, stack: RuleStack, *moves: float) -> list[float]:
    """One update that adds these to the weights; what the rules make of it."""
    stack.reopen(model)
    with stack.around(model, PHASE, {"forget": ("a",)}), torch.no_grad():
        model.w.add_(torch.tensor(moves))
    return model.w.tolist()


# -- one rule after the other ---------------------------------------------------------------------------------------


def test_slow_weights_keep_half_of_every_second_step():
    model = Plain(0.0)
    stack = stack_of(model, rule_of("slow_weights", k=2, alpha=0.5))
    assert [step(model, stack, 1.0)[0] for _ in range(4)] == [1.0, 1.0, 2.0, 2.0]  # 0 → 2 → 1, 1 → 3 → 2
    step(model, stack, 1.0)
    stack.settle(model)
    assert model.w.tolist() == [2.5]  # the open cycle ends where it is looked at
    assert step(model, stack, 1.0) == [3.5]


def test_all_of_the_way_of_a_cycle_is_no_rule_at_all():
    model = Plain(0.1)
    stack = stack_of(model, rule_of("slow_weights", k=1, alpha=1.0))
    assert step(model, stack, 0.3)[0] == (torch.tensor(0.1) + torch.tensor(0.3)).item()


def test_what_leaves_the_ball_comes_back_to_its_edge():
    model = Plain(3.0, 4.0)
    stack = stack_of(model, rule_of("ball", radius=0.2))  # of a norm of 5: within 1
    assert step(model, stack, 0.0, 0.5) == [3.0, 4.5]  # within
    assert step(model, stack, 3.0, 3.5) == pytest.approx([3.6, 4.8])  # d = (3, 4), of length 5
    assert stack.diagnostics(0.1) == {"ball/filled": 1.0}


def test_a_radius_can_be_a_length():
    model = Plain(3.0, 4.0)
    assert step(model, stack_of(model, rule_of("ball", radius=2.0, relative=False)), 0.0, 9.0) == [3.0, 6.0]


def test_a_pull_to_the_start_by_hand():
    model = Plain(1.0)
    stack = stack_of(model, rule_of("pull", factor=0.25))
    assert step(model, stack, 4.0) == [4.0]  # 5 − 0.25 · 4
    assert step(model, stack, 0.0) == [3.25]


def test_a_pull_to_the_running_mean_by_hand():
    model = Plain(0.0)
    stack = stack_of(model, rule_of("pull", factor=0.5, towards="mean", memory=0.75))
    assert step(model, stack, 4.0) == [2.5]  # a = 0.25 · 4 = 1, half-way from 4
    assert step(model, stack, 0.0) == [pytest.approx((2.5 + 0.75 * 1 + 0.25 * 2.5) / 2)]


def test_the_average_is_of_the_weights_after_the_steps_and_training_goes_on_beside_it():
    decay, model = 0.5, Plain(7.0)
    stack = stack_of(model, rule_of("ema", decay=decay))
    stack.settle(model)
    assert model.w.tolist() == [7.0]  # nothing is averaged yet
    seen = [step(model, stack, move)[0] for move in (1.0, -4.0, 2.0)]
    assert seen == [8.0, 4.0, 6.0]
    for _ in range(2):  # twice is as good as once
        stack.settle(model)
        weights = [decay**2, decay, 1.0]
        by_hand = sum(w * s for w, s in zip(weights, seen, strict=True)) / sum(weights)
        assert model.w.item() == pytest.approx(by_hand, rel=1e-6)
    assert step(model, stack, 1.0) == [7.0]  # from 6, not from the average


def test_the_average_over_nothing_but_the_last_step_is_the_last_step():
    model = Plain(0.3)
    stack = stack_of(model, rule_of("ema", decay=0.0))
    after = [step(model, stack, 0.7), step(model, stack, 0.7)][-1]
    stack.settle(model)
    assert model.w.tolist() == after


# -- partial --------------------------------------------------------------------------------------------------------


def test_a_drawn_share_is_exact_and_of_seed_name_and_step_alone():
    first = drawn(30, 100, 0, "w", 3)
    assert first.sum() == 30
    assert torch.equal(first, drawn(30, 100, 0, "w", 3))
    assert all(not torch.equal(first, other) for other in (drawn(30, 100, *key) for key in ((1, "w", 3), (0, "v", 3))))
    assert not torch.equal(first, drawn(30, 100, 0, "w", 4))


def test_every_place_is_as_likely():
    """Of 400 draws of 3 in 10 each place has 120, give or take sqrt(400 · 0.3 · 0.7) = 9."""
    counts = sum(drawn(3, 10, 0, "w", turn).int() for turn in range(400))
    assert counts.sum() == 1200
    assert (counts - 120).abs().max() < 4 * 9.2


def test_a_large_tensor_has_its_share_in_every_stretch(monkeypatch):
    monkeypatch.setattr("palimpsest.rules.partial._STRETCH", 10)
    kept = drawn(9, 34, 0, "w", 0)
    assert kept.sum() == 9
    assert [int(part.sum()) for part in kept.split(10)] == [2, 3, 2, 2]  # 9·10/34 = 2.6, 5.3, 7.9, 9


def test_the_window_comes_by_everywhere_alike():
    counts = sum(window(3, 7, turn).int() for turn in range(7))
    assert counts.tolist() == [3] * 7


def test_the_largest_gradients_move():
    assert largest(torch.tensor([1.0, -5.0, 0.0, 2.0]), 2, 4).tolist() == [False, True, False, True]
    assert not largest(None, 2, 4).any()


@pytest.mark.parametrize("options", [{"rule": "random"}, {"rule": "cyclic"}, {"rule": "topk"}])
def test_only_the_share_moves_under_adam_momentum_and_weight_decay(options):
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(7, 9), "b": nn.Linear(9, 3)})
    stack = stack_of(model, rule_of("partial", keep=0.2, **options))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(5):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        stack.transform(model, PHASE)
        with stack.around(model, PHASE, {}):
            optimizer.step()
        for name, parameter in model.named_parameters():
            assert int((parameter != before[name]).sum()) == max(1, round(0.2 * parameter.numel()))


def test_layers_have_shares_of_their_own_and_a_share_of_nothing_is_frozen():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    stack = stack_of(model, rule_of("partial", keep=0.5, layers={"^a": 0.0, "b.weight": 1.0, "^b": 0.25}))
    mask = stack._added[0]._chosen(model)
    counts = {name: int(mask.mask(name).sum()) for name in mask.bits}
    assert counts == {"b.weight": 16, "b.bias": 1, "c.weight": 8, "c.bias": 2}
    assert not model["a"].weight.requires_grad


def test_a_choice_can_hold_for_several_steps_and_for_the_whole_run():
    found = {}
    for every in (0, 2):
        rule = rule_of("partial", keep=0.3, every=every)
        model = Plain(*[0.0] * 20)
        stack = stack_of(model, rule)
        moved = []
        for _ in range(4):
            before = model.w.tolist()
            moved.append([x != y for x, y in zip(step(model, stack, *[1.0] * 20), before, strict=True)])
        found[every] = moved
    assert all(one == found[0][0] for one in found[0])
    assert found[2][0] == found[2][1] != found[2][2] == found[2][3]


def test_a_pattern_that_fits_nothing_is_named():
    with pytest.raises(ModelError, match=r"partial.layers: 'q_proj' fits no parameter that may move; the first are w"):
        stack_of(Plain(1.0), rule_of("partial", layers={"q_proj": 0.5}))


# -- masked ---------------------------------------------------------------------------------------------------------


def test_masked_with_sets_to_keep_is_the_balanced_mask():
    """Against brute force: F of a set is the mean of squared gradients of its batches, over its own mean."""
    from tests.data.test_image import some
    from tests.models.test_resnet import tiny

    model, forget, retain = tiny(), some(4), some(6)
    rule = rule_of("masked", of="forget", against=["retain"], gamma=1.5, batch=2)
    rule.prepare(model, {"forget": forget, "retain": retain})
    model.requires_grad_(True)
    scores = {name: brute_fisher(model, one, 2) for name, one in (("forget", forget), ("retain", retain))}
    for name in rule.mask.bits:
        score = scores["forget"][name] - 1.5 * scores["retain"][name]
        sure = score.abs() > 1e-4
        assert torch.equal(rule.mask.mask(name)[sure], (score >= 0)[sure])


def brute_fisher(model, examples, size) -> dict[str, torch.Tensor]:
    from palimpsest.rules.saliency_batches import batch_losses

    model.eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for loss in batch_losses(model, examples, limit=100, batch_size=size):
        grads = torch.autograd.grad(loss(), [*model.parameters()], allow_unused=True)
        for (name, p), grad in zip(model.named_parameters(), grads, strict=True):
            total[name] += (torch.zeros_like(p) if grad is None else grad) ** 2
    mean = sum(t.sum() for t in total.values()) / sum(t.numel() for t in total.values())
    return {name: t / mean for name, t in total.items()}


# -- together -------------------------------------------------------------------------------------------------------


class Noting(Rule):
    """Writes down when it is called."""

    def __init__(self, name: str, place: str, notes: list[str]) -> None:
        super().__init__()
        self.place, self._name, self._notes = place, name, notes

    def transform(self, model, phase):
        self._notes.append(f"transform {self._name}")

    def around(self, model, phase, ids):
        self._notes.append(f"{self._name} {dict(ids)}")
        return nullcontext()

    def settle(self, model):
        self._notes.append(f"settle {self._name}")


def test_what_watches_is_outermost_then_what_holds_then_what_moves():
    notes: list[str] = []
    own = (Noting("own", "moves", notes),)
    added = [Noting(name, place, notes) for name, place in (("w", "watches"), ("m", "moves"), ("h", "holds"))]
    stack, model = RuleStack(own, added, Setting()), Plain(0.0)
    with stack.around(model, PHASE, {"forget": ("a", "b")}):
        notes.append("update")
    ids = {"forget": ("a", "b")}
    assert notes == [*(f"{name} {ids}" for name in ("w", "h", "own", "m")), "update"]
    notes.clear()
    stack.transform(model, PHASE)
    stack.settle(model)
    assert notes == [f"{what} {name}" for what in ("transform", "settle") for name in ("own", "m", "h", "w")]


def test_nothing_moves_what_a_mask_holds_whatever_the_order():
    for order in (("ball", "partial", "pull"), ("partial", "pull", "ball")):
        options = {"ball": {"radius": 0.5, "relative": False}, "partial": {"keep": 0.5, "rule": "cyclic"}, "pull": {}}
        model = Plain(1.0, 2.0, 3.0, 4.0)
        stack = stack_of(model, *(rule_of(kind, **options[kind]) for kind in order))
        after = step(model, stack, 1.0, 1.0, 1.0, 1.0)
        assert after[2:] == [3.0, 4.0]
        assert after[0] != 1.0


def test_each_rule_finds_its_own_state_again():
    model, other = Plain(0.0), Plain(0.0)
    made = lambda: (rule_of("ema"), rule_of("partial", every=1, keep=0.5), rule_of("pull", towards="mean"))  # noqa: E731
    one, two = stack_of(model, *made()), stack_of(other, *made())
    for _ in range(3):
        step(model, one, 1.0)
    one.settle(model)
    state = {name: tensor.clone() for name, tensor in one.state().items()}
    assert {name.split("/")[1] for name in state} == {"0", "1", "2"}
    assert without_rules({**state, "mine": torch.ones(1)}).keys() == {"mine"}
    with torch.no_grad():
        other.w.copy_(model.w)
    two.load_state(state)
    assert {n: t.tolist() for n, t in two.state().items()} == {n: t.tolist() for n, t in state.items()}
    assert step(model, one, 1.0) == step(other, two, 1.0)


def test_a_view_for_repair_has_the_same_rules_of_the_run_and_not_the_methods():
    notes: list[str] = []
    stack = RuleStack((Noting("own", "moves", notes),), (Noting("added", "moves", notes),), Setting())
    stack.of_the_run().settle(Plain(0.0))
    assert notes == ["settle added"]


def test_a_second_start_prepares_the_methods_rules_alone():
    model = Plain(1.0)
    stack = stack_of(model, rule_of("pull", factor=0.5), own=(rule_of("ball", radius=1.0, relative=False),))
    step(model, stack, 8.0)
    stack.renew((rule_of("ball", radius=1.0, relative=False),), model, {})
    start = model.w.item()
    after = step(model, stack, 8.0)[0]
    assert after == pytest.approx(
        min(start + 1.0, (start + 8.0 + 1.0) / 2)
    )  # pull to 1 still, ball around the new start


# -- as a plan has them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"kind": "partia"}], "unknown rule 'partia'; did you mean 'partial'"),
        ([{"kind": "partial", "kep": 1}], "unknown option of partial 'kep'; did you mean 'keep'"),
        ([{"kind": "partial", "keep": 2}], r"partial.keep = 2: "),
        ([{"kind": "partial", "rule": "topk", "every": 3}], "topk is chosen by the gradient of each step"),
        ([{"kind": "partial", "layers": {"(": 0.1}}], "is not a regular expression"),
        ([{"kind": "partial", "layers": {"a": 2}}], "share 2.0 of 'a'; accepted: 0 to 1"),
        ([{"kind": "masked", "of": "retain", "against": ["retain"]}], "retain is in of and in against"),
        ([{"keep": 0.1}], "a rule is {'keep': 0.1}; accepted: a list of mappings with a kind"),
        (["partial"], "a rule is 'partial'; accepted"),
        ({"kind": "partial"}, "accepted: a list of mappings"),
        ("partial", "accepted: a list of mappings"),
        (3, "accepted: a list of mappings"),
        (None, "accepted: a list of mappings"),
        (
            [{"kind": "ema"}, {"kind": "ema", "decay": 0.5}],
            "rule ema: another rule ema already decides how the weights",
        ),
        ([{"kind": "ema"}, {"kind": "slow_weights"}], "rule slow_weights: another rule ema already decides"),
        (
            [{"kind": "spring"}, {"kind": "spring", "strength": 2}],
            "already decides how stiff the springs of retain",
        ),
        ([{"kind": "partial"}, {"kind": "partial", "rule": "topk"}], "already decides which share of every tensor"),
        ([{"kind": "masked"}, {"kind": "masked", "share": 0.1}], "already decides which weights matter to forget"),
        ([{"kind": "ball"}, {"kind": "ball", "radius": 1}], "already decides"),
        ([{"kind": "pull"}, {"kind": "pull", "factor": 0.5}], "how hard the weights are pulled to the start"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, said):
    with pytest.raises(PlanError, match=said) as refused:
        rules.chosen(given)
    assert "\n" not in str(refused.value)


def test_what_differs_in_what_it_decides_stands_together():
    rows = [
        {"kind": "spring"},
        {"kind": "spring", "of": "replay"},
        {"kind": "masked"},
        {"kind": "masked", "of": ["learn"]},
        {"kind": "pull"},
        {"kind": "pull", "towards": "mean"},
        {"kind": "partial", "rule": "topk"},
    ]
    chosen = rules.chosen(rows)
    assert [row["kind"] for row in chosen] == [row["kind"] for row in rows]
    assert rules.reads(chosen) == {"retain": "spring", "replay": "spring", "forget": "masked", "learn": "masked"}
    assert chosen == rules.chosen(chosen)  # a plan that was written down is read again


def test_a_mask_weighs_nothing_in_a_step_that_takes_no_gradients():
    """A phase without sets: no gradients to choose by."""
    model = Plain(1.0, 2.0)
    assert step(model, stack_of(model, Partial(Partial.Config(rule="topk"))), 1.0, 1.0) == [1.0, 2.0]
