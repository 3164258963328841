"""Planted secrets, personal data, and paths, and clean texts that look like them.

Secrets are built from parts, so that the scanners of code hosts do not report this file. Numbers
are the examples of the offices that issue them, or made up.
"""

import base64
import json
import random
import string

HEX = "0123456789abcdef"
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
ALL = string.ascii_letters + string.digits
URL = ALL + "_-"


def tail(n, alphabet=ALL):
    """A random string that is the same in each run, with a digit and, if possible, both cases."""
    draw = random.Random(f"{n}{alphabet}")
    return "".join(draw.choice(alphabet) for _ in range(n - 4)) + (
        "7f3a" if alphabet in (HEX, LOWER) else "7K3Q" if alphabet == UPPER else "7Kq3"
    )


def token(*parts, n=36, alphabet=ALL):
    return "".join(parts) + tail(n, alphabet)


def _segment(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


GITHUB = token("gh", "p_")
HUGGING_FACE = token("h", "f_", n=34)
AWS_ID = token("AK", "IA", n=16, alphabet=UPPER)
AWS = tail(18) + "/" + tail(21)
JWT = f"{_segment({'alg': 'HS256'})}.{_segment({'sub': '1234'})}.{tail(43, URL)}"
PEM = "-----BEGIN {} KEY-----"
UUID = "-".join(tail(n + 4, HEX)[4:] for n in (8, 4, 4, 4, 12))
PASSWORD = "hun" + "ter2!x"

SECRETS = {
    # tokens of issuers
    "AWS key ID": AWS_ID,
    "AWS temporary key ID": token("AS", "IA", n=16, alphabet=UPPER),
    "AWS role ID": token("AR", "OA", n=16, alphabet=UPPER),
    "AWS secret key, assigned": f"aws_secret_access_key = {AWS}",
    "AWS secret key, exported": f"export AWS_SECRET_ACCESS_KEY={AWS}",
    "AWS secret key, JSON": json.dumps({"SecretAccessKey": AWS}),
    "AWS secret key, alone": AWS,
    "AWS session token": f"aws_session_token={tail(200)}",
    "Azure storage": f"AccountName=x;AccountKey={tail(86)}==;EndpointSuffix=core.windows.net",
    "Azure storage, alone": f"{tail(86)}==",
    "Azure service bus": f"Endpoint=sb://x/;SharedAccessKeyName=R;SharedAccessKey={tail(43)}=",
    "Azure client secret": "aB3" + "8Q~" + tail(34),
    "Azure SAS": f"https://x.blob.core.windows.net/a?sv=2022-11-02&sig={tail(43)}%3D",
    "Google API key": token("AI", "za", n=35, alphabet=URL),
    "Google OAuth secret": token("GOC", "SPX-", n=28, alphabet=URL),
    "Google OAuth token": token("ya", "29.", n=60, alphabet=URL),
    "Google refresh token": token("1/", "/0", n=60, alphabet=URL),
    "Alibaba": token("LT", "AI", n=20),
    "DigitalOcean": token("do", "p_v1_", n=64, alphabet=HEX),
    "Cloudflare": f"CLOUDFLARE_API_TOKEN={tail(40, URL)}",
    "Heroku": "HEROKU_API_KEY=" + UUID,
    "Supabase": token("sb", "p_", n=40, alphabet=HEX),
    "Vercel": token("vc", "p_", n=40),
    "Netlify": token("nf", "p_", n=36),
    "Tailscale": token("ts", "key-auth-", n=32),
    "Databricks": token("da", "pi", n=32, alphabet=HEX),
    "PlanetScale": token("psc", "ale_pw_", n=43),
    "GitHub": GITHUB,
    "GitHub OAuth": token("gh", "o_"),
    "GitHub server": token("gh", "s_"),
    "GitHub fine-grained": token("github", "_pat_", n=82),
    "GitLab": token("gl", "pat-", n=20),
    "GitLab deploy": token("gl", "dt-", n=20),
    "npm": token("np", "m_"),
    "npmrc": "//registry.npmjs.org/:_auth" + "Token=" + UUID,
    "PyPI": token("py", "pi-AgEIcHlwaS5vcmc", n=120, alphabet=URL),
    "PyPI, short": token("py", "pi-", n=40, alphabet=URL),
    "RubyGems": token("ruby", "gems_", n=48, alphabet=HEX),
    "NuGet": token("o", "y2", n=43, alphabet=LOWER),
    "Docker Hub": token("dck", "r_pat_", n=27, alphabet=URL),
    "Terraform": f"{tail(14)}.atlas" + f"v1.{tail(60)}",
    "Vault": token("hv", "s.", n=90),
    "Doppler": token("dp", ".pt.", n=43),
    "Pulumi": token("pu", "l-", n=40, alphabet=HEX),
    "Grafana": token("gl", "sa_", n=41),
    "New Relic": token("NR", "AK-", n=27, alphabet=UPPER),
    "Sentry": token("snt", "rys_", n=60),
    "Postman": token("PM", "AK-", n=24, alphabet=HEX) + "-" + tail(34, HEX),
    "Atlassian": token("ATA", "TT3", n=180, alphabet=URL),
    # models
    "Hugging Face": HUGGING_FACE,
    "Hugging Face organization": token("api", "_org_", n=34),
    "OpenAI": token("s", "k-", n=48),
    "OpenAI project": token("s", "k-proj-", n=120, alphabet=URL),
    "Anthropic": token("s", "k-ant-api03-", n=95, alphabet=URL),
    "OpenRouter": token("s", "k-or-v1-", n=64, alphabet=HEX),
    "Groq": token("gs", "k_", n=52),
    "xAI": token("xa", "i-", n=80),
    "Perplexity": token("pp", "lx-", n=48),
    "Replicate": token("r", "8_", n=37),
    "NVIDIA": token("nv", "api-", n=64, alphabet=URL),
    "Pinecone": token("pc", "sk_", n=60),
    "Weights & Biases": f"WANDB_API_KEY={tail(40, HEX)}",
    "Cohere": f"CO_API_KEY={tail(40)}",
    "Mistral": f"MISTRAL_API_KEY: {tail(32)}",
    "LangSmith": token("ls", "v2_pt_", n=42, alphabet=HEX),
    "a new issuer": token("newco", "_live_", n=40),
    # services
    "Slack bot": token("xo", "xb-1234567890-", n=24),
    "Slack app": token("xa", "pp-1-A1B2C3D4-", n=40, alphabet=LOWER),
    "Slack webhook": "https://hooks.sla" + "ck.com/services/T0001AAAA/B0001AAAA/" + tail(24),
    "Discord bot": token("M", "T", n=24) + "." + tail(6) + "." + tail(27),
    "Discord webhook": "https://discord.com/api/web" + "hooks/123456789012345678/" + tail(68),
    "Teams webhook": "https://x.webhook.of" + "fice.com/webhookb2/" + tail(60),
    "Telegram": "123456789:" + "AA" + tail(33),
    "Twilio": token("S", "K", n=32, alphabet=HEX),
    "SendGrid": "S" + f"G.{tail(22)}.{tail(43)}",
    "Mailgun": token("ke", "y-", n=32, alphabet=HEX),
    "Mailchimp": tail(32, HEX) + "-us" + "12",
    "Brevo": token("xkey", "sib-", n=64, alphabet=HEX),
    "Stripe": token("sk", "_live_", n=24),
    "Stripe test": token("sk", "_test_", n=24),
    "Stripe webhook": token("wh", "sec_", n=32),
    "Square": token("sq0", "csp-", n=43, alphabet=URL),
    "Shopify": token("sh", "pat_", n=32, alphabet=HEX),
    "Razorpay": token("rz", "p_live_", n=14),
    "Facebook": token("EA", "A", n=120),
    "Notion": token("nt", "n_", n=46),
    "Linear": token("li", "n_api_", n=40),
    "Figma": token("fi", "gd_", n=40, alphabet=URL),
    "Airtable": token("pa", "t", n=14) + "." + tail(64, HEX),
    "Datadog": f"DD_API_KEY={tail(32, HEX)}",
    "JSON web token": JWT,
    # keys
    "RSA key": PEM.format("RSA PRIVATE"),
    "EC key": PEM.format("EC PRIVATE"),
    "OpenSSH key": PEM.format("OPENSSH PRIVATE"),
    "encrypted key": PEM.format("ENCRYPTED PRIVATE"),
    "PGP block": PEM.format("PGP PRIVATE").replace("KEY-", "KEY BLOCK-"),
    "PGP message": "-----BEGIN PGP " + "MESSAGE-----",
    "PuTTY key": "PuTTY-User-" + "Key-File-3: ssh-ed25519",
    "age key": token("AGE-SECRET", "-KEY-1", n=58, alphabet=UPPER),
    "WireGuard key": f"PrivateKey = {tail(43)}=",
    "seed phrase": "seed phrase: " + " ".join(["apple river stone cloud"] * 3),
    # passwords
    "password, Postgres": f"postgres://somebody:{PASSWORD}@db.internal/x",
    "password, Redis without a name": f"redis://:{PASSWORD}@cache.internal:6379/0",
    "password, MongoDB": f"mongodb+srv://admin:{PASSWORD}@c0.abcde.mongodb.net/",
    "password, Git": f"https://oauth2:{PASSWORD}@git.internal/a.git",
    "password, AMQP": f"amqps://app:{PASSWORD}@queue.internal/vhost",
    "password, JDBC": f"jdbc:mysql://db/x?user=app&password={PASSWORD}",
    "password, ADO": f"Server=db;Database=x;User Id=sa;Password={PASSWORD};",
    "password, code": f'password = "{PASSWORD}"',
    "password, words": "PASSWORD = 'correct-horse-" + "battery'",
    "password, YAML": f"db_password: {PASSWORD}",
    "password, environment": f"POSTGRES_PASSWORD={PASSWORD}",
    "password, sentence": f"My password is {PASSWORD}, keep it safe",
    "password, curl": f"curl -u admin:{PASSWORD} https://api.internal/v1",
    "password, mysql": f"mysql -u root -p{PASSWORD} shop",
    "password, sshpass": f"sshpass -p {PASSWORD} ssh host",
    "password, netrc": f"machine api.internal login me password {PASSWORD}",
    "password, htpasswd": "admin:$ap" + f"r1${tail(8)}${tail(22)}",
    "password, shadow": "root:$" + f"6${tail(16)}${tail(86)}:19000:0:99999:7:::",
    "bearer": f"Authorization: Bearer {tail(40)}",
    "basic": "Authorization: Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode(),
    "x-api-key": f"x-api-key: {tail(32)}",
    "api_key in an address": f"https://api.internal/v1?api_key={tail(32)}",
    "client secret": f'"client_secret": "{tail(32)}"',
    "authenticator": f"otpauth://totp/x?secret={'JBSWY3DP' * 2}&issuer=y",
    # hidden
    "zero-width space": GITHUB[:9] + "\u200b" + GITHUB[9:],
    "zero-width joiners": "\u200d".join(HUGGING_FACE),
    "soft hyphens": HUGGING_FACE[:12] + "\u00ad" + HUGGING_FACE[12:],
    "word joiner in the prefix": GITHUB[:2] + "\u2060" + GITHUB[2:],
    "right-to-left mark": AWS_ID[:3] + "\u200f" + AWS_ID[3:],
    "variation selectors": GITHUB[:8] + "\ufe0f" + GITHUB[8:],
    "Cyrillic letters": AWS_ID.replace("A", "А"),
    "Greek letters": "h" + "f_" + HUGGING_FACE[3:].replace("o", "ο").replace("A", "Α"),
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in GITHUB),
    "mathematical letters": "".join(
        chr(0x1D5BA + ord(c) - 97) if c.islower() else c for c in GITHUB
    ),
    "percent": "".join(f"%{ord(c):02X}" for c in GITHUB),
    "percent, twice": GITHUB.replace("_", "%255F"),
    "HTML entities": "".join(f"&#{ord(c)};" for c in GITHUB),
    "HTML entity": GITHUB.replace("_", "&lowbar;"),
    "unicode escapes": "".join(f"\\u{ord(c):04x}" for c in GITHUB),
    "hexadecimal escapes": "".join(f"\\x{ord(c):02x}" for c in GITHUB),
    "Markdown escape": GITHUB.replace("_", r"\_"),
    "JSON in JSON": json.dumps(json.dumps({"a": f'password: "{PASSWORD}"'})),
    "Base64": base64.b64encode(f"token={GITHUB}".encode()).decode(),
    "hexadecimal": GITHUB.encode().hex(),
    "joined strings": f'"{GITHUB[:12]}" + "{GITHUB[12:]}"',
    "neighboring strings": f"'{GITHUB[:12]}'\n    '{GITHUB[12:]}'",
    "line break": f"{GITHUB[:20]}\n{GITHUB[20:]}",
    "line continued": f"{GITHUB[:20]}\\\n  {GITHUB[20:]}",
    "quoted lines": f"> {GITHUB[:20]}\n> {GITHUB[20:]}",
    "markup": f"{GITHUB[:20]}<wbr>{GITHUB[20:]}",
    "bold": f"{GITHUB[:12]}**{GITHUB[12:]}**",
    "spaces": " ".join(GITHUB[n : n + 8] for n in range(0, 40, 8)),
    "spelled": " ".join(GITHUB),
}  # fmt: skip

PERSONAL = {
    "e-mail": "some.body@example.org",
    "e-mail, plus": "some+tag@mail.example.co.uk",
    "e-mail, capitals": "SOME.BODY@EXAMPLE.COM",
    "e-mail, mailto": "mailto:some.body@example.org?subject=x",
    "e-mail, name": "Somebody <some.body@example.org>",
    "e-mail, quoted": '"some body"@example.org',
    "e-mail, IDN": "info@bücher.example",
    "e-mail, IDN name": "jörg@bücher.example",
    "e-mail, Chinese": "用户@例子.公司",
    "e-mail, Cyrillic": "почта@пример.рф",
    "e-mail, punycode": "info@xn--bcher-kva.example",
    "e-mail, address": "somebody@[203.0.113.7]",
    "e-mail, [at]": "some.body [at] example [dot] org",
    "e-mail, (at)": "some.body(at)example.org",
    "e-mail, words": "some.body at example dot org",
    "e-mail, spaces": "some.body @ example . org",
    "e-mail, percent": "some.body%40example.org",
    "e-mail, entity": "some.body&#64;example&#46;org",
    "e-mail, escape": "some.body\\u0040example.org",
    "e-mail, zero width": "some\u200b.body@exam\u200bple.org",
    "e-mail, full width": "some.body＠example．org",
    "phone, US": "(415) 555-2671",
    "phone, US dashes": "415-555-2671",
    "phone, US dots": "415.555.2671",
    "phone, US one": "1-415-555-2671",
    "phone, +1": "+1 415 555 2671",
    "phone, +1 bare": "+14155552671",
    "phone, +44": "+44 20 7946 0958",
    "phone, fictional": "+1 (555) 123-4567",
    "phone, fictional UK": "+44 7700 900123",
    "phone, UK": "020 7946 0958",
    "phone, UK mobile": "07911 123456",
    "phone, +49": "+49 (0)30 901820",
    "phone, Germany": "030 901820",
    "phone, Germany slash": "0171/1234567",
    "phone, +33": "+33 6 12 34 56 78",
    "phone, France": "06 12 34 56 78",
    "phone, 00": "0033 6 12 34 56 78",
    "phone, 011": "011 44 20 7946 0958",
    "phone, tel": "tel:+81-3-1234-5678",
    "phone, Japan": "090-1234-5678",
    "phone, China": "138 0013 8000",
    "phone, China bare": "13800138000",
    "phone, India": "+91 98765 43210",
    "phone, Brazil": "(11) 96123-4567",
    "phone, Australia": "0412 345 678",
    "phone, Korea": "010-2345-6789",
    "phone, Russia": "+7 (912) 345-67-89",
    "phone, Spain": "Teléfono: 612 34 56 78",
    "phone, Italy": "cellulare 347 123 4567",
    "phone, words": "call me on 4155552671",
    "phone, Arabic digits": "+٤٤ ٢٠ ٧٩٤٦ ٠٩٥٨",
    "card, Visa": "4111 1111 1111 1111",
    "card, Visa bare": "4012888888881881",
    "card, Mastercard": "5555-5555-5555-4444",
    "card, Mastercard 2": "2223 0031 2200 3222",
    "card, Amex": "3782 822463 10005",
    "card, Amex bare": "371449635398431",
    "card, Discover": "6011 1111 1111 1117",
    "card, Diners": "3056 930902 5904",
    "card, JCB": "3530 1113 3330 0000",
    "card, UnionPay": "6200 0000 0000 0005",
    "card, zero width": "4111\u200b1111\u200b1111\u200b1111",
    "IBAN, UK": "GB82 WEST 1234 5698 7654 32",
    "IBAN, Germany": "DE89 3704 0044 0532 0130 00",
    "IBAN, Norway": "NO93 8601 1117 947",
    "IBAN, Belgium": "BE68 5390 0754 7034",
    "IBAN, Netherlands": "NL91ABNA0417164300",
    "IBAN, France": "FR14 2004 1010 0505 0001 3M02 606",
    "IBAN, Malta": "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    "IBAN, Switzerland": "CH93 0076 2011 6238 5295 7",
    "IBAN, Brazil": "BR18 0036 0305 0000 1000 9795 493C 1",
    "IBAN, lowercase": "de89370400440532013000",
    "SSN": "078-05-1120",
    "SSN, words": "SSN 078051120",
    "US ITIN": "ITIN 912-90-3456",
    "UK NINO": "AB 12 34 56 C",
    "UK NHS": "NHS number 943 476 5870",
    "Spanish DNI": "54362315K",
    "Spanish NIE": "X-2482300W",
    "Italian tax code": "RCCMNL83S18D969H",
    "French number": "2 95 10 99 126 111 93",
    "Swiss AHV": "756.9217.0769.85",
    "Brazilian CPF": "390.533.447-05",
    "Mexican CURP": "BOXW310820HNERXN09",
    "Finnish code": "131052-308T",
    "Swedish number": "880320-0016",
    "Polish PESEL": "PESEL 44051401359",
    "Chinese identity": "360426199101010071",
    "Korean number": "971013-9019902",
    "Indian Aadhaar": "2341 2341 2346",
    "Indian PAN": "ACUPA7085R",
    "Irish PPS": "6433435F",
    "Chilean RUT": "12.531.909-2",
    "passport": "passport number: L898902C3",
    "passport zone": "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
    "date of birth": "DOB: 12/04/1985",
    "IP address": "93.184.216.34",
}  # fmt: skip

HERE = "/srv/deep/lake"
"""A folder of the machine on which the tests publish."""

PATHS = {
    "folder": f"see {HERE}/prompts.jsonl",
    "folder, quoted": f'"{HERE}"',
    "folder, file address": f"file://{HERE}/a",
    "folder, file address of localhost": f"file://localhost{HERE}/a",
    "folder, percent": HERE.replace("/", "%2F") + "%2Fa",
    "folder, address": "x://y?path=" + HERE.replace("/", "%2f"),
    "folder, JSON": HERE.replace("/", "\\/"),
    "folder, escapes": HERE.replace("/", "\\u002f"),
    "folder, zero width": HERE.replace("/", "/\u200b"),
    "folder, traceback": f'File "{HERE}/a.py", line 3, in <module>',
    "another home": "/home/jdoe81/projects/a.py",
    "another home, macOS": "/Users/jdoe81/Documents/a.txt",
    "another home, file address": "file:///home/jdoe81/a",
    "another home, percent": "%2Fhome%2Fjdoe81%2Fa",
    "another home, Windows": r"C:\Users\jdoe81\Desktop\a.docx",
    "another home, Windows escaped": r"C:\\Users\\jdoe81\\Desktop\\a.docx",
    "another home, WSL": "/mnt/c/Users/jdoe81/a",
    "another home, cluster": "/gpfs/home/jdoe81/run/a.sh",
    "another home, shell": "jdoe81@node:/home/jdoe81/run$ ls",
}

CLEAN = """\
The version is 3.11.7, and the next one is 3.12.0rc1.
Upgrade from 10.0.19041.1 to 10.0.22631.4317.
pip install torch==2.13.0 transformers==5.19.0
commit 0744bf4d1c9e8f0e3a5b6c7d8e9f0a1b2c3d4e5f
sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
md5 d41d8cd98f00b204e9800998ecf8427e
The UUID is 550e8400-e29b-41d4-a716-446655440000.
ISBN 978-3-16-148410-0
ISBN 0-306-40615-2
ISBN-10: 0306406152
ISSN 2049-3630
DOI 10.1000/182 and arXiv:2508.06026
EAN 4006381333931
Order number 4938271650
Order #2024-000123
Invoice 20241128-0042
Your tracking number is 1Z999AA10123456784.
The part number is AB-1234-5678-XY.
On 2024-11-28 at 16:27:15 UTC
From 12/04/1985 to 31.12.1999
1999-2004, 2005-2011
pi = 3.14159265358979323846
e^(i*pi) + 1 = 0
2 + 2 = 4, 12 * 12 = 144, 100 / 7 = 14.2857142857
1234567890
0123456789
1 2 3 4 5 6 7 8 9 10
01 02 03 04 05 06
10, 20, 30, 40, 50, 60
1,234,567,890.12
1 000 000 000
123 456 789
6.02214076e23
0.1 + 0.2 = 0.30000000000000004
The population was 331 449 281 in 2020.
The distance is 384 400 km, and light needs 1.28 s.
Call the function with three arguments.
phone = input("What is your phone number? ")
Dial 911 or 112 in an emergency.
The hotline is 1-800-273-8255.
Send us an e-mail with your question.
my_list[1:10] @ other_matrix
x @ w.T + b
import numpy as np; np.matmul(a, b)
@property
@app.route("/users/<int:id>")
git clone git@github.com:org/project.git
npm install react@18.2.0
logo@2x.png
password = input("Password: ")
password = os.environ["PASSWORD"]
password: str
api_key = os.getenv("API_KEY")
api_key = "YOUR_API_KEY"
token = tokenizer.encode(text)
max_tokens: 4096
tokens per second: 1200
The token limit is 128,000.
secret = None
The secret ingredient is 2 spoons of sugar.
The password must have 8 characters and one digit.
The key is to practice for 30 minutes every day.
key: value
primary_key=True
keyboard: 104 keys
Authorization: Bearer <token>
curl -H "Authorization: Bearer $TOKEN" https://api.example.com
curl -u user https://example.com
https://example.org/a/b?page=2&sort=asc
https://example.org:8080/path#part
https://www.youtube.com/watch?v=dQw4w9WgXcQ
https://docs.google.com/document/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms/edit
postgres://{user}:{password}@{host}/{name}
http://localhost:8000/docs
127.0.0.1:8080 and 192.168.0.1
10.0.0.1/24
::1
fe80::1
00:1A:2B:3C:4D:5E
12:30:45.678
/usr/local/bin/python3
/home/user/project/main.py
/home/ubuntu/app
/Users/username/Documents
C:\\Users\\YourName\\Desktop
C:\\Program Files\\Python311\\python.exe
~/.config/app/settings.toml
./data/train-00000-of-00010.parquet
https://example.com/home/products/list
/home/index.html
../home/page
sk-learn is a library for Python.
sk-this-is-a-long-name-with-hyphens
hf_hub_download(repo_id="org/model")
ghp_ is the prefix of a token.
npm_config_registry
gsk_ and xai- are prefixes, too.
AKIA is a prefix with four letters.
-----BEGIN CERTIFICATE-----
-----BEGIN PUBLIC KEY-----
ssh-keygen -t ed25519
eyJ is the start of many encoded texts.
the-quick-brown-fox-jumps-over-the-lazy-dog-2024
com.example.application.service.impl.UserServiceImplementation
getElementsByClassNameAndAttributeValue
IMG_20241128_162715.jpg
model-00001-of-00003.safetensors
checkpoint-1200/optimizer.pt
#1a2b3c and rgba(12, 34, 56, 0.5)
0xDEADBEEF, 0x7fff5fbff8a0
U+200B, \\u00e9, &amp;, %20
GCATGCATTAGCATCGATCGATTACGATCGATCAGC
The SMILES string is CC(C)CC1=CC=C(C=C1)C(C)C(=O)O.
Nf3 Nc6 Bb5 a6 Ba4 Nf6 O-O Be7
48.8584, 2.2945
40°26'46"N 79°58'56"W
AB12 CD34 EF56
M1A 2B3, SW1A 2AA, 10115 Berlin
Flight LH 1234 departs at gate B42.
Room 101, floor 3, building 7
The answer is (B).
Score: 4
7 out of 10
1st, 2nd, 3rd, 42nd
$1,299.99, 12.50 €, £3,000
Chapter 12, verses 4-16
The ratio is 16:9, and the scale is 1:25000.
H2SO4 + 2 NaOH -> Na2SO4 + 2 H2O
SELECT id, name FROM users WHERE age > 30;
for i in range(10): print(i ** 2)
{"id": 12345, "name": "Widget", "price": 9.99}
<div class="col-md-6" id="section-2">Text</div>
if (a < b && c > d) { return x | y; }
你好，世界。今天是2024年11月28日。
Привет, мир! Сегодня 28.11.2024.
مرحبا بالعالم
नमस्ते दुनिया
Größe: 1,80 m; Straße 12
a\u200bb\u200bc
The base64 of "hello" is aGVsbG8=.
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk
meet me at noon, and the dot is red
look at example dot notation in Python
""".splitlines()
