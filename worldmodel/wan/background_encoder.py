"""The prompt encoder in play: words are encoded in a thread of its own, the world goes on.

    encoder = PlayEncoder(weights, torch.device("cuda"))
    found = encoder.ask("a red ball")      # a future, at once
    embedding = found.result()             # n d, fp32 on the CPU; raises what went wrong

It is loaded for the first words and stays: on the device where there is room for it twice, else
mapped from disk, from where its blocks visit the device one after the other. Both give the same
numbers, and so does waiting for them: whoever asks, it is the same kind of thread that computes.
"""

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.wan.device_memory import free_bytes
from worldmodel.wan.text_encoder import (
    beside,
    clean,
    embed,
    load_text_encoder,
    load_tokenizer,
    text_config_of,
)
from worldmodel.wan.weight_files import read_tensors

SHARE = 0.5  # of the free memory that the encoder may take for good


class PlayEncoder:
    """Encodes one text at a time; asked from one thread."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        self.weights, self.device = weights, device
        self.is_near = False  # whether the blocks stay on the device
        self._asked: dict[str, Future[Tensor]] = {}
        self._one_at_a_time = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None  # encoder, tokenizer

    def ask(self, text: str) -> Future[Tensor]:
        """The embedding of a text, when it is there; what failed is tried again."""
        found = self._asked.get(text)
        if found is None or found.cancelled() or (found.done() and found.exception()):
            found = self._asked[text] = Future()
            run = threading.Thread(target=self._run, args=(text, found), name="text encoder")
            run.start()
        return found

    def _run(self, text: str, answer: Future[Tensor]) -> None:
        with self._one_at_a_time:
            if not answer.set_running_or_notify_cancel():
                return  # other words were said while this one waited
            try:
                answer.set_result(self._encode(text))
            except Exception as error:  # noqa: BLE001  # `result` raises it where it is asked for
                answer.set_exception(error)

    def _encode(self, text: str) -> Tensor:
        if self._loaded is None:
            config = text_config_of(read_tensors(self.weights), str(self.weights))
            words = load_tokenizer(beside(self.weights), config)
            encoder = load_text_encoder(self.weights, config)
            self.is_near = bring_near(encoder, self.device)
            self._loaded = encoder, words
        encoder, words = self._loaded
        return embed(encoder, words.encode(clean(text)).ids, self.device)


def bring_near(encoder: Any, device: torch.device) -> bool:
    """Copy the blocks of a mapped encoder to the device, unless they would take too much of it.

    The table of all tokens stays mapped: a text needs a few of its rows.
    """
    parts: list[nn.Module] = [*encoder.encoder.block, encoder.encoder.final_layer_norm]
    weights = [weight for part in parts for weight in part.parameters()]
    if sum(weight.nbytes for weight in weights) > SHARE * free_bytes(device):
        return False
    for weight in weights:
        mapped = weight.data
        weight.data = mapped.clone() if device.type == "cpu" else mapped.to(device)
    return True
