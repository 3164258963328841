"""License terms that apply to datasets of answers from well-known models.

The name of a model's repository on the Hub identifies the model. The terms summarize the license
texts as we know them. They are not checked against the newest versions and are not legal advice.
The card says so.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LicenseTerms:
    """The license terms of a model family."""

    models: str
    """Names of the models, with the name of their license."""
    terms: str
    """Duties of anyone who uses or shares the models' answers, in full sentences."""


_KNOWN = (
    (
        r"llama-?(3\.[1-9]|4)",
        LicenseTerms(
            "Llama 3.1 and later (Llama Community License)",
            "If you distribute a model that was trained on these answers, its name must begin with "
            "“Llama”, and you must display “Built with Llama” prominently.",
        ),
    ),
    (
        r"llama-?[23](?![.\d])",
        LicenseTerms(
            "Llama 2 and Llama 3 (Llama Community License)",
            "You may not use these answers to improve any large language model other than Llama "
            "and its derivatives.",
        ),
    ),
    (
        r"gemma",
        LicenseTerms(
            "Gemma (Gemma Terms of Use)",
            "A model that is trained on these answers to perform similarly to Gemma is a "
            "derivative of Gemma. If you distribute it, you must pass on the terms and their use "
            "restrictions.",
        ),
    ),
    (
        r"\bgpt-?[345]|\bo[134]-",
        LicenseTerms(
            "OpenAI's models (OpenAI's terms)",
            "You may not use these answers to develop models that compete with OpenAI's.",
        ),
    ),
)


def license_terms(repository: str | None) -> LicenseTerms | None:
    """Return the license terms of a model, or None if the model is not known.

    `repository` is the name of its repository on the Hub, or its name on a server.
    """
    if repository is None:
        return None
    for pattern, terms in _KNOWN:
        if re.search(pattern, repository, re.IGNORECASE):
            return terms
    return None
