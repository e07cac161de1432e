"""The findings of a probe of a store: questions, answers, and their consequences for a mirror."""

from __future__ import annotations

from typing import Any

import msgspec

from mirror.core.store_address import StoreAddress
from mirror.core.store_policies import (
    anonymous_policy,
    lifecycle_rules,
    reader_policy,
    writer_policy,
)
from mirror.errors import MirrorError, shown_text
from mirror.logs import redact


class StoreFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One question, its answer, and the meaning of the answer for the mirror."""

    name: str
    question: str
    answer: str
    meaning: str


class StoreProbe(msgspec.Struct, kw_only=True):
    """The findings about one store."""

    address: StoreAddress
    findings: list[StoreFinding] = []
    is_versioned: bool = False
    error: MirrorError | None = None
    """The error that ended the questions early."""

    def add(self, name: str, question: str, answer: str, meaning: str) -> None:
        """Add a finding; the text of a store is untrusted."""
        shown = shown_text(redact(answer))
        self.findings.append(
            StoreFinding(name=name, question=question, answer=shown, meaning=meaning)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        return {
            "store": str(self.address),
            "findings": [msgspec.structs.asdict(finding) for finding in self.findings],
            "policies": self.policies(),
            "lifecycle": self.lifecycle(),
            "error": redact(str(self.error)) if self.error is not None else None,
        }

    def policies(self) -> dict[str, Any]:
        """Return the policies to set."""
        return {
            "anonymous": anonymous_policy(self.address),
            "reader": reader_policy(self.address),
            "writer": writer_policy(self.address),
        }

    def lifecycle(self) -> dict[str, Any]:
        """Return the lifecycle configuration to set."""
        return lifecycle_rules(self.address, is_versioned=self.is_versioned)
