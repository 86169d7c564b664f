# Run in a build guest before a playbook: lets its apt ask us which proxy to use. Says why not, where it does not.
set -eu
umask 022
if ! command -v apt-config >/dev/null || [ ! -d /etc/apt/apt.conf.d ]; then exit 0; fi
if [ ! -x /bin/bash ]; then echo "the guest has no bash"; exit 0; fi
given= detect=
eval "$(apt-config shell given Acquire::http::Proxy detect Acquire::http::Proxy-Auto-Detect)"
if [ -n "$given$detect" ]; then echo "the guest's apt has a proxy of its own"; exit 0; fi
cat > /etc/apt/goldsmith-build-proxy <<'SCRIPT'
@SCRIPT@
SCRIPT
chmod 0755 /etc/apt/goldsmith-build-proxy
# The first of its folder, so that whatever somebody else says about proxies wins.
echo 'Acquire::http::Proxy-Auto-Detect "/etc/apt/goldsmith-build-proxy";' > /etc/apt/apt.conf.d/000goldsmith-build
