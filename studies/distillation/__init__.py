"""What distillation costs: finished runs measured alike, and the page that says so.

rows        the TOML file: which runs, how they are sampled, what they cost
yardstick   the judge, the real clips, the long play: the same for every row
figures     what was measured of a row, as JSON
measure     a row's figures          speed    frame rates, all rows in turns
unseen      actions that no training saw
page, plots docs/NAME.md             compare  the command
"""
