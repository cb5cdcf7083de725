#!/usr/bin/env bash
# grpcio 1.85.1: NO_PROXY in capitals and no_proxy=* do not keep a channel from the proxy.
#
# Run: bash findings/grpc_proxy_exceptions.sh     (Python 3.11 or newer, a package index; about half a minute)
#
# Input: a server and an HTTP proxy on two ports of this machine; http_proxy names the proxy. A channel to localhost is opened
# with NO_PROXY=localhost, with no_proxy=*, and, for comparison, with no_proxy=localhost.
#
# Expected: a direct connection in all three cases. Python's urllib, in the same process and with the same variables, bypasses
# the proxy in all three (urllib.request.proxy_bypass); curl, requests and Go do the same.
# Observed: with NO_PROXY=localhost and with no_proxy=* the channel sends CONNECT to the proxy. Only no_proxy=localhost keeps
# it from doing so. gRPC reads these variables in small letters only, and compares * with the name of the host. It does not
# exempt the own machine either. If the proxy fails, the error is "failed to connect to all addresses" with the proxy's
# address, which reads like the server's.
#
# Relevance: hospital networks set http_proxy on every computer, and often the exceptions in NO_PROXY. A client whose server
# stands in the same network then goes to the proxy, which knows nothing of it, while a browser or curl on the same computer
# reaches the server. fedhealth/transport/grpc/http_proxy.py therefore follows gRPC's rules, names the proxy and the variable
# in every error, and the doctor tests the connection through the proxy that gRPC would use.
#
# Exit status: 0 if observed as described, 1 if not, 2 if grpcio could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet grpcio==1.85.1
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install grpcio 1.85.1"; exit 2; }

cat >"$folder/which_way.py" <<'PYTHON'
import os
import socket
import sys
import threading
import urllib.request

import grpc

DESCRIBED = {"NO_PROXY=localhost": "proxy", "no_proxy=*": "proxy", "no_proxy=localhost": "server"}


def listen(name, callers):
    """A port that notes who was called and closes the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            with listener.accept()[0] as caller:
                caller.recv(7)
                callers.append(name)

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def way_of_grpc(port, callers):
    """Which of the two ports a channel to the server calls first."""
    callers.clear()
    with grpc.insecure_channel(f"localhost:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            channel.unary_unary("/any/call")(b"", timeout=10)
        except grpc.RpcError:
            pass
    return callers[0] if callers else "nobody"


callers = []
server, proxy = listen("server", callers), listen("proxy", callers)
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ["http_proxy"] = f"http://127.0.0.1:{proxy}"
print(f"grpcio {grpc.__version__}, http_proxy names a proxy, a channel to localhost")
print("expected: the server is called, as urllib would do")
seen = {}
for setting in DESCRIBED:
    name, _, value = setting.partition("=")
    os.environ[name] = value
    bypassed = bool(urllib.request.proxy_bypass("localhost"))
    seen[setting] = way_of_grpc(server, callers)
    print(f"observed: {setting:<19} gRPC calls the {seen[setting]}, urllib the {'server' if bypassed else 'proxy'}")
    del os.environ[name]
    if not bypassed:
        sys.exit(1)
sys.exit(0 if seen == DESCRIBED else 1)
PYTHON

code=0
GRPC_VERBOSITY=NONE "$folder/venv/bin/python" "$folder/which_way.py" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
