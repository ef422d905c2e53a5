"""A server that fails in every way: one clear line or a retry, never a wrong answer."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import torch
from tests.models.black_boxes import CLASSES, description, probs_of, scripted, tiny_net

from palimpsest.errors import EndpointError, ModelError
from palimpsest.models.black_box_file import facts_from
from palimpsest.models.questions import Questions, probe_images

ROWS = 3


def reply(probs, **more):
    return 200, {}, json.dumps({"probs": probs, **more}).encode()


def asked(url, waits=None, **more):
    facts = facts_from(description(url, **{"timeout": 0.3, **more}), "box")
    questions = Questions(facts, sleep=(waits if waits is not None else []).append)
    return questions, questions.probs(probe_images(facts)[:ROWS])


@pytest.fixture(scope="module")
def net():
    return tiny_net()


def right(net, url="http://127.0.0.1:1/"):
    return probs_of(net)(probe_images(facts_from(description(url), "box"))[:ROWS])


@pytest.mark.parametrize(
    ("failure", "lost"), [((429, {"Retry-After": "7"}, b""), 0), ((500, {}, b"x"), 0), ((503, {}, b""), 0), (1.0, ROWS)]
)
def test_what_may_pass_is_tried_again(failure, lost, net):
    waits, seen = [], []
    with scripted([failure], net, seen) as url:
        questions, found = asked(url, waits)
    assert torch.allclose(found, right(net))
    assert waits == [7.0 if failure != 1.0 and failure[0] == 429 else 0.5]
    assert questions.ledger.lost == lost, "whether a silent server billed nobody knows"
    assert len({headers["Idempotency-Key"] for headers, _ in seen}) == 1


def test_waits_grow_and_end_in_one_line(net):
    waits = []
    with scripted([(500, {}, b"secret")] * 9, net) as url, pytest.raises(EndpointError) as error:
        asked(url, waits, retries=3)
    assert waits == [0.5, 1.0, 2.0]
    assert str(error.value).startswith(f"{url} gives no answer after 4 tries: HTTP 500; the same command")
    assert "secret" not in str(error.value)


def test_who_asks_to_wait_for_long_is_not_waited_for(net):
    waits = []
    with scripted([(429, {"Retry-After": "86400"}, b"")], net) as url, pytest.raises(EndpointError, match="86400 s"):
        asked(url, waits)
    assert not waits


HALF = [[0.5, 0.5, 0.0, 0.0]] * ROWS


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (reply([[0.5, 0.5]] * ROWS), f"3 x 2 probabilities for 3 images and {CLASSES} labels"),
        (reply(HALF[:2]), "2 x 4 probabilities for 3 images"),
        (reply([[0.5, 0.5, 0.0, float("nan")]] * ROWS), "not a number"),
        (reply([[0.9, 0.9, 0.0, 0.0]] * ROWS), "sums to 1.8"),
        (reply([[1.5, -0.5, 0.0, 0.0]] * ROWS), "or one is negative"),
        (reply(HALF, labels=["a", "b", "c", "x"]), "labels are not those that were declared"),
        (reply("no"), "no list of lists"),
        ((200, {}, b"<html>"), "no JSON"),
        ((200, {}, b"[1]"), 'no object with "probs"'),
    ],
)
def test_what_is_no_answer_is_never_taken_for_one(wrong, said, net):
    with scripted([wrong], net) as url, pytest.raises(EndpointError, match=said):
        asked(url)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "is the credential in TOKEN right"), (302, "redirect"), (404, "404")]
)
def test_what_will_not_pass_is_said_at_once(status, said, net, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret-value")
    waits = []
    with scripted([(status, {"Location": "/"}, b"s3cret-value")], net) as url, pytest.raises(EndpointError) as error:
        asked(url, waits, auth_env="TOKEN")
    assert said in str(error.value)
    assert "s3cret-value" not in str(error.value)
    assert not waits


def test_nobody_there_is_tried_again_and_costs_nothing():
    facts = facts_from(description("http://127.0.0.1:1/", retries=2), "box")
    questions = Questions(facts, sleep=lambda _: None)
    with pytest.raises(EndpointError, match="after 3 tries: Connection refused"):
        questions.probs(probe_images(facts)[:1])
    assert questions.ledger.spent == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_that_is_not_valid_is_refused(net, tmp_path):
    """A server whose certificate is its own: nothing is sent."""
    files = [str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")]
    made = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
        "-days",
        "1",
        "-keyout",
    ]
    subprocess.run(["openssl", *made, files[0], "-out", files[1]], check=True, capture_output=True)
    seen = []
    with scripted([], net, seen, certificate=(files[1], files[0])) as url, pytest.raises(EndpointError) as error:
        asked(url.replace("http:", "https:"))
    assert "the certificate of 127.0.0.1 is not valid (self-signed certificate); nothing was sent" in str(error.value)
    assert not seen


def test_the_same_image_is_paid_for_once(net):
    seen = []
    with scripted([], net, seen) as url:
        questions, first = asked(url, batch_size=2)
        again = questions.probs(probe_images(questions.facts)[[2, 0, 2]])
    assert [number for _, number in seen] == [2, 1]
    assert torch.equal(again, first[[2, 0, 2]])
    assert questions.ledger.spent == ROWS


def test_probes_that_are_answered_otherwise_are_noticed(net):
    with scripted([], net) as url:
        facts = facts_from(description(url), "box")
        told = probs_of(net)(probe_images(facts))
        assert Questions(facts, expected=told.tolist()).probs(probe_images(facts)[:1]).shape == (1, CLASSES)
        with pytest.raises(EndpointError, match=r"16 probes otherwise .* the model behind it changed"):
            Questions(facts, expected=told.flip(1).tolist()).probs(probe_images(facts)[:1])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "ftp://host/"}, "url cannot be used: accepted: http"),
        ({"url": "http://me:pw@127.0.0.1/"}, "holds a credential"),
        ({"url": "http://host/", "auth_env": "T"}, "sent unencrypted"),
        ({"price_per_query": 0.1}, "budget must say"),
        ({"labels": ["a", "a"]}, "a label occurs twice"),
        ({"image_std": [0.5, 0.5]}, "as many numbers"),
        ({"buget": 5}, "did you mean 'budget'"),
        ({"auth_env": "has blank"}, "auth_env"),
    ],
)
def test_a_description_that_cannot_be_is_refused(more, said):
    with pytest.raises(ModelError, match=said) as error:
        facts_from(description("http://127.0.0.1:1/") | more, "box")
    assert "pw" not in str(error.value)


def test_a_credential_that_is_not_there_is_asked_for(monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(ModelError, match="environment variable NOT_SET is not set"):
        facts_from(description("http://127.0.0.1:1/", auth_env="NOT_SET"), "box").credential()
