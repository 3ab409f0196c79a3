"""The real game that a world was learned from: play beside it, and how it comes to a start.

It may import `storage` and what lies below it. Begin with `game`, the role that a real game fills;
`process` runs one apart, `side_by_side` draws two pictures with what lies between them.
"""
