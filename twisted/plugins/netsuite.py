"""
The C{twistd} plugins: strings only, so that listing all plugins imports none of ours.
"""

from twisted.application.service import ServiceMaker

netsuite = ServiceMaker(
    "netsuite",
    "twisted_netsuite.ops.suite",
    "Echo, exec, files, chat and proxy in one process.",
    "netsuite",
)
echo = ServiceMaker(
    "netsuite-echo",
    "twisted_netsuite.echo.tap",
    "Echo, discard, chargen, daytime and time over TCP, UDP and Unix sockets.",
    "netsuite-echo",
)
rexec = ServiceMaker(
    "netsuite-exec",
    "twisted_netsuite.rexec.tap",
    "Remote execution of commands.",
    "netsuite-exec",
)
files = ServiceMaker(
    "netsuite-files",
    "twisted_netsuite.files.tap",
    "File transfer, confined to one directory.",
    "netsuite-files",
)
chat = ServiceMaker(
    "netsuite-chat",
    "twisted_netsuite.chat.tap",
    "Chat between people over UDP.",
    "netsuite-chat",
)
proxy = ServiceMaker(
    "netsuite-proxy",
    "twisted_netsuite.proxy.tap",
    "A port-forwarding proxy.",
    "netsuite-proxy",
)
