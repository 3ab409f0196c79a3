"""Play, record and train learned worlds: one action in, one frame out.

Letters of shapes, the same in every docstring, comment and einops pattern of the package:

    b batch              f g frames (query, key;     c channels         h w rows, columns
    d width of a model       of latents, of pixels)  p tokens a frame   t u tokens (query, key)
    n heads              e width of a head           l layers           k buttons
    m action tokens      v numbers of a state        z numbers of a condition

What a module needs beyond that its docstring says: "Letters of its own: ...".
"""

__version__ = "0.1.0"
