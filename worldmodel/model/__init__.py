"""Neural networks. Tensors in, tensors out: no files, windows, threads or losses here.

It may import `system`, `config`, `schedule` and `state_spec`. Begin with `configs` (all shapes) and
`transformer`, then `context` (what a frame attends to: clips in training, the KV cache in play).
"""
