"""A world as a static page: its networks run in the browser, without a server.

    worldmodel web doom-rooms --to site

`page/` holds the page itself, plain ES modules that are copied as they are. It may import `worlds`
and what lies below. Begin with `site`, then `onnx_graphs`, and in the page with `main.js`.
"""
