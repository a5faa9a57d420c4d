"""Transactions are not there yet, and this says so: what every API of theirs answers until then.

The code must be final for every client: retriable ones would make `init_transactions` wait for its
whole timeout to say nothing. Which client says what is in docs/protocol.md.
"""

from klamm.errors import ErrorCode

TRANSACTIONS_REFUSAL = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

TRANSACTIONS_SENTENCE = "transactions are not served by this version of Klamm"
