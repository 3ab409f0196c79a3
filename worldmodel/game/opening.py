"""A session of a world that is loaded, as it was asked for."""

from collections.abc import Callable
from dataclasses import asdict, replace

from worldmodel.config import UserError
from worldmodel.game.input import Taken
from worldmodel.game.messages import introduce, say
from worldmodel.game.play_session import Keeping, Session, Take
from worldmodel.game.policy import PolicyPlayer
from worldmodel.game.request import Request
from worldmodel.game.save_worker import SaveWorker
from worldmodel.players import said_during
from worldmodel.world import Prepares, World

PlayerFor = Callable[[World], Take]  # who plays, once it is known what can be done


def open_session(
    request: Request,
    world: World,
    player_for: PlayerFor,
    rate: float | None,
    keeper: SaveWorker | None,
) -> Session:
    """At its start or moment; `rate` None is the world's own."""
    start, seed = request.start(world), request.options.seed
    if request.replay:
        seed = request.replay.header.seed
    rate = world.frames_per_second if rate is None else rate
    if not world.actions.prompts and (request.choice.prompt is not None or request.timeline):
        raise UserError(f"--prompt, --prompts: {world.name} takes no words")
    session = Session(
        world,
        _with_timeline(request, player_for(world), world.frames_per_second),
        start=start,
        seed=seed,
        rate=rate,
        keeping=Keeping(
            settings=asdict(request.choice),
            keeper=keeper,
            megabytes=request.options.rewind_megabytes,
        ),
        moment=request.moment,
        spot=request.spot,
    )
    if request.policy:
        session.take = PolicyPlayer(request.policy, session).take
    introduce(session)
    if request.replay and (difference := request.replay.compare_settings(session.identity)):
        say(difference)
    return session


def as_followed(world: World, take: Take) -> Take:
    """What a person does, as far as the world can follow it: nobody is kept waiting for words."""
    if not isinstance(world, Prepares):
        return take

    def followed(index: int) -> Taken:
        taken = take(index)
        return taken._replace(action=world.follow(taken.action))

    return followed


def _with_timeline(request: Request, take: Take, rate: float) -> Take:
    """What the player does, and what the timeline says in that frame."""

    def both(index: int) -> Taken:
        taken = take(index)
        said = said_during(request.timeline, index, rate)
        return taken._replace(action=replace(taken.action, prompt=said)) if said else taken

    return both if request.timeline else take
