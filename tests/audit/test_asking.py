"""What a model says is the arg-max path of whole forward passes, and asking leaves no trace."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as T
from tests.data.test_chat import END, PLAIN, byte_tokenizer
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest.audit.asking import SHOWN, TEXT_PROMPT, as_answers, question, say
from palimpsest.audit.wording import BEGINNING, MORE, NOTHING_SAID, Wording
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.encode.text import encode
from palimpsest.errors import DivergedError
from palimpsest.models.load import Loaded
from palimpsest.records import Chat, Completion, Example, Image, Message, Text, TokenIds

VOCABULARY = 64
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": None,
}
LINEAR = {
    "num_hidden_layers": 4,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
CONFIGS = {
    "llama": lambda: T.LlamaConfig(**LLAMA),
    "sliding window": lambda: T.MistralConfig(**LLAMA, sliding_window=5),
    "dynamic rope": lambda: T.LlamaConfig(
        **LLAMA, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    ),
    "gpt2": lambda: T.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=96, initializer_range=0.3, eos_token_id=None
    ),
    "gpt_neo": lambda: T.GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=96,
        window_size=5,
        initializer_range=0.3,
        eos_token_id=None,
    ),
    "lfm2, convolutions": lambda: T.Lfm2Config(**LLAMA, layer_types=["conv", "full_attention"]),
    "qwen3_next, linear attention": lambda: T.Qwen3NextConfig(**{**LLAMA, **LINEAR}),
    "mamba": lambda: T.MambaConfig(**SMALL, state_size=4, eos_token_id=None, tie_word_embeddings=False),
    "rwkv": lambda: T.RwkvConfig(**{k: v for k, v in SMALL.items() if k != "initializer_range"}, eos_token_id=None),
}


def new_loaded(kind: str = "llama", tokenizer: object = None, **more: object) -> Loaded:
    torch.manual_seed(0)
    config = CONFIGS[kind]()
    config.update(more)
    return Loaded(T.AutoModelForCausalLM.from_config(config).eval(), tokenizer, kind)


def row(name: str, length: int, prompt: int, seed: int = 0) -> TokenSequence:
    tokens = torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenSequence(name, tuple(tokens), tuple(t >= prompt for t in range(length)))


ROWS = TextSet([row("answer", 21, 7, 1), row("long prompt", 25, 20, 2), row("text", 18, 1, 3)], pad_id=0)


def brute_force(model: torch.nn.Module, prompt: tuple[int, ...], count: int) -> list[int]:
    """A whole forward pass for every token."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def as_ids(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_says_its_argmax_path(kind: str) -> None:
    loaded = new_loaded(kind)
    said = say(loaded, ROWS, ROWS.ids)
    for example_id, (prompt, count) in {"answer": (7, 14), "long prompt": (20, 5), "text": (9, 9)}.items():
        expected = brute_force(loaded.model, ROWS[example_id].tokens[:prompt], count)
        assert len(set(expected)) > 1, "a model that says one word only shows nothing"
        assert said[example_id] == as_ids(expected) + MORE


def test_what_is_said_does_not_depend_on_what_else_is_asked() -> None:
    loaded = new_loaded()
    together = say(loaded, ROWS, ROWS.ids)
    assert together == {i: say(loaded, ROWS, [i])[i] for i in reversed(ROWS.ids)}
    assert list(say(loaded, ROWS, ["text", "answer"])) == ["text", "answer"]


def test_asking_leaves_no_trace() -> None:
    """GPT-2 drops out a tenth in training mode, so it would also answer otherwise."""
    loaded = new_loaded("gpt2")
    quiet = say(loaded, ROWS, ROWS.ids)
    loaded.model.train()
    loaded.model.transformer.h[0].eval()
    modes = [module.training for module in loaded.model.modules()]
    weights = copy.deepcopy(loaded.model.state_dict())
    drawn, drawn_by_numpy = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert say(loaded, ROWS, ROWS.ids) == quiet  # Python's own generator is moved by the shape checks of the tests
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.random.get_state()[1].tolist() == drawn_by_numpy
    assert [module.training for module in loaded.model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items())
    assert all(parameter.grad is None for parameter in loaded.model.parameters())


def test_it_ends_where_the_model_ends() -> None:
    path = brute_force(new_loaded().model, ROWS["answer"].tokens[:7], 14)
    third = path[2]
    said = say(new_loaded(eos_token_id=third), ROWS, ["answer"])["answer"]
    assert said == as_ids(path[: path.index(third)])
    assert say(new_loaded(eos_token_id=path[0]), ROWS, ["answer"])["answer"] == NOTHING_SAID


def test_long_answers_are_cut_alike() -> None:
    loaded, rows = new_loaded(), TextSet([row("a", 90, 4)], pad_id=0)
    said = say(loaded, rows, ["a"])
    assert said["a"] == as_ids(brute_force(loaded.model, rows["a"].tokens[:4], SHOWN)) + MORE
    example = Example("a", TokenIds(rows["a"].tokens))
    [answer] = as_answers([example], rows, loaded, {"a": "worst"}, {"after": said})
    assert answer.expected == as_ids(list(rows["a"].tokens[4 : 4 + SHOWN])) + MORE


def test_what_is_known_by_heart_is_said_without_dots() -> None:
    loaded = new_loaded()
    prompt = ROWS["answer"].tokens[:7]
    tokens = (*prompt, *brute_force(loaded.model, prompt, 5))
    rows = TextSet([TokenSequence("a", tokens, tuple(t >= 7 for t in range(12)))], pad_id=0)
    [answer] = as_answers(
        [Example("a", TokenIds(tokens), subject="Ann")],
        rows,
        loaded,
        {"a": "best"},
        {"before": say(loaded, rows, ["a"])},
    )
    assert answer.said == {"before": answer.expected}
    assert (answer.prompt, answer.subject, answer.standing) == (as_ids(list(prompt)), "Ann", "best")


def test_a_prompt_longer_than_the_model_takes_gets_a_note() -> None:
    rows = TextSet([row("a", 110, 100), row("b", 100, 94)], pad_id=0)
    loaded = new_loaded("gpt2")  # learned positions: one more would be an IndexError
    said = say(loaded, rows, rows.ids)
    assert said["a"] == "(no answer: the prompt has 100 tokens and the model takes at most 96)"
    assert said["b"] == as_ids(brute_force(loaded.model, rows["b"].tokens[:94], 3)) + MORE


def test_a_diverged_model_is_an_error() -> None:
    loaded = new_loaded()
    with torch.no_grad():
        loaded.model.lm_head.weight[5] = torch.nan
    with pytest.raises(DivergedError, match="example 'answer' are not finite"):
        say(loaded, ROWS, ["answer"])


@pytest.mark.parametrize(("length", "prompt"), [(2, 1), (3, 1), (9, 4), (64, 32), (90, TEXT_PROMPT)])
def test_a_text_is_asked_by_half_of_it(length: int, prompt: int) -> None:
    found = question(row("a", length, 1))
    assert (len(found.prompt), len(found.prompt + found.expected)) == (prompt, length)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [("Many people take", "Many"), ("Manypeopletaking", "Manypeop"), ("A b cdefgh ijklm", "A b cdef"), ("a b", "a")],
)
def test_a_text_is_cut_between_words_where_there_is_a_place(text: str, prompt: str) -> None:
    """One byte, one token; a place is one in the second half of the first half."""
    tokenizer = byte_tokenizer(None)
    rows = encode([Example("a", Text(text))], tokenizer, max_length=None)
    wording = Wording(tokenizer)
    assert wording.text(question(rows["a"], wording).prompt) == prompt


def test_of_a_conversation_the_last_turn_is_asked() -> None:
    scored = (False, False, True, True, False, False, True, True, False)
    assert question(TokenSequence("a", tuple(range(9)), scored)).prompt == (0, 1, 2, 3, 4, 5)
    assert question(TokenSequence("a", tuple(range(9)), scored)).expected == (6, 7)


@pytest.fixture(scope="module")
def speaker() -> Loaded:
    """A tiny Llama that has learned a completion and two conversations by heart."""
    tokenizer = byte_tokenizer(PLAIN)
    loaded = new_loaded(tokenizer=tokenizer, vocab_size=len(tokenizer), initializer_range=0.05, eos_token_id=None)
    loaded.model.generation_config.eos_token_id = None
    tokenizer.eos_token = END
    learned = encode(SPOKEN, tokenizer, max_length=None)
    optimizer = torch.optim.Adam(loaded.model.parameters(), lr=1e-2)
    for _ in range(120):
        loss = -learned.batch(learned.ids).predict(loaded.model).logp_S.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02
    return loaded


TWO = Chat((Message("user", "hi"), Message("assistant", "yo")))
FOUR = Chat((*TWO.messages, Message("user", "why?"), Message("assistant", "so é"), Message("user", "ok")))
SPOKEN = [
    Example("completion", Completion("Where?", " In Rome.")),
    Example("two", TWO),
    Example("four", FOUR),
    Example("text", Text("A cat sat.")),
]


def test_completions_chats_and_texts_read_as_they_were_written(speaker: Loaded) -> None:
    rows = encode(SPOKEN, speaker.tokenizer, max_length=None)
    standings = dict.fromkeys(rows.ids, "")
    found = as_answers(SPOKEN, rows, speaker, standings, {"after": say(speaker, rows, rows.ids)})
    assert [(a.prompt, a.expected) for a in found] == [
        ("Where?", " In Rome."),
        ("hi", "yo"),
        ("user: hi\nassistant: yo\nuser: why?", "so é"),
        ("A cat", " sat."),
    ]
    assert [a.said["after"] for a in found] == [a.expected for a in found]


def test_the_end_of_a_turn_ends_an_answer_though_it_is_no_eos(speaker: Loaded) -> None:
    """Asked for a longer answer, the model closes its turn; its eos ids do not hold the marker."""
    other = Loaded(speaker.model, byte_tokenizer(PLAIN), "")
    other.tokenizer.eos_token = "<unk>"
    assert speaker.tokenizer.convert_tokens_to_ids(END) not in other.eos_ids
    longer = Example("a", Chat((Message("user", "hi"), Message("assistant", "yo, my dear"))))
    rows = encode([longer], speaker.tokenizer, max_length=None)
    assert say(other, rows, ["a"]) == {"a": "yo"}


def test_a_cut_conversation_shows_the_turns_it_still_has(speaker: Loaded) -> None:
    example = Example("a", FOUR)
    rows = encode([example], speaker.tokenizer, max_length=8, truncate=True)
    [answer] = as_answers([example], rows, speaker, {"a": "worst"}, {})
    assert (answer.prompt, answer.expected) == ("hi\n", "yo")


def test_an_empty_prompt_is_the_beginning_of_a_text() -> None:
    rows = TextSet([TokenSequence("a", (1, 9, 2), (False, True, True))], pad_id=0)
    tokenizer = byte_tokenizer(None)
    [answer] = as_answers([Example("a", Text("x"))], rows, new_loaded(tokenizer=tokenizer), {"a": "worst"}, {})
    assert answer.prompt == BEGINNING


def test_images_are_answered_by_class_and_probability() -> None:
    model, images = tiny(), some(3)
    loaded = Loaded(model, None, "net", images.pixels)
    said = say(loaded, images, ["i2", "i0"])
    assert list(said) == ["i2", "i0"]
    with torch.no_grad():
        p_BV = model(pixel_values=images.batch(["i2", "i0"]).images_BCHW).logits.softmax(-1)
    for words, p_V in zip(said.values(), p_BV, strict=True):
        assert words == f"class {int(p_V.argmax())} ({float(p_V.max()):.2f})"
    examples = [Example("i0", Image(b"", (1, 1, 1), 0)), Example("i2", Image(b"", (1, 1, 1), 2), where="a.npz, row 3")]
    found = as_answers(examples, images, loaded, {"i2": "worst", "i0": "best"}, {"after": said})
    assert [(a.prompt, a.expected) for a in found] == [
        ("image a.npz, row 3 (id 'i2')", "class 2"),
        ("image 'i0'", "class 0"),
    ]
    digest = replace(images, ids=("0f" * 32, "i1", "i2"))
    [unnamed] = as_answers([Example(digest.ids[0], examples[0].content)], digest, loaded, {digest.ids[0]: "worst"}, {})
    assert unnamed.prompt == "image '0f0f0f0f..'"
    model.config.label2id = {"cat": 0, "dog": 1, "owl": 2, "cow": 3}
    assert say(loaded, images, ["i0"])["i0"].split(" (")[0] in {"cat", "dog", "owl", "cow"}
    [named] = as_answers(examples[:1], images, loaded, {"i0": "worst"}, {})
    assert named.expected == "cat"
