"""What brokers and clients ask of a controller: refused at the door, or a request of the domain.

input    which request │ protobuf
"""

from collections.abc import Callable
from random import Random

from google.protobuf.message import DecodeError, Message

from controller.server import door, requests
from klamm.rpc.status import BadRequestError
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import controller_pb2 as control
from tests.fuzz.growth import random_message
from tests.fuzz.target import Choice, Target

Door = Callable[..., door.Violations]
Read = Callable[..., object]

REQUESTS: tuple[tuple[type[Message], Door, Read], ...] = (
    (admin.CreateTopicsRequest, door.create_topics, requests.new_topics),
    (admin.DeleteTopicsRequest, door.delete_topics, requests.topic_references),
    (
        admin.IncrementalAlterConfigsRequest,
        door.incremental_alter_configs,
        requests.alter_resources,
    ),
    (control.RegisterBrokerRequest, door.register_broker, requests.registration),
    (control.AlterPartitionRequest, door.alter_partition, requests.isr_changes),
    (control.SessionRequest, door.session, lambda _: None),
    (control.AllocateProducerIdsRequest, door.allocate_producer_ids, lambda _: None),
    (admin.TransferLeadershipRequest, door.transfer_leadership, lambda _: None),
    (admin.ChangeVotersRequest, door.change_voters, requests.voter_change),
    (admin.UnregisterBrokerRequest, door.unregister_broker, lambda _: None),
    (admin.UpdateFeaturesRequest, door.update_features, requests.feature_updates),
)


def grow(random: Random) -> bytes:
    which = random.randrange(len(REQUESTS))
    return bytes((which,)) + random_message(REQUESTS[which][0], random).SerializeToString()


def check(data: bytes) -> bool:
    choice = Choice(data)
    kind, violations, read = REQUESTS[choice.one_of(len(REQUESTS))]
    message = kind()
    try:
        message.ParseFromString(choice.rest)
        door.check(violations(message))
    except (DecodeError, BadRequestError):
        return False
    read(message)
    return True


TARGET = Target(name="controller_requests", grow=grow, check=check, share=10)
