-- The functions that the queries share; the same hashes as `factory/fingerprint.py`.

create macro share_of(salt, item) as
    ('0x' || left(sha256(salt || '/' || item), 12))::ubigint / 281474976710656.0;

create macro row_id(a, b, c) as
    left(sha256(concat_ws(chr(31), coalesce(a, ''), coalesce(b, ''), c)), 24);

-- Without the white space at both ends, as Python's str.strip() sees it; NULL is the empty text.
create macro bare(text) as regexp_replace(
    coalesce(text, ''),
    '^[\s\v\x1c-\x1f\x{85}\p{Z}]+|[\s\v\x1c-\x1f\x{85}\p{Z}]+$',
    '',
    'g'
);
