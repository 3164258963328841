-- The functions that the queries share; the same hashes as `factory/fingerprint.py`.

create macro share_of(salt, item) as
    ('0x' || left(sha256(salt || '/' || item), 12))::ubigint / 281474976710656.0;
