"""One call of Runpod's REST v2, or of the few GraphQL operations it lacks, as a value or a closed error.

Every call has its deadlines; nothing is waited for or repeated here (wrap.py does), and nothing is asked
faster than the answers' headers allow: then it is TooFast. Fields that nobody asked for are ignored, lists
are followed to their end. The key travels in one header, and is in no URL, text or repr.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from launcher.errors import BadOrder, ProviderError, TooFast, Unreachable, VendorBug
from launcher.models import Json
from launcher.providers.runpod_keys import Secret
from launcher.providers.runpod_pace import Pace
from launcher.providers.runpod_refusals import no_such_operation, of_graph, refusal

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

CONNECT_S = 5.0
ANSWER_S = 25.0
MOST_PAGES = 100
FIRST_LINE_S = 1.5  # a log that holds nothing yet says nothing
NEXT_LINE_S = 0.25
STREAM_S = 10.0
MOST_BYTES = 1 << 22
ENDED = (404, 410)  # of a whole API


class Unsupported(BadOrder):
    """The API has no such operation (any more)."""


class _Bearer:
    """As an auth of its own: a netrc of the user's must not put another name in its place."""

    def __init__(self, key: Secret) -> None:
        self._key = key

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key.value}"
        return request


class Api:
    def __init__(self, root: str, key: Secret, answer_s: float = ANSWER_S) -> None:
        self._root = root
        self._key = key
        self._answer_s = answer_s
        self._pace = Pace()
        self._opened: Session | None = None

    # --- REST --------------------------------------------------------------------------------

    def get(self, path: str, doing: str, **query: str) -> Json:
        return self._object(self._call("GET", path, doing, query=query), doing)

    def pages(self, path: str, name: str, doing: str, **query: str) -> Iterator[Json]:
        """Every item of a list, over however many pages it comes."""
        for _ in range(MOST_PAGES):
            page = self.get(path, doing, **query)
            items = page.get(name)
            if not isinstance(items, list):
                raise VendorBug(f"Runpod's answer has no {name!r}")
            yield from (item for item in items if isinstance(item, dict))
            pagination = page.get("pagination")
            cursor = pagination.get("nextCursor") if isinstance(pagination, dict) else None
            if not cursor or cursor == query.get("cursor"):
                return
            query["cursor"] = str(cursor)
        raise VendorBug(f"Runpod's list of {name} has no end")

    def post(self, path: str, body: Json, doing: str) -> Json | None:
        """None where the answer has no body."""
        response = self._call("POST", path, doing, body=body, act=True)
        return None if response.status_code == 204 else self._object(response, doing)

    def delete(self, path: str, doing: str) -> None:
        self._call("DELETE", path, doing, act=True)

    def events(self, path: str, doing: str, **query: str) -> list[Json]:
        """What a stream of server-sent events holds now. It has no end of its own: silence ends the look."""
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        found: list[Json] = []
        rest, taken = b"", 0
        began, until = monotonic(), monotonic() + FIRST_LINE_S
        with self._call("GET", path, doing, query=query, stream=True) as response:
            try:
                while monotonic() < min(until, began + STREAM_S) and taken < MOST_BYTES:
                    _hear_for(response, max(0.01, until - monotonic()))
                    data = response.raw.read1(1 << 16, decode_content=True)
                    if not data:
                        break
                    taken += len(data)
                    *lines, rest = (rest + data).split(b"\n")
                    fresh = [event for line in lines if (event := _event(line)) is not None]
                    found += fresh
                    if fresh:
                        until = monotonic() + NEXT_LINE_S
            except (RequestException, HTTPError, OSError):
                pass  # silence, or a cut: what came before it is what there is now
        return found

    # --- GraphQL -----------------------------------------------------------------------------

    def graph(self, query: str, doing: str, variables: Json | None = None, *, act: bool = False) -> Json:
        """The data of an operation. Unsupported when the schema, or the whole API, knows no such thing."""
        body: Json = {"query": query, "variables": variables or {}}
        response = self._call("POST", "/graphql", doing, body=body, act=act, plain=True)
        if response.status_code in ENDED:
            raise Unsupported("Runpod's GraphQL API has ended")
        answer = self._object(response, doing) if response.status_code in (200, 400) else {}
        errors = answer.get("errors") or []
        message = "; ".join(str(e.get("message")) for e in errors if isinstance(e, dict))
        if no_such_operation(message):
            raise Unsupported(f"Runpod's API has no such operation: {message}")
        if response.status_code != 200:
            raise refusal(response.status_code, response.headers, json.dumps({"detail": message}), doing)
        if message:
            raise of_graph(self._key.hidden_in(message), doing)
        data = answer.get("data")
        if not isinstance(data, dict):
            raise VendorBug(f"Runpod answered without data when asked to {doing}")
        return data

    # --- one call ----------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        act: bool = False,
        stream: bool = False,
        plain: bool = False,
    ) -> Response:
        """`act`: it changes something, so it is asked even when questions have to wait. `plain`: 400 and what
        tells that there is no such API are the caller's to read."""
        from requests.exceptions import RequestException

        wait_s = 0.0 if act else self._pace.wait_s(monotonic())
        if wait_s > 0:
            raise TooFast("Runpod's quota of questions is nearly used up", wait_s)
        self._pace.asked(monotonic())
        try:
            response = self._session().request(
                method,
                self._root + path,
                params=query,
                json=body,
                auth=_Bearer(self._key),
                timeout=(CONNECT_S, self._answer_s),
                allow_redirects=False,
                stream=stream,
            )
        except RequestException as why:
            # Not chained: the library's error carries the request, and with it the key.
            raise _cut(why, doing) from None
        self._pace.heard(response.headers, monotonic())
        if response.ok and not response.is_redirect:
            return response
        if plain and response.status_code in (400, *ENDED):
            return response
        try:
            with response:
                text = self._key.hidden_in(response.text[: 1 << 16])
        except RequestException:  # of a stream that was cut: its status says enough
            text = ""
        raise refusal(response.status_code, response.headers, text, doing)

    def _object(self, response: Response, doing: str) -> Json:
        """The answer as an object. One that is none may hide an effect, so it counts as no answer."""
        try:
            answer: Any = response.json()
        except ValueError:
            raise Unreachable(f"Runpod's answer cannot be read when asked to {doing}") from None
        if not isinstance(answer, dict):
            raise VendorBug(f"Runpod's answer is no object when asked to {doing}")
        return answer

    def _session(self) -> Session:
        if self._opened is None:
            from launcher.providers import runpod_wire

            self._opened = runpod_wire.session()
            # What is asked in the open is on this machine, and no proxy's matter.
            self._opened.trust_env = self._root.startswith("https:")
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


# A library's names for what a person can look after.
_WORDS = {
    "NameResolutionError": "its name cannot be resolved: is there a network?",
    "NewConnectionError": "nobody listens there, or there is no way to it",
    "ConnectTimeoutError": "no connection within the time",
    "ConnectTimeout": "no connection within the time",
    "ReadTimeoutError": "no whole answer within the time",
    "ReadTimeout": "no whole answer within the time",
    "SSLError": "its certificate is not believed",
    "ProxyError": "the proxy that is set up here does not let it through",
}


def _cut(why: Exception, doing: str) -> ProviderError:
    """Only a connection that never came to be proves that nothing was heard."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import ConnectTimeout, SSLError
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    first = why.args[0] if why.args else None
    cause = getattr(first, "reason", None) or (first if isinstance(first, Exception) else None)
    never = isinstance(why, ConnectTimeout | SSLError) or (
        isinstance(why, NoConnection) and isinstance(cause, NewConnectionError | NameResolutionError)
    )
    kind = type(cause).__name__ if cause is not None else type(why).__name__
    said = _WORDS.get(kind, kind)
    return Unreachable(f"no answer from Runpod when asked to {doing} ({said})", surely_no_effect=never)


def _hear_for(response: Response, seconds: float) -> None:
    """The deadline of the next read, where the library still holds its socket."""
    connection = getattr(response.raw, "connection", None)
    sock = getattr(connection, "sock", None)
    if sock is not None:
        sock.settimeout(seconds)


def _event(line: bytes) -> Json | None:
    if not line.startswith(b"data:"):
        return None
    try:
        event = json.loads(line[5:])
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
