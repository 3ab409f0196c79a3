"""The small models and inputs whose results the reference implementations gave (`golden/`)."""

from dataclasses import replace

from worldmodel.wan.taehv_config import TAEW2_1
from worldmodel.wan.text_encoder import TextConfig
from worldmodel.wan.vae_config import WAN21_VAE

VAE = replace(WAN21_VAE, width=8)
VAE_GAIN = 1.0
TAEHV = TAEW2_1
TAEHV_GAIN = 1.0
TEXT = TextConfig(
    vocabulary=300, width=32, head_width=8, heads=4, feed_forward=48, layers=3, longest=256
)
TEXT_GAIN = 1.0
TOKENS = (200, 7)  # of two prompts; 200 reaches the far buckets of the relative positions
VIDEO = (1, 3, 9, 24, 32)  # b 3 t h w
LATENTS = (1, 16, 3, 3, 4)  # b c f h w
