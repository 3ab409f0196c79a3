"""What keys and mouse do to the tokens of a latent frame: Matrix-Game 2's action module.

Actions come one row a pixel frame. A latent frame i is given the twelve rows 4i - 12, …, 4i - 1:
what was done until its first pixel frame, and twice as long before that. Two branches follow one
another (Matrix-Game 2, arXiv 2508.13009; the module is that of GameFactory, arXiv 2501.08325):

    mouse      y = MLP[x, rows];  x += W attention over time(y)       place by place
    keyboard   x += W attention over time(x to the embedded rows)     every place to the same keys

Modules are named as in the released files, where the keyboard's query is called `mouse_attn_q`.

Letter of its own: r rows of actions.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.wan.kv_cache import WanContext
from worldmodel.wan.model_config import ActionModuleConfig, WanConfig
from worldmodel.wan.rope import apply_rope

EPSILON = 1e-6


class UnweightedNorm(nn.Module):
    """Root-mean-square normalisation of each head. Files hold weights that training never used."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """... e -> ... e."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + EPSILON)
        return (wide * scale).to(x.dtype)


class ActionModule(nn.Module):
    """Both branches of one layer; `bank` is where it keeps keys and values."""

    def __init__(self, config: WanConfig, actions: ActionModuleConfig, bank: int) -> None:
        super().__init__()
        self.bank, self.heads = bank, actions.heads
        self.has_mouse = actions.mouse > 0
        d, width = config.width, actions.width
        if self.has_mouse:
            self.mouse_mlp = nn.Sequential(
                nn.Linear(d + actions.mouse * actions.rows, width),
                nn.GELU(approximate="tanh"),
                nn.Linear(width, width),
                nn.LayerNorm(width),
            )
            self.t_qkv = nn.Linear(width, 3 * width, bias=False)
            self.img_attn_q_norm = UnweightedNorm(actions.head_width)
            self.img_attn_k_norm = UnweightedNorm(actions.head_width)
            self.proj_mouse = nn.Linear(width, d, bias=False)
        self.keyboard_embed = nn.Sequential(
            nn.Linear(actions.keys, actions.key_width),
            nn.SiLU(),
            nn.Linear(actions.key_width, actions.key_width),
        )
        self.mouse_attn_q = nn.Linear(d, width, bias=False)
        self.keyboard_attn_kv = nn.Linear(actions.key_width * actions.rows, 2 * width, bias=False)
        self.key_attn_q_norm = UnweightedNorm(actions.head_width)
        self.key_attn_k_norm = UnweightedNorm(actions.head_width)
        self.proj_keyboard = nn.Linear(width, d, bias=False)

    def forward(self, x: Tensor, context: WanContext) -> Tensor:
        """x b f p d -> b f p d."""
        conditions = context.conditions
        assert conditions is not None, "a model with an action module is given actions"
        if self.has_mouse:
            assert conditions.mouse is not None, "this model is given what the mouse does"
            x = x + self._mouse(x, conditions.mouse.to(x.dtype), context)
        return x + self._keyboard(x, conditions.keys.to(x.dtype), context)

    def _mouse(self, x: Tensor, rows: Tensor, context: WanContext) -> Tensor:
        """x b f p d and rows b f r m: what is added, b f p d."""
        beside = rearrange(rows, "b f r m -> b f 1 (r m)").expand(-1, -1, x.shape[2], -1)
        y = self.t_qkv(self.mouse_mlp(torch.cat((x, beside), dim=-1)))
        q, k, v = rearrange(y, "b f p (o n e) -> o (b p) n f e", o=3, n=self.heads)
        cos, sin = _cos_sin(context)
        q = apply_rope(self.img_attn_q_norm(q), cos, sin)
        k = apply_rope(self.img_attn_k_norm(k), cos, sin)
        seen = context.attend(self.bank, q, k, v, "mouse")
        added: Tensor = self.proj_mouse(
            rearrange(seen, "(b p) n f e -> b f p (n e)", b=x.shape[0]).to(x.dtype)
        )
        return added

    def _keyboard(self, x: Tensor, rows: Tensor, context: WanContext) -> Tensor:
        """x b f p d and rows b f r k: what is added, b f p d."""
        frames, p = x.shape[1:3]
        rows = rearrange(self.keyboard_embed(rows), "b f r c -> b f (r c)")
        k, v = rearrange(self.keyboard_attn_kv(rows), "b f (o n e) -> o b n f e", o=2, n=self.heads)
        q = rearrange(self.mouse_attn_q(x), "b f p (n e) -> b n (f p) e", n=self.heads)
        cos, sin = _cos_sin(context)
        k = apply_rope(self.key_attn_k_norm(k), cos, sin)
        cos, sin = cos.repeat_interleave(p, dim=0), sin.repeat_interleave(p, dim=0)
        q = apply_rope(self.key_attn_q_norm(q), cos, sin)
        seen = context.attend(self.bank, q, k, v, "keys")
        added: Tensor = self.proj_keyboard(
            rearrange(seen, "b n (f p) e -> b f p (n e)", f=frames).to(x.dtype)
        )
        return added


def _cos_sin(context: WanContext) -> tuple[Tensor, Tensor]:
    cos_sin = context.action_cos_sin
    assert cos_sin is not None, "the context is of a model with an action module"
    return cos_sin
