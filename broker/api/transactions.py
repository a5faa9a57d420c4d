"""Transactions are not there yet, and this says so: what their APIs answer until then.

The code must be final for every client. UNSUPPORTED_VERSION would name the reason, but librdkafka
takes it for passing when it looks for a coordinator, and `init_transactions` then waits for its
whole timeout to say nothing. After this one all of them give up at once; the sentence says why.
What each client makes of it: docs/protocol.md.
"""

from klamm.errors import ErrorCode

TRANSACTIONS_REFUSAL = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

TRANSACTIONS_SENTENCE = "transactions are not served by this version of Klamm"
