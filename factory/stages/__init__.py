"""The stages: pure functions between tables and engines.

None touches a disk, an engine's inside, or another stage. Each generating stage is the same shape:
`settings` (what identifies a folder), `request` (a row of what is missing → what to ask) and `row`
(a result → a row of the table). `work` joins them to engines and the lake.
"""
