"""`worldmodel selftest`: everything that must not break, tried on the user's own machine.

It may import `game`, `worlds` and what lies below; only `commands` imports it. Begin with
`report_all`, then `targets` (the readers that are fuzzed).
"""
