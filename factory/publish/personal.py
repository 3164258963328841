"""Find personal data in a text: e-mail addresses, telephone, bank, card, and identity numbers.

The numbers are checked with phonenumbers and python-stdnum, which know the formats and check digits
of each country. Names, postal addresses, and dates have no fixed format and are not found.
"""

import importlib
import ipaddress
import itertools
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from factory.publish.identities import IDENTITIES

Found = tuple[str, str]
"""The kind of what was found, and the found part of the text."""


def personal_in(text: str) -> Iterator[Found]:
    """Yield the kind and the text of each piece of personal data in a text."""
    yield from emails_in(text)
    lower = text.lower()
    if " at " in lower or any(mark in lower for mark in ("at]", "at)", "at}", "at>")):
        yield from _spelled_emails(text)
    if _HAS_NUMBER.search(text):
        yield from _numbers(text, lower)
    if "<<" in text:
        yield from (("passport", found[0]) for found in _PASSPORT.finditer(text))
    if "::" in text or text.count(":") >= 7:
        yield from _addresses(_IPV6, text)


_HAS_NUMBER = re.compile(r"\d[^\n]{0,16}\d[^\n]{0,16}\d[^\n]{0,16}\d")

# e-mail

_EMAIL = re.compile(
    r"(?<![\w.+%-])(?:[^\W_][\w.+%'’&=!#$*/?^{|}~-]{0,63}|\"[^\"\n]{1,60}\")"
    r"@(?:\[\d{1,3}(?:\.\d{1,3}){3}\]|(?:[^\W_](?:[\w-]{0,61}[^\W_])?[.。])+"
    r"(?:xn--[A-Za-z0-9-]+|[^\W\d_]{2,24}))(?![\w(])"
)
_SPACED_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9][\w.+%-]{0,63}\s?@\s?[A-Za-z0-9-]{2,63}(?:\s?\.\s?[A-Za-z0-9-]+)*"
    r"\s?\.\s?(?:com|org|net|edu|gov|io|co|de|fr|uk|info|me|ru|cn|in|es|it|nl|br|jp)\b"
)
_SPELLED_EMAIL = re.compile(
    r"\b[A-Za-z0-9][\w.+-]{1,63}\s*(?:[\[({<]\s*(?:at|@)\s*[\])}>]|\s(?:at|AT)\s)\s*"
    r"[A-Za-z0-9-]{2,63}(?:\s*[\[({<]\s*(?:dot|\.)\s*[\])}>]\s*|\s+(?:dot|DOT)\s+|(?<=\w)\.(?=\w))"
    r"(?:[A-Za-z0-9-]{2,63}(?:\s*[\[({<]\s*(?:dot|\.)\s*[\])}>]\s*|\s+(?:dot|DOT)\s+|\.))*"
    r"[A-Za-z]{2,6}\b",
    re.IGNORECASE,
)
_FILES = {"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "html", "json", "ts", "md"}


def emails_in(text: str) -> Iterator[Found]:
    """Yield each e-mail address in a text."""
    if "@" not in text:
        return
    for pattern in (_EMAIL, _SPACED_EMAIL):
        for found in pattern.finditer(text):
            address = found[0]
            if "://" in text[max(0, found.start() - 80) : found.start()].rpartition(" ")[2]:
                continue  # the host behind a name or a password
            if address.rpartition(".")[2].lower() not in _FILES and not address.startswith("git@"):
                yield "e-mail address", address


def _spelled_emails(text: str) -> Iterator[Found]:
    for found in _SPELLED_EMAIL.finditer(text):
        is_marked = re.search(r"[\[({<]|\s(?:dot)\s", found[0], re.IGNORECASE)
        if is_marked:
            yield "e-mail address", found[0]


# numbers

_PHONE_WORDS = re.compile(
    r"\b(?:tele?(?:phone|fax)?s?|phones?|mobile|cell(?:phone)?|call|fax|whatsapp|sms|text me|dial"
    r"|contact|reach|ring|hotline|handy|mobil|telefon\w*|téléphone|teléfono|móvil|celular|portable"
    r"|cellulare|numéro|tlf|tfno|gsm|hp|nomor|số)\b"
    r"|电话|手机|联系|電話|携帯|手機|聯絡|전화|핸드폰|연락|телефон|тел\.|звон|फ़?ोन|मोबाइल|هاتف|جوال|☎|📞|📱",
    re.IGNORECASE,
)
_PHONE = re.compile(
    r"(?<![\w.,/:=$€£#+-])(?:\+|\(\+?|tel:\+?)?\d(?:[ .()/‐-]{0,3}\d){6,16}(?![\w])(?![.,]\d)"
)
_NANP = re.compile(r"(?:\+?1[ .-]{1,2})?\(?([2-9]\d\d)(?:\) ?|[ .-]{1,2})\d{3}[ .-]\d{4}")
_NO_PERSON = {"800", "833", "844", "855", "866", "877", "888", "900"}
"""Toll-free and premium area codes of North America."""
_DATE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})(?:[ -/]+\d{1,4})*"
)
_CHINESE_MOBILE = re.compile(r"1[3-9]\d(?:[ -]?\d{4}){2}")
_REGIONS = (
    "US GB FR DE IN CN JP BR AU IT ES NL BE CH AT SE NO DK FI PL CZ PT IE GR TR RU UA IL ZA NG KE"
    " EG SA AE PK BD ID MY PH VN TH KR HK TW SG NZ MX AR CL CO PE MA DZ RO HU BG HR RS SK SI LT LV"
    " EE IR"
).split()
"""Regions whose national numbers are recognized. Numbers with a country code are recognized for
all countries."""


def _numbers(text: str, lower: str) -> Iterator[Found]:
    yield from _phones(text)
    yield from _cards(text)
    yield from _ibans(text)
    yield from _identities(text, lower)
    if text.count(".") >= 3:
        yield from _addresses(_IPV4, text)


def _phones(text: str) -> Iterator[Found]:
    for found in _PHONE.finditer(text):
        number = found[0].strip()
        has_word = _PHONE_WORDS.search(text, max(0, found.start() - 40), found.start()) is not None
        if _is_phone(number, has_word):
            yield "telephone number", number


def _is_phone(number: str, has_word: bool) -> bool:
    digits = re.sub(r"\D", "", number)
    groups = re.findall(r"\d+", number)
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 3 or digits in _COUNTING:
        return False
    if "+" in number or number.startswith(("tel:", "00", "011")):
        international = digits.removeprefix("011") if digits[:3] == "011" else digits.lstrip("0")
        if _is_valid(f"+{international}", None):
            return True
        if "+" in number:
            return (len(groups) > 1 or has_word) and _is_valid(f"+{digits}", None, fictional=True)
    if found := _NANP.fullmatch(number):
        return found[1] not in _NO_PERSON
    if _DATE.fullmatch(number) or len(groups) > 6:
        return False
    if not has_word and (_is_book(digits, groups) or _is_sequence([int(each) for each in groups])):
        return False
    if _CHINESE_MOBILE.fullmatch(number):
        return _is_valid(number, "CN")
    is_separated = len(groups) > 1 and all(len(group) > 1 for group in groups[1:])
    if number.startswith(("0", "(0")):
        is_mobile = len(groups) == 1 and len(digits) in (10, 11) and digits[1] in "1456789"
        if not (is_separated or is_mobile or has_word) or re.match(r"0[.\s]0|00", number):
            return False
        return any(_is_valid(number, region, mobile=not is_separated) for region in _REGIONS)
    if "(" in number and ")" in number and is_separated and len(digits) >= 9:
        return any(_is_valid(number, region) for region in _REGIONS)
    return has_word and len(digits) >= 8 and any(_is_valid(number, region) for region in _REGIONS)


_COUNTING = {
    "1234567890",
    "0123456789",
    "12345678",
    "123456789",
    "1234567",
    "9876543210",
    "87654321",
}


def _is_sequence(values: list[int]) -> bool:
    steps = {after - before for before, after in itertools.pairwise(values)}
    return len(values) >= 4 and len(steps) == 1


def _is_book(digits: str, groups: list[str]) -> bool:
    has_form = len(digits) in (10, 13) and (len(groups) == 1 or len(groups[-1]) == 1)
    return has_form and bool(_module("isbn").is_valid(digits))


@cache
def _is_valid(
    number: str, region: str | None, mobile: bool = False, fictional: bool = False
) -> bool:
    """Return whether a number can be a person's: toll-free and premium numbers cannot.

    A fictional number has a country code and a possible length, but its digits are not in use.
    """
    import phonenumbers
    from phonenumbers import PhoneNumberType as Type

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    if fictional:
        return bool(phonenumbers.is_possible_number(parsed)) and not str(
            parsed.national_number
        ).startswith(("800", "900"))
    if not phonenumbers.is_valid_number(parsed):
        return False
    kind = phonenumbers.number_type(parsed)
    if mobile:
        return bool(kind == Type.MOBILE)
    return kind not in (
        Type.TOLL_FREE,
        Type.PREMIUM_RATE,
        Type.SHARED_COST,
        Type.UAN,
        Type.VOICEMAIL,
    )


_CARD = re.compile(r"(?<![\w.,-])\d(?:[ .-]?\d){11,18}(?![\w-])(?![.,]\d)")
_BRANDS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720|220[0-4])\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11,16}|(?:6011|64[4-9]\d|65\d\d)\d{12,15}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|(?:50|5[6-9]|6[0-9])\d{10,17}"
)
"""The first digits and lengths of the cards of the large networks."""


def _cards(text: str) -> Iterator[Found]:
    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if _BRANDS.fullmatch(digits) and len(set(digits)) > 1 and _module("luhn").is_valid(digits):
            yield "card number", found[0]


_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[ -]?\d{2}(?:[ .-]?[A-Za-z0-9]){11,30}")


def _ibans(text: str) -> Iterator[Found]:
    for found in _IBAN.finditer(text):
        number = re.sub(r"[^A-Za-z0-9]", "", found[0]).upper()
        iban = _module("iban")
        if any(
            iban.is_valid(number[:size], check_country=False)
            for size in range(15, min(len(number), 34) + 1)
        ):
            yield "IBAN", found[0]


def _identities(text: str, lower: str) -> Iterator[Found]:
    for each in IDENTITIES:
        if not each.words or any(word in lower for word in each.words):
            for found in each.pattern.finditer(text):
                if not each.module or _is_identity(each.module, found[1]):
                    yield each.kind, found[1]


def _is_identity(module: str, number: str) -> bool:
    is_varied = not number.isalnum() or len(set(number)) > 3
    return is_varied and bool(_module(module).is_valid(number))


@cache
def _module(name: str) -> Any:
    """Return a module of python-stdnum."""
    return importlib.import_module(f"stdnum.{name}")


_PASSPORT = re.compile(r"\b[PIACV][A-Z<][A-Z<]{3}[A-Z0-9<]{25,39}")
"""The first line of the machine-readable zone of a passport or an identity card."""

# addresses on the internet

_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4}){1,6}(?![\w:.])")


def _addresses(pattern: re.Pattern[str], text: str) -> Iterator[Found]:
    for found in pattern.finditer(text):
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            continue
        # Version numbers have the same form, with small parts.
        is_version = address.version == 4 and sum(part > 31 for part in address.packed) < 2
        if address.is_global and not is_version:
            yield "IP address", found[0]
