-- Rows of shards, each key once: of rows that were made twice, one that did not fail for now wins
-- over one that did, and among equals the first shard by name, everywhere.
-- Hardly any was made twice: keys that come again are first looked for by their hashes, which takes
-- a third of the time of ranking all rows.
create macro made_once(shards, key, failed_for_now) as table (
    with suspects as (
        select hash(key) as suspect
        from query_table(shards)
        group by suspect
        having count(*) > 1
    ),

    superseded as (
        select filename, file_row_number
        from query_table(shards)
        where hash(key) in (select suspect from suspects)
        qualify row_number() over (
            partition by key order by failed_for_now, filename, file_row_number
        ) > 1
    )

    select * exclude (filename, file_row_number)
    from query_table(shards)
    anti join superseded using (filename, file_row_number)
);
