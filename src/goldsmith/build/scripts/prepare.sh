# Run in the build guest before the playbook. What it makes is gone again after seal.sh.
set -eu
# The guest is thrown away when the machine crashes: packages need not be flushed to the disk one by one.
if [ -d /etc/dpkg/dpkg.cfg.d ]; then
  echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/zz-goldsmith-build
fi
if [ -d /etc/apt/apt.conf.d ]; then
  echo 'Acquire::Languages "none";' > /etc/apt/apt.conf.d/zz-goldsmith-build
fi
