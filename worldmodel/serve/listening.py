"""The port that a server is heard on, taken before anything is imported or loaded."""

import socket

from worldmodel.config import UserError


def listen(host: str, port: int) -> socket.socket:
    """What hears browsers from now on; a `UserError` where the port is another program's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError, TypeError, ValueError) as error:  # TypeError: no name in IDNA
        listening.close()
        raise UserError(f"--host {host} --port {port} cannot be listened on: {error}") from error
    listening.listen(64)
    return listening
