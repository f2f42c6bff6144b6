"""Try the plugin in every host that is here, and say in a table how each one did.

    python -m tests.hosts [HOST ...] [--quick] [--write docs/hosts.md]

Installs nothing; says what is missing. Ends with 1 if a check failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.hosts import HOSTS, QUICK
from tests.hosts.bench import Check
from tests.hosts.matrix import matrix, page
from tests.hosts.one import checks, host


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host", nargs="*", choices=[*HOSTS, []], default=[])
    parser.add_argument("--quick", action="store_true", help="without Audacity and Ardour")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the table, as Markdown")
    arguments = parser.parse_args()

    found: list[Check] = []
    missing: dict[str, str] = {}
    for name in arguments.host or (QUICK if arguments.quick else HOSTS):
        if lacking := host(name).missing():
            missing[host(name).NAME] = lacking
            print(f"none {host(name).NAME}: {lacking}", flush=True)
            continue
        for check in checks(name, quick=arguments.quick):
            found.append(check)
            where = " ".join(word for word in (check.host, check.format, check.what) if word)
            print(f"{'ok  ' if check.ok else 'FAIL'} {where}: {check.detail}", flush=True)

    print("\n" + "\n".join(matrix(found)))
    failed = sum(not check.ok for check in found)
    print(f"\n{len(found) - failed} passed, {failed} failed")
    if arguments.write:
        arguments.write.write_text(page(found, missing))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
