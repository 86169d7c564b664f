"""Run by test_foreign_clients.py with the generated client on its path: the life of a container, printed as JSON.

Arguments: URL, file of the authority, node, vmid. The token is the first line of the input. The container is there
already: the client can neither send its own request for one nor read a configuration (its models want all of `dev0` to
`unused255`).
"""

import json
import sys
import time
from typing import Any

from clientapi_pve.api_client import ApiClient
from clientapi_pve.configuration import Configuration
from clientapi_pve.pve import Pve


def main(url: str, ca_file: str, node: str, vmid: int) -> None:
    settings = Configuration(host=f"{url}/api2/json", ssl_ca_cert=ca_file)
    client = ApiClient(
        settings, header_name="Authorization", header_value=f"PVEAPIToken={sys.stdin.readline().strip()}"
    )
    pve = Pve(api_client=client)

    def wait(answer: Any) -> str:
        while True:
            state = pve.nodesTasks.read_task_status(node, answer.data).data
            if state.exitstatus is not None:
                return str(state.exitstatus)
            time.sleep(0.1)

    told: dict[str, object] = {"version": pve.version.version().data.release}
    told["hostname"] = next(guest.name for guest in pve.lxc.vmlist(node).data if guest.vmid == vmid)
    told["start"] = wait(pve.lxc.vm_start(node, vmid))
    told["status"] = pve.lxc.vm_status(node, vmid).data.status.value
    told["stop"] = wait(pve.lxc.vm_stop(node, vmid))
    told["destroy"] = wait(pve.lxc.destroy_vm(node, vmid))
    told["left"] = [guest.vmid for guest in pve.lxc.vmlist(node).data if guest.vmid == vmid]
    print(json.dumps(told))


main(*sys.argv[1:4], int(sys.argv[4]))
