-- Grain: one row: how many draws that the step misses are taken over from another limit on length.
select count(*) as n from carried
