"""Read what the environment says about a connection to a server, and check it before any work.

The variables are those that the openai package and httpx read: the API key, `HTTP_PROXY`,
`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, and `SSL_CERT_DIR`.
"""

import os
import ssl
import urllib.request
from urllib.parse import urlsplit

from factory.errors import RecipeError
from factory.recipe import OpenaiEngine
from factory.texts import mask_secrets

HEADERS = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
"""Headers whose values are in environment variables, if these are set."""


def api_key(settings: OpenaiEngine) -> str:
    """Return the API key in the engine's environment variable, or an empty string."""
    return os.environ.get(settings.key, "").strip()


def proxy_of(url: str) -> str | None:
    """Return the proxy for a URL from the environment, or None."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def tls_context() -> ssl.SSLContext:
    """Return the settings for HTTPS: certificates of this machine, or of the environment."""
    import httpx2

    return httpx2.create_ssl_context()


def check_environment(settings: OpenaiEngine, field: str) -> None:
    """Check the environment variables that a connection to a server reads. Raises RecipeError.

    `field` is the recipe section of the settings, such as `engine` or `judge.engine`.
    """
    for variable in (settings.key, *HEADERS.values()):
        value = os.environ.get(variable, "").strip()
        if wrong := [char for char in value if not " " <= char <= "~"]:
            raise RecipeError(
                f"{field}.key",
                f"the environment variable {variable} contains {wrong[0]!a}, which an HTTP header "
                "cannot contain",
                f"set {variable} to the key alone, without line breaks or other characters",
            )
    _check_proxy(settings.base_url, field)
    if settings.base_url.startswith("https:"):
        _check_certificates(field)


def _check_proxy(url: str, field: str) -> None:
    proxy = proxy_of(url)
    if proxy is None:
        return
    scheme = urlsplit(url).scheme
    names = (f"{scheme}_proxy", "all_proxy")
    set_ = [name for name in os.environ if name.lower() in names and os.environ[name]]
    variable = min(set_, key=lambda name: names.index(name.lower()), default="the system's proxy")
    try:
        parts = urlsplit(proxy)
        is_valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.scheme not in ("http", "https"):
        raise RecipeError(
            f"{field}.base_url",
            f"{variable} is {mask_secrets(proxy)}, but the openai engine supports only HTTP "
            "proxies",
            f"set {variable} to a URL such as http://proxy:3128, or set NO_PROXY to the server's "
            "host to connect without a proxy",
        )


def _check_certificates(field: str) -> None:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if not (path := os.environ.get(variable)):
            continue
        try:
            if variable == "SSL_CERT_FILE":
                ssl.create_default_context(cafile=path)
            else:
                os.listdir(path)  # noqa: PTH208
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise RecipeError(
                f"{field}.base_url",
                f"{variable} is {path}, which contains no certificates ({reason})",
                f"set {variable} to certificates in PEM format, or unset it",
            ) from None
        return
