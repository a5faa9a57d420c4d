"""SaslHandshake (key 17), versions 0-1: choose a SASL mechanism. Never flexible."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, String, array


@dataclass(slots=True, kw_only=True)
class SaslHandshakeRequest:
    mechanism: String = ""


@dataclass(slots=True, kw_only=True)
class SaslHandshakeResponse:
    error_code: Int16 = 0
    mechanisms: list[String] = array()
