"""The messages of each API as dataclasses, for all versions at once; one file an API.

    messages/fetch.py   FetchRequest ── FetchTopic ── FetchPartition
                        FetchResponse ── FetchableTopicResponse ── PartitionData

Names are those of Kafka's message definitions (fields in snake_case), so that its documentation
is theirs. Where a request and a response give one name to two things, the request's has `Request`
before it. Annotations and `wire` say how a field lies on the wire: see `broker.kafka.schema`.
A field that the version at hand does not have is not written, and reads as its default.
"""
