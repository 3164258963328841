"""Formats of secrets that detect-secrets does not look for.

Each format has a kind, the literals of which a text with such a secret contains at least one, and a
regular expression. The literals keep the search fast: most texts contain none of them. They are
compared with the lowercase text.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A format of secrets, as its issuer documents it."""

    kind: str
    literals: tuple[str, ...]
    """Lowercase literals, of which a text with such a secret contains at least one."""
    pattern: re.Pattern[str]
    """Its first group, or else the entire match, is the secret."""
    is_token: bool = True
    """Whether the secret is a single long token, so that spaces in a text may split it."""
    needs_digit: bool = False
    """Whether the secret contains a digit, unlike ordinary words in the same format."""


def _token(kind: str, literals: str, pattern: str, needs_digit: bool = False) -> Format:
    """Return the format of a token. `literals` are separated by spaces."""
    return Format(
        kind,
        tuple(literals.split()),
        re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})"),
        True,
        needs_digit,
    )


def _phrase(kind: str, literals: str, pattern: str) -> Format:
    """Return the format of a secret with its context. `literals` are separated by `|`."""
    return Format(kind, tuple(literals.split("|")), re.compile(pattern, re.IGNORECASE), False)


TOKENS = (
    # models and machine learning
    _token("Hugging Face token", "hf_ api_org_", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    _token("OpenAI, Anthropic, or similar key", "sk-", r"sk-[A-Za-z0-9_-]{20,}", True),
    _token("OpenAI, Anthropic, or similar key", "sk-", r"sk-(?:[a-z]+-)?[A-Za-z0-9]{32,}"),
    _token("OpenAI session or admin key", "sess-", r"sess-[A-Za-z0-9]{30,}"),
    _token("Groq key", "gsk_", r"gsk_[A-Za-z0-9]{20,}"),
    _token("xAI key", "xai-", r"xai-[A-Za-z0-9_-]{30,}"),
    _token("Perplexity key", "pplx-", r"pplx-[A-Za-z0-9]{30,}"),
    _token("Replicate token", "r8_", r"r8_[A-Za-z0-9]{30,}"),
    _token("NVIDIA key", "nvapi-", r"nvapi-[\w-]{30,}"),
    _token("Fireworks key", "fw_", r"fw_[A-Za-z0-9]{20,}", True),
    _token("Together key", "tgp_v1_", r"tgp_v1_[\w-]{30,}"),
    _token("Cerebras key", "csk-", r"csk-[a-z0-9]{30,}"),
    _token("LangSmith key", "lsv2_ ls__", r"(?:lsv2_(?:pt|sk)_|ls__)[a-f0-9_]{30,}"),
    _token("Tavily key", "tvly-", r"tvly-[\w-]{20,}"),
    _token("Pinecone key", "pcsk_", r"pcsk_[\w-]{30,}"),
    _token("Jina key", "jina_", r"jina_[\w-]{40,}"),
    _token("Weights & Biases key", "wandb_v1_", r"wandb_v1_[\w-]{30,}"),
    # clouds
    _token("Google API key", "aiza", r"AIza[\w-]{30,}"),
    _token("Google OAuth secret", "gocspx-", r"GOCSPX-[\w-]{20,}"),
    _token("Google OAuth token", "ya29.", r"ya29\.[\w-]{20,}"),
    _token("Google refresh token", "1//0", r"1//0[\w-]{30,}"),
    _token("AWS key ID", "aroa aida agpa aipa anpa", r"(?:AROA|AIDA|AGPA|AIPA|ANPA)[A-Z0-9]{16}\b"),
    _token("AWS Bedrock key", "absk bedrock-api-key-", r"(?:ABSK|bedrock-api-key-)[\w+/=-]{40,}"),
    _token("Amazon MWS token", "amzn.mws.", r"amzn\.mws\.[0-9a-f-]{36}"),
    _token("Azure client secret", "q~", r"[\w~.]{3}\dQ~[\w~.-]{31,34}"),
    _token("Azure storage key", "==", r"[A-Za-z0-9+/]{86}=="),
    _token("Azure DevOps token", "azdo", r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}"),
    _token("Alibaba Cloud key", "ltai", r"LTAI[A-Za-z0-9]{12,}", True),
    _token("Tencent Cloud key", "akid", r"AKID[A-Za-z0-9]{28,}"),
    _token("Yandex key", "aqvn y0_", r"(?:AQVN[\w-]{35}|y0_[\w-]{50,})"),
    _token("DigitalOcean token", "_v1_", r"do[opr]_v1_[a-f0-9]{40,}"),
    _token("Cloudflare token", "v1.0- cfat_ cfut_", r"(?:v1\.0-[a-f0-9]{20,}|cf[au]t_)[\w-]{40,}"),
    _token("Heroku key", "hrku-", r"HRKU-[\w-]{30,}"),
    _token("Supabase key", "sbp_ sb_secret_", r"(?:sbp_[a-f0-9]{40}|sb_secret_[\w-]{20,})"),
    _token("PlanetScale token", "pscale_", r"pscale_(?:tkn|oauth|pw)_[\w.=-]{30,}"),
    _token("Vercel token", "vcp_ vci_ vca_ vcr_ vck_", r"vc[piark]_[A-Za-z0-9]{24,}"),
    _token("Netlify token", "nfp_", r"nfp_[A-Za-z0-9_]{36,}"),
    _token("Fly token", "fo1_ fm1a_ fm1r_ fm2_", r"(?:fo1|fm1[ar]|fm2)_[\w+/=-]{30,}"),
    _token("Render key", "rnd_", r"rnd_[A-Za-z0-9]{28,}"),
    _token("Tailscale key", "tskey-", r"tskey-[a-z]+-[A-Za-z0-9-]{16,}"),
    _token("Databricks token", "dapi", r"dapi[a-f0-9]{32}"),
    _token("DataStax token", "astracs:", r"AstraCS:[\w:.-]{20,}"),
    _token("Aiven token", "avns_", r"AVNS_[\w-]{16,}"),
    # code and packages
    _token("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{30,}"),
    _token("GitHub token", "github_pat_", r"github_pat_\w{40,}"),
    _token(
        "GitLab token",
        "glpat- gldt- glft- glsoat- glrt- glcbt- glimt- glptt- glagent- gloas- glffct-",
        r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas|ffct)-[\w.-]{20,}",
    ),
    _token("npm token", "npm_", r"npm_[A-Za-z0-9]{30,}"),
    _token("PyPI token", "pypi-", r"pypi-[\w-]{32,}", True),
    _token("RubyGems key", "rubygems_", r"rubygems_[a-f0-9]{32,}"),
    _token("NuGet key", "oy2", r"oy2[a-z0-9]{43}"),
    _token("crates.io token", "cio", r"cio[A-Za-z0-9]{32}\b", True),
    _token("Clojars token", "clojars_", r"CLOJARS_[a-z0-9]{40,}"),
    _token("Docker Hub token", "dckr_", r"dckr_[op]at_[\w-]{20,}"),
    _token("Artifactory token", "cmvmd", r"cmVmd[A-Za-z0-9]{50,}"),
    _token(
        "Atlassian token", "atatt3 atctt3 atbb", r"(?:AT[AC]TT3[\w=-]{30,}|ATBB[A-Za-z0-9]{24,})"
    ),
    _token("CircleCI token", "ccipat_", r"CCIPAT_\w{30,}"),
    _token("Buildkite token", "bkua_", r"bkua_[a-z0-9]{40}"),
    _token("SonarQube token", "sqp_ squ_ sqa_", r"sq[pua]_[a-f0-9]{40}"),
    _token("Postman key", "pmak-", r"PMAK-[a-f0-9]{20,}-[a-f0-9]{30,}"),
    _token("Terraform token", ".atlasv1.", r"[A-Za-z0-9]{10,}\.atlasv1\.[\w=-]{20,}"),
    _token("Vault token", "hvs. hvb. hvr.", r"hv[sbr]\.[\w-]{20,}"),
    _token("Pulumi token", "pul-", r"pul-[a-f0-9]{40}"),
    _token("Doppler token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{30,}"),
    _token(
        "1Password key", "ops_eyj a3-", r"(?:ops_eyJ[\w+/=-]{40,}|A3(?:-[A-Z0-9]{5,11}){5,6})", True
    ),
    _token("age key", "age-secret-key-", r"AGE-SECRET-KEY-1[0-9A-Z]{40,}"),
    _token("Grafana token", "glsa_ glc_", r"gl(?:sa|c)_[\w+/=-]{20,}"),
    _token("Grafana key", "eyjrijoi", r"eyJrIjoi[\w=-]{30,}"),
    _token("New Relic key", "nrak- nraa- nrra- nrii- nriq- nrbr- nrjs-", r"NR[A-Z]{2}-[\w-]{16,}"),
    _token("Sentry token", "sntrys_ sntryu_", r"sntry[su]_[\w+/=-]{30,}"),
    _token("Dynatrace token", "dt0c01.", r"dt0[a-z]\d\d\.[A-Z0-9]{20,}\.[A-Z0-9]{40,}"),
    # messages, payment, and other services
    _token(
        "Slack token", "xox xapp- xwfp-", r"(?:xox[a-z](?:\.xox[a-z])?|xapp|xwfp)-[\w-]{10,}", True
    ),
    _token("Slack webhook", "hooks.slack", r"hooks\.slack(?:-gov)?\.com/\w+/[\w/-]{10,}"),
    _token(
        "Discord webhook", "/api/webhooks/", r"discord(?:app)?\.com/api/webhooks/\d{5,}/[\w-]{20,}"
    ),
    _token("Teams webhook", "webhook.office.com", r"webhook\.office\.com/webhookb2/\S{30,}"),
    _token("Telegram token", ":aa", r"\d{8,10}:AA[\w-]{30,}"),
    _token("Twilio key", "sk ac", r"(?:SK|AC)[a-f0-9]{32}\b"),
    _token("SendGrid key", "sg.", r"SG\.[\w-]{16,32}\.[\w-]{16,64}", True),
    _token("Mailgun key", "key-", r"(?:key-[a-f0-9]{32}|[a-f0-9]{32}-[a-f0-9]{8}-[a-f0-9]{8})\b"),
    _token("Brevo key", "xkeysib- xsmtpsib-", r"x(?:key|smtp)sib-[a-f0-9]{40,}"),
    _token("Stripe key", "_live_ _test_", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _token("Stripe webhook secret", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,}"),
    _token("Square token", "sq0 eaaa", r"(?:sq0[a-z]{3}-[\w-]{20,}|EAAA[\w-]{50,})"),
    _token("Shopify token", "shp", r"shp(?:at|ca|pa|ss|tka)_[a-fA-F0-9]{32}"),
    _token("Razorpay key", "rzp_", r"rzp_(?:live|test)_[A-Za-z0-9]{12,}"),
    _token(
        "Braintree token", "access_token$", r"access_token\$(?:production|sandbox)\$[a-z0-9$]{30,}"
    ),
    _token("Plaid token", "access-", r"access-(?:sandbox|development|production)-[0-9a-f-]{36}"),
    _token("Facebook token", "eaa", r"EAA[A-Za-z0-9]{40,}", True),
    _token("Twitter token", "aaaaaaaaaaaaaaaa", r"A{20,}[A-Za-z0-9%]{40,}", True),
    _token("Mapbox token", "sk.eyj", r"sk\.eyJ[\w-]{20,}\.[\w-]{10,}"),
    _token("Dropbox token", "sl.", r"sl\.(?:u\.)?[\w-]{60,}"),
    _token("Linear key", "lin_", r"lin_(?:api|oauth)_[A-Za-z0-9]{30,}"),
    _token(
        "Notion token", "ntn_ secret_", r"(?:ntn_[A-Za-z0-9]{30,}|secret_[A-Za-z0-9]{40,})", True
    ),
    _token("Figma token", "figd_", r"figd_[\w-]{30,}"),
    _token("Airtable token", "pat", r"pat[A-Za-z0-9]{14}\.[a-f0-9]{40,}"),
    _token("Okta token", "ssws", r"SSWS\s+[\w-]{30,}"),
    _token("Typeform token", "tfp_", r"tfp_[\w.=-]{40,}"),
    _token("Contentful token", "cfpat-", r"CFPAT-[\w-]{40,}"),
    _token("Shippo token", "shippo_", r"shippo_(?:live|test)_[a-f0-9]{30,}"),
    _token("EasyPost key", "ezak eztk", r"EZ[AT]K[A-Za-z0-9]{40,}"),
    _token("Prefect key", "pnu_ pnb_", r"pn[ub]_[A-Za-z0-9]{36}"),
    _token("Bitcoin private key", "xprv", r"xprv[1-9A-HJ-NP-Za-km-z]{80,}"),
    # general
    _token("JSON web token", "eyj", r"eyJ[\w-]{8,}\.(?:eyJ)?[\w-]{10,}\.[\w.-]{6,}"),
)

PHRASES = (
    _phrase(
        "AWS secret key",
        "secret",
        r"secret[_ -]?(?:access[_ -]?)?key[\"']?\s*(?:=>|:=|=|:)\s*[\"']?"
        r"([A-Za-z0-9/+=]{40})(?![\w/+=])",
    ),
    _phrase("private key", "private key", r"BEGIN(?: [A-Z0-9]+)* PRIVATE KEY"),
    _phrase("encrypted message", "begin pgp message", r"-----BEGIN PGP MESSAGE-----"),
    _phrase("PuTTY private key", "putty-user-key", r"PuTTY-User-Key-File-\d"),
    _phrase(
        "password in an address",
        "://",
        r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>{}$]*:([^\s/@\"'<>{}$*]{2,})@[^\s/]+",
    ),
    _phrase("key in an address", "sig=", r"[?&]sig=([A-Za-z0-9%+/=_-]{30,})"),
    _phrase("shared access key", "accesskey", r"Shared(?:Access)?Key=([A-Za-z0-9+/=]{30,})"),
    _phrase("Sentry address", "sentry", r"https?://([a-f0-9]{32})(?::[a-f0-9]{32})?@\S*sentry"),
    _phrase("password of netrc", "machine", r"\bmachine\s+\S+\s+login\s+\S+\s+password\s+(\S+)"),
    _phrase(
        "password of a command",
        "curl|wget|sshpass|mysql|smbclient",
        r"\b(?:curl|wget|smbclient)\b[^\n]{0,200}\s(?:-u|-U|--user)[ =]?['\"]?[^\s:%'\"]+[:%]"
        r"([^\s'\"$<{]{4,})"
        r"|\bsshpass\s+-p\s*['\"]?([^\s'\"$<{]{4,})"
        r"|\bmysql(?:dump)?\b[^\n]{0,200}\s-p([^\s'\"$<{]{4,})",
    ),
    _phrase(
        "password of pgpass",
        ":5432:",
        r"(?m)^[\w.*-]+:5432:[\w*-]+:[\w-]+:(\S{4,})$",
    ),
    _phrase(
        "password hash",
        "$1$|$2a$|$2b$|$2y$|$5$|$6$|$y$|$apr1$|$argon2",
        r"\$(?:1|2[aby]|5|6|y|apr1|argon2id?)\$[./A-Za-z0-9$=,]{20,}",
    ),
    _phrase(
        "seed phrase",
        "seed|recovery|mnemonic",
        r"\b(?:seed|recovery|mnemonic)(?: (?:phrase|words))?\s*[:=]\s*[\"']?"
        r"((?:[a-z]{3,8}\s+){11,23}[a-z]{3,8})\b",
    ),
    _phrase("authenticator secret", "otpauth://", r"otpauth://\S*secret=([A-Z2-7]{16,})"),
    _phrase(
        "credentials of a request",
        "authorization|bearer|x-api-key",
        r"\b(?:bearer|authorization: ?(?:basic|token)|x-api-key:)\s+"
        r"((?=[^\s\"']*\d)[A-Za-z0-9_.~+/=-]{16,})",
    ),
    _phrase(
        "password",
        "pass|pwd|contraseña|mot de passe|passwort|kennwort|пароль|密码|密碼",
        r"(?:\b(?:pass(?:word|code|phrase)|pwd|passwd|passwort|kennwort|contraseña|mot de passe)"
        r"\s+(?:is|was|to|ist|es|est)\s*:?|(?:пароль|密码|密碼)\s*(?:是|为|為|[:：=])?)"
        r"\s*[\"'`]?([!-~]{6,40})",
    ),
)

ASSIGNMENT = re.compile(
    r"(?P<name>pass(?:wor[dt]|wd|phrase|code)|\bpass|pwd|secret|api[_ -]?key|credential"
    r"|(?:access|account|auth|encryption|private|signing|storage|master)[_ -]?key"
    r"|token|contraseña|\bauth)"
    r"[\w-]{0,24}[\"'\]]{0,2}\s{0,3}(?:=>|:=|={1,3}|:|,\s?[\"'])\s{0,3}[\"'`]?"
    r"(?P<value>[^\s\"'`,;)<>{}()\[\]]{6,})",
    re.IGNORECASE,
)
"""An assignment of a value to a name that sounds like a secret."""

NAMES = ("pass", "pwd", "secret", "key", "credential", "token", "contraseña", "auth")
"""Lowercase literals, of which a text with an ASSIGNMENT contains at least one."""

AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+=_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_.-])")
"""An AWS secret key, which has no prefix."""

PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]{1,15}(?:[_-][A-Za-z0-9]{1,12}){0,3}[_-]"
    r"([A-Za-z0-9]{24,})(?![A-Za-z0-9])"
)
"""A random token behind a prefix, the form that most issuers of keys use by now."""
