-- The functions that the queries share; the same hashes as `factory/fingerprint.py`.

create macro share_of(salt, item) as
    ('0x' || left(sha256(salt || '/' || item), 12))::ubigint / 281474976710656.0;

create macro row_id(a, b, c) as
    left(sha256(concat_ws(chr(31), coalesce(a, ''), coalesce(b, ''), c)), 24);

-- What the sample of a role was asked for, beside the prompt's messages: a reference is its own
-- text, so that another one is another sample.
create macro asked_beside(role, template_kwargs, reference) as
    coalesce(if(role = 'reference', reference, template_kwargs), '');

-- Without the white space at both ends, as Python's str.strip() sees it; NULL is the empty text.
-- Whether there is any is told from the ends alone; replacing reads all of the text.
create macro bare(text) as if(
    regexp_matches(text, '^[\s\v\x1c-\x1f\x{85}\p{Z}]')
        or regexp_matches(text, '[\s\v\x1c-\x1f\x{85}\p{Z}]$'),
    regexp_replace(
        text, '^[\s\v\x1c-\x1f\x{85}\p{Z}]+|[\s\v\x1c-\x1f\x{85}\p{Z}]+$', '', 'g'
    ),
    coalesce(text, '')
);

-- The standard deviation of the judgments of two samples, pooled by their numbers.
create macro pooled_spread(a, n_a, b, n_b) as
    sqrt((n_a * a * a + n_b * b * b) / nullif(n_a + n_b, 0));

create macro words_of(text) as list_distinct(string_split_regex(lower(text), '\s+'));

-- The words that two texts share, as a share of all their words (Jaccard's index of their sets):
-- 1 for the same words in another order.
create macro similarity(a, b) as
    len(list_intersect(words_of(a), words_of(b))) / len(list_distinct(words_of(a) || words_of(b)));

-- The messages of a prompt as datasets carry them: role and content alone.
create macro bare_messages(messages) as list_transform(
    messages, lambda message: {'role': message.role, 'content': message.content}
);

-- A digest of rows by the SHA-256 of each, whatever their order.
create macro digest_of(row_hash) as
    count(*)::varchar
    || '-' || coalesce(sum(md5_number_lower(row_hash)), 0)::varchar
    || '-' || coalesce(sum(md5_number_upper(row_hash)), 0)::varchar;

-- The rank of a row where equal values share the mean of their ranks: of a value's place (from
-- `rank()`) and the number of rows that have it.
create macro mean_rank(place, n_equal) as place + (n_equal - 1) / 2;
