"""An answer goes out whole, and no later than it must."""

from __future__ import annotations

import asyncio

from app.api.connections import Corked

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    """What was sent, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.sent.append(b"closed")

    def is_closing(self) -> bool:
        return False


def corked(wire: Wire) -> Corked:
    return Corked(wire, asyncio.get_running_loop())


async def test_head_and_body_of_an_answer_are_one_packet():
    wire = Wire()
    transport = corked(wire)
    for _ in range(2):
        transport.write(HEAD)
        transport.write(b"ok")
    await asyncio.sleep(0)
    assert wire.sent == [HEAD + b"ok"] * 2


async def test_a_head_whose_body_takes_its_time_does_not_wait_for_it():
    wire = Wire()
    transport = corked(wire)
    transport.write(HEAD)
    await asyncio.sleep(0)
    transport.write(b"o")
    transport.write(b"k")
    assert wire.sent == [HEAD, b"o", b"k"]


async def test_a_head_without_a_body_is_sent_before_the_connection_closes():
    wire = Wire()
    transport = corked(wire)
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert wire.sent == [HEAD, b"closed"]
