"""The stages for Wan 2.1 networks: `[model] kind = "wan"` in a stage's TOML file.

It may import what `training` may. Each file mirrors the one of the same name in `training`; begin
with `stage`, what all of them have in common.
"""
