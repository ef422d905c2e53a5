"""What is read of a model against the metrics of the project and sums made by hand."""

from __future__ import annotations

import pytest
import torch

from palimpsest.bench.beside_oracle import examine_beside, read_model, reading
from palimpsest.data.encode.batch import Predictions, TextSet, TokenSequence
from palimpsest.errors import DivergedError
from palimpsest.metrics import build
from palimpsest.metrics.evaluate import evaluate


@pytest.fixture
def texts() -> TextSet:
    generator = torch.Generator().manual_seed(0)
    sequences = []
    for n in range(7):
        tokens = torch.randint(3, 61, (5 + 3 * n,), generator=generator).tolist()
        sequences.append(TokenSequence(f"t{n}", tuple(tokens), (False, *(i % 2 == 0 for i in range(4 + 3 * n)))))
    return TextSet(sequences, pad_id=0)


def test_it_agrees_with_the_metrics(tiny_llama, texts):
    values = read_model(tiny_llama, None, texts)
    scores = evaluate(tiny_llama, texts, [build(name, {}) for name in ("ma", "es", "prob")]).scores
    for metric, column in (("ma", "accuracy"), ("es", "strength")):
        assert {i: v[column] for i, v in values.items()} == pytest.approx(dict(scores[metric].by_id))
    assert {i: v["nll"] for i, v in values.items()} == pytest.approx(
        {i: -torch.tensor(p).log().item() for i, p in scores["prob"].by_id.items()}, rel=1e-5
    )


def test_batches_of_any_size_say_the_same(tiny_llama, texts, monkeypatch):
    together = read_model(tiny_llama, None, texts)
    monkeypatch.setattr("palimpsest.bench.beside_oracle.LOGITS", 1)  # one at a time
    for example_id, values in read_model(tiny_llama, None, texts).items():
        assert values == pytest.approx(together[example_id], abs=1e-5)


def test_answers_of_one_token_have_a_strength_in_whatever_batch(tiny_llama, monkeypatch):
    rows = [TokenSequence(f"one{k}", (5, 6 + k), (False, True)) for k in range(3)]
    rows.append(TokenSequence("two", (5, 6, 7), (False, True, True)))
    monkeypatch.setattr("palimpsest.bench.beside_oracle.BATCH", 3)
    for order in (rows, rows[::-1]):
        assert all("strength" in values for values in read_model(tiny_llama, None, TextSet(order, 0)).values())


def test_a_model_does_not_differ_from_itself(tiny_llama, texts):
    assert all(abs(v["kl"]) < 1e-7 for v in read_model(tiny_llama, tiny_llama, texts).values())


def test_by_hand():
    # Example 0 has positions right, wrong, right: accuracy 2/3, ES 1/3. Example 1: one right position, p = 1/2.
    half = [0.0, 0.0]
    sure = [0.0, -100.0]
    said = Predictions(
        torch.tensor([sure, sure, sure, half]), torch.tensor([0, 1, 0, 0]), torch.tensor([0, 0, 0, 1]), 2
    )
    ideal = Predictions(torch.tensor([sure, sure, sure, sure]), said.target_S, said.owner_S, 2)
    found = examine_beside(said, ideal, strength=True)
    assert "strength" not in examine_beside(said, ideal, strength=False)
    assert found["accuracy"] == pytest.approx([2 / 3, 1])
    assert found["strength"] == pytest.approx([1 / 3, 1])
    assert found["nll"] == pytest.approx([100 / 3, 0.6931], rel=1e-4)
    assert found["entropy"] == pytest.approx([0, 0.6931], abs=1e-4)
    assert found["kl"] == pytest.approx([0, 0.6931], abs=1e-4)  # KL(sure to half) = log 2


def test_means_over_sets_and_the_attack():
    values = {str(n): {"accuracy": n % 2, "strength": 0.5, "nll": float(n), "entropy": float(n)} for n in range(8)}
    sets = {"retain": ["0", "1"], "test": ["6", "7"], "forget": ["2", "5"], "learn": []}
    found = reading(values, sets)
    assert found.mia == 0.5
    assert "learn" not in found.sets
    assert (found.sets["forget"].n, found.sets["forget"].accuracy, found.sets["forget"].nll) == (2, 0.5, 3.5)
    assert found.sets["forget"].kl is None
    assert found.sets["forget"].accuracies == {}
    assert reading(values, {"task a": ["0", "1"]}).sets["task a"].accuracies == {"0": 0, "1": 1}
    assert reading(values, {"retain": ["0"], "forget": ["2"]}).mia is None


def test_a_broken_model_is_not_measured(tiny_llama, texts):
    with torch.no_grad():
        tiny_llama.lm_head.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="7 examples .first: 't0'. are not finite"):
        read_model(tiny_llama, None, texts)
