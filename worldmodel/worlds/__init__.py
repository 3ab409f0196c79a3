"""Worlds: the folder they live in (`folder`), where they are found (`find`), the backends."""
