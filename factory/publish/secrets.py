"""Find secrets in a text, with the plugins of detect-secrets and with our own formats."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from factory.publish.patterns import (
    ASSIGNMENT,
    AWS_SECRET,
    NAMES,
    PHRASES,
    PREFIXED,
    TOKENS,
    Format,
)

Found = tuple[str, str]
"""The kind of what was found, and the found part of the text."""

_LITERALS = {
    "ArtifactoryDetector": ("akc", "ap"),
    "AWSKeyDetector": ("a3t", "abia", "acca", "akia", "asia", "aws"),
    "AzureStorageKeyDetector": ("accountkey=",),
    "BasicAuthDetector": ("://",),
    "CloudantDetector": ("cloudant", "clou", "cl_", "cl-", "clkey", "clpass", "cltoken"),
    "DiscordBotTokenDetector": (".",),
    "GitHubTokenDetector": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    "GitLabTokenDetector": ("gl", "gr1348941"),
    "IbmCloudIamDetector": ("key", "pwd", "pass", "token"),
    "IbmCosHmacDetector": ("secret",),
    "JwtTokenDetector": ("eyj",),
    "KeywordDetector": NAMES,
    "MailchimpDetector": ("-us",),
    "NpmDetector": ("_authtoken",),
    "OpenAIDetector": ("t3blbkfj",),
    "PrivateKeyDetector": ("private key", "putty-user-key"),
    "PypiTokenDetector": ("pypi-",),
    "SendGridDetector": ("sg.",),
    "SlackDetector": ("xox", "hooks.slack"),
    "SoftlayerDetector": ("softlayer", "sl_", "sl-"),
    "SquareOAuthDetector": ("sq0csp-",),
    "StripeDetector": ("k_live_",),
    "TelegramBotTokenDetector": (":",),
    "TwilioKeyDetector": ("ac", "sk"),
}
"""Lowercase literals by plugin, of which a text that the plugin reports contains at least one. A
plugin without literals looks at each text."""

_WITHOUT = {"Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector"}
"""Plugins that report ordinary hashes and encoded data, or what `personal` finds."""

_SHORT = {"BasicAuthDetector", "KeywordDetector", "PrivateKeyDetector"}
"""Plugins that report words shorter than a token."""

_LONG = 16
"""Number of characters of a word that is long enough for a token."""


@cache
def _plugins() -> list[tuple[str, tuple[str, ...], Any]]:
    """Return the plugins of detect-secrets, each with its literals."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    classes: Any = get_mapping_from_secret_type_to_class().values()
    named = {each.__name__: each for each in classes if each.__name__ not in _WITHOUT}
    return [(name, _LITERALS.get(name, ()), named[name]()) for name in sorted(named)]


def secrets_in(text: str) -> Iterator[Found]:
    """Yield the kind and the text of each secret in a text."""
    yield from tokens_in(text)
    lower = text.lower()
    for form in PHRASES:
        if any(literal in lower for literal in form.literals):
            yield from _phrases(form, text)
    if any(name in lower for name in NAMES):
        for found in ASSIGNMENT.finditer(text):
            if _is_assigned(found["name"].lower(), found["value"]):
                yield "password or key", found["value"]
    yield from _by_plugins(text, lower, are_short=True)


def tokens_in(text: str) -> Iterator[Found]:
    """Yield the kind and the text of each token in a text, without passwords."""
    long = " ".join([word for word in text.split() if len(word) >= _LONG])
    if long:
        lower = long.lower()
        for form in TOKENS:
            if any(literal in lower for literal in form.literals):
                for found in form.pattern.finditer(text):
                    if not form.needs_digit or _has_digits(found[0]):
                        yield form.kind, found[0]
        yield from _random_words(long)
        yield from _by_plugins(text, text.lower(), are_short=False)


def split_tokens_in(text: str) -> Iterator[Found]:
    """Yield the tokens that spaces split, such as `ghp_ abcd efgh`."""
    words = text.split()
    for place, word in enumerate(words):
        if ("_" in word or "-" in word) and word.lower().startswith(_PREFIXES):
            whole = "".join(words[place : place + _PARTS])
            for form in TOKENS:
                found = form.pattern.match(whole)
                if found and _is_random(found[0][:60], 3.6, 4):
                    yield form.kind, found[0]


_PREFIXES = tuple(
    literal
    for form in TOKENS
    for literal in form.literals
    if len(literal) >= 3 and literal.endswith(("_", "-"))
)
"""The prefixes of tokens, in lowercase."""

_PARTS = 12
"""Number of parts into which spaces split a token."""


def _phrases(form: Format, text: str) -> Iterator[Found]:
    for found in form.pattern.finditer(text):
        value = next(filter(None, found.groups()), found[0])
        if form.kind != "password" or _is_password(value):
            yield form.kind, value


def _by_plugins(text: str, lower: str, *, are_short: bool) -> Iterator[Found]:
    for name, literals, plugin in _plugins():
        if (name in _SHORT) != are_short:
            continue
        if literals and not any(literal in lower for literal in literals):
            continue
        # The plugin for passwords reports only the first one of a text.
        for line in text.splitlines() if name == "KeywordDetector" else [text]:
            for value in plugin.analyze_string(line):
                if _is_reported(name, value):
                    yield plugin.secret_type, value


def _is_reported(plugin: str, value: str) -> bool:
    if plugin == "KeywordDetector":
        is_phrase = len(value) >= 12 and re.search(r"[^\w\s]", value) is not None
        is_value = not _TEMPLATE.search(value) and not _CODE.search(value)
        return _is_assigned("password", value) or (is_phrase and is_value)
    if plugin == "BasicAuthDetector":
        return not re.search(r"[{}<>$*]", value)
    return plugin not in ("ArtifactoryDetector", "TwilioKeyDetector") or _has_digits(value)


def _random_words(text: str) -> Iterator[Found]:
    """Yield words that are random enough to be a key, with or without a prefix."""
    for found in AWS_SECRET.finditer(text):
        n_digits = 1 if "/" in found[0] or "+" in found[0] else 2
        if _is_random(found[0], 4.2, n_digits) and not re.search(r"/[a-z]{9}|[a-z]{14}", found[0]):
            yield "AWS secret key", found[0]
    for found in PREFIXED.finditer(text):
        if _is_random(found[1], 3.6, 2) and not _in_address(text, found.start()):
            yield "access token", found[0]


def _in_address(text: str, place: int) -> bool:
    word = re.split(r"\s", text[max(0, place - 200) : place])[-1]
    return "://" in word and "=" not in word


def _has_digits(value: str) -> bool:
    return sum(char.isdigit() for char in value) >= 2


def _is_random(value: str, entropy: float, digits: int) -> bool:
    """Return whether a value mixes digits and letters of both cases without order."""
    return (
        sum(char.isdigit() for char in value) >= digits
        and sum(char.isupper() for char in value) >= 2
        and sum(char.islower() for char in value) >= 2
        and _entropy(value) >= entropy
    )


def _entropy(value: str) -> float:
    shares = [n / len(value) for n in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)


_TEMPLATE = re.compile(r"[$%*…]|\.\.\.|x{4}|\b(?:your|my|example|placeholder|change)[_-]?", re.I)
_CODE = re.compile(r"^[A-Za-z_][\w-]*(?:\.[A-Za-z_]\w*)+|^\d+$|^[\d.:/-]+$|://|^[#@/\\]|^\w+\\")


def _is_password(value: str) -> bool:
    value = value.rstrip(".,;:!?\"'`)")
    return (
        len(value) >= 6
        and any(char.isdigit() for char in value)
        and any(char.isalpha() for char in value)
        and not _CODE.search(value)
        and not re.fullmatch(r"\w{1,5}\d?(?:-\w+)+", value)
    )


def _is_assigned(name: str, value: str) -> bool:
    """Return whether the value that was assigned to a name looks like a secret."""
    value = value.rstrip(".,;:!?")
    if _CODE.search(value):
        return False
    if name.startswith(("pass", "pwd", "contra")):
        return _is_password(value)
    has_both = _has_digits(value) and any(char.isalpha() for char in value)
    return has_both and len(value) >= 16 and not _TEMPLATE.search(value)
