-- Pairs that contradict another pair of the same prompt and split, or themselves: one prefers the
-- first text, the other the second. This can happen because equal texts of two samples are judged
-- separately. The join keeps only digests in memory.
-- Grain: one row per contradicting pair of `pairs`.
-- Reads: numbered_pairs
with asked as (
    select
        *,
        concat_ws(chr(31), *columns('^(prompt|tools|chat_template_kwargs)$')) as shown_prompt
    from numbered_pairs
),

digests as materialized (
    select
        split,
        place,
        answer_digest(shown_prompt, text_of(chosen)) as chosen,
        answer_digest(shown_prompt, text_of(rejected)) as rejected
    from asked
)

select split, place
from digests
semi join digests as others
    on others.split = digests.split
    and others.chosen = digests.rejected
    and others.rejected = digests.chosen
