"""Configuration: Kafka's keys in Kafka's spelling, checked all at once before a node begins.

    server.properties ─┐
    KAFKA_* environment ├─▶ load ──▶ Settings ──▶ BrokerConfig | ControllerConfig   (typed, frozen)
    --override key=value┘     │                          │
                              └─ StartError: every       └─ topic_defaults: TopicConfig
                                 unknown or bad value       + a topic's own keys = what holds

`keys` says what a key is; `node_keys`, `broker_keys`, `controller_keys` and `topic` are the tables;
`reference` prints them as docs/configuration.md. Later sources win: file, environment, override.
"""
