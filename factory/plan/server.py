"""Whether the server of an `openai` engine answers, takes the key, and serves the model."""

import json
import os
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from factory.plan.check import Check
from factory.recipe import OpenaiEngine

SECONDS = 3
"""Timeout of the request to the server."""


def check_key(engine: OpenaiEngine) -> Check:
    """Check that the key's environment variable is set."""
    if _key(engine):
        return Check("key", "ok", f"{engine.key} is set")
    return Check("key", "note", f"{engine.key} is not set (fine if the server needs no key)")


def check_server(engine: OpenaiEngine) -> Check:
    """Ask the server for its models. Shows an error's own words only if they cannot contain the
    key."""
    url = f"{engine.base_url.rstrip('/')}/models"
    try:
        request = Request(url)
        if key := _key(engine):
            # Unredirected: a server that this one redirects to must not get the key.
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with urlopen(request, timeout=SECONDS) as answer:
            served = _served(answer.read())
    except HTTPError as error:
        error.close()
        if error.code in (401, 403):
            fault = f"{url} answers {error.code}: it wants another key in {engine.key}"
            return Check("server", "stop", fault)
        return Check("server", "note", f"{url} answers {error.code}")
    except OSError as error:
        return Check("server", "stop", f"{url} gives no answer: {getattr(error, 'reason', error)}")
    except (ValueError, HTTPException):
        remedy = f"check engine.base_url, and {engine.key} for line breaks"
        return Check("server", "stop", f"{url} cannot be requested: {remedy}")
    if served and engine.model not in served:
        models = ", ".join(served[:5])
        return Check("server", "note", f"{url} does not list {engine.model}; it has {models}")
    return Check("server", "ok", f"{url} answers")


def _key(engine: OpenaiEngine) -> str:
    return os.environ.get(engine.key, "").strip()


def _served(body: bytes) -> list[str]:
    """Return the models that a server lists; none if it answers something else."""
    try:
        return [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        return []
