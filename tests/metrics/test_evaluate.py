from __future__ import annotations

import copy

import pytest
import torch

from palimpsest.data.encode.batch import TextSet
from palimpsest.errors import DataError, DivergedError, PlanError
from palimpsest.metrics import build, names
from palimpsest.metrics.evaluate import evaluate

WITHOUT_DECODING = ("ma", "em", "es", "prob", "ppl")


def all_metrics(**options):
    return [build(name, options.get(name, {})) for name in names()]


@pytest.fixture
def passes(half_learned):
    """Token shapes of all forward passes through the model."""
    seen = []
    hook = half_learned.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    yield seen
    hook.remove()


def test_one_forward_pass_per_batch_serves_all_metrics(half_learned, texts, as_set, passes):
    evaluate(half_learned, as_set(texts.tolist()), [build(name, {}) for name in WITHOUT_DECODING], batch_size=2)
    assert passes == [(2, 20), (1, 20)]


def test_decoding_adds_single_positions_only(half_learned, texts, as_set, passes):
    evaluation = evaluate(half_learned, as_set(texts.tolist()), all_metrics())
    assert passes[0] == (3, 20)
    assert {shape[1] for shape in passes[1:]} == {1}
    assert len(passes) <= 20
    assert evaluation.cost.tokens == sum(rows * tokens for rows, tokens in passes)


def test_modes_random_state_and_gradients_stay(half_learned, texts, as_set):
    model = copy.deepcopy(half_learned).train()
    frozen = list(model.modules())[-1]
    frozen.eval()
    before = torch.get_rng_state()
    evaluate(model, as_set(texts.tolist()), all_metrics())
    assert model.training
    assert not frozen.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    loss = model(texts, labels=texts).loss  # tensors made in inference mode must not have leaked into the model
    loss.backward()


def test_modes_come_back_after_an_error(half_learned, as_set):
    model = copy.deepcopy(half_learned).train()
    with pytest.raises(DataError):
        evaluate(model, as_set([[1, 2, 999]]), all_metrics())
    assert model.training


def test_dropout_is_off(half_learned, texts, as_set):
    examples = as_set(texts.tolist())
    model = copy.deepcopy(half_learned).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9
    assert evaluate(model, examples, all_metrics()).scores == evaluate(half_learned, examples, all_metrics()).scores


def test_progress_counts_examples(half_learned, texts, as_set):
    seen = []
    evaluate(
        half_learned, as_set(texts.tolist()), all_metrics(), batch_size=2, progress=lambda *pair: seen.append(pair)
    )
    assert seen == [(2, 3), (3, 3)]


def test_values_come_in_the_order_of_the_data(half_learned, texts, as_set):
    rows = [texts[0, :15].tolist(), texts[1, :8].tolist(), texts[2].tolist()]
    assert list(evaluate(half_learned, as_set(rows), all_metrics()).scores["ma"].by_id) == ["x0", "x1", "x2"]


def test_an_empty_set_has_no_value(half_learned):
    evaluation = evaluate(half_learned, TextSet([], 0), all_metrics())
    assert {score.value for score in evaluation.scores.values()} == {None}
    assert {score.n for score in evaluation.scores.values()} == {0}


def test_cost_is_plausible(half_learned, texts, as_set):
    cost = evaluate(half_learned, as_set(texts.tolist()), all_metrics()).cost
    assert 0 < cost.seconds < 60
    assert cost.peak_bytes > 50_000_000


def test_padding_token_of_the_batch_does_not_matter(half_learned, texts, as_set):
    rows = [texts[0].tolist(), texts[1, :9].tolist()]
    one = evaluate(half_learned, as_set(rows, pad_id=0), all_metrics(), eos_ids=frozenset({3})).scores
    other = evaluate(half_learned, as_set(rows, pad_id=3), all_metrics(), eos_ids=frozenset({3})).scores
    assert {k: s.by_id for k, s in one.items()} == {k: s.by_id for k, s in other.items()}


def test_half_precision_counts_ties(half_learned, texts, as_set):
    model = copy.deepcopy(half_learned).bfloat16()
    evaluation = evaluate(model, as_set(texts.tolist()), all_metrics(el={"n": 2}))
    assert (
        abs(
            evaluation.scores["ma"].value
            - evaluate(half_learned, as_set(texts.tolist()), all_metrics()).scores["ma"].value
        )
        < 0.1
    )
    assert evaluation.near_ties > 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, 64, 2], r"example 'x0' holds token id 64; the model knows the ids 0 to 63"),
        ([1] * 33, r"example 'x0' has 33 tokens; the model takes at most 32"),
    ],
)
def test_refuses_what_the_model_cannot_take(half_learned, as_set, row, message):
    with pytest.raises(DataError, match=message):
        evaluate(half_learned, as_set([row]), all_metrics())


def test_refuses_a_metric_twice(half_learned, texts, as_set):
    with pytest.raises(PlanError, match=r"metric asked for twice: el_10"):
        evaluate(half_learned, as_set(texts.tolist()), [build("el", {}), build("el", {"first_prefix": 5})])


def test_refuses_an_empty_batch(half_learned, texts, as_set):
    with pytest.raises(PlanError, match=r"batch_size is 0; accepted: 1 or more"):
        evaluate(half_learned, as_set(texts.tolist()), all_metrics(), batch_size=0)


def test_refuses_logits_that_are_not_numbers(half_learned, texts, as_set):
    model = copy.deepcopy(half_learned)
    with torch.no_grad():
        model.get_input_embeddings().weight[:12] = torch.nan
    with pytest.raises(DivergedError, match=r"logits on example 'x0' are not finite"):
        evaluate(model, as_set(texts.tolist()), all_metrics())
