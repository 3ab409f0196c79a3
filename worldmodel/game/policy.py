"""A policy at the controls: code of the user's that sees frames and answers with actions.

    def make(actions):                                    # the world's ActionSpec
        return lambda frame: Action(frozenset({"KeyW"}), (3.0, 0.0))

`--player module:make --allow-code` plays it. `make` is called at every beginning, so that a policy
may remember what it saw since then; an answer is an `Action` or a collection of button names.
"""

from collections.abc import Callable, Collection
from typing import Any

from worldmodel.action import Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Session
from worldmodel.world import Frame

Policy = Callable[[Frame], Any]
MakePolicy = Callable[[ActionSpec], Policy]


class PolicyPlayer:
    """Shows a policy the session's last frame and hands over what it answers."""

    def __init__(self, make: MakePolicy, session: Session) -> None:
        self._make, self._session = make, session
        self._policy: Policy | None = None

    def take(self, index: int) -> Taken:
        """The action that leads to frame `index`."""
        if index == 1 or self._policy is None:
            self._policy = self._make(self._session.world.actions)
        frame = self._session.frame
        assert frame is not None, "a session begins with a frame"
        return Taken(to_action(self._policy(frame.copy())), None)


def to_action(answer: Any) -> Action:
    """A policy's answer as an action; a `UserError` says what it is instead of one."""
    if isinstance(answer, Action):
        return answer
    is_many = isinstance(answer, Collection) and not isinstance(answer, str | bytes)
    if is_many and all(isinstance(name, str) for name in answer):
        return Action(frozenset(answer))
    raise UserError(
        f"the policy answered {answer!r}; expected an Action or a collection of button names"
    )
