"""Replies, read from bytes as they come."""

from __future__ import annotations

import pytest

from banditcore.store.deadlines.resp import Refusal, Replies, packed

REPLIES = b"$3\r\na\r\n\r\n$-1\r\n:-42\r\n*2\r\n$2\r\nOK\r\n:1\r\n+QUEUED\r\n$0\r\n\r\n"
MEANING = [b"a\r\n", None, -42, [b"OK", 1], b"QUEUED", b""]


def test_commands() -> None:
    assert packed(("SET", "é", b"\r\n\0", 12)) == (
        b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$3\r\n\r\n\0\r\n$2\r\n12\r\n"
    )


def test_replies_cut_anywhere() -> None:
    for size in range(1, len(REPLIES) + 1):
        replies = Replies(len(MEANING))
        pieces = [REPLIES[at : at + size] for at in range(0, len(REPLIES), size)]
        assert [replies.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert replies.found == MEANING


def test_refusals() -> None:
    replies = Replies(2)
    assert replies.feed(b"-WRONGTYPE Operation\r\n-ERR Function not found, secret\r\n")
    codes = [reply.code for reply in replies.found if isinstance(reply, Refusal)]
    assert codes == ["WRONGTYPE", "NOFUNCTION"]
    assert "secret" not in str(replies.found)


@pytest.mark.parametrize(
    "wrong",
    [
        b"HTTP/1.1 400\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$99999999999\r\n",
        b"*99999999999\r\n",
        b"*-5\r\n",
        b"*1\r\n*1\r\n:1\r\n",
        b":1\r\n:2\r\n",  # more than was asked for
        b"$1\r\nab\r\n",
        b"x" * (2 << 20),
        b"$%d\r\n%b\r\n" % (2 << 20, b"x" * (2 << 20)),
        b"$-1\r\n$3\r\n",  # more than was asked for, if not all of it
    ],
)
def test_what_is_no_reply_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Replies(1).feed(wrong)
