"""The right grade of an answer in the world of letter strings: 0 to 5, one point a criterion.

The rule behind `rubric.md`, and the independent probe of the recipe: it chose no pair, so it can
say whether a model really got better. Knows nothing of tasks; it compares an answer with its
reference. Standard library only, since it is loaded by file path.
"""


def points(answer: str, reference: str) -> int:
    """Add up the five criteria; letters are compared place by place, full stops set aside."""
    got, want = answer.strip().removesuffix("."), reference.removesuffix(".")
    right = sum(a == b for a, b in zip(got, want, strict=False)) / len(want)
    return sum(
        [
            len(got) == len(want),
            right >= 1 / 2,
            right >= 3 / 4,
            got == want,
            answer.strip().endswith("."),
        ]
    )


def grade(rows: list[dict]) -> list[float]:
    """Grade each row's `answer` against its `reference`; one number from 0 to 5 a row."""
    return [float(points(row["answer"], row["reference"])) for row in rows]
