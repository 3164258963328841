"""Formats of identity numbers and of other numbers of a person."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """A kind of number that identifies a person."""

    kind: str
    pattern: re.Pattern[str]
    """Its first group is the number."""
    module: str
    """The module of python-stdnum that checks the number, or empty."""
    words: tuple[str, ...]
    """Lowercase literals, of which a text with such a number contains at least one, or empty."""


def _alone(kind: str, module: str, form: str) -> Identity:
    """Return a number whose letters, separators, or check digits make it recognizable anywhere."""
    return Identity(kind, re.compile(rf"(?<![\w.,+-])({form})(?![\w-])(?![.,]\d)"), module, ())


def _named(kind: str, module: str, form: str, words: str, before: str = "") -> Identity:
    """Return a number that is recognized only after one of `words`, or after a match of the
    regular expression `before`, which contains one of `words`."""
    literals = tuple(words.split())
    named = before or r"\b(?:" + "|".join(literals) + r")\w*"
    pattern = rf"(?i:{named})[^\n\d]{{0,24}}?(?<![\w.+])({form})(?![\w-])(?![.,]\d)"
    return Identity(kind, re.compile(pattern), module, literals)


_NIR = r"[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d"
_NINO = r"(?:QQ|[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z])(?: ?\d\d){3} ?[A-D]"
_LICENSE = r"driver'?s?['’]? licen[cs]e(?: (?:number|no\.?|#))?|führerschein\w*"
_PASSPORT = r"passport(?: (?:number|no\.?|#))?|passeport\w*|reisepass\w*|pasaporte|护照号?码?"
_NATIONAL = r"national (?:id|identity|identification)(?: (?:card|number|no\.?))*|personalausweis\w*"
_ACCOUNT = r"\b(?:account|acct|routing|konto)(?: ?(?:number|no\.?|nr\.?|#)|nummer)"
_BIRTH = r"\bdob\b|date of birth|birth ?date|geburtsdatum|date de naissance"

IDENTITIES = (
    _alone("US social security number", "", r"(?!000|666)\d{3}[-‐]\d{2}[-‐]\d{4}"),
    _alone("Italian tax code", "it.codicefiscale", r"(?i:[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z])"),
    _alone("Mexican CURP", "mx.curp", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d"),
    _alone("Finnish personal code", "fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Z]"),
    _alone("Spanish DNI", "es.dni", r"\d{2}\.?\d{3}\.?\d{3}-?[A-Z]"),
    _alone("Spanish NIE", "es.nie", r"[XYZ]-?\d{7}-?[A-Z]"),
    _alone("Brazilian CPF", "br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d"),
    _alone("Swiss AHV number", "ch.ssn", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d"),
    _alone("Chinese identity number", "cn.ric", r"\d{17}[\dXx]"),
    _alone("Korean resident number", "kr.rrn", r"\d{6}-\d{7}"),
    _alone("French social security number", "fr.nir", _NIR),
    _alone("Swedish personal number", "se.personnummer", r"(?:19|20)?\d{6}[-+]\d{4}"),
    _alone("Belgian national number", "be.nn", r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d"),
    _alone("Chilean RUT", "cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]"),
    _alone("Pakistani CNIC", "pk.cnic", r"\d{5}-\d{7}-\d"),
    _alone("Malaysian NRIC", "my.nric", r"\d{6}-\d{2}-\d{4}"),
    _alone("Indian Aadhaar number", "in_.aadhaar", r"[2-9]\d{3}[ -]\d{4}[ -]\d{4}"),
    _alone("Indian PAN", "in_.pan", r"[A-Z]{5}\d{4}[A-Z]"),
    _alone("Irish PPS number", "ie.pps", r"\d{7}[A-W][A-IW]?"),
    _alone("Canadian SIN", "ca.sin", r"\d{3}-\d{3}-\d{3}"),
    _alone("UK national insurance number", "", _NINO),
    _named("Canadian SIN", "ca.sin", r"\d{3} ?\d{3} ?\d{3}", "sin social"),
    _named("Polish PESEL", "pl.pesel", r"\d{11}", "pesel"),
    _named("UK NHS number", "gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "nhs"),
    _named("Singaporean NRIC", "", r"[STFG]\d{7}[A-Z]", "nric fin singapore identi"),
    _named("Romanian CNP", "ro.cnp", r"[1-8]\d{12}", "cnp"),
    _named("Turkish identity number", "tr.tckimlik", r"[1-9]\d{10}", "kimlik tckn tc turkish"),
    _named("German tax number", "de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", "steuer idnr tax tin"),
    _named("Dutch BSN", "nl.bsn", r"\d{9}|\d{4}\.\d{2}\.\d{3}", "bsn burgerservice sofi"),
    _named("Danish CPR number", "dk.cpr", r"\d{6}-?\d{4}", "cpr"),
    _named("Norwegian number", "no.fodselsnummer", r"\d{6} ?\d{5}", "fødsels fodsels personnummer"),
    _named("Australian TFN", "au.tfn", r"\d{3} ?\d{3} ?\d{2,3}", "tfn tax"),
    _named("Austrian insurance number", "at.vnr", r"\d{4} ?\d{6}", "svnr sozialversicherung vsnr"),
    _named("South African identity number", "za.idnr", r"\d{13}", "id identi"),
    _named("Israeli identity number", "il.idnr", r"\d{9}", "teudat zehut id"),
    _named("Croatian OIB", "hr.oib", r"\d{11}", "oib"),
    _named("Brazilian CPF", "br.cpf", r"\d{11}", "cpf"),
    _named("Portuguese NIF", "pt.nif", r"\d{3} ?\d{3} ?\d{3}", "nif contribuinte"),
    _named("Thai identity number", "th.pin", r"\d-?\d{4}-?\d{5}-?\d\d-?\d", "thai citizen identi"),
    _named("US taxpayer number", "us.itin", r"9\d\d[- ]?\d\d[- ]?\d{4}", "itin taxpayer"),
    _named("US social security number", "", r"(?!000|666)\d{3} ?\d{2} ?\d{4}", "ssn social"),
    _named("passport number", "", r"(?=[A-Z]*\d)[A-Z0-9]{6,9}", "pass pasaporte 护照", _PASSPORT),
    _named("driver's license", "", r"(?=[A-Z]*\d)[A-Z\d-]{6,16}", "driver führer", _LICENSE),
    _named("identity number", "", r"[A-Z0-9]{0,3}\d{6,12}[A-Z0-9]?", "national ausweis", _NATIONAL),
    _named("bank account number", "", r"\d{7,17}", "account acct routing konto", _ACCOUNT),
    _named("date of birth", "", r"\d+[-/.]\d{1,2}[-/.]\d{1,4}", "dob birth geburt", _BIRTH),
)  # fmt: skip
"""Numbers of persons, by country."""
