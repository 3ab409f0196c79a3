"""Released Wan models as worlds: their folder, sessions, prompts, cameras, and the import of files.

It may import what `worlds` may. Begin with `world`, the backend, and `importer`, which makes a
world's folder of released files.
"""
