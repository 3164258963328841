-- Functions that the queries share. The hashes are the same as in `factory/fingerprint.py`.

create macro share_of(salt, item) as
    ('0x' || left(sha256(salt || '/' || item), 12))::ubigint / 281474976710656.0;

create macro row_id(a, b, c) as
    left(sha256(concat_ws(chr(31), coalesce(a, ''), coalesce(b, ''), c)), 24);

-- The part of a prompt that earlier versions showed to models differently from the prompt file:
-- tools whose keys are not sorted, and tool calls and reasoning in earlier messages. Stored JSON has
-- a space after `":` only if its keys are not sorted. Inside a JSON string, a backslash precedes `"`.
create macro shown_late(tools, messages) as concat(
    if(regexp_matches(tools, '[^\\]": '), tools, null),
    list_aggregate(
        list_transform(messages, lambda message: concat(message.tool_calls, message.reasoning)),
        'string_agg',
        ''
    )
);

-- The part of a request that the prompt's ID does not cover. For the role `reference` it is the
-- reference itself, so a new reference becomes a new sample.
create macro asked_beside(role, template_kwargs, reference, tools, messages) as coalesce(
    if(role = 'reference', reference, concat(template_kwargs, shown_late(tools, messages))), ''
);

-- The text without white space at both ends, as in Python's str.strip(). NULL becomes an empty
-- text.
-- Only the ends are checked first, since the replacement reads the complete text.
create macro bare(text) as if(
    regexp_matches(text, '^[\s\v\x1c-\x1f\x{85}\p{Z}]')
        or regexp_matches(text, '[\s\v\x1c-\x1f\x{85}\p{Z}]$'),
    regexp_replace(
        text, '^[\s\v\x1c-\x1f\x{85}\p{Z}]+|[\s\v\x1c-\x1f\x{85}\p{Z}]+$', '', 'g'
    ),
    coalesce(text, '')
);

-- The pooled standard deviation of the judgments of two samples, weighted by their numbers.
create macro pooled_spread(a, n_a, b, n_b) as
    sqrt((n_a * a * a + n_b * b * b) / nullif(n_a + n_b, 0));

create macro words_of(text) as list_distinct(string_split_regex(lower(text), '\s+'));

-- The share of words that two texts have in common (the Jaccard index of their sets of words). The
-- order of the words does not matter.
create macro similarity(a, b) as
    len(list_intersect(words_of(a), words_of(b))) / len(list_distinct(words_of(a) || words_of(b)));

-- The messages of a prompt with only role and content, as in datasets.
create macro bare_messages(messages) as list_transform(
    messages, lambda message: {'role': message.role, 'content': message.content}
);

-- A digest of rows from the SHA-256 of each row. The order of the rows does not matter.
create macro digest_of(row_hash) as
    count(*)::varchar
    || '-' || coalesce(sum(md5_number_lower(row_hash)), 0)::varchar
    || '-' || coalesce(sum(md5_number_upper(row_hash)), 0)::varchar;

-- The mean rank of equal values, from their place (by `rank()`) and their number.
create macro mean_rank(place, n_equal) as place + (n_equal - 1) / 2;
