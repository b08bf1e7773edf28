"""schemathesis over the API description of a real server with nano: every operation, valid and invalid.

    python -m tests.fuzz.description

Exits with 1 where an answer is none that is described, an invalid request is taken, or the log has an error.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.cli.hexgrid_process import serve
from tests.fuzz.report import log_problems
from tests.server.running import KEY

_CHECKS = """
not_a_server_error status_code_conformance content_type_conformance response_headers_conformance
response_schema_conformance negative_data_rejection unsupported_method ignored_auth
""".split()
_OPTIONS = {
    "header": f"Authorization: Bearer {KEY}",
    "phases": "examples,coverage,fuzzing",
    "checks": ",".join(_CHECKS),
    "max-examples": "200",
    "seed": "1",
    # What is described is looser than what is taken in one point: names of models.
    "warnings": "off",
}


def main() -> int:
    flags = [text for name, value in _OPTIONS.items() for text in (f"--{name}", value)]
    schemathesis = str(Path(sys.executable).with_name("schemathesis"))
    with serve("--log-format", "json", HEXGRID_API_KEY=KEY) as server:
        done = subprocess.run(
            [schemathesis, "run", *flags, "--continue-on-failure", f"{server.url}/openapi.json"],
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.description_hooks"},
            check=False,
        )
        server.stop()
    problems = log_problems(server.stderr)
    for problem, count in problems.items():
        sys.stdout.write(f"FAULT ({count} times): {problem}\n")
    return 1 if done.returncode or problems else 0


if __name__ == "__main__":
    sys.exit(main())
