"""The small program in a container that leads one connection on to the container's own loopback.

Its source travels as `python3 -I -c SOURCE PORT`. It answers with one byte and, where nothing listens, the
reason. Then pieces go both ways, each with 4 bytes of length before it, so that "no more from me" (an empty
piece) differs from "I am gone" (the stream's end): the first only half-closes, the second ends all; and an
engine tells a stream's end only when this program has ended. Standard library only, Python >= 3.10, imports
nothing of ours.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

CONNECT_S = 5
PIECE = 1 << 16


def outwards(line: socket.socket) -> None:
    """What the server says, until it has no more to say."""
    try:
        while True:
            data = line.recv(PIECE)
            view = memoryview(len(data).to_bytes(4, "big") + data)
            while view:
                view = view[os.write(1, view) :]
            if not data:
                return
    except OSError:  # either side broke: nobody is left to be told
        os._exit(1)


def exactly(count: int) -> bytes:
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        os._exit(0)  # whoever was led here is gone
    return data


def inwards(line: socket.socket) -> None:
    while size := int.from_bytes(exactly(4), "big"):
        line.sendall(exactly(size))
    line.shutdown(socket.SHUT_WR)


def main() -> None:
    try:
        line = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=CONNECT_S)
    except OSError as why:
        os.write(1, b"-" + str(why.strerror or why).encode())
        return
    line.settimeout(None)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.write(1, b"+")
    back = threading.Thread(target=outwards, args=(line,), daemon=True)
    back.start()
    with suppress(OSError):  # the server went away; what it said before still goes out
        inwards(line)
    back.join()


if __name__ == "__main__":
    main()
