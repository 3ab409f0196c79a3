"""`worldmodel data check`: what is wrong with a data set, before hours are spent on it.

It may import `storage` and what lies below. Begin with `faults`, which turns numbers into
sentences, then `scan`, one pass over a file.
"""
