"""Wan 2.1 networks: transformer, autoencoders, text encoder, and the files they are released in.

It may import `config`, `schedule`, `rollout` and `storage`; no world and no training. Begin with
`transformer`, then `kv_cache` and `wan_rollout`.
"""
