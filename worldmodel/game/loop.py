"""The main loop: devices in, frames out."""

import math
from dataclasses import dataclass, field

import pygame

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.game.controls import Command, describe, describe_pause, hint
from worldmodel.game.fps_meter import Meter
from worldmodel.game.generator import FrameSource
from worldmodel.game.input import Input
from worldmodel.game.jumps import Elsewhere, Order, ToMoment, ToSpot, ToStart
from worldmodel.game.key_names import KEYS
from worldmodel.game.keyboard_layout import forget_layout
from worldmodel.game.level_map import LARGE, SMALL, LevelMap
from worldmodel.game.menu.content import HOME, Answer, GoOn, Quit
from worldmodel.game.menu.menu import BACK, DIRECTIONS, PRESS, Menu
from worldmodel.game.pace import Pace, what_would_help
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.preferences import Preferences
from worldmodel.game.recording_control import RecordingControl
from worldmodel.game.reference_play import SideBySide
from worldmodel.game.replay import Replay
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.window import Window
from worldmodel.system.other_programs import Others
from worldmodel.world import HasState, Walkable

NUMBERS_SECONDS = 0.25  # how often the numbers on the screen change
LARGEST_OVERLAY_FONT = 1.25
WORLD_COMMANDS = (
    Command.RESTART,
    Command.NEXT_START,
    Command.PAUSE,
    Command.STEP,
    Command.REWIND,
    Command.GO_ON,
    Command.SAVE,
    Command.LOAD,
)
AT_ONCE = (  # what works while the world loads
    Command.CONTROLS,
    Command.HUD,
    Command.GRAPH,
    Command.FULLSCREEN,
    Command.RECORD,
    Command.SIDE_BY_SIDE,
)
FREE = (Command.PAUSE, Command.STEP, Command.SAVE, Command.GO_ON)  # what does not change a replay


@dataclass(slots=True)
class Game:
    """Everything that meets in the window's thread."""

    source: FrameSource
    window: Window
    devices: Input
    recording_control: RecordingControl
    is_human: bool = True  # else the mouse stays with the desktop
    replay: Replay | None = None
    save_worker: SaveWorker | None = None  # of the player's moments
    side_by_side: SideBySide | None = None  # the real game, if one can be started
    frames: int | None = None  # play ends after this many
    scale: int | None = None
    menu: Menu | None = None
    elsewhere: Elsewhere | None = None  # what is played after this
    shown: int = 0  # frames so far, start frames included
    meter: Meter = field(default_factory=Meter)
    whole: Meter = field(default_factory=lambda: Meter(recent=100_000))
    _pace: Pace = field(default_factory=lambda: Pace(0.0, ""))
    _rests_for_menu: bool = False
    _is_new: bool = True  # nothing of the world has been seen without the menu in front
    _numbers_changed: float = 0.0

    def play(self) -> None:
        """Play until the window closes. Everything the player sees passes through these lines."""
        with self.source as source:
            while not self.devices.quit and not self.is_over() and not self.elsewhere:
                for event in self.devices.pads.translate(self.window.events(source.patience())):
                    self._hear(event)
                self.window.capture(captured=self.devices.captured and self.is_human)
                has_news = self.side_by_side is not None and self.side_by_side.poll()
                step = source.poll()
                if step:
                    self.show(step)
                if not step and has_news and self.side_by_side:
                    self.window.show_view(self.side_by_side.view)
                self._pass_on_notices()
                self._welcome()
                self.window.overlay.is_paused = self.is_paused()
                self.window.overlay.is_recording = self.recording_control.is_rolling
                self.window.overlay.line = self.devices.line
                self.window.refresh()

    def show(self, step: PlayedFrame) -> None:
        """One frame: to the eye first, then to everything that wants to know about it."""
        session = self._session()
        if self.shown == 0:
            self._introduce(session)
        if self.side_by_side:
            self.side_by_side.show(session, step)
            self.window.view = self.side_by_side.view
        self.window.overlay.known = state_line(session, step)
        if self.window.overlay.chart:
            self.window.overlay.chart.follow(step)
        if step.is_past:
            self._show_past(session, step)
            return
        if step.count == 0:
            start = str(session.spot or session.world.starts[step.start])
            self.window.note(f"{start}, frame {step.index}" if step.index else start)
            self._interrupt()
        if step.notice:
            self.window.note(step.notice, seconds=8.0)
        self.window.overlay.action, self.window.overlay.waiting = step.action, step.waiting
        now = self.window.show(step.frame)
        latency_ms = None if step.event_time is None else 1000 * (now - step.event_time)
        self.recording_control.show(session, step, latency_ms)
        if self.replay:
            self.replay.check(step)
        self.shown += 1
        self._measure(now, latency_ms)

    def is_over(self) -> bool:
        """Whether the frames that were asked for have been shown; start frames do not count."""
        return self.frames is not None and self.shown > self.frames

    def is_paused(self) -> bool:
        """Whether the world waits for a command."""
        return self.source.session is not None and self.source.session.paused

    def obey(self, command: Command | None) -> None:
        """Do what a runtime key asks for."""
        overlay = self.window.overlay
        if command is Command.MENU:
            self.open_menu()
        if command is None or (self.source.session is None and command not in AT_ONCE):
            return
        if command in WORLD_COMMANDS:
            self._command_world(command)
        match command:
            case Command.CONTROLS:
                self._toggle_controls()
            case Command.HUD:
                overlay.shows_numbers = not overlay.shows_numbers
            case Command.GRAPH:
                overlay.shows_graph = not overlay.shows_graph
            case Command.MAP:
                self._toggle_map()
            case Command.FULLSCREEN:
                self.window.toggle_fullscreen()
            case Command.RECORD:
                self.recording_control.toggle()
            case Command.SCREENSHOT:
                self._save_picture()
            case Command.SIDE_BY_SIDE:
                self._toggle_side_by_side()
            case Command.PROMPT if self.is_human:
                self.devices.begin_line()

    def open_menu(self, *, is_start: bool = False) -> None:
        """The world rests behind the menu, from its first frame on if it is still loading."""
        if self.menu is None or self.menu.is_open:
            return
        self.menu.can_branch = self.replay is None
        self._rests_for_menu = not self.is_paused()
        if self._rests_for_menu:
            self._command_world(Command.PAUSE)
        if command := self.devices.let_go():
            self._command_world(command)
        self.menu.open(is_start=is_start)
        self.window.draw()

    def expect(self, spec: ActionSpec) -> None:
        """The keys of the world that loads: what is held when it is there counts."""
        if self.source.session is None:
            self.devices.learn(spec)
            self.window.overlay.spec = spec
            self._show_controls()
            if self.menu:
                self.menu.spec = spec

    def adopt(self, preferences: Preferences) -> None:
        """Settings and controls as they are now."""
        self.window.adopt(preferences.settings)
        self.devices.adopt(preferences.controls)
        self._show_controls()

    def _toggle_controls(self) -> None:
        """Over the picture; letters too large for that get a page that scrolls."""
        overlay = self.window.overlay
        if overlay.font > LARGEST_OVERLAY_FONT and self.menu:
            self.open_menu()
            self.menu.show_keys()
        else:
            overlay.shows_controls = not overlay.shows_controls

    def _hear(self, event: pygame.event.Event) -> None:
        """One event, to the menu while it is open, else to the world."""
        if event.type in (pygame.CONTROLLERDEVICEADDED, pygame.CONTROLLERDEVICEREMOVED):
            self._show_controls()
            is_new = event.type == pygame.CONTROLLERDEVICEADDED
            self.window.note("gamepad plugged in" if is_new else "gamepad unplugged")
        if event.type == pygame.KEYMAPCHANGED:
            forget_layout()
            self._show_controls()
        menu = self.menu
        if menu is None or not menu.is_open or event.type == pygame.QUIT:
            if self._point(event):
                return
            self.obey(self.devices.feed(event))
        elif menu.is_start and menu.page == HOME and self._is_of_world(event):
            self._close_menu(None)
            self.obey(self.devices.feed(event))
        else:
            self._follow(menu.feed(event))
            self.window.draw()

    def _is_of_world(self, event: pygame.event.Event) -> bool:
        """Whether a key plays rather than chooses: who presses it plays already."""
        code = KEYS.get(event.scancode, "") if event.type == pygame.KEYDOWN else ""
        keys = self.devices.keys
        plays = code in keys.buttons or keys.commands.get(code) is Command.SIDE_BY_SIDE
        return plays and code not in (*DIRECTIONS, *PRESS, *BACK)

    def _follow(self, answer: Answer | None) -> None:
        """What was decided in the menu."""
        match answer:
            case GoOn():
                self._close_menu(None)
            case Quit():
                self.devices.quit = True
            case Elsewhere():
                self.elsewhere = answer
            case ToStart() | ToMoment():
                self._close_menu(answer)

    def _close_menu(self, order: Order | None) -> None:
        assert self.menu is not None
        self.menu.close()
        if order:
            self._command_world(order)
        if self._rests_for_menu or (order and self.is_paused()):
            self._command_world(Command.PAUSE)

    def _command_world(self, command: Order) -> None:
        if self.replay and command not in FREE:
            self.window.note("a replay is played from its beginning to its end")
            return
        rests = command in (Command.PAUSE, Command.GO_ON)
        if rests or (command is Command.STEP and self.is_paused()):
            self.devices.discard()
        if command is not Command.SAVE:
            self._interrupt()
        self.source.send(command)

    def _toggle_map(self) -> None:
        chart = self.window.overlay.chart
        if chart is None:
            self.window.note("this world does not know its places: it has no map")
            return
        chart.toggle()
        if chart.size == LARGE:
            self.devices.captured = False  # the mouse points at the map
            self.window.note("a click on the map begins there")

    def _point(self, event: pygame.event.Event) -> bool:
        """A click on the large map; whether it was one."""
        chart = self.window.overlay.chart
        if event.type != pygame.MOUSEBUTTONDOWN or chart is None or chart.size != LARGE:
            return False
        if self.is_human and event.button == 1 and (spot := chart.spot_at(event.pos)):
            chart.size = SMALL
            self._command_world(ToSpot(spot))
        return True

    def _toggle_side_by_side(self) -> None:
        if self.side_by_side is None:
            self.window.note("no real game can be started here")
            return
        if not self.shown:  # it begins with the first frame
            begins = self.side_by_side.toggle_beginning()
            self.window.note(f"{'with' if begins else 'without'} the real game beside it")
            return
        self.side_by_side.toggle(self._session())
        self.window.show_view(self.side_by_side.view)

    def _welcome(self) -> None:
        """In the first seconds: what to press. Not to who watches."""
        is_seen = self.shown and not (self.menu and self.menu.is_open)
        if not self._is_new or not is_seen:
            return
        self._is_new = False
        if self.is_human and (spec := self.window.overlay.spec):
            has_pad = bool(self.devices.pads.names)
            self.window.hint(hint(spec, self.devices.keys, has_pad=has_pad))

    def _show_past(self, session: Session, step: PlayedFrame) -> None:
        """A frame on the way back: seen, but neither recorded nor measured."""
        frames = session.index - step.index
        self.window.note(f"{frames / session.world.frames_per_second:.1f} s back", seconds=0.5)
        self.window.overlay.action, self.window.overlay.waiting = step.action, step.waiting
        self.window.show(step.frame)

    def _pass_on_notices(self) -> None:
        for text in self.save_worker.notices() if self.save_worker else ():
            self.recording_control.say(text)

    def _interrupt(self) -> None:
        for one in (self.meter, self.whole, self._pace, self.window.overlay.graph):
            one.interrupt()

    def _introduce(self, session: Session) -> None:
        world, overlay = session.world, self.window.overlay
        self.devices.learn(world.actions)
        self.window.fit(world.frame_size, self.scale)
        level = world.level if isinstance(world, Walkable) else None
        spec = world.state_spec if isinstance(world, HasState) else None
        overlay.chart = LevelMap(level, spec) if level and spec else None
        pygame.display.set_caption(world.name)
        overlay.caption, overlay.spec = "", world.actions
        if self.menu:
            self.menu.is_loading, self.menu.spec = False, world.actions
        self._show_controls()
        overlay.graph.period_ms = 1000 / session.rate if session.rate else 0.0
        self._pace = Pace(session.rate, what_would_help(session.identity), Others().recent)

    def _show_controls(self) -> None:
        overlay, controls = self.window.overlay, self.devices.controls
        if overlay.spec:
            has_pad = bool(self.devices.pads.names)
            overlay.controls = describe(overlay.spec, controls)
            overlay.paused = describe_pause(overlay.spec, controls)
            overlay.pad_controls = describe(overlay.spec, controls, pad=True) if has_pad else ()

    def _measure(self, now: float, latency_ms: float | None) -> None:
        self.meter.add(now, latency_ms)
        self.whole.add(now, latency_ms)
        self._pace.add(now)
        overlay = self.window.overlay
        overlay.graph.add(now, latency_ms)
        overlay.slow = self._pace.slow
        if now - self._numbers_changed > NUMBERS_SECONDS:
            overlay.speed, self._numbers_changed = self.meter.speed(), now

    def _save_picture(self) -> None:
        name = self.recording_control.name(self._session())
        try:
            path = self.window.save_picture(name.with_name(f"{name.name}_frame{self.shown}"))
            self.window.note(f"saved the picture {path}")
        except UserError as error:
            self.window.note(str(error))

    def _session(self) -> Session:
        assert self.source.session is not None  # a step came out of it
        return self.source.session


def state_line(session: Session, step: PlayedFrame) -> str:
    """The numbers that a player cares for: health 100, ammo 24; not where one is."""
    world = session.world
    spec = world.state_spec if isinstance(world, HasState) else None
    if spec is None or step.state is None:
        return ""
    numbers = zip(spec.numbers.items(), step.state, strict=True)
    cared = ("number", "count", "flag")
    return "   ".join(
        f"{name} {value:.3g}" if abs(value) < 100 else f"{name} {value:.0f}"
        for (name, number), value in numbers
        if number.kind in cared and number.low < number.high and math.isfinite(value)
    )
