"""What is read of a model against the metrics of the project and sums made by hand."""

from __future__ import annotations

import sys

import pytest
import torch
from tests.data.test_image import some
from tests.metrics.conftest import new_model
from tests.models.test_resnet import tiny

from palimpsest.bench.beside_oracle import over_sets, read_model, reading
from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import DivergedError
from palimpsest.metrics import build, per_set
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


def literally(model, oracle, examples, size) -> dict[str, dict[str, float]]:
    """The definitions in single precision, batches in the order of the set, one plain forward pass each.

    It is how benches measured before they shared the metrics of runs: what they found then is found again, to the bit.
    """
    found: dict[str, dict[str, float]] = {}
    for start in range(0, len(examples), size):
        batch = examples.batch(examples.ids[start : start + size])
        with torch.no_grad():
            said, reference = batch.predict(model), batch.predict(oracle)
        logp_SV = said.logits_SV.log_softmax(-1)
        right_S = said.logits_SV.argmax(-1) == said.target_S
        q_SV = reference.logits_SV.log_softmax(-1)
        by_position = {
            "accuracy": right_S.float(),
            "nll": -logp_SV.gather(1, said.target_S[:, None])[:, 0],
            "entropy": -(logp_SV.exp() * logp_SV).sum(-1),
            "kl": torch.nn.functional.kl_div(logp_SV, q_SV, reduction="none", log_target=True).sum(-1),
        }
        for row, example_id in enumerate(batch.ids):
            mine_S = said.owner_S == row
            zero = torch.zeros(1)
            total = {name: zero.clone() for name in by_position}
            for position in mine_S.nonzero()[:, 0].tolist():
                for name, values_S in by_position.items():
                    total[name] += values_S[position]
            found[example_id] = {name: (value / int(mine_S.sum())).item() for name, value in total.items()}
            if isinstance(examples, TextSet):
                right = right_S[mine_S].tolist()
                found[example_id]["strength"] = next(k for k in range(len(right) + 1) if all(right[k:]))
                found[example_id]["strength"] = 1 - found[example_id]["strength"] / len(right)
    return found


@pytest.mark.parametrize("size", [64, 3])
@pytest.mark.parametrize("kind", ["llama", "gpt_neo", "gpt2"])
def test_values_of_texts_are_the_definitions_to_the_last_bit(texts, monkeypatch, kind, size):
    monkeypatch.setattr("palimpsest.bench.beside_oracle.BATCH", size)
    model, oracle = new_model(kind), new_model(kind)
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    found, expected = read_model(model, oracle, texts), literally(model, oracle, texts, size)
    assert {i: v.pop("strength") for i, v in found.items()} == pytest.approx(
        {i: v.pop("strength") for i, v in expected.items()}
    )
    assert found == expected


def test_values_of_images_are_the_definitions_to_the_last_bit():
    model, oracle, images = tiny(), tiny("resnet18"), some(9, augment=Augmentation())
    assert read_model(model, oracle, images) == literally(model, oracle, images.plain(), 64)


def test_an_image_has_no_strength():
    assert all(v.keys() == {"accuracy", "nll", "entropy"} for v in read_model(tiny(), None, some(3)).values())


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
    with pytest.raises(DivergedError, match="logits on example 't0' are not finite"):
        read_model(tiny_llama, None, texts)


def test_a_metric_of_sets_dropped_into_its_folder_is_computed(tmp_path, monkeypatch):
    """One file: it names the sets it needs, and a bench computes, keeps and shows it."""
    (tmp_path / "apart.py").write_text(
        "from palimpsest.metrics.per_set import SetMetric\n\n\nclass Apart(SetMetric):\n"
        "    needs = {'retain': 'nll', 'test': 'entropy'}\n    column = 'apart'\n    unit = 'nats'\n    version = 1\n\n"
        "    def compute(self, columns, *, seed=0):\n"
        "        return self.score(float(columns['test'].mean() - columns['retain'].mean()), 2)\n\n\n"
        "SET_METRIC = Apart\n"
    )
    monkeypatch.setattr(per_set, "__path__", [*per_set.__path__, str(tmp_path)])
    values = {str(n): {"accuracy": 1.0, "nll": float(n), "entropy": 10.0 * n} for n in range(4)}
    sets = {"retain": ["0", "1"], "test": ["2", "3"]}
    assert over_sets(values, sets) == {"apart": 24.5}
    found = reading(values, sets)
    assert found.over_sets == {"apart": 24.5}
    assert found.model_dump(mode="json")["over_sets"] == {"apart": 24.5}
    assert "over_sets" not in reading(values, {"retain": ["0"]}).model_dump(mode="json")
    monkeypatch.delitem(sys.modules, "palimpsest.metrics.per_set.apart")
