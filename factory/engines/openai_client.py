"""Send requests to a server, and retry them.

The client takes the API key, proxies, and certificates from the environment, like
the openai package.
"""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from factory import __version__
from factory.engines.openai_environment import HEADERS, api_key, proxy_of, tls_context
from factory.engines.openai_pace import Pace, asked_wait, backoff
from factory.engines.openai_replies import OddReply, quote
from factory.errors import EngineError
from factory.recipe import OpenaiEngine
from factory.texts import mask_secrets

T = TypeVar("T")

LARGEST_REPLY = 64 * 2**20
"""Maximum size of a reply in bytes (our choice)."""

LONGEST_WAIT = 600.0
"""Maximum number of seconds to wait because a server asks for it. If it asks for more, the run
stops (our choice)."""

LOOKS, PATIENCE = 2, 30.0
"""Retries and timeout (in seconds) of status requests, short so that a wrong address is reported
soon."""

RETRIED = (408, 409, 429)
"""HTTP statuses below 500 after which the request is sent again, as in the openai package."""

REFUSED = (429, 503)
"""HTTP statuses of a server that gets too many requests."""


class RequestFailed(Exception):
    """A request without a usable reply. The message is a short reason without secrets.

    `status` is the HTTP status, or None if there was no reply. `timed_out` is whether the server
    did not reply in time. `was_sent` is whether the server may have worked on the request.
    `headers` are those of the reply.
    """

    n_lost = 0
    """Number of attempts whose answers may have been generated, but did not arrive."""

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        *,
        timed_out: bool = False,
        was_sent: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.timed_out = timed_out
        self.was_sent = was_sent
        self.headers = headers or {}

    @property
    def may_succeed_later(self) -> bool:
        if (said := self.headers.get("x-should-retry")) in ("true", "false"):
            return said == "true"
        return self.status is None or self.status in RETRIED or self.status >= 500


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """The reply to a request that succeeded."""

    value: T
    n_lost: int
    """Number of earlier attempts whose answers may have been generated, but did not arrive."""


class Client:
    """A client of one server. Belongs to one event loop."""

    def __init__(self, settings: OpenaiEngine) -> None:
        self._settings = settings
        self.pace = Pace(settings.concurrency)
        self._is_stopping = False
        self._waiting: set[asyncio.Task[Any]] = set()
        """Tasks whose requests are not sent."""
        self._session: aiohttp.ClientSession | None = None
        url = urlsplit(settings.base_url)
        self._proxy = proxy_of(settings.base_url)
        self._headers = {"User-Agent": f"preference-factory/{__version__}"}
        if (key := api_key(settings)) and "@" not in url.netloc:  # else the URL has a password
            self._headers["Authorization"] = f"Bearer {key}"
        for header, variable in HEADERS.items():
            if value := os.environ.get(variable, "").strip():
                self._headers[header] = value
        self._tls = tls_context() if url.scheme == "https" else True

    def url(self, path: str, *, above_v1: bool = False) -> str:
        """Return the URL of a path under the server's address, which may have a query."""
        url = urlsplit(self._settings.base_url)
        root = url.path.rstrip("/")
        root = root.removesuffix("/v1") if above_v1 else root
        return urlunsplit(url._replace(path=root + path))

    async def get(self, url: str) -> bytes:
        """Return the body of a small resource. Raises RequestFailed."""
        for n_retries in itertools.count():
            try:
                return await self._send("GET", url, None, PATIENCE)
            except RequestFailed as failed:
                if n_retries == LOOKS or not failed.may_succeed_later:
                    raise
                await asyncio.sleep(self._wait(failed, n_retries))
        raise AssertionError("the loop ends with a return or an exception")

    async def post(
        self,
        url: str,
        body: bytes,
        read: Callable[[bytes], T],
        *,
        max_retries: int | None = None,
    ) -> Reply[T]:
        """Send a request at the server's pace, and read the reply.

        Raises RequestFailed after `max_retries` retries, OddReply for a reply that cannot be read,
        and EngineError if the server asks to wait for too long.
        """
        retries = self._settings.max_retries if max_retries is None else max_retries
        n_lost = 0
        for n_retries in itertools.count():
            await self._idle(self.pace.enter(again=n_retries > 0))
            began = time.monotonic()
            accepted: bool | None = None
            try:
                content = await self._send("POST", url, body, self._settings.timeout)
                accepted = True
                return Reply(_read(read, content), n_lost)
            except RequestFailed as failed:
                n_lost += failed.was_sent
                failed.n_lost = n_lost
                if failed.timed_out or failed.status in REFUSED:
                    accepted = False
                if n_retries == retries or not failed.may_succeed_later or self._is_stopping:
                    raise
                wait = self._wait(failed, n_retries)
            finally:
                self.pace.leave(time.monotonic() - began, accepted=accepted)
            if accepted is False:
                self.pace.pause(wait)
            await self._idle(asyncio.sleep(wait))
        raise AssertionError("the loop ends with a return or an exception")

    async def _idle(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait before a request is sent. `stop` cancels the request."""
        if self._is_stopping:
            waiting.close()
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None, "requests are sent by tasks"
        self._waiting.add(task)
        try:
            await waiting
        finally:
            self._waiting.discard(task)

    def stop(self, *, is_stopping: bool = True) -> None:
        """Cancel the requests that are not sent, and retry none. The others go on."""
        self._is_stopping = is_stopping
        if is_stopping:
            for task in self._waiting:
                task.cancel()

    def _wait(self, failed: RequestFailed, n_retries: int) -> float:
        """Return the seconds to wait before a retry."""
        asked = asked_wait(failed.headers)
        if not asked:
            return backoff(n_retries)
        if asked > LONGEST_WAIT:
            raise EngineError(
                "engine.base_url",
                f"the server at {self.address} asks to wait for {asked / 60:,.0f} minutes "
                f"({failed})",
                "repeat the command after this time (finished rows are saved)",
            )
        return asked

    async def _send(self, method: str, url: str, body: bytes | None, timeout: float) -> bytes:
        """Send a request once, and return the body of the reply. Raises RequestFailed."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
            )
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                content = await _receive(response)
        except TimeoutError:
            reason = f"the server did not answer within {timeout:g} seconds"
            raise RequestFailed(reason, timed_out=True, was_sent=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Only the type: the message may contain host names.
            was_sent = not isinstance(error, aiohttp.ClientConnectorError)
            raise RequestFailed(type(error).__name__, was_sent=was_sent) from error
        if content is None:
            reason = f"the reply is larger than {LARGEST_REPLY // 2**20} MiB"
            raise RequestFailed(reason, response.status, headers={"x-should-retry": "false"})
        if not response.ok:
            reason = f"{response.status}: {quote(content)}"
            raise RequestFailed(reason, response.status, headers=response.headers)
        return content

    @property
    def address(self) -> str:
        """The server's address without a password."""
        return mask_secrets(self._settings.base_url)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _receive(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body of a reply; None if it is too large."""
    parts: list[bytes] = []
    n_bytes = 0
    async for part in response.content.iter_any():
        parts.append(part)
        n_bytes += len(part)
        if n_bytes > LARGEST_REPLY:
            return None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read(read: Callable[[bytes], T], content: bytes) -> T:
    """Read a reply. Raises RequestFailed if it is an error despite its status 200."""
    try:
        return read(content)
    except OddReply as odd:
        if odd.status is None:
            raise
        raise RequestFailed(str(odd), odd.status) from None


def to_json(body: dict[str, Any]) -> bytes:
    """Return the body of a request. Escapes lone surrogates, which UTF-8 cannot encode."""
    return json.dumps(body, ensure_ascii=False).encode(errors="backslashreplace")
