# Run in the build guest after the playbook, as `sh -s -- BUILD_KEY ADDRESS`: takes away what must not be in an image
# that runs many times. Portable sh; each part does nothing where its subject does not exist. Files that a daemon owns
# are emptied, not removed, and directories stay: their owners and modes belong to the packages.
set -eu
build_key=$1
address=$2
has() { command -v "$1" >/dev/null 2>&1; }

# 1. Who writes logs while the guest shuts down is stopped first (--runtime: forgotten when the guest stops). Systemd
#    itself writes a line into wtmp for each getty that ends.
if has systemctl && [ -d /run/systemd/system ]; then
  systemctl stop rsyslog.service syslog.socket systemd-update-utmp.service console-getty.service \
    'container-getty@*.service' 'getty@*.service' 'serial-getty@*.service' 2>/dev/null || true
  systemctl mask --runtime --quiet --now systemd-journald.socket systemd-journald-dev-log.socket \
    systemd-journald-audit.socket systemd-journald.service 2>/dev/null || true
fi

# 2. Packages: lists and caches, and what prepare.sh made.
rm -f /etc/dpkg/dpkg.cfg.d/zz-goldsmith-build /etc/apt/apt.conf.d/zz-goldsmith-build
rm -f /etc/apt/apt.conf.d/000goldsmith-build /etc/apt/goldsmith-build-proxy  # of the sharing of downloads
if has apt-get; then
  apt-get clean
  find /var/lib/apt/lists -xdev -type f ! -name lock -delete
  rm -f /var/cache/apt/pkgcache.bin /var/cache/apt/srcpkgcache.bin
  rm -f /var/lib/apt/periodic/* /var/cache/debconf/*-old /var/lib/dpkg/*-old
fi
rm -f /var/cache/ldconfig/aux-cache

# 3. Identity: machine-id is made at boot when the file is empty (machine-id(5)), seeds likewise.
if [ -e /etc/machine-id ]; then : > /etc/machine-id; fi
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then rm -f /var/lib/dbus/machine-id; fi
rm -f /var/lib/systemd/random-seed /var/lib/urandom/random-seed /var/lib/systemd/credential.secret

# 4. SSH host keys are made anew at first boot: Proxmox does so for a container it creates from a template, but not for
#    a clone or a restored guest, and no other system does; hence a unit of ours, which costs nothing once keys exist.
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
if has ssh-keygen && [ -d /etc/systemd/system ] && [ -e /etc/ssh/sshd_config ]; then
  cat > /etc/systemd/system/goldsmith-ssh-host-keys.service <<'UNIT'
[Unit]
Description=Make SSH host keys where there are none
DefaultDependencies=no
After=local-fs.target systemd-remount-fs.service
Before=ssh.service ssh.socket sshd.service sshd.socket
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
UNIT
  chmod 0644 /etc/systemd/system/goldsmith-ssh-host-keys.service
  mkdir -p /etc/systemd/system/multi-user.target.wants
  ln -sf ../goldsmith-ssh-host-keys.service /etc/systemd/system/multi-user.target.wants/
fi

# 5. The build key, and the marks between which Proxmox writes what it is given; other keys stay.
keys=/root/.ssh/authorized_keys
if [ -e "$keys" ]; then
  grep -vxF -e "$build_key" -e '# --- BEGIN PVE ---' -e '# --- END PVE ---' "$keys" > "$keys.new" || true
  cat "$keys.new" > "$keys"
  rm -f "$keys.new"
  if ! grep -q '[^[:space:]]' "$keys"; then rm -f "$keys"; fi
fi
rmdir /root/.ssh 2>/dev/null || true

# 6. The network that the node wrote into this guest; each guest made from the image gets its own.
without_pve() { sed -i '/^# --- BEGIN PVE ---$/,/^# --- END PVE ---$/d' "$1"; }
for file in /etc/hosts /etc/resolv.conf; do
  if [ -f "$file" ] && [ ! -L "$file" ]; then without_pve "$file"; fi
done
if [ -e /etc/hostname ]; then echo localhost > /etc/hostname; fi
if grep -qsF "address $address" /etc/network/interfaces; then
  printf 'auto lo\niface lo inet loopback\n' > /etc/network/interfaces
fi
for file in /etc/systemd/network/*.network; do
  if grep -qsF "Address = $address" "$file" || grep -qsF "Address=$address" "$file"; then rm -f "$file"; fi
done

# 7. What happened here: logs, leases, histories, Ansible's and other tools' left-overs, temporary files.
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' \) -delete
if [ -d /var/log/journal ]; then find /var/log/journal -xdev -mindepth 1 -delete; fi
find /var/log -xdev -type f -exec sh -c 'for file; do : > "$file"; done' sh {} +
for lease in /var/lib/dhcp/* /var/lib/dhclient/* /var/lib/NetworkManager/*.lease /var/lib/systemd/network/*; do
  if [ -f "$lease" ]; then rm -f "$lease"; fi
done
if [ -d /var/lib/systemd/timers ]; then find /var/lib/systemd/timers -xdev -type f -delete; fi
rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/sem
if [ -d /var/backups ]; then find /var/backups -xdev -type f -delete; fi
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
for home in /root /home/*; do
  rm -f "$home/.bash_history" "$home/.ash_history" "$home/.python_history" "$home/.lesshst" "$home/.viminfo" \
    "$home/.wget-hsts" "$home/.sudo_as_admin_successful"
  rm -rf "$home/.ansible" "$home/.ansible_async" "$home/.cache/pip"
done
for place in /tmp /var/tmp; do
  if [ -d "$place" ]; then find "$place" -xdev -mindepth 1 -delete; fi
done
sync -f / 2>/dev/null || sync
