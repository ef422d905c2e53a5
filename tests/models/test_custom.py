"""Modules of the caller's own: what is found out about them, what is refused, and how they are saved and laid back."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_model
from torch import nn

import palimpsest as pal
from palimpsest.data.encode.batch import TextSet, TokenSequence, collate
from palimpsest.errors import ModelError, PlanError
from palimpsest.models.at_hand import CustomFacts, at_hand
from palimpsest.models.custom import config_of, load_custom, structure_of, write_custom
from palimpsest.models.custom_probe import probed
from palimpsest.models.encoders import embed_with_model
from palimpsest.models.fresh import fresh_like
from palimpsest.models.load import load
from palimpsest.models.scope import parameter_digests, tensor_digest

IMAGES = CustomFacts(3, (4, 4))
WORDS = CustomFacts(11, max_length=8)


class Net(nn.Module):
    """Images to three classes; ``answer`` makes what is returned."""

    def __init__(self, answer=lambda logits: logits) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 3)
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)
        self.answer = answer

    def forward(self, images):
        return self.answer(self.last(self.norm(self.first(images)).relu().mean((2, 3)) * self.scale))


class Words(nn.Module):
    """Tokens to the next ones, from the tokens so far."""

    def __init__(self, *, causal: bool = True, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.causal = nn.Embedding(11, 6), causal
        self.head = nn.Linear(6, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens):
        seen = self.embed(tokens)
        return self.head(seen.cumsum(1) if self.causal else seen + seen.sum(1, keepdim=True))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def laid_back(module, facts, folder):
    """Saved and loaded again."""
    facts = probed(module, facts)
    write_custom(module, config_of(module, facts, "model"), folder)
    with at_hand({"model": module}):
        return load_custom(folder, json.loads((folder / "config.json").read_text()), folder)


@pytest.mark.parametrize(
    "answer",
    [lambda logits: logits, lambda logits: SimpleNamespace(logits=logits), lambda logits: {"logits": logits}],
    ids=["tensor", "object", "dict"],
)
def test_logits_come_as_a_tensor_or_by_name(answer):
    assert probed(Net(answer), IMAGES).head == "last"


def test_the_head_is_the_last_layer_with_so_many_outputs():
    """Not the last one defined, and none where the outputs come otherwise."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.ReLU(), nn.Linear(3, 3))
    net.append(nn.Identity())
    assert probed(net, IMAGES).head == "3"
    assert probed(nn.Sequential(nn.Conv2d(3, 3, 4), nn.Flatten()), IMAGES).head is None
    assert probed(Words(), WORDS).head == "head"


def test_asking_leaves_no_trace():
    """Its own module is not even called: counters of batch normalisation, modes and the random state stay."""
    net = Net().train()
    called = []
    net.answer = Called(called)
    before = {name: tensor_digest(tensor) for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    probed(net, IMAGES)
    assert {name: tensor_digest(tensor) for name, tensor in net.state_dict().items()} == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(layer.training for layer in net.modules())
    assert called == []


class Called:
    """Notes that it was called; a copy of it notes that in a copy of the list."""

    def __init__(self, calls: list) -> None:
        self.calls = calls

    def __call__(self, logits):
        self.calls.append(logits)
        return logits


class Unruly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(48, 3)

    def forward(self, images):
        return nn.functional.dropout(self.last(images.flatten(1)))  # whatever the mode


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def on_meta():
    with torch.device("meta"):
        return Net()


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("module", "facts", "said"),
    [
        (Net, CustomFacts(4, (4, 4)), r"num_outputs is 4, and the module answers 2 x 3 x 4 x 4 by 2 x 3"),
        (lambda: Net(lambda logits: (logits,)), IMAGES, r"returns a tuple; accepted: a tensor of logits, or an object"),
        (lambda: Net(lambda logits: logits.argmax(-1)), IMAGES, r"by 2 int64; accepted: logits 2 x 3"),
        (Net, CustomFacts(3, (4, 4), (0.5,), (0.5,)), r"does not take images 2 x 1 x 4 x 4 in fp32 \(Runtime"),
        (Net, CustomFacts(3, (2, 2)), r"does not take images 2 x 3 x 2 x 2.*image_size.* say what it is given"),
        (on_meta, IMAGES, r"first.weight is on the meta device and holds no numbers"),
        (lazy, IMAGES, r"1.weight has no shape yet; call the module once before"),
        (nn.Flatten, IMAGES, r"Flatten has no parameters"),
        (Unruly, IMAGES, r"otherwise each time, in eval mode too"),
        (lambda: Words(causal=False), WORDS, r"depends on later tokens; accepted: a causal LM"),
        (Words, CustomFacts(13), r"num_outputs is 13, and the module answers 2 x 6 by 2 x 6 x 11|not take token"),
    ],
    ids=["outputs", "tuple", "classes", "channels", "size", "meta", "lazy", "empty", "dropout", "both ways", "words"],
)  # fmt: skip
def test_what_a_module_is_not(module, facts, said):
    with pytest.raises(ModelError, match=said):
        probed(module(), facts)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_outputs": 0, "image_size": 4}, "num_outputs is 0; accepted: how many classes or tokens"),
        ({"num_outputs": 3}, "tokenizer is missing; accepted: the tokenizer of a causal LM"),
        ({"num_outputs": 3, "image_size": (4, 4, 3)}, r"image_size is \(4, 4, 3\); accepted: a number of pixels"),
        ({"num_outputs": 3, "image_size": 4, "image_mean": (0.5,)}, "image_mean has 1 numbers and image_std 3"),
        ({"num_outputs": 3, "image_size": 4, "tokenizer": "words"}, "tokenizer and image_size were both given"),
        ({}, "of a module of your own say num_outputs"),
    ],
)
def test_what_cannot_be_said_of_a_module(given, said):
    with pytest.raises(ModelError, match=said):
        pal.Model.of(Net(), **given)


def test_a_folder_is_laid_into_a_copy(tmp_path):
    """The same answers, nothing shared with the caller's, and what no file has (a buffer) as it is there."""
    net = Net().eval()
    net.scale.fill_(0.25)
    model = laid_back(net, IMAGES, tmp_path).eval()
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(model(pixel_values=images).logits, net(images))
    assert model.inner.scale == 0.25
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in model.parameters()}
    other = Net()
    load_model(other, tmp_path / "model.safetensors")  # as the note beside it says
    assert parameter_digests(other) == parameter_digests(net)
    assert "image_size=(4, 4)" in (tmp_path / "how_to_load.txt").read_text()


def test_a_half_precision_module_is_trained_in_full(tmp_path):
    words = Words().bfloat16()
    model = laid_back(words, WORDS, tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.dtype for p in words.parameters()} == {torch.bfloat16}


def test_tied_weights_stay_tied(tmp_path):
    model = laid_back(Words(tied=True), WORDS, tmp_path)
    assert model.inner.head.weight is model.inner.embed.weight


def test_where_nobody_has_the_module_its_folder_is_refused(tmp_path):
    net = Net()
    write_custom(net, config_of(net, IMAGES, "model"), tmp_path)
    with pytest.raises(ModelError, match=r"holds the weights of a Net and not its code, .* as how_to_load\.txt there"):
        load(tmp_path)


def test_weights_of_another_module_are_refused(tmp_path):
    net = Net()
    write_custom(net, config_of(net, IMAGES, "model"), tmp_path)
    with at_hand({"model": nn.Linear(2, 2)}), pytest.raises(ModelError, match="not the weights of this Linear"):
        load(tmp_path)


def test_modules_of_one_shape_and_other_layers_differ():
    assert structure_of(nn.Sequential(nn.ReLU())) == structure_of(nn.Sequential(nn.ReLU()))
    assert structure_of(nn.Sequential(nn.ReLU())) != structure_of(nn.Sequential(nn.GELU()))


def test_hidden_states_are_what_enters_the_head(tmp_path):
    model = laid_back(Words(), WORDS, tmp_path)
    batch = collate([TokenSequence("a", (1, 2, 3), (False, True, True))], pad_id=0)
    hidden = model.base_model(**batch.inputs()).last_hidden_state
    assert torch.equal(model.inner.head(hidden), model(**batch.inputs()).logits)
    assert model.get_output_embeddings() is model.inner.head
    examples = TextSet([TokenSequence("a", (1, 2, 3), (False, True, True))], pad_id=0)
    mean_D = hidden[0].mean(0)
    assert torch.allclose(embed_with_model(model, examples)[0], mean_D / mean_D.norm())


def test_a_fresh_twin_draws_its_weights_again(tmp_path):
    model = laid_back(Words(), WORDS, tmp_path)
    one, same, other = (parameter_digests(fresh_like(model, seed=seed)) for seed in (3, 3, 4))
    assert one == same
    assert not set(one.values()) & (set(other.values()) | set(parameter_digests(model).values()))


def test_a_fresh_twin_needs_layers_that_can_draw(tmp_path):
    class Bare(Words):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(6))

    with pytest.raises(ModelError, match=r"a fresh twin of Bare cannot be built: it has parameters of its own"):
        fresh_like(laid_back(Bare(), WORDS, tmp_path), seed=0)


def headless(vocabulary: int) -> nn.Module:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 6)

        def forward(self, tokens):
            return self.embed(tokens).cumsum(1) @ self.embed.weight.T

    return Tied()


@pytest.mark.slow
def test_what_needs_hidden_states_is_refused_with_what_does_not(tmp_path, tiny_tokenizer):
    model = pal.Model.of(headless(len(tiny_tokenizer)), tiny_tokenizer, num_outputs=len(tiny_tokenizer))
    rows = [{"id": str(n), "text": f"word {n} is here"} for n in range(4)]
    with pytest.raises(PlanError, match=r"'icu' compares hidden states, and model a Tied in memory .*accepted: .*npo"):
        pal.unlearn(model, rows[:2], retain=rows[2:])
    plan = {"training": {"learning_rate": 1e-2, "max_steps": 1, "batch_size": 2}, "measuring": {"metrics": ["ma"]}}
    run = pal.unlearn(model, rows[:2], retain=rows[2:], method="npo", plan=plan)
    assert type(run.model.module).__name__ == "Tied"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks, transformers warns
def test_lora_is_folded_into_its_layers(tmp_path, tiny_tokenizer):
    class Sized(Words):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(len(tiny_tokenizer), 6), nn.Linear(6, len(tiny_tokenizer))
            self.mix = nn.Linear(6, 6)

        def forward(self, tokens):
            return self.head(self.mix(self.embed(tokens)).cumsum(1))

    module = Sized()
    model = pal.Model.of(module, tiny_tokenizer, num_outputs=len(tiny_tokenizer))
    plan = {
        "training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 2},
        "measuring": {"metrics": ["ma"]},
        "scope": {"kind": "lora", "rank": 2},
    }
    run = pal.learn(model, [{"id": str(n), "text": f"word {n} is here"} for n in range(2)], plan=plan)
    after, before = run.model.module.state_dict(), module.state_dict()
    assert after.keys() == before.keys()
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["mix.weight"]


@pytest.fixture(scope="module")
def tiny_tokenizer():
    from palimpsest.demo.tiny_model import train_tokenizer

    return train_tokenizer(["word 1 is here"])
