-- Grain: one row: the number of the step's missing draws that can be copied from a folder with another
-- max_tokens.
-- Reads: reused
select count(*) as n from reused
