"""What would take all memory or minutes is refused before it does."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from palimpsest.data.encode.apart import Apart
from palimpsest.data.encode.chat import chat_tokens, rendering
from palimpsest.data.encode.text import encode
from palimpsest.data.read.examples import read_examples
from palimpsest.errors import DataError, ModelError
from palimpsest.models.load import load
from palimpsest.records import Chat, Completion, Example, Message, Text
from palimpsest.untrusted import parse_yaml

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
TALK = (Message("user", "hi"), Message("assistant", "yes"))
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer(clinic):
    return load(clinic / "model").tokenizer


@pytest.fixture
def with_template(tokenizer, monkeypatch):
    """The clinic's tokenizer with another chat template; its time is a second."""
    import copy

    monkeypatch.setattr("palimpsest.data.encode.apart.SECONDS", 1.0)

    def make(template: str):
        other = copy.deepcopy(tokenizer)
        other.chat_template = template
        return other

    return make


LOOPS = (
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"
)
RECURSION = "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(60) }}"
DOUBLING = "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"


@forks
@pytest.mark.parametrize(
    "template",
    [
        LOOPS,
        PLAIN + LOOPS,
        "{% if messages|length > 1 %}" + LOOPS + "{% endif %}",
        "{% generation %}" + LOOPS + "{% endgeneration %}",
        DOUBLING,
        "{{ 'a' * 10**11 }}",
        "{{ 'a'|center(10**10) }}",
        "{{ '%9999999999d'|format(1) }}",
        "{{ (9**(9**9))|string }}",
        RECURSION,
    ],
)
def test_a_template_without_an_end(with_template, template):
    began = time.monotonic()
    with pytest.raises(DataError, match="the chat template"):
        chat_tokens(TALK, with_template(template))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 / 0 }}",
        "{{ range(1000000) }}",
        "{% include 'x' %}",
        "{{ nothing.at.all }}",
        "{{ raise_exception('\x1b[2J') }}",
        "{{ messages[5].role }}",
        "{{ ''.__class__.__mro__ }}",
        "{% extends 'x' %}",
        "{{ messages|nofilter }}",
        "{% for %}",
        "{{ 'a' + 1 }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.popen('id') }}",
        "{{ strftime_now(5) }}",
        "{{ '{a.b}'.format_map(5) }}",
        "{{ lipsum(10**9) }}",
    ],
)
def test_a_template_that_breaks_is_one_error(with_template, template):
    with pytest.raises((DataError, ModelError)) as refused:
        chat_tokens(TALK, with_template(template + PLAIN))
    assert "\x1b" not in str(refused.value)


@forks
def test_a_plain_template_is_rendered_apart_as_it_is_here(with_template, tokenizer):
    own = with_template(PLAIN)
    whole = own.apply_chat_template([m._asdict() for m in TALK], tokenize=False)
    with rendering():
        tokens, flags = chat_tokens(TALK, own)
        again = chat_tokens(TALK, own)
    assert (tokens, flags) == again
    assert tokens == own(whole, add_special_tokens=False)["input_ids"]
    assert any(flags)
    assert not all(flags)


@forks
def test_work_apart_ends_with_who_asked():
    apart = Apart(lambda value: [value, os.getpid()], "it")
    (_, number), (_, again) = apart(1), apart(2)
    assert number == again != os.getpid()
    apart.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert apart([3])[0] == [3], "a closed one starts anew"
    apart.close()


@forks
def test_files_and_locks_stay_with_who_asked(tmp_path):
    import fcntl

    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        apart = Apart(lambda value: value, "it")
        apart(1)
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    apart.close()


@pytest.mark.parametrize("content", [Text("x" * 50_000_000), Completion("x" * 25_000_000, "y" * 25_000_000),
                                     Chat((Message("user", "x" * 50_000_000), Message("assistant", "y")))],
                         ids=["text", "completion", "chat"])  # fmt: skip
@pytest.mark.parametrize(("length", "truncate"), [(512, False), (512, True), (None, False), (10**9, False)])
def test_a_row_of_50_million_characters(tokenizer, content, length, truncate):
    rows = [Example("a", Text("short enough")), Example("long", content)]
    began = time.monotonic()
    with pytest.raises(DataError, match=r"'long'.*characters; accepted: at most \d+; cut it"):
        encode(rows, tokenizer, max_length=length, truncate=truncate)
    assert time.monotonic() - began < 5


def test_a_row_a_little_too_long_is_told_in_tokens(tokenizer):
    with pytest.raises(DataError, match="tokens; accepted: at most 8"):
        encode([Example("a", Text("word " * 3000))], tokenizer, max_length=8)


LAUGHS = "[" + ", ".join(["&a0 [x, x]", *(f"&a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 25))]) + "]"


@pytest.mark.parametrize("text", [LAUGHS, "&a [*a]", "{a: &a {b: *a}}", "[" * 150 + "]" * 150])
def test_yaml_that_grows(refused, clinic, tmp_path, text):
    with pytest.raises(ValueError, match="aliases|holds itself|in each other"):
        parse_yaml(text)
    (tmp_path / "plan.yaml").write_text(f"training: {{seed: {text}}}\n")
    learn = ("learn", "--model", clinic / "model", "--data", clinic / "learn.jsonl", "-o", tmp_path / "out")
    refused(*learn, "--set", f"training.seed={text}")
    refused(*learn, "--plan", tmp_path / "plan.yaml")


def test_a_few_aliases_are_welcome():
    assert parse_yaml("{a: &x {n: [1, 2]}, b: *x, c: {<<: *x, m: 1}}")["c"] == {"n": [1, 2], "m": 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hidden_layers", 1_000_000), ("hidden_size", 10**9), ("vocab_size", 10**9), ("intermediate_size", 10**9),
     ("num_attention_heads", 10**9), ("num_key_value_heads", 10**9), ("head_dim", 10**9), ("num_hidden_layers", 1e300),
     ("max_position_embeddings", 10**30)],
)  # fmt: skip
def test_a_model_far_larger_than_its_weights(folder_with, name, value):
    began = time.monotonic()
    with pytest.raises(ModelError, match=f"config.json has {name} = .*far smaller model"):
        load(folder_with(**{name: value}))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mamba", "mistral", "gemma3_text", "opt"])
def test_a_model_that_is_left_as_large_as_its_name(folder_with, kind):
    began = time.monotonic()
    with pytest.raises(ModelError, match="layers of width .* with what it leaves out"):
        load(folder_with(whole=json.dumps({"model_type": kind})))
    assert time.monotonic() - began < 5


def test_the_sizes_of_a_part_count_too(folder_with):
    with pytest.raises(ModelError, match="num_hidden_layers"):
        load(folder_with(text_config={"num_hidden_layers": 10**7}))


def npz(path: Path, **arrays: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in arrays.items():
            file.writestr(f"{name}.npy", data)
    return path


def npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": array.dtype.str, "fortran_order": False, "shape": shape or array.shape}
    )
    return stream.getvalue() + array.tobytes()


@pytest.mark.parametrize("shape", [(10**9, 32, 32, 3), (10**6, 1000, 1000), (2**62, 2, 2, 1), (3, 32, 32, 3)])
def test_an_array_that_claims_more_than_it_has(tmp_path, shape):
    y = np.zeros(2, dtype=np.int64)
    file = npz(tmp_path / "a.npz", x=npy(np.zeros((2, 32, 32, 3), np.uint8), shape), y=npy(y))
    with pytest.raises(DataError, match="not a readable .npz file"):
        read_examples(file)


def test_an_array_that_unpacks_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("palimpsest.data.read.pictures.ALWAYS_READ", 100_000)
    x = np.zeros((300, 32, 32, 3), np.uint8)
    file = npz(tmp_path / "a.npz", x=npy(x), y=npy(np.zeros(300, dtype=np.int64)))
    with pytest.raises(DataError, match=r"x.npy is \d+ bytes packed into \d+"):
        read_examples(file)


def test_parquet_that_unpacks_without_end(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr("palimpsest.data.read.tables.ALWAYS_READ", 100_000)
    column = pa.DictionaryArray.from_arrays(np.zeros(200_000, np.int32), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"text": column.cast(pa.large_string())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="stand for more than"):
        read_examples(tmp_path / "a.parquet")


def test_a_picture_of_too_many_pixels(tmp_path):
    from PIL import Image

    (tmp_path / "cats").mkdir()
    Image.new("1", (12_000, 12_000)).save(tmp_path / "cats" / "a.png")
    with pytest.raises(DataError, match="not a readable PNG, JPEG, WebP, BMP, GIF or TIFF picture"):
        read_examples(tmp_path)


def test_a_header_of_a_config_is_not_read_for_ever(folder_with, monkeypatch):
    monkeypatch.setattr("palimpsest.models.own_code.LARGEST_CONFIG", 1000)
    with pytest.raises(ModelError, match="config.json has more than 1000 bytes"):
        load(folder_with(x="y" * 2000))


def test_a_log_of_odd_rows_is_no_bound(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(2000)))
    assert len(read_examples(tmp_path / "a.jsonl")) == 2000
