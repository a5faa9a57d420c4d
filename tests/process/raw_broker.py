"""One connection to a broker, byte by byte: what no client would ever send, and what comes back."""

import socket
import struct
from types import TracebackType
from typing import Any, Self

from broker.kafka import codec, header
from broker.kafka.api import ApiKey
from broker.kafka.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from klamm.ids import Epoch, Offset
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord

DEADLINE_S = 20.0
PRODUCE_VERSION = 9
CLIENT = "raw"


class RawBroker:
    """A socket that speaks frames. Every wait is at most `DEADLINE_S`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self._socket.sendall(data)

    def is_closed(self) -> bool:
        """Waits until the broker closes, and says whether it did so without another byte."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def receive(self) -> bytes:
        """The next response, without its size."""
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def ask(self, key: ApiKey, version: int, message: object) -> Any:
        """A well-formed request, and its response."""
        self.send(frame(key, version, message))
        _, body = header.read_response_header(key, version, memoryview(self.receive()))
        return codec.decode_response(key, version, body)

    def produce(self, topic: str, batch: bytes, partition: int = 0, acks: int = -1) -> int:
        """The error code of one produced batch."""
        request = produce_request(topic, batch, partition, acks)
        answer = self.ask(ApiKey.PRODUCE, PRODUCE_VERSION, request)
        return int(answer.responses[0].partition_responses[0].error_code)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionResetError("the broker closed the connection")
            data += more
        return data


def frame(key: ApiKey, version: int, message: object) -> bytes:
    """A request with its header and size."""
    body = codec.encode_request(key, version, message)
    return b"".join(header.request_frame(key, version, 7, CLIENT, body))


def bare_frame(key: int, version: int, body: bytes = b"", client: bytes = b"raw") -> bytes:
    """A request whose header says what it likes."""
    head = struct.pack(">hhih", key, version, 7, len(client)) + client
    return struct.pack(">i", len(head) + len(body)) + head + body


def produce_request(topic: str, batch: bytes, partition: int = 0, acks: int = -1) -> ProduceRequest:
    """One batch for one partition."""
    data = PartitionProduceData(index=partition, records=batch)
    return ProduceRequest(
        acks=acks,
        timeout_ms=10_000,
        topic_data=[TopicProduceData(name=topic, partition_data=[data])],
    )


def batch_of(*values: bytes) -> bytes:
    """A batch as a producer makes it."""
    return build_batch(
        [NewRecord(value=each) for each in values],
        base_offset=Offset(0),
        leader_epoch=Epoch(-1),
        timestamp_ms=1_700_000_000_000,
    )
