#!/bin/sh
# What only the tests need: skopeo reads our repository as others would, umoci unpacks images as others do, sshd and a
# registry are talked to on loopback, qemu-ga on a socket, QEMU runs virtual machines.
# Debian starts a service with its installation; a person who runs tests has not asked for one, so they are held back.
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT INT TERM
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker-registry skopeo umoci openssh-server \
  borgbackup restic qemu-system-x86 qemu-utils qemu-guest-agent >/dev/null
