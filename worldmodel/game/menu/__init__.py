"""The start screen and the menu: worlds, starts, saved moments, settings, keys.

It may import what `game` may. Begin with `menu`; `content` says what is on each page, `layout`
where it lies, `style` how it looks.
"""
