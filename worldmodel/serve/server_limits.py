"""What a server grants; each limit is told to whoever meets it."""

from dataclasses import dataclass

MESSAGE_BYTES = 4096  # of one message of a client


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Counts, and times in seconds."""

    sessions: int = 8
    sockets: int = 64
    sockets_an_address: int = 16
    spectators: int = 16  # of one session
    messages_a_second: int = 120
    hello_within: float = 5.0
    park_after: float = 60.0  # without input
    drop_after: float = 600.0  # parked, with its player there
    resume_within: float = 60.0  # parked, without its player
    recordings: int = 4  # clips in the making
    clips: int = 16  # all together
    clip_seconds: float = 60.0
    clip_bytes: int = 32 << 20
    clip_kept: float = 600.0
    moments: int = 10  # a second apart, for rewinding
    moment_every: float = 1.0  # seconds between them
