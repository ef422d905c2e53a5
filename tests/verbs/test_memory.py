"""What an ICU run keeps: no distribution over the vocabulary, neither between steps nor on disk. No clock, no RSS."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import palimpsest as pal
from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode import lean_logits as rows
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics import build
from palimpsest.metrics import evaluate as evaluation
from palimpsest.metrics.greedy.choice import Tally
from palimpsest.models.load import load
from palimpsest.models.reference import build_reference

TRAINING = {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 4, "checkpoint_steps": 1}


class Witness:
    """Looks around while a run trains."""

    def __init__(self, folder: Path, vocabulary: int) -> None:
        self.folder = folder
        self.vocabulary = vocabulary
        self.steps = 0
        self.wide: list[tuple[int, ...]] = []
        self.gradients = 0
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage != "training":
            return
        self.steps += 1
        gc.collect()
        tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
        own = {t.shape for t in tensors if isinstance(t, torch.nn.Parameter)}  # moments have the shapes of weights
        self.wide += [
            tuple(t.shape) for t in tensors if t.ndim > 1 and t.shape[-1] == self.vocabulary and t.shape not in own
        ]
        self.gradients += sum(t.grad is not None for t in tensors if t.is_leaf)
        for file in (self.folder / "reference").iterdir():
            with safe_open(file, framework="pt") as content:
                self.shapes[file.name] = {n: tuple(content.get_slice(n).get_shape()) for n in content.keys()}  # noqa: SIM118


@pytest.fixture
def witness(clinic, tmp_path) -> Witness:
    seen = Witness(tmp_path / "out.partial", load(clinic / "model").model.config.vocab_size)
    pal.unlearn(
        clinic / "model",
        clinic / "forget.jsonl",
        retain=clinic / "retain.jsonl",
        output=tmp_path / "out",
        plan={"training": TRAINING, "measuring": {"metrics": ["prob"]}},
        progress=seen,
    )
    assert seen.steps == 3
    return seen


def test_between_steps_nothing_is_as_wide_as_the_vocabulary(witness):
    assert witness.wide == []


def test_between_steps_there_are_no_gradients(witness):
    """Checks and measurements take their place."""
    assert witness.gradients == 0


def test_on_disk_there_is_one_head_and_the_width_for_each_position(clinic, witness):
    """The one file with a vocabulary in it does not grow with the examples."""
    loaded = load(clinic / "model")
    width = loaded.model.config.hidden_size
    assert witness.shapes.pop("head.safetensors") == {"weight": (witness.vocabulary, width)}
    assert witness.shapes
    for tensors in witness.shapes.values():
        ((positions, last),) = tensors.values()
        assert last == width
        assert positions < 64  # tokens of the longest row


def random_set(prefix: str, lengths: list[int]) -> TextSet:
    """Random rows over the vocabulary of ``tiny_llama``; every token after the first is scored."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(3, 61, (length,), generator=generator).tolist() for length in lengths]
    rows_ = [TokenSequence(f"{prefix}{k}", tuple(t), (False,) + (True,) * (len(t) - 1)) for k, t in enumerate(drawn)]
    return TextSet(rows_, pad_id=0)


def test_a_step_keeps_three_tensors_of_logits(tiny_llama, tmp_path, monkeypatch):
    """Of the model on both sets, of the reference on the partners; no log-softmax of any."""
    monkeypatch.setattr(rows, "NUMBERS_AT_ONCE", 1)
    sets = {"forget": random_set("f", [5, 7]), "analogous": random_set("a", [8, 4])}
    reference = build_reference(tiny_llama, {"analogous": sets["analogous"]}, tmp_path)
    method = methods.load("icu")(methods.configure("icu", {}), reference)
    method.prepare(tiny_llama, sets)
    batches = {name: examples.batch(examples.ids) for name, examples in sets.items()}
    saved: list[torch.Tensor] = []
    tiny_llama.train()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        method.loss(tiny_llama, batches, Phase("joint", ("forget", "analogous")))
    wide = {(t.data_ptr(), t.shape[0]) for t in saved if t.ndim == 2 and t.shape[1] == tiny_llama.config.vocab_size}
    width = tiny_llama.config.hidden_size  # the head is wide as well, seen from its other side
    assert sorted(positions for _, positions in wide if positions != width) == [4 + 6, 7 + 3, 7 + 3]


def test_a_measurement_in_a_run_cuts_its_batches_to_the_memory_it_has(tiny_llama, monkeypatch):
    """16 rows of 9 to 16 tokens, room for 40 positions: no padded batch is larger, and the values stay."""
    examples = random_set("e", [9 + k % 8 for k in range(16)])
    metrics = [build(name, {}) for name in ("ma", "el", "prob")]
    sizes: list[int] = []
    read = evaluation.read_teacher

    def watched(model, batch, relevant_BT, tally: Tally, extent):
        sizes.append(batch.input_ids_BT.numel())
        return read(model, batch, relevant_BT, tally, extent)

    monkeypatch.setattr(evaluation, "read_teacher", watched)
    roomy = evaluation.evaluate(tiny_llama, examples, metrics).scores
    assert len(sizes) == 1
    sizes.clear()
    weights = sum(4 * p.numel() for p in tiny_llama.parameters())
    monkeypatch.setattr(evaluation, "LEAST_SPARE", 0)
    tight = evaluation.evaluate_in_run(tiny_llama, examples, metrics).scores
    assert max(sizes) <= weights // 2 // (4 * 61)
    assert len(sizes) > 1
    for key, score in roomy.items():
        assert tight[key].by_id == pytest.approx(dict(score.by_id), abs=1e-5)
