"""What makes a message's fields malformed (RFC 9113 section 8). Its stream is reset, no more."""

from klamm.http2.headers import Headers

_NAME_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
"""Of a field's name; capitals are malformed in HTTP/2."""

_VALUE_STOPS = frozenset("\0\r\n")
_REQUEST = frozenset({":method", ":scheme", ":authority", ":path"})
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)


def judge_request(headers: Headers, *, trailing: bool) -> str:
    """What is wrong with a request's fields, or with those behind its data; "" if nothing."""
    if trailing:
        return _judge(headers, frozenset())
    wrong = _judge(headers, _REQUEST)
    if wrong:
        return wrong
    said = dict(headers)
    for name in (":method", ":scheme", ":path"):
        if not said.get(name):
            return f"no {name}"
    return ""


def judge_response(headers: Headers, *, trailing: bool) -> str:
    """As `judge_request`, of a response."""
    if trailing:
        return _judge(headers, frozenset())
    wrong = _judge(headers, frozenset({":status"}))
    if wrong:
        return wrong
    status = dict(headers).get(":status", "")
    return "" if len(status) == 3 and status.isascii() and status.isdigit() else "no :status"


def _judge(headers: Headers, pseudo: frozenset[str]) -> str:
    seen: set[str] = set()
    ordinary = False
    for name, value in headers:
        if name.startswith(":"):
            if ordinary or name in seen or name not in pseudo:
                return f"{name}: not known, there twice, or behind others"
            seen.add(name)
        else:
            ordinary = True
            if not name or not _NAME_CHARACTERS.issuperset(name):
                return f"{name!r} is no field's name"
            if name in _HOP_BY_HOP or (name == "te" and value != "trailers"):
                return f"{name}: not in HTTP/2"
        if not _VALUE_STOPS.isdisjoint(value):
            return f"{name}: a value with a line's end or a zero in it"
    return ""
