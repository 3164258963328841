"""Check that the server of an `openai` engine responds, accepts the key, and serves the model."""

import os
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from factory.engines import OddReply, read_models
from factory.plan.check import Check
from factory.recipe import OpenaiEngine
from factory.texts import mask_secrets

SECONDS = 3
"""Timeout of the request to the server, in seconds."""


def check_key(engine: OpenaiEngine) -> Check:
    """Check that the environment variable for the server's API key is set."""
    if _key(engine):
        return Check("key", "ok", f"{engine.key} is set")
    return Check("key", "note", f"{engine.key} is not set (fine if the server needs no key)")


def check_server(engine: OpenaiEngine) -> Check:
    """Check that an engine's server responds and lists the engine's model.

    The message quotes an error only if its text cannot contain the API key.
    """
    address = f"{engine.base_url.rstrip('/')}/models"
    url = mask_secrets(address)
    try:
        request = Request(address)
        if key := _key(engine):
            # Unredirected, so that a server that this one redirects to does not get the key.
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with urlopen(request, timeout=SECONDS) as answer:
            served = _served(answer.read())
    except HTTPError as error:
        error.close()
        if error.code in (401, 403):
            fault = (
                f"{url} rejected the API key with HTTP status {error.code}: set another key in "
                f"{engine.key}"
            )
            return Check("server", "stop", fault)
        return Check("server", "note", f"{url} returned HTTP status {error.code}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Check("server", "stop", f"{url} cannot be reached: {reason}")
    except (ValueError, HTTPException):
        remedy = f"check engine.base_url, and check {engine.key} for line breaks"
        return Check("server", "stop", f"{url} cannot be requested: {remedy}")
    if served and engine.model not in served:
        models = ", ".join(served[:5])
        return Check("server", "note", f"{url} does not serve {engine.model}; it serves {models}")
    return Check("server", "ok", f"{url} responds")


def _key(engine: OpenaiEngine) -> str:
    """Return the API key in the engine's environment variable, or an empty string."""
    return os.environ.get(engine.key, "").strip()


def _served(body: bytes) -> list[str]:
    """Return the models that a server lists; an empty list if the response has another form."""
    try:
        return list(read_models(body))
    except OddReply:
        return []
