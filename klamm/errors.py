"""Every failure is definite or indefinite, and says so by its type.

    KlammError
    ├── DefiniteError     it did not happen and will not; safe to try again elsewhere
    │   ├── ApiError          a request that was refused, with Kafka's code and a sentence
    │   ├── NotControllerError  this node does not lead the quorum; nothing was appended
    │   ├── OverloadedError   a named limit is reached; nothing was appended
    │   └── UnreachableError  no controller answered, or none led, in time; nothing was sent
    ├── StateDivergedError  what this process believes is not what its log says; it ends
    ├── UnknownRecordError  the metadata log holds what this version cannot read; it ends
    └── IndefiniteError   it may have happened, and may yet
        ├── CommitUnknownError  appended, and not known to be committed
        └── StorageError      a disk failed under a write; what it holds is known after a restart
            ├── NoSpaceError      the disk is full, or no open file is left; nothing was written
            ├── CorruptLogError   stored bytes are not what was written
            └── LaterFormatError  stored bytes are what a later version wrote

Bad configuration and unusable directories have `StartError`: the process never began to serve.
"""

import errno
from enum import IntEnum

from klamm.ids import NO_EPOCH, NO_NODE, Epoch, NodeId


class ErrorCode(IntEnum):
    """Kafka's error codes, as they go over the wire. Names and numbers are Kafka's."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    INVALID_FETCH_SIZE = 4
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    BROKER_NOT_AVAILABLE = 8
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    STALE_CONTROLLER_EPOCH = 11
    OFFSET_METADATA_TOO_LARGE = 12
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    INVALID_COMMIT_OFFSET_SIZE = 28
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_SASL_MECHANISM = 33
    ILLEGAL_SASL_STATE = 34
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTION_COORDINATOR_FENCED = 52
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    SECURITY_DISABLED = 54
    OPERATION_NOT_ATTEMPTED = 55
    KAFKA_STORAGE_ERROR = 56
    LOG_DIR_NOT_FOUND = 57
    SASL_AUTHENTICATION_FAILED = 58
    UNKNOWN_PRODUCER_ID = 59
    REASSIGNMENT_IN_PROGRESS = 60
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FETCH_SESSION_ID_NOT_FOUND = 70
    INVALID_FETCH_SESSION_EPOCH = 71
    LISTENER_NOT_FOUND = 72
    TOPIC_DELETION_DISABLED = 73
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    UNSUPPORTED_COMPRESSION_TYPE = 76
    STALE_BROKER_EPOCH = 77
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    PREFERRED_LEADER_NOT_AVAILABLE = 80
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83
    ELECTION_NOT_NEEDED = 84
    NO_REASSIGNMENT_IN_PROGRESS = 85
    INVALID_RECORD = 87
    UNSTABLE_OFFSET_COMMIT = 88
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    RESOURCE_NOT_FOUND = 91
    DUPLICATE_RESOURCE = 92
    INCONSISTENT_VOTER_SET = 94
    INVALID_UPDATE_VERSION = 95
    FEATURE_UPDATE_FAILED = 96
    SNAPSHOT_NOT_FOUND = 98
    POSITION_OUT_OF_RANGE = 99
    UNKNOWN_TOPIC_ID = 100
    DUPLICATE_BROKER_REGISTRATION = 101
    BROKER_ID_NOT_REGISTERED = 102
    INCONSISTENT_TOPIC_ID = 103
    INCONSISTENT_CLUSTER_ID = 104
    TRANSACTIONAL_ID_NOT_FOUND = 105
    FETCH_SESSION_TOPIC_ID_ERROR = 106
    INELIGIBLE_REPLICA = 107
    NEW_LEADER_ELECTED = 108
    MISMATCHED_ENDPOINT_TYPE = 114
    UNSUPPORTED_ENDPOINT_TYPE = 115
    INVALID_REGISTRATION = 119
    INVALID_VOTER_KEY = 125
    DUPLICATE_VOTER = 126
    VOTER_NOT_FOUND = 127


class KlammError(Exception):
    """The root of what Klamm raises on purpose."""


class DefiniteError(KlammError):
    """It did not happen, and will not."""


class StateDivergedError(KlammError):
    """What this process believes is not what its log says. It ends; its message says what to do."""


class UnknownRecordError(KlammError):
    """A record of the metadata log that cannot be read: damaged, or of a later version."""


class IndefiniteError(KlammError):
    """It may have happened, or may yet."""


API_MESSAGE_CHARACTERS_MAX = 1_000
"""Of an ApiError's sentence, which may quote what it refuses. A string of Kafka's has 32,767 bytes
at most, and an answer may have a sentence for each of a thousand rows."""


class ApiError(DefiniteError):
    """A request refused, with Kafka's code for clients and a sentence for people."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        if len(message) > API_MESSAGE_CHARACTERS_MAX:
            message = f"{message[: API_MESSAGE_CHARACTERS_MAX - 1]}…"
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class NotControllerError(DefiniteError):
    """This node does not lead the quorum; nothing was appended. Try `leader`."""

    def __init__(self, leader: NodeId = NO_NODE, epoch: Epoch = NO_EPOCH) -> None:
        where = "no leader is known" if leader == NO_NODE else f"the leader is {leader}"
        super().__init__(f"not the active controller of epoch {epoch}; {where}")
        self.leader = leader
        self.epoch = epoch


class OverloadedError(DefiniteError):
    """A limit, named in the message, is reached; nothing was appended."""


class UnreachableError(DefiniteError):
    """No controller could be reached, or none led, within the caller's time; nothing was sent."""


class CommitUnknownError(IndefiniteError):
    """The records were appended, and may yet commit."""


class StorageError(IndefiniteError):
    """A disk did not do what it was told: a failed read, write, sync or rename, named in words.

    After a failed write or sync nothing is known of what the disk holds, and trying again can
    report success for pages that the kernel has dropped. So whoever gets this stops using the
    file, and finds out by recovery, in a new process, what was kept.
    """


class NoSpaceError(StorageError):
    """The disk is full, or no open file is left. Nothing was written, and the file goes on when
    there is room."""

    def __init__(self, path: str, needed_bytes: int, error: OSError | None = None) -> None:
        if error is not None and error.errno in (errno.EMFILE, errno.ENFILE):
            super().__init__(f"too many open files: none is left for {path}")
        else:
            super().__init__(f"no space left for {path}: {needed_bytes} bytes needed")
        self.path = path
        self.needed_bytes = needed_bytes


class CorruptLogError(StorageError):
    """Stored bytes are damaged where no crash of ours can have damaged them."""

    def __init__(self, path: str, position: int, reason: str) -> None:
        super().__init__(f"{path} is damaged at byte {position}: {reason}")
        self.path = path
        self.position = position
        self.reason = reason


class LaterFormatError(StorageError):
    """Stored bytes that are no damage: a later version of Klamm or Kafka wrote them."""

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(
            f"{path} is of a later version: at byte {position} stands {what}. Start the version "
            "that wrote it"
        )


class StartError(KlammError):
    """A node cannot start: bad configuration, an unusable directory, a port in use.

    The message is one or more whole sentences for the person who starts it: what is wrong, with
    the value and what is allowed, and what to do next.
    """
