"""What a Wan world can be told: prompts with embeddings on file, or an encoder for any other."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.wan.prompts import load_prompts, padded
from worldmodel.worlds.wan_file import PROMPTS, WanWorldFile


class Words:
    """Embeddings by text; the encoder is loaded when a text first needs it."""

    def __init__(self, file: WanWorldFile, path: Path | None) -> None:
        self.file = file
        self.known = load_prompts(path) if path is not None and path.is_file() else {}
        self._encoder: Any = None

    def embedding(self, text: str) -> Tensor:
        """Of a text: 1 tokens c; no text at all is nought."""
        config = self.file.transformer
        if not text:
            return torch.zeros(1, config.text_tokens, config.text_width)
        if text not in self.known:
            self.known[text] = self._encode(text)
        return padded(self.known[text], config.text_tokens)

    def can_say(self, text: str) -> bool:
        """Whether the text needs nothing that is not here."""
        return not text or text in self.known or bool(self.file.prompts.text_encoder)

    def _encode(self, text: str) -> Tensor:
        folder = self.file.prompts.text_encoder
        if not folder:
            known = "; ".join(map(repr, self.known)) or "none"
            raise UserError(
                f"{text!r}: {self.file.name} has no embedding of this prompt and no text encoder. "
                f"It knows: {known}. Name an encoder's folder as text_encoder under [prompts] in "
                f"world.toml, or import a {PROMPTS} that has the prompt"
            )
        if self._encoder is None:
            from worldmodel.wan.text import TextEncoder  # needs the extra [wan]

            self._encoder = TextEncoder.load(Path(folder))
        return self._encoder.encode([text])[0]
