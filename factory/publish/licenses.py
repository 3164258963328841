"""What the licenses of well-known models ask of those who pass on the models' answers.

A model is known by the name of its repository on the Hub. The terms were written from the texts of
the licenses as we know them, not checked against their newest versions, and are no legal advice; a
card that shows terms says so.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LicenseTerms:
    models: str
    """The models, by name and license."""
    terms: str
    """What the license asks of those who pass on the models' answers."""


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
    """Return the terms of a model's license, by the name of its repository or on its server; None
    where the name is not known."""
    if repository is None:
        return None
    for pattern, terms in _KNOWN:
        if re.search(pattern, repository, re.IGNORECASE):
            return terms
    return None
