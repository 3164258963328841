"""Texts that other people could write: hostile ones, and harmless ones of many scripts."""

import random

HARMLESS = [
    "plain text, with punctuation: (a) [b] {c} <d> & \"e\" 'f' #g *h* _i_ `j` | k ~ l \\ m",
    "👩‍👩‍👧‍👦 👍🏽 ❤️‍🔥 🏳️‍🌈 🐈‍⬛ 🙂‍↔️ 👩🏽‍🚒 🧑‍🤝‍🧑 1️⃣ ©️ ☺︎",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f England",
    "السلام عليكم، كيف حالك؟ ١٢٣ ۝",
    "می‌خواهم کتاب‌ها را بخوانم",
    "שָׁלוֹם עולם",
    "क्‍ष हिन्दी ക്‍ বাংলা தமிழ் ไทย ລາວ ខ្មែរ မြန်မာ",
    "e\u0301 n\u0303 a\u0308\u0323 Å ﬁ Ω ½ € “quoted” — …",
    "漢字 葛\U000e0100 かな 한국어 中文，標點。",
    "line one\nline two\n\tindented",
    "x² ≤ ∑ᵢ yᵢ → ∞, 5 < 6 > 4, a_b_c, 3 * 4, f(x)[0]",
]

PARTS = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066",
    *"\u2067\u2068\u2069\ufeff\ufffe\uffff\u3164\u115f\u00ad\ufe0f\ufe00\U000e0041\U000e0101",
    *("\ud800", "\udfff", "\ud83d", "\ude00", "\udcff"),
    *("\x1b[31m", "\x1b]0;title\x07", "\x1b]8;;http://example.org\x1b\\", "\x9b2J", "\r\x1b[K"),
    *("[red]", "[/red]", "[link=http://example.org]", "[bold", ":smile:", "\\[", "\\"),
    *("<script>", "<img src=x onerror=y>", "</td></table>", "<!--", "-->", "&lt;", "&#x3c;"),
    *("# ", "## x\n", "---", "\n---\n", "***", "```", "`", "``", "~~~", "|", "\\|", "||"),
    *("![a](b)", "[a](b)", "<http://example.org>", "* x", "- x", "1. x", "> x", "_x_", "==", "$$"),
    *("<!-- End of what `factory publish` writes. -->", "\n<details>\n", "{{ x }}", "{% raw %}"),
    *("plain", "é", "漢", "🙂", " ", "  ", "\n", "\t", "a b", "\r\n"),
]


def nasty_texts(n: int = 200, seed: int = 0) -> list[str]:
    """Return each part alone, then `n` random texts of several parts."""
    draw = random.Random(seed)
    return [*PARTS, *("".join(draw.choices(PARTS, k=draw.randint(2, 8))) for _ in range(n))]
