"""In how many pieces an answer leaves."""

import asyncio

from hexgrid.server.transports import AnswerTransport, CountedTransport


class Written:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return False


def test_the_head_and_the_body_of_an_answer_leave_together() -> None:
    async def main() -> list[list[bytes]]:
        transport, found = Written(), []
        answers = AnswerTransport(
            asyncio.get_running_loop(),
            CountedTransport(transport),  # type: ignore[arg-type]
            lambda: transport.write(b"closed"),
        )

        def look() -> None:
            found.append(transport.writes[:])
            transport.writes.clear()

        answers.write(b"head")
        answers.write(b"body")
        look()
        answers.write(b"head")
        answers.write(b"a" * 2**17)  # too much to be copied
        look()
        answers.write(b"head alone")
        answers.flush()
        answers.flush()
        look()
        answers.write(b"interim")
        look()
        await asyncio.sleep(0)  # a turn
        look()
        answers.write(b"last")
        answers.close()
        look()
        return found

    assert asyncio.run(main()) == [
        [b"headbody"],
        [b"head", b"a" * 2**17],
        [b"head alone"],
        [],
        [b"interim"],
        [b"last", b"closed"],
    ]
