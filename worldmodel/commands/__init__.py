"""The commands of `worldmodel`, a module each: `add` its flags, `run` it.

They may import every package, but only when they run: `--help` has to answer at once. Begin with
`worlds`, the smallest.
"""
