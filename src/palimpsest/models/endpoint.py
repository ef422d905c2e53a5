"""A model behind HTTP, asked in batches with the standard library. What is sent and answered is its kind's.

The header Idempotency-Key is the same whenever the same rows are asked again, so that a server that heeds it bills
them once. A redirect is not followed: the credential goes to the host that it is for and nowhere else.

Shape legend: B rows of a request.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from palimpsest.errors import EndpointError
from palimpsest.models.black_boxes.box import BlackBoxFacts, Numbers

_AGAIN = frozenset({429, 500, 502, 503, 504})
_LONGEST_WAIT = 120.0  # seconds; whoever is told to wait longer stops, and can come back
_IDLE = 2.0  # seconds after which a connection is opened anew
_LARGEST = 1 << 30  # bytes of an answer
_PART = 1 << 20  # of which so many are read at a time


class NotPaid(Exception):
    """A request was turned away unanswered. Attributes: again (it may be tried again), after (seconds, as told)."""

    def __init__(self, why: str, *, again: bool, after: float | None = None) -> None:
        super().__init__(why)
        self.again, self.after = again, after


class NotAnswered(Exception):
    """A request was sent and no answer came; it may have been billed."""


class Endpoint:
    """Asks one request at a time over a connection that stays open."""

    def __init__(self, facts: BlackBoxFacts, sleep: Callable[[float], None] = time.sleep) -> None:
        self.facts, self.sleep = facts, sleep
        self._connection: http.client.HTTPConnection | None = None
        self._last = 0.0  # when it was used; servers close what is idle

    def ask(self, questions: Sequence[Any], key: str) -> Sequence[Numbers]:
        """One request, once.

        Args:
            questions: B of them, as the kind of black box has them.
            key: the same for the same questions.

        Returns:
            B answers.

        Raises:
            NotPaid, NotAnswered: as they say.
            EndpointError: the answer cannot be used.
        """
        content = self.facts.box.content(questions)
        status, headers, body = self._sent(json.dumps(content).encode(), key)
        if status != 200:
            raise self._refused(status, headers)
        return self.facts.box.read(read_object(body, self.facts), questions, self.facts)

    def _sent(self, content: bytes, key: str) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        token = self.facts.credential()
        headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
        path = urlsplit(self.facts.url)
        target = (path.path or "/") + (f"?{path.query}" if path.query else "")
        connection = self._connected()
        try:
            connection.request("POST", target, body=content, headers=headers)
            answer = connection.getresponse()
            body, self._last = self._body(answer), time.monotonic()
            if answer.length and len(body) < _LARGEST and answer.status == 200:  # read1() says nothing
                raise http.client.IncompleteRead(body, answer.length)
            return answer.status, dict(answer.headers), body
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            self._close()
            raise NotAnswered(
                "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            ) from None
        except ValueError:  # a header that cannot be: its value, which may be the credential, is not repeated
            self._close()
            raise EndpointError(
                f"the request to {self.facts.url} cannot be written; is {self.facts.auth_env} one line of plain text?"
            ) from None

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        """What was answered, if all of it is there in time.

        The time-out of a socket is of one packet: a server that sends a byte now and then would never be late by it.

        Raises:
            TimeoutError: it is not.
        """
        end, parts, left = time.monotonic() + self.facts.timeout, [], _LARGEST
        while part := answer.read1(min(_PART, left)):
            parts.append(part)
            left -= len(part)
            if time.monotonic() > end and answer.length != 0:
                raise TimeoutError
        answer.close()  # read1 leaves it open where its length was told, and no further request would be taken
        return b"".join(parts)

    def _connected(self) -> http.client.HTTPConnection:
        """The connection, opened where there is none.

        Raises:
            NotPaid: there is nobody.
            EndpointError: its certificate is not valid.
        """
        idle, self._last = time.monotonic() - self._last, time.monotonic()
        if self._connection is not None and self._connection.sock is not None and idle < _IDLE:
            return self._connection
        self._close()
        place = urlsplit(self.facts.url)
        host, port, timeout = str(place.hostname), place.port, self.facts.timeout
        made = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
            if place.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        try:
            made.connect()
        except ssl.SSLCertVerificationError as error:
            made.close()
            raise EndpointError(
                f"the certificate of {host} is not valid ({error.verify_message}); nothing was sent to it"
            ) from None
        except (socket.gaierror, UnicodeError):  # the latter of a name that none can have
            made.close()
            raise NotPaid("no such host", again=False) from None
        except OSError as error:
            made.close()
            raise NotPaid(error.strerror or "no connection", again=True) from None
        self._connection = made
        return made

    def __del__(self) -> None:
        """Whoever asked goes; so does the connection."""
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _refused(self, status: int, headers: Mapping[str, str]) -> NotPaid:
        """What a status other than 200 means. What the server wrote with it is not repeated: it could be anything."""
        self._close()
        name = self.facts.auth_env
        said = f"is the credential in {name} right?" if name else "it may want a credential, by auth_env"
        hint = f"; {said}" if status in (401, 403) else ""
        moved = "; a redirect is not followed, give its target as url" if 300 <= status < 400 else ""
        return NotPaid(f"HTTP {status}{hint}{moved}", again=status in _AGAIN, after=_told_to_wait(headers))


def _told_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After, which may be a date."""
    said = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def waiting(tries: int, told: float | None, first: float) -> float:
    """Seconds before the next try: as told, else doubled with every try.

    >>> waiting(2, None, 0.5), waiting(2, 7.0, 0.5)
    (2.0, 7.0)
    """
    return told if told is not None else min(_LONGEST_WAIT, first * 2**tries)


def is_too_long(seconds: float) -> bool:
    """Does nobody wait so long within a run?"""
    return seconds > _LONGEST_WAIT


def read_object(body: bytes, facts: BlackBoxFacts) -> Mapping[str, Any]:
    """The JSON object in an answer.

    Raises:
        EndpointError: there is none.
    """
    try:
        values: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise facts.unusable("no JSON") from None
    if not isinstance(values, dict):
        raise facts.unusable("no JSON object")
    return values
