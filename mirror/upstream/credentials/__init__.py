"""The credential of an index: ``source`` keeps it, ``kinds`` read it, ``parts`` are its pieces.

A secret is kept in a ``Credential`` and in the header of a request only: no message, log or
``repr`` has it.
"""

from mirror.upstream.credentials.credential import Credential
from mirror.upstream.credentials.source import CredentialSource, credential_source

__all__ = ["Credential", "CredentialSource", "credential_source"]
