"""Words that cannot steer yet: they are kept back, and said when they can be followed.

    pending = PendingPrompt(words, file)
    action = pending.accept(action, session)     # what the world is given now
    ear.waiting                            # the words that are being encoded, for people

What a recording holds is what `hear` gives: words stand at the frame from which they steer, so that
a replay, which waits for the encoder instead, shows the same frames. A key that says such words
counts as not pressed until it is let go; its words come as if they had been typed.
"""

from concurrent.futures import Future
from dataclasses import replace

from torch import Tensor

from worldmodel.action import Action, Prompt
from worldmodel.config import UserError
from worldmodel.worlds.wan.prompt_encoder import PromptEmbeddings
from worldmodel.worlds.wan.session import WanSession
from worldmodel.worlds.wan.world_file import WanWorldFile, caption


class PendingPrompt:
    """What was said last and is being encoded; the last thing said counts."""

    def __init__(self, words: PromptEmbeddings, file: WanWorldFile) -> None:
        self.words, self.prompts = words, file.prompts
        self._prompt: Prompt | None = None
        self._text, self._answer = "", Future[Tensor]()
        self._unheard: frozenset[str] = frozenset()  # keys that are held and count as not pressed

    @property
    def waiting(self) -> str:
        """Words that are being encoded; mostly nothing."""
        return "" if self._prompt is None else f"“{caption(self._text)}” is being encoded"

    def forget(self) -> None:
        """What is waiting is not said any more."""
        self._answer.cancel()  # where it was not begun
        self._prompt = None

    def accept(self, action: Action, session: WanSession) -> Action:
        """The part of an action that can be followed now, and words that can since."""
        opening = session.start.opening
        pressed = sorted((action.buttons - session.held).intersection(self.prompts.keys))
        said = [self._of_key(key) for key in pressed if key not in self._unheard]
        said += [action.prompt] if action.prompt else []
        slow = [key for key in pressed if not self._is_ready(self.prompts.keys[key], opening)]
        self._unheard = (self._unheard & action.buttons).union(slow)
        action = replace(action, buttons=action.buttons - self._unheard)
        if said:
            self.forget()
            if self._is_ready(said[-1].text, opening):
                return action
            self._prompt, self._text = said[-1], self.prompts.full(said[-1].text, opening)
            self._answer = self.words.ask(self._text)
            action = replace(action, prompt=None)
        return self._say(action, session)

    def _say(self, action: Action, session: WanSession) -> Action:
        """Add the words that waited, once they are encoded and a chunk is about to be drawn."""
        if self._prompt is None or not self._answer.done() or not session.is_at_chunk:
            return action
        prompt, self._prompt = self._prompt, None
        error = self._answer.exception()
        if error is None:
            self.words.known[self._text] = self._answer.result()
            return replace(action, prompt=prompt)
        is_known = isinstance(error, UserError)
        session.notice = str(error) if is_known else f"{self._text!r} was not encoded: {error!r}"
        return action  # play goes on under the words before

    def _of_key(self, key: str) -> Prompt:
        return Prompt(self.prompts.keys[key], renew=self.prompts.renew)

    def _is_ready(self, text: str, opening: str) -> bool:
        return self.words.is_ready(self.prompts.full(text, opening))
