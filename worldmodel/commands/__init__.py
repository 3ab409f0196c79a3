"""The jobs of `python -m worldmodel`, a module each: `add` its flags, `run` it.

Nothing heavy is imported before a job runs: `--help` has to answer at once.
"""
