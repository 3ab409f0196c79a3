"""Worlds that can be played: their folders (`world_folder`), where they are (`find`), the backends.

It may import the networks (`model`, `engine`, `wan`), `storage` and `reference`, and nothing that
plays or trains. Begin with `native`, which fills the `World` protocol with our own networks.
"""
