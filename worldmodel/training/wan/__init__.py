"""The stages of the pipeline for Wan2.1: `[model] kind = "wan"` in a stage's TOML file."""
