-- Labels of single answers for KTO, from the sides of pairs. An answer that is chosen in one pair
-- and rejected in another pair of the same prompt has no label, even if two samples have this text.

-- A digest of an answer's text and its prompt, or the prompt's ID. Outer white space does not count.
create macro answer_digest(prompt, text) as md5(concat_ws(chr(31), prompt, bare(text)));

-- The text of messages, such as one side of a pair.
create macro text_of(messages) as
    array_to_string(list_transform(messages, lambda message: message.content), chr(31));

-- Grain: one row per sample, with the first pair that contains it. `pairs_table` needs the columns
-- iteration, pair_id, chosen_id, and rejected_id, and the digests of the two answers in the columns
-- chosen_answer and rejected_answer.
create macro labels_of(pairs_table) as table
with sides as (
    select
        iteration,
        pair_id,
        unnest([
            {'id': chosen_id, 'answer': chosen_answer, 'label': true},
            {'id': rejected_id, 'answer': rejected_answer, 'label': false}
        ]) as side
    from query_table(pairs_table)
),

answers as (
    select side.answer as answer
    from sides
    group by side.answer
    having bool_and(side.label) = bool_or(side.label)
),

samples as (
    select
        side.id as sample_id,
        bool_and(side.label) as label,
        min({'iteration': iteration, 'pair_id': pair_id}) as first_pair
    from sides
    semi join answers on answers.answer = sides.side.answer
    group by side.id
)

select sample_id, label, first_pair.iteration as iteration, first_pair.pair_id as pair_id
from samples;
