"""What the licences of well-known models ask of those who pass on what the models wrote.

By the name of a model's repository on the Hub, as far as it tells; no legal advice. Read from the
licences' texts as we know them and not checked against their newest versions: a card that shows a
duty says so.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LicenseTerms:
    models: str
    duty: str


_KNOWN = (
    (
        r"llama-?(3\.[1-9]|4)",
        LicenseTerms(
            "Llama 3.1 and later (Llama Community License)",
            "A model that is trained on these answers and passed on must have a name that begins "
            "with “Llama”, and “Built with Llama” must be shown beside it.",
        ),
    ),
    (
        r"llama-?[23](?![.\d])",
        LicenseTerms(
            "Llama 2 and Llama 3 (Llama Community License)",
            "These answers may not be used to improve any other large language model than Llama "
            "and what is derived from it.",
        ),
    ),
    (
        r"gemma",
        LicenseTerms(
            "Gemma (Gemma Terms of Use)",
            "A model that is trained on these answers to perform like Gemma counts as derived from "
            "it: the terms and their restrictions of use are passed on with it.",
        ),
    ),
    (
        r"\bgpt-?[345]|\bo[134]-",
        LicenseTerms(
            "OpenAI's models (OpenAI's terms)",
            "These answers may not be used to develop models that compete with OpenAI's.",
        ),
    ),
)


def license_terms(repository: str | None) -> LicenseTerms | None:
    """What a model's licence asks of its answers, by its repository's or server's name; None where
    the name says nothing."""
    if repository is None:
        return None
    for pattern, duty in _KNOWN:
        if re.search(pattern, repository, re.IGNORECASE):
            return duty
    return None
