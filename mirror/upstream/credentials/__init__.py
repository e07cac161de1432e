"""Where an index's credential comes from: ``source`` keeps it, ``kinds`` read it, ``parts`` are what they read.

A secret lives in a ``Credential`` and in the header of a request, nowhere else: no message, log or ``repr`` has it.
"""

from mirror.upstream.credentials.credential import Credential
from mirror.upstream.credentials.source import CredentialSource, credential_source

__all__ = ["Credential", "CredentialSource", "credential_source"]
