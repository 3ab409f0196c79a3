"""A recording and the real game side by side: NAME_side_by_side.mp4 to share, and a .csv of it.

The recording itself stays as it is: it is what replays and trains. The game is played again with
the recorded keys, from the same start, through every branch; so the clip can be made of any
recording, at any time, also of one that a crash cut short.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.game.reference_play import FRESH, apart_in, ending, place_in, why_apart
from worldmodel.reference.game import OpenReal, Origin, is_same_place, psnr
from worldmodel.reference.process import Answer, RealProcess
from worldmodel.reference.side_by_side import Point, View, save_side_by_side
from worldmodel.storage.files import write_atomically
from worldmodel.storage.moments import load_moment
from worldmodel.storage.recording import FrameRow, Header, free_name, read_frames, read_recording
from worldmodel.system.printable import shown
from worldmodel.world import Frame
from worldmodel.worlds.find import find_start_of, find_world, find_world_of
from worldmodel.worlds.starts import read_origin
from worldmodel.worlds.world_folder import read_world_file

ENDINGS = (".mp4", ".csv")
COMPARED = (1, 8, 32)  # frames whose difference is written


@dataclass(frozen=True, slots=True)
class WrittenClip:
    """A finished clip: its file, and what was seen in it."""

    path: Path
    points: Sequence[Point]  # of the last branch
    ending: str  # how the real game ended before the recording did, if it did

    def __str__(self) -> str:
        table = dict(self.points)
        figures = ", ".join(f"{table[i]:.1f} dB at frame {i}" for i in COMPARED if i in table)
        ended = f"; {self.ending}" if self.ending else ""
        return f"{self.path}: PSNR to the real game {figures or 'unknown'}{ended}"


def keep_side_by_side(
    recording: Path, origin: Origin, open_real: OpenReal, out: Path | None = None
) -> WrittenClip:
    """Play the real game with a recording's keys; write both as NAME_side_by_side.mp4, or `out`."""
    rows_path = recording.with_suffix(".jsonl")
    header, rows = read_recording(rows_path)
    name = free_name(out or rows_path.with_name(f"{rows_path.stem}_side_by_side.mp4"), ENDINGS)
    target, table = (name.with_name(f"{name.name}{ending}") for ending in ENDINGS)
    past = _past(rows_path, header)
    try:
        with RealProcess(open_real, origin.source) as game:
            film = _Film(header, origin, game, past)
            frames_of_world = read_frames(rows_path.with_suffix(".mp4"), header.frame_size)
            save_side_by_side(target, film.views(rows, frames_of_world), header.frames_per_second)
        write_atomically(table, film.to_csv().encode())
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error
    return WrittenClip(target, film.points, film.ending)


def origin_of_recording(recording: Path) -> Origin:
    """The real game behind the world that a recording was made in; its weights are not read."""
    header = read_recording(recording.with_suffix(".jsonl"))[0]
    own = header.settings.get("start")
    folder = find_world(find_world_of(header, recording))
    start = None if own is None else find_start_of(str(own), recording)
    return read_origin(folder, read_world_file(folder), start)


class _Film:
    """Frame after frame of both, and how far they are apart."""

    def __init__(
        self, header: Header, origin: Origin, game: RealProcess, past: list[Action]
    ) -> None:
        self.points: list[Point] = []  # of the branch that is played
        self.all_points: list[tuple[int, float, float | None]] = []
        self.ending = ""
        self._header, self._game, self._done = header, game, past
        self._trajectory = origin.trajectory_to(header.start)
        if not is_same_place(game.bring(self._trajectory).frame, self._trajectory.frame):
            raise UserError(f"this version of the game does not come to the start; {FRESH}")

    def views(
        self, rows: Sequence[FrameRow], frames_of_world: Iterator[Frame]
    ) -> Iterator[tuple[float, View]]:
        """The game is asked for each frame as it is needed."""
        answer = self._game.bring(self._trajectory, self._done)
        for number, (row, world) in enumerate(zip(rows, frames_of_world, strict=False)):
            if number:
                answer = self._go_on(row)
            self.ending = ending(answer) if answer.over else ""
            apart = None
            if not answer.over:
                apart = apart_in(place_in(self._header.state, row.state), answer)
                self.points.append((row.index, psnr(world, answer.frame)))
                self.all_points.append((*self.points[-1], apart))
            view = View(
                world=world,
                real=answer.frame,
                index=row.index,
                points=self.points,
                frames_per_second=self._header.frames_per_second,
                note=self.ending,
                why=why_apart(self._trajectory, self._header.state),
                apart=apart,
            )
            yield row.time, view

    def _go_on(self, row: FrameRow) -> Answer:
        if row.back_to is None:
            self._done.append(row.action)
            return self._game.ask(None, [row.action])
        self._done = [*self._done[: row.back_to], row.action]
        self.points = [point for point in self.points if point[0] <= row.back_to]
        return self._game.bring(self._trajectory, self._done)

    def to_csv(self) -> str:
        """A line for every frame, in the order of play.

        Its number, its PSNR to the game's in dB, map units between the places if they are known.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["frame", "psnr", "apart"])
        writer.writerows(
            (index, f"{db:.3f}", "" if apart is None else f"{apart:.2f}")
            for index, db, apart in self.all_points
        )
        return text.getvalue()


def _past(path: Path, header: Header) -> list[Action]:
    """What was done before a recording that was begun in the middle of play."""
    if spot := header.settings.get("at"):
        raise UserError(
            f"{path}: its play began at a place of the map ({shown(spot)}), and the real game "
            "begins at its starts, not anywhere"
        )
    if not header.first_frame:
        return []
    history = load_moment(path.with_suffix(".moment")).history
    if history.unknown or len(history) != header.first_frame:
        raise UserError(f"{path}: what was done before it began was not kept, so where is unknown")
    return [history[i] for i in range(len(history))]
