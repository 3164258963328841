-- Grain: one row: how many draws that the step misses are reused from another limit on length.
-- Reads: reused
select count(*) as n from reused
