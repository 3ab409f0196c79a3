"""Neural networks. Tensors in, tensors out: no files, windows, threads or losses here.

Letters, the same in every docstring and einops pattern of the package:

    b batch            f g frames (query, key)    c latent channels    h w rows, columns
    p tokens a frame   t u tokens (query, key)    n heads              e head width
    d model width      k buttons                  m action tokens      s cache slots (frames)

It may import `system`, `config`, `schedule` and `state_spec`. Begin with `configs` (all shapes) and
`transformer`, then `context` (what a frame attends to: clips in training, the KV cache in play).
"""
