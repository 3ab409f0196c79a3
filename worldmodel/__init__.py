"""Play, record and train learned worlds: one action in, one frame out."""

__version__ = "0.1.0"
