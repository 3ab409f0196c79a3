"""A world that is played here and shown in browsers: `worldmodel serve`.

It may import `worlds` and what lies below, nothing that trains. Begin with `hall` (all sessions,
and the one thread that plays them), then `connection` (one socket) and `protocol` (what a browser
may say); `page/` is what the browser loads.
"""
