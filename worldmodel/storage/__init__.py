"""Everything on disk: episodes, recordings, moments, videos, weights, and how files are written.

It may import `system`, `config`, `action`, `state_spec` and the `world` protocol. Begin with
`files` (whole files or none), then `episodes` and `recording`.
"""
