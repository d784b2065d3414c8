"""server_answers: `python server_answers.py STUDY_DIR`: exit 0 when the study's door answers over its own TLS."""

from __future__ import annotations

import ssl
import sys
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path

from server.provision.study import open_provisioned


def main() -> None:
    """A caller without a key is refused by name: that refusal is the sign of life."""
    study = open_provisioned(Path(sys.argv[1]))
    trust = ssl.create_default_context(cafile=str(study.pki / "ca.crt"))
    connection = HTTPSConnection("127.0.0.1", study.settings.port, timeout=10, context=trust)
    connection.request("GET", "/v1/site/hello")
    status = connection.getresponse().status
    warnings = "; ".join(study.warnings(datetime.now(UTC)))
    print(f"the door answers {status}{'; ' + warnings if warnings else ''}")  # noqa: T201  # Docker keeps it
    raise SystemExit(status != 401)


if __name__ == "__main__":
    main()
