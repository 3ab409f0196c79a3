"""What can be said to a Wan world: prompts with embeddings on file, or an encoder for any other."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.wan.background_encoder import PlayEncoder
from worldmodel.wan.prompts import load_prompts, padded
from worldmodel.wan.text_encoder import beside, encode_prompts
from worldmodel.worlds.wan.world_file import PROMPTS, WanWorldFile


class PromptEmbeddings:
    """Embeddings by text; the encoder is loaded when a text first needs it, and stays."""

    def __init__(self, file: WanWorldFile, path: Path | None, device: torch.device) -> None:
        self.file, self.device = file, device
        self.known = load_prompts(path) if path is not None and path.is_file() else {}
        self._encoder: PlayEncoder | None = None

    def embedding(self, text: str) -> Tensor:
        """The embedding of a text: 1 tokens c; no text at all is zero."""
        config = self.file.transformer
        if not text:
            return torch.zeros(1, config.text_tokens, config.text_width)
        if text not in self.known:
            self.known[text] = self.ask(text).result()
        found = self.known[text]
        if found.shape[1] != config.text_width:
            raise UserError(
                f"{text!r}: its embedding has {found.shape[1]} channels, the transformer reads "
                f"{config.text_width}; it was made by another encoder"
            )
        return padded(found, config.text_tokens)[None]

    def can_say(self, text: str) -> bool:
        """Whether the text needs nothing that is not here."""
        return not text or text in self.known or bool(self.file.prompts.text_encoder)

    def is_ready(self, text: str) -> bool:
        """Whether the text's embedding, or what is wrong with it, can be had at once."""
        return not text or text in self.known or not self.file.prompts.text_encoder

    def ask(self, text: str) -> Future[Tensor]:
        """The embedding n d of a text that is not known, when the encoder has it."""
        weights = self.file.prompts.text_encoder
        if not weights:
            known = "; ".join(map(repr, self.known)) or "none"
            raise UserError(
                f"{text!r}: {self.file.name} has no embedding of this prompt and no text encoder. "
                f"It knows: {known}. Name the encoder's weights as text_encoder under [prompts] in "
                f"world.toml, or import a {PROMPTS} that has the prompt"
            )
        if self._encoder is None:
            self._encoder = PlayEncoder(to_path(weights), self.device)
        return self._encoder.ask(text)


def unsaid(folder: Path, file: WanWorldFile) -> list[str]:
    """What openings and keys say, but neither an embedding on file nor an encoder can."""
    words = PromptEmbeddings(file, folder / PROMPTS, torch.device("cpu"))
    return [text for text in file.prompts.all_texts() if not words.can_say(text)]


def encode(texts: Sequence[str], weights: Path, device: torch.device) -> list[Tensor]:
    """The embeddings u c of each of some texts."""
    return encode_prompts(texts, weights, beside(weights), device)
