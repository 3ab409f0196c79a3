"""`worldmodel make`: one file from nothing to a world that can be played, in a budget of minutes.

It may import data sources, training and evaluation, which it runs in order. Begin with
`recipe_file` (what a recipe says) and `maker` (what is done).
"""
