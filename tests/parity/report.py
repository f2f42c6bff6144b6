"""One line per stage, and what was left aside."""

from __future__ import annotations

from dataclasses import dataclass

from tests.parity.tally import Finding


@dataclass(frozen=True)
class Result:
    """What became of one stage."""

    stage: str
    state: str  # ok, OUT or absent
    compared: int = 0  # arrays and numbers
    worst: Finding | None = None
    said: str = ""

    def line(self) -> str:
        words = [f"{self.state:6}  {self.stage:36}"]
        if self.worst is not None:
            kind = f" ({self.worst.kind})" if self.worst.kind else ""
            words.append(f"{self.worst.error:8.1e} of {self.worst.tolerance:7.1e}{kind}")
            words.append(f"{self.compared:4} compared")
            words.append(self.worst.name)
        if self.said:
            words.append(self.said)
        return "  ".join(words)
