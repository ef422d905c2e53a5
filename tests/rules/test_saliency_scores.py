"""T8: masks from Fisher information, against masks worked from separate Fishers, one gradient at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palimpsest.errors import DataError, DivergedError, PlanError
from palimpsest.rules.saliency_bits import SaliencyMask
from palimpsest.rules.saliency_scores import Granularity, Losses, balanced_masks, gradient_sum, mean_square

Fisher = dict[str, Tensor]


class Net(nn.Module):
    """Everything that eval mode is for, and a weight that no loss reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.dropout, self.leave = nn.Dropout(0.5), nn.Linear(6, 3)
        self.unused = nn.Parameter(torch.ones(5))
        self.frozen = nn.Parameter(torch.ones(6), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.dropout(torch.tanh(self.norm(self.enter(x)) * self.frozen)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().train()


class Data:
    """Mini-batches of five, as thunks that count how often they are called."""

    def __init__(self, net: Net, seed: int, num_batches: int, factor: float = 1.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.net, self.factor, self.calls = net, factor, 0
        self.x = torch.randn(num_batches, 5, 4, generator=draw)
        self.y = torch.randint(3, (num_batches, 5), generator=draw)

    def loss(self, batch: int) -> Tensor:
        self.calls += 1
        return self.factor * F.cross_entropy(self.net(self.x[batch]), self.y[batch])

    @property
    def losses(self) -> Losses:
        return [partial(self.loss, batch) for batch in range(len(self.x))]


@pytest.fixture
def retain(net: Net) -> Data:
    return Data(net, 1, 4)


@pytest.fixture
def forget(net: Net) -> Data:
    return Data(net, 2, 3)


@pytest.fixture
def learn(net: Net) -> Data:
    return Data(net, 3, 2)


def fisher(data: Data) -> Fisher:
    """By the definition, one mini-batch after the other."""
    was, _ = data.net.training, data.net.eval()
    moving = {name: p for name, p in data.net.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in moving.items()}
    for loss in data.losses:
        grads = torch.autograd.grad(loss(), tuple(moving.values()), allow_unused=True)
        for name, grad in zip(moving, grads, strict=True):
            total[name] += 0 if grad is None else grad**2 / len(data.x)
    data.net.train(was)
    return total


def mean(values: Fisher) -> float:
    return torch.cat([tensor.flatten() for tensor in values.values()]).mean().item()


def divided(values: Fisher, by: float) -> Fisher:
    return {name: tensor / by for name, tensor in values.items()}


def masks_of(found: SaliencyMask, like: Fisher) -> Fisher:
    return {name: found.mask(name) for name in like}


def assert_equal(found: SaliencyMask, expected: Fisher) -> None:
    assert set(found.bits) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found.mask(name), tensor), name


def ratio_mask(top: Fisher, bottom: Fisher, gamma: float, eps: float = 0.0) -> Fisher:
    """The ancestor's test; 0 / 0 counts as 1, as an epsilon on both sides would have it."""
    ratio = {name: (top[name] + eps) / (bottom[name] + eps) for name in top}
    return {name: tensor.nan_to_num(1.0, posinf=torch.inf) >= gamma for name, tensor in ratio.items()}


def test_t8_mean_square_is_the_mean_of_the_fisher(net: Net, forget: Data) -> None:
    assert mean_square(net, forget.losses) == pytest.approx(mean(fisher(forget)), rel=1e-5)
    assert forget.calls == 3 + 3


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_t8_unnormalised_without_learning_is_the_ancestors_mask(
    net: Net, retain: Data, forget: Data, gamma: float
) -> None:
    found = balanced_masks(net, {"forget": forget.losses}, {"retain": retain.losses}, gamma=gamma, normalise=False)
    expected = ratio_mask(fisher(forget), fisher(retain), gamma, eps=1e-15)
    expected["unused"][:] = True  # 0 >= gamma * 0 where the ancestor's epsilons make a ratio of 1
    assert_equal(found.masks["forget"], expected)
    assert 0.05 < found.masks["forget"].kept_share < 0.95
    assert found.passes == {"forget": 1, "retain": 1}
    assert found.batches == 3 + 4


@pytest.mark.parametrize("gamma", [0.3, 1.0, 3.0])
def test_t8_signed_accumulator_equals_the_ratio(
    net: Net, retain: Data, forget: Data, learn: Data, gamma: float
) -> None:
    sets, shares = {"forget": forget.losses, "learn": learn.losses}, {"forget": 30, "learn": 90}
    found = balanced_masks(net, sets, {"retain": retain.losses}, shares=shares, gamma=gamma)
    changing = [divided(fisher(data), mean(fisher(data))) for data in (forget, learn)]
    top = {name: 0.25 * changing[0][name] + 0.75 * changing[1][name] for name in changing[0]}
    expected = ratio_mask(top, divided(fisher(retain), mean(fisher(retain))), gamma)
    expected["unused"][:] = True
    assert_equal(found.masks["forget"], expected)
    assert found.masks["learn"] is found.masks["forget"]
    assert {name: pytest.approx(mean(fisher(d)), rel=1e-5) for name, d in (("learn", learn), ("retain", retain))} == {
        name: found.means[name] for name in ("learn", "retain")
    }


def test_t8_separate_masks_and_equal_shares(net: Net, retain: Data, forget: Data, learn: Data) -> None:
    sets = {"forget": forget.losses, "learn": learn.losses}
    found = balanced_masks(net, sets, {"retain": retain.losses}, composition="separate")
    for name, data in (("forget", forget), ("learn", learn)):
        alone = balanced_masks(net, {name: data.losses}, {"retain": retain.losses})
        assert_equal(found.masks[name], masks_of(alone.masks[name], fisher(data)))
    assert found.masks["learn"].num_kept != found.masks["forget"].num_kept
    equal = balanced_masks(net, sets, {"retain": retain.losses})
    stated = balanced_masks(net, sets, {"retain": retain.losses}, shares={"forget": 7, "learn": 7})
    assert_equal(equal.masks["learn"], masks_of(stated.masks["learn"], fisher(learn)))


def test_t8_sets_that_stay_count_alike(net: Net, retain: Data, forget: Data, learn: Data) -> None:
    """Scaled by 1e4 a second set would drown the first if the two were pooled."""
    loud = [lambda loss=loss: 100 * loss() for loss in learn.losses]
    staying = {"retain": retain.losses, "replay": loud}
    found = balanced_masks(net, {"forget": forget.losses}, staying, gamma=0.8)
    own = [divided(fisher(data), mean(fisher(data))) for data in (retain, learn)]
    bottom = {name: (own[0][name] + own[1][name]) / 2 for name in own[0]}
    expected = ratio_mask(divided(fisher(forget), mean(fisher(forget))), bottom, 0.8)
    expected["unused"][:] = True
    assert_equal(found.masks["forget"], expected)
    assert found.passes == {"forget": 2, "retain": 1, "replay": 2}
    pooled = balanced_masks(net, {"forget": forget.losses}, {"all": [*retain.losses, *loud]}, gamma=0.8)
    assert pooled.masks["forget"].num_kept != found.masks["forget"].num_kept
    raw = balanced_masks(net, {"forget": forget.losses}, staying, normalise=False)
    together = balanced_masks(net, {"forget": forget.losses}, {"all": [*retain.losses, *loud]}, normalise=False)
    assert_equal(raw.masks["forget"], masks_of(together.masks["forget"], fisher(forget)))


def test_two_passes_over_what_changes_and_one_over_the_rest(net: Net, retain: Data, forget: Data, learn: Data) -> None:
    found = balanced_masks(net, {"forget": forget.losses, "learn": learn.losses}, {"retain": retain.losses})
    assert found.passes == {"forget": 2, "learn": 2, "retain": 1}
    assert (forget.calls, learn.calls, retain.calls) == (6, 4, 4)
    assert found.batches == 14


@pytest.mark.parametrize("scaled", ["forget", "retain"])
def test_t8_the_scale_of_a_loss_does_not_matter(net: Net, scaled: str) -> None:
    def kept(factor: float, normalise: bool) -> Fisher:
        forget = Data(net, 2, 3, factor if scaled == "forget" else 1.0)
        retain = Data(net, 1, 4, factor if scaled == "retain" else 1.0)
        found = balanced_masks(net, {"forget": forget.losses}, {"retain": retain.losses}, normalise=normalise)
        return masks_of(found.masks["forget"], fisher(forget))

    for factor in (1e-6, 3.7, 1e4):
        once, twice = kept(1.0, True), kept(factor, True)
        assert all(torch.equal(once[name], twice[name]) for name in once)
    plain, other = kept(1.0, False), kept(3.7, False)
    assert any(not torch.equal(plain[name], other[name]) for name in plain)


def test_t8_weights_without_any_gradient_are_kept(net: Net, retain: Data, forget: Data) -> None:
    found = balanced_masks(net, {"forget": forget.losses}, {"retain": retain.losses}, gamma=1e6)
    assert found.masks["forget"].mask("unused").all()
    assert not found.masks["forget"].mask("leave.weight").any()


def test_a_set_without_any_gradient_keeps_nothing_that_matters(net: Net, retain: Data) -> None:
    nothing = Data(net, 2, 3, factor=0.0)
    found = balanced_masks(net, {"forget": nothing.losses}, {"retain": retain.losses})
    assert found.means["forget"] == 0.0
    assert not found.masks["forget"].mask("leave.weight").any()
    assert found.masks["forget"].mask("unused").all()


@pytest.mark.parametrize(
    ("granularity", "pool"),
    [
        ("row", lambda score: score.mean(1, keepdim=True) if score.ndim > 1 else score),
        ("tensor", lambda score: score.mean()),
    ],
)
def test_coarser_masks_decide_by_the_mean_score(
    net: Net, retain: Data, forget: Data, granularity: Granularity, pool: Callable[[Tensor], Tensor]
) -> None:
    found = balanced_masks(net, {"forget": forget.losses}, {"retain": retain.losses}, granularity=granularity)
    top, bottom = fisher(forget), fisher(retain)
    score = {name: top[name] / mean(top) - bottom[name] / mean(bottom) for name in top}
    assert_equal(found.masks["forget"], {name: (pool(s) >= 0).expand_as(s) for name, s in score.items()})
    assert 0 < found.masks["forget"].kept_share < 1


def test_the_model_is_left_as_it_was(net: Net, retain: Data, forget: Data) -> None:
    net.norm.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random_state = torch.get_rng_state()
    balanced_masks(net, {"forget": forget.losses}, {"retain": retain.losses})
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state()), "dropout was on"
    assert (net.training, net.norm.training, net.dropout.training) == (True, False, True)
    assert all(p.grad is None for p in net.parameters())
    forget.loss(0).backward()
    assert net.leave.weight.grad is not None, "a hook was left behind"


def test_squares_are_taken_in_fp32() -> None:
    model = nn.Linear(2, 1, bias=False).bfloat16()
    slope = torch.tensor(1.0078125e-3, dtype=torch.bfloat16)
    assert (slope * slope).item() != pytest.approx(slope.item() ** 2, rel=1e-4)
    assert mean_square(model, [lambda: slope * model.weight.sum()]) == pytest.approx(slope.item() ** 2, rel=1e-6)


def test_gradient_sum_is_the_sum_over_mini_batches(net: Net, forget: Data) -> None:
    found = gradient_sum(net, forget.losses)
    net.eval()
    sum(loss() for loss in forget.losses).backward()
    expected = {name: p.grad for name, p in net.named_parameters() if p.requires_grad and p.grad is not None}
    assert set(found) == {*expected, "unused"}
    assert all(torch.allclose(found[name], grad, atol=1e-7) for name, grad in expected.items())
    assert not found["unused"].any()


def test_wrong_sets_and_options_are_refused(net: Net, retain: Data, forget: Data) -> None:
    sets = {"forget": forget.losses}
    with pytest.raises(PlanError, match="no set is to change; accepted: forget, learn or both"):
        balanced_masks(net, {}, {"retain": retain.losses})
    with pytest.raises(PlanError, match="unknown mask composition 'max'; accepted: separate, sum"):
        balanced_masks(net, sets, {"retain": retain.losses}, composition="max")
    with pytest.raises(PlanError, match="unknown mask granularity 'rows'; did you mean 'row'"):
        balanced_masks(net, sets, {"retain": retain.losses}, granularity="rows")
    with pytest.raises(DataError, match="no mini-batch; accepted: at least one"):
        balanced_masks(net, sets, {"retain": []})
    assert forget.calls == retain.calls == 0


@pytest.mark.parametrize("measure", [mean_square, gradient_sum])
def test_gradients_that_are_not_finite_stop_the_run(
    net: Net, forget: Data, measure: Callable[[nn.Module, Sequence[Callable[[], Tensor]]], object]
) -> None:
    forget.x[1, 2, 3] = torch.nan
    with pytest.raises(DivergedError, match="not finite, so there is no mask"):
        measure(net, forget.losses)
