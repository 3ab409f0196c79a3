"""The machine around the program: terminal, signals, text encodings, paths, and limits.

It imports nothing else of the package. Begin with `limits` (how much a file may ask for) and
`printable` (what may reach a terminal).
"""
