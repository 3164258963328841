"""Find paths in a text that name a person or a machine: home folders and local folders."""

import re
from collections.abc import Iterator, Sequence
from functools import cache

Found = tuple[str, str]
"""The kind of what was found, and the found part of the text."""

LOCAL = "local path"
"""The kind of a path on this machine. Other paths are home folders of other machines."""

_SOMEBODY = frozenset(
    "user users username user_name user-name your_username your-username yourusername yourname"
    " your_name your-name your_user youruser you me myuser myname name someone somebody nobody"
    " ubuntu debian centos fedora vagrant pi kali ec2-user opc azureuser runner jovyan codespace"
    " vscode node app appuser docker git jenkins circleci airflow postgres hadoop linuxbrew"
    " root admin administrator guest shared public default example test testuser"
    " myusername current_user currentuser".split()
)
"""Names of home folders that name no person."""

_HOME = re.compile(
    r"(?:^|(?<=[^\w.~/-])|(?<=file://)|(?<=localhost))(?:/[\w.-]{1,30}){0,3}?"
    r"/(?:home|Users)/(?:[a-z]\d?/)?([^\W\d_][\w.@-]{0,40})/[\w.~-]"
)
_WINDOWS_HOME = re.compile(
    r"\b[A-Za-z]:(?:\\+|/)(?:Users|Documents and Settings)(?:\\+|/)"
    r"([^\W\d_][\w.@ -]{0,40}?)(?:\\+|/)",
    re.IGNORECASE,
)


def places_in(text: str, folders: Sequence[str]) -> Iterator[Found]:
    """Yield the local folders and the home folders of people that a text names.

    `folders` are absolute paths on this machine.
    """
    for folder in folders:
        if folder in text and _folder_pattern(folder).search(text):
            yield LOCAL, folder
    if "/home/" in text or "/Users/" in text:
        for found in _HOME.finditer(text):
            if found[1].lower() not in _SOMEBODY:
                yield "home folder", found[0]
    if ":\\" in text or ":/" in text:
        for found in _WINDOWS_HOME.finditer(text):
            if found[1].lower() not in _SOMEBODY:
                yield "home folder", found[0]


@cache
def _folder_pattern(folder: str) -> re.Pattern[str]:
    """Return a regular expression that finds a folder, but not inside a longer name."""
    return re.compile(rf"(?:^|[^\w/.-]|file:/{{2,3}}(?:localhost)?){re.escape(folder)}(?:/|\b)")
