"""A server that fails in every way: one clear line or a retry, never a wrong answer."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
from contextlib import suppress
from threading import Event, Thread

import pytest
import torch
from tests.models.black_boxes import ROWS, STANDS, WORDS, description, scripted, stand

from palimpsest.errors import EndpointError, ModelError
from palimpsest.models.black_box_file import facts_from
from palimpsest.models.black_boxes import all_boxes, box_named
from palimpsest.models.black_boxes.language_box import logits_saying
from palimpsest.models.questions import Questions

CUT = (200, {"Content-Length": "1000"}, b'{"logprobs": [[-0.5')
KINDS = [one.kind for one in STANDS]


def asked(url, kind, waits=None, **more):
    facts = facts_from(description(url, kind, **{"timeout": 0.5, **more}), "box")
    questions = Questions(facts, sleep=(waits if waits is not None else []).append)
    return questions, questions.answers(facts.box.probes(facts)[:ROWS])


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def net(kind):
    made = stand(kind).model()
    right(made, kind)  # its first answer can take longer than the time-outs below, on a busy machine
    return made


def right(net, kind, rows=ROWS):
    """What the model says, by the protocol and without a server."""
    facts = facts_from(description("http://127.0.0.1:1/", kind), "box")
    probes = facts.box.probes(facts)[:rows]
    said = stand(kind).answer(net, json.loads(json.dumps(facts.box.content(probes))))
    return facts.box.read(said, probes, facts)


def test_every_kind_has_a_stand():
    assert sorted(KINDS) == [box.name for box in all_boxes()]


@pytest.mark.parametrize(
    ("failure", "lost"),
    [((429, {"Retry-After": "7"}, b""), 0), ((500, {}, b"x"), 0), ((503, {}, b""), 0), (1.0, ROWS), (CUT, ROWS)],
)
def test_what_may_pass_is_tried_again(failure, lost, net, kind):
    waits, seen = [], []
    with scripted([failure], net, seen, kind=kind) as url:
        questions, found = asked(url, kind, waits)
    assert found == right(net, kind)
    assert waits == [7.0 if failure != 1.0 and failure[0] == 429 else 0.5]
    assert questions.ledger.lost == lost, "whether a server that was silent or died billed nobody knows"
    assert len({headers["Idempotency-Key"] for headers, _ in seen}) == 1


def test_a_server_that_sends_a_byte_now_and_then_is_late(kind):
    """Each packet comes in time, and the answer never."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            line, _ = server.accept()
            with line, suppress(OSError):
                line.recv(1 << 16)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(40):
                    line.sendall(b" ")
                    gone.wait(0.05)

        gone, thread = Event(), Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(EndpointError, match="no answer in time"):
            asked(f"http://127.0.0.1:{server.getsockname()[1]}/", kind, retries=0, timeout=0.2)
        gone.set()
        thread.join()


def test_waits_grow_and_end_in_one_line(net, kind):
    waits = []
    with scripted([(500, {}, b"secret")] * 9, net, kind=kind) as url, pytest.raises(EndpointError) as error:
        asked(url, kind, waits, retries=3)
    assert waits == [0.5, 1.0, 2.0]
    assert str(error.value).startswith(f"{url} gives no answer after 4 tries: HTTP 500; the same command")
    assert "secret" not in str(error.value)


def test_who_asks_to_wait_for_long_is_not_waited_for(net, kind):
    waits = []
    told = (429, {"Retry-After": "86400"}, b"")
    with scripted([told], net, kind=kind) as url, pytest.raises(EndpointError, match="86400 s"):
        asked(url, kind, waits)
    assert not waits


WRONG = [(one.kind, wrong, said) for one in STANDS for wrong, said in one.wrong]
NO_JSON = [(kind, (200, {}, b"<html>"), "no JSON") for kind in KINDS]
NO_OBJECT = [(kind, (200, {}, b"[1]"), "no JSON object") for kind in KINDS]


@pytest.mark.parametrize(("of", "wrong", "said"), [*WRONG, *NO_JSON, *NO_OBJECT])
def test_what_is_no_answer_is_never_taken_for_one(of, wrong, said):
    model = stand(of).model()
    with scripted([wrong], model, kind=of) as url, pytest.raises(EndpointError, match=said):
        asked(url, of)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "is the credential in TOKEN right"), (302, "redirect"), (404, "404")]
)
def test_what_will_not_pass_is_said_at_once(status, said, net, kind, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret-value")
    waits = []
    wrong = (status, {"Location": "/"}, b"s3cret-value")
    with scripted([wrong], net, kind=kind) as url, pytest.raises(EndpointError) as error:
        asked(url, kind, waits, auth_env="TOKEN")
    assert said in str(error.value)
    assert "s3cret-value" not in str(error.value)
    assert not waits


def test_who_wants_a_credential_and_has_none_is_told_so(net, kind):
    with scripted([(401, {}, b"")], net, kind=kind) as url, pytest.raises(EndpointError, match="by auth_env"):
        asked(url, kind)


def test_nobody_there_is_tried_again_and_costs_nothing(kind):
    facts = facts_from(description("http://127.0.0.1:1/", kind, retries=2), "box")
    questions = Questions(facts, sleep=lambda _: None)
    with pytest.raises(EndpointError, match="after 3 tries: Connection refused"):
        questions.answers(facts.box.probes(facts)[:1])
    assert questions.ledger.spent == 0


@pytest.mark.parametrize("host", ["a" * 70, "a..b"])
def test_a_host_that_cannot_be_is_not_tried_again(host):
    waits = []
    with pytest.raises(EndpointError, match="gives no answer: no such host"):
        asked(f"http://{host}/", KINDS[0], waits)
    assert not waits


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_that_is_not_valid_is_refused(net, kind, tmp_path):
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
    certificate = (files[1], files[0])
    with scripted([], net, seen, certificate, kind=kind) as url, pytest.raises(EndpointError) as error:
        asked(url.replace("http:", "https:"), kind)
    assert "the certificate of 127.0.0.1 is not valid (self-signed certificate); nothing was sent" in str(error.value)
    assert not seen


def test_the_same_question_is_paid_for_once(net, kind):
    seen = []
    with scripted([], net, seen, kind=kind) as url:
        questions, first = asked(url, kind, batch_size=2)
        probes = questions.facts.box.probes(questions.facts)
        again = questions.answers([probes[2], probes[0], probes[2]])
    assert [number for _, number in seen] == [2, 1]
    assert again == [first[2], first[0], first[2]]
    assert questions.ledger.spent == ROWS


def test_probes_that_are_answered_otherwise_are_noticed(net, kind):
    with scripted([], net, kind=kind) as url:
        facts = facts_from(description(url, kind), "box")
        told, probes = [list(one) for one in right(net, kind, rows=16)], facts.box.probes(facts)
        assert len(Questions(facts, expected=told).answers(probes[:1])) == 1
        with pytest.raises(EndpointError, match=r"16 probes otherwise .* the model behind it changed"):
            Questions(facts, expected=told[::-1]).answers(probes[:1])


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
        ({"kind": "causal"}, "did you mean 'causal_lm'"),
        ({"kind": ["causal_lm"]}, "unknown kind"),
        ({"url": "http://host:99999/"}, "url cannot be used: Port"),
        ({"url": "http://host:abc/"}, "url cannot be used: Port"),
        ({"url": "http://host/a b"}, "ASCII without blanks"),
        ({"url": "http://h\u00f6st/"}, "ASCII without blanks"),
        ({"timeout": 1e10}, "timeout cannot be used"),
        ({"url": ""}, "one of url and function|url says where"),
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


@pytest.mark.parametrize(("base", "noticed"), [(math.e, False), (10, True), (2, False)])
def test_log_probabilities_of_base_10_are_noticed_by_the_probes(base, noticed):
    """Of base 2 they are not: a model may find any token as unlikely as that."""
    found, box = stand("causal_lm"), box_named("causal_lm")
    facts = box.Facts(**description("http://127.0.0.1:1/", "causal_lm"))
    probes = box.probes(facts)
    right = found.answer(found.model(), box.content(probes))
    said = [[p / math.log(base) for p in row] for row in right["logprobs"]]
    answers = [(*row, *top) for row, top in zip(said, right["top"], strict=True)]
    if noticed:
        with pytest.raises(EndpointError, match="logprobs in nats"):
            box.check_probes(answers, facts)
    else:
        box.check_probes(answers, facts)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_no_model_is_taken_for_one_of_base_10(scale):
    """Flat ones and ones that are sure of what they say."""
    box = box_named("causal_lm")
    facts = box.Facts(**description("http://127.0.0.1:1/", "causal_lm"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        logp = (scale * torch.randn(16, 7, WORDS, generator=generator)).log_softmax(-1)
        drawn = torch.tensor([text.tokens[1:] for text in box.probes(facts)])[..., None]
        said = logp.gather(-1, drawn)[..., 0].tolist()
        box.check_probes([(*row, *[0.0] * 8) for row in said], facts)


def test_what_has_no_probability_has_a_number():
    """A probability of 0 is told as some very low number; an infinite one would be in no mean."""
    lowest = (torch.tensor([-1e308]), torch.tensor([0]), torch.tensor([2, 1]))
    wanted = logits_saying(torch.tensor([-1e4]), *lowest[1:], 3)
    assert torch.equal(logits_saying(*lowest, 3), wanted)
    assert bool(wanted.isfinite().all())
