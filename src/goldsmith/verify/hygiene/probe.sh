# Run in a guest under test as root: prints everything that the checks judge. Portable sh; changes nothing.
# One line for each section: NAME SECONDS BASE64, the content's last line being the exit code of what made it.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat
has() { command -v "$1" >/dev/null 2>&1; }
now() { read -r uptime rest </proc/uptime; echo "$uptime"; }
section() {
  name=$1; shift; begun=$(now)
  content=$({ "$@" 2>&1; printf '\n%s' "$?"; } | base64 | tr -d '\n')
  printf '%s %s %s %s\n' "$name" "$begun" "$(now)" "$content"
}

running() { systemctl is-system-running; }
failed_units() { systemctl list-units --failed --all --plain --no-legend --no-pager | cut -d' ' -f1; }
# Since when systemd runs, as an epoch: the guest's own files are compared with it.
boot() { systemctl show --timestamp=unix --property=UserspaceTimestamp --value | tr -d @; }
clock() { date +%s; }
stated() { for file; do if [ -e "$file" ]; then stat -c '%Y %s %n' "$file"; fi; done; }
machine_id() { cat /etc/machine-id; }
machine_id_file() { stated /etc/machine-id; }
host_keys() {
  for file in /etc/ssh/ssh_host_*_key.pub; do
    if [ -f "$file" ]; then printf '%s %s\n' "$(stat -c %Y "${file%.pub}" 2>/dev/null || echo 0)" "$(cat "$file")"; fi
  done
}
sshd() { has sshd; }
authorized_keys() {
  cut -d: -f1,6 /etc/passwd | sort -u | while IFS=: read -r user home; do
    for file in "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2"; do
      if [ -f "$file" ]; then sed "s|^|$user	$file	|" "$file"; echo; fi
    done
  done
}
passwd() { cat /etc/passwd; }
shadow() { cat /etc/shadow; }
# Where a mount point begins, another file system does: /proc, /sys, /dev and /run are not looked into.
world_writable() {
  find / -xdev \( -path '/tmp/*' -o -path '/var/tmp/*' \) -prune -o \
    \( -type f -perm -0002 -o -type d -perm -0002 ! -perm -1000 \) -print 2>/dev/null | head -n 100
}
apt_sources() {
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -f "$file" ]; then sed "s|^|$file	|" "$file"; echo; fi
  done
}
apt_check() { apt-get indextargets --format '$(SITE)' >/dev/null; }
apt_config() { apt-config dump | grep -i -E '^Acquire::.*(proxy|mirror)'; true; }
gateway() { ip -4 route show default | sed -n 's/.* via \([0-9.]*\).*/\1/p'; }
# %Z: a package list keeps the server's time as its own, but not as that of its last change.
caches() {
  find /var/lib/apt/lists /var/cache/apt -xdev -type f ! -name lock -size +0 -exec stat -c '%Z %s %n' {} + 2>/dev/null
  true
}
logs() { find /var/log -xdev -type f -size +0 -exec stat -c '%Y %s %n' {} + 2>/dev/null; true; }
seeds() {
  stated /var/lib/systemd/random-seed /var/lib/urandom/random-seed /var/lib/systemd/credential.secret
}
leftovers() {
  find /etc /usr/local -xdev -name '*goldsmith-build*' 2>/dev/null
  cut -d: -f6 /etc/passwd | sort -u | while read -r home; do
    case $home in /root|/home/*) ;; *) continue ;; esac
    for file in .ansible .ansible_async .bash_history .ash_history .python_history .cache/pip; do
      if [ -s "$home/$file" ] || [ -d "$home/$file" ]; then echo "$home/$file"; fi
    done
  done
}
temporary() { find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 1 -exec stat -c '%Z %s %n' {} + 2>/dev/null; true; }
disk() { du -xsk / 2>/dev/null | cut -f1; }
# Pss counts what processes share once; a container without lxcfs sees its machine's /proc/meminfo.
memory() { cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum + 0 }'; }
system() { . /etc/os-release; echo "$PRETTY_NAME"; }
init() { cat /proc/1/comm; }
journal() { journalctl --boot --priority=err --no-pager --quiet --output=short-iso --lines=200; }
boot_times() {
  systemctl show --property=UserspaceTimestampMonotonic --property=FinishTimestampMonotonic
}
units() {
  systemctl show '*' --property=Id --property=InactiveExitTimestampMonotonic \
    --property=ActiveEnterTimestampMonotonic
}
packages() { dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n'; }

section init init
if [ -d /run/systemd/system ]; then
  section running running
  section failed-units failed_units
  section boot boot
  section times boot_times
  section units units
fi
if has journalctl; then section journal journal; fi
section memory memory
section clock clock
section system system
section machine-id machine_id
section machine-id-file machine_id_file
section sshd sshd
section host-keys host_keys
section authorized-keys authorized_keys
section passwd passwd
section shadow shadow
section world-writable world_writable
if has apt-get; then
  section apt-sources apt_sources
  section apt-check apt_check
  section apt-config apt_config
  section caches caches
fi
section gateway gateway
section logs logs
section seeds seeds
section leftovers leftovers
section temporary temporary
section disk disk
if has dpkg-query; then section packages packages; fi
